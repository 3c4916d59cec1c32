/** A real PgBouncer for tests, with its own folder and port, and pgbench to run through it. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Client } from 'pg'
import { expect } from 'vitest'
import { program } from '../support/debian.ts'
import { freePort } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

export interface BouncerOptions {
  /** Where everything goes: a member, or pgsteer. */
  readonly port: number
  readonly poolMode: 'session' | 'transaction'
  readonly poolSize?: number
  /** Where it listens; a free port if nothing is said. */
  readonly listenPort?: number
}

/** Passwords are the names, as everywhere in these tests. */
const USERS = ['demo', 'postgres']

export class Bouncer {
  readonly port: number
  readonly #process: ChildProcess
  readonly #folder: string
  readonly #onExit = (): void => void this.#process.kill('SIGKILL')

  private constructor(child: ChildProcess, port: number, folder: string) {
    this.#process = child
    this.port = port
    this.#folder = folder
    process.on('exit', this.#onExit)
  }

  static async start(options: BouncerOptions): Promise<Bouncer> {
    const port = options.listenPort ?? (await freePort())
    const folder = mkdtempSync(join(tmpdir(), 'pgsteer-bouncer-'))
    chmodSync(folder, 0o755)
    const file = join(folder, 'pgbouncer.ini')
    writeFileSync(file, iniText(options, port, folder))
    writeFileSync(join(folder, 'users.txt'), USERS.map((user) => `"${user}" "${user}"\n`).join(''))
    const { file: command, args, env } = program('pgbouncer')
    const child = spawn(command, [...args, '-q', file], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'ignore', 'ignore'],
    })
    const bouncer = new Bouncer(child, port, folder)
    try {
      await waitFor('PgBouncer takes clients', () => bouncer.show('VERSION'))
      return bouncer
    } catch (error) {
      await bouncer.stop()
      throw error
    }
  }

  /** Rows of SHOW on its console. */
  async show(what: string): Promise<Record<string, string>[]> {
    const client = await this.connect({ user: 'postgres', database: 'pgbouncer' })
    try {
      return (await client.query<Record<string, string>>(`SHOW ${what}`)).rows
    } finally {
      await client.end()
    }
  }

  /** A client of PgBouncer. Its owner ends it. */
  async connect(login: { user: string; database: string }): Promise<Client> {
    const client = new Client({
      host: '127.0.0.1',
      port: this.port,
      password: login.user,
      connectionTimeoutMillis: 5000,
      ...login,
    })
    client.on('error', () => undefined)
    await client.connect()
    return client
  }

  async stop(): Promise<void> {
    process.off('exit', this.#onExit)
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const ended = once(this.#process, 'exit')
      this.#process.kill('SIGKILL')
      await ended
    }
    rmSync(this.#folder, { recursive: true })
  }
}

function iniText(options: BouncerOptions, port: number, folder: string): string {
  const keys = {
    listen_addr: '127.0.0.1',
    listen_port: port,
    unix_socket_dir: '',
    auth_type: 'scram-sha-256',
    auth_file: join(folder, 'users.txt'),
    admin_users: 'postgres',
    pool_mode: options.poolMode,
    default_pool_size: options.poolSize ?? 10,
    max_client_conn: 500,
    ...(process.getuid?.() === 0 ? { user: identity() } : {}),
  }
  const lines = Object.entries(keys).map(([key, value]) => `${key} = ${value}`)
  return `[databases]\n* = host=127.0.0.1 port=${options.port}\n[pgbouncer]\n${lines.join('\n')}\n`
}

/** PgBouncer refuses to run as root. */
function identity(): string {
  return /^postgres:/m.test(readFileSync('/etc/passwd', 'utf8')) ? 'postgres' : 'nobody'
}

/** What pgbench says, through whatever listens there. */
export async function pgbench(port: number, ...flags: string[]): Promise<string> {
  const { file, args, env } = program('pgbench')
  const login = { PGHOST: '127.0.0.1', PGPORT: String(port), PGPASSWORD: 'demo' }
  const { stdout, stderr } = await promisify(execFile)(
    file,
    [...args, ...flags, '-U', 'demo', 'demo'],
    { env: { ...process.env, ...env, ...login }, timeout: 50_000 },
  )
  return stdout + stderr
}

/** Transactions that were done; every one of them well. */
export function transactionsOf(output: string): number {
  expect(output).toMatch(/number of failed transactions: 0 /)
  expect(output).not.toMatch(/error|abort/i)
  return Number(/number of transactions actually processed: (\d+)/.exec(output)?.[1])
}
