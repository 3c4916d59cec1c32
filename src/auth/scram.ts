/**
 * SCRAM-SHA-256 and SCRAM-SHA-256-PLUS as two machines over strings: the server that clients log in
 * to, and the client that logs in to servers. They hold no socket and wait for nothing but a key
 * derivation. Every field of the peer is bounded before it is used.
 *
 * Source  RFC 5802, RFC 7677, RFC 5929 (tls-server-end-point); auth-scram.c and fe-auth-scram.c.
 */
import { timingSafeEqual } from 'node:crypto'
import { ProxyError } from '../base/errors.ts'
import { invariant } from '../base/invariant.ts'
import { freshBytes } from '../base/random.ts'
import { hmac, type KeyDeriver, sha256 } from './derive.ts'
import { decodeBase64, KEY_BYTES, type ScramKeys, type ScramVerifier } from './secret.ts'

export const SCRAM = 'SCRAM-SHA-256'
export const SCRAM_PLUS = 'SCRAM-SHA-256-PLUS'
export type ScramMechanism = typeof SCRAM | typeof SCRAM_PLUS

/** Longest message of a peer that is looked at. */
export const SCRAM_MESSAGE_BYTES_MAX = 4096
/** PBKDF2 rounds that a server may ask of us: some 30 ms of one thread. */
export const SCRAM_ITERATIONS_MAX = 100_000
const NONCE_CHARACTERS_MAX = 512
const SALT_BYTES_MAX = 1024
const NONCE_BYTES = 18

/** Printable ASCII without the comma (RFC 5802, section 7). */
const NONCE = /^[\x21-\x2b\x2d-\x7e]+$/

type ServerState = 'initial' | 'challenged' | 'verified' | 'failed'

export const SCRAM_SERVER_MOVES = {
  initial: ['challenged', 'failed'],
  challenged: ['verified', 'failed'],
  verified: [],
  failed: [],
} as const satisfies Record<ServerState, readonly ServerState[]>

export interface ScramServerOptions {
  readonly verifier: ScramVerifier
  /** The user does not exist or has no usable secret: every proof fails. */
  readonly isMock: boolean
  readonly mechanism: ScramMechanism
  /** tls-server-end-point of the certificate that the client saw; null where -PLUS was not offered. */
  readonly binding: Buffer | null
  /** Our part of the nonce, for the vectors of the RFC; random by default. */
  readonly nonce?: string
}

interface Challenge {
  readonly gs2Header: string
  readonly clientFirstBare: string
  readonly serverFirst: string
  readonly nonce: string
}

/** The side that clients log in to. Errors are ProxyError `sasl_failed`; the cause says more. */
export class ScramServer {
  #state: ServerState = 'initial'
  #challenge: Challenge | null = null
  readonly #options: ScramServerOptions

  constructor(options: ScramServerOptions) {
    this.#options = options
  }

  get state(): ServerState {
    return this.#state
  }

  /** Answers client-first-message with server-first-message. */
  challenge(clientFirst: string): string {
    invariant(this.#state === 'initial', 'SCRAM begins once')
    const first = this.#checked(() => parseClientFirst(clientFirst))
    this.#checked(() => this.#checkBinding(first.flag))
    const nonce = first.nonce + (this.#options.nonce ?? freshNonce())
    const { salt, iterations } = this.#options.verifier
    const serverFirst = `r=${nonce},s=${salt.toString('base64')},i=${iterations}`
    const { gs2Header, clientFirstBare } = first
    this.#challenge = { gs2Header, clientFirstBare, serverFirst, nonce }
    this.#move('challenged')
    return serverFirst
  }

  /** Checks client-final-message; returns server-final-message and the ClientKey it gave away. */
  verify(clientFinal: string): { readonly serverFinal: string; readonly keys: ScramKeys } {
    const challenge = this.#challenge
    invariant(this.#state === 'challenged' && challenge !== null, 'SCRAM proves after a challenge')
    const final = this.#checked(() => parseClientFinal(clientFinal))
    const authMessage = `${challenge.clientFirstBare},${challenge.serverFirst},${final.withoutProof}`
    const { verifier, isMock } = this.#options
    const signature = hmac(verifier.storedKey, authMessage)
    const clientKey = xor(final.proof, signature)
    const isProved = timingSafeEqual(sha256(clientKey), verifier.storedKey)
    const isBound = equalText(final.binding, this.#expectedBinding(challenge.gs2Header))
    const isFresh = equalText(final.nonce, challenge.nonce)
    this.#checked(() => {
      if (!isFresh) throw refused('the nonce of the final message differs')
      if (!isBound) throw refused('the channel binding differs')
      if (!isProved || isMock) throw refused('the proof does not fit')
    })
    this.#move('verified')
    return {
      serverFinal: `v=${hmac(verifier.serverKey, authMessage).toString('base64')}`,
      keys: keysFrom(clientKey, verifier),
    }
  }

  /** The rules of auth-scram.c: 'y' from a client that could bind is a downgrade if we offered it. */
  #checkBinding(flag: string): void {
    const { mechanism, binding } = this.#options
    if (mechanism === SCRAM_PLUS) {
      if (flag !== 'p=tls-server-end-point') throw refused(`binding ${flag} under ${mechanism}`)
      if (binding === null) throw refused('channel binding without TLS')
    } else if (flag === 'y') {
      if (binding !== null) throw refused('the client did not see that -PLUS was offered')
    } else if (flag !== 'n') {
      throw refused(`binding ${flag} under ${mechanism}`)
    }
  }

  #expectedBinding(gs2Header: string): string {
    const { mechanism, binding } = this.#options
    const header = Buffer.from(gs2Header)
    const bound = mechanism === SCRAM_PLUS && binding !== null
    return (bound ? Buffer.concat([header, binding]) : header).toString('base64')
  }

  #checked<T>(check: () => T): T {
    try {
      return check()
    } catch (error) {
      this.#move('failed')
      throw error
    }
  }

  #move(to: ServerState): void {
    const legal: readonly ServerState[] = SCRAM_SERVER_MOVES[this.#state]
    invariant(legal.includes(to), `SCRAM server moves from ${this.#state} to ${to}`)
    this.#state = to
  }
}

/** What was learnt last by each verifier: a thousand log-ins of a user give away one value. */
const learnt = new WeakMap<ScramVerifier, ScramKeys>()

function keysFrom(clientKey: Buffer, verifier: ScramVerifier): ScramKeys {
  const known = learnt.get(verifier)
  if (known?.clientKey.equals(clientKey) === true) return known
  const { salt, iterations, serverKey } = verifier
  const keys: ScramKeys = { kind: 'scram', clientKey, serverKey, salt, iterations }
  learnt.set(verifier, keys)
  return keys
}

type ClientState = 'initial' | 'begun' | 'proved' | 'verified' | 'failed'

export const SCRAM_CLIENT_MOVES = {
  initial: ['begun', 'failed'],
  begun: ['proved', 'failed'],
  proved: ['verified', 'failed'],
  verified: [],
  failed: [],
} as const satisfies Record<ClientState, readonly ClientState[]>

export interface ScramClientOptions {
  readonly credential: { readonly kind: 'plain'; readonly password: string } | ScramKeys
  readonly deriver: KeyDeriver
  readonly nonce?: string
  /** `n` in the first message; PostgreSQL ignores it, so it is empty. */
  readonly user?: string
}

/** The side that logs in to servers. Errors are ProxyError `server_auth`. */
export class ScramClient {
  #state: ClientState = 'initial'
  readonly #options: ScramClientOptions
  readonly #nonce: string
  readonly #firstBare: string
  #expected: Buffer | null = null

  constructor(options: ScramClientOptions) {
    this.#options = options
    this.#nonce = options.nonce ?? freshNonce()
    this.#firstBare = `n=${options.user ?? ''},r=${this.#nonce}`
  }

  get state(): ClientState {
    return this.#state
  }

  /** client-first-message. */
  first(): string {
    this.#move('begun')
    return `n,,${this.#firstBare}`
  }

  /** Answers server-first-message with client-final-message. */
  async prove(serverFirst: string): Promise<string> {
    invariant(this.#state === 'begun', 'SCRAM answers one challenge')
    try {
      const challenge = parseServerFirst(serverFirst, this.#nonce)
      const { clientKey, storedKey, serverKey } = await this.#keys(challenge)
      const withoutProof = `c=biws,r=${challenge.nonce}`
      const authMessage = `${this.#firstBare},${serverFirst},${withoutProof}`
      this.#expected = hmac(serverKey, authMessage)
      const proof = xor(clientKey, hmac(storedKey, authMessage))
      this.#move('proved')
      return `${withoutProof},p=${proof.toString('base64')}`
    } catch (error) {
      this.#move('failed')
      throw error
    }
  }

  /** Checks server-final-message: the server knows the password too. */
  verify(serverFinal: string): void {
    const expected = this.#expected
    invariant(this.#state === 'proved' && expected !== null, 'SCRAM is verified after its proof')
    const signature = parseServerFinal(serverFinal)
    const isRight = signature !== null && timingSafeEqual(signature, expected)
    this.#move(isRight ? 'verified' : 'failed')
    if (signature === null) throw untrusted('invalid server signature')
    if (!isRight) throw untrusted('failed to verify server signature')
  }

  async #keys(challenge: ServerFirst) {
    const { credential, deriver } = this.#options
    const { salt, iterations } = challenge
    if (credential.kind === 'plain') {
      if (iterations > SCRAM_ITERATIONS_MAX)
        throw untrusted(`the server asks for ${iterations} SCRAM iterations`)
      return deriver.keys(credential.password, salt, iterations)
    }
    if (!credential.salt.equals(salt) || credential.iterations !== iterations)
      throw new ProxyError('server_keys_stale')
    const { clientKey, serverKey } = credential
    return { clientKey, serverKey, storedKey: sha256(clientKey) }
  }

  #move(to: ClientState): void {
    const legal: readonly ClientState[] = SCRAM_CLIENT_MOVES[this.#state]
    invariant(legal.includes(to), `SCRAM client moves from ${this.#state} to ${to}`)
    this.#state = to
  }
}

interface ClientFirst {
  /** `n`, `y` or `p=` and the name of a binding. */
  readonly flag: string
  readonly gs2Header: string
  readonly clientFirstBare: string
  readonly nonce: string
}

/** `gs2-cbind-flag "," [authzid] "," "n=" user "," "r=" nonce ["," extensions]` */
function parseClientFirst(message: string): ClientFirst {
  checkLength(message)
  const [, flag, authzid, bare] = /^(n|y|p=[A-Za-z0-9.-]{1,64}),([^,]*),(.*)$/s.exec(message) ?? []
  if (flag === undefined || bare === undefined) throw refused('malformed first message')
  if (authzid !== '') throw refused('an authorization identity is not supported')
  const [user, nonceField] = bare.split(',')
  if (user === undefined || !user.startsWith('n=')) throw refused('malformed first message')
  const nonce = nonceOf(nonceField)
  if (nonce === null) throw refused('malformed nonce')
  return { flag, gs2Header: `${flag},,`, clientFirstBare: bare, nonce }
}

interface ClientFinal {
  readonly binding: string
  readonly nonce: string
  readonly proof: Buffer
  readonly withoutProof: string
}

/** `"c=" base64 "," "r=" nonce ["," extensions] "," "p=" base64`, the proof last. */
function parseClientFinal(message: string): ClientFinal {
  checkLength(message)
  const at = message.lastIndexOf(',p=')
  if (at < 0) throw refused('malformed final message')
  const proof = decodeBase64(message.slice(at + 3))
  const withoutProof = message.slice(0, at)
  const [binding, nonceField] = withoutProof.split(',')
  const nonce = nonceOf(nonceField)
  if (proof?.length !== KEY_BYTES) throw refused('malformed proof')
  if (binding === undefined || !binding.startsWith('c=') || nonce === null)
    throw refused('malformed final message')
  return { binding: binding.slice(2), nonce, proof, withoutProof }
}

interface ServerFirst {
  readonly nonce: string
  readonly salt: Buffer
  readonly iterations: number
}

/** `"r=" nonce "," "s=" base64 "," "i=" number`; the nonce must extend ours. */
function parseServerFirst(message: string, ours: string): ServerFirst {
  if (message.length > SCRAM_MESSAGE_BYTES_MAX) throw untrusted('SCRAM message is too long')
  const [nonceField, saltField, iterationField] = message.split(',')
  const nonce = nonceOf(nonceField)
  if (nonce === null || !nonce.startsWith(ours) || nonce.length === ours.length)
    throw untrusted('invalid SCRAM nonce')
  const salt = saltField?.startsWith('s=') === true ? decodeBase64(saltField.slice(2)) : null
  if (salt === null || salt.length === 0 || salt.length > SALT_BYTES_MAX)
    throw untrusted('invalid SCRAM salt')
  const iterations = Number(/^i=([1-9]\d{0,9})$/.exec(iterationField ?? '')?.[1] ?? Number.NaN)
  if (!Number.isInteger(iterations) || iterations > 2 ** 31 - 1)
    throw untrusted('invalid SCRAM iteration count')
  return { nonce, salt, iterations }
}

/** `"v=" base64`; null when it is anything else, `e=...` among it. */
function parseServerFinal(message: string): Buffer | null {
  if (message.length > SCRAM_MESSAGE_BYTES_MAX || !message.startsWith('v=')) return null
  const signature = decodeBase64(message.slice(2).split(',')[0] ?? '')
  return signature?.length === KEY_BYTES ? signature : null
}

function nonceOf(field: string | undefined): string | null {
  if (field === undefined || !field.startsWith('r=')) return null
  const nonce = field.slice(2)
  return nonce.length <= NONCE_CHARACTERS_MAX && NONCE.test(nonce) ? nonce : null
}

function checkLength(message: string): void {
  if (message.length > SCRAM_MESSAGE_BYTES_MAX) throw refused('the message is too long')
}

function freshNonce(): string {
  return freshBytes(NONCE_BYTES).toString('base64')
}

function xor(left: Buffer, right: Buffer): Buffer {
  invariant(left.length === right.length, 'keys and signatures have one length')
  const bytes = Buffer.allocUnsafe(left.length)
  for (let index = 0; index < left.length; index += 1)
    bytes[index] = (left[index] ?? 0) ^ (right[index] ?? 0)
  return bytes
}

/** Compares texts without telling by time where they differ; how long they are is known to all. */
function equalText(left: string, right: string): boolean {
  const [one, other] = [Buffer.from(left), Buffer.from(right)]
  return one.length === other.length && timingSafeEqual(one, other)
}

/** What is wrong stays in the log: the client is told that it failed, nothing more. */
function refused(reason: string): ProxyError {
  return new ProxyError('sasl_failed', {}, new Error(`SCRAM: ${reason}`))
}

function untrusted(reason: string): ProxyError {
  return new ProxyError('server_auth', { reason })
}
