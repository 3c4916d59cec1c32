/**
 * From an accepted channel to a client that has proved who it is: PROXY header, TLS, startup packet,
 * authentication, all under client_login_timeout. It sends nothing after the last authentication
 * message: the welcome is the session's. Limits on the number of clients are the caller's.
 *
 *     opening ──► packet ──► authenticating ──► arrived
 *        │        │    ▲           │
 *        │        ▼    │           │              closed: whatever fails
 *        └─────► securing          └──►
 *
 * Source  PostgreSQL manual, "Message Flow, Start-up"; PgBouncer's texts for what is refused.
 */
import type { KeyDeriver } from '../auth/derive.ts'
import type { SecretLookup } from '../auth/lookup.ts'
import { type AuthRules, methodFor } from '../auth/rules.ts'
import { parseSecret, type ServerSecret, serverSecretOf } from '../auth/secret.ts'
import type { Clock } from '../base/clock.ts'
import { ProxyError, reasonOf } from '../base/errors.ts'
import { invariant } from '../base/invariant.ts'
import type { Log } from '../base/log.ts'
import { type Config, databaseOf } from '../config/config.ts'
import { ADMIN_DATABASE } from '../config/keys.ts'
import type { Channel } from '../net/channel.ts'
import { readProxyHeader } from '../net/proxyprotocol.ts'
import { ALPN, type ClientTls, certificateVerdict } from '../net/tls.ts'
import { errorResponse } from '../wire/messages.ts'
import { MINOR_MAX, packetBytes, parseFirstPacket, type StartupPacket } from '../wire/startup.ts'
import { ENCRYPTION_NO, ENCRYPTION_YES, negotiateProtocolVersion } from '../wire/welcome.ts'
import { authenticate } from './authentication.ts'

export type Arrival = CancelArrival | SessionArrival

export interface CancelArrival {
  readonly kind: 'cancel'
  readonly processId: number
  readonly secret: Buffer
}

export interface SessionArrival {
  readonly kind: 'session'
  readonly channel: Channel
  readonly user: string
  readonly database: string
  /** Without user, database, replication and options, whose settings are in it; lower-case names. */
  readonly startup: ReadonlyMap<string, string>
  readonly replication: 'logical' | 'physical' | null
  /** 2: cancel keys may be longer than 4 bytes. */
  readonly protocolMinor: 0 | 2
  /** What can be used to log in to servers as the user that they see: this one, or a forced one. */
  readonly secret: ServerSecret
  /** The database is the console's. */
  readonly isConsole: boolean
  readonly consoleRole: 'admin' | 'stats' | null
}

export interface LoginContext {
  readonly config: Config
  /** Made from `config` by authRules. */
  readonly rules: AuthRules
  readonly clock: Clock
  readonly log: Log
  readonly tls: ClientTls
  readonly lookup: SecretLookup
  readonly deriver: KeyDeriver
  /** The same in every worker, so that salts made up for unknown users are. At least 16 bytes. */
  readonly mockSeed: Buffer
  isDisabled(database: string): boolean
  isShuttingDown(): boolean
}

export type LoginState = 'opening' | 'packet' | 'securing' | 'authenticating' | 'arrived' | 'closed'

export const LOGIN_MOVES = {
  opening: ['packet', 'securing', 'closed'],
  packet: ['packet', 'securing', 'authenticating', 'arrived', 'closed'],
  securing: ['packet', 'closed'],
  authenticating: ['arrived', 'closed'],
  arrived: [],
  closed: [],
} as const satisfies Record<LoginState, readonly LoginState[]>

const TLS_HANDSHAKE = 0x16
/** How long a refused client may take to read why. */
const LINGER_MS = 2000
const PACKET_HEAD_BYTES = 4

/**
 * Logs a client in. For a cancel request the channel stays open: the caller closes it.
 *
 * Errors  ProxyError, after the ErrorResponse was sent and the channel was closed.
 */
export function acceptClient(channel: Channel, context: LoginContext): Promise<Arrival> {
  return new ClientLogin(channel, context).run()
}

class ClientLogin {
  #state: LoginState = 'opening'
  readonly #channel: Channel
  readonly #context: LoginContext
  /** False: the channel is settled, and a RELOAD that brings TLS comes too late for it. */
  readonly #mayBeSecured: boolean
  /** Each may be asked for once. */
  #askedTls = false
  #askedGss = false
  /** tls-server-end-point of the certificate that this client saw: a RELOAD may bring another. */
  #binding: Buffer | null = null
  /** The TLS handshake failed or was not wanted: plain text would not be understood. */
  #isMute = false

  constructor(channel: Channel, context: LoginContext) {
    this.#channel = channel
    this.#context = context
    this.#mayBeSecured = context.tls.isOffered && !channel.isUnix
    if (!this.#mayBeSecured) channel.settle()
  }

  async run(): Promise<Arrival> {
    const { clock, config } = this.#context
    const timeoutMs = config.pgbouncer.clientLoginTimeoutMs
    const late = Promise.withResolvers<never>()
    const end = (): void => late.reject(new ProxyError('client_login_timeout'))
    const timer = timeoutMs > 0 ? clock.after(timeoutMs, end) : null
    try {
      return await Promise.race([this.#logIn(), late.promise])
    } catch (error) {
      throw this.#refuse(error)
    } finally {
      timer?.cancel()
    }
  }

  async #logIn(): Promise<Arrival> {
    await this.#open()
    for (;;) {
      const packet = await this.#readPacket()
      switch (packet.kind) {
        case 'ssl':
          await this.#answerTls()
          break
        case 'gss':
          this.#answerGss()
          break
        case 'cancel':
          this.#move('arrived')
          return packet
        case 'startup':
          return this.#start(packet)
      }
    }
  }

  /** What comes before the first packet: a PROXY header, or TLS at once. */
  async #open(): Promise<void> {
    const channel = this.#channel
    if (!channel.isUnix && this.#context.rules.isProxied(channel.remoteAddress))
      await readProxyHeader(channel)
    const head = await channel.read(PACKET_HEAD_BYTES)
    channel.unread(head)
    if (head[0] !== TLS_HANDSHAKE) {
      this.#move('packet')
      return
    }
    this.#askedTls = true
    await this.#secure()
    if (channel.tls?.alpnProtocol !== ALPN) throw new ProxyError('direct_tls_alpn')
  }

  async #readPacket() {
    const { config, rules } = this.#context
    const head = await this.#channel.read(PACKET_HEAD_BYTES)
    const bytes = packetBytes(head, config.pgsteer.frameBytesBeforeLoginMax)
    const packet = parseFirstPacket(await this.#channel.read(bytes), rules.ignored)
    invariant(this.#state === 'packet', 'packets are read before authentication')
    return packet
  }

  async #answerTls(): Promise<void> {
    if (this.#askedTls) throw repeated(5679)
    this.#askedTls = true
    const channel = this.#channel
    if (!this.#mayBeSecured || !this.#context.tls.isOffered) {
      channel.write(ENCRYPTION_NO)
      this.#move('packet')
      return
    }
    // What was sent before the handshake was not encrypted, whoever sent it (CVE-2021-23214).
    if (channel.unreadBytes > 0) throw new ProxyError('unencrypted_data')
    channel.write(ENCRYPTION_YES)
    await this.#secure()
  }

  #answerGss(): void {
    if (this.#askedGss || this.#channel.tls !== null) throw repeated(5680)
    this.#askedGss = true
    this.#channel.write(ENCRYPTION_NO)
    this.#move('packet')
  }

  async #secure(): Promise<void> {
    const { tls } = this.#context
    this.#move('securing')
    this.#isMute = true
    if (!this.#mayBeSecured || !tls.isOffered)
      throw new ProxyError('client_tls', { reason: 'TLS is disabled' })
    const { binding } = tls
    try {
      await this.#channel.upgrade((plain) => tls.wrap(plain), true)
    } catch (error) {
      throw new ProxyError('client_tls', { reason: reasonOf(error) }, error)
    }
    this.#isMute = false
    this.#binding = binding
    this.#checkCertificate()
    this.#move('packet')
  }

  #checkCertificate(): void {
    const socket = this.#channel.tls
    invariant(socket !== null, 'a secured channel has TLS')
    const verdict = certificateVerdict(socket)
    if (verdict === 'refused' || (verdict === 'none' && this.#context.tls.needsCertificate))
      throw new ProxyError('certificate_failed')
  }

  async #start(packet: StartupPacket): Promise<Arrival> {
    const { config, rules, tls } = this.#context
    const channel = this.#channel
    this.#move('authenticating')
    if (this.#context.isShuttingDown()) throw new ProxyError('shutting_down')
    if (tls.isRequired && channel.tls === null && !channel.isUnix)
      throw new ProxyError('ssl_required')
    channel.settle()
    this.#negotiate(packet)
    const choice = methodFor(config, rules, {
      isUnix: channel.isUnix,
      isTls: channel.tls !== null,
      address: channel.remoteAddress,
      user: packet.user,
      database: packet.database,
      isReplication: packet.replication === 'physical',
    })
    if (choice === null) throw new ProxyError('no_auth_method')
    const secret = await authenticate(channel, packet, choice, {
      ...this.#context,
      identMap: rules.identMap,
      seed: { seed: this.#context.mockSeed, iterations: config.pgbouncer.scramIterations },
      binding: this.#binding,
      messageBytesMax: config.pgsteer.frameBytesBeforeLoginMax,
    })
    const arrival = await this.#arrive(packet, secret)
    this.#move('arrived')
    return arrival
  }

  /** As PostgreSQL: never a higher version than was asked for, which libpq refuses. */
  #negotiate({ minor, protocolOptions }: StartupPacket): void {
    if (minor <= MINOR_MAX && protocolOptions.length === 0) return
    this.#channel.write(negotiateProtocolVersion(Math.min(minor, MINOR_MAX), protocolOptions))
  }

  /** Databases are looked at only now: who is not authenticated learns nothing about them. */
  async #arrive(packet: StartupPacket, proved: ServerSecret): Promise<SessionArrival> {
    const { config } = this.#context
    const { user, database, replication } = packet
    const isConsole = database === ADMIN_DATABASE
    const consoleRole = isConsole ? consoleRoleOf(config, user) : null
    if (isConsole && (consoleRole === null || replication !== null))
      throw new ProxyError('not_allowed')
    if (!isConsole && databaseOf(config, database) === undefined)
      throw new ProxyError('no_such_database', { database })
    if (!isConsole && this.#context.isDisabled(database))
      throw new ProxyError('database_disabled', { database })
    const secret = await this.#serverSecret(packet, proved)
    return {
      kind: 'session',
      channel: this.#channel,
      user,
      database,
      startup: this.#startup(packet),
      replication,
      protocolMinor: packet.minor >= MINOR_MAX ? MINOR_MAX : 0,
      secret,
      isConsole,
      consoleRole,
    }
  }

  /** Where the entry forces another user, what the client proved is of no use at the servers. */
  async #serverSecret(packet: StartupPacket, proved: ServerSecret): Promise<ServerSecret> {
    const { config, lookup } = this.#context
    const forced = databaseOf(config, packet.database)
    if (forced === undefined || forced.user === null || forced.user === packet.user) return proved
    if (forced.password !== null) return serverSecretOf(parseSecret(forced.password))
    return serverSecretOf(await lookup.find(forced.user, packet.database))
  }

  #startup({ parameters }: StartupPacket): ReadonlyMap<string, string> {
    if (!this.#context.config.pgbouncer.applicationNameAddHost) return parameters
    const { remoteAddress, remotePort } = this.#channel
    const name = parameters.get('application_name') ?? 'app'
    return new Map(parameters).set('application_name', `${name} - ${remoteAddress}:${remotePort}`)
  }

  /** Says why, closes, and lets go after a while even if the client does not. */
  #refuse(cause: unknown): ProxyError {
    const { clock, config } = this.#context
    const channel = this.#channel
    const error = loginError(cause, channel)
    this.#move('closed')
    this.#logCause(error)
    if (this.#isMute || channel.isClosed) {
      channel.destroy()
      return error
    }
    channel.write(errorResponse(error, config.pgsteer.errorCodes))
    channel.close()
    const timer = clock.after(LINGER_MS, () => channel.destroy())
    if (error.code !== 'client_login_timeout')
      channel.attach({ onBytes() {}, onDrain() {}, onClosed: () => timer.cancel() })
    return error
  }

  /** The client is told little; who runs this needs to know what is behind it. */
  #logCause(error: ProxyError): void {
    if (error.cause === undefined) return
    const { remoteAddress: address, remotePort: port } = this.#channel
    const level = error.row.source === 'client' ? 'debug' : (error.row.level ?? 'debug')
    this.#context.log[level](
      { code: error.code, address, port },
      `log-in refused: ${error.message}: ${reasonOf(error.cause)}`,
    )
  }

  #move(to: LoginState): void {
    // After a timeout the exchange may still be on its way back from a look-up.
    if (this.#state === 'closed') throw new ProxyError('client_login_timeout')
    const legal: readonly LoginState[] = LOGIN_MOVES[this.#state]
    invariant(legal.includes(to), `log-in moves from ${this.#state} to ${to}`)
    this.#state = to
  }
}

function consoleRoleOf(config: Config, user: string): 'admin' | 'stats' | null {
  const { adminUsers, statsUsers } = config.pgbouncer
  if (adminUsers.includes(user)) return 'admin'
  return statsUsers.includes(user) ? 'stats' : null
}

/** A second SSLRequest or GSSENCRequest is read as the protocol version it is not, as PostgreSQL does. */
function repeated(minor: number): ProxyError {
  return new ProxyError('protocol_major', { major: 1234, minor })
}

function loginError(cause: unknown, channel: Channel): ProxyError {
  if (cause instanceof ProxyError) return cause
  if (channel.isClosed) return new ProxyError('client_eof', {}, cause)
  return new ProxyError('internal', { reason: reasonOf(cause) }, cause)
}
