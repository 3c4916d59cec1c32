/**
 * The keys of an entry of [databases], [users] and [peers]: PgBouncer's, then ours. What is not set
 * falls back to [pgbouncer] and [pgsteer] (config.ts).
 * Source: PgBouncer 1.26, parse_database, parse_user and parse_peer in src/loader.c.
 */
import { choice, int, port, seconds, secret, text } from '../kinds.ts'
import { POOL_MODES } from './pgbouncer.ts'
import {
  CONSISTENCIES,
  READ_TRANSACTIONS,
  ROUTES,
  SERVER_CLEANS,
  SESSION_STATES,
} from './pgsteer.ts'

export const DATABASE_KEYS = {
  dbname: text(null, 'Name of the database on the server; unset: the name of the entry.'),
  host: text(
    null,
    'Host, list of hosts, folder (`/...`) or abstract name (`@...`) of a Unix socket. Unset: routed over the cluster; without [cluster], the Unix socket in unix_socket_dir.',
  ),
  port: port('5432', 'Port of the server.', { min: 1 }),
  user: text(null, 'Log in to the server as this user, whoever the client is.'),
  password: secret('Password of `user`; unset: the one in auth_file.'),
  auth_user: text(null, 'As auth_user of [pgbouncer].'),
  auth_query: text(null, 'As auth_query of [pgbouncer].'),
  auth_dbname: text(null, 'As auth_dbname of [pgbouncer].'),
  pool_size: int(null, 'As default_pool_size.'),
  min_pool_size: int(null, 'As min_pool_size of [pgbouncer].'),
  reserve_pool_size: int(null, 'As reserve_pool_size of [pgbouncer]; `reserve_pool` is the same.'),
  connect_query: text(null, 'Query that runs on every new server connection.'),
  pool_mode: choice(POOL_MODES, null, 'As pool_mode of [pgbouncer].'),
  load_balance_hosts: choice(
    ['round-robin', 'disable'],
    'round-robin',
    'How a list of hosts is used: in turn, or the first that answers.',
  ),
  max_db_connections: int(null, 'As max_db_connections of [pgbouncer]; 0 = its value.'),
  max_db_client_connections: int(
    null,
    'As max_db_client_connections of [pgbouncer]; 0 = its value.',
  ),
  server_lifetime: seconds(null, 'As server_lifetime of [pgbouncer]; 0 = its value.'),
  query_wait_timeout: seconds(null, 'As query_wait_timeout of [pgbouncer]; 0 = its value.'),
  client_encoding: text(null, 'Setting of new server connections.'),
  datestyle: text(null, 'Setting of new server connections.'),
  timezone: text(null, 'Setting of new server connections.'),
  application_name: text(null, 'Setting of new server connections.'),
  route: choice(ROUTES, null, 'As route of [pgsteer].'),
  consistency: choice(CONSISTENCIES, null, 'As consistency of [pgsteer].'),
  session_state: choice(SESSION_STATES, null, 'As session_state of [pgsteer].'),
  server_clean: choice(SERVER_CLEANS, null, 'As server_clean of [pgsteer].'),
  read_transactions: choice(READ_TRANSACTIONS, null, 'As read_transactions of [pgsteer].'),
} as const

export const USER_KEYS = {
  pool_mode: choice(POOL_MODES, null, "As pool_mode of [pgbouncer]; goes before the database's."),
  pool_size: int(null, "As default_pool_size; goes before the database's."),
  reserve_pool_size: int(null, "As reserve_pool_size of [pgbouncer]; goes before the database's."),
  max_user_connections: int(null, 'As max_user_connections of [pgbouncer]; 0 = its value.'),
  max_user_client_connections: int(
    null,
    'As max_user_client_connections of [pgbouncer]; 0 = its value.',
  ),
  query_timeout: seconds(null, 'As query_timeout of [pgbouncer]; 0 = its value.'),
  query_wait_timeout: seconds(
    null,
    "As query_wait_timeout of [pgbouncer]; goes before the database's; 0 = not set.",
  ),
  idle_transaction_timeout: seconds(
    null,
    'As idle_transaction_timeout of [pgbouncer]; 0 = its value.',
  ),
  transaction_timeout: seconds(null, 'As transaction_timeout of [pgbouncer]; 0 = its value.'),
  client_idle_timeout: seconds(null, 'As client_idle_timeout of [pgbouncer]; 0 = its value.'),
  route: choice(ROUTES, null, "As route of [pgsteer]; goes before the database's."),
  consistency: choice(
    CONSISTENCIES,
    null,
    "As consistency of [pgsteer]; goes before the database's.",
  ),
} as const

export const PEER_KEYS = {
  host: text(null, 'Host or Unix socket folder of the peer; required.'),
  port: port('6432', 'Port of the peer.', { min: 1 }),
  pool_size: int(null, 'Connections for cancel requests to this peer.'),
} as const

/** Other names that PgBouncer accepts. */
export const DATABASE_ALIASES: ReadonlyMap<string, string> = new Map([
  ['reserve_pool', 'reserve_pool_size'],
])
