/**
 * A clock that stands still until a test moves it. Timers run in order of their time, those of the
 * same time in order of their making.
 */
import type { Clock, Timer } from '../../src/base/clock.ts'

interface Pending {
  readonly sequence: number
  readonly run: () => void
  readonly periodMs: number | null
  atMs: number
}

/** The wall clock reads this much more than the monotonic one. */
const WALL_OFFSET_MS = 1_700_000_000_000

export class FakeClock implements Clock {
  #nowMs: number
  #sequence = 0
  readonly #pending = new Set<Pending>()

  constructor(startMs = 1000) {
    this.#nowMs = startMs
  }

  nowMs(): number {
    return this.#nowMs
  }

  wallMs(): number {
    return WALL_OFFSET_MS + this.#nowMs
  }

  /** Timers that are set. */
  get timers(): number {
    return this.#pending.size
  }

  after(delayMs: number, run: () => void): Timer {
    return this.#add(delayMs, run, null)
  }

  every(periodMs: number, run: () => void): Timer {
    return this.#add(periodMs, run, periodMs)
  }

  /** Moves time on, running what falls due at its own time. */
  advance(ms: number): void {
    const untilMs = this.#nowMs + ms
    for (let next = this.#next(untilMs); next !== null; next = this.#next(untilMs)) {
      this.#nowMs = Math.max(this.#nowMs, next.atMs)
      if (next.periodMs === null) this.#pending.delete(next)
      else next.atMs += next.periodMs
      next.run()
    }
    this.#nowMs = untilMs
  }

  /**
   * The process did not run for so long: what fell due meanwhile runs once, now. What others did
   * meanwhile has to be arranged before.
   */
  stall(ms: number): void {
    this.#nowMs += ms
    for (const pending of this.#pending) pending.atMs = Math.max(pending.atMs, this.#nowMs - 1)
    this.advance(0)
  }

  #next(untilMs: number): Pending | null {
    let first: Pending | null = null
    for (const pending of this.#pending) {
      if (pending.atMs > untilMs) continue
      const isEarlier =
        first === null ||
        pending.atMs < first.atMs ||
        (pending.atMs === first.atMs && pending.sequence < first.sequence)
      if (isEarlier) first = pending
    }
    return first
  }

  #add(delayMs: number, run: () => void, periodMs: number | null): Timer {
    this.#sequence += 1
    const pending: Pending = {
      sequence: this.#sequence,
      run,
      periodMs,
      atMs: this.#nowMs + Math.max(0, delayMs),
    }
    this.#pending.add(pending)
    return { cancel: () => this.#pending.delete(pending) }
  }
}
