/**
 * Applications that write, read back and read through one address while the cluster behind it
 * breaks, and what each of their statements was told. Clients keep their connection for as
 * long as it lives, and look before each piece of work whether it does, as pools do. They send nothing a second time; what an error proves is decided here by its
 * SQLSTATE alone. It judges nothing.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { Client, type ClientConfig } from 'pg'
import { DATABASE, USER } from '../failover/steer-cluster.ts'

/** What its client was told of a write. */
export type Outcome = 'acknowledged' | 'unknown' | 'failed'

/** Times are those of performance.now(). */
export interface Write {
  readonly id: string
  readonly client: string
  readonly outcome: Outcome
  /** Port of the member that answered the INSERT; null when none did. */
  readonly port: number | null
  /** Where that member's WAL was when it did. */
  readonly lsn: bigint | null
  readonly error: string
  readonly startedMs: number
  readonly endedMs: number
}

export interface Door {
  readonly host: string
  readonly port: number
  /** Another application's than the chaos suite's own. */
  readonly login?: Readonly<Pick<ClientConfig, 'user' | 'password' | 'database' | 'ssl'>>
}

export interface Doors {
  readonly write: Door
  /** For those who only read. */
  readonly read: Door
  /** Where all of them go while their own does not open. */
  readonly others?: readonly Door[]
}

/** How many clients of each kind. */
export interface Size {
  readonly writers: number
  readonly readers: number
}

/** Statements of one client come at most this often. */
const PACE_MS = 25
/** Over every hold that is configured here: what takes longer hangs. */
const ANSWER_MS_MAX = 90_000
export const WRITERS = 12
const SIZE: Size = { writers: WRITERS, readers: 6 }
/** Their reply proves that nothing was committed. */
const PROVES_ABORT = /^(?:40|25|53|57P01|57P03)/
const INSERT = `insert into written (id) values ($1)
  returning port, pg_wal_lsn_diff(lsn, '0/0')::text as lsn`

export class ChaosLoad {
  readonly writes: Write[] = []
  /** Statements of readers, and reads of writers, that failed. */
  readonly readErrors: string[] = []
  /** Writes that their own session did not see in its next read. */
  readonly unseen: string[] = []
  /** Connections that ended though their client did not want it, and log-ins that were refused. */
  dropped = 0
  refused = 0
  readStallMs = 0
  readonly #doors: Doors
  readonly #prefix: string
  readonly #size: Size
  /** By writer: how many were acknowledged, and when the last of them began. */
  readonly #progress = new Map<string, { count: number; startedMs: number }>()
  /** By reader: how many reads were answered, and by which port the last one. */
  readonly #reads = new Map<string, { count: number; port: number }>()
  readonly #open = new Set<Client>()
  #isStopping = false
  #running: Promise<unknown> = Promise.resolve()

  constructor(doors: Doors, prefix: string, size: Size = SIZE) {
    this.#doors = doors
    this.#prefix = prefix
    this.#size = size
  }

  start(): void {
    const many = (count: number, kind: string, run: (name: string, index: number) => unknown) =>
      Array.from({ length: count }, (_, index) => run(`${this.#prefix}-${kind}${index}`, index))
    this.#running = Promise.all([
      ...many(this.#size.writers, 'w', (name, index) => this.#write(name, index % 2 === 1)),
      ...many(this.#size.readers, 'r', (name) => this.#read(name)),
    ])
  }

  /** Ends every client after its statement in flight. */
  async stop(): Promise<void> {
    this.#isStopping = true
    await this.#running
  }

  /** Ends every client now, whatever it waits for. */
  async abort(): Promise<void> {
    this.#isStopping = true
    const open = [...this.#open]
    for (const client of open) LEAVING.add(client)
    await Promise.all(open.map((client) => client.end().catch(() => undefined)))
    await this.#running
  }

  of(outcome: Outcome): Write[] {
    return this.writes.filter((write) => write.outcome === outcome)
  }

  /** Whether every writer had a write acknowledged that it began after `sinceMs`. */
  hasResumed(sinceMs: number): boolean {
    const fresh = [...this.#progress.values()].filter((one) => one.startedMs > sinceMs)
    return fresh.length === this.#size.writers
  }

  /** Returns a question: whether each client had `more` answers since now. */
  advance(more: number): () => boolean {
    const counts = (): Map<string, number> =>
      new Map([...this.#progress, ...this.#reads].map(([name, { count }]) => [name, count]))
    const before = counts()
    return () => {
      const now = counts()
      const moved = [...now].filter(([name, count]) => count >= (before.get(name) ?? 0) + more)
      return moved.length === this.#size.writers + this.#size.readers
    }
  }

  /** How many readers that port served last; undefined before all of them were served. */
  readersOn(port: number): number | undefined {
    const ports = [...this.#reads.values()].map((one) => one.port)
    return ports.length === this.#size.readers
      ? ports.filter((one) => one === port).length
      : undefined
  }

  /** Longest time between two acknowledged writes of one client. */
  get writeStallMs(): number {
    const last = new Map<string, number>()
    let longest = 0
    for (const { client, startedMs, endedMs } of this.of('acknowledged')) {
      longest = Math.max(longest, endedMs - (last.get(client) ?? startedMs))
      last.set(client, endedMs)
    }
    return longest
  }

  async #write(name: string, inTransaction: boolean): Promise<void> {
    let client: Client | null = null
    for (let index = 0; !this.#isStopping; index += 1) {
      client = await this.#living(client, this.#doors.write)
      if (client === null) continue
      const id = `${name}-${index}`
      const startedMs = performance.now()
      const answer = await writeOnce(client, id, inTransaction)
      this.writes.push({ id, client: name, startedMs, ...answer })
      if (answer.outcome === 'acknowledged') {
        const count = (this.#progress.get(name)?.count ?? 0) + 1
        this.#progress.set(name, { count, startedMs })
        await this.#readBack(client, id)
      }
      await pause(PACE_MS)
    }
    if (client !== null) await leave(client)
  }

  async #readBack(client: Client, id: string): Promise<void> {
    // What one session sees is promised to no other one.
    if (!this.#open.has(client)) return
    const answer = await client.query('select from written where id = $1', [id]).catch(reasonOf)
    if (typeof answer === 'string') this.readErrors.push(answer)
    else if (answer.rowCount !== 1) this.unseen.push(id)
  }

  async #read(name: string): Promise<void> {
    let client: Client | null = null
    while (!this.#isStopping) {
      client = await this.#living(client, this.#doors.read)
      if (client === null) continue
      const startedMs = performance.now()
      const answer = await client
        .query<{ port: number }>('select inet_server_port() as port')
        .catch(reasonOf)
      this.readStallMs = Math.max(this.readStallMs, performance.now() - startedMs)
      if (typeof answer === 'string') this.readErrors.push(answer)
      else {
        const count = (this.#reads.get(name)?.count ?? 0) + 1
        this.#reads.set(name, { count, port: answer.rows[0]?.port ?? 0 })
      }
      await pause(PACE_MS)
    }
    if (client !== null) await leave(client)
  }

  /** The client if its connection lives, else a new one; null when that is refused. */
  async #living(client: Client | null, door: Door): Promise<Client | null> {
    if (client !== null && this.#open.has(client)) return client
    for (const one of [door, ...(this.#doors.others ?? [])]) {
      const fresh = await this.#enter(one)
      if (fresh !== null) return fresh
    }
    this.refused += 1
    await pause(PACE_MS)
    return null
  }

  async #enter(door: Door): Promise<Client | null> {
    const fresh = clientOf(door)
    try {
      await fresh.connect()
    } catch {
      return null
    }
    // Not before: node-postgres forgets who waits for a log-in that is ended.
    this.#open.add(fresh)
    const onEnd = (): void => {
      if (this.#open.delete(fresh) && !LEAVING.has(fresh)) this.dropped += 1
    }
    // The end may say why, and is known from then on.
    fresh.on('error', onEnd)
    fresh.on('end', onEnd)
    return fresh
  }
}

const LEAVING = new WeakSet<Client>()

/** An application's client, not connected. Its owner ends it. */
export function clientOf(door: Door): Client {
  const client = new Client({
    host: door.host,
    port: door.port,
    user: USER,
    password: USER,
    database: DATABASE,
    ...door.login,
    connectionTimeoutMillis: 20_000,
    query_timeout: ANSWER_MS_MAX,
  })
  client.on('error', () => undefined)
  return client
}

async function leave(client: Client): Promise<void> {
  LEAVING.add(client)
  await client.end().catch(() => undefined)
}

type Answer = Omit<Write, 'id' | 'client' | 'startedMs'>

async function writeOnce(client: Client, id: string, inTransaction: boolean): Promise<Answer> {
  let mayCommit = !inTransaction
  let at: Pick<Write, 'port' | 'lsn'> = { port: null, lsn: null }
  try {
    if (inTransaction) await client.query('begin')
    const { rows } = await client.query<{ port: number; lsn: string }>(INSERT, [id])
    const [row] = rows
    at = { port: row?.port ?? null, lsn: row === undefined ? null : BigInt(row.lsn) }
    mayCommit = true
    const end = inTransaction ? (await client.query('commit')).command : 'COMMIT'
    const outcome = end === 'COMMIT' ? 'acknowledged' : 'failed'
    return { outcome, error: '', ...at, endedMs: performance.now() }
  } catch (reason) {
    const error = reasonOf(reason)
    const endedMs = performance.now()
    if (inTransaction) await client.query('rollback').catch(() => undefined)
    const outcome = mayCommit && !PROVES_ABORT.test(error) ? 'unknown' : 'failed'
    return { outcome, error, ...at, endedMs }
  }
}

export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return `${'code' in error ? String(error.code) : 'no code'}: ${error.message}`
}
