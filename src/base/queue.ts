/**
 * A first-in first-out queue with a bound and removal from the middle, both in constant time.
 *
 *     head -> [entry] <-> [entry] <-> [entry] <- tail
 */
import { invariant } from './invariant.ts'

interface Entry<T> {
  readonly value: T
  previous: Entry<T> | null
  next: Entry<T> | null
}

export class Queue<T> {
  readonly #lengthMax: number
  readonly #entries = new Map<T, Entry<T>>()
  #head: Entry<T> | null = null
  #tail: Entry<T> | null = null

  /** Units: `lengthMax` entries. */
  constructor(lengthMax: number) {
    invariant(lengthMax >= 0, 'a queue has a bound')
    this.#lengthMax = lengthMax
  }

  get length(): number {
    return this.#entries.size
  }

  get first(): T | undefined {
    return this.#head?.value
  }

  has(value: T): boolean {
    return this.#entries.has(value)
  }

  /** Returns false, and queues nothing, when the queue is full. */
  push(value: T): boolean {
    if (this.#entries.size >= this.#lengthMax) return false
    invariant(!this.#entries.has(value), 'a value is queued once')
    const entry: Entry<T> = { value, previous: this.#tail, next: null }
    if (this.#tail === null) this.#head = entry
    else this.#tail.next = entry
    this.#tail = entry
    this.#entries.set(value, entry)
    return true
  }

  shift(): T | undefined {
    const entry = this.#head
    if (entry === null) return undefined
    this.#unlink(entry)
    return entry.value
  }

  /** Returns false when the value was not queued. */
  remove(value: T): boolean {
    const entry = this.#entries.get(value)
    if (entry === undefined) return false
    this.#unlink(entry)
    return true
  }

  *[Symbol.iterator](): IterableIterator<T> {
    let entry = this.#head
    while (entry !== null) {
      const { next, value } = entry
      yield value
      entry = next
    }
  }

  #unlink(entry: Entry<T>): void {
    if (entry.previous === null) this.#head = entry.next
    else entry.previous.next = entry.next
    if (entry.next === null) this.#tail = entry.previous
    else entry.next.previous = entry.previous
    this.#entries.delete(entry.value)
  }
}
