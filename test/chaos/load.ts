/**
 * Applications that write, read back and read through one address while the cluster behind it
 * breaks, and the account of what became of every statement. Clients keep their connection for as
 * long as it lives and send nothing a second time; what an error proves is decided here by its
 * SQLSTATE alone. It judges nothing.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { Client } from 'pg'
import { DATABASE, USER } from '../failover/steer-cluster.ts'

/** What its client was told of a write. */
type Outcome = 'acknowledged' | 'unknown' | 'failed'

interface Write {
  readonly id: string
  readonly outcome: Outcome
  readonly error: string
  readonly startedMs: number
  readonly endedMs: number
}

/** Statements of one client come at most this often. */
const PACE_MS = 25
const ANSWER_MS_MAX = 120_000
const WRITERS = 8
const READERS = 4
/** Their reply proves that nothing was committed. */
const PROVES_ABORT = /^(?:40|25|53|57P01|57P03)/

export class ChaosLoad {
  readonly writes: Write[] = []
  /** Statements of readers that failed. */
  readonly readErrors: string[] = []
  /** Reads that did not see what their own session had written before. */
  readonly stale: string[] = []
  /** Connections that ended though their client did not want it, and log-ins that were refused. */
  dropped = 0
  refused = 0
  readStallMs = 0
  readonly #at: { readonly host: string; readonly port: number }
  readonly #prefix: string
  #isStopping = false
  #running: Promise<unknown> = Promise.resolve()

  constructor(at: { readonly host: string; readonly port: number }, prefix: string) {
    this.#at = at
    this.#prefix = prefix
  }

  start(): void {
    const writers = Array.from({ length: WRITERS }, (_, index) =>
      this.#write(`${this.#prefix}-w${index}`, index % 2 === 1),
    )
    const readers = Array.from({ length: READERS }, () => this.#read())
    this.#running = Promise.all([...writers, ...readers])
  }

  async stop(): Promise<void> {
    this.#isStopping = true
    await this.#running
  }

  of(outcome: Outcome): Write[] {
    return this.writes.filter((write) => write.outcome === outcome)
  }

  /** Whether every writer had a write acknowledged that it began after `sinceMs`. */
  hasResumed(sinceMs: number): boolean {
    const fresh = this.of('acknowledged').filter((write) => write.startedMs > sinceMs)
    return new Set(fresh.map(({ id }) => id.replace(/-\d+$/, ''))).size === WRITERS
  }

  /** Longest time between two acknowledged writes of one client. */
  get writeStallMs(): number {
    const last = new Map<string, number>()
    let longest = 0
    for (const { id, startedMs, endedMs } of this.of('acknowledged')) {
      const client = id.replace(/-\d+$/, '')
      longest = Math.max(longest, endedMs - (last.get(client) ?? startedMs))
      last.set(client, endedMs)
    }
    return longest
  }

  async #write(name: string, inTransaction: boolean): Promise<void> {
    let client: Client | null = null
    for (let index = 0; !this.#isStopping; index += 1) {
      client = await this.#living(client)
      if (client === null) continue
      const id = `${name}-${index}`
      const startedMs = performance.now()
      const { outcome, error } = await writeOnce(client, id, inTransaction)
      this.writes.push({ id, outcome, error, startedMs, endedMs: performance.now() })
      if (outcome === 'acknowledged') await this.#readBack(client, id)
      await pause(PACE_MS)
    }
    if (client !== null) await leave(client)
  }

  async #readBack(client: Client, id: string): Promise<void> {
    const answer = await client.query('select from written where id = $1', [id]).catch(reasonOf)
    if (typeof answer === 'string') this.readErrors.push(answer)
    else if (answer.rowCount !== 1) this.stale.push(id)
  }

  async #read(): Promise<void> {
    let client: Client | null = null
    while (!this.#isStopping) {
      client = await this.#living(client)
      if (client === null) continue
      const startedMs = performance.now()
      const answer = await client.query('select inet_server_port()').catch(reasonOf)
      this.readStallMs = Math.max(this.readStallMs, performance.now() - startedMs)
      if (typeof answer === 'string') this.readErrors.push(answer)
      await pause(PACE_MS)
    }
    if (client !== null) await leave(client)
  }

  /** The client if its connection lives, else a new one; null when that is refused. */
  async #living(client: Client | null): Promise<Client | null> {
    if (client !== null && !ENDED.has(client)) return client
    const fresh = new Client({
      ...this.#at,
      user: USER,
      password: USER,
      database: DATABASE,
      connectionTimeoutMillis: 20_000,
      query_timeout: ANSWER_MS_MAX,
    })
    fresh.on('error', () => undefined)
    try {
      await fresh.connect()
    } catch {
      this.refused += 1
      await pause(PACE_MS)
      return null
    }
    fresh.on('end', () => {
      if (!LEAVING.has(fresh)) this.dropped += 1
      ENDED.add(fresh)
    })
    return fresh
  }
}

const ENDED = new WeakSet<Client>()
const LEAVING = new WeakSet<Client>()

async function leave(client: Client): Promise<void> {
  LEAVING.add(client)
  await client.end().catch(() => undefined)
}

async function writeOnce(
  client: Client,
  id: string,
  inTransaction: boolean,
): Promise<{ outcome: Outcome; error: string }> {
  let mayCommit = !inTransaction
  try {
    if (inTransaction) await client.query('begin')
    await client.query('insert into written (id) values ($1)', [id])
    mayCommit = true
    const end = inTransaction ? (await client.query('commit')).command : 'COMMIT'
    return { outcome: end === 'COMMIT' ? 'acknowledged' : 'failed', error: '' }
  } catch (reason) {
    const error = reasonOf(reason)
    if (inTransaction) await client.query('rollback').catch(() => undefined)
    return { outcome: mayCommit && !PROVES_ABORT.test(error) ? 'unknown' : 'failed', error }
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return `${'code' in error ? String(error.code) : 'no code'}: ${error.message}`
}
