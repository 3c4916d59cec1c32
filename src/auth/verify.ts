/**
 * Which exchange a client must pass, and whether a password that it sent is right. Decisions over
 * values: the exchange itself is client/authentication.ts, SCRAM's is scram.ts.
 */
import { timingSafeEqual } from 'node:crypto'
import { type KeyDeriver, mockVerifier, sha256 } from './derive.ts'
import { md5Hash, md5Response } from './md5.ts'
import type { ScramVerifier, Secret, ServerSecret } from './secret.ts'

export type Exchange = 'plain' | 'md5' | 'scram'

/**
 * The exchange under `auth_type`: md5 becomes SCRAM where the secret is SCRAM, and a user who does
 * not exist (null) is asked what most users are asked.
 */
export function exchangeFor(
  method: 'plain' | 'md5' | 'scram-sha-256',
  secret: Secret | null,
  usualKind: 'md5' | 'scram',
): Exchange {
  if (method === 'plain') return 'plain'
  if (method === 'scram-sha-256') return 'scram'
  if (secret === null) return usualKind
  return secret.kind === 'scram' ? 'scram' : 'md5'
}

export interface VerifierSeed {
  readonly seed: Buffer
  /** For secrets made from plain passwords (`scram_iterations`). */
  readonly iterations: number
}

/**
 * What SCRAM checks against. An md5 hash cannot serve SCRAM, and no secret serves nobody: both get
 * a verifier that refuses every proof, after the same exchange.
 */
export async function verifierFor(
  user: string,
  secret: Secret | null,
  { seed, deriver }: { readonly seed: VerifierSeed; readonly deriver: KeyDeriver },
): Promise<{ readonly verifier: ScramVerifier; readonly isMock: boolean }> {
  if (secret?.kind === 'scram') return { verifier: secret.verifier, isMock: false }
  if (secret?.kind === 'plain')
    return { verifier: await deriver.verifier(secret, user, seed), isMock: false }
  return { verifier: mockVerifier(seed.seed, user, seed.iterations), isMock: true }
}

/** Any salt: what is derived with it is thrown away. */
const NOBODYS_SALT = Buffer.alloc(16)
const NOBODYS_ITERATIONS = 4096

export interface PasswordCheck {
  readonly secret: Secret | null
  readonly usualKind: 'md5' | 'scram'
  readonly deriver: KeyDeriver
}

/** Whether `password`, sent in clear, is the user's. Costs for nobody what it costs for most. */
export async function isPassword(
  password: string,
  user: string,
  { secret, usualKind, deriver }: PasswordCheck,
): Promise<boolean> {
  if (secret === null) {
    if (usualKind === 'scram') await deriver.keys(password, NOBODYS_SALT, NOBODYS_ITERATIONS)
    return false
  }
  if (secret.kind === 'plain') return isEqual(password, secret.password)
  if (secret.kind === 'md5') return isEqual(md5Hash(password, user), secret.hash)
  const { salt, iterations, storedKey } = secret.verifier
  const keys = await deriver.keys(password, salt, iterations)
  return timingSafeEqual(keys.storedKey, storedKey)
}

/** Whether `response` answers an md5 challenge; what it proves can log in to servers. */
export function md5Proof(
  response: string,
  user: string,
  { secret, salt }: { readonly secret: Secret | null; readonly salt: Buffer },
): ServerSecret | null {
  if (secret === null || secret.kind === 'scram') return null
  const hash = secret.kind === 'plain' ? md5Hash(secret.password, user) : secret.hash
  return isEqual(response, md5Response(hash, salt)) ? secret : null
}

/** Compares texts without telling by time where they differ. */
function isEqual(left: string, right: string): boolean {
  return timingSafeEqual(sha256(Buffer.from(left)), sha256(Buffer.from(right)))
}
