/**
 * From a server to its client: finds the replies in the bytes, takes them off the ledger, and sends
 * on what the client is owed in one write per chunk. Rows are never looked at.
 *
 * hot path: the longest run of frames is one piece. Of a frame split over chunks the front waits for
 * the rest and is copied in front of it, once; a long row costs a counter.
 * Source  PostgreSQL manual, "Message Flow".
 */
import { ProxyError } from '../base/errors.ts'
import { joined } from '../net/shared-read.ts'
import type { ServerConnection } from '../server/connection.ts'
import * as frame from '../wire/frame.ts'
import { completes, type Entry } from '../wire/ledger.ts'
import { reportFields } from '../wire/messages.ts'
import { settled } from './stake.ts'

/** What the other direction has to know of COPY FROM STDIN. */
export interface CopyIn {
  /** The server waits for copy messages; `isExtended`: it runs inside an Execute. */
  begin(isExtended: boolean): void
  /** An error ended it: what still comes of it is dropped. */
  fail(): void
}

export interface RelayOwner {
  /** A statement of `entry` completed; `tag` is its command tag. Returns what goes to the client in front of that. */
  onComplete(entry: Entry, tag: string, server: ServerConnection): Buffer | null
  /** An error of the client's own statement. Returns true to keep it from the client (healing). */
  onError(
    fields: Readonly<Record<string, string>>,
    isUnanswered: boolean,
    server: ServerConnection,
  ): boolean
  /** The server says that it ends. Returns true to keep it from the client. */
  keepsEnd(fields: Readonly<Record<string, string>>, server: ServerConnection): boolean
  /** The batch may be sent to another server, as long as nothing of its answer went out. */
  mayRepeat(): boolean
  /** A ReadyForQuery; `forward` is false for one that answers something of ours. */
  onReady(status: number, forward: boolean, server: ServerConnection): void
  /** Returns whether the client is to be told. */
  onReport(name: string, value: string, server: ServerConnection): boolean
  /** Bytes for the client. */
  send(bytes: Buffer): void
}

/**
 * How a server took its leave: not at all, by FATAL 57P01 as an error, by another FATAL, or by a
 * warning 57P01 or 57P02.
 */
export type LastWord = 'none' | 'shutdown' | 'fatal' | 'stopped' | 'crashed'

/** admin_shutdown and crash_shutdown. */
const SHUTDOWN = '57P01'
const CRASH = '57P02'
/** An error or report longer than this passes without being read. */
const READ_BYTES_MAX = 64 * 1024
/**
 * A longer row goes on as it comes. A shorter one goes when it is whole: whose server is lost in the
 * middle of a message cannot be told anything any more.
 */
const ROW_BYTES_MAX = 16 * 1024
/** A ReadyForQuery. */
const READY_BYTES = 6
const EMPTY = Buffer.alloc(0)

export class Relay {
  readonly #owner: RelayOwner
  readonly #copyIn: CopyIn
  readonly #isMany: boolean
  /** The front of a frame that is not whole. */
  #held: Buffer = EMPTY
  /** Bytes of a frame whose front went its way already. */
  #passing = 0
  #isPassingForward = true
  readonly #pieces: Buffer[] = []
  /** There is more among the pieces than replies of ours that stand before what the server will say. */
  #hasSpoken = false
  #chunk: Buffer = EMPTY
  #runStart = 0
  #offset = 0
  /** Everything up to the next ReadyForQuery is kept from the client: it is asked elsewhere. */
  isSwallowing = false
  /** A byte of the answer to the batch in progress went out. */
  hasAnswered = false
  /** How the server took its leave. */
  lastWord: LastWord = 'none'
  /** What is left at stake of the answer in progress, and how many CommandCompletes it had. */
  answeredStake = 0
  completes = 0
  /** A notice that says farewell: the client only gets it when the server speaks again. */
  #withheld: Buffer | null = null
  /**
   * What of the answer had not gone out when the server said farewell. The client gets it when the
   * server speaks again, or when the batch does not go elsewhere.
   */
  #keptBack: Buffer = EMPTY

  /** `isMany`  what follows a ReadyForQuery is another client's: no piece goes beyond one. */
  constructor(owner: RelayOwner, copyIn: CopyIn, isMany = false) {
    this.#owner = owner
    this.#copyIn = copyIn
    this.#isMany = isMany
  }

  /** The client has got the front of a message whose rest was not sent yet. */
  get isClientMidMessage(): boolean {
    return this.#passing > 0 && this.#isPassingForward
  }

  /** The server said that it ends. */
  get isOver(): boolean {
    return this.lastWord === 'shutdown' || this.lastWord === 'fatal'
  }

  get isMidMessage(): boolean {
    return this.#passing > 0 || this.#held.length > 0
  }

  reset(): void {
    this.#held = EMPTY
    this.#passing = 0
    this.#drop()
    this.isSwallowing = false
    this.hasAnswered = false
    this.lastWord = 'none'
    this.answeredStake = 0
    this.completes = 0
    this.#withheld = null
    this.#keptBack = EMPTY
  }

  /**
   * What a client whose server is lost gets in front of the news: what was said before a farewell, and
   * replies of ours that wait for what the server would have said behind them. Asked before `reset`.
   */
  get unsent(): Buffer {
    return Buffer.concat([this.#keptBack, ...this.#pieces])
  }

  /**
   * Errors  ProxyError `server_protocol` when the server says what it cannot say now.
   */
  onBytes(bytes: Buffer, server: ServerConnection): void {
    this.#chunk = this.#held.length === 0 ? bytes : joined(this.#held, bytes)
    this.#held = EMPTY
    this.#runStart = 0
    this.#offset = 0
    if (this.#withheld !== null) this.#release(this.#withheld)
    this.#continue(server)
    while (this.#chunk.length - this.#offset >= frame.HEADER_BYTES && this.#frame(server)) {}
    const end = this.#passing > 0 ? this.#chunk.length : this.#offset
    this.#endRun(end)
    if (end < this.#chunk.length) this.#held = Buffer.from(this.#chunk.subarray(end))
    this.#chunk = EMPTY
    this.#flushFor(server)
  }

  /** What comes next is for another client. */
  #endAnswer(): void {
    this.#endRun(this.#offset)
    this.#flush()
    this.hasAnswered = false
  }

  /** Replies of our own whose turn has come go out with what the server says next. */
  placeLocals(server: ServerConnection): void {
    this.#locals(server)
  }

  /** Replies of our own whose turn has come. */
  drainLocals(server: ServerConnection): void {
    this.#locals(server)
    this.#flushFor(server)
  }

  /**
   * A reply of ours goes out with what the server says behind it: as long as the server has said nothing,
   * the batch may go elsewhere.
   */
  #flushFor({ ledger }: ServerConnection): void {
    if (this.#hasSpoken || ledger.length === 0) this.#flush()
  }

  #continue(server: ServerConnection): void {
    if (this.#passing === 0) return
    const bytes = Math.min(this.#passing, this.#chunk.length)
    this.#passing -= bytes
    this.#offset = bytes
    if (!this.#isPassingForward) this.#runStart = bytes
    this.#locals(server)
  }

  /** An answer that is whole is the answer, whatever its server says behind it. */
  #mayKeepAnswer({ ledger }: ServerConnection): boolean {
    return ledger.length > 0 && !this.hasAnswered && this.#owner.mayRepeat()
  }

  /** Keeps back what of the answer has not gone out. */
  #keepAnswer(): void {
    this.#endRun(this.#offset)
    this.#keptBack = Buffer.concat(this.#pieces)
    this.#drop()
  }

  /** It was no farewell. */
  #release(notice: Buffer): void {
    this.#withheld = null
    this.lastWord = 'none'
    if (this.#keptBack.length > 0) this.#pieces.push(this.#keptBack)
    this.#pieces.push(notice)
    this.#hasSpoken = true
    this.#keptBack = EMPTY
  }

  /** What waits to go out is void. */
  #drop(): void {
    this.#pieces.length = 0
    this.#hasSpoken = false
  }

  #flush(): void {
    this.#hasSpoken = false
    const bytes = this.#joined()
    if (bytes === undefined) return
    this.hasAnswered = true
    this.#owner.send(bytes)
  }

  /** What goes out, in one; usually it is one piece. */
  #joined(): Buffer | undefined {
    if (this.#pieces.length <= 1) return this.#pieces.pop()
    return Buffer.concat(this.#pieces.splice(0))
  }

  /** Takes one frame. Returns false when more bytes are needed. */
  #frame(server: ServerConnection): boolean {
    const bytes = frame.frameBytes(this.#chunk, this.#offset)
    if (bytes < frame.HEADER_BYTES) throw breach('bad length word')
    const type = this.#chunk[this.#offset] ?? 0
    const head = server.ledger.head
    const isWhole = this.#offset + bytes <= this.#chunk.length
    if (type === frame.DATA_ROW || type === frame.COPY_DATA) {
      if (head === undefined) throw breach('a row that nobody asked for')
      if (!isWhole && bytes <= ROW_BYTES_MAX) return false
      this.#move(bytes, head.forward)
      return true
    }
    if (!isWhole && bytes <= READ_BYTES_MAX) return false
    this.#reply(type, bytes, server)
    return true
  }

  #reply(type: number, bytes: number, server: ServerConnection): void {
    switch (type) {
      case frame.READY_FOR_QUERY:
        this.#ready(bytes, server)
        return
      case frame.ERROR_RESPONSE:
        this.#error(bytes, server)
        return
      case frame.PARAMETER_STATUS:
        this.#report(bytes, server)
        return
      case frame.NOTICE_RESPONSE:
        this.#notice(bytes, server)
        return
      case frame.NOTIFICATION:
        this.#move(bytes, true)
        return
      case frame.AUTHENTICATION:
      case frame.BACKEND_KEY_DATA:
      case frame.NEGOTIATE_VERSION:
        throw breach('a log-in message after the log-in')
      default:
        this.#answer(type, bytes, server)
    }
  }

  /** The body of the frame at hand; empty when it is not whole, too long to be read. */
  #body(bytes: number): Buffer {
    const end = this.#offset + bytes
    if (end > this.#chunk.length) return EMPTY
    return this.#chunk.subarray(this.#offset + frame.HEADER_BYTES, end)
  }

  #answer(type: number, bytes: number, server: ServerConnection): void {
    const head = server.ledger.head
    if (head === undefined) throw breach('an answer that nobody asked for')
    if (type === frame.COPY_IN) {
      dropIgnoredSyncs(server)
      this.#copyIn.begin(head.kind === 'execute')
    }
    if (type === frame.COMMAND_COMPLETE && head.subject !== null) {
      const body = this.#body(bytes)
      const tag = body.toString('latin1', 0, Math.max(body.length - 1, 0))
      const notice = this.#owner.onComplete(head, tag, server)
      if (notice !== null) {
        this.#endRun(this.#offset)
        this.#pieces.push(notice)
      }
    }
    this.#move(bytes, head.forward)
    if (type === frame.COMMAND_COMPLETE) this.completes += 1
    if (!completes(head.kind, type)) return
    if (head.kind === 'execute') this.answeredStake = settled(this.answeredStake, head.stake ?? 0)
    server.ledger.take().subject?.settle(true)
    this.#locals(server)
  }

  #ready(bytes: number, server: ServerConnection): void {
    const head = server.ledger.head
    if (head === undefined || !completes(head.kind, frame.READY_FOR_QUERY))
      throw breach('ReadyForQuery out of turn')
    const isEmpty = bytes === frame.HEADER_BYTES
    server.status = isEmpty ? 0 : (this.#chunk[this.#offset + frame.HEADER_BYTES] ?? 0)
    const forward = head.forward && !this.isSwallowing
    this.#move(bytes, head.forward)
    this.isSwallowing = false
    this.answeredStake = 0
    this.completes = 0
    server.ledger.take().subject?.settle(true)
    if (this.#isMany) this.#endAnswer()
    this.#owner.onReady(server.status, forward, server)
    this.#locals(server)
  }

  #error(bytes: number, server: ServerConnection): void {
    const fields = reportFields(this.#body(bytes))
    if (isFatal(fields) && this.#owner.keepsEnd(fields, server)) {
      this.lastWord = fields['C'] === SHUTDOWN ? 'shutdown' : 'fatal'
      if (this.#mayKeepAnswer(server)) this.#keepAnswer()
      this.#move(bytes, false)
      return
    }
    // An error of an injected Parse is the error of the client's Bind.
    const head = server.ledger.head
    const isOwn = head === undefined || head.forward || head.kind !== 'query'
    const isUnanswered = !this.hasAnswered
    this.#copyIn.fail()
    if (server.ledger.length > 0) server.ledger.fail()
    if (isOwn && this.#owner.onError(fields, isUnanswered, server)) {
      this.#drop()
      this.#runStart = this.#offset
      this.isSwallowing = true
    }
    this.#move(bytes, true)
    this.#locals(server)
  }

  #notice(bytes: number, server: ServerConnection): void {
    const { head } = server.ledger
    // Servers that are stopped at once, or that another's crash takes along, say so in a notice.
    const isLast = this.#offset + bytes === this.#chunk.length
    const farewell = isLast ? farewellOf(reportFields(this.#body(bytes))) : 'none'
    if (farewell !== 'none') {
      this.lastWord = farewell
      server.hasSaidCrash = farewell === 'crashed'
      this.#withheld = Buffer.from(this.#chunk.subarray(this.#offset))
      if (this.#mayKeepAnswer(server)) this.#keepAnswer()
      this.#move(bytes, false)
      return
    }
    this.#move(bytes, head === undefined || (head.forward && head.isQuiet !== true))
  }

  #report(bytes: number, server: ServerConnection): void {
    const report = server.report(this.#body(bytes))
    if (report === null) throw breach('broken ParameterStatus')
    const tells = this.#owner.onReport(report.name, report.value, server)
    this.#move(bytes, tells && (server.ledger.head?.forward ?? true))
  }

  /** The frame at hand goes to the client, or is dropped; what has not arrived yet likewise. */
  #move(bytes: number, forward: boolean): void {
    const goes = forward && !this.isSwallowing
    const now = Math.min(bytes, this.#chunk.length - this.#offset)
    if (!goes) this.#endRun(this.#offset)
    this.#offset += now
    if (!goes) this.#runStart = this.#offset
    this.#passing = bytes - now
    this.#isPassingForward = goes
  }

  #endRun(end: number): void {
    if (end > this.#runStart) {
      const isAll = this.#runStart === 0 && end === this.#chunk.length
      this.#pieces.push(isAll ? this.#chunk : this.#chunk.subarray(this.#runStart, end))
      this.#hasSpoken = true
    }
    this.#runStart = end
  }

  #place(reply: Buffer): void {
    this.#pieces.push(reply)
    if (endsReady(reply)) this.#hasSpoken = true
  }

  #locals(server: ServerConnection): void {
    // Not into the middle of a message.
    if (this.#passing > 0) return
    for (;;) {
      const { head } = server.ledger
      if (head === undefined || head.kind !== 'local') return
      server.ledger.take()
      this.#endRun(this.#offset)
      if (head.reply !== null && !this.isSwallowing) this.#place(head.reply())
      head.subject?.settle(true)
    }
  }
}

/** Whether a reply is the whole answer to something. */
function endsReady(reply: Buffer): boolean {
  return reply[reply.length - READY_BYTES] === frame.READY_FOR_QUERY
}

/**
 * A server in COPY FROM STDIN ignores Flush and Sync: those that were sent ahead are not answered.
 * Source  copyfromparse.c, CopyGetData.
 */
function dropIgnoredSyncs(server: ServerConnection): void {
  if (server.ledger.head?.kind === 'execute') server.ledger.dropSyncs()
}

function breach(reason: string): ProxyError {
  return new ProxyError('server_protocol', { reason })
}

/** The severity that is not translated came with PostgreSQL 9.6. */
export function isFatal(fields: Readonly<Record<string, string>>): boolean {
  const severity = fields['V'] ?? fields['S']
  return severity === 'FATAL' || severity === 'PANIC'
}

/** A warning, followed by the end of the connection. Source: quickdie in postgres.c. */
function farewellOf(fields: Readonly<Record<string, string>>): LastWord {
  if ((fields['V'] ?? fields['S']) !== 'WARNING') return 'none'
  if (fields['C'] === SHUTDOWN) return 'stopped'
  return fields['C'] === CRASH ? 'crashed' : 'none'
}
