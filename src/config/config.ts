/**
 * The configuration as one frozen value, and what follows from it for one database and user. It is
 * made by load.ts and replaced whole on RELOAD; it crosses process boundaries by structured clone.
 * Does not read files.
 */
import {
  ADMIN_DATABASE,
  type ClusterConfig,
  type DatabaseEntry,
  type PgbouncerConfig,
  type PgsteerConfig,
  type UserEntry,
} from './keys.ts'

export type { ClusterConfig, PgbouncerConfig, PgsteerConfig } from './keys.ts'

export type PoolMode = 'session' | 'transaction' | 'statement'
export type RouteMode = 'split' | 'primary' | 'replica'
export type Consistency = 'session' | 'eventual' | 'global' | 'primary'
export type SessionStatePolicy = 'pin' | 'reject' | 'warn'
export type ServerClean = 'auto' | 'always' | 'never'
export type ReadTransactions = 'primary' | 'replica_until_write'
export type LoadBalanceHosts = 'round-robin' | 'disable'

/** An entry of [databases]. Null = not set here. */
export interface DatabaseConfig extends Omit<DatabaseEntry, 'host' | 'port' | 'loadBalanceHosts'> {
  readonly name: string
  /** Host names, addresses, or folders of Unix sockets; empty = routed over the cluster. */
  readonly hosts: readonly string[]
  readonly port: number
  readonly loadBalanceHosts: LoadBalanceHosts
}

/** An entry of [users]. Null = not set here. */
export interface UserConfig extends UserEntry {
  readonly name: string
}

/** A host name or an address, as others are told it: no path of a socket, no brackets, no zone. */
export function isHost(text: string): boolean {
  return /^[A-Za-z0-9_.:-]{1,253}$/.test(text)
}

/** An entry of [peers]. */
export interface PeerConfig {
  readonly id: number
  readonly host: string
  readonly port: number
  readonly poolSize: number | null
  /** What a registered instance says of TLS on its port; null = as server_tls_sslmode says. */
  readonly tls: PeerTls | null
}

/** `certificate`: it is offered to who shows one. */
export type PeerTls = 'none' | 'offered' | 'certificate'

export interface Config {
  /** Absolute path of the file it was read from. */
  readonly file: string
  readonly pgbouncer: PgbouncerConfig
  /** By name; the fallback entry is under `*`. */
  readonly databases: ReadonlyMap<string, DatabaseConfig>
  readonly users: ReadonlyMap<string, UserConfig>
  readonly peers: ReadonlyMap<number, PeerConfig>
  /** Null without [cluster]: nothing is routed. */
  readonly cluster: ClusterConfig | null
  readonly pgsteer: PgsteerConfig
  /** auth_file: the raw secret by user name. */
  readonly userlist: ReadonlyMap<string, string>
  /** The text of auth_hba_file, with auth_type = hba. */
  readonly hba: string | null
  /** The text of auth_ident_file. */
  readonly ident: string | null
  /** The content of http_token_file. */
  readonly httpToken: string | null
}

/** Everything that depends on (database, user), resolved: what the data plane reads. */
export interface PoolConfig {
  readonly database: string
  readonly user: string
  readonly isRouted: boolean
  /** Where the servers are, if not routed. */
  readonly hosts: readonly string[]
  readonly port: number
  readonly loadBalanceHosts: LoadBalanceHosts
  readonly serverDatabase: string
  /** The user that servers see: `user=` of the database's entry, or the client's. */
  readonly serverUser: string
  /** `password=` of the entry with a forced user; null = look it up for `serverUser`. */
  readonly serverPassword: string | null
  readonly poolMode: PoolMode
  /** 0 = no limit. */
  readonly poolSize: number
  readonly minPoolSize: number
  readonly reservePoolSize: number
  readonly reservePoolTimeoutMs: number
  /** 0 = no limit. */
  readonly maxDbConnections: number
  /** 0 = no limit. */
  readonly maxUserConnections: number
  readonly serverLifetimeMs: number
  /** This and the next: 0 = never. */
  readonly queryWaitTimeoutMs: number
  readonly queryTimeoutMs: number
  readonly idleTransactionTimeoutMs: number
  readonly transactionTimeoutMs: number
  readonly clientIdleTimeoutMs: number
  readonly connectQuery: string | null
  /** client_encoding, datestyle, timezone, application_name, as far as the entry sets them. */
  readonly settings: ReadonlyMap<string, string>
  readonly route: RouteMode
  readonly consistency: Consistency
  readonly sessionState: SessionStatePolicy
  readonly serverClean: ServerClean
  readonly readTransactions: ReadTransactions
}

/**
 * The entry that serves `name`: its own, or `*`. Undefined if there is none, and for the console's
 * database, which is not an entry.
 */
export function databaseOf(config: Config, name: string): DatabaseConfig | undefined {
  if (name === ADMIN_DATABASE) return undefined
  return config.databases.get(name) ?? config.databases.get('*')
}

/**
 * What holds for `user` in `database`; undefined if there is no such database.
 *
 * Precedence: limits and pool mode come from the entry of the user that servers see, then from the
 * database's, then from [pgbouncer]; timeouts and routing from the client's own user. 0 in an entry
 * is a value for pool sizes and "not set" for the other limits.
 * Source: pool_pool_mode, pool_pool_size, user_max_connections in PgBouncer's src/server.c.
 */
export function poolConfig(config: Config, database: string, user: string): PoolConfig | undefined {
  const entry = databaseOf(config, database)
  if (entry === undefined) return undefined
  const serverUser = entry.user ?? user
  return Object.freeze({
    database,
    user,
    isRouted: entry.hosts.length === 0,
    hosts: entry.hosts,
    port: entry.port,
    loadBalanceHosts: entry.loadBalanceHosts,
    serverDatabase: entry.dbname ?? database,
    serverUser,
    serverPassword: entry.user === null ? null : entry.password,
    connectQuery: entry.connectQuery,
    settings: settingsOf(entry),
    ...limitsOf(config, entry, serverUser),
    ...timeoutsOf(config, entry, user),
    ...routingOf(config, entry, user),
  })
}

type Limits = Pick<
  PoolConfig,
  | 'poolMode'
  | 'poolSize'
  | 'minPoolSize'
  | 'reservePoolSize'
  | 'reservePoolTimeoutMs'
  | 'maxDbConnections'
  | 'maxUserConnections'
  | 'serverLifetimeMs'
>

function limitsOf(config: Config, entry: DatabaseConfig, serverUser: string): Limits {
  const { pgbouncer } = config
  const user = config.users.get(serverUser)
  return {
    poolMode: user?.poolMode ?? entry.poolMode ?? pgbouncer.poolMode,
    poolSize: user?.poolSize ?? entry.poolSize ?? pgbouncer.defaultPoolSize,
    minPoolSize: entry.minPoolSize ?? pgbouncer.minPoolSize,
    reservePoolSize: user?.reservePoolSize ?? entry.reservePoolSize ?? pgbouncer.reservePoolSize,
    reservePoolTimeoutMs: pgbouncer.reservePoolTimeoutMs,
    maxDbConnections: firstSet(entry.maxDbConnections) ?? pgbouncer.maxDbConnections,
    maxUserConnections: firstSet(user?.maxUserConnections) ?? pgbouncer.maxUserConnections,
    serverLifetimeMs: firstSet(entry.serverLifetimeMs) ?? pgbouncer.serverLifetimeMs,
  }
}

type Timeouts = Pick<
  PoolConfig,
  | 'queryWaitTimeoutMs'
  | 'queryTimeoutMs'
  | 'idleTransactionTimeoutMs'
  | 'transactionTimeoutMs'
  | 'clientIdleTimeoutMs'
>

function timeoutsOf(config: Config, entry: DatabaseConfig, name: string): Timeouts {
  const { pgbouncer } = config
  const user = config.users.get(name)
  return {
    queryWaitTimeoutMs:
      firstSet(user?.queryWaitTimeoutMs, entry.queryWaitTimeoutMs) ?? pgbouncer.queryWaitTimeoutMs,
    queryTimeoutMs: firstSet(user?.queryTimeoutMs) ?? pgbouncer.queryTimeoutMs,
    idleTransactionTimeoutMs:
      firstSet(user?.idleTransactionTimeoutMs) ?? pgbouncer.idleTransactionTimeoutMs,
    transactionTimeoutMs: firstSet(user?.transactionTimeoutMs) ?? pgbouncer.transactionTimeoutMs,
    clientIdleTimeoutMs: firstSet(user?.clientIdleTimeoutMs) ?? pgbouncer.clientIdleTimeoutMs,
  }
}

type Routing = Pick<
  PoolConfig,
  'route' | 'consistency' | 'sessionState' | 'serverClean' | 'readTransactions'
>

function routingOf(config: Config, entry: DatabaseConfig, name: string): Routing {
  const { pgsteer } = config
  const user = config.users.get(name)
  return {
    route: user?.route ?? entry.route ?? pgsteer.route,
    consistency: user?.consistency ?? entry.consistency ?? pgsteer.consistency,
    sessionState: entry.sessionState ?? pgsteer.sessionState,
    serverClean: entry.serverClean ?? pgsteer.serverClean,
    readTransactions: entry.readTransactions ?? pgsteer.readTransactions,
  }
}

function settingsOf(entry: DatabaseConfig): ReadonlyMap<string, string> {
  const settings = new Map<string, string>()
  if (entry.clientEncoding !== null) settings.set('client_encoding', entry.clientEncoding)
  if (entry.datestyle !== null) settings.set('datestyle', entry.datestyle)
  if (entry.timezone !== null) settings.set('timezone', entry.timezone)
  if (entry.applicationName !== null) settings.set('application_name', entry.applicationName)
  return settings
}

/** The first that is neither missing nor 0. */
function firstSet(...values: readonly (number | null | undefined)[]): number | undefined {
  for (const value of values) {
    if (value !== null && value !== undefined && value !== 0) return value
  }
  return undefined
}
