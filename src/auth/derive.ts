/**
 * SCRAM's key derivation, off the event loop, with a bounded memory of results: a pool that opens
 * fifty servers as one user pays for one PBKDF2. Passwords are not kept, only their keys under a
 * hash that no one else can compute.
 */
import { createHmac, createSecretKey, hash, type KeyObject, pbkdf2, randomBytes } from 'node:crypto'
import { invariant } from '../base/invariant.ts'
import { saslprep } from './saslprep.ts'
import { KEY_BYTES, type PlainSecret, type ScramVerifier } from './secret.ts'

/** Salted passwords remembered; each is 32 bytes and its key. */
const CACHE_ENTRIES_MAX = 4096
const MOCK_SALT_BYTES = 16
/** Of users that do not exist. What fits it is refused all the same. */
const NOBODYS_KEY = randomBytes(KEY_BYTES)
/** Node reads a key object at once, and bytes only after it has thrown two errors at itself. */
const keyObjects = new WeakMap<Buffer, KeyObject>()

interface Known {
  readonly user: string
  readonly seed: Buffer
  readonly verifier: ScramVerifier
}

export interface DerivedKeys {
  readonly clientKey: Buffer
  readonly storedKey: Buffer
  readonly serverKey: Buffer
}

export class KeyDeriver {
  readonly #cacheKey = randomBytes(KEY_BYTES)
  readonly #entriesMax: number
  /** In order of last use. */
  readonly #derived = new Map<string, Promise<DerivedKeys>>()
  /** As long as the secret is kept. */
  readonly #verifiers = new WeakMap<PlainSecret, Known>()

  constructor(entriesMax: number = CACHE_ENTRIES_MAX) {
    invariant(entriesMax > 0, 'the key cache holds at least one entry')
    this.#entriesMax = entriesMax
  }

  get entries(): number {
    return this.#derived.size
  }

  /**
   * Derives the keys of a password.
   *
   * Cost    one PBKDF2 on the thread pool unless remembered; callers at the same time share it.
   */
  async keys(password: string, salt: Buffer, iterations: number): Promise<DerivedKeys> {
    const prepared = saslprep(password)
    const id = hmac(
      this.#cacheKey,
      `${iterations}:${salt.toString('base64')}:${prepared}`,
    ).toString('base64')
    const keys = this.#derived.get(id) ?? this.#derive(id, prepared, { salt, iterations })
    this.#derived.delete(id)
    this.#derived.set(id, keys)
    return keys
  }

  /**
   * A verifier for a plain password, with a salt that depends on `seed` and `user` only.
   *
   * Cost    nothing but the first time for one and the same `secret`.
   */
  async verifier(
    secret: PlainSecret,
    user: string,
    { seed, iterations }: { readonly seed: Buffer; readonly iterations: number },
  ): Promise<ScramVerifier> {
    const known = this.#verifiers.get(secret)
    if (known?.user === user && known.verifier.iterations === iterations && known.seed === seed)
      return known.verifier
    const salt = mockSalt(seed, user)
    const { storedKey, serverKey } = await this.keys(secret.password, salt, iterations)
    const verifier = { iterations, salt, storedKey, serverKey }
    this.#verifiers.set(secret, { user, seed, verifier })
    return verifier
  }

  #derive(
    id: string,
    password: string,
    { salt, iterations }: { readonly salt: Buffer; readonly iterations: number },
  ): Promise<DerivedKeys> {
    const keys = new Promise<DerivedKeys>((resolve, reject) => {
      pbkdf2(password, salt, iterations, KEY_BYTES, 'sha256', (error, salted) => {
        if (error === null) resolve(keysOf(salted))
        else reject(error)
      })
    })
    keys.catch(() => this.#derived.delete(id))
    const [oldest] = this.#derived.keys()
    if (this.#derived.size >= this.#entriesMax && oldest !== undefined) this.#derived.delete(oldest)
    return keys
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
    storedKey: NOBODYS_KEY,
    serverKey: NOBODYS_KEY,
  }
}

/** RFC 5802, section 3. */
export function keysOf(saltedPassword: Buffer): DerivedKeys {
  const clientKey = hmac(saltedPassword, 'Client Key')
  return { clientKey, storedKey: sha256(clientKey), serverKey: hmac(saltedPassword, 'Server Key') }
}

/** HMAC-SHA-256. The bytes of `key` must never change: what is made of them is remembered. */
export function hmac(key: Buffer, text: string): Buffer {
  let object = keyObjects.get(key)
  if (object === undefined) {
    object = createSecretKey(key)
    keyObjects.set(key, object)
  }
  return createHmac('sha256', object).update(text).digest()
}

export function sha256(bytes: Buffer): Buffer {
  return hash('sha256', bytes, 'buffer')
}

function mockSalt(seed: Buffer, user: string): Buffer {
  return hmac(seed, `salt of ${user}`).subarray(0, MOCK_SALT_BYTES)
}
