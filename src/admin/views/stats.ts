/**
 * SHOW STATS, STATS_TOTALS, STATS_AVERAGES and TOTALS. Four views of the same twelve numbers, with
 * PgBouncer's four sets of names; times are microseconds.
 */
import { type DatabaseStats, emptyStats } from '../../client/facts.ts'
import { averageOfAll } from '../averages.ts'
import type { Snapshot } from '../facts.ts'
import { addStats, compare } from '../merge.ts'
import { columns, type Row, row } from '../table.ts'

/** Field, name after `total_` in SHOW STATS, after `avg_` there, in STATS_TOTALS, in TOTALS. */
const FIELDS = [
  ['serverAssignments', 'server_assignment_count', '', '', ''],
  ['transactions', 'xact_count', '', '', ''],
  ['queries', 'query_count', '', '', ''],
  ['bytesReceived', 'received', 'recv', 'bytes_received', 'client_bytes'],
  ['bytesSent', 'sent', '', 'bytes_sent', 'server_bytes'],
  ['transactionMs', 'xact_time', '', '', ''],
  ['queryMs', 'query_time', '', '', ''],
  ['waitMs', 'wait_time', '', '', ''],
  ['clientParses', 'client_parse_count', '', '', 'ps_client_parse_count'],
  ['serverParses', 'server_parse_count', '', '', 'ps_server_parse_count'],
  ['binds', 'bind_count', '', '', 'ps_bind_count'],
  ['clientLogins', 'client_login_count', '', '', ''],
] as const satisfies readonly (readonly [keyof DatabaseStats, ...string[]])[]

const totalNames = FIELDS.map(([, name]) => `total_${name}`)
const averageNames = FIELDS.map(([, name, average]) => `avg_${average || name}`)
const plainNames = FIELDS.map(([, name, , plain]) => plain || name)
const rowNames = FIELDS.map(([, name, , , total]) => total || name)
/** PgBouncer prefixes only the newer columns of STATS_AVERAGES; really. */
const mixedNames = plainNames.map((name, index) => (index < 8 ? name : `avg_${name}`))

const numeric = (names: readonly string[]): string =>
  names.map((name) => `${name}:numeric`).join(' ')

export const STATS = columns(`database ${numeric(totalNames)} ${numeric(averageNames)}`)
export const STATS_TOTALS = columns(`database ${numeric(plainNames)}`)
export const STATS_AVERAGES = columns(`database ${numeric(mixedNames)}`)
export const TOTALS = columns('name value:numeric')

export function showStats({ facts, averages }: Snapshot): Row[] {
  return databases(facts.clients.stats).map(([database, stats]) =>
    row(database, ...values(stats), ...values(averages[database] ?? emptyStats())),
  )
}

export function showStatsTotals({ facts }: Snapshot): Row[] {
  return databases(facts.clients.stats).map(([database, stats]) => row(database, ...values(stats)))
}

export function showStatsAverages({ facts, averages }: Snapshot): Row[] {
  return databases(facts.clients.stats).map(([database]) =>
    row(database, ...values(averages[database] ?? emptyStats())),
  )
}

export function showTotals({ facts, averages }: Snapshot): Row[] {
  const totals = values(Object.values(facts.clients.stats).reduce(addStats, emptyStats()))
  const means = values(averageOfAll(averages))
  return [
    ...rowNames.map((name, index) => row(`total_${name}`, totals[index] ?? 0)),
    ...rowNames.map((name, index) => row(`avg_${name}`, means[index] ?? 0)),
  ]
}

function databases(stats: Readonly<Record<string, DatabaseStats>>): [string, DatabaseStats][] {
  return Object.entries(stats).toSorted(([a], [b]) => compare(a, b))
}

function values(stats: DatabaseStats): number[] {
  return FIELDS.map(([field]) => (field.endsWith('Ms') ? stats[field] * 1000 : stats[field]))
}
