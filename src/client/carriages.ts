/**
 * The carriages of one worker: one timer looks after them while there are any, and what is gathered for
 * their servers goes out at the end of a turn of the event loop, once per server.
 */
import type { Clock, Timer } from '../base/clock.ts'
import type { Carriage } from './carriage.ts'

/** How often it is looked whether the first of one is late. */
export const WATCH_MS = 10

/** Calls at the end of this turn of the event loop. */
type Later = (run: () => void) => unknown

export class Carriages {
  readonly #clock: Clock
  readonly #later: Later
  readonly #all = new Set<Carriage>()
  #timer: Timer | null = null
  readonly #due: Carriage[] = []
  #isFlushDue = false

  constructor(clock: Clock, later: Later = setImmediate) {
    this.#clock = clock
    this.#later = later
  }

  get size(): number {
    return this.#all.size
  }

  /** Sessions that ride now. */
  get riders(): number {
    let count = 0
    for (const carriage of this.#all) count += carriage.count
    return count
  }

  add(carriage: Carriage): void {
    this.#all.add(carriage)
    this.#timer ??= this.#clock.every(WATCH_MS, () => this.#watch())
  }

  remove(carriage: Carriage): void {
    this.#all.delete(carriage)
    if (this.#all.size > 0) return
    this.#timer?.cancel()
    this.#timer = null
  }

  /** What was gathered for it is sent at the end of this turn. */
  flushLater(carriage: Carriage): void {
    if (carriage.isFlushDue) return
    carriage.isFlushDue = true
    this.#due.push(carriage)
    if (this.#isFlushDue) return
    this.#isFlushDue = true
    this.#later(this.#flush)
  }

  readonly #flush = (): void => {
    this.#isFlushDue = false
    for (let carriage = this.#due.pop(); carriage !== undefined; carriage = this.#due.pop()) {
      carriage.isFlushDue = false
      carriage.flush()
    }
  }

  #watch(): void {
    const nowMs = this.#clock.nowMs()
    for (const carriage of this.#all) carriage.watch(nowMs)
  }
}
