/**
 * The contenders as processes: poolers, a bare TCP proxy and no pooler at all, in front of the same
 * PostgreSQL, with the same transport. configure.ts has what each of them is told.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, closeSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { Client } from 'pg'
import { serverAccount } from '../src/demo/binaries.ts'
import { type Program, program } from '../test/support/debian.ts'
import { isPgbouncer, writeFiles } from './configure.ts'
import { pgbouncerProgram } from './pgbouncer.ts'
import { freePort } from './ports.ts'
import { cpuUsByName, residentBytes, treeOf } from './processes.ts'
import type { Bench, PoolerSettings } from './settings.ts'

const CHECKOUT = resolve(import.meta.dirname, '..')
const READY_MS_MAX = 60_000
const STOP_MS_MAX = 10_000
const POLL_MS = 50

/** One that runs. */
export class Contender {
  readonly name: string
  readonly port: number
  readonly settings: PoolerSettings
  /** What its clients took to connect last, in milliseconds: pgbench counts that as part of its time. */
  connectMs: number | null = null
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
    const account = serverAccount()
    if (name === 'pgpool' && account !== undefined) chownSync(directory, account.uid, account.gid)
    const ini = await writeFiles(name, bench, { directory, port, settings })
    const logFile = join(directory, 'log')
    // One PgBouncer has one process for its clients.
    const count = isPgbouncer(name) ? settings.workers : 1
    const children = Array.from({ length: count }, () =>
      launch(name, bench, { ini, logFile, port }),
    )
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

  get pids(): readonly number[] {
    return this.#pids
  }

  /** CPU time that its processes have used, in microseconds, by the name of each. */
  get cpuUs(): Readonly<Record<string, number>> {
    return cpuUsByName(this.#pids)
  }

  get residentBytes(): number {
    return residentBytes(this.#pids)
  }

  async stop(): Promise<void> {
    await Promise.all(this.#children.map(stop))
  }
}

interface Files {
  readonly ini: string
  readonly logFile: string
  /** Where it listens. */
  readonly port: number
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  await Promise.race([ended, pause(STOP_MS_MAX, undefined, { ref: false })])
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
}

function launch(name: string, bench: Bench, files: Files): ChildProcess {
  const log = openSync(files.logFile, 'a')
  try {
    const foreign = foreignProgram(name, bench, files.ini)
    if (foreign !== undefined)
      return spawn(foreign.file, foreign.args, {
        // PgBouncer refuses to run as root, and HAProxy gives it up by itself.
        ...(name === 'haproxy' ? {} : serverAccount()),
        cwd: '/',
        env: { ...process.env, ...foreign.env },
        stdio: ['ignore', log, log],
      })
    const { NODE_OPTIONS: _, ...inherited } = process.env
    const env =
      bench.nodeOptions === '' ? inherited : { ...inherited, NODE_OPTIONS: bench.nodeOptions }
    return spawn(process.execPath, ourProgram(name, bench, files), {
      cwd: bench.cluster.directory,
      env,
      stdio: ['ignore', log, log],
    })
  } finally {
    closeSync(log)
  }
}

/** What Node runs. */
function ourProgram(name: string, bench: Bench, { ini, port }: Files): string[] {
  if (name === 'relay')
    return [join(import.meta.dirname, 'relay.ts'), String(port), String(bench.cluster.primary.port)]
  const checkout = name === 'before' ? (bench.before ?? CHECKOUT) : CHECKOUT
  return [join(checkout, 'src/cli.ts'), ini]
}

function foreignProgram(name: string, bench: Bench, config: string): Program | undefined {
  if (isPgbouncer(name)) {
    const { file, args, env } = pgbouncerProgram(bench.pgbouncer)
    return { file, args: [...args, config], env }
  }
  if (name === 'haproxy') {
    const { file, args, env } = program(name)
    return { file, args: [...args, '-db', '-f', config], env }
  }
  if (name !== 'pgpool') return undefined
  const { file, args, env } = program(name)
  const beside = (other: string): string => join(dirname(config), other)
  const files = ['-f', config, '-a', beside('pool_hba.conf'), '-F', beside('pcp.conf')]
  return { file, args: [...args, '-n', ...files], env }
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
