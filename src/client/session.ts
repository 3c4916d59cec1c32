/**
 * One client's life after its log-in. Whatever happens is recorded and `#advance` is called; it
 * looks at the state and does the next thing. Nothing else decides.
 *
 *   idle      owes nothing and holds no server
 *   waiting   its batch waits for a server
 *   settling  its server is given the session's settings
 *   active    a server is held: answers are owed, a transaction is open, or it is pinned
 *   closed    gone
 *
 * hot path: onBytes, #advance, granted, onServerBytes, #finish.
 */
import { ProxyError } from '../base/errors.ts'
import { invariant } from '../base/invariant.ts'
import { memberOf } from '../cluster/topology.ts'
import type { Channel, Receiver } from '../net/channel.ts'
import type { Classified, Statement } from '../routing/classify.ts'
import type { ServerConnection } from '../server/connection.ts'
import type { Pool } from '../server/pool.ts'
import { type Settings, settingsChange } from '../server/settings.ts'
import type { Bound, Waiter } from '../server/waiter.ts'
import * as frame from '../wire/frame.ts'
import type { Entry } from '../wire/ledger.ts'
import { errorResponse, fixed, noticeResponse, readyForQuery } from '../wire/messages.ts'
import { Attempt } from './attempt.ts'
import { BatchReader, strayCopyBytes } from './batch.ts'
import { CausalPosition } from './causal.ts'
import { type Decision, decide } from './decide.ts'
import { applyEffect } from './effects.ts'
import type { ClientState } from './facts.ts'
import { Forwarder } from './forward.ts'
import { isRemembered, isStalePlan } from './healing.ts'
import { Input } from './input.ts'
import { completeBatch, refuseBatch } from './local.ts'
import { Meter } from './meter.ts'
import { Parking } from './parking.ts'
import { Pins } from './pin.ts'
import { SessionPrepared } from './prepared.ts'
import { Relay, type RelayOwner } from './relay.ts'
import { Reported } from './reported.ts'
import type { SessionServices } from './services.ts'
import { SessionSettings } from './settings.ts'
import { timeoutOf } from './timeouts.ts'
import { Transaction } from './transaction.ts'
import { SWALLOW, Work } from './work.ts'

export const SESSION_STATES = ['idle', 'waiting', 'settling', 'active', 'closed'] as const
export type SessionState = (typeof SESSION_STATES)[number]

export const NEXT_SESSION_STATES = {
  idle: ['waiting', 'settling', 'active', 'closed'],
  waiting: ['settling', 'active', 'idle', 'closed'],
  settling: ['active', 'idle', 'closed'],
  active: ['idle', 'waiting', 'closed'],
  closed: [],
} as const satisfies Record<SessionState, readonly SessionState[]>

export interface SessionSeed {
  readonly id: number
  readonly channel: Channel
  readonly user: string
  readonly database: string
  readonly pool: Pool
  /** What the startup packet asked for. */
  readonly baseline: Settings
  /** The parameters that the client was told at its log-in. */
  readonly welcome: ReadonlyMap<string, string>
  readonly services: SessionServices
}

/** Read synchronously by one session at a time. */
const reader = new BatchReader()

export class Session implements Receiver, Waiter, RelayOwner {
  readonly clientId: number
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
  requestWallMs: number
  /** Monotonic: the last byte from the client. */
  activeMs: number
  /** Set by the decision, read by the pools. */
  wantsRole: 'primary' | 'replica' | 'any' = 'any'
  waitingSinceMs = 0
  waitReason: Waiter['waitReason'] = null
  routeReason: string | null = null
  cancels = 0
  readonly #relay = new Relay(this)
  readonly #forwarder: Forwarder
  #state: SessionState = 'idle'
  #server: ServerConnection | null = null
  readonly #reported: Reported
  readonly #parking = new Parking()
  readonly #input = new Input()
  readonly #attempt = new Attempt()
  /** The BEGIN to be sent to the primary when the replica's transaction is over. */
  #moving: { readonly text: string; readonly classified: Classified } | null = null
  #isAdvancing = false
  /** The next server is not given the session's settings first. */
  #isResetting = false
  #closeReason: ProxyError | null = null

  constructor(seed: SessionSeed) {
    this.clientId = seed.id
    this.channel = seed.channel
    this.user = seed.user
    this.database = seed.database
    this.pool = seed.pool
    this.services = seed.services
    this.carried = new SessionSettings(seed.baseline)
    this.#reported = new Reported(seed.welcome)
    this.prepared = new SessionPrepared(seed.services.registry)
    this.meter = new Meter(seed.database, seed.services.counters, seed.services.clock)
    this.connectedWallMs = seed.services.clock.wallMs()
    this.requestWallMs = this.connectedWallMs
    this.activeMs = seed.services.clock.nowMs()
    this.#forwarder = new Forwarder({
      prepared: this.prepared,
      settings: this.carried,
      transaction: this.transaction,
      pins: this.pins,
      registry: seed.services.registry,
      stats: this.meter.stats,
      preparedMax: seed.services.config().pgbouncer.maxPreparedStatements,
      frameBytesMax: seed.services.config().pgbouncer.maxPacketSize,
      classify: (text) => this.classify(text),
      onStatement: (classified) => this.#onStatement(classified),
    })
  }

  // What the pools ask of a waiter.

  get bound(): Bound | null {
    return this.causal.bound
  }
  get dirtySinceMs(): number | null {
    return this.causal.dirtySinceMs
  }
  get preferredMember(): string | null {
    return this.causal.preferredMember
  }
  get settings(): Settings {
    return this.carried.current
  }
  get waitingBytes(): number {
    return this.#input.length
  }

  // What others may know.

  get state(): SessionState {
    return this.#state
  }
  get server(): ServerConnection | null {
    return this.#server
  }
  get clientState(): ClientState {
    if (this.#state === 'waiting') return this.waitReason === 'primary' ? 'held' : 'waiting'
    if (this.#state === 'closed') return 'closed'
    return this.#server === null && this.#parking.isEmpty ? 'idle' : 'active'
  }
  /** Answers are owed by a server. */
  get isOwed(): boolean {
    return this.#server !== null && this.#server.ledger.length > 0
  }
  classify(text: string): Classified {
    return this.services.statements(this.pool.config.serverDatabase).classify(text)
  }

  get isBetweenTransactions(): boolean {
    return this.transaction.state === 'idle' && !this.isOwed && this.#state !== 'waiting'
  }
  get applicationName(): string {
    return this.welcome('application_name')
  }

  /** What the client was told last of a reported parameter. */
  welcome(name: string): string {
    return this.#reported.value(name)
  }

  /** Ends the session when a timeout passed. Called a few times a second. */
  checkTime(nowMs: number): void {
    const startedMs = this.transaction.startedMs
    const code = timeoutOf(
      {
        queryMs: this.meter.queryStartedMs === 0 ? 0 : nowMs - this.meter.queryStartedMs,
        transactionMs: startedMs === 0 ? 0 : nowMs - startedMs,
        idleMs: nowMs - this.activeMs,
        isOwed: this.isOwed,
        isWaiting: this.#state === 'waiting' || this.#state === 'settling',
      },
      this.pool.config,
    )
    if (code !== null) this.close(new ProxyError(code))
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
  }

  onDrain(): void {
    this.#server?.channel.resume()
  }

  onClosed(): void {
    this.#end(this.#closeReason?.code ?? 'client_closed')
  }

  granted(server: ServerConnection): void {
    invariant(
      this.#state === 'waiting' || this.#state === 'idle',
      'a server is granted to who waits',
    )
    this.#server = server
    this.waitReason = null
    this.meter.granted(server.identity.role, this.waitingSinceMs)
    this.#settle(server)
  }

  refused(error: ProxyError): void {
    invariant(this.#state === 'waiting' || this.#state === 'idle', 'a wait is refused to who waits')
    this.waitReason = null
    this.services.log.debug({ client: this.clientId, code: error.code }, error.message)
    if (error.row.severity === 'FATAL') {
      this.close(error)
      return
    }
    this.#move('idle')
    this.#answerRefused(error)
    this.#advance()
  }

  notify(text: string): void {
    this.send(noticeResponse(text))
  }

  onServerBytes(chunk: Buffer, server: ServerConnection): void {
    // A parked server may report or say that it ends; its end comes by onServerClosed.
    if (server !== this.#server) return
    try {
      this.#relay.onBytes(chunk, server)
    } catch (error) {
      this.#breach(server, asProxyError(error))
      return
    }
    this.#advance()
  }

  onServerDrain(): void {
    this.#advance()
  }

  onServerClosed(error: ProxyError, server: ServerConnection): void {
    this.#parking.remove(server)
    if (this.#server === server) {
      this.#server = null
      this.#forwarder.reset()
      this.#relay.reset()
    }
    this.close(error)
  }

  /** A cancel request with this client's key came. */
  cancel(): void {
    if (this.#state === 'waiting' && this.pool.withdraw(this)) {
      this.#move('idle')
      this.waitReason = null
      this.#answerRefused(new ProxyError('cancelled'))
      this.#advance()
    } else if (this.#server !== null && this.isOwed) {
      this.meter.cancelled()
      this.pool.cancel(this.#server)
    }
  }

  /** Tells the client why and ends. */
  close(error: ProxyError): void {
    if (this.#state === 'closed') return
    this.#closeReason = error
    this.meter.refused(error, this.#codes)
    this.channel.write(errorResponse(error, this.#codes))
    this.channel.close()
    this.#end(error.code)
  }

  // What the relay finds.

  send(bytes: Buffer): void {
    this.meter.stats.bytesSent += bytes.length
    if (!this.channel.write(bytes)) this.#server?.channel.pause()
  }

  onComplete(entry: Entry, tag: string): void {
    if (!(entry.subject instanceof Work)) return
    const statement = entry.subject.shift()
    if (statement !== undefined && this.#server !== null)
      applyEffect(this, { statement, tag, server: this.#server })
  }

  onError(fields: Readonly<Record<string, string>>, isUnanswered: boolean): boolean {
    const sqlstate = fields['C'] ?? ''
    if (isUnanswered && this.#startHealing({ sqlstate, routine: fields['R'] })) return true
    this.meter.failed(sqlstate)
    if (this.transaction.state === 'idle') this.carried.rollback()
    return false
  }

  onReady(status: number, forward: boolean): void {
    const nowMs = this.services.clock.nowMs()
    if (this.#attempt.isHealing) return
    if (forward) this.meter.answered(this.#server?.identity.role ?? 'plain', this.isOwed, nowMs)
    const startedMs = this.transaction.startedMs
    this.transaction.ready(status, nowMs)
    if (status !== frame.STATUS_IDLE) return
    this.carried.commit()
    this.prepared.endTransaction()
    this.meter.ended(startedMs, nowMs)
  }

  onCopyIn(): void {
    this.#forwarder.isCopyIn = true
  }

  onReport(name: string, value: string): boolean {
    if (name !== 'in_hot_standby')
      this.carried.report(name, value, this.#server?.defaults.get(name))
    return this.#reported.pass(name, value)
  }

  // The one loop.

  #advance(): void {
    if (this.#isAdvancing) return
    this.#isAdvancing = true
    try {
      while (this.#step()) {}
    } catch (error) {
      this.close(asProxyError(error))
    } finally {
      this.#isAdvancing = false
    }
    const unsentBytes = this.#server?.channel.unsentBytes ?? 0
    if (Math.max(this.#input.length, unsentBytes) >= this.#inputBytesMax) this.channel.pause()
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
    const stray = strayCopyBytes(this.#input.bytes)
    if (stray > 0) {
      this.#input.dropMessage(stray)
      return true
    }
    if (!this.#read()) return false
    if (reader.kind === 'terminate') {
      this.channel.close()
      this.#end('client_closed')
      return false
    }
    this.#attempt.begin(reader)
    return this.#act(decide(this, reader))
  }

  /** Reads the batch at the front of the input. Returns false when it is not there yet. */
  #read(): boolean {
    const { pgbouncer, pgsteer } = this.services.config()
    const limits = { batchBytesMax: pgsteer.batchBytesMax, frameBytesMax: pgbouncer.maxPacketSize }
    return reader.read(this.#input.bytes, this.prepared, this.#classifyBound, limits)
  }

  readonly #classifyBound = (text: string): Classified => this.classify(text)

  #act(decision: Decision): boolean {
    switch (decision.kind) {
      case 'complete':
        this.#complete(decision.tag, decision.status)
        return true
      case 'defer':
        this.transaction.defer(decision.text, decision.classified, this.services.clock.nowMs())
        this.#complete('BEGIN', frame.STATUS_OPEN)
        return true
      case 'refuse':
        if (decision.error.row.severity === 'FATAL') this.close(decision.error)
        else this.#answerRefused(decision.error)
        return this.#state !== 'closed'
      case 'route':
        this.meter.routed(decision.reason)
        this.routeReason = decision.reason
        this.#demand(decision.role)
        return true
    }
  }

  #complete(tag: string, status: number): void {
    const isEnd = status === frame.STATUS_IDLE
    if (isEnd) this.transaction.ready(status, this.services.clock.nowMs())
    this.meter.answeredLocally(isEnd)
    const batch = this.#input.bytes.subarray(0, this.#attempt.bytes)
    this.#input.take(this.#attempt.bytes)
    this.send(completeBatch(batch, tag, status))
  }

  #demand(role: 'primary' | 'replica' | 'any'): void {
    this.wantsRole = role
    const nowMs = this.services.clock.nowMs()
    this.requestWallMs = this.services.clock.wallMs()
    if (role === 'replica') this.#prepareRead(nowMs)
    const parked = this.#parking.take(role)
    if (parked !== null) {
      this.#server = parked
      this.#settle(parked)
      return
    }
    this.waitingSinceMs = nowMs
    this.#move('waiting')
    this.pool.acquire(this)
  }

  #prepareRead(nowMs: number): void {
    const { pools } = this.services
    this.causal.beforeRead({
      consistency: this.pool.config.consistency,
      nowMs,
      boundFor: (dirtySinceMs) => pools.boundFor(dirtySinceMs),
      isEligible: (member) => memberOf(pools.topology, member)?.eligible === true,
    })
  }

  /** The server gets the session's settings before anything else. */
  #settle(server: ServerConnection): void {
    const change = settingsChange(server.settings, this.carried.current)
    if (change === '' || this.#isResetting) {
      this.#isResetting = false
      this.#activate(server)
      return
    }
    this.#move('settling')
    const wanted = this.carried.current
    server.run(change, (error) => {
      if (this.#server !== server) return
      if (error === null) {
        server.settings = wanted
        const news = this.#reported.catchUp(server.parameters)
        if (news !== null) this.send(news)
        this.#activate(server)
        return
      }
      this.#unsettled(server, error)
    })
  }

  /**
   * The batch only takes settings back: it may run under whatever the server has, and it is the way
   * out for a session whose settings cannot be made any more.
   */
  #takesSettingsBack(): boolean {
    const { texts } = this.#attempt
    if (this.transaction.state !== 'idle' || texts.length === 0) return false
    return texts.every((text) => this.classify(text).statements.every(isTakingBack))
  }

  /** Nothing of the batch was sent: a server that was lost is replaced, a refusal is the client's. */
  #unsettled(server: ServerConnection, error: ProxyError): void {
    this.#server = null
    this.#move('idle')
    if (error.code !== 'server_refused') {
      this.#demand(this.wantsRole)
      return
    }
    this.pool.discard(server, new ProxyError('server_parameter'))
    if (this.#takesSettingsBack()) {
      this.#isResetting = true
      this.#demand(this.wantsRole)
      return
    }
    this.#answerRefused(error)
    this.#advance()
  }

  #activate(server: ServerConnection): void {
    this.#move('active')
    this.carried.startOn(server.settings)
    this.#relay.hasAnswered = false
    const isReplica = server.identity.role === 'replica'
    const isFree = this.transaction.state === 'idle'
    if (isFree && this.#attempt.retain(this.#input.bytes, isReplica)) this.prepared.mark()
    this.#send(server, this.#isAlone(server) ? this.#attempt.bytes : this.#input.length)
    this.#advance()
  }

  /** On a replica one batch at a time, so that the next may be routed by itself. */
  #isAlone(server: ServerConnection): boolean {
    return server.identity.role === 'replica' || this.#attempt.isRetained
  }

  #forward(): boolean {
    const server = this.#server
    if (server === null || this.#input.length === 0) return false
    const isOpen = this.transaction.status !== frame.STATUS_IDLE || this.#forwarder.isUnsynced
    const isBusy = server.ledger.length > 0 && !this.#forwarder.isCopyIn
    if (!isOpen && isBusy && this.#attempt.isWhole && this.#isAlone(server)) return false
    if (this.#leavesReplica(server)) return this.#startMoving(server)
    return this.#send(server, this.#input.length)
  }

  #send(server: ServerConnection, bytesMax: number): boolean {
    this.meter.sent()
    const taken = this.#forwarder.forward(this.#input.bytes, bytesMax, server)
    this.#input.take(taken)
    this.#relay.drainLocals(server)
    if (this.#forwarder.isTerminated) {
      this.channel.close()
      this.#end('client_closed')
      return false
    }
    return taken > 0
  }

  /** Gives the server back when nothing binds it. Returns true when the state changed. */
  #finish(): boolean {
    const server = this.#server
    if (server === null || server.ledger.length > 0 || server.status !== frame.STATUS_IDLE)
      return false
    if (this.#forwarder.isUnsynced || this.#forwarder.isMidMessage || this.#relay.isMidMessage)
      return false
    if (this.#attempt.isHealing) return this.#heal(server)
    if (this.#moving !== null) return this.#moveToPrimary(server, this.#moving)
    this.#attempt.end()
    this.prepared.unmark()
    this.meter.queryStartedMs = 0
    this.carried.settle()
    this.causal.answered(server.identity.role, server.identity.member, this.services.clock.nowMs())
    if (this.pins.isPinned) return false
    this.#giveBack(server)
    return true
  }

  /** The whole batch goes once more: to the primary, or with statements prepared anew. */
  #heal(server: ServerConnection): boolean {
    this.prepared.rewind()
    this.carried.rollback()
    this.#input.unshift(this.#attempt.takeBack())
    this.#giveBack(server)
    this.routeReason = 'healed'
    this.meter.routed('healed')
    this.#demand(server.identity.role === 'plain' ? 'any' : 'primary')
    return true
  }

  /**
   * `read_transactions = replica_until_write`: what a transaction does on a replica, until a batch
   * comes that is not only a read.
   */
  #leavesReplica(server: ServerConnection): boolean {
    const isFirst = server.identity.role === 'replica' && this.transaction.state === 'open'
    if (!isFirst || this.transaction.isReadOnly || server.ledger.length > 0) return false
    if (this.#forwarder.isUnsynced || this.#forwarder.isMidMessage) return false
    if (!this.#read()) return false
    return !reader.classified.every((classified) => staysOnReplica(classified))
  }

  /** The replica's transaction, which only read, is ended; the batch waits for the primary. */
  #startMoving(server: ServerConnection): boolean {
    const { begun } = this.transaction
    this.#attempt.begin(reader)
    this.#moving = begun
    server.ledger.push(SWALLOW.query)
    server.write(COMMIT_FRAME)
    return false
  }

  #moveToPrimary(
    server: ServerConnection,
    begun: { readonly text: string; readonly classified: Classified },
  ): boolean {
    this.#moving = null
    this.#giveBack(server)
    this.transaction.defer(begun.text, begun.classified, this.services.clock.nowMs())
    this.routeReason = 'transaction'
    this.meter.routed('transaction')
    this.#demand('primary')
    return true
  }

  /** The server is not needed any more; in session mode it stays with the session. */
  #giveBack(server: ServerConnection): void {
    this.#server = null
    server.settings = this.carried.onServer
    server.channel.resume()
    this.#move('idle')
    if (this.pool.config.poolMode === 'session') this.#parking.put(server)
    else this.pool.release(server, this)
  }

  /** Keeps an error from the client when its batch may be sent once more. */
  #startHealing(found: { sqlstate: string; routine: string | undefined }): boolean {
    const refusal = { ...found, role: this.#server?.identity.role ?? 'plain' }
    if (this.transaction.state !== 'idle' || !this.#attempt.heals(refusal)) return false
    this.meter.healed(refusal.sqlstate)
    const statements = this.services.statements(this.pool.config.serverDatabase)
    for (const text of this.#attempt.texts) {
      if (isRemembered(refusal)) statements.learnPrimaryOnly(text)
      if (isStalePlan(refusal.sqlstate, refusal.routine)) this.prepared.renew(text)
    }
    return true
  }

  #onStatement(classified: Classified): void {
    if (!classified.read) this.transaction.hasWritten = true
    if (this.#server !== null && classified.statements.some(isUnclean))
      this.#server.isUnclean = true
  }

  /** The batch at the head of the input is answered by an error and dropped. */
  #answerRefused(error: ProxyError): void {
    this.meter.refused(error, this.#codes)
    if (this.transaction.state === 'deferred') this.transaction.lose()
    const isReady = this.#input.dropBatch(this.#attempt)
    this.send(refuseBatch(error, this.#codes, this.transaction.status, isReady))
  }

  /** The server is not to be trusted any more; its client cannot be told what became of its work. */
  #breach(server: ServerConnection, error: ProxyError): void {
    this.services.log.error(
      { client: this.clientId, server: server.id, code: error.code },
      error.message,
    )
    if (this.#server === server) this.#server = null
    this.pool.discard(server, error)
    this.close(error)
  }

  #end(reason: string): void {
    if (this.#state === 'closed') return
    if (this.#state === 'waiting') this.pool.withdraw(this)
    this.#move('closed')
    this.#input.clear()
    const server = this.#server
    this.#server = null
    if (server !== null) this.#leave(server)
    for (const parked of this.#parking.clear()) this.#leave(parked)
    this.prepared.clear()
    this.services.onSessionClosed(this, reason)
  }

  /** A server whose state is not known to be idle and clean is closed, never reused. */
  #leave(server: ServerConnection): void {
    const isClean = server.isIdle && !this.pins.isPinned && !this.#forwarder.isUnsynced
    const isBetween = !this.#forwarder.isMidMessage && !this.#relay.isMidMessage
    if (isClean && isBetween) {
      server.settings = this.carried.onServer
      this.pool.release(server, this)
    } else {
      this.pool.discard(server, new ProxyError('server_lost'))
    }
  }

  get #codes(): 'pgbouncer' | 'postgres' {
    return this.services.config().pgsteer.errorCodes
  }

  get #inputBytesMax(): number {
    return this.services.config().pgsteer.batchBytesMax * 2
  }

  #move(to: SessionState): void {
    if (this.#state === to) return
    const allowed: readonly SessionState[] = NEXT_SESSION_STATES[this.#state]
    invariant(allowed.includes(to), `session ${this.#state} does not become ${to}`)
    this.#state = to
  }
}

const COMMIT_FRAME = fixed(frame.QUERY, Buffer.from('COMMIT\0'))

function staysOnReplica({ read, statements }: Classified): boolean {
  const ends = statements.every(({ verb }) => verb === 'commit' || verb === 'rollback')
  return read || ends
}

function isUnclean(statement: Statement): boolean {
  return statement.unclean
}

function isTakingBack({ verb, name }: Statement): boolean {
  return verb === 'reset' || verb === 'reset_all' || (verb === 'discard' && name === 'all')
}

function asProxyError(error: unknown): ProxyError {
  if (error instanceof ProxyError) return error
  return new ProxyError('internal', { reason: error instanceof Error ? error.message : '?' }, error)
}
