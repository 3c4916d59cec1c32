/**
 * The second witness while the store is silent: Patroni's REST `/primary` on the last verified
 * primary. 200 proves that its Patroni held the lock, or passed the failsafe check, within the last
 * ttl. It never makes a primary; it only lets a verified one go on.
 */
import type { Clock, Timer } from '../base/clock.ts'
import type { Rest } from './rest.ts'

const PERIOD_MS = 1000

export class Witness {
  readonly #clock: Clock
  readonly #rest: Pick<Rest, 'status'>
  #asked: { name: string; url: string } | null = null
  #timer: Timer | null = null
  /** The last time it answered 200, by when the question was sent. */
  last: { readonly name: string; readonly atMs: number } | null = null

  /** `rest` has a deadline of its own, no longer than the second between two questions. */
  constructor(clock: Clock, rest: Pick<Rest, 'status'>) {
    this.#clock = clock
    this.#rest = rest
  }

  /** Asks about this member from now on, once a second. `restUrl` null: nobody to ask. */
  ask(name: string, restUrl: string | null): void {
    if (restUrl === null) return this.rest()
    if (this.#asked?.name === name && this.#asked.url === restUrl) return
    this.#asked = { name, url: restUrl }
    this.#timer ??= this.#clock.every(PERIOD_MS, () => void this.#turn())
    void this.#turn()
  }

  /** Nobody needs a witness now. */
  rest(): void {
    this.#asked = null
    this.#timer?.cancel()
    this.#timer = null
  }

  stop(): void {
    this.rest()
  }

  async #turn(): Promise<void> {
    const asked = this.#asked
    if (asked === null) return
    const sentMs = this.#clock.nowMs()
    const status = await this.#rest.status(`${asked.url}/primary`)
    if (status === 200) this.last = { name: asked.name, atMs: sentMs }
  }
}
