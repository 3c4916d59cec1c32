/**
 * Applications of one contender: writers that insert a row each, readers that ask for one, on
 * connections that they keep for as long as those live. What breaks is connected anew, as a driver's
 * pool would do it. Every statement and every log-in is noted with its times; nothing is judged.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { Client } from 'pg'
import { DATABASE, USER } from '../../test/failover/steer-cluster.ts'

/** Where statements of one kind go. */
export interface Door {
  readonly host: string
  readonly port: number
}

/** One statement, or a log-in that failed. Times are those of performance.now(). */
export interface Attempt {
  readonly kind: 'write' | 'read'
  readonly startedMs: number
  readonly endedMs: number
  /** Empty when it was answered. */
  readonly error: string
}

const WRITERS = 12
const READERS = 12
const PACE_MS = 20
const RECONNECT_MS = 100
const ANSWER_MS_MAX = 120_000
const WRITE = "insert into written (id) values ('timeline')"
const READ = 'select count(*) from written where id is null'

export class Traffic {
  readonly attempts: Attempt[] = []
  readonly #doors: { readonly write: Door; readonly read: Door }
  #isStopping = false
  #running: Promise<unknown> = Promise.resolve()

  constructor(doors: { readonly write: Door; readonly read: Door }) {
    this.#doors = doors
  }

  static get clients(): number {
    return WRITERS + READERS
  }

  start(): void {
    const many = (count: number, kind: Attempt['kind']): Promise<void>[] =>
      Array.from({ length: count }, () => this.#run(kind))
    this.#running = Promise.all([...many(WRITERS, 'write'), ...many(READERS, 'read')])
  }

  async stop(): Promise<void> {
    this.#isStopping = true
    await this.#running
  }

  /** Statements of that kind that began after `sinceMs` and were answered. */
  answered(kind: Attempt['kind'], sinceMs: number): number {
    return this.attempts.filter(
      (one) => one.kind === kind && one.error === '' && one.startedMs > sinceMs,
    ).length
  }

  async #run(kind: Attempt['kind']): Promise<void> {
    let client: Client | null = null
    while (!this.#isStopping) {
      const startedMs = performance.now()
      const error = await attempt(async () => {
        client = await this.#living(kind, client)
        await client.query(kind === 'write' ? WRITE : READ)
      })
      this.attempts.push({ kind, startedMs, endedMs: performance.now(), error })
      await pause(error === '' ? PACE_MS : RECONNECT_MS)
    }
    await (client as Client | null)?.end().catch(() => undefined)
  }

  async #living(kind: Attempt['kind'], client: Client | null): Promise<Client> {
    if (client !== null && !ENDED.has(client)) return client
    const fresh = new Client({
      ...this.#doors[kind],
      user: USER,
      password: USER,
      database: DATABASE,
      connectionTimeoutMillis: 20_000,
      query_timeout: ANSWER_MS_MAX,
    })
    fresh.on('error', () => undefined)
    fresh.on('end', () => ENDED.add(fresh))
    await fresh.connect()
    return fresh
  }
}

const ENDED = new WeakSet<Client>()

async function attempt(run: () => Promise<void>): Promise<string> {
  try {
    await run()
    return ''
  } catch (error) {
    if (!(error instanceof Error)) return String(error)
    return `${'code' in error ? String(error.code) : 'no code'}: ${error.message}`
  }
}
