/**
 * Clients that write, read and wait through pgsteer while the cluster behind it changes, and what
 * became of every one of their statements. Nothing is ever sent again: an id that stands in the
 * table twice was doubled on the way. Judgements are in the tests.
 */
import { Client } from 'pg'
import type { Steer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import { DATABASE, USER } from './steer-cluster.ts'

/** One write as its client saw it. Times are those of performance.now(). */
export interface Write {
  readonly id: string
  readonly client: string
  readonly kind: 'autocommit' | 'transaction'
  readonly startedMs: number
  readonly endedMs: number
  /** Port of the member that acknowledged it; null when it was not acknowledged. */
  readonly port: number | null
  readonly error: string
}

export interface Read {
  readonly client: string
  readonly startedMs: number
  readonly endedMs: number
  readonly port: number | null
  readonly error: string
}

/** Between two statements of a client: the machine is shared with the cluster under test. */
const PACE_MS = 30
/** Over every hold that is configured here: what takes longer hangs. */
const STATEMENT_MS_MAX = 120_000

export interface LoadOptions {
  readonly autocommitWriters?: number
  readonly transactionWriters?: number
  readonly readers?: number
}

export class Load {
  readonly writes: Write[] = []
  readonly reads: Read[] = []
  /** Log-ins that failed. */
  readonly refused: string[] = []
  /** Ids that were acknowledged to a session that then did not find them. */
  readonly unseen: string[] = []
  readonly #steer: Steer
  readonly #options: LoadOptions
  readonly #prefix: string
  #isStopping = false
  #running: Promise<unknown> = Promise.resolve()

  constructor(steer: Steer, prefix: string, options: LoadOptions = {}) {
    this.#steer = steer
    this.#prefix = prefix
    this.#options = options
  }

  start(): void {
    const { autocommitWriters = 4, transactionWriters = 4, readers = 2 } = this.#options
    const many = (count: number, name: string, run: (client: string) => Promise<void>) =>
      Array.from({ length: count }, (_, index) => run(`${this.#prefix}-${name}${index}`))
    this.#running = Promise.all([
      ...many(autocommitWriters, 'auto', (name) => this.#write(name, 'autocommit')),
      ...many(transactionWriters, 'tx', (name) => this.#write(name, 'transaction')),
      ...many(readers, 'read', (name) => this.#read(name)),
    ])
  }

  /** Ends every client after its statement in flight. */
  async stop(): Promise<void> {
    this.#isStopping = true
    await this.#running
  }

  get acknowledged(): Write[] {
    return this.writes.filter((write) => write.port !== null)
  }

  get failed(): Write[] {
    return this.writes.filter((write) => write.port === null)
  }

  /** Waits for writes that began after `sinceMs` and were acknowledged, by each writer one. */
  async resumed(sinceMs: number, withinMs = 90_000): Promise<void> {
    const { autocommitWriters = 4, transactionWriters = 4 } = this.#options
    await waitFor(
      'an acknowledged write of every writer',
      () => {
        const fresh = this.acknowledged.filter((write) => write.startedMs > sinceMs)
        const clients = new Set(fresh.map((write) => write.client))
        return clients.size === autocommitWriters + transactionWriters
      },
      { withinMs, everyMs: 20 },
    )
  }

  /** Waits until every reader was last served by another member than the primary. */
  async onReplicas(primary: number, withinMs = 20_000): Promise<void> {
    const { readers = 2 } = this.#options
    await waitFor(
      'reads of every reader on replicas',
      () => {
        const last = new Map(this.reads.map((read) => [read.client, read.port]))
        return last.size === readers && ![...last.values()].includes(primary)
      },
      { withinMs, everyMs: 20 },
    )
  }

  async #write(name: string, kind: Write['kind']): Promise<void> {
    let client: Client | null = null
    for (let index = 0; !this.#isStopping; index += 1) {
      client ??= await this.#connect()
      if (client === null) continue
      const id = `${name}-${index}`
      const startedMs = performance.now()
      const answer = await (kind === 'autocommit'
        ? insert(client, id)
        : insertInTransaction(client, id)
      ).catch((error: unknown) => reasonOf(error))
      const isAcknowledged = typeof answer === 'number'
      const port = isAcknowledged ? answer : null
      const error = isAcknowledged ? '' : answer
      const endedMs = performance.now()
      this.writes.push({ id, client: name, kind, startedMs, endedMs, port, error })
      if (!isAcknowledged) {
        await end(client)
        client = null
      } else if (index % 7 === 0 && !(await this.#sees(client, id))) client = null
      await pace()
    }
    if (client !== null) await end(client)
  }

  /** Reads its own write back, from wherever its reads go. False: the session is of no more use. */
  async #sees(client: Client, id: string): Promise<boolean> {
    try {
      const { rowCount } = await client.query('select from written where id = $1', [id])
      if (rowCount !== 1) this.unseen.push(`${id}: ${rowCount}`)
      return true
    } catch {
      await end(client)
      return false
    }
  }

  async #read(name: string): Promise<void> {
    let client: Client | null = null
    while (!this.#isStopping) {
      client ??= await this.#connect()
      if (client === null) continue
      const startedMs = performance.now()
      const answer = await portOf(client).catch((error: unknown) => reasonOf(error))
      const isAnswered = typeof answer === 'number'
      const read = { client: name, startedMs, endedMs: performance.now() }
      this.reads.push({
        ...read,
        port: isAnswered ? answer : null,
        error: isAnswered ? '' : answer,
      })
      if (!isAnswered) {
        await end(client)
        client = null
      }
      await pace()
    }
    if (client !== null) await end(client)
  }

  async #connect(): Promise<Client | null> {
    try {
      return await connect(this.#steer)
    } catch (error) {
      this.refused.push(reasonOf(error))
      await pace()
      return null
    }
  }
}

/** A client of pgsteer. Its owner ends it. */
export async function connect(steer: Steer): Promise<Client> {
  const client = new Client({
    host: steer.host,
    port: steer.port,
    user: USER,
    password: USER,
    database: DATABASE,
    connectionTimeoutMillis: 20_000,
    query_timeout: STATEMENT_MS_MAX,
  })
  client.on('error', () => undefined)
  await client.connect()
  return client
}

/** Writes one row; returns the port of the member that did. */
export async function insert(client: Client, id: string): Promise<number> {
  const sql = 'insert into written (id) values ($1) returning port, pg_is_in_recovery() as standby'
  const { rows } = await client.query<{ port: number; standby: boolean }>(sql, [id])
  const [row] = rows
  if (row === undefined || row.standby) throw new Error('a write without its row')
  return row.port
}

/** Two statements and a COMMIT; the port counts only once that is answered. */
async function insertInTransaction(client: Client, id: string): Promise<number> {
  await client.query('begin')
  const port = await insert(client, id)
  await client.query('select 1')
  const { command } = await client.query('commit')
  if (command !== 'COMMIT') throw new Error(`COMMIT was answered ${command}`)
  return port
}

/** The member that reads of this client go to. */
export async function portOf(client: Client): Promise<number> {
  const { rows } = await client.query<{ port: number }>('select inet_server_port() as port')
  return rows[0]?.port ?? 0
}

export async function end(client: Client): Promise<void> {
  await client.end().catch(() => undefined)
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return `${'code' in error ? String(error.code) : 'no code'}: ${error.message}`
}

function pace(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, PACE_MS)
  })
}
