/**
 * The pool of one (database, user): its servers at every member, and the sessions that want one. It
 * owns its servers; a session holds one between `granted` and `release`. What a session sends over
 * it is not its business, and neither is why a member is primary.
 *
 * hot path: `acquire` and `release`. A freed server goes to the oldest session that may use it inside
 * the same call; no promise or timer is made.
 */
import { isDeepStrictEqual } from 'node:util'
import type { ServerSecret } from '../auth/secret.ts'
import { ProxyError } from '../base/errors.ts'
import { invariant } from '../base/invariant.ts'
import type { Member } from '../cluster/topology.ts'
import type { PoolConfig } from '../config/config.ts'
import { Boarding } from './boarding.ts'
import type { Holder, ServerConnection } from './connection.ts'
import type { PoolContext } from './context.ts'
import { type CloseReason, Fleet } from './fleet.ts'
import type { MemberPool } from './member-pool.ts'
import { Opener, refusesWaiters } from './opener.ts'
import type { Placement } from './placement.ts'
import { openReplicationServer, type ReplicationRequest } from './replication.ts'
import { Roster } from './roster.ts'
import { prepare, type SupplyOwner, supply } from './supply.ts'
import { sameServers } from './target.ts'
import type { Ticket } from './tickets.ts'
import { isPromoted, Upkeep } from './upkeep.ts'
import type { Waiter } from './waiter.ts'
import { Waiting } from './waiting.ts'
import { Welcomes } from './welcomes.ts'

/** What a pool shares with its parts; replaced on RELOAD and at log-ins. */
export interface PoolState {
  config: PoolConfig
  /** What can log in to servers as this user. */
  secret: ServerSecret
}

export class Pool {
  readonly database: string
  readonly user: string
  /** Sessions that are logged in: kept by `join` and `leave`. */
  clients = 0
  lastUsedMs = 0
  /** Given up by Pools; the next use brings it back. */
  isForgotten = false
  readonly fleet: Fleet
  readonly roster: Roster
  readonly waiting: Waiting
  readonly opener: Opener
  /** Servers that sessions share. */
  readonly boarding: Boarding
  readonly #state: PoolState
  readonly #context: PoolContext
  readonly #upkeep: Upkeep
  readonly #welcomes: Welcomes
  readonly #supplyOwner: SupplyOwner
  readonly #fits = (server: ServerConnection): boolean => this.roster.isUsable(server)

  constructor(config: PoolConfig, secret: ServerSecret, context: PoolContext) {
    this.database = config.database
    this.user = config.user
    this.lastUsedMs = context.tickMs
    this.#state = { config, secret }
    this.#context = context
    this.fleet = new Fleet(context)
    this.roster = new Roster(context, this.fleet)
    this.waiting = new Waiting(context, this.#state, this.roster)
    this.opener = new Opener(context, this.#state, {
      makeRoom: (slot) => context.makeRoom(this, slot),
      onOpened: (server, member) => this.#onOpened(server, member),
      onFailed: (member, error) => this.#onOpenFailed(member, error),
      onLost: (server, error) => this.#onLost(server, error),
    })
    this.boarding = new Boarding(this)
    this.#upkeep = new Upkeep(context, this.#state, {
      onFit: (server, member) => this.#handOn(server, member),
      onUnfit: (server, reason, error) => this.#close(server, reason, error),
    })
    this.#welcomes = new Welcomes(context.clock)
    this.#supplyOwner = {
      roster: this.roster,
      waiting: this.waiting,
      opener: this.opener,
      check: (server, member) => this.#upkeep.check(server, member),
    }
    this.roster.sync(config)
  }

  get config(): PoolConfig {
    return this.#state.config
  }

  get isPaused(): boolean {
    return this.#context.isPaused(this.database)
  }

  /** A server was opened once. */
  get knowsWelcome(): boolean {
    return this.#welcomes.known !== null
  }

  get isWaitedFor(): boolean {
    return this.waiting.length > 0 || this.#welcomes.length > 0
  }

  /** Arrival of the session that waits for longest; Infinity when none does. */
  get waitingSince(): number {
    return this.waiting.sinceMs
  }

  // What its carriers ask

  get isAtRest(): boolean {
    return this.isPaused || this.#context.stopping !== null
  }

  mayGrow(member: MemberPool): boolean {
    if (!this.opener.mayOpen(member, 0)) return false
    const { config, limits } = this.#context
    return limits.full(member.slot, this.config, config) === null
  }

  /** Why it must not serve another session; null: it may. */
  retireReason(server: ServerConnection, member: MemberPool): CloseReason | null {
    if (this.fleet.replicationOf(server) !== 'none') return 'replication'
    if (server.isDoomed) return 'doomed'
    if (this.isPaused) return 'paused'
    if (this.#context.stopping !== null) return 'shutdown'
    if (this.#context.isLeaving && this.waiting.length === 0) return 'shutdown'
    if (member.isGone) return 'member_gone'
    const { term, role } = server.identity
    if (role === 'primary' && term !== this.#context.view.topology.term) return 'fenced'
    if (isPromoted(server, member) && server.isShared) return 'promoted'
    // None is opened in its place while the primary is about to hand over.
    if (role === 'primary' && this.#context.view.topology.switchover !== null) return null
    const { serverLifetimeMs, poolSize } = this.config
    return member.isLifeOver(server, { serverLifetimeMs, poolSize, nowMs: this.#context.tickMs })
      ? 'lifetime'
      : null
  }

  // What sessions ask

  /** A session logged in, or went. */
  join(): void {
    this.clients += 1
  }

  leave(): void {
    invariant(this.clients > 0, 'who leaves has joined')
    this.clients -= 1
    this.lastUsedMs = this.#context.tickMs
  }

  /**
   * What servers of this pool reported at log-in. The first log-in of all opens a server of any
   * role; later ones never need one.
   *
   * Errors  rejects with `server_login_failing`, `client_login_timeout_server`, or what the server
   *         itself said.
   */
  welcome(): Promise<ReadonlyMap<string, string>> {
    const ended = this.#use()
    const failing = this.knowsWelcome ? null : this.roster.failingEverywhere()
    const answer = this.#welcomes.ask(ended ?? failing)
    this.#launch()
    return answer
  }

  /**
   * Grants inside the call when a fitting server is free, or lets the session board one that is
   * shared; else it is queued.
   */
  acquire(waiter: Waiter): void {
    const ended = this.#use()
    const nowMs = this.#context.clock.nowMs()
    waiter.waitingSinceMs = nowMs
    if (ended !== null) {
      waiter.refused(ended)
      return
    }
    const placement = this.waiting.place(waiter, nowMs, nowMs)
    const mayRide = waiter.mayRide === true && !this.isPaused
    if (mayRide && this.boarding.isCrowded(placement) && this.boarding.board(waiter, placement))
      return
    const server = this.isPaused ? null : this.#pick(placement, waiter)
    if (server !== null) {
      const isPrimaryRead = placement.kind === 'member' && placement.isPrimaryRead
      this.#grant(server, waiter, isPrimaryRead, nowMs)
      return
    }
    if (mayRide && this.boarding.board(waiter, placement)) return
    const failing = this.roster.failingFor(placement)
    this.waiting.add(
      waiter,
      failing === null ? placement : { kind: 'refused', error: failing },
      nowMs,
    )
    this.boarding.onQueued(waiter)
    this.#launch()
  }

  /** Whether a server that the session kept may serve its next statement. */
  mayServe(server: ServerConnection, waiter: Waiter): boolean {
    const nowMs = this.#context.clock.nowMs()
    const placement = this.waiting.place(waiter, nowMs, nowMs)
    const { member } = server.identity
    if (placement.kind === 'replicas') return placement.members.some(({ name }) => name === member)
    return placement.kind === 'any' || (placement.kind === 'member' && placement.member === member)
  }

  /** Whether nobody may serve what it asks for, and it would not wait either. */
  refuses(waiter: Waiter): boolean {
    const nowMs = this.#context.clock.nowMs()
    return this.waiting.place(waiter, nowMs, nowMs).kind === 'refused'
  }

  /** The session does not want a server any more. Returns false when it waited for none. */
  withdraw(waiter: Waiter): boolean {
    return this.waiting.remove(waiter)
  }

  /**
   * The holder is done with it. The server is cleaned, kept, closed, or given to the oldest session
   * that may use it; one that is not known to be idle is closed.
   */
  release(server: ServerConnection, holder: Holder): void {
    if (server.holder !== null) server.unhold(holder)
    const wasPrimaryRead = this.fleet.endPrimaryRead(server)
    const member = this.fleet.homeOf(server)
    if (member === undefined) return
    // A slow client may have stopped it; the next one is not slow.
    server.channel.resume()
    invariant(server.state === 'active', 'a server is released by who holds it')
    this.lastUsedMs = this.#context.tickMs
    const reason = server.isIdle ? this.retireReason(server, member) : 'not_idle'
    if (reason !== null) this.#close(server, reason)
    else if (server.cancelsUnderWay > 0) member.move(server, 'active_cancel', this.#context.tickMs)
    else this.#cleanOrHandOn(server, member)
    if (wasPrimaryRead && this.waiting.heldReplica.length > 0) this.onSamples()
  }

  /** The holder is done with it and it must not be used again. The holder is not called any more. */
  discard(server: ServerConnection, error: ProxyError): void {
    const { holder } = server
    if (holder !== null) server.unhold(holder)
    this.#close(server, 'discarded', error)
  }

  /**
   * Forwards a cancel request. Until the cancel connection ended the server is not handed on: the
   * request would hit the next session's statement. Resolves then, and never rejects.
   */
  cancel(server: ServerConnection): Promise<void> {
    if (server.state !== 'active') return Promise.resolve()
    server.cancelsUnderWay += 1
    return this.#context.cancel(server).then(
      () => this.#onCancelled(server),
      () => {
        server.isDoomed = true
        this.#onCancelled(server)
      },
    )
  }

  /**
   * A connection for one replication client, held by it from the start; `release` and `discard`
   * close it.
   *
   * Errors  rejects with `replication_refused`, or what opening a server rejects with.
   */
  async openReplication(request: ReplicationRequest, holder: Holder): Promise<ServerConnection> {
    const ended = this.#use()
    if (ended !== null) throw ended
    const { server, member } = await openReplicationServer(this, request, this.#context)
    this.fleet.add(server, member, request.replication)
    server.isDoomed = true
    member.move(server, 'active', this.#context.tickMs)
    server.hold(holder)
    server.begin()
    return server
  }

  // What Pools and the janitor tell

  /** A newer secret of the user; one that cannot log in replaces none that can. */
  learnSecret(secret: ServerSecret): void {
    if (secret.kind === 'none' || isDeepStrictEqual(secret, this.#state.secret)) return
    this.#state.secret = secret
    this.roster.forgetFailures()
  }

  /** The topology changed in what decides where sessions go. */
  onTopology(): void {
    this.roster.sync(this.config)
    this.#takeOverAll()
    this.#settleAll()
    this.warm()
  }

  /** Before a planned switchover: as many servers at the candidate as there are at the primary. */
  warm(): void {
    const candidate = this.isPaused ? null : this.roster.candidate
    const { primary } = this.roster
    if (candidate === null || primary === undefined) return
    while (candidate.size < primary.serverCount) if (!this.opener.open(candidate, 0)) return
  }

  /** New samples came; members and roles are the same. */
  onSamples(): void {
    this.roster.refreshView()
    if (this.waiting.isHeldWrongly(this.#context.clock.nowMs())) this.#settleAll()
  }

  setConfig(config: PoolConfig): void {
    const isSame = sameServers(this.config, config)
    this.#state.config = config
    if (!isSame) this.doom('changed')
    this.onTopology()
  }

  /** Looks again at what can be granted and opened. */
  advance(): void {
    if (this.isPaused || this.#context.stopping !== null) return
    for (const member of this.roster.members.values()) this.#matchIdle(member)
    this.#launch()
  }

  /** PAUSE or RESUME: those who wait are placed anew, in order of arrival. */
  onPause(): void {
    this.#settleAll()
  }

  /** Free servers are closed now, the others when they come back. */
  doom(reason: CloseReason): void {
    for (const server of this.fleet.servers()) this.fleet.doom(server, reason)
  }

  destroyAll(reason: CloseReason, error: ProxyError): void {
    for (const server of this.fleet.servers()) this.fleet.close(server, reason, error)
  }

  refuseAll(error: ProxyError): void {
    this.#welcomes.refuse(error)
    this.waiting.refuseAll(error)
  }

  /** One turn of the janitor for what waits. */
  sweepWaits(nowMs: number): void {
    this.#welcomes.sweep(nowMs, this.#context.config.pgbouncer.clientLoginTimeoutMs)
    this.waiting.sweep(nowMs)
    this.fleet.sweep(nowMs)
    this.onSamples()
    this.advance()
    this.warm()
  }

  // Granting

  /** A free server for the placement, or null. */
  #pick(placement: Placement, waiter: Waiter): ServerConnection | null {
    if (placement.kind === 'replicas') return this.#pickReplica(placement.members, waiter)
    if (placement.kind === 'member') {
      const member = this.roster.named(placement.member)
      return member === undefined ? null : this.#freeOf(member, waiter)
    }
    if (placement.kind !== 'any') return null
    for (const member of this.roster.members.values()) {
      const server = this.roster.isOpen(member) ? this.#freeOf(member, waiter) : null
      if (server !== null) return server
    }
    return null
  }

  /** The member drawn by the balance; when it has nothing free, another, while it gets one more. */
  #pickReplica(members: readonly Member[], waiter: Waiter): ServerConnection | null {
    const drawn = this.roster.draw(members)
    if (drawn === undefined) return null
    const server = this.#freeOf(drawn, waiter)
    if (server !== null) return server
    for (const { name } of members) {
      const member = this.roster.members.get(name)
      const other = member === undefined || member === drawn ? null : this.#freeOf(member, waiter)
      if (other === null) continue
      if (drawn.openings.size + drawn.count('tested') === 0) prepare(this.#supplyOwner, drawn)
      return other
    }
    return null
  }

  #freeOf(member: MemberPool, waiter: Waiter): ServerConnection | null {
    if (member.idleCount === 0) return null
    const isRoundRobin = this.#context.config.pgbouncer.serverRoundRobin
    return member.idleFor(waiter.settings, isRoundRobin, this.#fits)
  }

  #grant(server: ServerConnection, waiter: Waiter, isPrimaryRead: boolean, nowMs: number): void {
    const member = this.fleet.homeOf(server)
    invariant(member !== undefined, 'a server that is granted has a home')
    if (isPrimaryRead) this.fleet.beginPrimaryRead(server)
    if (server.state !== 'active') member.move(server, 'active', this.#context.tickMs)
    server.requestMs = this.#context.tickMs
    server.hold(waiter)
    waiter.waitReason = null
    waiter.granted(server, nowMs)
  }

  #grantTicket(server: ServerConnection, ticket: Ticket): void {
    const { isPrimaryRead, waiter } = ticket
    this.waiting.remove(waiter)
    this.#grant(server, waiter, isPrimaryRead, this.#context.clock.nowMs())
  }

  #cleanOrHandOn(server: ServerConnection, member: MemberPool): void {
    if (!this.#upkeep.clean(server, member)) this.#handOn(server, member)
  }

  /** The server is clean and nobody has it. */
  #handOn(server: ServerConnection, member: MemberPool): void {
    const reason = this.retireReason(server, member)
    if (reason !== null) {
      this.#close(server, reason)
      return
    }
    if (isPromoted(server, member)) {
      this.#upkeep.takeOver(server, member)
      return
    }
    if (server.state === 'active_cancel') member.move(server, 'idle', this.#context.tickMs)
    const next = this.#mayGoOn(server, member) ? this.waiting.nextFor(member) : null
    if (next !== null && this.boarding.mayConvert(server, member, next))
      this.#share(server, member, next)
    else if (next !== null) this.#grantTicket(server, next)
    else if (server.state !== 'idle') member.move(server, 'idle', this.#context.tickMs)
  }

  /** Those who wait share the server; it is opened to them first. */
  #share(server: ServerConnection, member: MemberPool, { waiter }: Ticket): void {
    const carrier = waiter.carries?.(server)
    invariant(carrier !== undefined, 'who may ride carries')
    if (server.state !== 'active') member.move(server, 'active', this.#context.tickMs)
    server.requestMs = this.#context.tickMs
    server.hold(carrier)
    this.boarding.join(carrier)
    carrier.open()
  }

  #mayGoOn(server: ServerConnection, member: MemberPool): boolean {
    return this.waiting.length > 0 && this.roster.isUsable(server) && this.roster.isOpen(member)
  }

  #matchIdle(member: MemberPool): void {
    if (!this.roster.isOpen(member)) return
    while (member.idleCount > 0) {
      const next = this.waiting.nextFor(member)
      const server = next === null ? null : this.#freeOf(member, next.waiter)
      if (next === null || server === null) return
      this.#grantTicket(server, next)
    }
  }

  /** Everybody who waits is placed anew, in order of arrival. */
  #settleAll(): void {
    const nowMs = this.#context.clock.nowMs()
    const tickets = this.waiting.all()
    for (const ticket of tickets) this.waiting.lift(ticket)
    for (const ticket of tickets) {
      // A grant before this one may have changed who waits.
      if (!this.waiting.isLifted(ticket)) continue
      const placement = this.waiting.place(ticket.waiter, ticket.sinceMs, nowMs)
      const server = this.isPaused ? null : this.#pick(placement, ticket.waiter)
      this.waiting.put(ticket, placement, nowMs)
      if (server !== null) this.#grantTicket(server, ticket)
    }
    this.#launch()
  }

  // Promotion, cancelling, ending

  #takeOverAll(): void {
    const { primary } = this.roster
    if (primary === undefined) return
    for (const server of [...primary.inState('idle'), ...primary.inState('used')])
      if (isPromoted(server, primary)) this.#upkeep.takeOver(server, primary)
  }

  #onCancelled(server: ServerConnection): void {
    server.cancelsUnderWay -= 1
    const member = this.fleet.homeOf(server)
    if (member === undefined || server.state !== 'active_cancel') return
    if (server.isDoomed) this.#close(server, 'cancel')
    else if (server.cancelsUnderWay === 0) this.#cleanOrHandOn(server, member)
  }

  /** Those who wait may need another in its place. */
  #close(server: ServerConnection, reason: CloseReason, error?: ProxyError): void {
    this.fleet.close(server, reason, error)
    this.#launch()
  }

  // Opening

  #onOpened(server: ServerConnection, member: MemberPool): void {
    this.fleet.add(server, member)
    member.move(server, 'tested', this.#context.tickMs)
    this.#welcomes.learn(server.defaults)
    this.roster.refreshView()
    server.begin()
    if (this.fleet.homeOf(server) === undefined) return
    this.#upkeep.greet(server, member)
    // A log-in is over: the next one is for whom it is due, in whichever pool.
    this.#context.onRoom(member.name)
    this.#launch()
  }

  #onOpenFailed(member: MemberPool, error: ProxyError): void {
    this.roster.refreshView()
    if (refusesWaiters(member, error)) {
      for (const ticket of Array.from(member.waiters)) this.waiting.refuse(ticket, error)
      if (this.roster.failingEverywhere() !== null) this.refuseAll(error)
    }
    this.#settleAll()
  }

  /** Returns whether its holder is told of it later. */
  #onLost(server: ServerConnection, error: ProxyError): boolean {
    if (!this.fleet.lose(server)) return false
    this.#context.log.info(
      { server: server.id, member: server.identity.member, database: this.database },
      `server lost: ${error.message}`,
    )
    const { inquests } = this.#context
    this.#context.onServerLost(server.identity.member)
    inquests.ended(server, error)
    this.#launch()
    const isAwaited = server.holder?.awaitsInquest?.(error, server) === true
    if (isAwaited) inquests.begin(server, error)
    return isAwaited
  }

  /** Opens what those who wait need, and no more than is under way already. */
  #launch(): void {
    if (this.isPaused || this.#context.stopping !== null) return
    if (this.waiting.length > 0) supply(this.#supplyOwner, this.#context.clock.nowMs())
    if (this.#welcomes.length > 0 && !this.#isOpening()) this.#openForWelcome()
  }

  #isOpening(): boolean {
    for (const member of this.roster.members.values()) if (member.openings.size > 0) return true
    return false
  }

  #openForWelcome(): void {
    for (const member of this.roster.known()) if (this.opener.open(member, 0)) return
  }

  /** Returns why nobody gets anything of this pool any more, or null. */
  #use(): ProxyError | null {
    this.lastUsedMs = this.#context.tickMs
    if (this.isForgotten && !this.#context.adopt(this)) return new ProxyError('database_removed')
    return this.#context.stopping
  }
}
