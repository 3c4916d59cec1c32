/**
 * One PostgreSQL server of the embedded cluster: its files, its process, its start and its end. Knows
 * nothing of the other members.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chownSync,
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { Client, type QueryResultRow } from 'pg'
import { invariant } from '../base/invariant.ts'
import type { Account, Binaries } from './binaries.ts'
import { hasCode } from './tree.ts'
import type { Watchdog } from './watchdog.ts'

const START_MS_MAX = 60_000
const STOP_MS_MAX = 30_000
const POLL_MS = 10
/** `sun_path` of the smallest platform, less the name of the socket. */
const SOCKET_DIRECTORY_LENGTH_MAX = 80

const HBA = `local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
host all all ::1/128 scram-sha-256
local replication all scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
`

/** Made for a demonstration: durable against a killed process, not against a lost machine. */
const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: '127.0.0.1',
  max_connections: '300',
  shared_buffers: '64MB',
  dynamic_shared_memory_type: 'mmap',
  fsync: 'off',
  full_page_writes: 'off',
  wal_level: 'replica',
  max_wal_senders: '16',
  wal_keep_size: '512MB',
  max_prepared_transactions: '32',
  hot_standby: 'on',
  wal_receiver_status_interval: '1s',
  wal_retrieve_retry_interval: '100ms',
  password_encryption: 'scram-sha-256',
  timezone: 'UTC',
  log_timezone: 'UTC',
  log_line_prefix: '%m [%p] %u@%d ',
  log_checkpoints: 'off',
}

export interface MemberOptions {
  readonly name: string
  readonly port: number
  readonly dataDir: string
  readonly binaries: Binaries
  readonly account: Account | undefined
  readonly watchdog: Watchdog
  readonly settings: Readonly<Record<string, string>>
}

export class Member {
  readonly name: string
  readonly host = '127.0.0.1'
  readonly port: number
  readonly dataDir: string
  /** What the server writes to its log. */
  readonly logFile: string
  readonly #options: MemberOptions
  #child: ChildProcess | undefined

  constructor(options: MemberOptions) {
    this.name = options.name
    this.port = options.port
    this.dataDir = options.dataDir
    this.logFile = `${options.dataDir}.log`
    this.#options = options
  }

  get isRunning(): boolean {
    return this.#child !== undefined
  }

  /** The postmaster's process id; undefined when it does not run. */
  get pid(): number | undefined {
    return this.#child?.pid
  }

  /** Writes the configuration of a copied data directory; `upstream` makes it a standby of that member. */
  configure(upstream: Member | undefined): void {
    const socketDir = this.dataDir.length < SOCKET_DIRECTORY_LENGTH_MAX ? this.dataDir : ''
    const settings = {
      ...SETTINGS,
      port: String(this.port),
      cluster_name: this.name,
      unix_socket_directories: socketDir,
      ...(upstream === undefined ? {} : { primary_conninfo: this.conninfo(upstream) }),
      ...this.#options.settings,
    }
    const lines = Object.entries(settings).map(([key, value]) => `${key} = ${quoted(value)}`)
    this.#write('postgresql.conf', `${lines.join('\n')}\n`)
    this.#write('postgresql.auto.conf', '')
    this.#write('pg_hba.conf', HBA)
    if (upstream !== undefined) this.#write('standby.signal', '')
  }

  /** How this member reaches `upstream` for replication. */
  conninfo(upstream: Member): string {
    return (
      `host=${upstream.host} port=${upstream.port} user=replicator password=replicator ` +
      `application_name=${this.name} connect_timeout=2`
    )
  }

  /**
   * Resolves when the server takes connections.
   *
   * Errors  Error with the end of the server's log, if it ends or takes longer than a minute.
   */
  async start(): Promise<void> {
    invariant(this.#child === undefined, 'a member is started once')
    const { binaries, account, watchdog } = this.#options
    const log = openSync(this.logFile, 'a')
    const child = spawn(join(binaries.binDir, 'postgres'), ['-D', this.dataDir], {
      ...account,
      cwd: '/',
      // A session of its own: Ctrl-C is for us, we say when the servers end.
      detached: true,
      env: { ...process.env, ...binaries.env, LC_ALL: 'C' },
      stdio: ['ignore', log, log],
    })
    closeSync(log)
    child.unref()
    const { pid } = child
    if (pid === undefined) {
      const [error]: unknown[] = await once(child, 'error')
      throw new Error(`PostgreSQL ${this.name} cannot be started`, { cause: error })
    }
    watchdog.add(pid)
    this.#child = child
    child.once('exit', () => {
      this.#child = undefined
      watchdog.gone(pid)
    })
    await this.#untilReady(pid)
  }

  /** PostgreSQL's shutdown modes: smart SIGTERM, fast SIGINT, immediate SIGQUIT. Resolves when it ended. */
  async stop(signal: 'SIGTERM' | 'SIGINT' | 'SIGQUIT' = 'SIGINT'): Promise<void> {
    const child = this.#child
    if (child === undefined) return
    const ended = endOf(child)
    child.kill(signal)
    child.kill('SIGCONT')
    await ended
  }

  /**
   * Sends a signal and does not wait, except for SIGKILL: that one is for the server and all its
   * backends, as if the machine had gone, and resolves when all of them are no more.
   */
  async kill(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child
    invariant(child?.pid !== undefined, `member ${this.name} runs`)
    if (signal !== 'SIGKILL') {
      child.kill(signal)
      return
    }
    const backends = childrenOf(child.pid)
    const ended = endOf(child)
    child.kill('SIGKILL')
    for (const pid of backends) signalIfThere(pid, 'SIGKILL')
    await ended
    await untilGone(backends)
    this.#releaseMemory()
  }

  /** Stops (SIGSTOP) or continues (SIGCONT) the server and all its backends, as a frozen machine. */
  freeze(signal: 'SIGSTOP' | 'SIGCONT'): void {
    const { pid } = this
    invariant(pid !== undefined, `member ${this.name} runs`)
    for (const one of [pid, ...childrenOf(pid)]) signalIfThere(one, signal)
  }

  /** A connection as superuser. Its owner ends it; the loss of the server rejects what it runs. */
  async connect(database = 'postgres', user = 'postgres'): Promise<Client> {
    const client = new Client({
      host: this.host,
      port: this.port,
      user,
      password: user,
      database,
      connectionTimeoutMillis: 5000,
    })
    client.on('error', () => undefined)
    await client.connect()
    return client
  }

  /** Runs one statement over a connection of its own and returns its rows. */
  async query<Row extends QueryResultRow>(sql: string, values: unknown[] = []): Promise<Row[]> {
    const client = await this.connect()
    try {
      return (await client.query<Row>(sql, values)).rows
    } finally {
      await client.end()
    }
  }

  /** The server says so itself in the last line of postmaster.pid, as pg_ctl reads it. */
  async #untilReady(pid: number): Promise<void> {
    const deadline = performance.now() + START_MS_MAX
    const file = join(this.dataDir, 'postmaster.pid')
    while (performance.now() < deadline) {
      const lines = existsSync(file) ? readIfThere(file).split('\n') : []
      if (lines[0] === String(pid) && lines[7]?.trim() === 'ready') return
      if (this.#child === undefined) throw this.#startError('ended while it started')
      await pause(POLL_MS)
    }
    throw this.#startError(`was not ready within ${START_MS_MAX} ms`)
  }

  /**
   * A killed postmaster leaves its System V segment to whoever starts there next; nobody may. Its id
   * is the second number in line 7 of postmaster.pid.
   */
  #releaseMemory(): void {
    const [, , , , , , memory = ''] = readIfThere(join(this.dataDir, 'postmaster.pid')).split('\n')
    const id = memory.trim().split(/\s+/)[1]
    if (id !== undefined) spawnSync('ipcrm', ['-m', id], { stdio: 'ignore' })
  }

  #startError(what: string): Error {
    const log = readIfThere(this.logFile).split('\n').slice(-12).join('\n')
    return new Error(`PostgreSQL ${this.name} on port ${this.port} ${what}:\n${log}`)
  }

  #write(file: string, text: string): void {
    const path = join(this.dataDir, file)
    writeFileSync(path, text, { mode: 0o600 })
    const { account } = this.#options
    if (account !== undefined) chownSync(path, account.uid, account.gid)
  }
}

/** Keeps us alive until then: started servers do not. */
async function endOf(child: ChildProcess): Promise<void> {
  child.ref()
  await once(child, 'exit', { signal: AbortSignal.timeout(STOP_MS_MAX) })
}

function quoted(value: string): string {
  return `'${value.replaceAll("'", "''")}'`
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

/** Backends are direct children of the postmaster. Known where /proc is; elsewhere they end by themselves. */
function childrenOf(parent: number): number[] {
  if (!existsSync('/proc/self/stat')) return []
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      const stat = readIfThere(`/proc/${name}/stat`)
      // "pid (comm) state ppid ...": comm may hold spaces and parentheses, so count from its end.
      return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1] === String(parent)
    })
    .map(Number)
}

/**
 * Processes that were killed end when the system comes to it, and hold the shared memory until then.
 * Zombies hold nothing: in a container there may be nobody to collect them.
 */
async function untilGone(pids: readonly number[]): Promise<void> {
  const deadline = performance.now() + STOP_MS_MAX
  while (pids.some(isAlive)) {
    if (performance.now() > deadline) throw new Error('a backend outlives SIGKILL')
    await pause(POLL_MS)
  }
}

function isAlive(pid: number): boolean {
  const stat = readIfThere(`/proc/${pid}/stat`)
  return stat !== '' && stat[stat.lastIndexOf(')') + 2] !== 'Z'
}

function signalIfThere(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if (!hasCode(error, 'ESRCH')) throw error
  }
}
