/**
 * One server with the reads of several sessions on it, back to back. Each is ended by its own
 * ReadyForQuery and PostgreSQL answers in order, so what the server says belongs to the first that
 * waits. Who leaves before its answer leaves its place empty: that answer is read and dropped.
 *
 *     opening   its transactions are made read-only; nobody rides yet
 *     open      sessions board, while it has room
 *     closing   that is taken back; nobody rides any more
 *     gone      the server is given back, or lost
 *
 *     server ◄── [ A | B | - | D ]     A is answered now; the third has left
 *
 * That its transactions are read-only is what proves that its statements only read, whatever a text
 * hides: they may be sent once more elsewhere.
 *
 * hot path: admit, onServerBytes, onReady.
 */
import { ProxyError, toProxyError } from '../base/errors.ts'
import { invariant } from '../base/invariant.ts'
import type { Latencies } from '../routing/latency.ts'
import type { Carrier } from '../server/boarding.ts'
import type { ServerConnection } from '../server/connection.ts'
import type { MemberPool } from '../server/member-pool.ts'
import type { Pool } from '../server/pool.ts'
import type { Settings } from '../server/settings.ts'
import * as frame from '../wire/frame.ts'
import type { Entry } from '../wire/ledger.ts'
import type { Carriages } from './carriages.ts'
import { Relay, type RelayOwner } from './relay.ts'
import type { SessionServices } from './services.ts'
import type { Session } from './session.ts'

/** Qualified names are not needed: neither can be shadowed. */
const OPEN_SQL = 'SET default_transaction_read_only TO on'
const CLOSE_SQL = 'RESET default_transaction_read_only'
/** A server with so much work, or less, is sent what there is for it at the end of the turn. */
const WORK_MIN = 3
/** Nobody has boarded for so long: the server is of more use alone. */
const EMPTY_MS_MAX = 100
/** A head is late when it takes so much longer than usual, and at least so long. */
const LATE_TIMES = 3
const LATE_MS_MIN = 20
/** Cancel requests for the first that may be on their way at once. */
const CANCELS_MAX = 4
/** A read of one statement cannot begin one. */
const NO_COPY = {
  begin(): void {
    throw new ProxyError('server_protocol', { reason: 'COPY FROM STDIN in a read' })
  },
  fail(): void {},
}

export class Carriage implements Carrier, RelayOwner {
  readonly server: ServerConnection
  readonly settings: Settings
  readonly home: MemberPool
  readonly relay: Relay
  isRetiring = false
  readonly #pool: Pool
  readonly #services: SessionServices
  readonly #carriages: Carriages
  readonly #latencies: Latencies
  /** In the order of their answers. Who left leaves how long such a one usually takes, in ms. */
  readonly #riders: (Session | number)[] = []
  #state: 'opening' | 'open' | 'closing' | 'gone' = 'opening'
  #stateSinceMs: number
  /** How long those on it usually take together. */
  #queuedMs = 0
  /** Since then the server works for the first. */
  #headSinceMs = 0
  /** The first was seen to be late once; the second time its followers move. */
  #isSuspect = false
  /** How long the first takes is learnt of already. */
  #isLearnt = false
  /** The first is late: nobody boards behind it. */
  #isLate = false
  /** Its first reads too slowly: the server waits for it, and nobody else is there. */
  #isHeldUp = false
  /** Of its riders, the last ones: gathered, and not sent yet. */
  #unsent = 0
  /** Replies that were owed before the last one boarded. */
  #owedBefore = 0
  /** What is gathered is sent at the end of this turn. */
  isFlushDue = false

  constructor(server: ServerConnection, owner: { pool: Pool; services: SessionServices }) {
    invariant(server.home !== null, 'a server that is shared has a home')
    this.home = server.home
    this.server = server
    this.settings = server.settings
    this.#pool = owner.pool
    this.#services = owner.services
    this.#carriages = owner.services.carriages
    this.#latencies = owner.services.statements(owner.pool.config.serverDatabase).latencies
    this.#stateSinceMs = owner.services.clock.nowMs()
    this.relay = new Relay(this, NO_COPY, true)
  }

  get count(): number {
    return this.#riders.length
  }

  get #isOpen(): boolean {
    return this.#state === 'open'
  }

  /** Whose answer is owed first; null: nobody waits for it. */
  get #head(): Session | null {
    return sessionAt(this.#riders[0])
  }

  get hasRoom(): boolean {
    if (this.#state !== 'open' || this.isRetiring || this.#isLate || this.#isHeldUp) return false
    if (this.server.cancelsUnderWay > 0 || this.relay.lastWord !== 'none') return false
    // Cut off: its end comes a turn later.
    if (this.server.home === null) return false
    const { multiplexBehindMsMax, multiplexDepthMax } = this.#services.config().pgsteer
    return this.#riders.length < multiplexDepthMax && this.#queuedMs <= multiplexBehindMsMax
  }

  /** Whether a statement or a transaction is under way, for who counts them. */
  worksOn(): boolean {
    return this.#riders.length > 0
  }

  // Opening and giving back

  open(): void {
    this.#carriages.add(this)
    this.server.run(OPEN_SQL, (error) => {
      if (this.#state !== 'opening') return
      if (error !== null) return this.#discard(error)
      this.#move('open')
      if (this.isRetiring) this.#close()
      else this.#pool.boarding.fill(this)
    })
  }

  retire(): void {
    this.isRetiring = true
    if (this.#state === 'open') this.#close()
  }

  /** Gives the server back when nothing is owed and no cancel request can hit what we run. */
  #close(): void {
    const { server } = this
    if (this.#riders.length > 0 || server.cancelsUnderWay > 0 || this.#state !== 'open') return
    const isOdd = server.isDoomed || !server.isIdle || this.relay.isMidMessage
    if (isOdd) return this.#discard(new ProxyError('server_lost'))
    this.#move('closing')
    server.run(CLOSE_SQL, (error) => {
      if (this.#state !== 'closing') return
      if (error !== null) return this.#discard(error)
      this.#leave()
      this.#pool.release(server, this)
    })
  }

  /** The server must not be used again; nobody rides on it. */
  #discard(error: ProxyError): void {
    this.#leave()
    this.#pool.discard(this.server, error)
  }

  #leave(): void {
    this.#move('gone')
    this.#pool.boarding.leave(this)
    this.#carriages.remove(this)
  }

  // Boarding

  /** The session's batch goes behind those that are there. It is sent by the session itself. */
  admit(session: Session): void {
    const isFirst = this.#riders.length === 0
    const nowMs = this.#services.clock.nowMs()
    if (isFirst) this.#begin(nowMs)
    else this.#gather()
    this.#owedBefore = this.server.ledger.length
    this.#riders.push(session)
    this.server.requestMs = nowMs
    this.#queuedMs += session.riding.expectedMs
  }

  /** It was sent. */
  admitted(): void {
    if (this.#riders.length === 1) this.relay.placeLocals(this.server)
  }

  /** The server has work: what else is for it goes out before it has none. */
  #gather(): void {
    this.server.gather()
    if (this.#riders.length - this.#unsent <= WORK_MIN) this.#carriages.flushLater(this)
    this.#unsent += 1
  }

  /** Sends what was gathered. */
  flush(): void {
    this.#unsent = 0
    this.server.flush()
  }

  /** One was answered. */
  #feed(): void {
    if (this.#unsent === 0) return
    const work = this.#riders.length - this.#unsent
    if (work <= 0) this.flush()
    else if (work <= WORK_MIN) this.#carriages.flushLater(this)
  }

  #begin(nowMs: number): void {
    this.#headSinceMs = nowMs
    this.relay.hasAnswered = false
    this.#isSuspect = false
    this.#isLearnt = false
    this.#isLate = false
  }

  /** The session ends, or has been told: nobody waits for its answer any more. */
  abandon(session: Session): void {
    const index = this.#riders.indexOf(session)
    if (index === -1) return
    this.#riders[index] = session.riding.expectedMs
    if (index === 0) this.#release()
    this.#services.counters.ridesSwallowed += 1
  }

  /** The server does not wait for its first any more. */
  #release(): void {
    if (!this.#isHeldUp) return
    this.#isHeldUp = false
    this.server.channel.resume()
  }

  /** The server works for it, and for nobody before it. */
  isFirst(session: Session): boolean {
    return this.#head === session
  }

  /**
   * PostgreSQL is asked to cancel what it does for the first: nobody else is to be hit. Resolves when
   * it was asked; null when it was asked often enough.
   */
  cancel(): Promise<void> | null {
    if (this.server.cancelsUnderWay >= CANCELS_MAX) return null
    this.#moveFollowers()
    return this.#pool.cancel(this.server)
  }

  // What the server says

  onServerBytes(chunk: Buffer, server: ServerConnection): void {
    if (!this.#isOpen) return
    try {
      this.relay.onBytes(chunk, server)
    } catch (error) {
      if (this.#isOpen) this.breach(toProxyError(error))
      return
    }
    if (this.relay.isOver) server.destroy(new ProxyError('server_ended', { reason: 'FATAL' }))
  }

  onServerDrain(): void {}

  /**
   * The first would go once more, if only it were known that it is not what crashed the server. Those
   * behind it are not to blame, and do not wait for that.
   */
  awaitsInquest({ code }: ProxyError): boolean {
    const { hasAnswered, lastWord } = this.relay
    const head = this.#isOpen ? this.#head : null
    if (head === null || head.avoidedMember !== null || hasAnswered) return false
    if (lastWord !== 'none' || code !== 'server_lost') return false
    this.isRetiring = true
    this.#pool.boarding.leave(this)
    this.#moveFollowers()
    return true
  }

  onServerClosed(error: ProxyError, server: ServerConnection): void {
    this.#leave()
    const [head, ...others] = this.#riders.splice(0).map(sessionAt)
    head?.riding.lost({ error, server, relay: this.relay, isHead: true })
    for (const session of others)
      session?.riding.lost({ error, server, relay: this.relay, isHead: false })
  }

  /** The server is not to be trusted any more; nobody can say what became of the first. */
  breach(error: ProxyError): void {
    const [head, ...others] = this.#riders.splice(0).map(sessionAt)
    this.#services.log.error({ server: this.server.id, code: error.code }, error.message)
    if (this.#state !== 'gone') this.#discard(error)
    head?.close(error)
    for (const session of others) session?.riding.moved()
  }

  /**
   * The last one that boarded has said what no client may say, and nothing of it was sent: who is there
   * is answered as if it had not come. Then the server ends, since what it has prepared is not sure.
   */
  refuse(session: Session): void {
    invariant(this.#riders.at(-1) === session, 'who is refused boarded last')
    this.#riders.pop()
    if (this.#unsent > 0) this.#unsent -= 1
    this.#queuedMs -= session.riding.expectedMs
    this.server.ledger.takeBack(this.#owedBefore)
    this.server.isDoomed = true
    this.retire()
  }

  // RelayOwner: the first that waits.

  send(bytes: Buffer): void {
    const head = this.#head
    if (head === null || head.riding.receive(bytes) || this.#isHeldUp) return
    const { multiplexBufferBytesMax } = this.#services.config().pgsteer
    const isAlone = this.#riders.length === 1
    if (!isAlone && head.channel.unsentBytes <= multiplexBufferBytesMax) return
    // Nobody else is to wait for a slow reader; then the server may.
    this.#moveFollowers()
    this.#isHeldUp = true
    this.server.channel.pause()
  }

  /** The session reads again. */
  onRiderDrain(session: Session): void {
    if (this.#head === session) this.#release()
  }

  onComplete(entry: Entry, tag: string, server: ServerConnection): Buffer | null {
    return this.#head?.replies.onComplete(entry, tag, server) ?? null
  }

  onError(
    fields: Readonly<Record<string, string>>,
    isUnanswered: boolean,
    server: ServerConnection,
  ): boolean {
    return this.#head?.replies.onError(fields, isUnanswered, server) ?? false
  }

  keepsEnd(_fields: Readonly<Record<string, string>>, server: ServerConnection): boolean {
    server.isDoomed = true
    return true
  }

  mayRepeat(): boolean {
    return this.#head?.replies.mayRepeat() ?? false
  }

  /** Nothing that rides sets anything: what is reported comes from elsewhere. */
  onReport(): boolean {
    this.isRetiring = true
    return false
  }

  onReady(status: number, forward: boolean, server: ServerConnection): void {
    const nowMs = this.#services.clock.nowMs()
    const place = this.#riders.shift()
    const session = sessionAt(place)
    this.#release()
    this.#queuedMs -= typeof place === 'number' ? place : (session?.riding.expectedMs ?? 0)
    if (session !== null && !this.#isLearnt)
      this.#latencies.observe(session.riding.shape, nowMs - this.#headSinceMs)
    if (this.#riders.length === 0) this.#queuedMs = 0
    this.#begin(nowMs)
    this.#feed()
    if (status !== frame.STATUS_IDLE) return this.#leak(session, status, server)
    if (session !== null) {
      session.replies.onReady(status, forward, server)
      session.riding.over(server)
    }
    if (!this.#isOpen) return
    if (this.isRetiring) this.#close()
    else if (this.#pool.boarding.hasRiders) this.#pool.boarding.fill(this)
  }

  /** It opened a transaction, and what stood behind it ran in there. */
  #leak(session: Session | null, status: number, server: ServerConnection): void {
    const error = new ProxyError('server_protocol', { reason: 'a read opened a transaction' })
    this.#services.log.error({ server: server.id, status }, error.message)
    const others = this.#riders.splice(0).map(sessionAt)
    this.#discard(error)
    session?.close(error)
    for (const other of others) other?.riding.moved()
  }

  // Time

  /** Looks after what takes too long. Called every few milliseconds. */
  watch(nowMs: number): void {
    if (this.#state === 'open') return this.#watchOpen(nowMs)
    const { serverConnectTimeoutMs } = this.#services.config().pgbouncer
    if (this.#state === 'gone' || nowMs - this.#stateSinceMs < serverConnectTimeoutMs) return
    this.#discard(new ProxyError('server_connect_timeout'))
  }

  #watchOpen(nowMs: number): void {
    this.#pool.boarding.fill(this)
    if (this.#riders.length === 0) {
      const isUnused = nowMs - Math.max(this.#headSinceMs, this.#stateSinceMs) >= EMPTY_MS_MAX
      if (isUnused || this.isRetiring || this.#pool.boarding.isOver(this)) this.retire()
      return
    }
    if (this.#pool.boarding.isOver(this)) this.isRetiring = true
    else this.#pool.boarding.makeWay(this.home)
    if (this.#isHeldUp || this.#isLate) return this.#watchLate()
    const head = this.#head
    const usualMs = head?.riding.expectedMs ?? 0
    // Of what is not known nobody stands behind.
    if (nowMs - this.#headSinceMs < Math.max(LATE_MS_MIN, LATE_TIMES * usualMs)) return
    // The answer may have come already: it is read before the next look.
    if (!this.#isSuspect) {
      this.#isSuspect = true
      return
    }
    this.#isLate = true
    this.#isLearnt = true
    if (head !== null) this.#latencies.observe(head.riding.shape, nowMs - this.#headSinceMs)
    this.#moveFollowers()
    this.#watchLate()
  }

  /** Nobody waits for any answer: the server may work on it for ever. */
  #watchLate(): void {
    if (this.#isHeldUp || this.#riders.some((place) => sessionAt(place) !== null)) return
    this.#riders.length = 0
    this.#discard(new ProxyError('server_lost'))
  }

  /** Who stands behind the first is sent elsewhere; what the server says to them is dropped. */
  #moveFollowers(): void {
    this.flush()
    const moved: Session[] = []
    for (let index = 1; index < this.#riders.length; index += 1) {
      const session = sessionAt(this.#riders[index])
      if (session === null) continue
      this.#riders[index] = session.riding.expectedMs
      moved.push(session)
    }
    if (moved.length === 0) return
    this.#isLate = true
    this.#services.counters.ridesSwallowed += moved.length
    for (const session of moved) session.riding.moved()
  }

  #move(to: 'open' | 'closing' | 'gone'): void {
    this.#state = to
    this.#stateSinceMs = this.#services.clock.nowMs()
  }
}

function sessionAt(place: Session | number | undefined): Session | null {
  return typeof place === 'object' ? place : null
}
