/**
 * Our own cancel keys. A key names the instance and the worker that gave it out, so that a cancel
 * request that reached another one finds its way. The layout is PgBouncer's, so that instances of
 * both can be peers; only the worker is ours, and only its own instance reads it.
 *
 *     byte 0      0, random bits, the worker in as few bits as the number of workers needs
 *     byte 1, 2   number of the instance, low byte first; 0 = it has none
 *     byte 3      random, and so on
 *     byte 7      random, but for the low 2 bits: how often the request may be passed on
 *
 * Bytes 0 to 3 are the process id, the rest is the secret: 4 bytes up to protocol 3.1, 32 from 3.2
 * on. What has come of a request is not known here. Source: welcome_client in PgBouncer's
 * src/client.c and accept_cancel_request in its src/objects.c.
 */
import { timingSafeEqual } from 'node:crypto'
import { freshBytes } from '../base/random.ts'

const SECRET_BYTES = 4
const LONG_SECRET_BYTES = 32
/** Where the hops are, in the secret. */
const HOPS_AT = 3
const HOPS_MASK = 0b11

export interface CancelKey {
  readonly processId: number
  readonly secret: Buffer
}

interface Entry<T> {
  readonly secret: Buffer
  readonly holder: T
}

/**
 * Numbers that the workers of an instance may have: one more than serve, since a successor is there
 * before the worker whose place it takes is gone.
 */
export function workerSlots(workers: number): number {
  return workers + 1
}

/** The keys that one worker has given out. */
export class CancelKeys<T> {
  readonly #worker: number
  readonly #workerBits: number
  /** Process ids have 15 random bits: a few holders may share one. */
  readonly #entries = new Map<number, Entry<T>[]>()

  /** Shape: `worker` from 0 to `workers` - 1, of at most 128. */
  constructor(worker: number, workers: number) {
    this.#worker = worker
    this.#workerBits = bitsFor(workers)
  }

  /** `instance` from 0 to 16383. */
  give(holder: T, protocolMinor: number, instance: number): CancelKey {
    let key = this.#make(protocolMinor, instance)
    while (key.processId === 0 || this.find(key) !== undefined)
      key = this.#make(protocolMinor, instance)
    const same = this.#entries.get(key.processId)
    const entry = { secret: key.secret, holder }
    if (same === undefined) this.#entries.set(key.processId, [entry])
    else same.push(entry)
    return key
  }

  take({ processId, secret }: CancelKey): void {
    const left = this.#entries.get(processId)?.filter((entry) => !entry.secret.equals(secret)) ?? []
    if (left.length === 0) this.#entries.delete(processId)
    else this.#entries.set(processId, left)
  }

  /** Who holds this key, however often it was passed on, or undefined. */
  find(key: CancelKey): T | undefined {
    const secret = withHops(key.secret, HOPS_MASK)
    for (const entry of this.#entries.get(key.processId) ?? [])
      if (entry.secret.length === secret.length && timingSafeEqual(entry.secret, secret))
        return entry.holder
    return undefined
  }

  #make(protocolMinor: number, instance: number): CancelKey {
    const id = freshBytes(4)
    id[0] = ((id[0] ?? 0) & 0x7f & ~((1 << this.#workerBits) - 1)) | this.#worker
    id.writeUInt16LE(instance, 1)
    const secret = freshBytes(protocolMinor >= 2 ? LONG_SECRET_BYTES : SECRET_BYTES)
    return { processId: id.readUInt32BE(0), secret: withHops(secret, HOPS_MASK) }
  }
}

/** The instance that gave out this key; 0 = it had no number, and only it knows the key. */
export function instanceOf({ processId }: CancelKey): number {
  const id = Buffer.alloc(4)
  id.writeUInt32BE(processId)
  return id.readUInt16LE(1)
}

/** The worker of its instance, which has `workers`, that gave out this key. */
export function workerOf({ processId }: CancelKey, workers: number): number {
  return (processId >>> 24) & ((1 << bitsFor(workers)) - 1)
}

/** The key as the next instance gets it, or null when it was passed on often enough. */
export function passedOn({ processId, secret }: CancelKey): CancelKey | null {
  const hops = (secret[HOPS_AT] ?? 0) & HOPS_MASK
  return hops === 0 ? null : { processId, secret: withHops(secret, hops - 1) }
}

function withHops(secret: Buffer, hops: number): Buffer {
  const copy = Buffer.from(secret)
  if (copy.length > HOPS_AT) copy[HOPS_AT] = ((copy[HOPS_AT] ?? 0) & ~HOPS_MASK) | hops
  return copy
}

function bitsFor(workers: number): number {
  return 32 - Math.clz32(workers - 1)
}
