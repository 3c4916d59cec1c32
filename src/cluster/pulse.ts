/**
 * When the watcher decides: at all news, and ten times a second for what only time changes.
 *
 * Timers run before what came over the network is read, and that is read in any order. Where this
 * process did not run for a while all of it is heard before age is held against anything.
 */
import type { Clock, Timer } from '../base/clock.ts'

const TICK_MS = 100
/** Nothing was decided for so long: this process did not run. */
const LATE_MS = 500
/** So long it listens then, before it decides. */
const LISTEN_MS = 20

export class Pulse {
  readonly #clock: Clock
  readonly #decide: (isNews: boolean) => void
  #ticks: Timer | null = null
  #decidedMs: number
  /** What came while it listens. */
  #unheard: { isNews: boolean } | null = null

  /** `decide` is told whether there is news: a sample or a view, not just time. */
  constructor(clock: Clock, decide: (isNews: boolean) => void) {
    this.#clock = clock
    this.#decide = decide
    this.#decidedMs = clock.nowMs()
  }

  start(): void {
    this.#ticks = this.#clock.every(TICK_MS, () => this.beat(false))
  }

  stop(): void {
    this.#ticks?.cancel()
    this.#ticks = null
  }

  /** Decides, or after a standstill listens first. */
  beat(isNews: boolean): void {
    if (this.#unheard !== null) {
      this.#unheard.isNews ||= isNews
      return
    }
    if (this.#clock.nowMs() - this.#decidedMs <= LATE_MS) {
      this.beatNow(isNews)
      return
    }
    const unheard = { isNews }
    this.#unheard = unheard
    this.#clock.after(LISTEN_MS, () => {
      if (this.#unheard === unheard && this.#ticks !== null) this.beatNow(unheard.isNews)
    })
  }

  /** Decides whatever is unheard yet. */
  beatNow(isNews: boolean): void {
    this.#unheard = null
    this.#decidedMs = this.#clock.nowMs()
    this.#decide(isNews)
  }
}
