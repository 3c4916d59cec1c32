/**
 * Every error a client, a peer or an operator can be told, in one table. The texts and the 08P01 of
 * PgBouncer are kept where PgBouncer has the same error (`pgbouncer` below), because alerts and
 * drivers match on them; `error_codes = postgres` sends PostgreSQL's own code instead.
 *
 * docs/errors.md is tested against this table, both ways.
 */

export type ErrorSource = 'client' | 'server' | 'proxy' | 'operator'
/** When the statement may be sent again: never, or only if no byte of it reached a server. */
export type ErrorRetry = 'never' | 'unsent'
export type ErrorLevel = 'debug' | 'info' | 'warn' | 'error' | null

export interface ErrorRow {
  readonly severity: 'FATAL' | 'ERROR'
  /** PostgreSQL's own code for this condition. */
  readonly sqlstate: string
  /** What PgBouncer sends instead, where it knows the error; null where the error is ours. */
  readonly pgbouncer: string | null
  readonly source: ErrorSource
  readonly retry: ErrorRetry
  readonly level: ErrorLevel
  /** One sentence; `{name}` is filled in from the arguments. */
  readonly message: string
}

type Template = readonly [
  severity: 'FATAL' | 'ERROR',
  sqlstate: string,
  pgbouncer: string | null,
  source: ErrorSource,
  retry: ErrorRetry,
  level: ErrorLevel,
  message: string,
]

const ROWS = {
  // Limits
  max_client_conn: [
    'FATAL',
    '53300',
    '08P01',
    'operator',
    'unsent',
    'warn',
    'no more connections allowed (max_client_conn)',
  ],
  max_db_client_connections: [
    'FATAL',
    '53300',
    '08P01',
    'operator',
    'unsent',
    'warn',
    'client connections exceeded (max_db_client_connections)',
  ],
  max_user_client_connections: [
    'FATAL',
    '53300',
    '08P01',
    'operator',
    'unsent',
    'warn',
    'client connections exceeded (max_user_client_connections)',
  ],
  waiters_full: [
    'ERROR',
    '53300',
    null,
    'operator',
    'unsent',
    'warn',
    'too many clients wait for a server connection of this pool (waiters_max), try again later or raise default_pool_size',
  ],
  frame_bytes_max: [
    'FATAL',
    '54000',
    '08P01',
    'client',
    'never',
    'info',
    'message of {bytes} bytes is larger than max_packet_size ({max})',
  ],
  batch_bytes_max: [
    'ERROR',
    '54000',
    null,
    'client',
    'unsent',
    'info',
    'batch of {bytes} bytes cannot be held before it is routed (batch_bytes_max), send it in smaller batches',
  ],

  // Log-in
  no_such_database: [
    'FATAL',
    '3D000',
    '08P01',
    'client',
    'never',
    'info',
    'no such database: {database}',
  ],
  database_disabled: [
    'FATAL',
    '57P03',
    '08P01',
    'operator',
    'unsent',
    'info',
    'database "{database}" is disabled',
  ],
  auth_database_disabled: [
    'FATAL',
    '57P03',
    '08P01',
    'operator',
    'unsent',
    'info',
    'authentication database "{database}" is disabled',
  ],
  password_failed: [
    'FATAL',
    '28P01',
    '08P01',
    'client',
    'never',
    'info',
    'password authentication failed',
  ],
  sasl_failed: ['FATAL', '28P01', '08P01', 'client', 'never', 'info', 'SASL authentication failed'],
  trust_failed: [
    'FATAL',
    '28000',
    '08P01',
    'client',
    'never',
    'info',
    '"trust" authentication failed',
  ],
  certificate_failed: [
    'FATAL',
    '28000',
    '08P01',
    'client',
    'never',
    'info',
    'certificate authentication failed',
  ],
  login_rejected: ['FATAL', '28000', '08P01', 'client', 'never', 'info', 'login rejected'],
  unix_login_rejected: [
    'FATAL',
    '28000',
    '08P01',
    'client',
    'never',
    'info',
    'unix socket login rejected',
  ],
  no_such_user: ['FATAL', '28P01', '08P01', 'client', 'never', 'info', 'no such user'],
  empty_password: [
    'FATAL',
    '28P01',
    '08P01',
    'client',
    'never',
    'info',
    'empty password returned by client',
  ],
  sasl_mechanism: [
    'FATAL',
    '28000',
    '08P01',
    'client',
    'never',
    'info',
    'client selected an invalid SASL authentication mechanism',
  ],
  password_too_long: ['FATAL', '28P01', '08P01', 'client', 'never', 'info', 'password too long'],
  username_too_long: ['FATAL', '28000', '08P01', 'client', 'never', 'info', 'username too long'],
  no_username: ['FATAL', '28000', '08P01', 'client', 'never', 'info', 'no username supplied'],
  not_allowed: ['FATAL', '28000', '08P01', 'client', 'never', 'info', 'not allowed'],
  no_auth_method: [
    'FATAL',
    '28000',
    '08P01',
    'operator',
    'never',
    'warn',
    'no authentication method is found',
  ],
  auth_query_failed: [
    'FATAL',
    '57P03',
    '08P01',
    'operator',
    'unsent',
    'error',
    'bouncer config error',
  ],
  ssl_required: ['FATAL', '28000', '08P01', 'client', 'never', 'info', 'SSL required'],
  client_eof: ['FATAL', '08006', '08P01', 'client', 'never', 'debug', 'client unexpected eof'],
  client_tls: [
    'FATAL',
    '08P01',
    '08P01',
    'client',
    'never',
    'info',
    'TLS handshake failed: {reason}',
  ],
  direct_tls_alpn: [
    'FATAL',
    '08P01',
    '08P01',
    'client',
    'never',
    'info',
    'direct TLS connection without the ALPN protocol "postgresql"',
  ],
  client_login_timeout: [
    'FATAL',
    '57P05',
    '08P01',
    'client',
    'unsent',
    'info',
    'client_login_timeout',
  ],
  client_login_timeout_server: [
    'FATAL',
    '57P03',
    '08P01',
    'server',
    'unsent',
    'warn',
    'client_login_timeout (server down)',
  ],
  replication_refused: [
    'FATAL',
    '0A000',
    null,
    'operator',
    'never',
    'info',
    'replication connections need a server and none can be had: {reason}',
  ],

  // Startup packet and protocol
  startup_parameter: [
    'FATAL',
    '22023',
    '08P01',
    'client',
    'never',
    'info',
    'unsupported startup parameter: {name}',
  ],
  startup_option: [
    'FATAL',
    '22023',
    '08P01',
    'client',
    'never',
    'info',
    'unsupported startup parameter in options: {name}',
  ],
  startup_options_form: [
    'FATAL',
    '22023',
    '08P01',
    'client',
    'never',
    'info',
    "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed",
  ],
  startup_layout: [
    'FATAL',
    '08P01',
    '08P01',
    'client',
    'never',
    'info',
    'invalid startup packet layout: expected terminator as last byte',
  ],
  startup_value: [
    'FATAL',
    '22023',
    null,
    'client',
    'never',
    'info',
    'startup parameter {name} was refused by the server: {reason}',
  ],
  protocol_v2: [
    'FATAL',
    '08P01',
    '08P01',
    'client',
    'never',
    'info',
    'old V2 protocol not supported',
  ],
  protocol_major: [
    'FATAL',
    '08P01',
    '08P01',
    'client',
    'never',
    'info',
    'unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2',
  ],
  bad_header: [
    'FATAL',
    '08P01',
    '08P01',
    'client',
    'never',
    'info',
    "bad packet header: '{bytes}'",
  ],
  unencrypted_data: [
    'FATAL',
    '08P01',
    '08P01',
    'client',
    'never',
    'warn',
    'received unencrypted data after SSL request',
  ],
  proxy_header: [
    'FATAL',
    '08P01',
    null,
    'client',
    'never',
    'warn',
    'bad PROXY protocol header: {reason}',
  ],
  unknown_message: ['FATAL', '08P01', '08P01', 'client', 'never', 'info', 'unknown pkt'],
  broken_message: ['FATAL', '08P01', '08P01', 'client', 'never', 'info', 'broken {message} packet'],
  pqexec_disallowed: ['FATAL', '0A000', '08P01', 'operator', 'never', 'info', 'PQexec disallowed'],
  statement_mode: [
    'FATAL',
    '0A000',
    '08P01',
    'client',
    'never',
    'info',
    'transaction blocks not allowed in statement pooling mode',
  ],
  prepared_missing: [
    'ERROR',
    '26000',
    null,
    'client',
    'never',
    'info',
    'prepared statement "{name}" does not exist',
  ],
  prepared_exists: [
    'ERROR',
    '42P05',
    null,
    'client',
    'never',
    'info',
    'prepared statement "{name}" already exists',
  ],
  session_state: [
    'ERROR',
    '0A000',
    null,
    'operator',
    'never',
    'info',
    '{what} cannot be kept in this pool mode (session_state = reject), use a database entry with pool_mode = session',
  ],
  server_refused: ['ERROR', '{sqlstate}', null, 'client', 'never', 'info', '{reason}'],

  // Time
  query_wait_timeout: ['FATAL', '57P03', '08P01', 'proxy', 'unsent', 'warn', 'query_wait_timeout'],
  query_timeout_waiting: ['FATAL', '57014', '08P01', 'proxy', 'unsent', 'info', 'query_timeout'],
  query_timeout: ['FATAL', '57014', '08P01', 'proxy', 'never', 'info', 'query timeout'],
  client_idle_timeout: [
    'FATAL',
    '57P05',
    '08P01',
    'client',
    'unsent',
    'info',
    'client_idle_timeout',
  ],
  idle_transaction_timeout: [
    'FATAL',
    '25P03',
    '08P01',
    'client',
    'never',
    'info',
    'idle transaction timeout',
  ],
  transaction_timeout: [
    'FATAL',
    '25P04',
    '08P01',
    'client',
    'never',
    'info',
    'transaction timeout',
  ],
  cancelled: [
    'ERROR',
    '57014',
    null,
    'client',
    'unsent',
    'debug',
    'canceling statement due to user request',
  ],

  // Servers
  server_login_failing: [
    'FATAL',
    '08006',
    '08P01',
    'server',
    'unsent',
    'warn',
    'server login has been failing, cached error: {reason} (server_login_retry)',
  ],
  server_login_failed: ['FATAL', '{sqlstate}', null, 'server', 'unsent', 'warn', '{reason}'],
  server_auth: [
    'FATAL',
    '28000',
    '08P01',
    'operator',
    'unsent',
    'error',
    'server login failed: {reason}',
  ],
  server_keys_stale: [
    'FATAL',
    '28P01',
    null,
    'server',
    'unsent',
    'warn',
    "server login failed: the server's SCRAM secret is not the one that the client proved (salt or iterations differ)",
  ],
  server_connect: [
    'FATAL',
    '08001',
    '08P01',
    'server',
    'unsent',
    'warn',
    'connect failed: {reason}',
  ],
  server_connect_timeout: [
    'FATAL',
    '08001',
    '08P01',
    'server',
    'unsent',
    'warn',
    'connect timeout',
  ],
  server_dns: [
    'FATAL',
    '08001',
    '08P01',
    'operator',
    'unsent',
    'warn',
    'server DNS lookup failed: {reason}',
  ],
  server_tls: [
    'FATAL',
    '08001',
    '08P01',
    'operator',
    'unsent',
    'error',
    'server TLS failed: {reason}',
  ],
  server_lost: ['FATAL', '08006', '08P01', 'server', 'never', 'warn', 'server conn crashed?'],
  server_protocol: [
    'FATAL',
    '08P01',
    '08P01',
    'server',
    'never',
    'error',
    'server broke the protocol: {reason}',
  ],
  server_parameter: [
    'FATAL',
    '22023',
    '08P01',
    'server',
    'unsent',
    'warn',
    'invalid server parameter',
  ],
  member_unfit: [
    'FATAL',
    '08006',
    null,
    'server',
    'unsent',
    'warn',
    'member {member} is not what the topology says: {reason}',
  ],
  database_changed: [
    'FATAL',
    '57P01',
    '08P01',
    'operator',
    'never',
    'info',
    'database configuration changed',
  ],
  database_removed: ['FATAL', '57P01', '08P01', 'operator', 'never', 'info', 'database removed'],

  // Failover
  no_primary: [
    'ERROR',
    '57P03',
    null,
    'server',
    'unsent',
    'warn',
    'no primary to send this to: {reason} (waited {ms} ms, failover_hold_ms_max)',
  ],
  hold_full: [
    'ERROR',
    '57P03',
    null,
    'operator',
    'unsent',
    'warn',
    'no primary and too many clients wait for one already (hold_waiters_max, hold_bytes_max): {reason}',
  ],
  no_replica: [
    'ERROR',
    '57P03',
    null,
    'server',
    'unsent',
    'warn',
    'no replica may serve this read: {reason}',
  ],
  standby_cluster: [
    'ERROR',
    '25006',
    null,
    'operator',
    'unsent',
    'info',
    'this is a standby cluster, it takes no writes',
  ],
  primary_lost: [
    'FATAL',
    '57P01',
    null,
    'server',
    'never',
    'warn',
    'the connection to the primary was ended by a failover: {reason}',
  ],

  // Administration
  shutting_down: [
    'FATAL',
    '57P01',
    '08P01',
    'operator',
    'unsent',
    'info',
    'pooler is shutting down',
  ],
  server_shutting_down: [
    'FATAL',
    '57P01',
    '08P01',
    'operator',
    'unsent',
    'info',
    'server shutting down',
  ],
  admin_disconnect: [
    'FATAL',
    '57P01',
    '08P01',
    'operator',
    'never',
    'info',
    'admin forced disconnect',
  ],

  // Console
  console_command: [
    'ERROR',
    '42601',
    '08P01',
    'client',
    'never',
    'debug',
    "invalid command '{command}', use SHOW HELP;",
  ],
  console_arguments: ['ERROR', '42601', '08P01', 'client', 'never', 'debug', 'bad arguments'],
  console_removed: [
    'ERROR',
    '0A000',
    null,
    'client',
    'never',
    'debug',
    '{command} was removed from PgBouncer 1.26 and is not there either, {remedy}',
  ],
  console_admin: ['ERROR', '42501', '08P01', 'client', 'never', 'info', 'admin access needed'],
  console_database: [
    'ERROR',
    '3D000',
    '08P01',
    'client',
    'never',
    'debug',
    'no such database: {database}',
  ],
  console_database_needed: [
    'ERROR',
    '42601',
    '08P01',
    'client',
    'never',
    'debug',
    'a database is required',
  ],
  console_admin_database: [
    'ERROR',
    '55000',
    '08P01',
    'client',
    'never',
    'debug',
    'cannot {verb} admin db: {database}',
  ],
  console_paused: [
    'ERROR',
    '55000',
    '08P01',
    'client',
    'never',
    'debug',
    'already suspended/paused',
  ],
  console_not_paused: [
    'ERROR',
    '55000',
    '08P01',
    'client',
    'never',
    'debug',
    'pooler is not paused/suspended',
  ],
  console_database_not_paused: [
    'ERROR',
    '55000',
    '08P01',
    'client',
    'never',
    'debug',
    'database {database} is not paused',
  ],
  console_shutting_down: [
    'ERROR',
    '57P01',
    '08P01',
    'operator',
    'never',
    'debug',
    'pooler is shutting down',
  ],
  console_client_id: [
    'ERROR',
    '22023',
    '08P01',
    'client',
    'never',
    'debug',
    'invalid client pointer supplied',
  ],
  console_client: ['ERROR', '42704', '08P01', 'client', 'never', 'debug', 'client not found'],
  console_set: ['ERROR', '22023', '08P01', 'client', 'never', 'info', 'SET failed'],
  console_reload: [
    'ERROR',
    'F0000',
    'F0000',
    'operator',
    'never',
    'error',
    'RELOAD failed, see logs for additional details',
  ],
  console_route: [
    'ERROR',
    '0A000',
    null,
    'operator',
    'never',
    'debug',
    'cannot explain the route: {reason}',
  ],
  console_parameters: [
    'ERROR',
    '0A000',
    null,
    'client',
    'never',
    'debug',
    'the console takes no parameters, write the value into the command',
  ],
  console_function_call: [
    'ERROR',
    '0A000',
    null,
    'client',
    'never',
    'debug',
    'the console has no functions to call',
  ],
  console_names_max: [
    'ERROR',
    '53400',
    null,
    'client',
    'never',
    'info',
    'too many prepared statements or portals in one console session (at most {max}), close some',
  ],
  console_failed: [
    'ERROR',
    '58000',
    null,
    'proxy',
    'never',
    'warn',
    'the command could not be carried out: {reason}',
  ],
  portal_missing: [
    'ERROR',
    '34000',
    null,
    'client',
    'never',
    'debug',
    'portal "{name}" does not exist',
  ],
  portal_exists: [
    'ERROR',
    '42P03',
    null,
    'client',
    'never',
    'debug',
    'portal "{name}" already exists',
  ],
  bind_formats: [
    'ERROR',
    '08P01',
    null,
    'client',
    'never',
    'debug',
    'bind message has {formats} result formats but query has {columns} columns',
  ],

  // Ourselves
  internal: [
    'FATAL',
    'XX000',
    null,
    'proxy',
    'never',
    'error',
    'internal error, please report it: {reason}',
  ],
} as const satisfies Record<string, Template>

export type ErrorCode = keyof typeof ROWS

/** The table by name, for the docs test and the metrics. */
export const ERRORS: Readonly<Record<ErrorCode, ErrorRow>> = Object.fromEntries(
  Object.entries(ROWS).map(([code, row]) => {
    const [severity, sqlstate, pgbouncer, source, retry, level, message] = row as Template
    return [code, { severity, sqlstate, pgbouncer, source, retry, level, message }]
  }),
) as Record<ErrorCode, ErrorRow>

export type ErrorArguments = Readonly<Record<string, string | number>>

/** An operating error: a row of the table with its blanks filled in. */
export class ProxyError extends Error {
  readonly code: ErrorCode
  readonly row: ErrorRow
  /** PostgreSQL's code; a server's own code where the row passes one on. */
  readonly sqlstate: string

  constructor(code: ErrorCode, values: ErrorArguments = {}, cause?: unknown) {
    const row = ERRORS[code]
    super(fill(row.message, values), cause === undefined ? undefined : { cause })
    this.name = 'ProxyError'
    this.code = code
    this.row = row
    this.sqlstate = fill(row.sqlstate, values)
  }

  /** The SQLSTATE that goes on the wire under `error_codes`. */
  wireSqlstate(codes: 'pgbouncer' | 'postgres'): string {
    return codes === 'postgres' ? this.sqlstate : (this.row.pgbouncer ?? this.sqlstate)
  }
}

function fill(template: string, values: ErrorArguments): string {
  return template.replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? '?'))
}

/** What went wrong, as one line without a stack, for logs and for texts. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error.message !== '') return error.message
  const { code } = error as { code?: unknown }
  return typeof code === 'string' ? code : error.name
}
