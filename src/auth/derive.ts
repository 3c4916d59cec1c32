/**
 * SCRAM's key derivation, off the event loop, with a bounded memory of results: a pool that opens
 * fifty servers as one user pays for one PBKDF2. Passwords are not kept, only their salted hashes
 * under a key that no one else can compute.
 */
import { createHash, createHmac, pbkdf2, randomBytes } from 'node:crypto'
import { invariant } from '../base/invariant.ts'
import { saslprep } from './saslprep.ts'
import { KEY_BYTES, type ScramVerifier } from './secret.ts'

/** Salted passwords remembered; each is 32 bytes and its key. */
const CACHE_ENTRIES_MAX = 4096
const MOCK_SALT_BYTES = 16

export interface DerivedKeys {
  readonly clientKey: Buffer
  readonly storedKey: Buffer
  readonly serverKey: Buffer
}

export class KeyDeriver {
  readonly #cacheKey = randomBytes(KEY_BYTES)
  readonly #entriesMax: number
  /** In order of last use. */
  readonly #salted = new Map<string, Promise<Buffer>>()

  constructor(entriesMax: number = CACHE_ENTRIES_MAX) {
    invariant(entriesMax > 0, 'the key cache holds at least one entry')
    this.#entriesMax = entriesMax
  }

  get entries(): number {
    return this.#salted.size
  }

  /**
   * Derives the keys of a password.
   *
   * Cost    one PBKDF2 on the thread pool unless remembered; callers at the same time share it.
   */
  async keys(password: string, salt: Buffer, iterations: number): Promise<DerivedKeys> {
    const prepared = saslprep(password)
    const id = createHmac('sha256', this.#cacheKey)
      .update(`${iterations}:${salt.toString('base64')}:${prepared}`)
      .digest('base64')
    const salted = this.#salted.get(id) ?? this.#derive(id, prepared, { salt, iterations })
    this.#salted.delete(id)
    this.#salted.set(id, salted)
    return keysOf(await salted)
  }

  /** A verifier for a plain password, with a salt that depends on `seed` and `user` only. */
  async verifier(
    password: string,
    user: string,
    { seed, iterations }: { readonly seed: Buffer; readonly iterations: number },
  ): Promise<ScramVerifier> {
    const salt = mockSalt(seed, user)
    const { storedKey, serverKey } = await this.keys(password, salt, iterations)
    return { iterations, salt, storedKey, serverKey }
  }

  #derive(
    id: string,
    password: string,
    { salt, iterations }: { readonly salt: Buffer; readonly iterations: number },
  ): Promise<Buffer> {
    const salted = new Promise<Buffer>((resolve, reject) => {
      pbkdf2(password, salt, iterations, KEY_BYTES, 'sha256', (error, key) => {
        if (error === null) resolve(key)
        else reject(error)
      })
    })
    salted.catch(() => this.#salted.delete(id))
    const [oldest] = this.#salted.keys()
    if (this.#salted.size >= this.#entriesMax && oldest !== undefined) this.#salted.delete(oldest)
    return salted
  }
}

/**
 * A verifier that no password satisfies, for users that do not exist: the same salt at every
 * attempt and in every worker that shares `seed`, so that it cannot be told from a real one.
 *
 * Source  mock_scram_secret in src/backend/libpq/auth-scram.c.
 */
export function mockVerifier(seed: Buffer, user: string, iterations: number): ScramVerifier {
  return {
    iterations,
    salt: mockSalt(seed, user),
    storedKey: randomBytes(KEY_BYTES),
    serverKey: randomBytes(KEY_BYTES),
  }
}

/** RFC 5802, section 3. */
export function keysOf(saltedPassword: Buffer): DerivedKeys {
  const clientKey = hmac(saltedPassword, 'Client Key')
  return { clientKey, storedKey: sha256(clientKey), serverKey: hmac(saltedPassword, 'Server Key') }
}

export function hmac(key: Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest()
}

export function sha256(bytes: Buffer): Buffer {
  return createHash('sha256').update(bytes).digest()
}

function mockSalt(seed: Buffer, user: string): Buffer {
  return hmac(seed, `salt of ${user}`).subarray(0, MOCK_SALT_BYTES)
}
