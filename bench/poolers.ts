/**
 * The contenders: pgsteer, PgBouncer and no pooler at all, in front of the same PostgreSQL, with the
 * same log-in, transport, pool size and pool mode. Poolers read one and the same ini file as far as
 * PgBouncer knows its keys.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { Client } from 'pg'
import { serverAccount } from '../src/demo/binaries.ts'
import type { EmbeddedCluster } from '../src/demo/cluster.ts'
import { Authority } from '../test/support/certificates.ts'
import { program } from '../test/support/debian.ts'
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
    const ini = await writeFiles(name, bench, { directory, port, settings })
    const logFile = join(directory, 'log')
    // One PgBouncer has one process for its clients.
    const count = name === 'pgbouncer' ? settings.workers : 1
    const children = Array.from({ length: count }, () => launch(name, bench, { ini, logFile }))
    for (const { pid } of children) if (pid !== undefined) bench.cluster.guard(pid)
    for (const child of children) await untilServing({ port, child, logFile, settings })
    return new Contender(name, port, settings, children)
  }

  /** PostgreSQL itself is asked without. */
  get isTls(): boolean {
    return this.settings.isTls && this.hasProcesses
  }

  get hasProcesses(): boolean {
    return this.#pids.length > 0
  }

  /** CPU time that all its processes have used, in microseconds. */
  get cpuUs(): number {
    return cpuUs(this.#pids)
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

async function writeFiles(name: string, bench: Bench, place: Place): Promise<string> {
  const userlist = join(place.directory, 'userlist.txt')
  writeFileSync(userlist, '"demo" "demo"\n', { mode: 0o644 })
  const ini = join(place.directory, 'pooler.ini')
  const isRouted = name === 'routed'
  const { port } = bench.cluster.primary
  const entry = isRouted ? '* =' : `demo = host=127.0.0.1 port=${port}`
  const lines = ['[databases]', entry, '', ...commonLines(name, place, userlist)]
  if (name !== 'pgbouncer') {
    const httpPort = await freePort()
    lines.push('', '[pgsteer]', 'http_addr = 127.0.0.1', `http_port = ${httpPort}`)
    lines.push(`workers = ${place.settings.workers}`)
  } else if (pgbouncerVersion(bench).hasPrepared) lines.push('max_prepared_statements = 200')
  if (isRouted)
    lines.push(
      '',
      '[cluster]',
      'source = static',
      `hosts = 127.0.0.1:${port}`,
      'probe_user = pgsteer',
      'probe_password = pgsteer',
    )
  writeFileSync(ini, `${lines.join('\n')}\n`, { mode: 0o644 })
  return ini
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

function launch(name: string, bench: Bench, files: { ini: string; logFile: string }): ChildProcess {
  const log = openSync(files.logFile, 'a')
  try {
    if (name === 'pgbouncer') {
      const { file, env } = pgbouncerProgram(bench)
      // It refuses to run as root.
      return spawn(file, [files.ini], {
        ...serverAccount(),
        cwd: '/',
        env: { ...process.env, ...env },
        stdio: ['ignore', log, log],
      })
    }
    const checkout = name === 'before' ? (bench.before ?? CHECKOUT) : CHECKOUT
    const { NODE_OPTIONS: _, ...inherited } = process.env
    const env =
      bench.nodeOptions === '' ? inherited : { ...inherited, NODE_OPTIONS: bench.nodeOptions }
    return spawn(process.execPath, [join(checkout, 'src/cli.ts'), files.ini], {
      cwd: bench.cluster.directory,
      env,
      stdio: ['ignore', log, log],
    })
  } finally {
    closeSync(log)
  }
}

interface Started {
  readonly port: number
  readonly child: ChildProcess
  readonly logFile: string
  readonly settings: PoolerSettings
}

async function untilServing({ port, child, logFile, settings }: Started): Promise<void> {
  const deadline = performance.now() + READY_MS_MAX
  while (performance.now() < deadline && child.exitCode === null && child.signalCode === null) {
    if (await serves(port, settings.isTls)) return
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
