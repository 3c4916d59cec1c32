/**
 * The contenders: pgsteer, PgBouncer, HAProxy, Pgpool-II and no pooler at all, in front of the same
 * PostgreSQL, with the same log-in, transport, pool size and pool mode. pgsteer and PgBouncer read one
 * and the same ini file as far as PgBouncer knows its keys; others have no use for pool settings.
 */
import { type ChildProcess, execFileSync, type SpawnOptions, spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { join, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { Client } from 'pg'
import { serverAccount } from '../src/demo/binaries.ts'
import type { EmbeddedCluster } from '../src/demo/cluster.ts'
import { Authority } from '../test/support/certificates.ts'
import { program } from '../test/support/debian.ts'
import { writePgpool } from './pgpool.ts'
import { cpuUs, residentBytes, treeOf } from './processes.ts'

export interface PoolerSettings {
  readonly poolSize: number
  readonly poolMode: 'transaction' | 'session'
  readonly authType: 'scram-sha-256' | 'trust'
  readonly clientsMax: number
  /** Clients log in with TLS. */
  readonly isTls: boolean
  /** Processes that serve clients; the pool is that of all of them. */
  readonly workers: number
  /** Reads go to replicas where the contender can tell. */
  readonly isSplit: boolean
}

export interface Bench {
  readonly cluster: EmbeddedCluster
  readonly pgbouncer: string | null
  /** Another checkout of pgsteer. */
  readonly before: string | null
  readonly nodeOptions: string
}

const CHECKOUT = resolve(import.meta.dirname, '..')
const READY_MS_MAX = 20_000
const STOP_MS_MAX = 10_000
const POLL_MS = 50
/** Below the range that outgoing connections take their ports from. */
const PORT_MIN = 15_000
const PORT_MAX = 32_000

/** One that runs. */
export class Contender {
  readonly name: string
  readonly port: number
  readonly settings: PoolerSettings
  readonly #children: readonly ChildProcess[]
  readonly #pids: readonly number[]

  private constructor(
    name: string,
    port: number,
    settings: PoolerSettings,
    children: readonly ChildProcess[],
  ) {
    this.name = name
    this.port = port
    this.settings = settings
    this.#children = children
    // Now that it serves, it has its processes.
    this.#pids = children.flatMap(({ pid }) => (pid === undefined ? [] : treeOf(pid)))
  }

  /**
   * Resolves when a log-in and a statement work.
   *
   * Errors  Error with the end of its log.
   */
  static async start(name: string, bench: Bench, settings: PoolerSettings): Promise<Contender> {
    if (name === 'direct') return new Contender(name, bench.cluster.primary.port, settings, [])
    const port = await freePort()
    const directory = join(bench.cluster.directory, `${name}-${port}`)
    mkdirSync(directory)
    chmodSync(directory, 0o755)
    const command = await commandOf(name, bench, { directory, port, settings })
    const logFile = join(directory, 'log')
    // One PgBouncer has one process for its clients.
    const count = name === 'pgbouncer' ? settings.workers : 1
    const children = Array.from({ length: count }, () => launch(command, logFile))
    for (const { pid } of children) if (pid !== undefined) bench.cluster.guard(pid)
    for (const child of children)
      await untilServing({ port, child, logFile, isTls: settings.isTls && isPooler(name) })
    return new Contender(name, port, settings, children)
  }

  /** PostgreSQL itself is asked without. */
  get isTls(): boolean {
    return this.settings.isTls && isPooler(this.name)
  }

  get hasProcesses(): boolean {
    return this.#pids.length > 0
  }

  /** CPU time that all its processes have used, in microseconds. */
  get cpuUs(): number {
    return cpuUs(this.#pids)
  }

  get pids(): readonly number[] {
    return this.#pids
  }

  get residentBytes(): number {
    return residentBytes(this.#pids)
  }

  async stop(): Promise<void> {
    await Promise.all(this.#children.map(stop))
  }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  await Promise.race([ended, pause(STOP_MS_MAX, undefined, { ref: false })])
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
}

/** PgBouncer learnt prepared statements in transaction mode in 1.21. */
export function pgbouncerVersion(bench: Pick<Bench, 'pgbouncer'>): {
  text: string
  hasPrepared: boolean
} {
  const { file, env } = pgbouncerProgram(bench)
  const text = execFileSync(file, ['-V'], { encoding: 'utf8', env: { ...process.env, ...env } })
  const [, major = '0', minor = '0'] = /(\d+)\.(\d+)/.exec(text) ?? []
  const hasPrepared = Number(major) > 1 || Number(minor) >= 21
  return { text: text.split('\n')[0] ?? '', hasPrepared }
}

function pgbouncerProgram(bench: Pick<Bench, 'pgbouncer'>): {
  file: string
  env: Readonly<Record<string, string>>
} {
  if (bench.pgbouncer !== null) return { file: bench.pgbouncer, env: {} }
  const { file, env } = program('pgbouncer')
  return { file, env }
}

interface Place {
  readonly directory: string
  readonly port: number
  readonly settings: PoolerSettings
}

/** Whether it speaks the protocol, TLS included. */
export function isPooler(name: string): boolean {
  return name !== 'direct' && name !== 'haproxy'
}

interface Command {
  readonly file: string
  readonly args: readonly string[]
  readonly options: SpawnOptions
}

/** What starts it, its files written. */
async function commandOf(name: string, bench: Bench, place: Place): Promise<Command> {
  if (name === 'haproxy') return haproxyCommand(bench, place)
  if (name === 'pgpool') {
    const { file, args, env } = program('pgpool')
    const own = writePgpool(bench.cluster, { ...place, pcpPort: await freePort() })
    return unprivileged(file, [...args, ...own], { env, cwd: place.directory })
  }
  const ini = await writeIni(name, bench, place)
  if (name === 'pgbouncer') {
    const { file, env } = pgbouncerProgram(bench)
    return unprivileged(file, [ini], { env, cwd: '/' })
  }
  const checkout = name === 'before' ? (bench.before ?? CHECKOUT) : CHECKOUT
  const { NODE_OPTIONS: _, ...inherited } = process.env
  const env =
    bench.nodeOptions === '' ? inherited : { ...inherited, NODE_OPTIONS: bench.nodeOptions }
  const options = { cwd: bench.cluster.directory, env }
  return { file: process.execPath, args: [join(checkout, 'src/cli.ts'), ini], options }
}

/** PgBouncer refuses to run as root. */
function unprivileged(
  file: string,
  args: readonly string[],
  where: { readonly env: Readonly<Record<string, string>>; readonly cwd: string },
): Command {
  const account = serverAccount()
  if (account !== undefined && where.cwd !== '/') chownSync(where.cwd, account.uid, account.gid)
  const env = { ...process.env, ...where.env }
  return { file, args, options: { ...account, cwd: where.cwd, env } }
}

/** Bytes from socket to socket: the least that anything between client and server costs. */
function haproxyCommand(bench: Bench, { directory, port }: Place): Command {
  const lines = [
    'global',
    '    maxconn 1000',
    '    nbthread 1',
    'defaults',
    '    mode tcp',
    '    timeout client 30m',
    '    timeout connect 4s',
    '    timeout server 30m',
    'listen primary',
    `    bind 127.0.0.1:${port}`,
    `    server primary 127.0.0.1:${bench.cluster.primary.port}`,
  ]
  const configuration = join(directory, 'haproxy.cfg')
  writeFileSync(configuration, `${lines.join('\n')}\n`)
  const { file, args, env } = program('haproxy')
  const options = { cwd: '/', env: { ...process.env, ...env } }
  return { file, args: [...args, '-db', '-f', configuration], options }
}

async function writeIni(name: string, bench: Bench, place: Place): Promise<string> {
  const userlist = join(place.directory, 'userlist.txt')
  writeFileSync(userlist, '"demo" "demo"\n', { mode: 0o644 })
  const ini = join(place.directory, 'pooler.ini')
  const isPgsteer = name !== 'pgbouncer'
  const isRouted = isPgsteer && (name === 'routed' || place.settings.isSplit)
  const { port } = bench.cluster.primary
  const entry = isRouted ? '* =' : `demo = host=127.0.0.1 port=${port}`
  const lines = ['[databases]', entry, '', ...commonLines(name, place, userlist)]
  if (isPgsteer) lines.push(...(await pgsteerLines(name, place)))
  else if (pgbouncerVersion(bench).hasPrepared) lines.push('max_prepared_statements = 200')
  if (isRouted)
    lines.push(
      '',
      '[cluster]',
      'source = static',
      `hosts = ${bench.cluster.members.map((member) => `127.0.0.1:${member.port}`).join(',')}`,
      'probe_user = pgsteer',
      'probe_password = pgsteer',
    )
  writeFileSync(ini, `${lines.join('\n')}\n`, { mode: 0o644 })
  return ini
}

async function pgsteerLines(name: string, { settings }: Place): Promise<string[]> {
  const httpPort = await freePort()
  const lines = ['', '[pgsteer]', 'http_addr = 127.0.0.1', `http_port = ${httpPort}`]
  lines.push(`workers = ${settings.workers}`)
  // Another checkout may not know the key.
  if (name !== 'before') lines.push(`multiplex_reads = ${name === 'multiplexed' ? 'auto' : 'off'}`)
  return lines
}

function commonLines(name: string, place: Place, userlist: string): string[] {
  const { settings, port } = place
  // pgsteer divides the pool among its workers itself.
  const isDivided = name === 'pgbouncer'
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

function launch({ file, args, options }: Command, logFile: string): ChildProcess {
  const log = openSync(logFile, 'a')
  try {
    return spawn(file, args, { ...options, stdio: ['ignore', log, log] })
  } finally {
    closeSync(log)
  }
}

interface Started {
  readonly port: number
  readonly child: ChildProcess
  readonly logFile: string
  readonly isTls: boolean
}

async function untilServing({ port, child, logFile, isTls }: Started): Promise<void> {
  const deadline = performance.now() + READY_MS_MAX
  while (performance.now() < deadline && child.exitCode === null && child.signalCode === null) {
    if (await serves(port, isTls)) return
    await pause(POLL_MS)
  }
  child.kill('SIGKILL')
  const log = readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-15).join('\n')
  throw new Error(`it did not serve within ${READY_MS_MAX} ms, or ended:\n${log}`)
}

async function serves(port: number, isTls: boolean): Promise<boolean> {
  const client = new Client({
    connectionString: `postgres://demo:demo@127.0.0.1:${port}/demo`,
    ssl: isTls ? { rejectUnauthorized: false } : false,
    connectionTimeoutMillis: 2000,
    query_timeout: 2000,
  })
  client.on('error', () => undefined)
  try {
    await client.connect()
    await client.query('SELECT 1')
    return true
  } catch {
    return false
  } finally {
    await client.end().catch(() => undefined)
  }
}

export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(PORT_MIN, PORT_MAX)
    const server = createServer().listen({ port, host: '127.0.0.1', exclusive: true })
    const isFree = await Promise.race([
      once(server, 'listening').then(() => true),
      once(server, 'error').then(() => false),
    ])
    if (isFree) {
      await once(server.close(), 'close')
      return port
    }
  }
}
