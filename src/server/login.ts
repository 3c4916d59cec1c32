/**
 * From an address to a logged-in server connection: dial, TLS as sslmode says, startup with protocol
 * 3.0, authentication, everything up to the first ReadyForQuery, under one deadline. Also the cancel
 * request. The server is hostile until it has proved otherwise: what it sends is bounded first.
 *
 *     dialling ──► securing ──► starting ──► authenticating ──► greeting ──► ready
 *         └───────────────────────▲
 *
 * Messages are made and read with pg-protocol. Source: PostgreSQL manual, "Message Flow, Start-up";
 * sslmode as in libpq's connection parameters.
 */

import { DatabaseError, serialize } from 'pg-protocol'
import {
  AuthenticationMD5Password,
  type BackendMessage,
  ParameterStatusMessage,
  ReadyForQueryMessage,
} from 'pg-protocol/dist/messages.js'
import { Parser } from 'pg-protocol/dist/parser.js'
import type { KeyDeriver } from '../auth/derive.ts'
import { md5Hash, md5Response } from '../auth/md5.ts'
import { SCRAM, ScramClient } from '../auth/scram.ts'
import type { ServerSecret } from '../auth/secret.ts'
import type { Clock } from '../base/clock.ts'
import { ProxyError, reasonOf } from '../base/errors.ts'
import { invariant } from '../base/invariant.ts'
import type { SslMode } from '../config/keys/pgbouncer.ts'
import type { Channel } from '../net/channel.ts'
import { type Address, dial } from '../net/dial.ts'
import type { ServerTls } from '../net/tls.ts'
import * as frame from '../wire/frame.ts'
import { cancelPacket, startupPacket } from '../wire/startup.ts'

export interface LoginTarget {
  readonly address: Address
  readonly database: string
  readonly user: string
  readonly secret: ServerSecret
  /** Further startup parameters; names of our own (pgsteer.*) are left out. */
  readonly startup: ReadonlyMap<string, string>
  readonly replication: 'logical' | 'physical' | null
  readonly tls: ServerTls
  /** For everything together, a second attempt of sslmode allow or prefer included. */
  readonly deadlineMs: number
}

export interface LoginDeps {
  readonly clock: Clock
  readonly deriver: KeyDeriver
  readonly keepAliveMs: number
}

export interface LoggedIn {
  /** Nothing of the log-in is left in it; it has TLS if `channel.tls` is not null. */
  readonly channel: Channel
  /** ParameterStatus by name, as the server spells it. */
  readonly parameters: Map<string, string>
  readonly processId: number
  /** Empty where the server gave none: it cannot be cancelled. */
  readonly cancelSecret: Buffer
}

export interface CancelTarget {
  readonly address: Address
  readonly processId: number
  readonly secret: Buffer
  /** Null when the connection to be cancelled has no TLS. */
  readonly tls: ServerTls | null
  /** True: goes on without TLS where it is not offered. */
  readonly isTlsOptional?: boolean
  readonly deadlineMs: number
}

export type ServerLoginState =
  | 'dialling'
  | 'securing'
  | 'starting'
  | 'authenticating'
  | 'greeting'
  | 'ready'
  | 'failed'

export const SERVER_LOGIN_MOVES = {
  dialling: ['securing', 'starting', 'failed'],
  securing: ['starting', 'failed'],
  starting: ['authenticating', 'greeting', 'failed'],
  authenticating: ['authenticating', 'greeting', 'failed'],
  greeting: ['ready', 'failed'],
  ready: [],
  failed: [],
} as const satisfies Record<ServerLoginState, readonly ServerLoginState[]>

/** libpq takes 30,000 bytes of an error before authentication. */
const FRAME_BYTES_MAX = 64 * 1024
/** Frames of one log-in: PostgreSQL sends about twenty. */
const FRAMES_MAX = 1000
const REASON_CHARACTERS_MAX = 1000
const YES = 0x53
const NO = 0x4e

/**
 * Logs in to a server.
 *
 * Errors  ProxyError `server_connect`, `server_dns`, `server_connect_timeout`, `server_tls`,
 *         `server_auth` (its authentication cannot be answered or believed), `server_keys_stale`,
 *         `server_login_failed` with the server's own SQLSTATE and message, `server_protocol`,
 *         `server_lost`. With SQLSTATE 28P01 the secret is wrong: forget what was remembered of it.
 */
export async function logIn(target: LoginTarget, deps: LoginDeps): Promise<LoggedIn> {
  const untilMs = deps.clock.nowMs() + target.deadlineMs
  const [first, second] = attemptsOf(target)
  const use: Attempt = { tls: first, untilMs, isSecured: false }
  try {
    return await attempt(target, deps, use)
  } catch (error) {
    if (second === undefined || !mayTryAgain(error, use)) throw error
    return attempt(target, deps, { tls: second, untilMs, isSecured: false })
  }
}

/**
 * Asks a server to cancel what the connection with this key runs.
 *
 * Returns 'ended' at the server's EOF, after which no later statement can be hit by it; 'deadline'
 *         when that did not come in time: it may still take effect, so that server must not be used
 *         again.
 * Errors  ProxyError when the server cannot be reached.
 */
export async function sendCancel(
  target: CancelTarget,
  deps: Pick<LoginDeps, 'clock' | 'keepAliveMs'>,
): Promise<'ended' | 'deadline'> {
  const { clock, keepAliveMs } = deps
  const { address, deadlineMs, tls } = target
  const untilMs = clock.nowMs() + deadlineMs
  const channel = await dial(address, { clock, keepAliveMs, deadlineMs })
  let isLate = false
  const timer = clock.after(untilMs - clock.nowMs(), () => {
    isLate = true
    channel.destroy()
  })
  try {
    if (tls !== null)
      await secure(channel, address, { tls, isOptional: target.isTlsOptional === true })
    channel.write(cancelPacket(target.processId, target.secret))
    await untilEnd(channel)
    return isLate ? 'deadline' : 'ended'
  } catch (error) {
    if (isLate) return 'deadline'
    throw error instanceof ProxyError ? error : new ProxyError('server_lost', {}, error)
  } finally {
    timer.cancel()
    channel.destroy()
  }
}

/** A server closes without a word; one that resets the connection has taken the request as well. */
async function untilEnd(channel: Channel): Promise<void> {
  try {
    await channel.read(1)
  } catch {
    return
  }
  throw broken('an answer to a cancel request')
}

type TlsUse = 'plain' | 'optional' | 'required'

const ATTEMPTS: Readonly<Record<SslMode, readonly [TlsUse, TlsUse?]>> = {
  disable: ['plain'],
  allow: ['plain', 'required'],
  prefer: ['optional', 'plain'],
  require: ['required'],
  'verify-ca': ['required'],
  'verify-full': ['required'],
}

/** Unix sockets have no TLS, whatever sslmode says. */
function attemptsOf({ address, tls }: LoginTarget): readonly [TlsUse, TlsUse?] {
  const isUnix = address.host.startsWith('/') || address.host.startsWith('@')
  return ATTEMPTS[isUnix ? 'disable' : tls.mode]
}

interface Attempt {
  readonly tls: TlsUse
  readonly untilMs: number
  /** Set when the handshake is done. */
  isSecured: boolean
}

/** The other way is tried when the handshake failed, or pg_hba.conf does not want this one. */
function mayTryAgain(error: unknown, { tls, isSecured }: Attempt): boolean {
  if (!(error instanceof ProxyError)) return false
  if (error.code === 'server_tls') return tls === 'optional'
  const isRefused = error.code === 'server_login_failed' && error.sqlstate === '28000'
  return isRefused && (isSecured || tls === 'plain')
}

async function attempt(target: LoginTarget, deps: LoginDeps, use: Attempt): Promise<LoggedIn> {
  const { clock, keepAliveMs } = deps
  const { untilMs } = use
  const deadlineMs = untilMs - clock.nowMs()
  if (deadlineMs <= 0) throw new ProxyError('server_connect_timeout')
  const channel = await dial(target.address, { clock, keepAliveMs, deadlineMs })
  const login = new ServerLogin(channel, target, deps.deriver)
  let isLate = false
  const timer = clock.after(untilMs - clock.nowMs(), () => {
    isLate = true
    channel.destroy()
  })
  try {
    return await login.run(use)
  } catch (error) {
    channel.destroy()
    if (isLate) throw new ProxyError('server_connect_timeout', {}, error)
    throw error instanceof ProxyError ? error : new ProxyError('server_lost', {}, error)
  } finally {
    timer.cancel()
  }
}

/** SSLRequest and the handshake. Returns whether the channel has TLS now. */
async function secure(
  channel: Channel,
  { host }: Address,
  { tls, isOptional }: { readonly tls: ServerTls; readonly isOptional: boolean },
): Promise<boolean> {
  channel.write(serialize.requestSsl())
  const [answer] = await channel.read(1)
  if (answer === NO && isOptional) return false
  if (answer === NO)
    throw new ProxyError('server_tls', { reason: 'the server does not support TLS' })
  // An error sent here was not encrypted, and may be anybody's: its text is not passed on.
  if (answer !== YES) throw new ProxyError('server_protocol', { reason: 'answer to SSLRequest' })
  if (channel.unreadBytes > 0)
    throw new ProxyError('server_protocol', { reason: 'unencrypted bytes before TLS' })
  try {
    await channel.upgrade((plain) => tls.wrap(plain, host), false)
  } catch (error) {
    throw new ProxyError('server_tls', { reason: reasonOf(error) }, error)
  }
  return true
}

interface Frame {
  readonly type: number
  readonly body: Buffer
  readonly message: BackendMessage
}

class ServerLogin {
  #state: ServerLoginState = 'dialling'
  readonly #channel: Channel
  readonly #target: LoginTarget
  readonly #deriver: KeyDeriver
  readonly #parameters = new Map<string, string>()
  #scram: ScramClient | null = null
  #processId = 0
  #cancelSecret: Buffer = Buffer.alloc(0)
  #frames = 0

  constructor(channel: Channel, target: LoginTarget, deriver: KeyDeriver) {
    this.#channel = channel
    this.#target = target
    this.#deriver = deriver
  }

  async run(use: Attempt): Promise<LoggedIn> {
    try {
      if (use.tls !== 'plain') use.isSecured = await this.#secure(use.tls === 'optional')
      this.#move('starting')
      this.#channel.write(startupPacket(this.#startup()))
      while (this.#state !== 'ready') await this.#advance(await this.#readFrame())
    } catch (error) {
      this.#move('failed')
      throw error
    }
    return {
      channel: this.#channel,
      parameters: this.#parameters,
      processId: this.#processId,
      cancelSecret: this.#cancelSecret,
    }
  }

  #secure(isOptional: boolean): Promise<boolean> {
    this.#move('securing')
    return secure(this.#channel, this.#target.address, { tls: this.#target.tls, isOptional })
  }

  *#startup(): Generator<readonly [string, string]> {
    const { user, database, replication, startup } = this.#target
    yield ['user', user]
    yield ['database', database]
    if (replication !== null) yield ['replication', replication === 'logical' ? 'database' : 'true']
    for (const pair of startup) if (!pair[0].startsWith('pgsteer.')) yield pair
  }

  async #advance({ type, body, message }: Frame): Promise<void> {
    switch (type) {
      case frame.AUTHENTICATION:
        return this.#authenticate(body, message)
      case frame.PARAMETER_STATUS:
        if (!(message instanceof ParameterStatusMessage) || body.at(-1) !== 0)
          throw broken('ParameterStatus')
        this.#parameters.set(message.parameterName, message.parameterValue)
        return
      case frame.BACKEND_KEY_DATA:
        this.#keepKey(body)
        return
      case frame.READY_FOR_QUERY:
        if (this.#state !== 'greeting') throw broken('ReadyForQuery before AuthenticationOk')
        if (!(message instanceof ReadyForQueryMessage) || message.status !== 'I')
          throw broken('a transaction is open after log-in')
        this.#move('ready')
        return
      case frame.ERROR_RESPONSE:
        throw serverError(message)
      case frame.NOTICE_RESPONSE:
        return
      default:
        throw broken(`message 0x${type.toString(16)} during log-in`)
    }
  }

  async #authenticate(body: Buffer, message: BackendMessage): Promise<void> {
    if (this.#state === 'greeting') throw broken('authentication after AuthenticationOk')
    const code = body.readInt32BE(0)
    switch (code) {
      case 0:
        // A server that stops in the middle of SCRAM has not shown that it knows the password.
        if (this.#scram !== null && this.#scram.state !== 'verified')
          throw untrusted('failed to verify server signature')
        this.#move('greeting')
        return
      case 3:
        this.#move('authenticating')
        this.#channel.write(serialize.password(this.#password()))
        return
      case 5:
        this.#move('authenticating')
        if (!(message instanceof AuthenticationMD5Password)) throw broken('md5 without salt')
        this.#channel.write(serialize.password(md5Response(this.#md5Hash(), message.salt)))
        return
      case 10:
      case 11:
      case 12:
        this.#move('authenticating')
        return this.#sasl(code, body)
      default:
        throw untrusted(`authentication request ${code} is not supported`)
    }
  }

  async #sasl(code: 10 | 11 | 12, body: Buffer): Promise<void> {
    const text = body.toString('utf8', 4)
    if (code === 10) {
      if (this.#scram !== null) throw broken('SASL is begun twice')
      if (!text.split('\0').includes(SCRAM))
        throw untrusted("none of the server's SASL authentication mechanisms are supported")
      this.#scram = new ScramClient({ credential: this.#scramSecret(), deriver: this.#deriver })
      this.#channel.write(serialize.sendSASLInitialResponseMessage(SCRAM, this.#scram.first()))
      return
    }
    const expected = code === 11 ? 'begun' : 'proved'
    if (this.#scram?.state !== expected) throw broken('SASL messages out of order')
    if (code === 12) this.#scram.verify(text)
    else this.#channel.write(serialize.sendSCRAMClientFinalMessage(await this.#scram.prove(text)))
  }

  #password(): string {
    const { secret } = this.#target
    if (secret.kind !== 'plain') throw untrusted('wrong password type')
    return secret.password
  }

  #md5Hash(): string {
    const { secret, user } = this.#target
    if (secret.kind === 'md5') return secret.hash
    return md5Hash(this.#password(), user)
  }

  #scramSecret() {
    const { secret } = this.#target
    if (secret.kind !== 'plain' && secret.kind !== 'scram') throw untrusted('wrong password type')
    return secret
  }

  #keepKey(body: Buffer): void {
    if (body.length < 4 || body.length > 260) throw broken('BackendKeyData')
    this.#processId = body.readUInt32BE(0)
    this.#cancelSecret = Buffer.from(body.subarray(4))
  }

  /** One whole frame, bounded before its body is read. */
  async #readFrame(): Promise<Frame> {
    this.#frames += 1
    if (this.#frames > FRAMES_MAX) throw broken('too many messages during log-in')
    const head = await this.#channel.read(frame.HEADER_BYTES)
    const bytes = frame.frameBytes(head, 0)
    if (bytes < frame.HEADER_BYTES || bytes > FRAME_BYTES_MAX)
      throw broken(`message of ${bytes} bytes during log-in`)
    const length = bytes - frame.HEADER_BYTES
    const body = length === 0 ? Buffer.alloc(0) : await this.#channel.read(length)
    return { type: head[0] ?? 0, body, message: parseMessage(head, body) }
  }

  #move(to: ServerLoginState): void {
    const legal: readonly ServerLoginState[] = SERVER_LOGIN_MOVES[this.#state]
    invariant(legal.includes(to), `server log-in moves from ${this.#state} to ${to}`)
    this.#state = to
  }
}

/**
 * pg-protocol's reading of one frame. Two zero bytes behind it, too few to be the head of another,
 * end strings and lists that the server left open: the parser would look for their ends for ever.
 */
function parseMessage(head: Buffer, body: Buffer): BackendMessage {
  let parsed: BackendMessage | undefined
  try {
    new Parser().parse(Buffer.concat([head, body, Buffer.alloc(2)]), (message) => {
      parsed = message
    })
  } catch (error) {
    throw new ProxyError('server_protocol', { reason: reasonOf(error) }, error)
  }
  if (parsed === undefined) throw broken('a message that cannot be read')
  return parsed
}

/** The server's own words go to the client, with the server's SQLSTATE. */
function serverError(message: BackendMessage): ProxyError {
  if (!(message instanceof DatabaseError)) return broken('ErrorResponse')
  const { code, message: text } = message
  const sqlstate = /^[0-9A-Z]{5}$/.test(code ?? '') ? String(code) : '08P01'
  return new ProxyError('server_login_failed', {
    sqlstate,
    reason: text.slice(0, REASON_CHARACTERS_MAX),
  })
}

function broken(reason: string): ProxyError {
  return new ProxyError('server_protocol', { reason })
}

function untrusted(reason: string): ProxyError {
  return new ProxyError('server_auth', { reason })
}
