/**
 * From the client to its server: takes the messages of the input in order, gives prepared
 * statements their names on this server, adds what the server lacks, books every message in the
 * ledger and sends all of it in one write. A body that is only passing is never looked at.
 *
 * hot path: where no message needs a change nothing is copied; else what goes out is put together once.
 * Source  PostgreSQL manual, "Message Flow"; copyfromparse.c for what COPY ignores.
 */
import { ProxyError } from '../base/errors.ts'
import type { Classified } from '../routing/classify.ts'
import type { ServerConnection } from '../server/connection.ts'
import {
  type PreparedRegistry,
  type PreparedStatement,
  UNKNOWN_STATEMENT,
  unnamedStatement,
} from '../server/prepared.ts'
import * as frame from '../wire/frame.ts'
import {
  CLOSE_COMPLETE_FRAME,
  commandComplete,
  fixed,
  PARSE_COMPLETE_FRAME,
  readyForQuery,
  SYNC_FRAME,
} from '../wire/messages.ts'
import { FrameReader } from '../wire/reader.ts'
import { checkedFrameBytes, type Judge, NOT_UNDERSTOOD } from './batch.ts'
import { hasEffects, isOrdinary, isPlainWrite } from './effects.ts'
import type { DatabaseStats } from './facts.ts'
import { Naming } from './naming.ts'
import { outgoing } from './outgoing.ts'
import type { Pins } from './pin.ts'
import type { SessionPrepared, SessionStatement } from './prepared.ts'
import type { CopyIn } from './relay.ts'
import type { SessionSettings } from './settings.ts'
import { OWN, READS, stakeOf, WRITES } from './stake.ts'
import { standIn } from './standin.ts'
import type { Transaction } from './transaction.ts'
import { Entered, FORWARD, forwardEntry, localEntry, plainEntry, SWALLOW, Work } from './work.ts'

export interface ForwardContext {
  readonly prepared: SessionPrepared
  readonly settings: SessionSettings
  readonly transaction: Transaction
  readonly pins: Pins
  readonly registry: PreparedRegistry
  readonly stats: DatabaseStats
  readonly preparedMax: number
  readonly frameBytesMax: number
  /** `disable_pqexec`. */
  readonly isQueryAllowed: boolean
  readonly judge: Judge['judge']
  classify(text: string): Classified
  /** A statement is being sent. */
  onStatement(classified: Classified): void
}

/** The front of a Bind (portal and statement name) must fit in this; a longer Query is not read. */
const NAMES_BYTES_MAX = 64 * 1024
/** Messages that are read whole, and how long they may be: a Parse is kept as long as it is used. */
const WHOLE_BYTES_MAX = new Map<number, number>([
  [frame.PARSE, 64 * 1024 * 1024],
  [frame.DESCRIBE, NAMES_BYTES_MAX],
  [frame.EXECUTE, NAMES_BYTES_MAX],
  [frame.CLOSE, NAMES_BYTES_MAX],
])
const STATEMENT = 0x53
const ORDINARY_QUERY = plainEntry('query', READS)
const PLAIN_WRITE = plainEntry('query', WRITES)
const PLAIN_EXECUTE = plainEntry('execute', WRITES)
const ORDINARY_EXECUTE = plainEntry('execute', READS)
const FUNCTION_ENTRY = forwardEntry('function', null, stakeOf(NOT_UNDERSTOOD))
const EMPTY = Buffer.alloc(0)

export class Forwarder {
  readonly #context: ForwardContext
  readonly #names: Naming
  readonly #reader = new FrameReader()
  #input: Buffer = EMPTY
  #offset = 0
  /** Bytes of a message whose front was sent already: they pass unread. */
  #passing = 0
  /** The server is in COPY FROM STDIN: it takes copy messages and ignores Flush and Sync. */
  isCopyIn = false
  /** Extended messages went out whose Sync did not: the server is inside their transaction. */
  isUnsynced = false
  /** The message at the front of the input goes when these many bytes of it are there; else 0. */
  wantedBytes = 0
  /** The client said Terminate; it stays in the input. */
  isTerminated = false
  /** What the next message is, a whole Query that was judged already. */
  #judged: Classified | null = null
  /** The next message is a Parse of the unnamed statement that says what this one says. */
  #again: SessionStatement | null = null
  /** The batch stands behind those of other sessions. */
  #isRide = false

  constructor(context: ForwardContext) {
    this.#context = context
    this.#names = new Naming(context)
  }

  /**
   * COPY FROM STDIN. The Sync that was sent with its Execute is ignored by the server: another one
   * has to come before the server is free.
   */
  readonly copyIn: CopyIn = {
    begin: (isExtended) => {
      this.isCopyIn = true
      if (isExtended) this.isUnsynced = true
    },
    fail: () => {
      this.isCopyIn = false
    },
  }

  /** Bytes still to come of a message that was sent in part. */
  get passingBytes(): number {
    return this.#passing
  }

  /** A message was sent in part: the server waits for the rest. */
  get isMidMessage(): boolean {
    return this.#passing > 0
  }

  /**
   * The next message is a whole Query that does this, or a Parse of what is `again` the same.
   * `isRide`: what the server owes is owed to others.
   */
  expect(query: Classified | null, again: SessionStatement | null, isRide = false): void {
    this.#isRide = isRide
    this.#judged = query
    this.#again = again
  }

  /** The server is gone: what was under way is over. */
  reset(): void {
    this.#judged = null
    this.#again = null
    this.#passing = 0
    this.isCopyIn = false
    this.isUnsynced = false
    this.wantedBytes = 0
  }

  /**
   * Sends what it can of `input[0, bytesMax)`. Returns the bytes taken; a message that has to be
   * read and is not whole stays.
   *
   * Errors  ProxyError for a message that no client may send; nothing of it was sent.
   */
  forward(input: Buffer, bytesMax: number, server: ServerConnection): number {
    this.#input = bytesMax === input.length ? input : input.subarray(0, bytesMax)
    this.#offset = 0
    this.wantedBytes = 0
    const bytes = this.#gather(server)
    this.#input = EMPTY
    const taken = this.#offset
    if (bytes !== null) server.write(bytes)
    return taken
  }

  #gather(server: ServerConnection): Buffer | null {
    outgoing.begin(this.#input)
    try {
      this.#begin(server)
      while (this.#offset < this.#input.length && this.#message(server)) {}
      return outgoing.all()
    } finally {
      outgoing.end()
    }
  }

  /** A BEGIN that was answered already goes out in the same write. */
  #begin(server: ServerConnection): void {
    const { transaction } = this.#context
    if (transaction.deferredText === null || server.ledger.length > 0) return
    if (server.status !== frame.STATUS_IDLE) return
    outgoing.bytes(beginFrame(transaction.deferredText))
    server.ledger.push(SWALLOW.query)
  }

  /** Takes one message, or as much of it as is there. Returns false when more bytes are needed. */
  #message(server: ServerConnection): boolean {
    const available = this.#input.length - this.#offset
    if (this.#passing > 0) {
      this.#pass(this.#passing)
      return true
    }
    if (available < frame.HEADER_BYTES) return false
    const bytes = checkedFrameBytes(this.#input, this.#offset, this.#context.frameBytesMax)
    this.#reader.begin(
      this.#input,
      this.#offset + frame.HEADER_BYTES,
      this.#offset + Math.min(bytes, available),
    )
    return this.#take(this.#input[this.#offset] ?? 0, bytes, server)
  }

  #take(type: number, bytes: number, server: ServerConnection): boolean {
    const isWhole = this.#offset + bytes <= this.#input.length
    if (!isWhole && WHOLE_BYTES_MAX.has(type)) return this.#want(type, bytes)
    if (frame.needsSync(type)) this.isUnsynced = true
    else if (type === frame.FUNCTION_CALL) this.isUnsynced = false
    switch (type) {
      case frame.QUERY:
        return this.#query(bytes, isWhole, server)
      case frame.PARSE:
        return this.#parse(bytes, server)
      case frame.BIND:
        return this.#bind(bytes, isWhole, server)
      case frame.DESCRIBE:
        return this.#describe(bytes, server)
      case frame.CLOSE:
        return this.#close(bytes, server)
      case frame.EXECUTE:
        return this.#execute(bytes, server)
      case frame.SYNC:
        // What follows may run on another server behind the pooler, which has no unnamed statement.
        if (server.isShared) server.statements.unnamed = null
        if (!this.isCopyIn) {
          server.ledger.push(FORWARD.sync)
          this.isUnsynced = false
        }
        return this.#pass(bytes)
      case frame.FLUSH:
        return this.#pass(bytes)
      case frame.FUNCTION_CALL:
        this.#context.onStatement(NOT_UNDERSTOOD)
        server.ledger.push(FUNCTION_ENTRY)
        return this.#pass(bytes)
      case frame.COPY_DATA:
        return this.#pass(bytes)
      case frame.COPY_DONE:
      case frame.COPY_FAIL:
        this.isCopyIn = false
        return this.#pass(bytes)
      case frame.TERMINATE:
        this.isTerminated = true
        return false
      default:
        throw new ProxyError('unknown_message')
    }
  }

  #want(type: number, bytes: number): false {
    const max = WHOLE_BYTES_MAX.get(type) ?? 0
    if (bytes > max) throw new ProxyError('frame_bytes_max', { bytes, max })
    this.wantedBytes = bytes
    return false
  }

  /** The message goes as it is; what has not arrived yet follows unread. */
  #pass(bytes: number): true {
    const available = this.#input.length - this.#offset
    const now = Math.min(bytes, available)
    this.#passing = bytes - now
    outgoing.run(this.#offset, this.#offset + now)
    this.#offset += now
    return true
  }

  /** The message is not sent; `piece` goes in its place. */
  #replace(bytes: number, piece: Buffer = EMPTY): true {
    if (piece.length > 0) outgoing.bytes(piece)
    this.#offset += bytes
    return true
  }

  #query(bytes: number, isWhole: boolean, server: ServerConnection): boolean {
    if (!this.#context.isQueryAllowed) throw new ProxyError('pqexec_disallowed')
    if (!isWhole && bytes <= NAMES_BYTES_MAX) {
      this.wantedBytes = bytes
      return false
    }
    const classified = this.#judged ?? (isWhole ? this.#judge() : NOT_UNDERSTOOD)
    this.#judged = null
    if (isOrdinary(classified)) return this.#ordinaryQuery(bytes, server)
    if (isPlainWrite(classified)) return this.#plainWrite(bytes, server)
    if (this.#isOwnDeallocate(classified, server)) return this.#replace(bytes)
    const own = this.isUnsynced ? this.#names.deallocated(classified) : null
    this.#context.onStatement(classified)
    this.#beginQuery(server)
    if (own !== null) {
      this.#names.ensure(own, server)
      server.ledger.push(forwardEntry('query', new Work(classified), stakeOf(classified)))
      return this.#replace(bytes, latin1Query(`DEALLOCATE "${own.name}"`))
    }
    const text = standIn(classified, server)
    if (text !== null) {
      const entry = forwardEntry('query', new Work(classified), stakeOf(classified))
      server.ledger.push({ ...entry, isQuiet: true })
      return this.#replace(bytes, latin1Query(text))
    }
    const stake = stakeOf(classified)
    server.ledger.push(
      hasEffects(classified)
        ? forwardEntry('query', new Work(classified), stake)
        : plainEntry('query', stake),
    )
    return this.#pass(bytes)
  }

  #ordinaryQuery(bytes: number, server: ServerConnection): true {
    this.#beginQuery(server)
    server.ledger.push(ORDINARY_QUERY)
    return this.#pass(bytes)
  }

  #plainWrite(bytes: number, server: ServerConnection): true {
    this.#context.transaction.hasWritten = true
    this.#beginQuery(server)
    server.ledger.push(PLAIN_WRITE)
    return this.#pass(bytes)
  }

  /** A simple Query destroys the unnamed statement (exec_simple_query), unless it is skipped. */
  #beginQuery(server: ServerConnection): void {
    if (server.statements.unnamed !== null)
      server.statements.unnamed = this.isUnsynced ? UNKNOWN_STATEMENT : null
    this.isUnsynced = false
    this.#context.prepared.remove('')
  }

  #judge(): Classified {
    const judged = this.#reader.rest(this.#context.judge)
    if (judged === null) throw new ProxyError('broken_message', { message: 'Query' })
    return judged.classified
  }

  /** DEALLOCATE of statements that only we know by that name is answered in its place. */
  #isOwnDeallocate(classified: Classified, server: ServerConnection): boolean {
    const [statement] = classified.statements
    if (statement?.verb !== 'deallocate' || classified.statements.length !== 1) return false
    // A Query ends what was not synced, and a failed transaction refuses it: the server has to see it.
    if (this.isUnsynced || server.status === frame.STATUS_FAILED) return false
    const { prepared, pins } = this.#context
    if (statement.name === undefined) {
      if (pins.has('sql_prepare')) return false
      prepared.clear()
    } else if (prepared.remove(statement.name) === null) return false
    if (server.isShared) this.#endPipeline(server)
    const tag = statement.name === undefined ? 'DEALLOCATE ALL' : 'DEALLOCATE'
    server.ledger.push(
      localEntry(
        () => Buffer.concat([commandComplete(tag), readyForQuery(server.status)]),
        null,
        OWN,
      ),
    )
    return true
  }

  /** Nothing of the client follows on the settings that were made for this transaction only. */
  #endPipeline(server: ServerConnection): void {
    outgoing.bytes(SYNC_FRAME)
    server.ledger.push(SWALLOW.sync)
  }

  #parse(bytes: number, server: ServerConnection): true {
    const again = this.#takeAgain(server)
    this.#context.stats.clientParses += 1
    return again === null ? this.#parseNew(bytes, server) : this.#parseAgain(bytes, again, server)
  }

  #parseNew(bytes: number, server: ServerConnection): true {
    const { prepared, registry, settings, stats } = this.#context
    const name = this.#reader.cstring()
    const bodyStart = this.#reader.offset
    const like = name === '' ? prepared.unnamedLike(this.#reader) : null
    const text = like === null ? this.#reader.cstring() : like.statement.text
    if (this.#reader.isBroken) throw new ProxyError('broken_message', { message: 'Parse' })
    const taken = prepared.takenBy(name)
    if (taken !== null) {
      if (!server.isShared) return this.#parseTwice(bytes, taken.statement, server)
      prepared.remove(name)
    }
    const classified = this.#context.classify(text)
    const own = this.#names.deallocated(classified)
    const local = standIn(classified, server)
    const isSame = like !== null && own === null && local === null
    if (isSame && like.classified === classified && server.ledger.length === 0)
      return this.#parseAgain(bytes, like.statement, server)
    const sent = Buffer.from(this.#input.subarray(bodyStart, this.#offset + bytes))
    let body: Buffer = sent
    if (own !== null) body = this.#names.deallocateBody(own, server)
    else if (local !== null) body = Buffer.from(`${local}\0\0\0`, 'latin1')
    const statement =
      name === '' ? unnamedStatement(text, body) : registry.hold(text, body, settings.current)
    const takeBack = prepared.enter(name, { statement, classified, isRewritten: body !== sent })
    if (name === '' || server.isShared) {
      server.statements.unnamed = statement
      stats.serverParses += 1
      server.ledger.push(
        forwardEntry(
          'parse',
          new Entered(() => {
            server.statements.unnamed = UNKNOWN_STATEMENT
            takeBack()
          }),
        ),
      )
      const isVerbatim = name === '' && body === sent
      return isVerbatim ? this.#pass(bytes) : this.#replace(bytes, statement.parseUnnamedFrame)
    }
    if (server.statements.has(statement)) {
      server.ledger.push(localEntry(() => PARSE_COMPLETE_FRAME, new Entered(takeBack)))
      return this.#replace(bytes)
    }
    this.#names.makeRoom(server)
    this.#names.enterOnServer(statement, server, takeBack)
    return this.#replace(bytes, statement.parseFrame)
  }

  /** What the batch was found to parse again, if it may go as it is. */
  #takeAgain(server: ServerConnection): PreparedStatement | null {
    const again = this.#again
    this.#again = null
    if (again === null || (server.ledger.length > 0 && !this.#isRide)) return null
    const { classified, statement } = again
    if (isOrdinary(classified)) return statement
    const isChanged =
      this.#names.deallocated(classified) !== null || standIn(classified, server) !== null
    return isChanged ? null : statement
  }

  /** Nothing is under way, and it says what the unnamed statement is already. */
  #parseAgain(bytes: number, statement: PreparedStatement, server: ServerConnection): true {
    this.#context.stats.serverParses += 1
    server.statements.unnamed = statement
    server.ledger.push(server.statements.unnamedAgain)
    return this.#pass(bytes)
  }

  /** The name is taken: the server itself says so, when it is told to prepare the same name again. */
  #parseTwice(bytes: number, statement: PreparedStatement, server: ServerConnection): true {
    this.#names.ensure(statement, server)
    server.ledger.push(FORWARD.parse)
    return this.#replace(bytes, statement.parseFrame)
  }

  #bind(bytes: number, isWhole: boolean, server: ServerConnection): boolean {
    const portalStart = this.#reader.offset
    const portal = this.#reader.cstring()
    const portalEnd = this.#reader.offset
    const name = this.#reader.cstring()
    if (this.#reader.isBroken) {
      if (!isWhole && this.#input.length - this.#offset < NAMES_BYTES_MAX) {
        this.wantedBytes = Math.min(bytes, NAMES_BYTES_MAX)
        return false
      }
      throw new ProxyError('broken_message', { message: 'Bind' })
    }
    this.isUnsynced = true
    this.#context.stats.binds += 1
    const entry = this.#context.prepared.get(name)
    this.#context.prepared.bind(portal, entry?.classified ?? NOT_UNDERSTOOD)
    const onServer = this.#names.nameOnServer(name, entry, server)
    server.ledger.push(FORWARD.bind)
    if (onServer === null) return this.#pass(bytes)
    const restStart = this.#reader.offset
    outgoing.byte(frame.BIND)
    outgoing.int32(bytes - 1 + onServer.length - (restStart - portalEnd))
    outgoing.run(portalStart, portalEnd)
    outgoing.bytes(onServer)
    const restBytes = this.#offset + bytes - restStart
    this.#offset = restStart
    return this.#pass(restBytes)
  }

  #describe(bytes: number, server: ServerConnection): true {
    const isStatement = this.#reader.byte() === STATEMENT
    const name = this.#reader.cstring()
    if (this.#reader.isBroken) throw new ProxyError('broken_message', { message: 'Describe' })
    if (!isStatement) {
      server.ledger.push(FORWARD.describe)
      return this.#pass(bytes)
    }
    const onServer = this.#names.nameOnServer(name, this.#context.prepared.get(name), server)
    server.ledger.push(FORWARD.describe_statement)
    if (onServer === null) return this.#pass(bytes)
    outgoing.byte(frame.DESCRIBE)
    outgoing.int32(frame.HEADER_BYTES + onServer.length)
    outgoing.byte(STATEMENT)
    return this.#replace(bytes, onServer)
  }

  /** Statements stay on the server for the next session; only the name is given up. */
  #close(bytes: number, server: ServerConnection): true {
    const isStatement = this.#reader.byte() === STATEMENT
    const name = this.#reader.cstring()
    if (this.#reader.isBroken) throw new ProxyError('broken_message', { message: 'Close' })
    if (!isStatement) {
      server.ledger.push(FORWARD.close)
      return this.#pass(bytes)
    }
    const takeBack = this.#context.prepared.remove(name)
    server.ledger.push(
      localEntry(() => CLOSE_COMPLETE_FRAME, takeBack === null ? null : new Entered(takeBack)),
    )
    return this.#replace(bytes)
  }

  #execute(bytes: number, server: ServerConnection): true {
    const classified = this.#context.prepared.portal(this.#reader.cstring()) ?? NOT_UNDERSTOOD
    if (isOrdinary(classified)) {
      server.ledger.push(ORDINARY_EXECUTE)
      return this.#pass(bytes)
    }
    if (isPlainWrite(classified)) {
      this.#context.transaction.hasWritten = true
      server.ledger.push(PLAIN_EXECUTE)
      return this.#pass(bytes)
    }
    this.#context.onStatement(classified)
    const stake = stakeOf(classified)
    server.ledger.push(
      hasEffects(classified)
        ? forwardEntry('execute', new Work(classified), stake)
        : plainEntry('execute', stake),
    )
    return this.#pass(bytes)
  }
}

/** Most transactions begin as the one before: its frame is made once. */
let begin: { readonly text: string; readonly frame: Buffer } = { text: '', frame: EMPTY }

function beginFrame(text: string): Buffer {
  if (begin.text !== text) begin = { text, frame: latin1Query(text) }
  return begin.frame
}

function latin1Query(text: string): Buffer {
  return fixed(frame.QUERY, Buffer.from(`${text}\0`, 'latin1'))
}
