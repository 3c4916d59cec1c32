/**
 * The second witness while the store is silent, or while the primary's Patroni cannot reach it:
 * REST `/primary` on the last verified primary. 200 proves that its Patroni held the lock, or passed
 * the failsafe check, within the last ttl; `failsafe_mode_is_active` in the answer, that it was the
 * check. It never makes a primary; it only lets a verified one go on.
 * Source: do_GET and get_postgresql_status in patroni/api.py, _handle_dcs_error in patroni/ha.py.
 */
import type { Clock, Timer } from '../base/clock.ts'
import { isObject } from './keys.ts'
import type { Rest } from './rest.ts'

const PERIOD_MS = 1000

/** What Patroni said for a member. */
export interface Word {
  readonly name: string
  /** When the question was sent. */
  readonly atMs: number
  /** Within the last ttl all members answered it, while it could not reach the store. */
  readonly isFailsafe: boolean
}

export class Witness {
  readonly #clock: Clock
  readonly #rest: Pick<Rest, 'json'>
  #asked: { name: string; url: string } | null = null
  #timer: Timer | null = null
  /** The last answer that was 200. */
  last: Word | null = null

  /** `rest` has a deadline of its own, which bounds how many questions are under way. */
  constructor(clock: Clock, rest: Pick<Rest, 'json'>) {
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
    const atMs = this.#clock.nowMs()
    const answer = await this.#rest.json(`${asked.url}/primary`).catch(() => null)
    if (!isObject(answer)) return
    const isFailsafe = answer['failsafe_mode_is_active'] === true
    if (this.last === null || atMs >= this.last.atMs)
      this.last = { name: asked.name, atMs, isFailsafe }
  }
}
