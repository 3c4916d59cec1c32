/**
 * The pool of one (database, user): its servers at every member, and the sessions that want one. It
 * owns its servers; a session holds one between `granted` and `release`. What a session sends over
 * it is not its business, and neither is why a member is primary.
 *
 * hot path: `acquire` and `release`. A freed server goes to the oldest session that may use it inside
 * the same call; no promise or timer is made.
 */
import type { ServerSecret } from '../auth/secret.ts'
import { ProxyError } from '../base/errors.ts'
import { invariant } from '../base/invariant.ts'
import type { Member } from '../cluster/topology.ts'
import type { PoolConfig } from '../config/config.ts'
import { chooseMember } from './balance.ts'
import { cleaningSql, noteCleaned } from './cleaning.ts'
import type { Holder, ServerConnection } from './connection.ts'
import type { PoolContext } from './context.ts'
import type { PoolFacts, ServerFacts } from './facts.ts'
import type { Slot } from './limits.ts'
import { MemberPool } from './member-pool.ts'
import { Opener, refusesWaiters } from './opener.ts'
import type { ClusterView, Placement } from './placement.ts'
import { poolFacts, serverFacts } from './pool-facts.ts'
import { openReplicationServer, type ReplicationRequest } from './replication.ts'
import { type SupplyOwner, supply } from './supply.ts'
import type { Replication } from './target.ts'
import { type Ticket, ticketQueue } from './tickets.ts'
import type { Waiter } from './waiter.ts'
import { Waiting } from './waiting.ts'
import { Welcomes } from './welcomes.ts'

/** Why a server was closed; a bounded set of words for the metrics. */
export type CloseReason =
  | 'cancel'
  | 'changed'
  | 'check'
  | 'clean'
  | 'discarded'
  | 'doomed'
  | 'evicted'
  | 'fenced'
  | 'idle'
  | 'killed'
  | 'lifetime'
  | 'lost'
  | 'member_gone'
  | 'not_idle'
  | 'paused'
  | 'promoted'
  | 'replication'
  | 'shutdown'
  | 'size'
  | 'timeout'

export class Pool {
  readonly database: string
  readonly user: string
  /** Sessions that are logged in; kept by `join` and `leave`. */
  clients = 0
  lastUsedMs: number
  /** Given up by Pools; the next use brings it back. */
  isForgotten = false
  /** What can log in to servers as this user. */
  secret: ServerSecret
  readonly waiting: Waiting
  readonly opener: Opener
  readonly serversClosed: Record<string, number> = {}
  #config: PoolConfig
  readonly #context: PoolContext
  readonly #members = new Map<string, MemberPool>()
  readonly #homes = new Map<ServerConnection, MemberPool>()
  readonly #primaryReads = new Set<ServerConnection>()
  readonly #replications = new Map<ServerConnection, Replication>()
  /** Closed in good order, until the peer has closed too. */
  readonly #closing = new Map<ServerConnection, number>()
  readonly #welcomes: Welcomes
  #plain: MemberPool | null = null
  #view: ClusterView
  readonly #supplyOwner: SupplyOwner
  readonly #fits = (server: ServerConnection): boolean => this.#isUsable(server)

  constructor(config: PoolConfig, secret: ServerSecret, context: PoolContext) {
    this.database = config.database
    this.user = config.user
    this.secret = secret
    this.#config = config
    this.#context = context
    this.#view = context.view
    this.lastUsedMs = context.tickMs
    const pool = this
    const owner = {
      pool,
      get config() {
        return pool.#config
      },
      get secret() {
        return pool.secret
      },
      get plain() {
        return pool.#plain
      },
      get view() {
        return pool.#view
      },
      member: (name: string) => pool.#members.get(name),
      onOpened: (server: ServerConnection, member: MemberPool) => pool.#onOpened(server, member),
      onOpenFailed: (member: MemberPool, error: ProxyError) => pool.#onOpenFailed(member, error),
      onLost: (server: ServerConnection, error: ProxyError) => pool.#onLost(server, error),
    }
    this.waiting = new Waiting(context, owner)
    this.opener = new Opener(context, owner)
    this.#welcomes = new Welcomes(context.clock)
    this.#supplyOwner = {
      members: this.#members,
      waiting: this.waiting,
      opener: this.opener,
      serving: () => this.#serving(),
      draw: (members) => this.#drawPool(members),
      isUsable: this.#fits,
      check: (server, member) => this.check(server, member),
    }
    this.#syncMembers()
  }

  get config(): PoolConfig {
    return this.#config
  }

  get members(): ReadonlyMap<string, MemberPool> {
    return this.#members
  }

  get serverCount(): number {
    return this.#homes.size
  }

  get isWaitedFor(): boolean {
    return this.waiting.length > 0 || this.#welcomes.length > 0
  }

  get isPaused(): boolean {
    return this.#context.isPaused(this.database)
  }

  // Sessions

  /** A session logged in, or went. */
  join(): void {
    this.clients += 1
  }

  leave(): void {
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
    this.#use()
    const failing = this.#welcomes.known === null ? this.#failingEverywhere() : null
    const answer = this.#welcomes.ask(failing)
    this.#launch()
    return answer
  }

  /** Grants inside the call when a fitting server is free; else the session is queued. */
  acquire(waiter: Waiter): void {
    this.#use()
    const nowMs = this.#context.clock.nowMs()
    waiter.waitingSinceMs = nowMs
    const { stopping } = this.#context
    const placement = this.waiting.place(waiter, nowMs, nowMs)
    if (stopping !== null) {
      waiter.refused(stopping)
      return
    }
    if (placement.kind === 'refused') {
      waiter.refused(placement.error)
      return
    }
    const server = this.isPaused ? null : this.#pick(placement, waiter)
    if (server !== null) {
      this.#grant(server, waiter, placement.kind === 'member' && placement.isPrimaryRead)
      return
    }
    const failing = this.#failingFor(placement)
    if (failing !== null) {
      waiter.refused(failing)
      return
    }
    this.waiting.add(waiter, placement, nowMs)
    this.#launch()
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
    this.#endPrimaryRead(server)
    const member = this.#homes.get(server)
    if (member === undefined || server.state === 'closed') return
    invariant(server.state === 'active', 'a server is released by who holds it')
    this.lastUsedMs = this.#context.tickMs
    if (!server.isIdle) {
      const error = new ProxyError('server_protocol', { reason: 'given back while not idle' })
      this.close(server, 'not_idle', error)
      return
    }
    const reason = this.#retireReason(server, member)
    if (reason !== null) this.close(server, reason)
    else if (server.cancelsUnderWay > 0) member.move(server, 'active_cancel', this.#context.tickMs)
    else this.#clean(server, member)
  }

  /** The holder is done with it and it must not be used again. The holder is not called any more. */
  discard(server: ServerConnection, error: ProxyError): void {
    const { holder } = server
    if (holder !== null) server.unhold(holder)
    this.close(server, 'discarded', error)
  }

  /**
   * Forwards a cancel request. Until the cancel connection ended the server is not handed on: the
   * request would hit the next session's statement.
   */
  cancel(server: ServerConnection): void {
    if (server.state !== 'active') return
    server.cancelsUnderWay += 1
    this.#context.cancel(server).then(
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
    this.#use()
    const member = this.#replicationMember(request.role)
    const server = await openReplicationServer(this, {
      request,
      member,
      context: this.#context,
      opener: this.opener,
    })
    this.#homes.set(server, member)
    this.#replications.set(server, request.replication)
    server.isDoomed = true
    member.move(server, 'idle', this.#context.tickMs)
    member.move(server, 'active', this.#context.tickMs)
    server.hold(holder)
    server.begin()
    return server
  }

  // Called by Pools

  /** The topology changed in what decides where sessions go. */
  onTopology(): void {
    this.#syncMembers()
    this.#refreshView()
    this.#resettle()
  }

  /** New samples came; members and roles are the same. */
  onSamples(): void {
    this.#view = this.#context.view
    this.#refreshView()
    if (this.waiting.length === 0) return
    if (this.waiting.isHeldWrongly(this.#context.clock.nowMs())) this.#resettle()
  }

  setConfig(config: PoolConfig): void {
    const isSame = sameServers(this.#config, config)
    this.#config = config
    if (!isSame) this.doom('changed')
    this.#syncMembers()
    this.#refreshView()
    this.#resettle()
  }

  /** Looks again at what can be granted and opened. */
  advance(): void {
    if (this.isPaused || this.#context.stopping !== null) return
    for (const member of this.#members.values()) this.#matchIdle(member)
    this.#launch()
  }

  /** After PAUSE ended: those who wait are settled in order. */
  resume(): void {
    this.#resettle()
  }

  /** Free servers are closed now, the others when they come back. */
  doom(reason: CloseReason): void {
    for (const server of this.#homes.keys()) this.#doomServer(server, reason)
  }

  /** Free servers are closed now; what works goes on and is closed when it comes back. */
  closeFree(reason: CloseReason): void {
    for (const server of this.#homes.keys())
      if (server.state === 'idle' || server.state === 'used') this.close(server, reason)
  }

  destroyAll(reason: CloseReason, error: ProxyError): void {
    this.#welcomes.refuse(error)
    for (const server of this.#homes.keys()) this.close(server, reason, error)
  }

  refuseAll(error: ProxyError): void {
    this.#welcomes.refuse(error)
    this.waiting.refuseAll(error)
  }

  /** Servers that are to be closed when they come back: what WAIT_CLOSE waits for. */
  get hasDoomed(): boolean {
    for (const server of this.#homes.keys())
      if (server.isDoomed && !this.#replications.has(server)) return true
    return false
  }

  /** One turn of the janitor for what waits. */
  sweepWaits(nowMs: number): void {
    const { pgbouncer } = this.#context.config
    this.#welcomes.sweep(nowMs, pgbouncer.clientLoginTimeoutMs)
    this.waiting.sweep(nowMs)
    this.onSamples()
    for (const [server, sinceMs] of this.#closing) {
      if (nowMs - sinceMs < CLOSE_MS_MAX) continue
      this.#closing.delete(server)
      server.destroy(new ProxyError('server_lost'))
    }
    this.advance()
  }

  /** Runs the check query on a server that was not used for long. */
  check(server: ServerConnection, member: MemberPool): void {
    const sql = this.#context.config.pgbouncer.serverCheckQuery
    member.move(server, 'tested', this.#context.tickMs)
    if (sql === null) this.#handOn(server, member)
    else this.#runOwn(server, member, { sql, reason: 'check' })
  }

  /** Ends a server for good. With an error it is cut off, without one it ends in good order. */
  close(server: ServerConnection, reason: CloseReason, error?: ProxyError): void {
    const member = this.#homes.get(server)
    if (member === undefined || server.state === 'closed') return
    this.#drop(server, member, reason)
    if (error !== undefined || !server.isIdle) {
      server.destroy(error ?? new ProxyError('server_lost'))
    } else {
      this.#closing.set(server, this.#context.tickMs)
      server.close()
    }
    this.#context.onRoom(member.name)
  }

  isReplication(server: ServerConnection): boolean {
    return this.#replications.has(server)
  }

  /** Whether sessions may be sent to the member now. */
  mayServe(member: MemberPool): boolean {
    if (member.role === 'replica')
      return this.#view.eligible.some(({ name }) => name === member.name)
    return member.role === 'plain' || member === this.#primaryMember()
  }

  facts(): PoolFacts {
    return poolFacts(this, this.#context)
  }

  serversFacts(): ServerFacts[] {
    return [...this.#homes.keys()].map((server) =>
      serverFacts(server, {
        clock: this.#context.clock,
        database: this.database,
        user: this.user,
        replication: this.#replications.get(server) ?? 'none',
      }),
    )
  }

  // Choosing

  /** A free server for the placement, or null. */
  #pick(placement: Placement, waiter: Waiter): ServerConnection | null {
    if (placement.kind === 'member') {
      const member = this.#members.get(placement.member)
      return member === undefined ? null : this.#freeOf(member, waiter)
    }
    if (placement.kind === 'replicas') return this.#pickReplica(placement.members, waiter)
    if (placement.kind !== 'any') return null
    for (const member of this.#members.values()) {
      const server = this.#freeOf(member, waiter)
      if (server !== null) return server
    }
    return null
  }

  /** The member drawn by the balance; when it has nothing free, another, while it gets one more. */
  #pickReplica(members: readonly Member[], waiter: Waiter): ServerConnection | null {
    const first = this.#drawPool(members)
    if (first === undefined) return null
    const server = this.#freeOf(first, waiter)
    if (server !== null) return server
    for (const { name } of members) {
      const member = this.#members.get(name)
      const other = member === undefined || member === first ? null : this.#freeOf(member, waiter)
      if (other === null) continue
      if (first.openings.size === 0) this.opener.open(first, 0)
      return other
    }
    return null
  }

  #freeOf(member: MemberPool, waiter: Waiter): ServerConnection | null {
    if (member.idleCount === 0) return null
    const isRoundRobin = this.#context.config.pgbouncer.serverRoundRobin
    return member.idleFor(waiter.settings, isRoundRobin, this.#fits)
  }

  #draw(members: readonly Member[]): Member | null {
    return chooseMember(members, {
      random: this.#context.random,
      zone: this.#context.config.pgsteer.zone ?? '',
      outstanding: ({ name }) => this.#members.get(name)?.outstanding ?? 0,
    })
  }

  #drawPool(members: readonly Member[]): MemberPool | undefined {
    const drawn = this.#draw(members)
    return drawn === null ? undefined : this.#members.get(drawn.name)
  }

  /** Nothing new is sent to a primary's server of an older term, or while no primary is named. */
  #isUsable(server: ServerConnection): boolean {
    if (server.isDoomed) return false
    const { role, term, member } = server.identity
    if (role === 'plain') return true
    if (role === 'replica') return this.#members.get(member)?.role === 'replica'
    const { topology } = this.#context.view
    return topology.primary === member && topology.term === term
  }

  // Granting

  #grant(server: ServerConnection, waiter: Waiter, isPrimaryRead: boolean): void {
    const member = this.#homes.get(server)
    invariant(member !== undefined, 'a server that is granted has a home')
    if (isPrimaryRead) {
      this.#context.primaryReads += 1
      this.#primaryReads.add(server)
    }
    if (server.state !== 'active') member.move(server, 'active', this.#context.tickMs)
    server.requestMs = this.#context.tickMs
    server.hold(waiter)
    waiter.waitReason = null
    waiter.granted(server)
  }

  #grantTicket(server: ServerConnection, ticket: Ticket): void {
    const { isPrimaryRead, waiter } = ticket
    this.waiting.remove(waiter)
    this.#grant(server, waiter, isPrimaryRead)
  }

  #endPrimaryRead(server: ServerConnection): void {
    if (this.#primaryReads.delete(server)) this.#context.primaryReads -= 1
  }

  /** The server is clean and nobody has it. */
  #handOn(server: ServerConnection, member: MemberPool): void {
    const reason = this.#retireReason(server, member)
    if (reason !== null) {
      this.close(server, reason)
      return
    }
    const next = this.waiting.nextFor(member)
    if (next !== null) this.#grantTicket(server, next)
    else member.move(server, 'idle', this.#context.tickMs)
  }

  #matchIdle(member: MemberPool): void {
    while (member.idleCount > 0) {
      const next = this.waiting.nextFor(member)
      const server = next === null ? null : this.#freeOf(member, next.waiter)
      if (next === null || server === null) return
      this.#grantTicket(server, next)
    }
  }

  /** Everybody who waits is placed anew, in order of arrival. */
  #resettle(): void {
    const nowMs = this.#context.clock.nowMs()
    const tickets = this.waiting.all()
    for (const ticket of tickets) this.waiting.lift(ticket)
    for (const ticket of tickets) {
      if (!this.waiting.has(ticket.waiter) || ticket.queue !== null) continue
      const placement = this.waiting.place(ticket.waiter, ticket.sinceMs, nowMs)
      const server = this.isPaused ? null : this.#pick(placement, ticket.waiter)
      if (server === null) {
        this.waiting.put(ticket, placement, nowMs)
        continue
      }
      ticket.isPrimaryRead = false
      this.waiting.remove(ticket.waiter)
      this.#grant(server, ticket.waiter, placement.kind === 'member' && placement.isPrimaryRead)
    }
    this.#launch()
  }

  // Cleaning, cancelling, ending

  #clean(server: ServerConnection, member: MemberPool): void {
    const sql = cleaningSql(server, this.#config, this.#context.config)
    if (sql === '') {
      this.#handOn(server, member)
      return
    }
    member.move(server, 'tested', this.#context.tickMs)
    this.#runOwn(server, member, { sql, reason: 'clean' })
  }

  #runOwn(
    server: ServerConnection,
    member: MemberPool,
    step: { readonly sql: string; readonly reason: 'check' | 'clean' },
  ): void {
    server.run(Buffer.from(step.sql).toString('latin1'), (error) => {
      if (server.state === 'closed') return
      if (error !== null) {
        this.close(server, step.reason, error)
        return
      }
      if (step.reason === 'clean') noteCleaned(server, step.sql)
      this.#handOn(server, member)
    })
  }

  #onCancelled(server: ServerConnection): void {
    server.cancelsUnderWay -= 1
    const member = this.#homes.get(server)
    if (member === undefined || server.state !== 'active_cancel') return
    if (server.isDoomed) this.close(server, 'cancel')
    else if (server.cancelsUnderWay === 0) this.#clean(server, member)
  }

  #retireReason(server: ServerConnection, member: MemberPool): CloseReason | null {
    if (this.#replications.has(server)) return 'replication'
    if (server.isDoomed) return 'doomed'
    if (this.isPaused) return 'paused'
    if (this.#context.stopping !== null) return 'shutdown'
    if (member.isGone) return 'member_gone'
    if (server.identity.role !== member.role) return 'promoted'
    const { term, role } = server.identity
    if (role === 'primary' && term !== this.#context.view.topology.term) return 'fenced'
    return this.isLifeOver(server, member) ? 'lifetime' : null
  }

  /**
   * Servers that were opened together do not end together: one per member and part of the lifetime.
   * Source  PgBouncer's life_over.
   */
  isLifeOver(server: ServerConnection, member: MemberPool): boolean {
    const { serverLifetimeMs, poolSize } = this.#config
    const nowMs = this.#context.tickMs
    if (nowMs - server.openedMs < serverLifetimeMs) return false
    const gapMs = poolSize > 0 ? serverLifetimeMs / poolSize : 0
    return nowMs - member.lastLifetimeCloseMs >= gapMs
  }

  #doomServer(server: ServerConnection, reason: CloseReason): void {
    server.isDoomed = true
    if (server.state === 'idle' || server.state === 'used') this.close(server, reason)
  }

  #drop(server: ServerConnection, member: MemberPool, reason: CloseReason): void {
    if (reason === 'lifetime') member.lastLifetimeCloseMs = this.#context.tickMs
    member.move(server, 'closed', this.#context.tickMs)
    this.#homes.delete(server)
    this.#replications.delete(server)
    this.#endPrimaryRead(server)
    this.#context.limits.give(member.slot)
    this.serversClosed[reason] = (this.serversClosed[reason] ?? 0) + 1
    this.#context.log.debug(
      { server: server.id, member: server.identity.member, reason },
      'server closed',
    )
  }

  #onLost(server: ServerConnection, error: ProxyError): void {
    this.#closing.delete(server)
    const member = this.#homes.get(server)
    if (member === undefined) return
    this.#drop(server, member, 'lost')
    this.#context.log.info(
      { server: server.id, member: server.identity.member, database: this.database },
      `server lost: ${error.message}`,
    )
    this.#context.onRoom(member.name)
    this.#launch()
  }

  // Opening

  #onOpened(server: ServerConnection, member: MemberPool): void {
    this.#homes.set(server, member)
    const { connectQuery } = this.#config
    member.move(server, 'tested', this.#context.tickMs)
    this.#welcomes.learn(server.defaults)
    this.#refreshView()
    server.begin()
    if (this.#homes.get(server) !== member) return
    if (connectQuery === null) this.#handOn(server, member)
    else this.#runOwn(server, member, { sql: connectQuery, reason: 'check' })
    this.#launch()
  }

  #onOpenFailed(member: MemberPool, error: ProxyError): void {
    this.#refreshView()
    if (refusesWaiters(member, error)) {
      for (const ticket of [...member.waiters]) this.waiting.refuse(ticket, error)
      if (this.#failingEverywhere() !== null) this.refuseAll(error)
    }
    this.#resettle()
  }

  /** Opens what those who wait need, and no more than is under way already. */
  #launch(): void {
    if (this.isPaused || this.#context.stopping !== null) return
    if (this.waiting.length > 0) supply(this.#supplyOwner, this.#context.clock.nowMs())
    if (this.#welcomes.length > 0 && !this.#isOpening()) this.#openForWelcome()
  }

  #primaryMember(): MemberPool | undefined {
    const { primary } = this.#context.view
    return primary === null ? undefined : this.#members.get(primary.name)
  }

  #isOpening(): boolean {
    for (const member of this.#members.values()) if (member.openings.size > 0) return true
    return false
  }

  /** Any member will do: those that serve first, then whoever answered a probe. */
  #openForWelcome(): void {
    for (const member of this.#candidates()) if (this.opener.open(member, 0)) return
  }

  /** Where anybody can be served: replicas first. */
  #serving(): MemberPool[] {
    return [...this.#members.values()]
      .filter((member) => this.mayServe(member))
      .toSorted((one, other) => Number(one.role === 'primary') - Number(other.role === 'primary'))
  }

  #candidates(): MemberPool[] {
    if (this.#plain !== null) return [this.#plain]
    const { primary, eligible, topology } = this.#context.view
    const seen = topology.members.filter((member) => member.sample !== null)
    const names = new Set([...eligible, ...(primary === null ? [] : [primary]), ...seen])
    return [...names].flatMap(({ name }) => this.#members.get(name) ?? [])
  }

  // Failures

  /** The error when no member can be logged in to and there is no server left; else null. */
  #failingEverywhere(): ProxyError | null {
    if (this.#homes.size > 0) return null
    let last: ProxyError | null = null
    const candidates = this.#candidates()
    for (const member of candidates) {
      const isHopeless = member.role === 'plain' || member.failure?.isFinal === true
      if (!isHopeless || !this.opener.isFailing(member)) return null
      last = member.failure?.error ?? null
    }
    return last === null ? null : failing(last)
  }

  /** A session that would wait for a member that just refused us is told at once. */
  #failingFor(placement: Placement): ProxyError | null {
    if (placement.kind !== 'member') return null
    const member = this.#members.get(placement.member)
    if (member === undefined || member.failure === null || member.size > 0) return null
    if (member.role !== 'plain' && !member.failure.isFinal) return null
    return this.opener.isFailing(member) ? failing(member.failure.error) : null
  }

  // Members

  #use(): void {
    this.lastUsedMs = this.#context.tickMs
    if (this.isForgotten) this.#context.adopt(this)
  }

  /** Replicas that this pool cannot log in to do not count as able to serve its reads. */
  #refreshView(): void {
    const { view } = this.#context
    const isOut = ({ name }: Member): boolean => {
      const member = this.#members.get(name)
      return member !== undefined && member.serverCount === 0 && this.opener.isFailing(member)
    }
    this.#view = view.eligible.some(isOut)
      ? { ...view, eligible: view.eligible.filter((member) => !isOut(member)) }
      : view
  }

  #syncMembers(): void {
    if (!this.#config.isRouted) {
      this.#syncPlain()
      return
    }
    if (this.#plain !== null) this.#removeMember(this.#plain)
    this.#plain = null
    const { topology } = this.#context.view
    const names = new Set(topology.members.map(({ name }) => name))
    for (const member of this.#members.values())
      if (!names.has(member.name)) this.#removeMember(member)
    for (const { name, host, port } of topology.members) {
      const role = name === topology.primary ? 'primary' : 'replica'
      this.#syncMember(name, role, { host, port })
    }
  }

  #syncMember(
    name: string,
    role: 'primary' | 'replica',
    address: { readonly host: string; readonly port: number },
  ): void {
    const member = this.#members.get(name) ?? this.#addMember(name, role)
    const [old] = member.addresses
    const isMoved = old !== undefined && (old.host !== address.host || old.port !== address.port)
    const isOtherRole = member.role !== role
    if (isMoved || old === undefined) member.addresses = [address]
    member.role = role
    if (isMoved || isOtherRole) member.failure = null
    const { term, missing } = this.#context.view.topology
    for (const server of member.servers()) {
      const { identity } = server
      if (identity.role === 'primary' && identity.term !== term)
        this.close(server, 'fenced', new ProxyError('primary_lost', { reason: missing }))
      else if (isMoved) this.#doomServer(server, 'changed')
      else if (identity.role === 'replica' && role === 'primary')
        this.#doomServer(server, 'promoted')
    }
  }

  #syncPlain(): void {
    const { hosts, port } = this.#config
    const name = hosts.map((host) => `${host}:${port}`).join(',')
    for (const member of this.#members.values())
      if (member.name !== name) this.#removeMember(member)
    const member = this.#members.get(name) ?? this.#addMember(name, 'plain')
    member.addresses = hosts.map((host) => ({ host, port }))
    this.#plain = member
  }

  #addMember(name: string, role: 'primary' | 'replica' | 'plain'): MemberPool {
    const slot: Slot = { member: name, database: this.database, user: this.#config.serverUser }
    const member = new MemberPool(slot, role, { addresses: [], waiters: ticketQueue() })
    this.#members.set(name, member)
    return member
  }

  /** Its free servers end now, the others when they come back; its waiters are placed anew. */
  #removeMember(member: MemberPool): void {
    member.isGone = true
    this.#members.delete(member.name)
    for (const server of member.servers()) this.#doomServer(server, 'member_gone')
  }

  #replicationMember(role: 'primary' | 'replica'): MemberPool {
    if (this.#plain !== null) return this.#plain
    const drawn = role === 'replica' ? this.#draw(this.#view.eligible) : this.#context.view.primary
    const member = drawn === null ? undefined : this.#members.get(drawn.name)
    if (member !== undefined) return member
    const { missing } = this.#context.view.topology
    const reason = role === 'replica' ? 'no replica is eligible' : missing
    throw new ProxyError('replication_refused', { reason })
  }
}

/** How long a server may take to close its side. */
const CLOSE_MS_MAX = 5000

function failing(error: ProxyError): ProxyError {
  return new ProxyError('server_login_failing', { reason: error.message }, error)
}

/** Whether servers opened under the one are as good under the other. */
function sameServers(one: PoolConfig, other: PoolConfig): boolean {
  const keys = [
    'isRouted',
    'port',
    'serverDatabase',
    'serverUser',
    'serverPassword',
    'connectQuery',
  ] as const
  if (keys.some((key) => one[key] !== other[key])) return false
  if (one.hosts.join() !== other.hosts.join()) return false
  const settings = (config: PoolConfig): string => JSON.stringify([...config.settings])
  return settings(one) === settings(other)
}
