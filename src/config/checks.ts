/**
 * What must hold between keys, after each was read on its own.
 */
import { type Config, isHost } from './config.ts'
import type { Setting, Settings } from './environment.ts'
import { ADMIN_DATABASE, type KeySection } from './keys.ts'
import { type Problems, quoted } from './problem.ts'

interface Check {
  readonly config: Config
  readonly settings: Settings
  /** The file has a [databases] section, perhaps an empty one. */
  readonly hasDatabases: boolean
  readonly problems: Problems
  readonly warnings: string[]
}

/** Adds to `problems` what makes the configuration unusable; returns what is merely odd. */
export function checkConfig(input: Omit<Check, 'warnings'>): readonly string[] {
  const check: Check = { ...input, warnings: [] }
  checkUse(check)
  checkListen(check)
  checkAuth(check)
  checkTls(check)
  checkCluster(check)
  checkSizes(check)
  checkPeers(check)
  return check.warnings
}

/** Where `key` was set, or the file as a whole. */
function placeOf(check: Check, section: KeySection, key: string): Setting['place'] {
  return check.settings[section].get(key)?.place ?? { file: check.config.file, line: null }
}

function fail(check: Check, key: string, text: string, remedy: string | null = null): void {
  const sections: readonly KeySection[] = ['pgbouncer', 'cluster', 'pgsteer']
  const section = sections.find((one) => check.settings[one].has(key)) ?? 'pgbouncer'
  check.problems.add(placeOf(check, section, key), text, remedy)
}

function checkUse(check: Check): void {
  const { config } = check
  if (config.databases.size === 0 && config.cluster === null && check.hasDatabases) {
    check.warnings.push(
      '[databases] is empty and there is no [cluster]: only the console can be used',
    )
  } else if (config.databases.size === 0 && config.cluster === null) {
    const remedy = 'add an entry to [databases], or a [cluster] section with its source'
    fail(check, '', 'there is nothing to connect to: no [databases] and no [cluster]', remedy)
  }
  if (config.cluster === null) return
  for (const database of config.databases.values()) {
    if (database.hosts.length > 0 || database.port === 5432) continue
    check.warnings.push(
      `database "${database.name}": port= has no effect without host=, it is routed`,
    )
  }
}

function checkListen(check: Check): void {
  const { pgbouncer, pgsteer } = check.config
  if (pgbouncer.listenAddr.length === 0 && pgbouncer.unixSocketDir === null) {
    fail(
      check,
      'listen_addr',
      'there is nothing to listen on',
      'set listen_addr or unix_socket_dir',
    )
  }
  const isSamePort = pgsteer.httpPort !== 0 && pgsteer.httpPort === pgbouncer.listenPort
  const everywhere = new Set(['*', '0.0.0.0', '::', pgsteer.httpAddr])
  const overlaps =
    pgbouncer.listenAddr.some((one) => everywhere.has(one)) ||
    (pgbouncer.listenAddr.length > 0 && ['0.0.0.0', '::', '*'].includes(pgsteer.httpAddr))
  if (isSamePort && overlaps) {
    fail(check, 'http_port', `http_port and listen_port are both ${pgsteer.httpPort}`, 'change one')
  }
}

function checkAuth(check: Check): void {
  const { pgbouncer, userlist, pgsteer, httpToken } = check.config
  if (pgbouncer.authType === 'hba' && pgbouncer.authHbaFile === null) {
    fail(check, 'auth_type', 'auth_type = hba needs auth_hba_file')
  }
  if (pgbouncer.authType === 'cert') {
    if (pgbouncer.clientTlsSslmode !== 'verify-full') {
      fail(check, 'auth_type', 'auth_type = cert needs client_tls_sslmode = verify-full')
    }
  }
  if (pgbouncer.authDbname === ADMIN_DATABASE) {
    fail(check, 'auth_dbname', 'auth_dbname cannot be the console')
  }
  const canAsk =
    pgbouncer.authUser !== null ||
    [...check.config.databases.values()].some((database) => database.authUser !== null)
  if (userlist.size === 0 && !canAsk) {
    check.warnings.push('no client can log in: auth_file has no users and auth_user is not set')
  }
  if (pgsteer.httpTokenFile !== null && httpToken === '') {
    fail(check, 'http_token_file', 'http_token_file is empty')
  }
}

function checkTls(check: Check): void {
  const { pgbouncer: bouncer, cluster } = check.config
  const isOffered = bouncer.clientTlsSslmode !== 'disable'
  if (isOffered && (bouncer.clientTlsKeyFile === null || bouncer.clientTlsCertFile === null)) {
    const text = `client_tls_sslmode = ${bouncer.clientTlsSslmode} needs client_tls_cert_file and client_tls_key_file`
    fail(check, 'client_tls_sslmode', text)
  }
  if (bouncer.clientTlsSslmode.startsWith('verify-') && bouncer.clientTlsCaFile === null) {
    const text = `client_tls_sslmode = ${bouncer.clientTlsSslmode} needs client_tls_ca_file`
    fail(check, 'client_tls_sslmode', text)
  }
  checkPair(check, 'client_tls', bouncer.clientTlsCertFile, bouncer.clientTlsKeyFile)
  checkPair(check, 'server_tls', bouncer.serverTlsCertFile, bouncer.serverTlsKeyFile)
  checkAuthority(check, 'server_tls_sslmode', bouncer.serverTlsSslmode)
  if (cluster === null) return
  checkAuthority(check, 'probe_tls_sslmode', cluster.probeTlsSslmode)
  checkPair(check, 'etcd_tls', cluster.etcdTlsCertFile, cluster.etcdTlsKeyFile)
  checkPair(check, 'patroni_tls', cluster.patroniTlsCertFile, cluster.patroniTlsKeyFile)
}

/** What verifies servers needs something to verify them against. */
function checkAuthority(check: Check, key: string, mode: string): void {
  if (!mode.startsWith('verify-') || check.config.pgbouncer.serverTlsCaFile !== null) return
  fail(check, key, `${key} = ${mode} needs server_tls_ca_file`)
}

function checkPair(check: Check, name: string, cert: string | null, key: string | null): void {
  if ((cert === null) === (key === null)) return
  const set = cert === null ? `${name}_key_file` : `${name}_cert_file`
  const missing = cert === null ? `${name}_cert_file` : `${name}_key_file`
  fail(check, set, `${set} needs ${missing}`)
}

function checkCluster(check: Check): void {
  const { cluster } = check.config
  if (cluster === null) return
  const isNamed = check.settings.cluster.has('source')
  const remedy = isNamed ? null : 'source is not set, so etcd; it may be patroni or static'
  const { source } = cluster
  if (source === 'etcd' && cluster.etcdHosts.length === 0) {
    fail(check, 'source', 'source = etcd needs etcd_hosts', remedy)
  }
  if (source === 'etcd' && cluster.scope === null) {
    fail(check, 'source', 'source = etcd needs scope', remedy)
  }
  if (cluster.scope?.includes('/') === true) {
    fail(check, 'scope', 'scope must not hold a /', 'what stands before it is the namespace')
  }
  if (source === 'patroni' && cluster.patroniUrls.length === 0) {
    fail(check, 'source', 'source = patroni needs patroni_urls')
  }
  if (source === 'static' && cluster.hosts.length === 0) {
    fail(check, 'source', 'source = static needs hosts')
  }
  if (source !== 'etcd' && check.config.pgsteer.memberAddress === 'proxy_url') {
    const why = "only Patroni's keys in etcd name the poolers, take conn_url"
    fail(check, 'member_address', 'member_address = proxy_url needs source = etcd', why)
  }
  if (new Set(cluster.etcdHosts.map((url) => URL.parse(url)?.protocol)).size > 1) {
    fail(check, 'etcd_hosts', 'etcd_hosts must be all http:// or all https://')
  }
  if ((cluster.etcdUser === null) !== (cluster.etcdPassword === null)) {
    fail(check, 'etcd_user', 'etcd_user and etcd_password need each other')
  }
  if (cluster.probeUser === '') fail(check, 'probe_user', 'probe_user must not be empty')
  if (cluster.probeBusyIntervalMs > cluster.probeIntervalMs) {
    fail(
      check,
      'probe_busy_interval_ms',
      'probe_busy_interval_ms must not be more than probe_interval_ms',
    )
  }
}

function checkPeers(check: Check): void {
  const { peers, pgbouncer, cluster, pgsteer } = check.config
  if (peers.size > 0 && pgbouncer.peerId === 0) {
    const why = 'cancel requests are neither passed on nor passed on to this instance'
    check.warnings.push(`[peers] has entries and peer_id is not set: ${why}`)
  }
  if (pgsteer.advertiseAddr !== null && cluster?.source !== 'etcd')
    check.warnings.push('advertise_addr has no effect without source = etcd')
  if (pgsteer.advertiseAddr !== null && !isHost(pgsteer.advertiseAddr)) {
    const text = `advertise_addr = ${quoted(pgsteer.advertiseAddr)} is not a host name or an address`
    fail(check, 'advertise_addr', text, 'an IPv6 address stands there without brackets and zone')
  }
}

function checkSizes(check: Check): void {
  const { pgbouncer, databases, pgsteer } = check.config
  const { defaultPoolSize, minPoolSize, maxClientConn } = pgbouncer
  if (defaultPoolSize > 0 && minPoolSize > defaultPoolSize) {
    check.warnings.push('min_pool_size is more than default_pool_size, which limits it')
  }
  for (const database of databases.values()) {
    const size = database.poolSize ?? defaultPoolSize
    if (size === 0 || database.minPoolSize === null || database.minPoolSize <= size) continue
    check.warnings.push(
      `database "${database.name}": min_pool_size is more than its pool size, which limits it`,
    )
  }
  if (maxClientConn < pgsteer.workers) {
    fail(
      check,
      'workers',
      'workers must not be more than max_client_conn, which is divided among them',
    )
  }
  if (pgsteer.batchBytesMax > pgbouncer.maxPacketSize) {
    fail(check, 'batch_bytes_max', 'batch_bytes_max must not be more than max_packet_size')
  }
}
