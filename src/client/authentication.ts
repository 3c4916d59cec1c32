/**
 * The exchange in which a client proves who it is: sends the authentication request, reads the
 * answers, decides. What is right is decided in auth/; what happens before and after in login.ts.
 */
import { certificateName } from '../auth/certificate.ts'
import type { KeyDeriver } from '../auth/derive.ts'
import { type IdentMap, mayBe } from '../auth/hba.ts'
import type { SecretLookup } from '../auth/lookup.ts'
import type { MethodChoice } from '../auth/rules.ts'
import { SCRAM, SCRAM_PLUS, ScramServer } from '../auth/scram.ts'
import { type Secret, type ServerSecret, serverSecretOf } from '../auth/secret.ts'
import {
  exchangeFor,
  isPassword,
  md5Proof,
  type VerifierSeed,
  verifierFor,
} from '../auth/verify.ts'
import { ProxyError } from '../base/errors.ts'
import { freshBytes } from '../base/random.ts'
import type { Channel } from '../net/channel.ts'
import { certificateVerdict } from '../net/tls.ts'
import { HEADER_BYTES, PASSWORD } from '../wire/frame.ts'
import * as welcome from '../wire/welcome.ts'

export interface Claim {
  readonly user: string
  readonly database: string
}

export interface AuthenticationContext {
  readonly lookup: SecretLookup
  readonly deriver: KeyDeriver
  readonly seed: VerifierSeed
  readonly identMap: IdentMap
  /** tls-server-end-point of our certificate where the client came over TLS, else null. */
  readonly binding: Buffer | null
  readonly messageBytesMax: number
}

const MD5_SALT_BYTES = 4
const SASL_REQUEST = welcome.authenticationSasl([SCRAM])
const SASL_REQUEST_BINDING = welcome.authenticationSasl([SCRAM_PLUS, SCRAM])

/**
 * Lets the client prove that it is `claim.user`.
 *
 * Returns what can be used to log in to servers as this user.
 * Errors  ProxyError of the log-in rows; nothing is sent for it here.
 */
export async function authenticate(
  channel: Channel,
  claim: Claim,
  { method, map }: MethodChoice,
  context: AuthenticationContext,
): Promise<ServerSecret> {
  switch (method) {
    case 'trust':
      return trust(claim, context)
    case 'cert':
      return certificate(channel, claim, map, context)
    case 'plain':
    case 'md5':
    case 'scram-sha-256':
      return password(channel, claim, method, context)
    // Node cannot ask the kernel who is behind a Unix socket (SO_PEERCRED).
    case 'peer':
      throw new ProxyError('unix_login_rejected')
    case 'reject':
      throw new ProxyError('login_rejected')
    default:
      return method satisfies never
  }
}

/** The user must exist, as in PgBouncer. */
async function trust(claim: Claim, context: AuthenticationContext): Promise<ServerSecret> {
  const secret = await context.lookup.find(claim.user, claim.database)
  if (secret === null) throw new ProxyError('trust_failed')
  return serverSecretOf(secret)
}

async function certificate(
  channel: Channel,
  { user, database }: Claim,
  map: string | null,
  { identMap, lookup }: AuthenticationContext,
): Promise<ServerSecret> {
  const { tls } = channel
  if (tls === null || certificateVerdict(tls) !== 'certified')
    throw new ProxyError('certificate_failed', {}, new Error('no certificate that can be believed'))
  const systemUser = certificateName(tls.getPeerCertificate())
  if (systemUser === null || !mayBe(identMap, map, { systemUser, user }))
    throw new ProxyError('certificate_failed', {}, new Error('the certificate names somebody else'))
  const secret = await lookup.find(user, database)
  if (secret === null) throw new ProxyError('certificate_failed', {}, new Error('no such user'))
  return serverSecretOf(secret)
}

async function password(
  channel: Channel,
  claim: Claim,
  method: 'plain' | 'md5' | 'scram-sha-256',
  context: AuthenticationContext,
): Promise<ServerSecret> {
  const secret = await context.lookup.find(claim.user, claim.database)
  try {
    const kind = exchangeFor(method, secret, context.lookup.usualKind)
    return await EXCHANGES[kind](channel, claim, secret, context)
  } catch (error) {
    // A remembered secret may be older than the user's new password.
    if (error instanceof ProxyError && error.sqlstate === '28P01') context.lookup.forget(claim.user)
    throw error
  }
}

async function plainExchange(
  channel: Channel,
  { user }: Claim,
  secret: Secret | null,
  { deriver, lookup, messageBytesMax }: AuthenticationContext,
): Promise<ServerSecret> {
  channel.write(welcome.authenticationCleartextPassword())
  const text = await readPassword(channel, messageBytesMax)
  const { usualKind } = lookup
  if (!(await isPassword(text, user, { secret, usualKind, deriver })))
    throw new ProxyError('password_failed')
  return { kind: 'plain', password: text }
}

async function md5Exchange(
  channel: Channel,
  { user }: Claim,
  secret: Secret | null,
  { messageBytesMax }: AuthenticationContext,
): Promise<ServerSecret> {
  const salt = freshBytes(MD5_SALT_BYTES)
  channel.write(welcome.authenticationMd5Password(salt))
  const response = await readPassword(channel, messageBytesMax)
  const proved = md5Proof(response, user, { secret, salt })
  if (proved === null) throw new ProxyError('password_failed')
  return proved
}

async function scramExchange(
  channel: Channel,
  { user }: Claim,
  secret: Secret | null,
  { binding, deriver, seed, messageBytesMax }: AuthenticationContext,
): Promise<ServerSecret> {
  const known = await verifierFor(user, secret, { seed, deriver })
  channel.write(binding === null ? SASL_REQUEST : SASL_REQUEST_BINDING)
  const { mechanism, response } = initialResponse(await readMessage(channel, messageBytesMax))
  if (mechanism !== SCRAM && (mechanism !== SCRAM_PLUS || binding === null))
    throw new ProxyError('sasl_mechanism')
  const scram = new ScramServer({ ...known, mechanism, binding })
  channel.write(welcome.authenticationSaslContinue(scram.challenge(response)))
  const final = await readMessage(channel, messageBytesMax)
  const { serverFinal, keys } = scram.verify(final.toString('utf8'))
  // What comes next, the welcome or an error, goes in the same piece.
  channel.hold(welcome.authenticationSaslFinal(serverFinal))
  return secret?.kind === 'plain' ? secret : keys
}

const EXCHANGES = { plain: plainExchange, md5: md5Exchange, scram: scramExchange } as const

/** `mechanism, zero byte, Int32 length or -1, response` */
function initialResponse(body: Buffer): { mechanism: string; response: string } {
  const end = body.indexOf(0)
  if (end < 0 || body.length < end + 5) throw new ProxyError('broken_message', { message: 'SASL' })
  const length = body.readInt32BE(end + 1)
  const response = body.subarray(end + 5)
  if (length !== response.length) throw new ProxyError('broken_message', { message: 'SASL' })
  return { mechanism: body.toString('latin1', 0, end), response: response.toString('utf8') }
}

/** A password: one string that ends where the message ends. */
async function readPassword(channel: Channel, bytesMax: number): Promise<string> {
  const body = await readMessage(channel, bytesMax)
  if (body.length === 0 || body.indexOf(0) !== body.length - 1)
    throw new ProxyError('broken_message', { message: 'password' })
  if (body.length === 1) throw new ProxyError('empty_password')
  return body.toString('utf8', 0, body.length - 1)
}

/** The body of the next message, which must be of type `p` and is bounded before it is read. */
async function readMessage(channel: Channel, bytesMax: number): Promise<Buffer> {
  const head = await channel.read(HEADER_BYTES)
  if (head[0] !== PASSWORD) throw new ProxyError('unknown_message')
  const length = head.readInt32BE(1)
  if (length < 4) throw new ProxyError('bad_header', { bytes: head.toString('hex') })
  if (length > bytesMax) throw new ProxyError('password_too_long')
  return length === 4 ? Buffer.alloc(0) : channel.read(length - 4)
}
