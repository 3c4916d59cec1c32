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
import { program } from '../test/support/debian.ts'
import { cpuUs, residentBytes, treeOf } from './processes.ts'

export interface PoolerSettings {
  readonly poolSize: number
  readonly poolMode: 'transaction' | 'session'
  readonly authType: 'scram-sha-256' | 'trust'
  readonly clientsMax: number
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
  readonly #child: ChildProcess | null
  readonly #pids: readonly number[]

  private constructor(
    name: string,
    port: number,
    settings: PoolerSettings,
    child: ChildProcess | null,
  ) {
    this.name = name
    this.port = port
    this.settings = settings
    this.#child = child
    this.#pids = child?.pid === undefined ? [] : treeOf(child.pid)
  }

  /**
   * Resolves when a log-in and a statement work.
   *
   * Errors  Error with the end of its log.
   */
  static async start(name: string, bench: Bench, settings: PoolerSettings): Promise<Contender> {
    if (name === 'direct') return new Contender(name, bench.cluster.primary.port, settings, null)
    const port = await freePort()
    const directory = join(bench.cluster.directory, `${name}-${port}`)
    mkdirSync(directory)
    chmodSync(directory, 0o755)
    const ini = await writeFiles(name, bench, { directory, port, settings })
    const logFile = join(directory, 'log')
    const child = launch(name, bench, { ini, logFile })
    if (child.pid !== undefined) bench.cluster.guard(child.pid)
    await untilServing(port, child, logFile)
    return new Contender(name, port, settings, child)
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
    const child = this.#child
    if (child === null || child.exitCode !== null || child.signalCode !== null) return
    const ended = once(child, 'exit')
    child.kill('SIGTERM')
    await Promise.race([ended, pause(STOP_MS_MAX, undefined, { ref: false })])
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
  }
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
  const lines = ['[databases]', entry, '', ...commonLines(place, userlist)]
  if (name !== 'pgbouncer') {
    const httpPort = await freePort()
    lines.push('', '[pgsteer]', 'http_addr = 127.0.0.1', `http_port = ${httpPort}`)
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

function commonLines(place: Place, userlist: string): string[] {
  const { settings, port } = place
  return [
    '[pgbouncer]',
    'listen_addr = 127.0.0.1',
    `listen_port = ${port}`,
    'unix_socket_dir =',
    `auth_type = ${settings.authType}`,
    `auth_file = ${userlist}`,
    `pool_mode = ${settings.poolMode}`,
    `default_pool_size = ${settings.poolSize}`,
    `max_client_conn = ${settings.clientsMax}`,
    'log_connections = 0',
    'log_disconnections = 0',
    'server_tls_sslmode = disable',
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

async function untilServing(port: number, child: ChildProcess, logFile: string): Promise<void> {
  const deadline = performance.now() + READY_MS_MAX
  while (performance.now() < deadline && child.exitCode === null && child.signalCode === null) {
    if (await serves(port)) return
    await pause(POLL_MS)
  }
  child.kill('SIGKILL')
  const log = readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-15).join('\n')
  throw new Error(`it did not serve within ${READY_MS_MAX} ms, or ended:\n${log}`)
}

async function serves(port: number): Promise<boolean> {
  const client = new Client({
    connectionString: `postgres://demo:demo@127.0.0.1:${port}/demo`,
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
