/**
 * One connection of ours to PostgreSQL, after its log-in. It belongs to exactly one pool and is
 * held by at most one holder, who gets its bytes. While nobody holds it, it may run a statement of
 * our own (`run`) and otherwise nothing may arrive but notices and parameter reports.
 *
 * It does not decide what happens to it: the pool moves its state, the holder relays.
 */
import { ProxyError } from '../base/errors.ts'
import { invariant } from '../base/invariant.ts'
import type { Channel, Receiver } from '../net/channel.ts'
import * as frame from '../wire/frame.ts'
import { type Entry, Ledger } from '../wire/ledger.ts'
import { fixed, parse, reportFields, SYNC_FRAME, TERMINATE_FRAME } from '../wire/messages.ts'
import type { MemberPool } from './member-pool.ts'
import { ServerStatements, UNKNOWN_STATEMENT } from './prepared.ts'
import { NO_SETTINGS, type Settings } from './settings.ts'
import type { ServerState } from './states.ts'

/** Who a server works for. */
export interface Holder {
  /** `chunk` is only valid during the call. */
  onServerBytes(chunk: Buffer, server: ServerConnection): void
  onServerDrain(server: ServerConnection): void
  onServerClosed(error: ProxyError, server: ServerConnection): void
  /**
   * Whether it matters to it what a server died of that ended without a word: then it is told of the
   * end when that is known, or after a moment. Until then the server does not answer.
   */
  awaitsInquest?(error: ProxyError, server: ServerConnection): boolean
}

export interface ServerIdentity {
  /** The member's name, or host:port of an entry that is not routed. */
  readonly member: string
  readonly host: string
  readonly port: number
  readonly database: string
  readonly user: string
  /** 'plain': an entry with host=, no role is known. */
  readonly role: 'primary' | 'replica' | 'plain'
  /** The topology's term in which it was opened and verified; 0 for a plain one. */
  readonly term: number
}

/** What a server needs of its channel; tests put a fake in its place. */
export type ServerChannel = Pick<
  Channel,
  | 'attach'
  | 'write'
  | 'pause'
  | 'resume'
  | 'close'
  | 'destroy'
  | 'isClosed'
  | 'unsentBytes'
  | 'bytesReceived'
  | 'bytesSent'
  | 'tls'
  | 'isUnix'
  | 'remoteAddress'
  | 'remotePort'
  | 'localAddress'
  | 'localPort'
>

export interface ServerSeed {
  readonly id: number
  readonly identity: ServerIdentity
  readonly channel: ServerChannel
  readonly parameters: Map<string, string>
  readonly processId: number
  readonly cancelSecret: Buffer
  readonly openedMs: number
}

/** A server ended. Returns whether its holder is told later, by `tellEnd`. */
export type OnLost = (server: ServerConnection, error: ProxyError) => boolean

type RunDone = (error: ProxyError | null) => void

interface Run {
  readonly done: RunDone
  answer: Buffer
  error: ProxyError | null
  /** CommandCompletes that end it when no Sync was sent; 0: ReadyForQuery ends it. */
  completes: number
}

/** Bytes that our own statements may be answered with before we call the server mad. */
const RUN_ANSWER_BYTES_MAX = 1 << 20

/** What is gathered is sent when it would be more. */
const GATHER_BYTES = 16 * 1024
/** Rooms that are used again. */
const GATHER_ROOMS: Buffer[] = []
const GATHER_ROOMS_MAX = 64

/** The unnamed portal of the unnamed statement, without parameters, to its end. */
const BIND_UNNAMED = fixed(frame.BIND, Buffer.alloc(8))
const EXECUTE_UNNAMED = fixed(frame.EXECUTE, Buffer.alloc(5))
const FLUSH_FRAME = fixed(frame.FLUSH)

export class ServerConnection implements Receiver {
  readonly id: number
  /** Changed by `becomePrimary` only. */
  identity: ServerIdentity
  readonly channel: ServerChannel
  /** What the server reported at log-in and since. */
  readonly parameters: Map<string, string>
  /** What it reported at log-in: the values that RESET brings back. */
  readonly defaults: ReadonlyMap<string, string>
  readonly processId: number
  readonly cancelSecret: Buffer
  readonly ledger = new Ledger()
  readonly statements = new ServerStatements()
  readonly openedMs: number
  /** Moved by its pool only. */
  state: ServerState = 'login'
  stateSinceMs = 0
  /** Its place among the active servers of its home. */
  bagIndex = -1
  /** The transaction status of the last ReadyForQuery. */
  status: number = frame.STATUS_IDLE
  settings: Settings = NO_SETTINGS
  /** A session ran something with effects that cannot be seen (DO, CALL, an unproved function). */
  isUnclean = false
  /** The servers of its pool at its member, as long as it is open; set by its pool only. */
  home: MemberPool | null = null
  /** Must not be used again: fenced, too old, reconfigured. */
  isDoomed = false
  cancelsUnderWay = 0
  /** It said that another process of its member had crashed. */
  hasSaidCrash = false
  /** The replies that were still owed when it was lost. */
  owedAtEnd: readonly Entry[] = []
  /** Queries answered and when it was last taken, for SHOW SERVERS. */
  requestMs = 0
  #holder: Holder | null = null
  #run: Run | null = null
  /** Behind a pooler: from one transaction to the next it may be another server of others. */
  isShared = false
  /** What is gathered, while it is; else null. */
  #gathered: Buffer | null = null
  #gatheredBytes = 0
  readonly #onLost: OnLost

  constructor(seed: ServerSeed, onLost: OnLost) {
    this.id = seed.id
    this.identity = seed.identity
    this.channel = seed.channel
    this.parameters = seed.parameters
    this.defaults = new Map(seed.parameters)
    this.processId = seed.processId
    this.cancelSecret = seed.cancelSecret
    this.openedMs = seed.openedMs
    this.stateSinceMs = seed.openedMs
    this.#onLost = onLost
  }

  /** Starts delivery of the channel's bytes. */
  begin(): void {
    this.channel.attach(this)
  }

  get holder(): Holder | null {
    return this.#holder
  }

  /** Nothing is owed or skipped, no transaction is open and no statement of ours runs. */
  get isIdle(): boolean {
    const { ledger } = this
    return (
      ledger.length === 0 &&
      !ledger.isSkipping &&
      this.status === frame.STATUS_IDLE &&
      this.#run === null
    )
  }

  hold(holder: Holder): void {
    invariant(this.#holder === null, 'a server has one holder')
    invariant(this.isIdle, 'a server is idle when it is taken')
    this.#holder = holder
  }

  unhold(holder: Holder): void {
    invariant(this.#holder === holder, 'a server is given back by its holder')
    this.#holder = null
  }

  write(bytes: Buffer): boolean {
    return this.#gathered === null ? this.channel.write(bytes) : this.#gather(bytes)
  }

  /** What is written from here on goes out together, at `flush`. */
  gather(): void {
    this.#gathered ??= GATHER_ROOMS.pop() ?? Buffer.allocUnsafeSlow(GATHER_BYTES)
  }

  /** Sends what was gathered; it is written as it comes again. */
  flush(): void {
    const room = this.#gathered
    if (room === null) return
    this.#gathered = null
    const bytes = room.subarray(0, this.#gatheredBytes)
    this.#gatheredBytes = 0
    if (bytes.length > 0) this.channel.write(bytes)
    // Nobody refers to the room: what a socket has taken whole, the kernel or OpenSSL has a copy of (libuv
    // writes at once what it can, SSL_write encrypts into its own buffer). What is kept counts as unsent.
    if (this.channel.unsentBytes === 0 && GATHER_ROOMS.length < GATHER_ROOMS_MAX)
      GATHER_ROOMS.push(room)
  }

  #gather(bytes: Buffer): boolean {
    const room = this.#gathered
    if (room === null || this.#gatheredBytes + bytes.length > room.length) {
      this.flush()
      return this.channel.write(bytes)
    }
    bytes.copy(room, this.#gatheredBytes)
    this.#gatheredBytes += bytes.length
    return true
  }

  /**
   * Runs statements of our own as one simple Query; their rows are dropped.
   *
   * `sql`   latin1 string of the bytes to send.
   * `done`  called once: null, or the first error (`setting_refused` with the server's text).
   */
  run(sql: string, done: RunDone): void {
    invariant(this.isIdle, 'our own statement runs on an idle server')
    this.#begin(done, 0)
    this.write(fixed(frame.QUERY, Buffer.from(`${sql}\0`, 'latin1')))
  }

  /**
   * Runs statements of our own and leaves their transaction open, so that what is written next runs
   * in it: a Query or a Sync ends it. When one fails it is ended here.
   */
  runAhead(statements: readonly string[], done: RunDone): void {
    invariant(this.isIdle, 'our own statements run on an idle server')
    this.#begin(done, statements.length)
    const pieces = statements.flatMap((sql) => [
      parse('', Buffer.from(`${sql}\0\0\0`, 'latin1')),
      BIND_UNNAMED,
      EXECUTE_UNNAMED,
    ])
    this.write(Buffer.concat([...pieces, FLUSH_FRAME]))
  }

  /** A simple Query destroys the unnamed statement, a Parse of the unnamed one replaces it by ours. */
  #begin(done: RunDone, completes: number): void {
    this.statements.unnamed = completes === 0 ? null : UNKNOWN_STATEMENT
    this.#run = { done, answer: Buffer.alloc(0), error: null, completes }
  }

  onBytes(chunk: Buffer): void {
    if (this.#run !== null) this.#onRunBytes(chunk)
    else if (this.#holder !== null) this.#holder.onServerBytes(chunk, this)
    else this.#onIdleBytes(chunk)
  }

  onDrain(): void {
    this.#holder?.onServerDrain(this)
  }

  onClosed(error: Error | null): void {
    const lost = error instanceof ProxyError ? error : new ProxyError('server_lost', {}, error)
    this.owedAtEnd = [...this.ledger]
    if (!this.#onLost(this, lost)) this.tellEnd(lost)
  }

  /** Its holder, if it has one still, learns of its end. */
  tellEnd(lost: ProxyError): void {
    const holder = this.#holder
    const run = this.#run
    this.#holder = null
    this.#run = null
    run?.done(lost)
    this.ledger.abandon()
    holder?.onServerClosed(lost, this)
  }

  /**
   * Its member was promoted, and this server itself said in `term` that it takes writes. What
   * PostgreSQL opened on a standby goes on as it is, only transactions of before stay read-only.
   */
  becomePrimary(term: number): void {
    invariant(this.#holder === null && this.isIdle, 'a server changes its role while it is free')
    this.identity = { ...this.identity, role: 'primary', term }
  }

  /** Ends in good order: nothing may be owed. */
  close(): void {
    this.channel.write(TERMINATE_FRAME)
    this.channel.close()
  }

  destroy(error: ProxyError): void {
    this.channel.destroy(error)
  }

  /** A report changed what the server says of itself. */
  report(body: Buffer): { readonly name: string; readonly value: string } | null {
    const split = body.indexOf(0)
    const end = body.indexOf(0, split + 1)
    if (split === -1 || end === -1) return null
    const name = body.toString('utf8', 0, split)
    const value = body.toString('utf8', split + 1, end)
    this.parameters.set(name, value)
    return { name, value }
  }

  #onRunBytes(chunk: Buffer): void {
    const run = this.#run
    if (run === null) return
    run.answer = run.answer.length === 0 ? Buffer.from(chunk) : Buffer.concat([run.answer, chunk])
    let offset = 0
    while (run.answer.length - offset >= frame.HEADER_BYTES) {
      const bytes = frame.frameBytes(run.answer, offset)
      if (bytes < frame.HEADER_BYTES || bytes > RUN_ANSWER_BYTES_MAX) {
        this.destroy(breach('bad length word'))
        return
      }
      if (offset + bytes > run.answer.length) break
      const body = run.answer.subarray(offset + frame.HEADER_BYTES, offset + bytes)
      offset += bytes
      if (this.#onRunFrame(run.answer[offset - bytes] ?? 0, body)) {
        // Reports and notifications may stand behind the answer.
        if (offset < run.answer.length) this.onBytes(run.answer.subarray(offset))
        return
      }
    }
    run.answer = run.answer.subarray(offset)
  }

  /** Returns true when the statement is over. */
  #onRunFrame(type: number, body: Buffer): boolean {
    const run = this.#run
    if (run === null) return true
    if (type === frame.PARAMETER_STATUS) this.report(body)
    if (type === frame.ERROR_RESPONSE) {
      const fields = reportFields(body)
      run.error ??= new ProxyError('server_refused', {
        sqlstate: fields['C'] ?? 'XX000',
        reason: fields['M'] ?? 'unknown error',
      })
      if (run.completes > 0) this.write(SYNC_FRAME)
      run.completes = 0
    }
    if (type === frame.COMMAND_COMPLETE && run.completes > 0) {
      run.completes -= 1
      if (run.completes > 0) return false
      this.#run = null
      run.done(null)
      return true
    }
    if (type !== frame.READY_FOR_QUERY) return false
    this.status = body[0] ?? 0
    this.#run = null
    run.done(run.error)
    return true
  }

  /**
   * Reports and notices may come at any time; anything else from a free server is a breach. A notice
   * that it is about to end may come well before its end: nobody is given it any more.
   */
  #onIdleBytes(chunk: Buffer): void {
    let offset = 0
    while (chunk.length - offset >= frame.HEADER_BYTES) {
      const bytes = frame.frameBytes(chunk, offset)
      const type = chunk[offset] ?? 0
      const isWhole = bytes >= frame.HEADER_BYTES && offset + bytes <= chunk.length
      const body = chunk.subarray(offset + frame.HEADER_BYTES, offset + bytes)
      if (isWhole && type === frame.PARAMETER_STATUS) this.report(body)
      else if (!isWhole || type !== frame.NOTICE_RESPONSE || isFarewell(body)) {
        const isEnd = isWhole && (type === frame.ERROR_RESPONSE || type === frame.NOTICE_RESPONSE)
        this.hasSaidCrash = isEnd && reportFields(body)['C'] === CRASH
        this.#lose(isEnd ? endedBy(body) : breach('message from an idle server'))
        return
      }
      offset += bytes
    }
    if (offset < chunk.length) this.#lose(breach('split message while idle'))
  }

  /** The pool is told now: what the socket says later may come after somebody else was given it. */
  #lose(error: ProxyError): void {
    this.#onLost(this, error)
    this.destroy(error)
  }
}

/** A free server that says an error is about to end: it was terminated, or is shutting down. */
function endedBy(body: Buffer): ProxyError {
  const fields = reportFields(body)
  return new ProxyError('server_ended', { reason: fields['M'] ?? 'unknown error' })
}

/** How an immediate shutdown, and the crash of another server process, are announced: a warning. */
function isFarewell(body: Buffer): boolean {
  const { C: sqlstate } = reportFields(body)
  return sqlstate === '57P01' || sqlstate === CRASH
}

const CRASH = '57P02'

function breach(reason: string): ProxyError {
  return new ProxyError('server_protocol', { reason })
}
