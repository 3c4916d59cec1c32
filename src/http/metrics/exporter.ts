/**
 * The metrics of pgbouncer_exporter, with its names, labels and units, so that its dashboards and
 * alerts go on working. docs/metrics.md is tested against this table, both ways.
 * Source  prometheus-community/pgbouncer_exporter, collector.go.
 */
import type { DatabaseSums, PoolSums } from '../../admin/views/pools.ts'
import { versionText } from '../../admin/views/program.ts'
import type { DatabaseStats } from '../../client/facts.ts'
import { counter, gauge, type MetricRow, single, truth } from './rows.ts'

const PROGRAM: readonly MetricRow[] = [
  gauge('pgbouncer_up', '', 'Always 1: who answers is up.', () => single(1)),
  gauge('pgbouncer_version_info', 'version', 'The text of SHOW VERSION.', ({ snapshot }) => [
    [[versionText(snapshot.version)], 1],
  ]),
  gauge('pgbouncer_config_max_client_connections', '', 'max_client_conn.', ({ snapshot }) =>
    single(snapshot.config.pgbouncer.maxClientConn),
  ),
  gauge('pgbouncer_config_max_user_connections', '', 'max_user_connections.', ({ snapshot }) =>
    single(snapshot.config.pgbouncer.maxUserConnections),
  ),
]

/** Name in SHOW LISTS, name of the metric, help. */
const LISTS: readonly MetricRow[] = (
  [
    ['databases', 'databases', 'Databases.'],
    ['users', 'users', 'Users.'],
    ['pools', 'pools', 'Pools.'],
    ['free_clients', 'free_clients', 'Always 0: Node keeps no free client objects.'],
    ['used_clients', 'used_clients', 'Clients, also those that log in.'],
    ['login_clients', 'login_clients', 'Clients that are logging in.'],
    ['free_servers', 'free_servers', 'Always 0: Node keeps no free server objects.'],
    ['used_servers', 'used_servers', 'Server connections.'],
    ['dns_names', 'cached_dns_names', 'Names that were looked up.'],
    ['dns_zones', 'cached_dns_zones', 'Always 0: zones are not watched.'],
    ['dns_queries', 'in_flight_dns_queries', 'Always 0: the resolver does not tell.'],
  ] as const
).map(([list, name, help]) =>
  gauge(`pgbouncer_${name}`, '', help, ({ lists }) => single(lists.get(list) ?? 0)),
)

const DATABASES: readonly MetricRow[] = (
  [
    ['pool_size', 'Server connections per pool.', (sum) => sum.poolSize],
    ['reserve_pool', 'Additional server connections per pool.', (sum) => sum.reservePoolSize],
    ['max_connections', 'Most server connections of the database.', (sum) => sum.connectionsMax],
    ['current_connections', 'Server connections of the database.', (sum) => sum.connections],
    ['paused', '1 if the database is paused.', (sum) => truth(sum.isPaused)],
    ['disabled', '1 if the database is disabled.', (sum) => truth(sum.isDisabled)],
  ] as const satisfies readonly (readonly [string, string, (sum: DatabaseSums) => number])[]
).map(([name, help, pick]) =>
  gauge(
    `pgbouncer_databases_${name}`,
    'name host port database force_user pool_mode',
    help,
    ({ databases }) =>
      databases.map((sum) => [
        [
          sum.name,
          sum.host ?? '',
          String(sum.port),
          sum.database,
          sum.forceUser ?? '',
          sum.poolMode ?? '',
        ],
        pick(sum),
      ]),
  ),
)

const POOLS: readonly MetricRow[] = (
  [
    ['client_active_connections', 'Clients with a server or idle.', (sum) => sum.clientsActive],
    ['client_active_cancel_connections', 'Cancel requests.', (sum) => sum.clientsActiveCancel],
    ['client_waiting_connections', 'Clients that wait for a server.', (sum) => sum.clientsWaiting],
    ['client_waiting_cancel_connections', 'Always 0: cancels do not wait here.', () => 0],
    ['server_active_connections', 'Servers that a client has.', (sum) => sum.serversActive],
    [
      'server_active_cancel_connections',
      'Servers that forward a cancel request.',
      (sum) => sum.serversActiveCancel,
    ],
    [
      'server_being_canceled_connections',
      'Servers that wait for the end of a cancel request.',
      (sum) => sum.serversBeingCanceled,
    ],
    ['server_idle_connections', 'Servers free and ready for a query.', (sum) => sum.serversIdle],
    [
      'server_used_connections',
      'Servers free for longer than server_check_delay.',
      (sum) => sum.serversUsed,
    ],
    [
      'server_testing_connections',
      'Servers that run a check or a reset.',
      (sum) => sum.serversTested,
    ],
    ['server_login_connections', 'Servers that log in.', (sum) => sum.serversLogin],
    [
      'client_maxwait_seconds',
      'Age of the oldest client that waits.',
      (sum) => sum.oldestWaitMs / 1000,
    ],
  ] as const satisfies readonly (readonly [string, string, (sum: PoolSums) => number])[]
).map(([name, help, pick]) =>
  gauge(`pgbouncer_pools_${name}`, 'database user', help, ({ pools }) =>
    pools.map((sum) => [[sum.database, sum.user], pick(sum)]),
  ),
)

const STATS: readonly MetricRow[] = (
  [
    ['queries_pooled_total', 'Queries.', (stats) => stats.queries],
    ['queries_duration_seconds_total', 'Time of queries.', (stats) => stats.queryMs / 1000],
    ['received_bytes_total', 'Bytes from clients.', (stats) => stats.bytesReceived],
    ['sent_bytes_total', 'Bytes to clients.', (stats) => stats.bytesSent],
    ['client_wait_seconds_total', 'Time clients waited.', (stats) => stats.waitMs / 1000],
    ['sql_transactions_pooled_total', 'Transactions.', (stats) => stats.transactions],
    [
      'server_in_transaction_seconds_total',
      'Time servers were in a transaction.',
      (stats) => stats.transactionMs / 1000,
    ],
    ['client_parses_total', 'Parse messages from clients.', (stats) => stats.clientParses],
    ['server_parses_total', 'Parse messages to servers.', (stats) => stats.serverParses],
    ['binds_total', 'Bind messages.', (stats) => stats.binds],
  ] as const satisfies readonly (readonly [string, string, (stats: DatabaseStats) => number])[]
).map(([name, help, pick]) =>
  counter(`pgbouncer_stats_${name}`, 'database', help, ({ stats }) =>
    stats.map(([database, sums]) => [[database], pick(sums)]),
  ),
)

export const EXPORTER_METRICS: readonly MetricRow[] = [
  ...PROGRAM,
  ...LISTS,
  ...DATABASES,
  ...POOLS,
  ...STATS,
]
