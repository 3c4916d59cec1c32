/**
 * Averages of SHOW STATS: what happened since one to two `stats_period` ago, per second or per
 * thing. The control process gives it the totals once per period.
 *
 *     older ----- period ----- newer ----- now      averages are over [older, now]
 *
 * Source  refresh_stats and calc_average in PgBouncer's src/stats.c.
 */
import type { Clock } from '../base/clock.ts'
import { type DatabaseStats, emptyStats } from '../client/facts.ts'
import { addStats, combineStats } from './merge.ts'

type StatsByDatabase = Readonly<Record<string, DatabaseStats>>

interface Mark {
  readonly atMs: number
  readonly stats: StatsByDatabase
}

export class StatsWindow {
  readonly #clock: Clock
  #older: Mark
  #newer: Mark

  constructor(clock: Clock) {
    this.#clock = clock
    this.#older = { atMs: clock.nowMs(), stats: {} }
    this.#newer = this.#older
  }

  /** Called once per `stats_period` with the totals of all workers. */
  turn(totals: StatsByDatabase): void {
    this.#older = this.#newer
    this.#newer = { atMs: this.#clock.nowMs(), stats: totals }
  }

  /**
   * Counts and bytes per second, transaction and query time per transaction and query, wait time
   * per server assignment. Units as in the totals: milliseconds.
   */
  averages(totals: StatsByDatabase): Record<string, DatabaseStats> {
    const seconds = (this.#clock.nowMs() - this.#older.atMs) / 1000
    const rows = Object.entries(totals).map(([database, now]) => {
      const before = this.#older.stats[database] ?? emptyStats()
      // A database that was removed and came back begins at 0 again.
      const grown = combineStats(now, before, (a, b) => Math.max(0, a - b))
      return [database, average(grown, seconds)] as const
    })
    return Object.fromEntries(rows)
  }
}

function average(grown: DatabaseStats, seconds: number): DatabaseStats {
  const rate = (count: number): number => (seconds > 0 ? count / seconds : 0)
  return {
    serverAssignments: rate(grown.serverAssignments),
    transactions: rate(grown.transactions),
    queries: rate(grown.queries),
    bytesReceived: rate(grown.bytesReceived),
    bytesSent: rate(grown.bytesSent),
    transactionMs: each(grown.transactionMs, grown.transactions),
    queryMs: each(grown.queryMs, grown.queries),
    waitMs: each(grown.waitMs, grown.serverAssignments),
    clientParses: rate(grown.clientParses),
    serverParses: rate(grown.serverParses),
    binds: rate(grown.binds),
    clientLogins: rate(grown.clientLogins),
  }
}

/**
 * The averages of all databases as one: rates add up, times per transaction, query and assignment
 * are weighted by how many there were.
 */
export function averageOfAll(averages: StatsByDatabase): DatabaseStats {
  const sum = emptyStats()
  for (const one of Object.values(averages)) {
    const shares = {
      ...one,
      transactionMs: one.transactionMs * one.transactions,
      queryMs: one.queryMs * one.queries,
      waitMs: one.waitMs * one.serverAssignments,
    }
    Object.assign(sum, addStats(sum, shares))
  }
  return {
    ...sum,
    transactionMs: each(sum.transactionMs, sum.transactions),
    queryMs: each(sum.queryMs, sum.queries),
    waitMs: each(sum.waitMs, sum.serverAssignments),
  }
}

/** The line of `log_stats`, in the form of PgBouncer: log readers take numbers out of it. */
export function statsLine(averages: DatabaseStats): string {
  return [
    `stats: ${Math.round(averages.transactions)} xacts/s`,
    `${Math.round(averages.queries)} queries/s`,
    `${Math.round(averages.clientParses)} client parses/s`,
    `${Math.round(averages.serverParses)} server parses/s`,
    `${Math.round(averages.binds)} binds/s`,
    `in ${Math.round(averages.bytesReceived)} B/s`,
    `out ${Math.round(averages.bytesSent)} B/s`,
    `xact ${Math.round(averages.transactionMs * 1000)} us`,
    `query ${Math.round(averages.queryMs * 1000)} us`,
    `wait ${Math.round(averages.waitMs * 1000)} us`,
  ].join(', ')
}

/** Milliseconds per thing, 0 where there was none. */
function each(ms: number, count: number): number {
  return count > 0 ? ms / count : 0
}
