/**
 * Our own cancel keys. A key names the worker that gave it out, so that a cancel request that the
 * kernel handed to another worker finds its way.
 *
 *     process id   | worker 7 bits | serial 24 bits |
 *     secret       random: 4 bytes up to protocol 3.1, 32 from 3.2 on
 */
import { randomBytes, timingSafeEqual } from 'node:crypto'

const SERIAL_BITS = 24
const SERIAL_MAX = 2 ** SERIAL_BITS - 1
const SECRET_BYTES = 4
const LONG_SECRET_BYTES = 32

export interface CancelKey {
  readonly processId: number
  readonly secret: Buffer
}

export class CancelKeys<T> {
  readonly #worker: number
  readonly #holders = new Map<number, { readonly secret: Buffer; readonly holder: T }>()
  #serial = 0

  /** Shape: `worker` from 0 to 127. */
  constructor(worker: number) {
    this.#worker = worker
  }

  give(holder: T, protocolMinor: number): CancelKey {
    const secret = randomBytes(protocolMinor >= 2 ? LONG_SECRET_BYTES : SECRET_BYTES)
    do {
      this.#serial = this.#serial === SERIAL_MAX ? 1 : this.#serial + 1
    } while (this.#holders.has(this.#processId()))
    const processId = this.#processId()
    this.#holders.set(processId, { secret, holder })
    return { processId, secret }
  }

  take(key: CancelKey): void {
    this.#holders.delete(key.processId)
  }

  /** Who holds this key, or undefined. */
  find(processId: number, secret: Buffer): T | undefined {
    const entry = this.#holders.get(processId)
    if (entry === undefined || entry.secret.length !== secret.length) return undefined
    return timingSafeEqual(entry.secret, secret) ? entry.holder : undefined
  }

  #processId(): number {
    return this.#worker * (SERIAL_MAX + 1) + this.#serial
  }
}

/** The worker whose key this is. */
export function workerOf(processId: number): number {
  return Math.floor(processId / (SERIAL_MAX + 1))
}
