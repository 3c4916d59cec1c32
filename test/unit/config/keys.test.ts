import { describe, expect, expectTypeOf, test } from 'vitest'
import {
  type ClusterConfig,
  fieldOf,
  KEY_SECTIONS,
  keysOf,
  type PgbouncerConfig,
  type PgsteerConfig,
  SECTIONS,
  type SectionName,
  type UserEntry,
} from '../../../src/config/keys.ts'
import { BadValue } from '../../../src/config/kinds.ts'
import { configFrom } from '../../support/config.ts'

/** As PgBouncer's source lists them. */
const PGBOUNCER = `
  admin_users application_name_add_host auth_dbname auth_file auth_hba_file auth_ident_file
  auth_ldap_options auth_query auth_type auth_user autodb_idle_timeout cancel_wait_timeout
  client_idle_timeout client_login_timeout client_tls13_ciphers client_tls_ca_file
  client_tls_cert_file client_tls_ciphers client_tls_dheparams client_tls_ecdhcurve
  client_tls_key_file client_tls_protocols client_tls_sslmode conffile default_pool_size
  disable_pqexec dns_max_ttl dns_nxdomain_ttl dns_zone_check_period idle_transaction_timeout
  ignore_startup_parameters job_name listen_addr listen_backlog listen_port log_connections
  log_disconnections log_pooler_errors log_stats logfile login_notify_message max_client_conn
  max_db_client_connections max_db_connections max_packet_size max_prepared_statements
  max_user_client_connections max_user_connections min_pool_size peer_id pidfile pkt_buf pool_mode
  pool_idle_timeout query_timeout query_wait_notify query_wait_timeout reserve_pool_size
  reserve_pool_timeout resolv_conf sbuf_loopcnt scram_iterations server_check_delay
  server_check_query server_connect_timeout server_fast_close server_idle_timeout server_lifetime
  server_login_retry server_reset_query server_reset_query_always server_round_robin
  server_tls13_ciphers server_tls_ca_file server_tls_cert_file server_tls_ciphers
  server_tls_key_file server_tls_protocols server_tls_sslmode service_name so_reuseport
  stats_period stats_users suspend_timeout syslog syslog_facility syslog_ident tcp_defer_accept
  tcp_keepalive tcp_keepcnt tcp_keepidle tcp_keepintvl tcp_socket_buffer tcp_user_timeout
  track_extra_parameters transaction_timeout unix_socket_dir unix_socket_group unix_socket_mode
  user verbose
`

/** Numbers without a default: keys.ts names them so that their types allow null. */
const UNSET = {
  pgbouncer: [],
  cluster: ['group'],
  pgsteer: ['failover_hold_ms_max', 'advertise_port'],
}

const ALL = Object.keys(SECTIONS).flatMap((section) =>
  Object.entries(keysOf(section as SectionName)).map(
    ([name, key]) => [section, name, key] as const,
  ),
)

describe('the table of keys', () => {
  test("has PgBouncer's 101 settings in the order of its SHOW CONFIG", () => {
    expect(Object.keys(SECTIONS.pgbouncer)).toEqual(PGBOUNCER.trim().split(/\s+/))
    expect(Object.keys(SECTIONS.pgbouncer)).toHaveLength(101)
  })

  test('what PgBouncer reads at start only needs a restart here too', () => {
    const names = Object.entries(keysOf('pgbouncer')).filter(([, key]) => !key.live)
    expect(names.map(([name]) => name).join(' ')).toBe(
      'disable_pqexec job_name listen_addr listen_backlog listen_port pidfile pkt_buf resolv_conf ' +
        'service_name so_reuseport track_extra_parameters unix_socket_dir unix_socket_group ' +
        'unix_socket_mode user',
    )
  })

  test.each(ALL)('[%s] %s: the default reads and is written as it stands', (_, name, key) => {
    expect(key.doc, name).toMatch(/^[A-Z`].*\.$/s)
    if (key.fallback === null) return
    expect(key.format(key.parse(key.fallback))).toBe(key.fallback)
  })

  test('no key of a section is also in another', () => {
    const names = KEY_SECTIONS.flatMap((section) => Object.keys(keysOf(section)))
    expect(new Set(names).size).toBe(names.length)
  })

  test('the fields of a configuration are the keys of the table', () => {
    const config = configFrom('[cluster]\nsource = static\nhosts = a\n')
    for (const section of KEY_SECTIONS) {
      const fields = Object.entries(keysOf(section)).map(([name, key]) => fieldOf(name, key))
      expect(Object.keys(config[section] ?? {})).toEqual(fields)
    }
  })

  test('types follow from the table', () => {
    expectTypeOf<PgbouncerConfig['poolMode']>().toEqualTypeOf<
      'session' | 'transaction' | 'statement'
    >()
    expectTypeOf<PgbouncerConfig['queryWaitTimeoutMs']>().toEqualTypeOf<number>()
    expectTypeOf<PgbouncerConfig['authUser']>().toEqualTypeOf<string | null>()
    expectTypeOf<PgsteerConfig['failoverHoldMsMax']>().toEqualTypeOf<number | null>()
    expectTypeOf<ClusterConfig['group']>().toEqualTypeOf<number | null>()
    expectTypeOf<ClusterConfig['etcdHosts']>().toEqualTypeOf<readonly string[]>()
    expectTypeOf<UserEntry['poolSize']>().toEqualTypeOf<number | null>()
    // What has no default may be null, and its type must say so.
    for (const section of KEY_SECTIONS) {
      const unset = Object.entries(keysOf(section)).filter(([, key]) => key.fallback === null)
      const bare = unset.filter(([, key]) => !['text', 'file', 'secret'].includes(key.kind))
      expect(bare.map(([name]) => name)).toEqual(UNSET[section])
    }
  })

  test('a key in seconds is a field in milliseconds', () => {
    const key = SECTIONS.pgbouncer.query_wait_timeout
    expect(fieldOf('query_wait_timeout', key)).toBe('queryWaitTimeoutMs')
    expect(key.parse('1.5')).toBe(1500)
    expect(key.format(1500)).toBe('1.5')
  })

  test('a time that is not 0 does not become 0, which would mean never', () => {
    expect(SECTIONS.pgbouncer.query_timeout.parse('0.0001')).toBe(1)
    expect(SECTIONS.pgbouncer.query_timeout.parse('0.0')).toBe(0)
  })

  test.each(['', ' ', '1 2', '09', '0x', '1.5', '1e3', '--1', '-1', '2147483648', 'NaN', '１'])(
    '%j is not a count',
    (input) => {
      expect(() => SECTIONS.pgbouncer.max_client_conn.parse(input)).toThrow(BadValue)
    },
  )

  test.each(['', '-1', '1s', '1,5', 'Infinity', '1e99', '.'])(
    '%j is not a number of seconds',
    (input) => {
      expect(() => SECTIONS.pgbouncer.query_timeout.parse(input)).toThrow(BadValue)
    },
  )

  test('the check query tells the empty query from none', () => {
    const key = SECTIONS.pgbouncer.server_check_query
    expect([key.parse('<empty>'), key.parse(''), key.parse('select 1')]).toEqual([
      '',
      null,
      'select 1',
    ])
    expect([key.format(''), key.format(null), key.format('select 1')]).toEqual([
      '<empty>',
      '',
      'select 1',
    ])
  })

  test('a connection that is idle is kept alive before load balancers forget it', () => {
    const { tcpKeepalive, tcpKeepidleMs } = configFrom('[databases]\n* = host=a\n').pgbouncer
    expect(tcpKeepalive).toBe(true)
    expect(tcpKeepidleMs).toBeGreaterThan(0)
    expect(tcpKeepidleMs).toBeLessThan(900_000)
  })

  test('networks are checked and get their length', () => {
    const key = SECTIONS.pgsteer.proxy_protocol_networks
    expect(key.parse('10.0.0.0/8, ::1, 192.168.1.1')).toEqual([
      '10.0.0.0/8',
      '::1/128',
      '192.168.1.1/32',
    ])
    expect(() => key.parse('fe80::/129')).toThrow(BadValue)
    expect(() => key.parse('host/8')).toThrow(BadValue)
  })

  test('weights and zones are by member, whose name may hold a port', () => {
    expect(SECTIONS.cluster.member_weights.parse('a:5432=2, b = 0')).toEqual(
      new Map([
        ['a:5432', 2],
        ['b', 0],
      ]),
    )
    expect(SECTIONS.cluster.member_zones.parse('a=east')).toEqual(new Map([['a', 'east']]))
    expect(() => SECTIONS.cluster.member_weights.parse('a=heavy')).toThrow(BadValue)
  })
})
