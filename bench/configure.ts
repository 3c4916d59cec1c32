/**
 * The configuration files of all contenders, each at its best for what is measured. pgsteer and
 * PgBouncer read one and the same ini file as far as PgBouncer knows its keys.
 */
import { chmodSync, chownSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { serverAccount } from '../src/demo/binaries.ts'
import type { EmbeddedCluster } from '../src/demo/cluster.ts'
import type { Member } from '../src/demo/member.ts'
import { Authority } from '../test/support/certificates.ts'
import { pgbouncerVersion } from './pgbouncer.ts'
import { freePort } from './ports.ts'
import type { Bench, PoolerSettings } from './settings.ts'

interface Place {
  readonly directory: string
  readonly port: number
  readonly settings: PoolerSettings
}

/** Returns the path of the file that its program is started with. */
export function writeFiles(name: string, bench: Bench, place: Place): Promise<string> | string {
  if (name === 'haproxy') return writeHaproxy(bench, place)
  if (name === 'pgpool') return writePgpool(bench, place)
  return writeIni(name, bench, place)
}

async function writeIni(name: string, bench: Bench, place: Place): Promise<string> {
  const { settings, directory } = place
  const userlist = join(directory, 'userlist.txt')
  writeFileSync(userlist, '"demo" "demo"\n', { mode: 0o644 })
  const { port } = bench.cluster.primary
  const isRouted = name === 'routed' || settings.isSplit
  const entry = isRouted ? '* =' : `demo = host=127.0.0.1 port=${port}`
  const lines = ['[databases]', entry, '', ...commonLines(name, place, userlist)]
  if (isPgbouncer(name)) {
    if (pgbouncerVersion(bench.pgbouncer).hasPrepared) lines.push('max_prepared_statements = 200')
    if (name === 'pgbouncer-64k') lines.push('pkt_buf = 65536')
  } else {
    lines.push('', '[pgsteer]', 'http_addr = 127.0.0.1', `http_port = ${await freePort()}`)
    lines.push(`workers = ${settings.workers}`)
    if (name === 'multiplexed') lines.push('multiplex_reads = auto')
    if (name === 'pgsteer') lines.push('multiplex_reads = off')
  }
  if (isRouted && !isPgbouncer(name)) lines.push('', ...clusterLines(bench))
  const ini = join(directory, 'pooler.ini')
  writeFileSync(ini, `${lines.join('\n')}\n`, { mode: 0o644 })
  return ini
}

export function isPgbouncer(name: string): boolean {
  return name.startsWith('pgbouncer')
}

function clusterLines(bench: Bench): string[] {
  const hosts = bench.cluster.members.map(({ host, port }) => `${host}:${port}`)
  return [
    '[cluster]',
    'source = static',
    `hosts = ${hosts.join(', ')}`,
    'probe_user = pgsteer',
    'probe_password = pgsteer',
  ]
}

function commonLines(name: string, place: Place, userlist: string): string[] {
  const { settings, port } = place
  // pgsteer divides the pool among its workers itself.
  const isDivided = isPgbouncer(name)
  const poolSize = isDivided ? Math.ceil(settings.poolSize / settings.workers) : settings.poolSize
  return [
    '[pgbouncer]',
    'listen_addr = 127.0.0.1',
    `listen_port = ${port}`,
    'unix_socket_dir =',
    `auth_type = ${settings.authType}`,
    `auth_file = ${userlist}`,
    `pool_mode = ${settings.poolMode}`,
    `default_pool_size = ${poolSize}`,
    `max_client_conn = ${settings.clientsMax}`,
    'log_connections = 0',
    'log_disconnections = 0',
    'server_tls_sslmode = disable',
    ...(isDivided && settings.workers > 1 ? ['so_reuseport = 1'] : []),
    ...(settings.isTls ? tlsLines(place.directory) : []),
  ]
}

function tlsLines(directory: string): string[] {
  const { certFile, keyFile } = new Authority(join(directory, 'tls')).issue({
    commonName: 'localhost',
    names: 'DNS:localhost,IP:127.0.0.1',
  })
  // PgBouncer runs as another.
  chmodSync(keyFile, 0o644)
  return [
    'client_tls_sslmode = require',
    `client_tls_cert_file = ${certFile}`,
    `client_tls_key_file = ${keyFile}`,
  ]
}

/** Bytes from one socket to another, and nothing else: what a process in between costs at least. */
function writeHaproxy(bench: Bench, { directory, port, settings }: Place): string {
  const file = join(directory, 'haproxy.cfg')
  const lines = [
    'global',
    `    maxconn ${settings.clientsMax}`,
    '    nbthread 1',
    'defaults',
    '    mode tcp',
    '    timeout connect 4s',
    '    timeout client 1h',
    '    timeout server 1h',
    'listen postgresql',
    `    bind 127.0.0.1:${port}`,
    `    server primary 127.0.0.1:${bench.cluster.primary.port}`,
  ]
  writeFileSync(file, `${lines.join('\n')}\n`)
  return file
}

/**
 * A process for each client, kept connections, reads on all members by statement, and none of the
 * queries that it may ask the catalogue about temporary and unlogged tables.
 */
async function writePgpool(bench: Bench, { directory, port, settings }: Place): Promise<string> {
  const { cluster } = bench
  const members = cluster.members.map((member, index) => memberText(member, index, cluster))
  const common = pgpoolText({
    backend_clustering_mode: 'streaming_replication',
    listen_addresses: '127.0.0.1',
    port,
    socket_dir: directory,
    pcp_listen_addresses: '127.0.0.1',
    pcp_port: await freePort(),
    pcp_socket_dir: directory,
    pid_file_name: join(directory, 'pgpool.pid'),
    logdir: directory,
    enable_pool_hba: 'on',
    pool_passwd: join(directory, 'pool_passwd'),
    num_init_children: settings.clientsMax,
    max_pool: 1,
    load_balance_mode: 'on',
    statement_level_load_balance: 'on',
    disable_load_balance_on_write: 'transaction',
    check_temp_table: 'none',
    check_unlogged_table: 'off',
    sr_check_period: 0,
    health_check_period: 0,
    failover_on_backend_error: 'off',
    log_min_messages: 'error',
  })
  const write = (name: string, content: string): void => {
    const path = join(directory, name)
    writeFileSync(path, content, { mode: 0o644 })
    const account = serverAccount()
    if (account !== undefined) chownSync(path, account.uid, account.gid)
  }
  write('pool_hba.conf', 'host all all 127.0.0.1/32 trust\n')
  write('pool_passwd', 'demo:TEXTdemo\n')
  write('pcp.conf', '')
  write('pgpool.conf', common + members.join(''))
  return join(directory, 'pgpool.conf')
}

function pgpoolText(values: Readonly<Record<string, string | number>>): string {
  const lines = Object.entries(values).map(
    ([key, value]) => `${key} = ${typeof value === 'number' ? value : `'${value}'`}`,
  )
  return `${lines.join('\n')}\n`
}

function memberText(member: Member, index: number, cluster: EmbeddedCluster): string {
  const flag =
    member === cluster.primary ? 'ALWAYS_PRIMARY|DISALLOW_TO_FAILOVER' : 'DISALLOW_TO_FAILOVER'
  return pgpoolText({
    [`backend_hostname${index}`]: member.host,
    [`backend_port${index}`]: member.port,
    [`backend_weight${index}`]: 1,
    [`backend_data_directory${index}`]: member.dataDir,
    [`backend_flag${index}`]: flag,
  })
}
