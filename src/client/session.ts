/**
 * One client's life after its log-in. Whatever happens is recorded and `#advance` is called; it
 * looks at the state and does the next thing. Nothing else decides.
 *
 *   idle      owes nothing and holds no server
 *   waiting   its batch waits for a server
 *   riding    its batch is on a server that others share
 *   settling  its server is given the session's settings
 *   active    a server is held: answers are owed, a transaction is open, or it is pinned
 *   closed    gone
 *
 * hot path: onBytes, #advance, granted, onServerBytes, #finish.
 */
import { ProxyError, toProxyError } from '../base/errors.ts'
import { invariant } from '../base/invariant.ts'
import { type Channel, DRAIN_BYTES, type Receiver } from '../net/channel.ts'
import type { Carrier } from '../server/boarding.ts'
import type { ServerConnection } from '../server/connection.ts'
import type { Pool } from '../server/pool.ts'
import type { Settings } from '../server/settings.ts'
import { type Bound, isHeldReason, type MinLsn, type Waiter } from '../server/waiter.ts'
import * as frame from '../wire/frame.ts'
import { errorResponse, noticeResponse, readyForQuery } from '../wire/messages.ts'
import { type After, afterLoss } from './aftermath.ts'
import { Attempt } from './attempt.ts'
import { type Judge, strayBytes } from './batch.ts'
import { Carriage } from './carriage.ts'
import { CausalPosition, noteAnswer, readOf } from './causal.ts'
import { type Completion, type Decision, decide, noteStatement } from './decide.ts'
import { isDoubted } from './doubt.ts'
import { Input } from './input.ts'
import { Lease } from './lease.ts'
import { completeNext, noteRefusal, refuseNext } from './local.ts'
import { Meter } from './meter.ts'
import { NO_ADVISORY_LOCKS, Pins } from './pin.ts'
import { SessionPrepared } from './prepared.ts'
import { Replies } from './replies.ts'
import { Reported } from './reported.ts'
import { Riding } from './riding.ts'
import { type Parts, reader, readNext, Sending, type Sent } from './sending.ts'
import { forwardContext, judgeOf, type SessionSeed, type SessionServices } from './services.ts'
import { SessionSettings } from './settings.ts'
import { Standing } from './standing.ts'
import { mayBecome, type SessionState } from './states.ts'
import { checkTime } from './timeouts.ts'
import { Transaction } from './transaction.ts'
import { isTakingBack } from './work.ts'

type Role = Waiter['wantsRole']

/** Cancel requests of one session that may be on their way at once. */
const CANCELS_MAX = 4

export class Session implements Receiver, Waiter {
  readonly clientId: number
  readonly classify: Judge['classify']
  readonly judge: Judge['judge']
  readonly channel: Channel
  readonly user: string
  readonly database: string
  readonly pool: Pool
  readonly services: SessionServices
  readonly carried: SessionSettings
  readonly prepared: SessionPrepared
  readonly transaction = new Transaction()
  readonly pins = new Pins()
  readonly causal = new CausalPosition()
  readonly meter: Meter
  readonly connectedWallMs: number
  /** Monotonic: its last batch came. */
  requestMs = 0
  /** Monotonic: the last byte from the client, or the end of its last answer. */
  activeMs = 0
  /** Set by the decision, read by the pools. */
  wantsRole: Role = 'any'
  waitingSinceMs = 0
  /** Set by the decision: its batch may stand behind others. */
  mayRide = false
  routeReason: string | null = null
  /** The server told the client itself that this is the end. */
  hasEndBeenTold = false
  readonly #lease: Lease
  readonly replies: Replies
  readonly riding: Riding
  readonly standing: Standing
  #waitReason: Waiter['waitReason'] = null
  #state: SessionState = 'idle'
  readonly #reported: Reported
  readonly #input = new Input()
  readonly #attempt = new Attempt()
  readonly #parts: Parts
  readonly #sending: Sending
  /** The BEGIN to be sent to the primary when the replica's transaction is over. */
  #moving: Transaction['begun'] = null
  #isAdvancing = false
  #settlingSinceMs = 0
  /** The next server is not given the session's settings first. */
  #isResetting = false
  /** The position that its server was chosen for; null: none was asked for. */
  #placedFor: MinLsn | null = null
  /** Its server was lost under the read at hand. */
  avoidedMember: string | null = null

  constructor(seed: SessionSeed) {
    this.clientId = seed.id
    this.channel = seed.channel
    ;({ user: this.user, database: this.database, pool: this.pool, services: this.services } = seed)
    ;({ classify: this.classify, judge: this.judge } = judgeOf(seed))
    this.carried = new SessionSettings(seed.baseline, seed.token)
    this.#reported = new Reported(seed.welcome)
    this.prepared = new SessionPrepared(seed.services.registry)
    this.meter = new Meter(seed.database, seed.services.counters, seed.services.clock)
    this.connectedWallMs = seed.services.clock.wallMs()
    this.activeMs = seed.services.clock.nowMs()
    this.requestMs = this.activeMs
    this.replies = new Replies(this, this.#attempt, this.#reported)
    this.#lease = new Lease(
      { pool: seed.pool, holder: this, replies: this.replies },
      forwardContext(this, (classified) => noteStatement(this, classified)),
    )
    this.#parts = {
      attempt: this.#attempt,
      input: this.#input,
      lease: this.#lease,
      replies: this.replies,
      reported: this.#reported,
    }
    this.#sending = new Sending(this, this.#parts)
    this.standing = new Standing(this, this.#parts)
    this.riding = new Riding(this, this.#parts, {
      move: (to) => this.#move(to),
      advance: () => this.#advance(),
      answered: (server) => this.#answered(server),
      heal: (server) => this.#heal(server),
      goAgain: (reason, bytes) => this.#goAgain(reason, this.wantsRole, bytes),
      after: (after) => this.#after(after, this.wantsRole),
    })
  }

  // What the pools ask of a waiter.

  get bound(): Bound | null {
    return this.causal.bound
  }
  get minLsn(): MinLsn | null {
    return this.carried.minLsn
  }
  get dirtySinceMs(): number | null {
    return this.causal.dirtySinceMs
  }
  get preferredMember(): string | null {
    return this.causal.preferredMember
  }
  get patienceMs(): number {
    return this.causal.patienceMs
  }
  get settings(): Settings {
    return this.carried.current
  }
  get waitReason(): Waiter['waitReason'] {
    return this.#waitReason
  }
  set waitReason(reason: Waiter['waitReason']) {
    if (isHeldReason(reason) && !isHeldReason(this.#waitReason)) this.meter.held()
    this.#waitReason = reason
  }
  get waitingBytes(): number {
    return this.#input.length
  }

  // What others may know.

  get state(): SessionState {
    return this.#state
  }
  get server(): ServerConnection | null {
    return this.#lease.server ?? this.riding.server
  }
  /** Answers are owed by a server. */
  get isOwed(): boolean {
    return this.#state === 'riding' || this.#lease.isOwed
  }
  worksOn(server: ServerConnection): boolean {
    return this.#lease.server === server && !this.#lease.isFree
  }

  /** What the client was told last of a reported parameter. */
  welcome(name: string): string {
    return this.#reported.value(name)
  }

  /** Ends the session when a timeout passed. Called a few times a second. */
  checkTime(nowMs: number): void {
    checkTime(this, nowMs - this.#settlingSinceMs, nowMs)
  }

  /** Starts delivery: the log-in is over. */
  begin(): void {
    this.channel.attach(this)
  }

  // Events: they record and call #advance.

  onBytes(chunk: Buffer): void {
    if (this.#state === 'closed') return
    this.meter.stats.bytesReceived += chunk.length
    this.activeMs = this.services.clock.nowMs()
    this.#input.push(chunk)
    this.#advance()
    this.#input.own()
  }

  onDrain(): void {
    this.#lease.server?.channel.resume()
    this.riding.carriage?.onRiderDrain(this)
  }

  onClosed(): void {
    this.#end('client_closed')
  }

  granted(server: ServerConnection, nowMs: number): void {
    invariant(this.#state === 'waiting' || this.#state === 'idle', 'granted is who waits')
    this.#lease.take(server)
    this.waitReason = null
    this.meter.granted(server.identity.role, nowMs - this.waitingSinceMs)
    try {
      this.#settle(server)
    } catch (error) {
      this.close(toProxyError(error))
    }
  }

  // On a server that others share.

  carries(server: ServerConnection): Carrier {
    return new Carriage(server, this)
  }

  boards(carrier: Carrier): void {
    invariant(carrier instanceof Carriage, 'sessions ride in carriages')
    this.waitReason = null
    this.riding.board(carrier)
  }

  refused(error: ProxyError): void {
    this.waitReason = null
    if (error.row.severity === 'FATAL') return this.close(error)
    this.#move('idle')
    this.#answerRefused(error)
    this.#advance()
  }

  notify(text: string): void {
    this.send(noticeResponse(text))
  }

  onServerBytes(chunk: Buffer, server: ServerConnection): void {
    // A parked server may report or say that it ends; its end comes by onServerClosed.
    if (server !== this.#lease.server) return
    try {
      this.#lease.relay.onBytes(chunk, server)
    } catch (error) {
      return this.#breach(toProxyError(error))
    }
    // It says that it ends, and has nothing more to say.
    if (this.#lease.relay.isOver && !this.#lease.isFree)
      server.destroy(new ProxyError('server_ended', { reason: 'FATAL' }))
    else this.#advance()
  }

  onServerDrain(): void {
    this.#advance()
  }

  awaitsInquest(error: ProxyError, server: ServerConnection): boolean {
    return isDoubted(this, this.#parts, { error, server, isMoving: false })
  }

  onServerClosed(error: ProxyError, server: ServerConnection): void {
    const after = afterLoss(this, this.#parts, { error, server, isMoving: this.#moving !== null })
    if (after.kind === 'told' || after.kind === 'repeat') this.#reported.isDue = true
    this.#after(after, 'replica')
  }

  #after(after: After, role: Role): void {
    if (after.kind === 'nothing') return
    if (after.kind === 'end') return this.close(after.error)
    this.#move('idle')
    this.mayRide = false
    if (this.#moving !== null) this.#moveToPrimary(this.#moving)
    else if (after.kind === 'repeat') this.#demand(role)
    else if (after.replies.length > 0) this.send(after.replies)
    this.#advance()
  }

  /** A cancel request with this client's key came. Resolves when it can hit nothing any more. */
  async cancel(): Promise<void> {
    if (this.#state === 'waiting' && this.pool.withdraw(this)) {
      this.#move('idle')
      this.waitReason = null
      this.#answerRefused(new ProxyError('cancelled'))
      this.#advance()
    } else if (this.#state === 'riding') {
      await this.riding.cancel()
    } else if (this.isOwed && (this.server?.cancelsUnderWay ?? CANCELS_MAX) < CANCELS_MAX) {
      this.meter.cancelled()
      await this.#lease.cancel()
    }
  }

  /** Tells the client why and ends. Into the middle of a message nothing is written. */
  close(error: ProxyError): void {
    if (this.#state === 'closed') return
    noteRefusal(this, error)
    const isCut = this.#lease.relay.isClientMidMessage || this.riding.isMidMessage
    if (!this.hasEndBeenTold && !isCut)
      this.channel.write(errorResponse(error, this.services.config().pgsteer.errorCodes))
    this.channel.close()
    this.#end(error.code)
  }

  /** Bytes for the client; a server that sends faster than it reads is stopped. */
  send(bytes: Buffer): void {
    this.meter.stats.bytesSent += bytes.length
    if (!this.channel.write(bytes)) this.#lease.server?.channel.pause()
  }

  // The one loop.

  #advance(): void {
    if (this.#isAdvancing) return
    this.#isAdvancing = true
    try {
      while (this.#step()) {}
    } catch (error) {
      this.close(toProxyError(error))
    } finally {
      this.#isAdvancing = false
    }
    const { farewell } = this.standing
    if (farewell !== null && this.standing.isBetween) return this.close(farewell)
    const bytesMax = this.services.config().pgsteer.batchBytesMax * 2
    const { forwarder, unsentBytes } = this.#lease
    const isFull = unsentBytes >= Math.max(bytesMax, DRAIN_BYTES)
    if (isFull || this.#input.length >= Math.max(bytesMax, forwarder.wantedBytes))
      this.channel.pause()
    else this.channel.resume()
  }

  /** Does the next thing. Returns false when it has to wait for something. */
  #step(): boolean {
    switch (this.#state) {
      case 'idle':
        return this.#drop() || this.#route()
      case 'active':
        return this.#finish() || this.#forward()
      case 'waiting':
      case 'riding':
      case 'settling':
      case 'closed':
        return false
    }
  }

  /** Drops what an error made void. Returns true while it makes progress. */
  #drop(): boolean {
    const outcome = this.#input.drop()
    if (outcome === 'ready') this.send(readyForQuery(this.transaction.status))
    return outcome !== 'done'
  }

  #route(): boolean {
    if (this.#input.isDropping || this.#input.length < frame.HEADER_BYTES) return false
    const stray = strayBytes(this.#input.bytes)
    if (stray > 0) {
      this.#input.dropMessage(stray, this.#input.bytes[0] === frame.SYNC)
      return true
    }
    if (!readNext(this, this.#input)) return false
    if (reader.kind === 'terminate') return this.#leave()
    this.#attempt.begin(reader)
    return this.#act(decide(this, reader))
  }

  #act(decision: Decision): boolean {
    switch (decision.kind) {
      case 'complete':
        this.#complete(decision)
        return true
      case 'defer':
        this.transaction.defer(decision.text, decision.classified, this.services.clock.nowMs())
        this.#complete({ kind: 'complete', tag: 'BEGIN', status: frame.STATUS_OPEN })
        return true
      case 'refuse':
        if (decision.ends === true)
          this.transaction.ready(frame.STATUS_IDLE, this.services.clock.nowMs())
        if (decision.error.row.severity === 'FATAL') this.close(decision.error)
        else this.#answerRefused(decision.error)
        return this.#state !== 'closed'
      case 'route':
        this.meter.routed(decision.reason)
        this.routeReason = decision.reason
        this.avoidedMember = null
        this.mayRide = this.riding.judge(reader)
        this.#demand(decision.role)
        return true
    }
  }

  #complete(completion: Completion): void {
    const replies = completeNext(this, this.#parts, completion)
    if (replies instanceof ProxyError) this.#answerRefused(replies)
    else this.send(replies)
  }

  #demand(role: Role): void {
    this.wantsRole = role
    this.#placedFor = role === 'any' ? null : this.minLsn
    this.requestMs = this.activeMs
    if (role === 'replica') this.causal.beforeRead(readOf(this, this.services.clock.nowMs()))
    const kept = this.#lease.resume(role)
    if (kept !== null) return this.#settle(kept)
    this.#move('waiting')
    this.pool.acquire(this)
  }

  /** The server gets the session's settings before anything else. */
  #settle(server: ServerConnection): void {
    if (this.#isResetting) {
      this.#isResetting = false
      return this.#activate(server)
    }
    if (server.settings === this.carried.current && !server.isShared) return this.#activate(server)
    const done = (error: ProxyError | null): void => this.#settled(error, server)
    if (this.#lease.settle(this.carried.current, done)) this.#activate(server)
    else this.#move('settling')
  }

  #settled(error: ProxyError | null, server: ServerConnection): void {
    try {
      if (error !== null) return this.#unsettled(error)
      const news = this.#reported.catchUp(server.parameters)
      if (news !== null) this.send(news)
      this.#activate(server)
    } catch (breach) {
      this.close(toProxyError(breach))
    }
  }

  /** Nothing of the batch was sent: a server that was lost is replaced, a refusal is the client's. */
  #unsettled(error: ProxyError): void {
    this.#lease.discard(new ProxyError('server_parameter'))
    this.#move('idle')
    if (error.code !== 'server_refused') return this.#demand(this.wantsRole)
    // What only takes settings back may run under any, and is the way out of those that cannot be made.
    if (this.transaction.state === 'idle' && this.#attempt.isOnly(isTakingBack, this.classify)) {
      this.#isResetting = true
      return this.#demand(this.wantsRole)
    }
    this.#answerRefused(error)
    this.#advance()
  }

  #activate(server: ServerConnection): void {
    this.#move('active')
    const news = this.#reported.due(server.parameters)
    if (news !== null) this.send(news)
    this.carried.startOn(server.settings)
    this.#lease.begin(this.#attempt)
    const isReplica = server.identity.role === 'replica'
    const isFree = this.transaction.state === 'idle'
    if (isFree && this.#attempt.retain(this.#input.bytes, isReplica)) this.prepared.mark()
    this.#sent(this.#sending.first())
    this.#advance()
  }

  #forward(): boolean {
    // The end of the replica's transaction is owed: what comes meanwhile is for the primary.
    if (this.#input.length === 0 || this.#moving !== null) return false
    return this.#sent(this.#sending.next())
  }

  #sent(sent: Sent): boolean {
    if (sent === 'leaves') return this.#startMoving()
    return sent === 'terminated' ? this.#leave() : sent === 'some'
  }

  /** The client said that it ends. */
  #leave(): false {
    this.channel.hangUp()
    this.#end('client_closed')
    return false
  }

  /** Gives the server back when nothing binds it. Returns true when the state changed. */
  #finish(): boolean {
    const { server } = this.#lease
    if (server === null || !this.#lease.isFree) return false
    if (this.#attempt.isHealing) return this.#heal(server)
    if (this.#moving !== null) return this.#moveToPrimary(this.#moving)
    this.riding.learn()
    this.#answered(server)
    if (this.pins.isProofDue) return this.#proveLocks()
    if (this.pins.isPinned) return false
    this.#giveBack()
    return true
  }

  #answered(server: ServerConnection): void {
    this.#attempt.end()
    this.prepared.unmark()
    this.meter.queryStartedMs = 0
    this.carried.settle(this.#placedFor)
    noteAnswer(this, server)
  }

  /** The last advisory lock seems to be given back: is it so? */
  #proveLocks(): boolean {
    this.#move('settling')
    this.#lease.run(NO_ADVISORY_LOCKS, (error) => {
      this.pins.proved(error?.code === 'server_refused')
      this.#move('active')
      this.#advance()
    })
    return false
  }

  /** The whole batch goes once more: to the primary, or with statements prepared anew. */
  #heal(server: ServerConnection): boolean {
    this.mayRide = false
    const role = server.identity.role === 'plain' ? 'any' : 'primary'
    this.#goAgain('healed', role, this.#attempt.takeBack())
    return true
  }

  /** What the batch of these bytes did so far did not happen. */
  #goAgain(reason: string, role: Role, bytes: Buffer): void {
    this.prepared.rewind()
    this.carried.rollback()
    this.#input.unshift(bytes)
    if (this.#lease.server !== null) this.#giveBack()
    this.routeReason = reason
    this.meter.again(reason)
    this.#demand(role)
  }

  /** The replica's transaction, which only read, is ended; the batch waits for the primary. */
  #startMoving(): boolean {
    this.#attempt.begin(reader)
    this.#moving = this.transaction.begun
    this.#lease.commitQuietly()
    return false
  }

  #moveToPrimary(begun: NonNullable<Transaction['begun']>): boolean {
    this.#moving = null
    if (this.#lease.server !== null) this.#giveBack()
    this.transaction.ready(frame.STATUS_IDLE, this.services.clock.nowMs())
    this.transaction.defer(begun.text, begun.classified, this.services.clock.nowMs())
    this.mayRide = false
    this.routeReason = 'transaction'
    this.meter.routed('transaction')
    this.#demand('primary')
    return true
  }

  #giveBack(): void {
    this.#move('idle')
    this.#lease.giveBack(this.carried.onServer)
  }

  /** The batch at the head of the input is answered by an error and dropped. */
  #answerRefused(error: ProxyError): void {
    this.send(refuseNext(this, this.#parts, error))
  }

  /** The server is not to be trusted any more; its client cannot be told what became of its work. */
  #breach(error: ProxyError): void {
    const server = this.#lease.server?.id
    this.services.log.error({ client: this.clientId, server, code: error.code }, error.message)
    this.#lease.discard(error)
    this.close(error)
  }

  #end(reason: string): void {
    if (this.#state === 'closed') return
    if (this.#state === 'waiting') this.pool.withdraw(this)
    this.riding.end()
    this.#move('closed')
    this.#input.clear()
    this.#lease.end(this.carried.onServer, this.pins.isPinned)
    this.prepared.clear()
    this.services.onSessionClosed(this, reason)
  }

  #move(to: SessionState): void {
    if (this.#state === to) return
    if (!mayBecome(this.#state, to))
      invariant(false, `session ${this.#state} does not become ${to}`)
    this.#state = to
    if (to === 'settling') this.#settlingSinceMs = this.services.clock.nowMs()
  }
}
