/**
 * What one session adds to the counters of its worker: waits, queries, transactions, bytes. Each moment of
 * a query is counted once: as its wait, until a server that answers it has it, or as its duration.
 */
import type { Clock } from '../base/clock.ts'
import type { ProxyError } from '../base/errors.ts'
import { observeMs } from '../base/histogram.ts'
import type { ClientCounters, Durations } from './counters.ts'
import type { DatabaseStats } from './facts.ts'

type Role = 'primary' | 'replica' | 'plain'

export class Meter {
  readonly stats: DatabaseStats
  /** Monotonic: the begin of the query under way, 0 when none is. */
  queryStartedMs = 0
  /** Of the query that was answered last. */
  lastQueryMs = 0
  /** The query under way has spent so long with servers that did not answer it. */
  #vainMs = 0
  readonly #database: string
  readonly #counters: ClientCounters
  readonly #clock: Clock
  /** Those of the role that was used last. */
  #durations: Durations | null = null
  #durationsRole: Role = 'plain'

  constructor(database: string, counters: ClientCounters, clock: Clock) {
    this.stats = counters.stats(database)
    this.#database = database
    this.#counters = counters
    this.#clock = clock
  }

  granted(role: Role, waitedMs: number): void {
    const waitMs = waitedMs + this.#vainMs
    this.#vainMs = 0
    this.stats.serverAssignments += 1
    this.stats.waitMs += waitMs
    observeMs(this.#of(role).queue, waitMs)
  }

  sent(): void {
    if (this.queryStartedMs === 0) this.queryStartedMs = this.#clock.nowMs()
  }

  /** A query was answered; `isOwed`: the next one is under way already. */
  answered(role: Role, isOwed: boolean, nowMs: number): void {
    const durationMs = nowMs - this.queryStartedMs
    // By a server that its session had kept: nobody granted one.
    this.stats.waitMs += this.#vainMs
    this.#vainMs = 0
    this.stats.queries += 1
    this.stats.queryMs += durationMs
    observeMs(this.#of(role).query, durationMs)
    this.lastQueryMs = durationMs
    this.queryStartedMs = isOwed ? nowMs : 0
  }

  /** `startedMs`: of the transaction, 0 for one of the statement that was answered last. */
  ended(startedMs: number, nowMs: number): void {
    this.stats.transactions += 1
    this.stats.transactionMs += startedMs === 0 ? this.lastQueryMs : nowMs - startedMs
  }

  /** The query under way goes once more, to another server. */
  again(reason: string): void {
    this.routed(reason)
    if (this.queryStartedMs !== 0) this.#vainMs += this.#clock.nowMs() - this.queryStartedMs
    this.queryStartedMs = 0
  }

  /** The query under way is not answered by a server any more. */
  gaveUp(): void {
    this.queryStartedMs = 0
    this.#vainMs = 0
  }

  /** We answered a query ourselves. */
  answeredLocally(isEnd: boolean): void {
    this.stats.queries += 1
    if (isEnd) this.stats.transactions += 1
  }

  routed(reason: string): void {
    this.#counters.routes.add(reason)
  }

  healed(sqlstate: string): void {
    this.#counters.healed.add(sqlstate)
  }

  failed(sqlstate: string): void {
    this.#counters.errors.add(sqlstate)
  }

  refused(error: ProxyError): void {
    this.#vainMs = 0
    this.#counters.errors.add(error.sqlstate)
    if (error.code === 'no_primary') this.#counters.holdsExpired += 1
  }

  /** It waits for a primary. */
  held(): void {
    this.#counters.holdsStarted += 1
  }

  cancelled(): void {
    this.#counters.cancelsForwarded += 1
  }

  #of(role: Role): Durations {
    if (this.#durations === null || this.#durationsRole !== role) {
      this.#durations = this.#counters.durations(this.#database, role)
      this.#durationsRole = role
    }
    return this.#durations
  }
}
