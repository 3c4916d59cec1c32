import { accessSync, constants, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import { loadConfig } from '../../../src/config/load.ts'
import { ConfigError } from '../../../src/config/problem.ts'
import { configFrom, load } from '../../support/config.ts'
import { errorOf, MINIMAL, problemsOf } from './support.ts'

const CLUSTER = `
[databases]
* =                                   ; routed over the cluster
legacy = host=10.1.2.3 port=5432      ; as in PgBouncer
[pgbouncer]
listen_addr = 0.0.0.0
listen_port = 6432
auth_type = scram-sha-256
auth_file = userlist.txt
pool_mode = transaction
[cluster]
source = etcd                         ; etcd | patroni | static
scope = main                          ; group = 0 for Citus
namespace = /service/
etcd_hosts = http://etcd1:2379, http://etcd2:2379, http://etcd3:2379   ; + etcd_user
;patroni_urls = http://pg1:8008, http://pg2:8008     ; members discovered from any of them
;hosts = pg1:5432, pg2:5432                          ; static: roles found by asking
probe_user = pgsteer                  ; LOGIN, pg_monitor
probe_password = ...
probe_database = postgres
probe_interval_ms = 500
probe_busy_interval_ms = 20
[pgsteer]
http_addr = 127.0.0.1                 ; what changes state over HTTP needs http_token_file
http_port = 9632
route = split                         ; split | primary | replica
consistency = session
replica_lag_bytes_max = 16777216
replica_lag_ms_max = 10000
failover_hold_ms_max = 70000          ; default 2 x ttl + 10 s
workers = 1
`

function isReadable(file: string): boolean {
  try {
    accessSync(file, constants.R_OK)
    return true
  } catch {
    return false
  }
}

const USERS = { 'userlist.txt': '"joe" "secret"\n' }

describe('load', () => {
  test('the configuration of the manual loads as it is written, comments included', () => {
    const { config, warnings } = load({ ini: CLUSTER, files: USERS })
    expect(warnings).toEqual([])
    expect(config.databases.get('*')?.hosts).toEqual([])
    expect(config.databases.get('legacy')?.hosts).toEqual(['10.1.2.3'])
    expect(config.pgbouncer.listenAddr).toEqual(['0.0.0.0'])
    expect(config.pgbouncer.poolMode).toBe('transaction')
    expect(config.cluster?.scope).toBe('main')
    expect(config.cluster?.etcdHosts).toHaveLength(3)
    expect(config.cluster?.probePassword).toBe('...')
    expect(config.pgsteer.failoverHoldMsMax).toBe(70_000)
    expect(config.userlist.get('joe')).toBe('secret')
  })

  test("a package's pgbouncer.ini loads unchanged, also the one that is installed here", () => {
    const installed = '/etc/pgbouncer/pgbouncer.ini'
    const files = [join(import.meta.dirname, 'package-pgbouncer.ini')]
    if (isReadable(installed) && isReadable('/etc/pgbouncer/userlist.txt')) files.push(installed)
    for (const file of files) {
      const { config, warnings } = loadConfig(file, {})
      expect(config.pgbouncer.listenAddr).toEqual(['localhost'])
      expect(config.pgbouncer.unixSocketDir).toBe('/var/run/postgresql')
      expect(config.pgbouncer.authType).toBe('md5')
      expect(warnings.join()).toContain('only the console can be used')
    }
  })

  test('a production pgbouncer.ini with most keys loads', () => {
    const { config } = loadConfig(join(import.meta.dirname, 'production-pgbouncer.ini'), {})
    expect(config.pgbouncer.serverIdleTimeoutMs).toBe(240_500)
    expect(config.pgbouncer.unixSocketMode).toBe(0o770)
    expect(config.pgbouncer.adminUsers).toEqual(['postgres', 'dba'])
    expect(config.databases.get('app')).toMatchObject({
      hosts: ['10.0.0.1', '10.0.0.2'],
      port: 5433,
      dbname: 'app_v2',
      user: 'pool',
      password: "it's secret",
      reservePoolSize: 3,
      poolMode: 'transaction',
      connectQuery: 'set work_mem = 1',
    })
    expect(config.users.get('batch')).toMatchObject({ poolMode: 'session', maxUserConnections: 10 })
    const peer = { id: 2, host: '/tmp/peer2', port: 6433, poolSize: null, tls: null }
    expect(config.peers.get(2)).toEqual(peer)
    expect(config.userlist.get('joe')).toBe('md5abc')
  })

  test('the last of duplicate keys and of duplicate entries wins', () => {
    const config = configFrom(
      '[databases]\na = host=one pool_size=3\na = host=two\n[pgbouncer]\npool_mode = session\npool_mode = statement\n',
    )
    expect(config.databases.get('a')).toMatchObject({ hosts: ['two'], poolSize: null })
    expect(config.pgbouncer.poolMode).toBe('statement')
  })

  test('defaults are those of PgBouncer and of the manual', () => {
    const config = configFrom(MINIMAL)
    expect(config.cluster).toBeNull()
    expect(config.pgbouncer).toMatchObject({
      authType: 'md5',
      defaultPoolSize: 20,
      maxClientConn: 100,
      poolMode: 'session',
      queryWaitTimeoutMs: 120_000,
      serverCheckQuery: '',
      serverResetQuery: 'DISCARD ALL',
      unixSocketDir: '/tmp',
      unixSocketMode: 0o777,
      logConnections: true,
      syslog: false,
      authFile: null,
    })
    expect(config.pgsteer).toMatchObject({ route: 'split', failoverHoldMsMax: null, workers: 1 })
  })

  test('what is read cannot be changed', () => {
    const config = configFrom({ ini: CLUSTER, files: USERS })
    for (const value of [config, config.pgbouncer, config.cluster, config.pgsteer]) {
      expect(Object.isFrozen(value)).toBe(true)
    }
    expect(Object.isFrozen(config.databases.get('*'))).toBe(true)
    expect(Object.isFrozen(config.cluster?.etcdHosts)).toBe(true)
  })

  test('the value survives a structured clone, as between processes', () => {
    const config = configFrom({ ini: CLUSTER, files: USERS })
    expect(structuredClone(config)).toEqual(config)
  })

  test('without a cluster an entry without host= is the Unix socket', () => {
    const config = configFrom('[databases]\na = dbname=b\n[pgbouncer]\nunix_socket_dir = /run/pg\n')
    expect(config.databases.get('a')?.hosts).toEqual(['/run/pg'])
  })

  test('a cluster without databases routes all of them', () => {
    const config = configFrom('[cluster]\nsource = static\nhosts = pg1, [::1]:6000, pg2:5433\n')
    expect([...config.databases.keys()]).toEqual(['*'])
    expect(config.cluster?.hosts).toEqual([
      { host: 'pg1', port: 5432 },
      { host: '::1', port: 6000 },
      { host: 'pg2', port: 5433 },
    ])
  })

  test('values of our own sections may be quoted, and then hold what would be a comment', () => {
    const config = configFrom(
      `[cluster]\nsource = static\nhosts = a\nprobe_password = 'a ; b''c'   ; the password\nprobe_user = x;y\n`,
    )
    expect(config.cluster?.probePassword).toBe("a ; b'c")
    expect(config.cluster?.probeUser).toBe('x;y')
  })

  test("PgBouncer's values keep semicolons and numbers may be hexadecimal or octal", () => {
    const config = configFrom(
      `${MINIMAL}[pgbouncer]\nserver_reset_query = A ; B\nlisten_port = 0x1933\nmax_client_conn = 0144\n`,
    )
    expect(config.pgbouncer.serverResetQuery).toBe('A ; B')
    expect(config.pgbouncer.listenPort).toBe(6451)
    expect(config.pgbouncer.maxClientConn).toBe(100)
  })

  test('files are looked for in the working directory, then beside the main file', () => {
    const config = configFrom({
      ini: `${MINIMAL}[pgbouncer]\nauth_file = users.txt\n`,
      files: { 'users.txt': '"a" "b"' },
    })
    expect(config.pgbouncer.authFile).toMatch(/^\/.*\/users\.txt$/)
    expect(config.userlist.get('a')).toBe('b')
    const here = configFrom({
      ini: `${MINIMAL}[pgbouncer]\nauth_hba_file = package.json\nauth_type = hba\n`,
      files: { 'package.json': 'beside' },
    })
    expect(here.hba).toContain('"name": "pgsteer"')
  })

  test('the HBA file, the ident file and the HTTP token are read', () => {
    const config = configFrom({
      ini: `${MINIMAL}[pgbouncer]\nauth_type = hba\nauth_hba_file = hba\nauth_ident_file = ident\n[pgsteer]\nhttp_token_file = token\n`,
      files: { hba: 'local all all trust\n', ident: 'm a b\n', token: ' t0ken\n' },
    })
    expect([config.hba, config.ident, config.httpToken]).toEqual([
      'local all all trust\n',
      'm a b\n',
      't0ken',
    ])
  })

  test('[peers] without peer_id, and an address that nobody is told, get a warning each', () => {
    const { warnings } = load(
      `${MINIMAL}p = host=x\n[pgbouncer]\nauth_user = a\n[pgsteer]\nadvertise_addr = pg\n[peers]\n1 = host=/tmp\n`,
    )
    expect(warnings).toEqual([
      expect.stringMatching(/^\[peers\] has entries and peer_id is not set/),
      'advertise_addr has no effect without source = etcd',
    ])
  })

  test('keys without effect are accepted with one warning that names them all', () => {
    const { warnings } = load(
      `${MINIMAL}p = host=x\n[pgbouncer]\nauth_user = a\nsyslog = 1\npeer_id = 1\nresolv_conf = /x\n[peers]\n1 = host=/tmp\n`,
    )
    expect(warnings).toEqual(['accepted, but without effect in this version: resolv_conf, syslog'])
  })
})

describe('problems', () => {
  test('all of them are reported at once, with file, line and remedy', () => {
    expect(
      problemsOf(
        '[databases]\na = host=x prot=1\npgbouncer = host=x\n[pgbouncer]\npool_mod = session\nlisten_port = 70000\nscope = x\n[clustre]\n[pgsteer]\nworkers = two\n',
      ),
    ).toEqual([
      '8: unknown section [clustre] (did you mean cluster?)',
      '5: unknown key "pool_mod" in [pgbouncer] (did you mean pool_mode?)',
      '7: unknown key "scope" in [pgbouncer] (it belongs to [cluster])',
      '6: listen_port = "70000": must be from 0 to 65535',
      '10: workers = "two": must be a whole number',
      '2: database "a": unknown key "prot" (did you mean port?)',
      '3: database name "pgbouncer" is reserved (it is the name of the console)',
    ])
  })

  test('a trailing comment that PgBouncer would not allow is named as such', () => {
    expect(problemsOf(`${MINIMAL}[pgbouncer]\npool_mode = session ; the default\n`)).toEqual([
      '4: pool_mode = "session ; the default": must be one of session, transaction, statement (comments are allowed only at the start of a line)',
    ])
    expect(problemsOf(`${MINIMAL}[pgbouncer]\nauth_file = /nowhere/users ; users\n`)).toEqual([
      '4: auth_file = "/nowhere/users ; users": cannot read "/nowhere/users ; users": no such file (comments are allowed only at the start of a line)',
    ])
  })

  test('problems beyond the first hundred are counted', () => {
    const { message, problems } = errorOf(`${MINIMAL}[pgbouncer]\n${'x = 1\n'.repeat(150)}`)
    expect(problems).toHaveLength(100)
    expect(message.split('\n').at(-1)).toBe('and 50 more problems')
  })

  test('secrets are never in a message', () => {
    const problems = problemsOf(
      `[databases]\na = host=x password='geheim\nb = host=x password=geheim port=y\n[cluster]\nsource = static\nhosts = x\nprobe_password = 'geheim\n`,
    )
    expect(problems).toHaveLength(3)
    expect(problems.join('\n')).not.toContain('geheim')
  })

  test.each([
    ['', 'there is nothing to connect to: no [databases] and no [cluster]'],
    ['[cluster]\n', 'source = etcd needs etcd_hosts'],
    ['[cluster]\nsource = etcd\netcd_hosts = http://a:1\n', 'source = etcd needs scope'],
    ['[cluster]\nsource = patroni\n', 'source = patroni needs patroni_urls'],
    ['[cluster]\nsource = static\n', 'source = static needs hosts'],
    ...['patroni\npatroni_urls = http://a', 'static\nhosts = a'].map((source): [string, string] => [
      `[cluster]\nsource = ${source}\n[pgsteer]\nmember_address = proxy_url\n`,
      'member_address = proxy_url needs source = etcd',
    ]),
    ['[cluster]\nsource = zookeeper\n', 'must be one of etcd, patroni, static'],
    ['[cluster]\nscope = a\netcd_hosts = http://a, https://b\n', 'all http:// or all https://'],
    ['[cluster]\nscope = a\netcd_hosts = http://u:p@a\n', 'must not hold a user name or password'],
    ['[cluster]\nscope = a\netcd_hosts = etcd1:2379\n', 'must be a list of http:// or https://'],
    ['[cluster]\nscope = a\netcd_hosts = http://a\netcd_user = x\n', 'need each other'],
    ['[cluster]\nsource = static\nhosts = a:99999\n', '"a:99999" is not host:port'],
    ['[cluster]\nsource = static\nhosts = a\nprobe_interval_ms = 10\n', 'must not be more than'],
    ['[cluster]\nsource = static\nhosts = a\nmember_weights = a\n', '"a" is not member=value'],
    [`${MINIMAL}[pgbouncer]\nunix_socket_dir =\n`, 'there is nothing to listen on'],
    [
      '[databases]\na =\n[pgbouncer]\nunix_socket_dir =\nlisten_addr = *\n',
      'database "a" leads nowhere',
    ],
    [`${MINIMAL}[pgbouncer]\nlisten_addr = a b\n`, '"a b" is not an address or host name'],
    [`${MINIMAL}[pgsteer]\nadvertise_addr = [fd00::1]\n`, 'is not a host name or an address'],
    [`${MINIMAL}[pgsteer]\nadvertise_addr = fe80::1%eth0\n`, 'is not a host name or an address'],
    [`${MINIMAL}[pgbouncer]\nlisten_addr = *\nlisten_port = 9632\n`, 'are both 9632'],
    [`${MINIMAL}[pgbouncer]\nauth_type = hba\n`, 'auth_type = hba needs auth_hba_file'],
    [`${MINIMAL}[pgbouncer]\nauth_type = pam\n`, 'must be one of trust, plain, md5'],
    [`${MINIMAL}[pgbouncer]\nauth_type = cert\n`, 'needs client_tls_sslmode = verify-full'],
    [`${MINIMAL}[pgbouncer]\nauth_dbname = pgbouncer\n`, 'auth_dbname cannot be the console'],
    [`${MINIMAL}[pgbouncer]\nauth_file = /\n`, 'it is a folder'],
    [`${MINIMAL}[pgbouncer]\nclient_tls_sslmode = require\n`, 'needs client_tls_cert_file and'],
    [`${MINIMAL}[pgbouncer]\nserver_tls_cert_file = package.json\n`, 'needs server_tls_key_file'],
    [`${MINIMAL}[pgbouncer]\nserver_tls_sslmode = verify-ca\n`, 'needs server_tls_ca_file'],
    [
      '[cluster]\nscope = a\netcd_hosts = http://a\nprobe_tls_sslmode = verify-full\n',
      'probe_tls_sslmode = verify-full needs server_tls_ca_file',
    ],
    [`${MINIMAL}[pgbouncer]\nquery_timeout = -1\n`, 'must be a number of seconds'],
    [`${MINIMAL}[pgbouncer]\nclient_tls_protocols = sslv3\n`, 'must be secure, all, or a list'],
    [`${MINIMAL}[pgbouncer]\nlog_stats = maybe\n`, 'must be 0 or 1'],
    [`${MINIMAL}[pgsteer]\nworkers = 0\n`, 'must be from 1 to 64'],
    [`${MINIMAL}[pgbouncer]\nmax_client_conn = 2\n[pgsteer]\nworkers = 3\n`, 'max_client_conn'],
    [`${MINIMAL}[pgsteer]\nproxy_protocol_networks = 10.0.0.0/33\n`, 'is not a network'],
    ['[databases]\na = host=,\n', 'database "a": host= names no host'],
    ['[databases]\na = host=x port=0\n', 'must be from 1 to 65535'],
    ['[cluster]\nscope = a/b\netcd_hosts = http://a\n', 'scope must not hold a /'],
    [`${MINIMAL}[peers]\n0 = host=x\n`, 'is not the number of a peer'],
    [`${MINIMAL}[peers]\n1 = port=5\n`, 'peer "1" has no host='],
    [`${MINIMAL}[users]\nu = pool_mode=x\n`, 'user "u": pool_mode = "x": must be one of'],
    [
      `${MINIMAL}[databases]\nd = host=x auth_dbname=pgbouncer\n`,
      'auth_dbname cannot be the console',
    ],
  ])('%j is refused', (ini, message) => {
    const problems = problemsOf(ini)
    expect(problems.join('\n')).toContain(message)
  })

  test('a file that cannot be read at all is one problem', () => {
    expect(() => loadConfig('/nowhere/x.ini', {})).toThrow(
      /cannot read "\/nowhere\/x.ini": no such file/,
    )
  })

  test('what is odd but usable is a warning', () => {
    const { warnings } = load(
      '[databases]\na = min_pool_size=30 port=5433\n[pgbouncer]\nauth_user = x\n[cluster]\nsource = static\nhosts = a\n',
    )
    expect(warnings).toEqual([
      'database "a": port= has no effect without host=, it is routed',
      'database "a": min_pool_size is more than its pool size, which limits it',
    ])
  })
})

describe('any input', () => {
  const folder = mkdtempSync(join(tmpdir(), 'pgsteer-load-'))
  const file = join(folder, 'x.ini')
  afterAll(() => rmSync(folder, { recursive: true }))

  function throwsOnlyConfigError(text: string | Uint8Array, env: NodeJS.ProcessEnv = {}): void {
    writeFileSync(file, text)
    try {
      loadConfig(file, env)
    } catch (error) {
      expect(error).toBeInstanceOf(ConfigError)
    }
  }

  test('bytes give a configuration or a ConfigError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => throwsOnlyConfigError(bytes)),
    )
  })

  test('lines that look like a configuration give one or a ConfigError', () => {
    const section = fc.constantFrom(
      'databases',
      'users',
      'peers',
      'pgbouncer',
      'cluster',
      'pgsteer',
      'x',
    )
    const name = fc.constantFrom(
      '*',
      '1',
      'a',
      'host',
      'pool_mode',
      'listen_addr',
      'etcd_hosts',
      'hosts',
      'auth_file',
      'route',
      'server_lifetime',
      'proxy_protocol_networks',
      'member_weights',
      'toString',
      '__proto__',
      'constructor',
    )
    const value = fc.oneof(
      fc.string(),
      fc.constantFrom(
        'host=x',
        "host='",
        '1',
        '-1',
        '1e9',
        'session',
        '/',
        '[::1]:5',
        'a=1',
        '__proto__=x',
        '0x',
        '09',
      ),
    )
    const line = fc.oneof(
      section.map((one) => `[${one}]`),
      fc.tuple(name, value).map(([one, other]) => `${one} = ${other}`),
      fc.constantFrom('%include x.ini', '%include', '; c', '"a""b" = host=x'),
    )
    fc.assert(
      fc.property(fc.array(line, { maxLength: 12 }), (lines) =>
        throwsOnlyConfigError(lines.join('\n')),
      ),
      { numRuns: 300 },
    )
  })
})
