/**
 * Applications of every usual kind, at a modest pace, for as long as they are told: simple, extended
 * and prepared reads, writes, transactions, big answers, errors, cancels, clients that come and go,
 * with TLS and without. Every read carries a word of its own that has to come back. Failed
 * statements are counted by their code and not judged: members die meanwhile.
 */
import { randomInt } from 'node:crypto'
import { connect } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { Client } from 'pg'

export interface Door {
  readonly host: string
  readonly port: number
}

export interface TrafficOptions {
  readonly clients: number
  /** Between two statements of one client. */
  readonly paceMs: number
}

const USER = 'demo'
const ROWS = 10_000
const CONNECT_MS_MAX = 20_000
const ANSWER_MS_MAX = 120_000
const RECONNECT_MS = 200
/** After so many statements a client leaves and another one comes. */
const STATEMENTS_MAX = 500
const CANCEL_AFTER_MS = 50
const CANCEL_REQUEST = 80_877_102

export const TABLES = `
  CREATE TABLE soak_rows AS SELECT i AS id, 0 AS value FROM generate_series(1, ${ROWS}) i;
  ALTER TABLE soak_rows ADD PRIMARY KEY (id);
  CREATE TABLE soak_written (id bigint GENERATED ALWAYS AS IDENTITY, note text);`

type Step = (client: Client, word: string) => Promise<string>

/** What a client does next, with the weight that it has. Returns the word as it came back. */
const STEPS: readonly (readonly [weight: number, step: Step])[] = [
  [25, (client, word) => wordOf(client.query(`SELECT '${word}' AS word`))],
  [20, (client, word) => wordOf(client.query('SELECT $1::text AS word', [word]))],
  [20, (client, word) => wordOf(client.query(namedRead(word)))],
  [15, insert],
  [10, transfer],
  [5, (client, word) => wordOf(client.query(namedBig(word)))],
  [3, fail],
  [2, cancelled],
]
const WEIGHTS = STEPS.reduce((sum, [weight]) => sum + weight, 0)

export class Traffic {
  answered = 0
  /** Answers that were somebody else's. */
  wrong = 0
  readonly errors: Record<string, number> = {}
  readonly #door: Door
  readonly #options: TrafficOptions
  #isStopping = false
  #running: Promise<unknown> = Promise.resolve()

  constructor(door: Door, options: TrafficOptions) {
    this.#door = door
    this.#options = options
  }

  get failed(): number {
    return Object.values(this.errors).reduce((sum, count) => sum + count, 0)
  }

  start(): void {
    const { clients } = this.#options
    const all = Array.from({ length: clients }, (_, index) => this.#run(index % 2 === 0))
    this.#running = Promise.all(all)
  }

  async stop(): Promise<void> {
    this.#isStopping = true
    await this.#running
  }

  async #run(isTls: boolean): Promise<void> {
    while (!this.#isStopping) {
      const client = clientOf(this.#door, isTls)
      try {
        await client.connect()
        await this.#use(client)
      } catch (error) {
        const code = codeOf(error)
        this.errors[code] = (this.errors[code] ?? 0) + 1
        await pause(RECONNECT_MS)
      } finally {
        await client.end().catch(() => undefined)
      }
    }
  }

  /** Until it has had its number of statements, or one fails for another reason than its own. */
  async #use(client: Client): Promise<void> {
    const count = randomInt(1, STATEMENTS_MAX)
    for (let index = 0; index < count && !this.#isStopping; index += 1) {
      const word = String(randomInt(1e9))
      const found = await nextStep()(client, word)
      this.answered += 1
      if (found !== word) this.wrong += 1
      await pause(randomInt(this.#options.paceMs * 2))
    }
  }
}

/** Clients that log in and then do nothing, half of them with TLS; they are ended by their owner. */
export async function idleClients(door: Door, count: number): Promise<Client[]> {
  const clients: Client[] = []
  for (let index = 0; index < count; index += 1) {
    const client = clientOf(door, index % 2 === 0)
    await client.connect()
    clients.push(client)
  }
  return clients
}

function clientOf(door: Door, isTls: boolean): Client {
  const client = new Client({
    ...door,
    user: USER,
    password: USER,
    database: USER,
    ssl: isTls ? { rejectUnauthorized: false } : false,
    connectionTimeoutMillis: CONNECT_MS_MAX,
    query_timeout: ANSWER_MS_MAX,
  })
  client.on('error', () => undefined)
  return client
}

function nextStep(): Step {
  let left = randomInt(WEIGHTS)
  for (const [weight, step] of STEPS) {
    left -= weight
    if (left < 0) return step
  }
  throw new Error('the weights of all steps are their sum')
}

function namedRead(word: string): { name: string; text: string; values: string[] } {
  const text = 'SELECT $1::text AS word, value FROM soak_rows WHERE id = $2::int'
  return { name: 'read', text, values: [word, rowId()] }
}

function namedBig(word: string): { name: string; text: string; values: string[] } {
  const text = "SELECT $1::text AS word, repeat('x', 1000) FROM generate_series(1, 300)"
  return { name: 'big', text, values: [word] }
}

async function insert(client: Client, word: string): Promise<string> {
  const text = 'INSERT INTO soak_written (note) VALUES ($1) RETURNING note AS word'
  return wordOf(client.query(text, [word]))
}

async function transfer(client: Client, word: string): Promise<string> {
  await client.query('BEGIN')
  await client.query('UPDATE soak_rows SET value = value + 1 WHERE id = $1', [rowId()])
  const found = await wordOf(client.query('SELECT $1::text AS word', [word]))
  await client.query('COMMIT')
  return found
}

async function fail(client: Client, word: string): Promise<string> {
  await refusal(client.query(`SELECT 1 / 0, '${word}'`), '22012')
  return word
}

async function cancelled(client: Client, word: string): Promise<string> {
  const slow = refusal(client.query('SELECT pg_sleep(2)'), '57014')
  await pause(CANCEL_AFTER_MS)
  cancel(client)
  await slow
  return word
}

/** The error is what was wanted; a cancel that came too late is none. */
async function refusal(query: Promise<unknown>, code: string): Promise<void> {
  try {
    await query
  } catch (error) {
    if (codeOf(error) !== code) throw error
  }
}

/** Source: PostgreSQL manual, "Canceling Requests in Progress". */
function cancel(client: Client): void {
  const { host, port } = client
  const { processID, secretKey } = keyOf(client)
  const request = Buffer.alloc(16)
  for (const [index, value] of [request.length, CANCEL_REQUEST, processID, secretKey].entries())
    request.writeInt32BE(value | 0, index * 4)
  const socket = connect({ host, port })
  socket.on('error', () => undefined)
  socket.end(request)
}

/** node-postgres keeps them in fields that its types leave out. */
function keyOf(client: object): { processID: number; secretKey: number } {
  const processID = 'processID' in client ? Number(client.processID) : Number.NaN
  const secretKey = 'secretKey' in client ? Number(client.secretKey) : Number.NaN
  return { processID, secretKey }
}

async function wordOf(query: Promise<{ rows: { word: string }[] }>): Promise<string> {
  const { rows } = await query
  return rows[0]?.word ?? ''
}

function rowId(): string {
  return String(randomInt(1, ROWS + 1))
}

function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return 'code' in error ? String(error.code) : error.message
}
