/** Since when there is a primary, and how long there was none: two figures for people and metrics. */
import type { Clock } from './base/clock.ts'
import type { Topology } from './cluster/topology.ts'

export class Tenure {
  /** Milliseconds since 1970; null while there is none. */
  sinceWallMs: number | null = null
  readonly #clock: Clock
  #term: number
  #goneMs = 0
  #lostMs: number | null

  /** `topology`  what a control process before this one had told. */
  constructor(clock: Clock, { primary, term }: Topology) {
    this.#clock = clock
    this.#term = term
    this.#lostMs = primary === null ? clock.nowMs() : null
    if (primary !== null) this.sinceWallMs = clock.wallMs()
  }

  /** Without a primary, all in all. */
  get withoutMs(): number {
    return this.#goneMs + (this.#lostMs === null ? 0 : this.#clock.nowMs() - this.#lostMs)
  }

  note({ primary, term }: Topology): void {
    const isNew = this.#lostMs !== null || term !== this.#term
    this.#term = term
    if (primary === null) {
      this.sinceWallMs = null
      this.#lostMs ??= this.#clock.nowMs()
      return
    }
    if (isNew) this.sinceWallMs = this.#clock.wallMs()
    if (this.#lostMs !== null) this.#goneMs += this.#clock.nowMs() - this.#lostMs
    this.#lostMs = null
  }
}
