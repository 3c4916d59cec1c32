/**
 * The nonce detector: every statement carries a random number that its answer must repeat. An answer
 * that reaches the wrong client, comes twice or is out of order cannot go unseen. Clients mix both
 * protocols, errors, transactions, cancels and disconnects in the middle of a statement.
 */
import { once } from 'node:events'
import { connect } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { Chance } from '../simulation/chance.ts'
import { frontend } from './bytes.ts'
import { type Answer, WireClient } from './wire-client.ts'

/** Small pools and short memories, so that servers change hands all the time. */
export const NONCE_POOLS = {
  default_pool_size: 6,
  max_prepared_statements: 20,
  log_connections: 0,
  log_disconnections: 0,
}

/** Where pgsteer is, as far as this goes: a `Steer` is one. */
export interface Front {
  readonly host: string
  readonly port: number
}

export interface NonceOptions {
  readonly steer: Front
  readonly clients: number
  /** Answers wanted altogether. */
  readonly answers: number
  readonly database?: string
  /** True while errors are expected that come from servers that are killed. */
  readonly mayBreak: boolean
  /** Many statements in a batch, most of the time: more answers in the same time. */
  readonly isDense?: boolean
  /** One lone read in so many takes 50 ms and more, others like it next to nothing; 0: none does. */
  readonly slowOneIn?: number
  /** Over TLS. */
  readonly isTls?: boolean
  /** Ends it before all answers came. */
  readonly isOver?: () => boolean
  /** Kept up to date while it runs. */
  readonly progress?: { right: number }
  /** Of what the clients do, in which order; when it is left out another one each time. */
  readonly seed?: number
}

export interface NonceResult {
  /** Answers that repeated their nonce. */
  readonly right: number
  /** What was wrong, as sentences; must stay empty. */
  readonly wrong: readonly string[]
  readonly errors: number
  readonly cancelled: number
  readonly disconnects: number
  /** Connections that their server's end took along. */
  readonly broken: number
  /** The same seed lets every client do the same; what meets what is a matter of time. */
  readonly seed: number
}

type Counts = { -readonly [Key in keyof Omit<NonceResult, 'seed' | 'wrong'>]: number }

const { parse, bind, execute, sync, query, describe } = frontend

const NOTHING_YET: Counts = { right: 0, errors: 0, cancelled: 0, disconnects: 0, broken: 0 }
/** Batches in one write. */
const PIPELINE = 24
/** Statements in one dense batch. */
const DENSE = 60
/** SQLSTATEs by which a killed server or a shutdown shows; a cancel is always somebody's own. */
const BREAKING = /^(08|57P|40001|53300|25006|XX000)/
/** Rows to count in a read that is quick, and in one that is late. */
const QUICK_ROWS = 10
const SLOW_ROWS = 200_000
/** Longer than a socket takes from a server whose client does not read. */
const LARGE_BYTES = 600_000

/** Runs until `answers` came. Rejects only for what is not about answers: a log-in that fails for ever. */
export async function detectNonces(options: NonceOptions): Promise<NonceResult> {
  const counts: Counts = Object.assign(options.progress ?? {}, NOTHING_YET)
  const wrong: string[] = []
  const seed = options.seed ?? Math.floor(Math.random() * 2 ** 31)
  const each = Array.from({ length: options.clients }, async (_, id) => {
    const one = new NonceClient(id, { ...options, seed }, counts, wrong)
    while (!one.isDone) await one.live()
  })
  await Promise.all(each)
  if (wrong.length > 0) wrong.push(`seed ${seed}`)
  return { ...counts, wrong, seed }
}

/** One client, over as many connections as it takes. */
class NonceClient {
  readonly #id: number
  readonly #options: NonceOptions
  readonly #counts: Counts
  readonly #wrong: string[]
  readonly #chance: Chance
  #serial = 0

  constructor(
    id: number,
    options: NonceOptions & { readonly seed: number },
    counts: Counts,
    wrong: string[],
  ) {
    this.#id = id
    // Neighbours in number are to have nothing in common.
    this.#chance = new Chance(Math.imul(options.seed + id + 1, 0x9e_37_79_b1))
    this.#options = options
    this.#counts = counts
    this.#wrong = wrong
  }

  get isDone(): boolean {
    const { answers, isOver } = this.#options
    return this.#counts.right >= answers || this.#wrong.length > 0 || isOver?.() === true
  }

  /** One connection's life. */
  async live(): Promise<void> {
    const { mayBreak } = this.#options
    let client: WireClient
    try {
      client = await this.#logIn()
    } catch (error) {
      if (!mayBreak) throw error
      this.#counts.broken += 1
      return
    }
    const prepared = `n${this.#id}`
    client.send(parse(prepared, 'SELECT $1::text, 1 AS named'), sync())
    const ready = await client.ready()
    if (ready.sqlstate !== undefined) this.#judgeError(ready, '42P05')
    const turns = 20 + this.#chance.int(400)
    for (let turn = 0; turn < turns && !client.isEnded; turn += 1) {
      if (this.isDone) break
      if (!(await this.#turn(client, prepared))) return
    }
    if (client.isEnded) this.#counts.broken += 1
    else await client.close()
  }

  async #logIn(): Promise<WireClient> {
    const { steer, database = 'demo', isTls } = this.#options
    const at = { host: steer.host, port: steer.port, withinMs: 60_000 }
    const login = { user: 'demo', database }
    if (isTls !== true) return WireClient.login({ ...at, ...login })
    const socket = connect({ host: at.host, port: at.port, noDelay: true })
    socket.write(frontend.sslRequest())
    await once(socket, 'data', { signal: AbortSignal.timeout(at.withinMs) })
    const client = new WireClient(connectTls({ socket, rejectUnauthorized: false }), at.withinMs)
    const [error] = (await client.startup(login)).errors
    if (error !== undefined) throw new Error(`log-in failed: ${error['C']} ${error['M']}`)
    return client
  }

  /** Returns false when the connection is over. */
  async #turn(client: WireClient, prepared: string): Promise<boolean> {
    if (this.#options.isDense === true && this.#chance.int(4) !== 0) return this.#dense(client)
    switch (this.#chance.int(16)) {
      case 0:
      case 1:
        return this.#pipeline(client)
      case 2:
        return this.#unnamed(client)
      case 3:
      case 4:
        return this.#named(client, prepared)
      case 5:
        return this.#failing(client)
      case 6:
        return this.#transaction(client)
      case 7:
        return this.#chance.int(12) === 0 ? this.#cancel(client) : this.#simple(client)
      case 8:
        return this.#chance.int(80) === 0 ? this.#disconnect(client) : this.#simple(client)
      case 9:
        return this.#setting(client)
      case 10:
        return this.#failingRead(client)
      case 11:
        return this.#counting(client)
      case 12:
        return this.#chance.int(8) === 0 ? this.#cancelRead(client) : this.#plain(client)
      case 13:
        return this.#chance.int(20) === 0 ? this.#large(client) : this.#plain(client)
      case 14:
        return this.#chance.int(80) === 0 ? this.#leaveRead(client) : this.#plain(client)
      default:
        return this.#simple(client)
    }
  }

  async #simple(client: WireClient): Promise<boolean> {
    const nonce = this.#nonce()
    const padding = this.#chance.int(10) === 0 ? 20_000 : 5
    return this.#expect(await client.query(`SELECT '${nonce}', repeat('p', ${padding})`), [nonce])
  }

  /** A read that servers may be shared for, wherever it goes. */
  async #plain(client: WireClient): Promise<boolean> {
    const nonce = this.#nonce()
    return this.#expect(await client.query(`SELECT '${nonce}'`), [nonce])
  }

  /** One text, quick as a rule: whoever follows on a late one has to be answered by another server. */
  async #counting(client: WireClient): Promise<boolean> {
    const nonce = this.#nonce()
    return this.#expect(await client.query(this.#count(nonce, this.#isLate())), [nonce])
  }

  #isLate(): boolean {
    const { slowOneIn = 0 } = this.#options
    return slowOneIn > 0 && this.#chance.int(slowOneIn) === 0
  }

  #count(nonce: string, isLate: boolean): string {
    return `SELECT '${nonce}', count(*) FROM generate_series(1, ${isLate ? SLOW_ROWS : QUICK_ROWS})`
  }

  /** One read that fails, in one of the two protocols; the error repeats the nonce. */
  async #failingRead(client: WireClient): Promise<boolean> {
    const nonce = this.#nonce()
    if (this.#chance.int(2) === 0) client.send(query(`SELECT '${nonce}'::int`))
    else
      client.send(parse('', 'SELECT $1::text::int'), bind({ values: [nonce] }), execute(), sync())
    const answer = await client.ready()
    if (answer.sqlstate !== '22P02' || answer.errors[0]?.['M']?.includes(nonce) !== true)
      return this.#judgeError(answer, nonce)
    this.#counts.errors += 1
    return true
  }

  /** Cancels a read that may stand behind those of others, or before them. */
  async #cancelRead(client: WireClient): Promise<boolean> {
    const nonce = this.#nonce()
    client.send(query(this.#count(nonce, this.#chance.int(2) === 0)))
    await cancel(this.#options.steer.port, client)
    const answer = await client.ready()
    if (answer.sqlstate !== '57014') return this.#expect(answer, [nonce])
    this.#counts.cancelled += 1
    return true
  }

  /** Reads so slowly that its server, or what is kept for it, is full. */
  async #large(client: WireClient): Promise<boolean> {
    const nonce = this.#nonce()
    client.socket.pause()
    client.send(query(`SELECT '${nonce}', repeat('l', ${LARGE_BYTES})`))
    for (let turn = 0; turn < 50; turn += 1) await new Promise(setImmediate)
    client.socket.resume()
    return this.#expect(await client.ready(), [nonce])
  }

  /** Leaves in the middle of a read. */
  #leaveRead(client: WireClient): Promise<boolean> {
    client.send(query(this.#count(this.#nonce(), this.#chance.int(2) === 0)))
    client.destroy()
    this.#counts.disconnects += 1
    return Promise.resolve(false)
  }

  async #unnamed(client: WireClient): Promise<boolean> {
    const nonce = this.#nonce()
    client.send(
      parse('', 'SELECT $1::text'),
      bind({ values: [nonce] }),
      describe('P'),
      execute(),
      sync(),
    )
    return this.#expect(await client.ready(), [nonce])
  }

  async #named(client: WireClient, statement: string): Promise<boolean> {
    const nonce = this.#nonce()
    client.send(bind({ statement, values: [nonce] }), execute(), sync())
    return this.#expect(await client.ready(), [nonce])
  }

  /** Several batches in one write, one of them failing, each with its own Sync. */
  async #pipeline(client: WireClient): Promise<boolean> {
    const nonces = Array.from({ length: PIPELINE }, () => this.#nonce())
    const broken = this.#chance.int(PIPELINE)
    client.send(
      ...nonces.flatMap((nonce, index) => [
        parse('', index === broken ? 'SELECT 1/0, $1::text' : 'SELECT $1::text'),
        bind({ values: [nonce] }),
        execute(),
        sync(),
      ]),
    )
    for (const [index, nonce] of nonces.entries()) {
      const answer = await client.ready()
      if (index === broken && answer.sqlstate === '22012') this.#counts.errors += 1
      else if (!this.#expect(answer, [nonce])) return false
    }
    return true
  }

  /** Many statements in one batch, in one of the two protocols. */
  async #dense(client: WireClient): Promise<boolean> {
    const nonces = Array.from({ length: DENSE }, () => this.#nonce())
    if (this.#chance.int(2) === 0) {
      const text = nonces.map((nonce) => `SELECT '${nonce}'`).join(';')
      return this.#expect(await client.query(text), nonces)
    }
    const statements = nonces.flatMap((nonce) => [bind({ values: [nonce] }), execute()])
    client.send(parse('', 'SELECT $1::text'), ...statements, sync())
    return this.#expect(await client.ready(), nonces)
  }

  async #failing(client: WireClient): Promise<boolean> {
    const nonce = this.#nonce()
    const answer = await client.query(`SELECT '${nonce}'::text; SELECT ('${nonce}')::int`)
    if (answer.sqlstate === '22P02' && answer.errors[0]?.['M']?.includes(nonce) === true) {
      this.#counts.errors += 1
      return true
    }
    return this.#judgeError(answer, nonce)
  }

  async #transaction(client: WireClient): Promise<boolean> {
    const [first, second] = [this.#nonce(), this.#nonce()]
    const begin = await client.query('BEGIN')
    if (begin.status !== 'T') return this.#judgeError(begin, 'BEGIN')
    if (!this.#expect(await client.query(`SELECT '${first}'`), [first])) return false
    const still = await client.query(`SELECT txid_current() IS NOT NULL, '${second}'`)
    if (still.rows[0]?.[1] === second) this.#counts.right += 1
    else if (!this.#judgeError(still, second)) return false
    const end = await client.query(this.#chance.int(2) === 0 ? 'COMMIT' : 'ROLLBACK')
    return end.status === 'I' ? true : this.#judgeError(end, 'COMMIT')
  }

  /** A setting carries the nonce to the next statement, which may run on another server. */
  async #setting(client: WireClient): Promise<boolean> {
    const nonce = this.#nonce()
    const set = await client.query(`SET my.nonce = '${nonce}'`)
    if (set.sqlstate !== undefined) return this.#judgeError(set, nonce)
    return this.#expect(await client.query("SELECT current_setting('my.nonce')"), [nonce])
  }

  /** Cancels itself; whoever else is cancelled by that says so in its own answer. */
  async #cancel(client: WireClient): Promise<boolean> {
    const nonce = this.#nonce()
    client.send(query(`SELECT '${nonce}', pg_sleep(0.05)`))
    await cancel(this.#options.steer.port, client)
    const answer = await client.ready()
    if (answer.sqlstate !== '57014') return this.#expect(answer, [nonce])
    this.#counts.cancelled += 1
    return true
  }

  #disconnect(client: WireClient): Promise<boolean> {
    const nonce = this.#nonce()
    client.send(query(`SELECT '${nonce}', repeat('d', 200000), pg_sleep(0.002)`))
    client.destroy()
    this.#counts.disconnects += 1
    return Promise.resolve(false)
  }

  #nonce(): string {
    this.#serial += 1
    return `n${this.#id}.${this.#serial}.${this.#chance.int(2 ** 32).toString(36)}`
  }

  #expect(answer: Answer, nonces: readonly string[]): boolean {
    const seen = answer.rows.map((row) => row[0])
    if (answer.sqlstate === undefined && answer.status !== undefined) {
      if (seen.length === nonces.length && seen.every((value, at) => value === nonces[at])) {
        this.#counts.right += nonces.length
        return true
      }
    }
    return this.#judgeError(answer, nonces.join())
  }

  /** Returns whether the connection may go on. Rows of others are never forgiven. */
  #judgeError(answer: Answer, wanted: string): boolean {
    const { sqlstate, status } = answer
    const foreign = answer.rows.flat().filter((value) => /^n\d+\./.test(value ?? ''))
    const isForeign = foreign.some((value) => value?.startsWith(`n${this.#id}.`) !== true)
    const isExcused =
      this.#options.mayBreak &&
      (sqlstate === undefined ? status === undefined : BREAKING.test(sqlstate))
    if (isForeign || !isExcused)
      this.#wrong.push(
        `client ${this.#id} wanted ${wanted}, got ${answer.types} ${sqlstate ?? ''} ` +
          `${answer.errors[0]?.['M'] ?? ''} ${JSON.stringify(answer.rows).slice(0, 300)}`,
      )
    this.#counts.errors += 1
    return status === 'I'
  }
}

/** Sends a cancel request with the client's key; resolves when its connection is closed. */
export function cancel(port: number, client: WireClient): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port }, () => {
      socket.write(frontend.cancelRequest(client.processId, client.key))
    })
    socket.on('error', () => resolve())
    socket.on('close', () => resolve())
    socket.resume()
  })
}
