/**
 * The pgsteer of the demonstration: its configuration files and its process. What it runs is the
 * same program that operators run, started the same way.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { Client } from 'pg'
import type { EmbeddedCluster } from './cluster.ts'

export const PROGRAM = resolve(import.meta.dirname, '../cli.ts')
const READY_MS_MAX = 60_000
const STOP_MS_MAX = 5000
const SPREAD_MS_MAX = 5000
const POLL_MS = 50

export interface ProxyPorts {
  readonly port: number
  readonly httpPort: number
}

/** Writes pgsteer.ini and userlist.txt into the cluster's directory; returns the ini file's path. */
export async function configure(cluster: EmbeddedCluster, ports: ProxyPorts): Promise<string> {
  const users = await cluster.primary.query<{ name: string; secret: string }>(
    'SELECT rolname AS name, rolpassword AS secret FROM pg_authid WHERE rolpassword IS NOT NULL',
  )
  const userlist = join(cluster.directory, 'userlist.txt')
  const lines = users.map(({ name, secret }) => `"${name}" "${secret}"\n`)
  writeFileSync(userlist, lines.join(''), { mode: 0o600 })
  const hosts = cluster.members.map((member) => `${member.host}:${member.port}`).join(', ')
  const file = join(cluster.directory, 'pgsteer.ini')
  const ini = `[databases]
* =

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${ports.port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = ${userlist}
admin_users = postgres
pool_mode = transaction

[cluster]
source = static
hosts = ${hosts}
probe_user = pgsteer
probe_password = pgsteer

[pgsteer]
http_addr = 127.0.0.1
http_port = ${ports.httpPort}
`
  writeFileSync(file, ini, { mode: 0o600 })
  return file
}

export class Proxy {
  readonly #child: ChildProcess
  readonly #logFile: string
  readonly #port: number
  readonly #httpPort: number
  /** Resolves when the process ends, however. */
  readonly ended: Promise<void>

  private constructor(child: ChildProcess, logFile: string, ports: ProxyPorts) {
    this.#child = child
    this.#logFile = logFile
    this.#port = ports.port
    this.#httpPort = ports.httpPort
    this.ended = once(child, 'exit').then(() => undefined)
  }

  static get isBuilt(): boolean {
    return existsSync(PROGRAM)
  }

  /**
   * Resolves when it serves clients.
   *
   * Errors  Error with the end of its log, if it ends or is not ready within a minute.
   */
  static async start(cluster: EmbeddedCluster, ini: string, ports: ProxyPorts): Promise<Proxy> {
    const logFile = join(cluster.directory, 'pgsteer.log')
    const log = openSync(logFile, 'a')
    // A session of its own: Ctrl-C is for the demonstration, which ends it in good order.
    const child = spawn(process.execPath, [PROGRAM, ini], {
      detached: true,
      env: environment(),
      stdio: ['ignore', log, log],
    })
    closeSync(log)
    if (child.pid !== undefined) cluster.guard(child.pid)
    const proxy = new Proxy(child, logFile, ports)
    await proxy.#untilReady(cluster.primary.port)
    return proxy
  }

  /** The last lines that it logged. */
  get logEnd(): string {
    return readFileSync(this.#logFile, 'utf8').trimEnd().split('\n').slice(-15).join('\n')
  }

  async stop(): Promise<void> {
    const child = this.#child
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGTERM')
    const late = new AbortController()
    const killed = pause(STOP_MS_MAX, undefined, { signal: late.signal }).then(
      () => child.kill('SIGKILL'),
      () => undefined,
    )
    await this.ended
    late.abort()
    await killed
  }

  /**
   * Ready is when reads land on replicas, as the guide says: it takes until the functions of the
   * database are known. Where that takes long, answers from the primary will do.
   */
  async #untilReady(primaryPort: number): Promise<void> {
    let servedSinceMs: number | undefined
    const deadline = performance.now() + READY_MS_MAX
    const url = `http://127.0.0.1:${this.#httpPort}/readyz`
    while (performance.now() < deadline) {
      if (this.#child.exitCode !== null || this.#child.signalCode !== null)
        throw new Error(`pgsteer ended while it started:\n${this.logEnd}`)
      if (await answersOk(url)) {
        const served = await servedBy(this.#port)
        if (served !== undefined && served !== primaryPort) return
        servedSinceMs ??= served === undefined ? undefined : performance.now()
        if (servedSinceMs !== undefined && performance.now() > servedSinceMs + SPREAD_MS_MAX) return
      }
      await pause(POLL_MS)
    }
    throw new Error(`pgsteer was not ready within ${READY_MS_MAX} ms:\n${this.logEnd}`)
  }
}

/** Ours without what configures a pgsteer: the file alone says how this one runs. */
function environment(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('PGSTEER_')),
  )
}

/** The port of the member that answers a read, after a whole log-in as the user of the demonstration. */
async function servedBy(port: number): Promise<number | undefined> {
  const client = new Client({
    connectionString: `postgres://demo:demo@127.0.0.1:${port}/demo`,
    connectionTimeoutMillis: 2000,
    query_timeout: 2000,
  })
  client.on('error', () => undefined)
  try {
    await client.connect()
    const { rows } = await client.query<{ port: number }>('SELECT inet_server_port() AS port')
    return rows[0]?.port
  } catch {
    return undefined
  } finally {
    await client.end().catch(() => undefined)
  }
}

async function answersOk(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(1000) })
    await response.body?.cancel()
    return response.ok
  } catch {
    return false
  }
}
