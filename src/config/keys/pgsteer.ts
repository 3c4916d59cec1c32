/**
 * Every key of [pgsteer]: routing, failover, HTTP, limits.
 */
import {
  address,
  bool,
  bytes,
  choice,
  file,
  int,
  ms,
  networks,
  port,
  RESTART,
  text,
} from '../kinds.ts'

export const ROUTES = ['split', 'primary', 'replica'] as const
export const CONSISTENCIES = ['session', 'eventual', 'global', 'primary'] as const
export const SESSION_STATES = ['pin', 'reject', 'warn'] as const
export const SERVER_CLEANS = ['auto', 'always', 'never'] as const
export const READ_TRANSACTIONS = ['primary', 'replica_until_write'] as const
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const

export const PGSTEER_KEYS = {
  http_addr: address('127.0.0.1', 'Address of the HTTP port.', RESTART),
  http_port: port('9632', 'Port for health, metrics and the API.', RESTART),
  http_token_file: file(
    null,
    'File with the bearer token that HTTP calls need which change something; unset: they are refused.',
  ),
  route: choice(
    ROUTES,
    'split',
    'Where statements go: reads to replicas and the rest to the primary, or all to one of them.',
  ),
  consistency: choice(
    CONSISTENCIES,
    'session',
    'What reads on replicas must see: the writes of their own session, of everybody (global), whatever is there (eventual), or no replicas (primary).',
  ),
  replica_lag_bytes_max: bytes('16777216', 'A replica further behind gets no reads.', {
    max: 2 ** 48,
  }),
  replica_lag_ms_max: ms('10000', 'A replica further behind gets no reads.'),
  no_replica: choice(
    ['primary', 'wait', 'error'],
    'primary',
    'What happens to reads while no replica may serve them.',
  ),
  replica_wait_ms: ms('1000', 'Longest wait of a read for a replica that may serve it.'),
  primary_reads_max: int(
    '0',
    'Reads that may run on the primary at once for want of a replica; 0 = no limit.',
  ),
  read_transactions: choice(
    READ_TRANSACTIONS,
    'primary',
    'Where a transaction begins that is not declared READ ONLY.',
  ),
  session_state: choice(
    SESSION_STATES,
    'pin',
    'What happens to state that cannot be carried from server to server.',
  ),
  server_clean: choice(
    SERVER_CLEANS,
    'auto',
    'Whether a server connection is cleaned before another session gets it.',
  ),
  failover_hold_ms_max: ms(
    null,
    'How long writes wait for a primary; unset: 2 x ttl + 10 s, 70000 with the default ttl of Patroni.',
  ),
  hold_waiters_max: int(
    '10000',
    'Clients that may wait for a primary; the last tenth is kept for reads.',
    {
      min: 1,
    },
  ),
  hold_bytes_max: bytes('67108864', 'Bytes of statements that may wait for a primary.', {
    min: 1024,
  }),
  switchover_grace_ms: ms(
    '300',
    'Hold new writes this long after a switchover was asked for, where no hook of Patroni is known; 0: never.',
  ),
  switchover_drain_ms_max: ms(
    '5000',
    'How long POST /api/drain waits for write transactions to end.',
    { max: 20_000 },
  ),
  waiters_max: int(
    '10000',
    'Clients that may wait in one pool: so many for the primary, and as many for others.',
    { min: 1 },
  ),
  batch_bytes_max: bytes('65536', 'A batch is routed at the latest when it has this size.', {
    min: 1024,
    max: 16_777_216,
  }),
  statement_cache_max: int('10000', 'Statements whose classification is kept.', { min: 1 }),
  member_connections_max: int(
    '0',
    'Server connections to one member, of all pools together; 0 = no limit.',
  ),
  member_logins_max: int(
    '10',
    'Log-ins to one member at once, of all pools together: the pace at which a new primary gets its connections.',
    { min: 1 },
  ),
  member_address: choice(
    ['conn_url', 'proxy_url'],
    'conn_url',
    "Which of a member's addresses in Patroni gets the traffic: its own, or the pooler in front of it.",
    RESTART,
  ),
  frame_bytes_before_login_max: bytes(
    '10000',
    'Largest message of a client that has not logged in.',
    { min: 512, max: 1_048_576 },
  ),
  client_login_waiters_max: int(
    '1000',
    'Clients that may wait for a secret to be looked up at the same time.',
    { min: 1 },
  ),
  proxy_protocol_networks: networks(
    '',
    'Networks whose connections begin with a PROXY protocol header.',
    RESTART,
  ),
  zone: text('', 'Zone of this process: members of the same zone get its reads first.'),
  multiplex_reads: choice(
    ['auto', 'off'],
    'off',
    'Reads of several clients back to back on one server connection, when a pool has no free one.',
  ),
  multiplex_depth_max: int('16', 'Reads that may be on their way on one server at once.', {
    min: 2,
    max: 1000,
  }),
  multiplex_bytes_max: bytes('16384', 'A larger read gets a server of its own.', {
    min: 64,
    max: 1_048_576,
  }),
  multiplex_behind_ms_max: ms(
    '5',
    'No read goes behind one that usually takes longer, or of which that is not known yet.',
    { min: 1, max: 60_000 },
  ),
  multiplex_buffer_bytes_max: bytes(
    '1048576',
    'Answer bytes kept for a client that reads slowly from a shared server; beyond, those behind it move.',
    { min: 16_384, max: 1_073_741_824 },
  ),
  workers: int('1', 'Processes that serve clients; limits are divided among them.', {
    ...RESTART,
    min: 1,
    max: 64,
  }),
  error_codes: choice(
    ['pgbouncer', 'postgres'],
    'pgbouncer',
    "SQLSTATEs of errors that PgBouncer has too: its 08P01, or PostgreSQL's own codes.",
  ),
  register_instance: bool(
    '1',
    'Take part in finding instances (source = etcd, no [peers]): write down this one in etcd and read the others there, so that cancel requests are passed on. Off: neither.',
    RESTART,
  ),
  advertise_addr: text(
    null,
    'Address under which other instances reach this one; unset: the one it listens on, or the one this machine reaches etcd from.',
    RESTART,
  ),
  advertise_port: int(null, 'Port beside advertise_addr; unset: listen_port.', {
    ...RESTART,
    min: 1,
    max: 65_535,
  }),
  shutdown_timeout_ms: ms('30000', 'How long a drain may take after SIGTERM.'),
  shutdown_notice_ms: ms(
    '0',
    'For so long after SIGTERM or SIGINT new clients are still taken, while `/readyz` says no already: time for a balancer to send them elsewhere. The drain begins then.',
  ),
  worker_drain_ms_max: ms(
    '600000',
    'So long a worker that is replaced (RESTART WORKERS, RELOAD after an upgrade) lets its clients end their transactions; what is left then is cut off.',
    { min: 1000 },
  ),
  log_level: choice(LOG_LEVELS, 'info', 'What is logged.'),
  log_format: choice(
    ['json', 'pretty'],
    'json',
    'One JSON object per line, or text for people.',
    RESTART,
  ),
} as const
