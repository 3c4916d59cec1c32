/**
 * What the failover machine did, for people: the moves in the log, since when it is in its state and
 * writes are held, and how often it held, fenced, failed over and forgot. Decides nothing.
 */
import type { Log } from '../base/log.ts'
import type { Verified } from './evidence.ts'
import { type advance, type Failover, primaryOf } from './failover.ts'

type Moves = ReturnType<typeof advance>['taken']

export class Chronicle {
  readonly startedMs: number
  stateSinceMs: number
  /** Null while there is a primary. */
  holdSinceMs: number | null
  readonly counts = { holds: 1, failovers: 0, fences: 0, forgets: 0 }
  readonly #log: Log

  constructor(log: Log, nowMs: number) {
    this.#log = log
    this.startedMs = nowMs
    this.stateSinceMs = nowMs
    this.holdSinceMs = nowMs
  }

  /** The moves of one turn, from the primary that was verified `before` to the machine `after`. */
  note(moves: Moves, before: Verified | null, after: Failover, nowMs: number): void {
    if (moves.length === 0) return
    this.stateSinceMs = nowMs
    const { verified } = after.beliefs
    const differs = before?.name !== verified?.name || before?.timeline !== verified?.timeline
    for (const { effect, from, to, because, when } of moves) {
      if (effect === 'fence') this.counts.fences += 1
      if (effect === 'believe' && before !== null && differs) this.counts.failovers += 1
      this.#log.info({ from, to, because, term: after.term }, `failover: ${when}`)
    }
    this.#noteHold(primaryOf(after) !== null, nowMs)
  }

  /** RECONNECT, or another cluster behind the same name. */
  noteForgotten(why: string, verified: Verified | null): void {
    this.#log.warn({ why, verified }, 'terms, fences and timelines are forgotten')
    this.counts.forgets += 1
  }

  #noteHold(hasPrimary: boolean, nowMs: number): void {
    if (hasPrimary) this.holdSinceMs = null
    else if (this.holdSinceMs === null) {
      this.holdSinceMs = nowMs
      this.counts.holds += 1
    }
  }
}
