/**
 * SHOW POOLS, DATABASES, USERS and LISTS: what there is, how much of it, and its limits. One row
 * per database and user with the sums over all members; SHOW MEMBERS has the split.
 */
import { type DatabaseConfig, databaseOf } from '../../config/config.ts'
import { ADMIN_DATABASE } from '../../config/keys.ts'
import type { PoolFacts, WaitReasonFacts } from '../../server/facts.ts'
import { type ClientCounts, poolKey, type Snapshot } from '../facts.ts'
import { addMember, compare } from '../merge.ts'
import { columns, type Row, row, secondsAndMicros } from '../table.ts'
import { peers } from './program.ts'

export const POOLS = columns(`
  database user cl_active:int4 cl_waiting:int4 cl_active_cancel_req:int4 cl_waiting_cancel_req:int4
  sv_active:int4 sv_active_cancel:int4 sv_being_canceled:int4 sv_idle:int4 sv_used:int4
  sv_tested:int4 sv_login:int4 maxwait:int4 maxwait_us:int4 pool_mode load_balance_hosts`)

/** A pool of SHOW POOLS as numbers, for the view, the metrics and the API. */
export interface PoolSums {
  readonly database: string
  readonly user: string
  readonly clientsActive: number
  readonly clientsWaiting: number
  readonly clientsActiveCancel: number
  readonly serversActive: number
  readonly serversActiveCancel: number
  readonly serversBeingCanceled: number
  readonly serversIdle: number
  readonly serversUsed: number
  readonly serversTested: number
  readonly serversLogin: number
  readonly held: number
  readonly heldBytes: number
  readonly oldestWaitMs: number
  readonly waitReasons: readonly WaitReasonFacts[]
  readonly poolMode: string
  readonly loadBalanceHosts: string | null
  readonly serversOpened: number
  readonly serverLoginFailures: number
}

/**
 * Every pool, and every database and user with clients. The console's own clients come last, as
 * the pool of user `pgbouncer`, which is how PgBouncer shows them.
 */
export function poolSums(snapshot: Snapshot): PoolSums[] {
  const counts = new Map<string, ClientCounts>()
  const admin = { database: ADMIN_DATABASE, user: ADMIN_DATABASE, active: 0, waiting: 0 }
  for (const count of snapshot.facts.counts) {
    if (count.database === ADMIN_DATABASE) {
      admin.active += count.active
      admin.waiting += count.waiting
    } else {
      counts.set(poolKey(count.database, count.user), count)
    }
  }
  const sums: PoolSums[] = []
  for (const pool of snapshot.facts.pools) {
    const key = poolKey(pool.database, pool.user)
    sums.push(sumOf(pool, counts.get(key), snapshot))
    counts.delete(key)
  }
  for (const count of counts.values()) sums.push(sumOf(null, count, snapshot))
  sums.sort((a, b) => compare(a.database, b.database) || compare(a.user, b.user))
  const console = { ...admin, activeCancels: 0, pinned: 0 }
  return [...sums, { ...sumOf(null, console, snapshot), poolMode: 'statement' }]
}

function sumOf(
  pool: PoolFacts | null,
  count: ClientCounts | undefined,
  { config }: Snapshot,
): PoolSums {
  const database = pool?.database ?? count?.database ?? ''
  const members = pool?.members ?? []
  const total = members.length === 0 ? NO_SERVERS : members.reduce(addMember)
  const entry = databaseOf(config, database)
  return {
    database,
    user: pool?.user ?? count?.user ?? '',
    clientsActive: count?.active ?? 0,
    clientsWaiting: count?.waiting ?? 0,
    clientsActiveCancel: count?.activeCancels ?? 0,
    serversActive: total.active,
    serversActiveCancel: total.activeCancel,
    serversBeingCanceled: total.beingCanceled,
    serversIdle: total.idle,
    serversUsed: total.used,
    serversTested: total.tested,
    serversLogin: total.login,
    held: pool?.waits.held ?? 0,
    heldBytes: pool?.waits.heldBytes ?? 0,
    oldestWaitMs: pool?.waits.oldestWaitMs ?? 0,
    waitReasons: pool?.waits.reasons ?? [],
    poolMode: pool?.poolMode ?? entry?.poolMode ?? config.pgbouncer.poolMode,
    loadBalanceHosts: entry === undefined ? null : balanceOf(entry),
    serversOpened: pool?.serversOpened ?? 0,
    serverLoginFailures: pool?.loginFailures ?? 0,
  }
}

const NO_SERVERS = {
  active: 0,
  activeCancel: 0,
  beingCanceled: 0,
  idle: 0,
  used: 0,
  tested: 0,
  login: 0,
}

export function showPools(snapshot: Snapshot): Row[] {
  return poolSums(snapshot).map((sum) =>
    row(
      sum.database,
      sum.user,
      sum.clientsActive,
      sum.clientsWaiting,
      sum.clientsActiveCancel,
      0,
      sum.serversActive,
      sum.serversActiveCancel,
      sum.serversBeingCanceled,
      sum.serversIdle,
      sum.serversUsed,
      sum.serversTested,
      sum.serversLogin,
      ...secondsAndMicros(sum.oldestWaitMs),
      sum.poolMode,
      sum.loadBalanceHosts,
    ),
  )
}

export const WAITS = columns(
  'database user reason clients:int4 bytes:int8 maxwait:int4 maxwait_us:int4',
)

/** Who waits for what, since when: one row per pool and reason, and none for who does not wait. */
export function showWaits(snapshot: Snapshot): Row[] {
  return poolSums(snapshot).flatMap(({ database, user, waitReasons }) =>
    waitReasons.map(({ reason, clients, bytes, oldestMs }) =>
      row(database, user, reason, clients, bytes, ...secondsAndMicros(oldestMs)),
    ),
  )
}

export const DATABASES = columns(`
  name host port:int4 database force_user pool_size:int4 min_pool_size:int4 reserve_pool_size:int4
  server_lifetime:int4 pool_mode load_balance_hosts max_connections:int4 current_connections:int4
  max_client_connections:int4 current_client_connections:int4 paused:int4 disabled:int4`)

/** A row of SHOW DATABASES as values, for the view and the metrics. */
export interface DatabaseSums {
  readonly name: string
  readonly host: string | null
  readonly port: number
  readonly database: string
  readonly forceUser: string | null
  readonly poolSize: number
  readonly minPoolSize: number
  readonly reservePoolSize: number
  readonly serverLifetimeMs: number
  readonly poolMode: string | null
  readonly loadBalanceHosts: string | null
  readonly connectionsMax: number
  readonly connections: number
  readonly clientConnectionsMax: number
  readonly clientConnections: number
  readonly isPaused: boolean
  readonly isDisabled: boolean
}

/** The host of a database that is routed: the members are in SHOW MEMBERS. */
const ROUTED_HOST = '(cluster)'

/** The databases of the configuration, those made from `*` that are in use, and the console. */
export function databaseSums(snapshot: Snapshot): DatabaseSums[] {
  const names = new Set(snapshot.config.databases.keys())
  for (const { database } of snapshot.facts.pools) names.add(database)
  for (const { database } of snapshot.facts.counts) names.add(database)
  names.delete('*')
  names.delete(ADMIN_DATABASE)
  const sums = [...names].toSorted(compare).flatMap((name) => {
    const entry = databaseOf(snapshot.config, name)
    return entry === undefined ? [] : [databaseSum(snapshot, name, entry)]
  })
  return [...sums, consoleDatabase(snapshot)]
}

function databaseSum(snapshot: Snapshot, name: string, entry: DatabaseConfig): DatabaseSums {
  const { pgbouncer } = snapshot.config
  const { pausedDatabases, disabledDatabases } = snapshot.state
  return {
    name,
    host: entry.hosts.length === 0 ? ROUTED_HOST : entry.hosts.join(','),
    port: entry.port,
    database: entry.dbname ?? name,
    forceUser: entry.user,
    poolSize: entry.poolSize ?? pgbouncer.defaultPoolSize,
    minPoolSize: entry.minPoolSize ?? pgbouncer.minPoolSize,
    reservePoolSize: entry.reservePoolSize ?? pgbouncer.reservePoolSize,
    serverLifetimeMs: positive(entry.serverLifetimeMs) ?? pgbouncer.serverLifetimeMs,
    poolMode: entry.poolMode,
    loadBalanceHosts: balanceOf(entry),
    connectionsMax: positive(entry.maxDbConnections) ?? pgbouncer.maxDbConnections,
    connections: serversOf(snapshot, (pool) => pool.database === name),
    clientConnectionsMax:
      positive(entry.maxDbClientConnections) ?? pgbouncer.maxDbClientConnections,
    clientConnections: clientsOf(snapshot, (count) => count.database === name),
    isPaused: pausedDatabases.includes(name),
    isDisabled: disabledDatabases.includes(name),
  }
}

function consoleDatabase(snapshot: Snapshot): DatabaseSums {
  const { pgbouncer } = snapshot.config
  return {
    name: ADMIN_DATABASE,
    host: null,
    port: pgbouncer.listenPort,
    database: ADMIN_DATABASE,
    forceUser: ADMIN_DATABASE,
    poolSize: 2,
    minPoolSize: 0,
    reservePoolSize: 0,
    serverLifetimeMs: pgbouncer.serverLifetimeMs,
    poolMode: 'statement',
    loadBalanceHosts: null,
    connectionsMax: 0,
    connections: 0,
    clientConnectionsMax: 0,
    clientConnections: clientsOf(snapshot, (count) => count.database === ADMIN_DATABASE),
    isPaused: false,
    isDisabled: false,
  }
}

export function showDatabases(snapshot: Snapshot): Row[] {
  return databaseSums(snapshot).map((sum) =>
    row(
      sum.name,
      sum.host,
      sum.port,
      sum.database,
      sum.forceUser,
      sum.poolSize,
      sum.minPoolSize,
      sum.reservePoolSize,
      sum.serverLifetimeMs / 1000,
      sum.poolMode,
      sum.loadBalanceHosts,
      sum.connectionsMax,
      sum.connections,
      sum.clientConnectionsMax,
      sum.clientConnections,
      sum.isPaused ? 1 : 0,
      sum.isDisabled ? 1 : 0,
    ),
  )
}

export const USERS = columns(`
  name pool_size reserve_pool_size pool_mode max_user_connections:int4 current_connections:int4
  max_user_client_connections:int4 current_client_connections:int4`)

/** Users of [users] and of auth_file, and those who are logged in. */
export function userNames({ config, facts }: Snapshot): string[] {
  const names = new Set([...config.users.keys(), ...config.userlist.keys()])
  for (const { user } of facts.pools) names.add(user)
  for (const { user } of facts.counts) names.add(user)
  return [...names].toSorted(compare)
}

export function showUsers(snapshot: Snapshot): Row[] {
  const { users, pgbouncer } = snapshot.config
  return userNames(snapshot).map((name) => {
    const entry = users.get(name)
    return row(
      name,
      String(entry?.poolSize ?? ''),
      String(entry?.reservePoolSize ?? ''),
      entry?.poolMode ?? null,
      positive(entry?.maxUserConnections) ?? pgbouncer.maxUserConnections,
      serversOf(snapshot, (pool) => pool.user === name),
      positive(entry?.maxUserClientConnections) ?? pgbouncer.maxUserClientConnections,
      clientsOf(snapshot, (count) => count.user === name),
    )
  })
}

export const LISTS = columns('list items:int4')

/**
 * The lengths that PgBouncer counts. Node keeps no pool of free client or server objects, and its
 * resolver shows neither zones nor queries: those are 0.
 */
export function lists(snapshot: Snapshot): readonly (readonly [name: string, items: number])[] {
  const clients = clientsOf(snapshot, () => true)
  return [
    ['databases', databaseSums(snapshot).length],
    ['users', userNames(snapshot).length],
    ['peers', peers(snapshot).length],
    ['pools', poolSums(snapshot).length],
    ['peer_pools', peers(snapshot).length],
    ['free_clients', 0],
    ['used_clients', clients + snapshot.facts.clients.loginClients],
    ['login_clients', snapshot.facts.clients.loginClients],
    ['free_servers', 0],
    ['used_servers', serversOf(snapshot, () => true)],
    ['dns_names', snapshot.dns.length],
    ['dns_zones', 0],
    ['dns_queries', 0],
    ['dns_pending', 0],
  ]
}

export function showLists(snapshot: Snapshot): Row[] {
  return lists(snapshot).map(([name, items]) => row(name, items))
}

/** PgBouncer names the rule only where there are hosts to choose from. */
function balanceOf(entry: DatabaseConfig): string | null {
  return entry.hosts.length > 1 ? entry.loadBalanceHosts : null
}

function positive(limit: number | null | undefined): number | undefined {
  return limit === null || limit === undefined || limit === 0 ? undefined : limit
}

function serversOf({ facts }: Snapshot, isWanted: (pool: PoolFacts) => boolean): number {
  let sum = 0
  for (const pool of facts.pools) {
    if (!isWanted(pool)) continue
    for (const { active, idle, used, tested, login, activeCancel, beingCanceled } of pool.members)
      sum += active + idle + used + tested + login + activeCancel + beingCanceled
  }
  return sum
}

function clientsOf({ facts }: Snapshot, isWanted: (count: ClientCounts) => boolean): number {
  let sum = 0
  for (const count of facts.counts) if (isWanted(count)) sum += count.active + count.waiting
  return sum
}
