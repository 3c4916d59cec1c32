/**
 * Every key of [pgbouncer], in PgBouncer's order (that of SHOW CONFIG), with its defaults.
 * Source: PgBouncer 1.26, `bouncer_params` in src/main.c, and its doc/config.md.
 */
import {
  addresses,
  bool,
  bytes,
  checkQuery,
  choice,
  file,
  int,
  LATER,
  list,
  ms,
  octal,
  port,
  protocols,
  RESTART,
  seconds,
  string,
  text,
} from '../kinds.ts'

export const POOL_MODES = ['session', 'transaction', 'statement'] as const
export const SSL_MODES = [
  'disable',
  'allow',
  'prefer',
  'require',
  'verify-ca',
  'verify-full',
] as const

/** What libpq calls them. */
export type SslMode = (typeof SSL_MODES)[number]
export const AUTH_TYPES = ['trust', 'plain', 'md5', 'scram-sha-256', 'cert', 'hba'] as const

const AUTH_QUERY =
  'SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END FROM pg_authid WHERE rolname=$1 AND rolcanlogin'

const NEVER: { live: boolean; built: boolean } = { live: false, built: false }

export const PGBOUNCER_KEYS = {
  admin_users: list('', 'Users who may run every command of the console.'),
  application_name_add_host: bool(
    '0',
    "Append the client's host and port to application_name at log-in.",
  ),
  auth_dbname: text(
    null,
    'Database of [databases] in which auth_query runs; unset: the one the client asked for.',
  ),
  auth_file: file(null, 'Users and secrets, one `"user" "secret"` per line.'),
  auth_hba_file: file('', 'Rules for auth_type = hba, in the form of pg_hba.conf.'),
  auth_ident_file: file(null, 'User name maps for `map=` in the HBA file.'),
  auth_ldap_options: text(null, 'LDAP options.', LATER),
  auth_query: string(
    AUTH_QUERY,
    'Query that returns name and secret of a user who is not in auth_file.',
  ),
  auth_type: choice(
    AUTH_TYPES,
    'md5',
    'How clients prove who they are; md5 becomes SCRAM where the secret is SCRAM.',
  ),
  auth_user: text(null, 'User who runs auth_query; unset: no auth_query.'),
  autodb_idle_timeout: seconds(
    '3600',
    'Forget a database made from `*` that was not used this long.',
  ),
  cancel_wait_timeout: seconds(
    '10',
    'Longest wait of a cancel request for its connection to the server.',
  ),
  client_idle_timeout: seconds('0', 'Close clients idle this long; 0 = never.'),
  client_login_timeout: seconds('60', 'Longest time from connect to the end of log-in.'),
  client_tls13_ciphers: text(null, 'TLS 1.3 cipher suites towards clients.'),
  client_tls_ca_file: file('', 'Certificates that client certificates are checked against.'),
  client_tls_cert_file: file('', 'Certificate shown to clients.'),
  client_tls_ciphers: string('default', 'Ciphers towards clients up to TLS 1.2.'),
  client_tls_dheparams: string('auto', 'DHE parameters: none, auto, legacy.', LATER),
  client_tls_ecdhcurve: string('auto', 'ECDH curve: none, auto, or its name.'),
  client_tls_key_file: file('', 'Private key of client_tls_cert_file.'),
  client_tls_protocols: protocols('secure', 'TLS versions towards clients; secure = 1.2 and 1.3.'),
  client_tls_sslmode: choice(
    SSL_MODES,
    'disable',
    'Whether clients may or must use TLS, and certificates.',
  ),
  conffile: text(null, 'Configuration file of the next RELOAD.', LATER),
  default_pool_size: int('20', 'Server connections per database, user and member; 0 = no limit.'),
  disable_pqexec: bool('0', 'Refuse the simple query protocol.', RESTART),
  dns_max_ttl: seconds('15', 'How long a resolved name is kept.', LATER),
  dns_nxdomain_ttl: seconds('15', 'How long a failed look-up is kept.', LATER),
  dns_zone_check_period: seconds('0', 'Look for changed zone serials this often.', LATER),
  idle_transaction_timeout: seconds(
    '0',
    'Close clients idle in a transaction this long; 0 = never.',
  ),
  ignore_startup_parameters: list('', 'Startup parameters that are accepted and dropped.'),
  job_name: string('pgbouncer', 'Name of the process in the system log.', NEVER),
  listen_addr: addresses(
    '',
    'Addresses to listen on; `*` = all; empty = the Unix socket only.',
    RESTART,
  ),
  listen_backlog: int('128', 'Connections that may wait to be accepted.', { ...RESTART, min: 1 }),
  listen_port: port('6432', 'Port to listen on, also in the name of the Unix socket.', RESTART),
  log_connections: bool('1', 'Log every log-in.'),
  log_disconnections: bool('1', 'Log every disconnect with its reason.'),
  log_pooler_errors: bool('1', 'Log errors sent to clients.'),
  log_stats: bool('1', 'Log totals every stats_period.'),
  logfile: text('', 'File to log to; empty = standard output.'),
  login_notify_message: text('', 'NOTICE that every client gets after log-in.'),
  max_client_conn: int('100', 'Client connections altogether; the console is not counted.', {
    min: 1,
  }),
  max_db_client_connections: int('0', 'Client connections per database; 0 = no limit.'),
  max_db_connections: int('0', 'Server connections per database and member; 0 = no limit.'),
  max_packet_size: bytes('2147483647', 'Largest message that is passed.', { min: 1024 }),
  max_prepared_statements: int(
    '200',
    'Prepared statements kept per server connection; 0 = not tracked.',
  ),
  max_user_client_connections: int('0', 'Client connections per user; 0 = no limit.'),
  max_user_connections: int('0', 'Server connections per user and member; 0 = no limit.'),
  min_pool_size: int('0', 'Keep at least this many server connections per pool.'),
  peer_id: int('0', 'Number of this process among [peers]; 0 = none.', { max: 16_383 }),
  pidfile: text('', 'File that holds the process id while it runs.', RESTART),
  pkt_buf: bytes('4096', 'Size of a buffer.', NEVER),
  pool_mode: choice(POOL_MODES, 'session', 'When a server connection is given back.'),
  pool_idle_timeout: seconds(
    '0',
    'Forget pools without clients and servers after this long; 0 = never.',
  ),
  query_timeout: seconds('0', 'End statements that run longer; 0 = never.'),
  query_wait_notify: seconds('5', 'Send a NOTICE to a client that waits this long; 0 = never.'),
  query_wait_timeout: seconds('120', 'Longest wait for a server connection; 0 = for ever.'),
  reserve_pool_size: int('0', 'Additional server connections of a pool in time of need.'),
  reserve_pool_timeout: seconds('5', 'A client that waits this long may use the reserve.'),
  resolv_conf: text('', 'Another resolv.conf.', NEVER),
  sbuf_loopcnt: int('5', 'Buffers handled per wake-up.', LATER),
  scram_iterations: int('4096', 'Iterations of SCRAM secrets made from plain passwords.', {
    min: 1,
  }),
  server_check_delay: seconds('30', 'Server connections idle this long are checked before use.'),
  server_check_query: checkQuery(
    '<empty>',
    'The check: `<empty>` = an empty query, nothing = no check.',
  ),
  server_connect_timeout: seconds('15', 'Longest time to connect and log in to a server.'),
  server_fast_close: bool(
    '0',
    'In session mode, close outdated connections without waiting for the client.',
  ),
  server_idle_timeout: seconds('600', 'Close server connections idle this long; 0 = never.'),
  server_lifetime: seconds(
    '3600',
    'Close server connections older than this when free; 0 = after one use.',
  ),
  server_login_retry: seconds('15', 'After a failed log-in, wait this long before the next.'),
  server_reset_query: string(
    'DISCARD ALL',
    'Query that cleans a server connection in session mode.',
  ),
  server_reset_query_always: bool('0', 'Clean in every pool mode.'),
  server_round_robin: bool('0', 'Use server connections in turn instead of the last one first.'),
  server_tls13_ciphers: text(null, 'TLS 1.3 cipher suites towards servers.'),
  server_tls_ca_file: file('', 'Certificates that server certificates are checked against.'),
  server_tls_cert_file: file('', 'Certificate shown to servers.'),
  server_tls_ciphers: string('default', 'Ciphers towards servers up to TLS 1.2.'),
  server_tls_key_file: file('', 'Private key of server_tls_cert_file.'),
  server_tls_protocols: protocols('secure', 'TLS versions towards servers; secure = 1.2 and 1.3.'),
  server_tls_sslmode: choice(
    SSL_MODES,
    'prefer',
    'Whether TLS is used towards servers and what is checked.',
  ),
  service_name: text(null, 'Another name for job_name.', NEVER),
  so_reuseport: bool('0', 'Let several processes listen on the same port.', RESTART),
  stats_period: seconds('60', 'Window of the averages.'),
  stats_users: list('', 'Users who may run SHOW on the console.'),
  suspend_timeout: seconds('10', 'Limit of SUSPEND, which is gone.', LATER),
  syslog: bool('0', 'Log to the system log.', LATER),
  syslog_facility: string('daemon', 'Facility in the system log.', LATER),
  syslog_ident: string('pgbouncer', 'Name in the system log.', LATER),
  tcp_defer_accept: int('1', 'TCP_DEFER_ACCEPT.', LATER),
  tcp_keepalive: bool('1', 'TCP keepalive on client and server connections.'),
  tcp_keepcnt: int('0', 'TCP_KEEPCNT.', LATER),
  tcp_keepidle: seconds(
    '300',
    'Idle time before the first keepalive; 0 = what the system says, often 7200, while load balancers forget idle connections after 900.',
  ),
  tcp_keepintvl: seconds('0', 'TCP_KEEPINTVL.', LATER),
  tcp_socket_buffer: bytes('0', "Size of the system's socket buffers.", LATER),
  tcp_user_timeout: ms('0', 'TCP_USER_TIMEOUT, in milliseconds.', LATER),
  track_extra_parameters: list(
    'IntervalStyle',
    'Accepted and not needed: every setting follows its session, named here or not.',
    RESTART,
  ),
  transaction_timeout: seconds('0', 'Close clients whose transaction lasts longer; 0 = never.'),
  unix_socket_dir: text(
    '/tmp',
    'Folder of the Unix socket, `@name` for an abstract one; empty = none.',
    RESTART,
  ),
  unix_socket_group: text('', 'Group of the Unix socket.', NEVER),
  unix_socket_mode: octal('0777', 'Permissions of the Unix socket.', RESTART),
  user: text(null, 'Become this user after start.', RESTART),
  verbose: int('0', 'How much is logged beyond log_level: 1 and more = debug.', { max: 3 }),
} as const
