/**
 * Every SHOW: its name, its columns, and the pure function from a snapshot to its rows. Columns are
 * known without a snapshot, as Describe of the extended protocol wants them.
 */
import type { FactsDetail, Snapshot } from './facts.ts'
import { type Column, columns as columnsFrom, type Row, type Table } from './table.ts'
import { CLUSTER, MEMBERS, showCluster, showMembers } from './views/cluster.ts'
import * as pools from './views/pools.ts'
import * as program from './views/program.ts'
import * as sockets from './views/sockets.ts'
import * as stats from './views/stats.ts'

export interface View {
  readonly columns: readonly Column[]
  readonly detail: FactsDetail
  rows(snapshot: Snapshot): readonly Row[]
}

const counts = (columns: readonly Column[], rows: View['rows']): View => ({
  columns,
  detail: 'counts',
  rows,
})
const all = (columns: readonly Column[], rows: View['rows']): View => ({
  columns,
  detail: 'all',
  rows,
})

/** By name. SHOW HELP is a notice, and not here. */
export const VIEWS: ReadonlyMap<string, View> = new Map([
  ['config', counts(program.CONFIG, program.showConfig)],
  ['databases', counts(pools.DATABASES, pools.showDatabases)],
  ['pools', counts(pools.POOLS, pools.showPools)],
  ['clients', all(sockets.CLIENTS, sockets.showClients)],
  ['servers', all(sockets.SERVERS, sockets.showServers)],
  ['users', counts(pools.USERS, pools.showUsers)],
  ['version', counts(program.VERSION, program.showVersion)],
  ['peers', counts(program.PEERS, program.showPeers)],
  ['instances', counts(program.INSTANCES, program.showInstances)],
  ['peer_pools', counts(program.PEER_POOLS, program.showPeerPools)],
  ['sockets', all(sockets.SOCKETS, sockets.showSockets)],
  ['active_sockets', all(sockets.SOCKETS, sockets.showActiveSockets)],
  ['lists', counts(pools.LISTS, pools.showLists)],
  ['mem', counts(program.MEM, program.showMem)],
  ['workers', counts(program.WORKERS, program.showWorkers)],
  ['state', counts(program.STATE, program.showState)],
  ['dns_hosts', counts(program.DNS_HOSTS, program.showDnsHosts)],
  ['dns_zones', counts(program.DNS_ZONES, () => [])],
  ['stats', counts(stats.STATS, stats.showStats)],
  ['stats_totals', counts(stats.STATS_TOTALS, stats.showStatsTotals)],
  ['stats_averages', counts(stats.STATS_AVERAGES, stats.showStatsAverages)],
  ['totals', counts(stats.TOTALS, stats.showTotals)],
  ['members', counts(MEMBERS, showMembers)],
  ['waits', counts(pools.WAITS, pools.showWaits)],
  ['cluster', counts(CLUSTER, showCluster)],
])

/** What drivers ask of a server and PgBouncer answers for its console. */
const FAKED: ReadonlyMap<string, string> = new Map([
  ['client_encoding', 'UTF-8'],
  ['default_transaction_isolation', 'read committed'],
  ['standard_conforming_strings', 'on'],
  ['datestyle', 'ISO'],
  ['timezone', 'GMT'],
  ['extra_float_digits', '2'],
])

/** The answer to SHOW of a setting that drivers look at, or undefined. */
export function fakedSetting(name: string): Table | undefined {
  const value = FAKED.get(name)
  return value === undefined ? undefined : { columns: columnsFrom(name), rows: [[value]] }
}

export function isFaked(name: string): boolean {
  return FAKED.has(name)
}

export const HELP = [
  '',
  'SHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION',
  'SHOW PEERS|PEER_POOLS',
  'SHOW SOCKETS|ACTIVE_SOCKETS|LISTS|MEM|STATE',
  'SHOW DNS_HOSTS|DNS_ZONES',
  'SHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS',
  'SHOW CLUSTER|MEMBERS|INSTANCES|WAITS|WORKERS',
  'EXPLAIN ROUTE [IN <db>] <sql>',
  'SET key = arg',
  'RELOAD',
  'RESTART WORKERS',
  'PAUSE [<db>]',
  'RESUME [<db>]',
  'DISABLE <db>',
  'ENABLE <db>',
  'RECONNECT [<db>]',
  'KILL [<db>]',
  'KILL_CLIENT <client_id>',
  'SHUTDOWN',
  'SHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS',
  'WAIT_CLOSE [<db>]',
].join('\n\t')
