/**
 * What passes by on one connection, seen from outside of the proxy: how far answers to a client have
 * come, what was sent to a server, and how a server said farewell.
 */
import { errorFields, type Frame, frames } from '../support/bytes.ts'
import type { Farewell, Sight } from './oracle.ts'

const SENT_MAX = 8000
/** Reports and notices answer nothing. */
const ASIDE = 'SNA'

/** From the proxy to one client. */
export class ToClient {
  status: 'I' | 'T' | 'E' = 'I'
  /** Answers that are whole. */
  answers = 0
  /** Of the answer in progress. */
  hasAnswered = false
  completes = 0
  sqlstate = ''
  #rest: Buffer = Buffer.alloc(0)

  get isMidMessage(): boolean {
    return this.#rest.length > 0
  }

  get sight(): Pick<Sight, 'hasAnswered' | 'completes' | 'sqlstate' | 'status'> {
    const { hasAnswered, completes, sqlstate, status } = this
    return { hasAnswered, completes, sqlstate, status }
  }

  take(bytes: Buffer): readonly Frame[] {
    const read = frames(Buffer.concat([this.#rest, bytes]))
    this.#rest = Buffer.from(read.rest)
    for (const one of read.frames) this.#frame(one)
    if (this.#rest.length > 0) this.hasAnswered = true
    return read.frames
  }

  #frame({ type, body }: Frame): void {
    if (type === 'Z') {
      this.status = body.toString('latin1') as 'I' | 'T' | 'E'
      this.answers += 1
      this.hasAnswered = false
      this.completes = 0
      this.sqlstate = ''
      return
    }
    if (type === 'C') this.completes += 1
    if (type === 'E') this.sqlstate = errorFields(body)['C'] ?? ''
    if (!ASIDE.includes(type)) this.hasAnswered = true
  }
}

/** Between the proxy and one server. */
export class WithServer {
  farewell: Farewell = 'none'
  #sent = ''
  #sentRest: Buffer = Buffer.alloc(0)
  #isUnsynced = false
  /** Queries that were sent in pieces: what they are, nobody had read. */
  #split = ''
  #rest: Buffer = Buffer.alloc(0)

  /** The last thing was sent in part. */
  get isMidBatch(): boolean {
    return this.#isUnsynced || this.#sentRest.length > 0
  }

  hasSent(mark: string): boolean {
    return this.#sent.includes(mark)
  }

  /** It went out before it was whole: the proxy did not know what it is. */
  wasSplit(mark: string): boolean {
    return this.#split.includes(mark)
  }

  sending(bytes: Buffer): void {
    const isRest = this.#sentRest.length > 0
    this.#sent = (this.#sent + bytes.toString('latin1')).slice(-SENT_MAX)
    const read = frames(Buffer.concat([this.#sentRest, bytes]))
    this.#sentRest = Buffer.from(read.rest)
    const [first] = read.frames
    if (isRest && first?.type === 'Q')
      this.#split = (this.#split + first.body.toString('latin1')).slice(-SENT_MAX)
    for (const { type } of read.frames)
      if (type === 'S' || type === 'Q') this.#isUnsynced = false
      else if ('PBDEC'.includes(type)) this.#isUnsynced = true
  }

  arriving(bytes: Buffer): readonly Frame[] {
    const read = frames(Buffer.concat([this.#rest, bytes]))
    this.#rest = Buffer.from(read.rest)
    for (const { type, body } of read.frames) this.farewell = farewellOf(type, body)
    return read.frames
  }
}

function farewellOf(type: string, body: Buffer): Farewell {
  if (type !== 'E' && type !== 'N') return 'none'
  const { C: sqlstate, S: severity } = errorFields(body)
  if (type === 'E') return severity === 'FATAL' && sqlstate === '57P01' ? 'shutdown' : 'none'
  if (severity !== 'WARNING') return 'none'
  if (sqlstate === '57P01') return 'stopped'
  return sqlstate === '57P02' ? 'crashed' : 'none'
}
