/**
 * The real pgsteer in front of real servers, for tests: its files in a temporary directory, its
 * processes, free ports, its log. It is the program that operators run, started the same way.
 * Nothing of it outlives the test: `stop` proves that, and an exit of the test ends it too.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { Client, type ClientConfig } from 'pg'
import { afterAll, afterEach, beforeAll } from 'vitest'
import type { Place } from './patroni.ts'
import type { SharedCluster } from './postgres.ts'
import { waitFor } from './wait.ts'
import { type LoginOptions, WireClient } from './wire-client.ts'

type Keys = Readonly<Record<string, string | number>>

export interface SteerOptions {
  /** Lines of [databases]; `* =`, routed over the cluster, when nothing is said. */
  readonly databases?: string
  /** Lines of [users]. */
  readonly users?: string
  /** Keys of [pgbouncer] beside those that every test needs; pool_mode is transaction. */
  readonly pgbouncer?: Keys
  readonly pgsteer?: Keys
  /** Keys of [cluster]; null leaves the section out. */
  readonly cluster?: Keys | null
  /** Lines of auth_file beside those of the cluster's users, whose passwords are their names. */
  readonly userlist?: string
  /** False: resolves as soon as it listens, whatever it is ready for. */
  readonly untilReady?: boolean
  /** True: a worker may end during the test. */
  readonly mayRestart?: boolean
  /** Where it runs and listens; this machine's loopback without it. */
  readonly place?: Place
  /** For clients and for HTTP; free ones when nothing is said. */
  readonly ports?: readonly [number, number]
  /** Folder with src/ and package.json of the program; this repository without it. */
  readonly program?: string
  /** More of its environment. */
  readonly env?: Readonly<Record<string, string>>
}

const PROGRAM = resolve(import.meta.dirname, '../..')
const USERS = ['postgres', 'demo', 'pgsteer', 'replicator']
const READY_MS_MAX = 40_000
const STOP_MS_MAX = 30_000
/** Below the range that outgoing connections take their ports from. */
const PORT_MIN = 15_000
const PORT_MAX = 32_000

/** Members as host:port; a cluster has them. */
export type Servers = {
  readonly members: readonly { readonly host: string; readonly port: number }[]
} | null

export class Steer {
  readonly host: string
  readonly port: number
  readonly httpPort: number
  readonly directory: string
  readonly #child: ChildProcess
  readonly #options: SteerOptions
  readonly #servers: Servers
  readonly #onExit = (): void => void this.#child.kill('SIGKILL')
  readonly #wires = new Set<WireClient>()
  readonly #clients = new Set<Client>()
  #workersAtStart: readonly number[] = []

  private constructor(parts: {
    readonly child: ChildProcess
    readonly ports: readonly [number, number]
    readonly directory: string
    readonly options: SteerOptions
    readonly servers: Servers
  }) {
    this.#child = parts.child
    ;[this.port, this.httpPort] = parts.ports
    this.host = hostOf(parts.options)
    this.directory = parts.directory
    this.#options = parts.options
    this.#servers = parts.servers
    process.on('exit', this.#onExit)
  }

  /**
   * Resolves when it can read and write.
   *
   * Errors  Error with the end of its log, if it ends or is not ready in time; nothing is left then.
   */
  static async start(servers: Servers, options: SteerOptions = {}): Promise<Steer> {
    const directory = mkdtempSync(join(tmpdir(), 'pgsteer-steer-'))
    const ports = options.ports ?? ([await freePort(), await freePort()] as const)
    writeFileSync(join(directory, 'pgsteer.ini'), iniText(servers, ports, options))
    writeFileSync(join(directory, 'userlist.txt'), userlist(options))
    const log = openSync(join(directory, 'pgsteer.log'), 'a')
    const cli = join(options.program ?? PROGRAM, 'src/cli.ts')
    const command = [process.execPath, cli, join(directory, 'pgsteer.ini')]
    const [file = '', ...parameters] = [...(options.place?.enter ?? []), ...command]
    const child = spawn(file, parameters, {
      env: { ...environment(), ...options.env },
      stdio: ['ignore', log, log],
    })
    closeSync(log)
    const steer = new Steer({ child, ports, directory, options, servers })
    try {
      await steer.#untilReady()
    } catch (error) {
      const text = steer.log
      await steer.kill()
      throw new Error(`pgsteer did not start:\n${text}`, { cause: error })
    }
    return steer
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  /** Everything it logged. */
  get log(): string {
    return readFileSync(join(this.directory, 'pgsteer.log'), 'utf8')
  }

  /** Process ids of its workers, in no order. */
  get workers(): number[] {
    return childrenOf(this.pid).filter((pid) => commandOf(pid).includes('worker.ts'))
  }

  /** Process id of its control process; undefined while there is none. */
  get control(): number | undefined {
    return childrenOf(this.pid).find((pid) => commandOf(pid).includes('control.ts'))
  }

  /** Resident memory of its workers together. */
  get workerRssBytes(): number {
    const kilobytes = this.workers.map((pid) =>
      Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0),
    )
    return kilobytes.reduce((sum, one) => sum + one, 0) * 1024
  }

  url(database = 'demo', user = 'demo'): string {
    return `postgres://${user}:${user}@${this.host}:${this.port}/${database}`
  }

  /** For programs that use libpq. */
  libpq(database = 'demo', user = 'demo'): Record<string, string> {
    return {
      PGHOST: this.host,
      PGPORT: String(this.port),
      PGUSER: user,
      PGPASSWORD: user,
      PGDATABASE: database,
    }
  }

  /** A connection of node-postgres. Its owner ends it. */
  async connect(options: ClientConfig = {}): Promise<Client> {
    const user = options.user ?? 'demo'
    const client = new Client({
      host: this.host,
      port: this.port,
      user,
      password: user,
      database: 'demo',
      connectionTimeoutMillis: 20_000,
      ...options,
    })
    client.on('error', () => undefined)
    this.#clients.add(client)
    client.on('end', () => this.#clients.delete(client))
    await client.connect()
    return client
  }

  /** A raw protocol client, logged in. */
  async wire(
    login: Partial<LoginOptions> & { readonly withinMs?: number } = {},
  ): Promise<WireClient> {
    const { withinMs = 30_000, ...rest } = login
    const at = { host: this.host, port: this.port, withinMs, user: 'demo', database: 'demo' }
    const client = await WireClient.login({ ...at, ...rest })
    this.#wires.add(client)
    client.socket.on('close', () => this.#wires.delete(client))
    return client
  }

  /** Cuts the connections that a failed test left open, so that the next test finds free servers. */
  cutClients(): void {
    for (const client of this.#wires) client.destroy()
    for (const client of this.#clients) void client.end().catch(() => undefined)
  }

  /** Rows of one command of the console. */
  async console(command: string): Promise<Record<string, string>[]> {
    const client = await this.connect({ user: 'postgres', database: 'pgbouncer' })
    try {
      const answer = await client.query<Record<string, string>>(command)
      return answer.rows
    } finally {
      await client.end()
    }
  }

  /** The row of SHOW CLIENTS of the one client of `database`. */
  async clientOf(database: string): Promise<Record<string, string> | undefined> {
    return (await this.console('SHOW CLIENTS')).find((row) => row['database'] === database)
  }

  /** Writes its file anew, with these options instead. */
  rewrite(options: SteerOptions): void {
    const ports = [this.port, this.httpPort] as const
    writeFileSync(join(this.directory, 'pgsteer.ini'), iniText(this.#servers, ports, options))
    writeFileSync(join(this.directory, 'userlist.txt'), userlist(options))
  }

  /** Replaces its file by this text, whatever it is. */
  rewriteText(text: string): void {
    writeFileSync(join(this.directory, 'pgsteer.ini'), text)
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  /** The exit code, when it has ended. */
  get exitCode(): number | null {
    return this.#child.exitCode
  }

  /**
   * SIGTERM, then everything is gone.
   *
   * Errors  Error when it does not end with 0, when a process of it ended before, or when it called
   *         something an internal error.
   */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) {
      await this.kill()
      return
    }
    const ended = once(this.#child, 'exit', { signal: AbortSignal.timeout(STOP_MS_MAX) })
    this.#child.kill('SIGTERM')
    const code = await ended.then(
      () => this.#child.exitCode,
      () => 'no exit in time',
    )
    const { log } = this
    const isWrong = this.#options.mayRestart !== true && /a process ended, starting/.test(log)
    const isBroken = /"code":"internal"|internal error/.test(log)
    await this.kill()
    if (code !== 0 || isWrong || isBroken)
      throw new Error(`pgsteer ended with ${String(code)}:\n${log.slice(-6000)}`)
  }

  /** Ends it without ceremony and removes its files. */
  async kill(): Promise<void> {
    process.off('exit', this.#onExit)
    const workers = this.#workersAtStart
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const ended = once(this.#child, 'exit')
      this.#child.kill('SIGKILL')
      await ended
    }
    await waitFor('the workers are gone', () => workers.every((pid) => !isThere(pid)))
    rmSync(this.directory, { recursive: true, force: true })
  }

  async #untilReady(): Promise<void> {
    const url = `http://${this.host}:${this.httpPort}/${this.#options.untilReady === false ? 'livez' : 'readyz'}`
    await waitFor(
      'pgsteer is ready',
      async () => {
        if (this.#child.exitCode !== null) return true
        const response = await fetch(url, { signal: AbortSignal.timeout(2000) })
        await response.body?.cancel()
        if (!response.ok) return false
        const client = await WireClient.connect({ host: this.host, port: this.port })
        client.destroy()
        return true
      },
      { withinMs: READY_MS_MAX, everyMs: 25 },
    )
    if (this.#child.exitCode !== null) throw new Error(`it ended with ${this.#child.exitCode}`)
    this.#workersAtStart = this.workers
  }
}

export interface SharedSteer {
  /** Only inside tests and hooks that run after this file's beforeAll. */
  readonly steer: Steer
}

/** Call below `useCluster` of the same file, or of the same describe. */
export function useSteer(
  shared: SharedCluster | null,
  options: SteerOptions | (() => SteerOptions) = {},
): SharedSteer {
  let started: Steer | undefined
  beforeAll(async () => {
    const given = typeof options === 'function' ? options() : options
    started = await Steer.start(shared?.cluster ?? null, given)
  })
  afterEach(() => started?.cutClients())
  afterAll(async () => {
    await started?.stop()
  })
  return {
    get steer() {
      if (started === undefined) throw new Error('pgsteer is started in beforeAll')
      return started
    },
  }
}

function iniText(
  servers: Servers,
  [port, httpPort]: readonly [number, number],
  options: SteerOptions,
): string {
  const hosts = servers?.members.map((member) => `${member.host}:${member.port}`) ?? []
  const cluster =
    options.cluster === null || hosts.length === 0
      ? null
      : {
          source: 'static',
          hosts: hosts.join(', '),
          probe_user: 'pgsteer',
          probe_password: 'pgsteer',
          probe_interval_ms: 100,
          ...options.cluster,
        }
  const parts = [
    `[databases]\n${options.databases ?? '* ='}`,
    ...(options.users === undefined ? [] : [`[users]\n${options.users}`]),
    section('pgbouncer', {
      listen_addr: hostOf(options),
      listen_port: port,
      unix_socket_dir: '',
      auth_type: 'scram-sha-256',
      auth_file: 'userlist.txt',
      admin_users: 'postgres',
      stats_users: 'pgsteer',
      pool_mode: 'transaction',
      max_client_conn: 1000,
      ...options.pgbouncer,
    }),
    section('pgsteer', {
      http_addr: hostOf(options),
      http_port: httpPort,
      shutdown_timeout_ms: 8000,
      ...options.pgsteer,
    }),
    ...(cluster === null ? [] : [section('cluster', cluster)]),
  ]
  return `${parts.join('\n\n')}\n`
}

function hostOf(options: SteerOptions): string {
  return options.place?.host ?? '127.0.0.1'
}

function section(name: string, keys: Keys): string {
  const lines = Object.entries(keys).map(([key, value]) => `${key} = ${value}`)
  return `[${name}]\n${lines.join('\n')}`
}

function userlist(options: SteerOptions): string {
  return `${USERS.map((user) => `"${user}" "${user}"\n`).join('')}${options.userlist ?? ''}`
}

/** Ours without what configures a pgsteer: the file alone says how this one runs. */
function environment(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(PGSTEER_|NODE_OPTIONS$)/.test(name)),
  )
}

/** A port that nobody listens on now. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(PORT_MIN, PORT_MAX)
    const server = createServer().listen({ port, host: '127.0.0.1', exclusive: true })
    // once() rejects when the error comes first.
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    )
    if (!isFree) continue
    await once(server.close(), 'close')
    return port
  }
}

function childrenOf(parent: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      const stat = readIfThere(`/proc/${name}/stat`)
      return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1] === String(parent)
    })
    .map(Number)
}

function commandOf(pid: number): string {
  return readIfThere(`/proc/${pid}/cmdline`)
}

function isThere(pid: number): boolean {
  return commandOf(pid).includes('worker.ts')
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
