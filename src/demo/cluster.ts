/**
 * A real PostgreSQL cluster on this machine, for `npm start` and the tests: one primary and any
 * number of streaming replicas, on free ports of the loopback interface, in one temporary directory.
 * Fails over only when it is told to. Leaves nothing behind, however its process ends.
 */

import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { Client } from 'pg'
import { invariant } from '../base/invariant.ts'
import { type Account, type Binaries, embeddedBinaries, serverAccount } from './binaries.ts'
import { Member } from './member.ts'
import { template } from './template.ts'
import { copyTree } from './tree.ts'
import { Watchdog } from './watchdog.ts'

const FOLLOW_MS_MAX = 30_000
const POLL_MS = 10
/** Below the range that outgoing connections take their ports from, so that a stopped member's port stays free. */
const PORT_MIN = 15_000
const PORT_MAX = 32_000

const NOT_IN_BACKUPS =
  /^(postmaster\.(pid|opts)|.*\.signal|pg_wal\/.*|pg_replslot\/.*|pg_dynshmem\/.*|\.s\.PGSQL.*)$/

export interface ClusterOptions {
  readonly replicas: number
  /** Parent of the temporary directory. */
  readonly dir?: string
  /** postgresql.conf of every member. */
  readonly settings?: Readonly<Record<string, string>>
  readonly progress?: (text: string) => void
  /** Other programs than the embedded PostgreSQL 18. */
  readonly binaries?: Binaries
  /** True gives the cluster a system identifier of its own; takes a second longer. */
  readonly isFresh?: boolean
}

interface Parts {
  readonly directory: string
  readonly account: Account | undefined
  readonly watchdog: Watchdog
  readonly members: readonly Member[]
}

export class EmbeddedCluster {
  readonly members: readonly Member[]
  readonly #parts: Parts
  #primary: Member

  private constructor(parts: Parts, primary: Member) {
    this.#parts = parts
    this.members = parts.members
    this.#primary = primary
  }

  /**
   * Starts `pg1` as primary and `pg2` ... as its replicas; resolves when all of them take connections.
   *
   * Errors  Error with the server's log when a member does not start; everything is removed then.
   */
  static async start(options: ClusterOptions): Promise<EmbeddedCluster> {
    invariant(options.replicas >= 0 && options.replicas < 100, 'replicas is 0 to 99')
    const progress = options.progress ?? (() => undefined)
    const directory = mkdtempSync(join(options.dir ?? tmpdir(), 'pgsteer-'))
    chmodSync(directory, 0o755)
    const watchdog = new Watchdog(directory)
    try {
      const account = serverAccount()
      const binaries = options.binaries ?? embeddedBinaries(directory, account)
      const isFresh = options.isFresh ?? false
      const source = await template({ binaries, account, workDir: directory, isFresh, progress })
      const ports = await freePorts(options.replicas + 1)
      const settings = options.settings ?? {}
      const members = ports.map((port, index) => {
        const name = `pg${index + 1}`
        const dataDir = join(directory, name)
        return new Member({ name, port, dataDir, binaries, account, watchdog, settings })
      })
      const [primary] = members
      invariant(primary !== undefined, 'a cluster has a primary')
      progress(`Starting one primary and ${options.replicas} replicas`)
      for (const member of members) {
        copyTree(source, member.dataDir, { account })
        member.configure(member === primary ? undefined : primary)
      }
      // The template was stopped cleanly, so all copies start from the same checkpoint at once.
      await Promise.all(members.map((member) => member.start()))
      const cluster = new EmbeddedCluster({ directory, account, watchdog, members }, primary)
      await cluster.#untilStreaming(members.filter((member) => member !== primary))
      return cluster
    } catch (error) {
      await watchdog.close()
      throw error
    }
  }

  /** The temporary directory of everything; what else is put there goes with it. */
  get directory(): string {
    return this.#parts.directory
  }

  /** Ends this process too, by SIGQUIT, when the cluster is stopped or we are gone. */
  guard(pid: number): void {
    this.#parts.watchdog.add(pid)
  }

  /** Who was told to be primary last; says nothing about whether it runs. */
  get primary(): Member {
    return this.#primary
  }

  get replicas(): readonly Member[] {
    return this.members.filter((member) => member !== this.#primary)
  }

  member(name: string): Member {
    const found = this.members.find((member) => member.name === name)
    invariant(found !== undefined, `the cluster has a member ${name}`)
    return found
  }

  /** Ends every member without ceremony and removes all files. May be called twice. */
  async stop(): Promise<void> {
    await this.#parts.watchdog.close()
    rmSync(this.#parts.directory, { recursive: true, force: true })
  }

  /** SIGKILL ends the whole server and is awaited; any other signal goes to the postmaster alone. */
  kill(name: string, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    return this.member(name).kill(signal)
  }

  connect(name: string, database = 'postgres'): Promise<Client> {
    return this.member(name).connect(database)
  }

  /**
   * Asks each running replica how much WAL it has, promotes the one with most and points the others
   * at it. The old primary has to be dead or stopped: nothing here fences it. Returns the new primary.
   */
  async promoteMostAdvanced(): Promise<Member> {
    const candidates = this.replicas.filter((member) => member.isRunning)
    invariant(candidates.length > 0, 'a replica runs that can be promoted')
    const positions = await Promise.all(candidates.map((member) => receivedLsn(member)))
    let best = 0
    for (const [index, lsn] of positions.entries()) if (lsn > (positions[best] ?? 0n)) best = index
    const chosen = candidates[best]
    invariant(chosen !== undefined, 'one candidate is the most advanced')
    await this.promote(chosen.name)
    return chosen
  }

  /** Promotes this replica, whatever it has, and points the other running ones at it. */
  async promote(name: string): Promise<void> {
    const chosen = this.member(name)
    const [row] = await chosen.query<{ promoted: boolean }>(
      'SELECT pg_promote(true, 30) AS promoted',
    )
    invariant(row?.promoted === true, `${name} is promoted within 30 s`)
    this.#primary = chosen
    await Promise.all(
      this.replicas.filter((member) => member.isRunning).map((member) => follow(member, chosen)),
    )
  }

  /** Stops the member if it runs, gives it a fresh copy of the primary's data and starts it as a replica. */
  async restartAsReplica(name: string): Promise<void> {
    const member = this.member(name)
    const primary = this.#primary
    invariant(member !== primary, 'the primary is not its own replica')
    await member.stop('SIGQUIT')
    rmSync(member.dataDir, { recursive: true, force: true })
    await this.#copyRunning(primary, member)
    member.configure(primary)
    await member.start()
    await this.#untilStreaming([member])
  }

  /** The replica goes on receiving and stops applying; resolves when it does. */
  async pauseReplay(name: string): Promise<void> {
    const member = this.member(name)
    await member.query('SELECT pg_wal_replay_pause()')
    await until(`${name} pauses`, async () => {
      const [row] = await member.query<{ state: string }>(
        'SELECT pg_get_wal_replay_pause_state() AS state',
      )
      return row?.state === 'paused'
    })
  }

  async resumeReplay(name: string): Promise<void> {
    await this.member(name).query('SELECT pg_wal_replay_resume()')
  }

  /** Resolves when every running replica has replayed what the primary has written by now. */
  async caughtUp(): Promise<void> {
    const [row] = await this.#primary.query<{ lsn: string }>('SELECT pg_current_wal_lsn() AS lsn')
    const target = row?.lsn ?? '0/0'
    for (const member of this.replicas.filter((one) => one.isRunning))
      await until(`${member.name} replays ${target}`, async () => {
        const sql = 'SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn AS "isThere"'
        const [answer] = await member.query<{ isThere: boolean }>(sql, [target])
        return answer?.isThere === true
      })
  }

  /**
   * A base backup by hand, as the manual's "Making a Base Backup Using the Low Level API" has it. No
   * WAL is copied: the new replica streams it from the backup's start, which wal_keep_size holds.
   */
  async #copyRunning(from: Member, to: Member): Promise<void> {
    const { account } = this.#parts
    const client = await from.connect()
    try {
      await client.query("SELECT pg_backup_start('pgsteer', true)")
      copyTree(from.dataDir, to.dataDir, { account, skip: (path) => NOT_IN_BACKUPS.test(path) })
      const { rows } = await client.query<{ labelfile: string }>(
        'SELECT labelfile FROM pg_backup_stop(false)',
      )
      const label = join(to.dataDir, 'backup_label')
      writeFileSync(label, rows[0]?.labelfile ?? '', { mode: 0o600 })
      if (account !== undefined) chownSync(label, account.uid, account.gid)
    } finally {
      await client.end()
    }
    for (const folder of ['pg_wal/archive_status', 'pg_wal/summaries'])
      makeOwned(join(to.dataDir, folder), account)
  }

  async #untilStreaming(members: readonly Member[]): Promise<void> {
    const names = members.map((member) => member.name)
    if (names.length === 0) return
    await until(`${names.join(', ')} stream from ${this.#primary.name}`, async () => {
      const rows = await this.#primary.query<{ name: string }>(
        "SELECT application_name AS name FROM pg_stat_replication WHERE state = 'streaming'",
      )
      return names.every((name) => rows.some((row) => row.name === name))
    })
  }
}

function makeOwned(path: string, account: Account | undefined): void {
  mkdirSync(path, { recursive: true, mode: 0o700 })
  if (account !== undefined) chownSync(path, account.uid, account.gid)
}

async function receivedLsn(member: Member): Promise<bigint> {
  const [row] = await member.query<{ position: string }>(
    `SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0' AS position`,
  )
  return BigInt(row?.position ?? 0)
}

async function follow(member: Member, upstream: Member): Promise<void> {
  await member.query(`ALTER SYSTEM SET primary_conninfo = '${member.conninfo(upstream)}'`)
  await member.query('SELECT pg_reload_conf()')
}

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + FOLLOW_MS_MAX
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`${FOLLOW_MS_MAX} ms passed and not: ${what}`)
    await pause(POLL_MS)
  }
}

/** All listened on at once, so that they differ. */
async function freePorts(count: number): Promise<number[]> {
  const servers: Server[] = []
  const ports: number[] = []
  while (ports.length < count) {
    const port = randomInt(PORT_MIN, PORT_MAX)
    const server = createServer().listen({ port, host: '127.0.0.1', exclusive: true })
    const isFree = await Promise.race([
      once(server, 'listening').then(() => true),
      once(server, 'error').then(() => false),
    ])
    if (!isFree) continue
    servers.push(server)
    ports.push(port)
  }
  await Promise.all(servers.map((server) => once(server.close(), 'close')))
  return ports
}
