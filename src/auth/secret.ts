/**
 * What is stored about a user and what can be used to log in to a server, as values. It parses the
 * three forms of PgBouncer's auth_file (plain, `md5...`, `SCRAM-SHA-256$...`), which are also what
 * `pg_authid.rolpassword` holds; it proves nothing.
 */

/** What a server keeps of a SCRAM password (RFC 5802, section 3). Both keys have 32 bytes. */
export interface ScramVerifier {
  readonly iterations: number
  readonly salt: Buffer
  readonly storedKey: Buffer
  readonly serverKey: Buffer
}

export interface PlainSecret {
  readonly kind: 'plain'
  readonly password: string
}

/** What is known about a user: enough to check a client's proof. */
export type Secret =
  | PlainSecret
  | { readonly kind: 'md5'; readonly hash: string }
  | { readonly kind: 'scram'; readonly verifier: ScramVerifier }

/** The keys that a client's own proof gave away: enough to log in to any physical copy. */
export interface ScramKeys {
  readonly kind: 'scram'
  readonly clientKey: Buffer
  readonly serverKey: Buffer
  readonly salt: Buffer
  readonly iterations: number
}

/** What can be used to log in to servers as a user. `hash` is `md5` and 32 hexadecimal digits. */
export type ServerSecret =
  | { readonly kind: 'none' }
  | PlainSecret
  | { readonly kind: 'md5'; readonly hash: string }
  | ScramKeys

export const KEY_BYTES = 32
const SALT_BYTES_MAX = 1024
const ITERATIONS_MAX = 2 ** 31 - 1

const MD5 = /^md5[0-9a-fA-F]{32}$/
const SCRAM = /^SCRAM-SHA-256\$(\d{1,10}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)$/
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

/**
 * Reads a stored secret. What is neither an md5 nor a SCRAM secret is a plain password, as in
 * PgBouncer and PostgreSQL (get_password_type in src/backend/libpq/crypt.c).
 */
export function parseSecret(raw: string): Secret {
  if (MD5.test(raw)) return { kind: 'md5', hash: `md5${raw.slice(3).toLowerCase()}` }
  const verifier = parseVerifier(raw)
  return verifier === null ? { kind: 'plain', password: raw } : { kind: 'scram', verifier }
}

/**
 * What a stored secret lets us do at a server when the client proved nothing (forced users, trust).
 * A SCRAM verifier alone cannot log in.
 */
export function serverSecretOf(secret: Secret | null): ServerSecret {
  if (secret === null || secret.kind === 'scram') return { kind: 'none' }
  return secret
}

/** Base64 as RFC 4648 writes it, or null: Node's own decoder skips what it does not know. */
export function decodeBase64(text: string): Buffer | null {
  return BASE64.test(text) ? Buffer.from(text, 'base64') : null
}

function parseVerifier(raw: string): ScramVerifier | null {
  const [, rounds, salt, stored, server] = SCRAM.exec(raw) ?? []
  if (rounds === undefined || salt === undefined) return null
  const iterations = Number(rounds)
  const saltBytes = decodeBase64(salt)
  const storedKey = decodeBase64(stored ?? '')
  const serverKey = decodeBase64(server ?? '')
  if (saltBytes === null || saltBytes.length === 0 || saltBytes.length > SALT_BYTES_MAX) return null
  if (storedKey?.length !== KEY_BYTES || serverKey?.length !== KEY_BYTES) return null
  if (iterations < 1 || iterations > ITERATIONS_MAX) return null
  return { iterations, salt: saltBytes, storedKey, serverKey }
}
