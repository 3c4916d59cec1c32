/**
 * The sessions that wait in one pool: in the queue of the member that must serve them, in the one of
 * all replicas, in the one of anybody, or held until the cluster can serve them. First come, first
 * served among those whom the same server may serve.
 *
 *     member lanes   pg1 | w1 w5 |   pg2 | r2 |        writes; reads that stay with their replica
 *     replicas           | r3 r4 |                     reads that any eligible replica may serve
 *     any                | a6 |
 *     held               until primary | w7 |   until replica | r8 |
 */
import { ProxyError } from '../base/errors.ts'
import { invariant } from '../base/invariant.ts'
import type { Queue } from '../base/queue.ts'
import type { PoolContext } from './context.ts'
import type { WaitFacts, WaitReasonFacts } from './facts.ts'
import { holdMsMax, shareOf } from './limits.ts'
import type { MemberPool } from './member-pool.ts'
import { type HoldReason, holdReason, missingText, type Placement, place } from './placement.ts'
import type { PoolState } from './pool.ts'
import type { Roster } from './roster.ts'
import type { Settings } from './settings.ts'
import { type Ticket, Tickets, ticketQueue } from './tickets.ts'
import type { Waiter } from './waiter.ts'

/** Reads looked at for one whose bound a freed replica meets. */
const BOUND_LOOK_MAX = 32

/** Those who wait looked at for one who may share a server. */
const RIDERS_LOOK_MAX = 32

/** Source: PGBOUNCER.md 3, query_wait_notify. */
export const QUEUED_NOTICE =
  'No server connection available in postgres backend, client being queued'

export class Waiting {
  readonly replicas = ticketQueue()
  readonly any = ticketQueue()
  readonly heldPrimary = ticketQueue()
  readonly heldReplica = ticketQueue()
  readonly #tickets = new Tickets()
  /** What those in `heldPrimary` were told. */
  #heldFor: HoldReason = 'primary'
  readonly #context: PoolContext
  readonly #state: Readonly<PoolState>
  readonly #roster: Roster

  constructor(context: PoolContext, state: Readonly<PoolState>, roster: Roster) {
    this.#context = context
    this.#state = state
    this.#roster = roster
  }

  get length(): number {
    return this.#tickets.length
  }

  /** Arrival of the session that waits for longest; Infinity when none does. */
  get sinceMs(): number {
    return this.#tickets.first?.sinceMs ?? Number.POSITIVE_INFINITY
  }

  /** Whether the session still waits and is to be put somewhere. */
  isLifted(ticket: Ticket): boolean {
    return this.#waits(ticket) && ticket.queue === null
  }

  /** Where the session belongs now. */
  place(waiter: Waiter, sinceMs: number, nowMs: number): Placement {
    const known = this.#roster.placementOf(waiter, nowMs)
    const isJudged = (waiter.minLsn ?? null) === null || this.#roster.plain !== null
    if (known !== null && isJudged) return known
    const { pgsteer } = this.#context.config
    const readsMax = shareOf(pgsteer.primaryReadsMax, this.#context.config)
    return place(waiter, sinceMs, {
      view: this.#roster.view,
      bounds: this.#context.bounds,
      noReplica: pgsteer.noReplica,
      consistency: this.#state.config.consistency,
      replicaWaitMs: pgsteer.replicaWaitMs,
      holdMsMax: holdMsMax(this.#context.config),
      primaryReadsFull: readsMax > 0 && this.#context.primaryReads >= readsMax,
      nowMs,
    })
  }

  /** Queues a session that came now, or refuses it. Writes do not use up the places of reads. */
  add(waiter: Waiter, placement: Placement, nowMs: number): void {
    const { config } = this.#context
    const { writes, length } = this.#tickets
    const others = waiter.wantsRole === 'primary' ? writes : length - writes
    if (others >= shareOf(config.pgsteer.waitersMax, config)) {
      waiter.waitReason = null
      waiter.refused(new ProxyError('waiters_full'))
      return
    }
    this.put(this.#tickets.add(waiter, nowMs), placement, nowMs)
  }

  /** Puts a ticket that is in no queue where its placement says. */
  put(ticket: Ticket, placement: Placement, nowMs: number): void {
    if (placement.kind === 'refused') {
      this.refuse(ticket, placement.error)
      return
    }
    if (placement.kind === 'held') {
      this.#hold(ticket, placement.until, nowMs)
      return
    }
    if (ticket.heldSinceMs !== null) ticket.queuedSinceMs = nowMs
    ticket.heldSinceMs = null
    if (placement.kind === 'member') this.#joinMember(ticket, placement)
    else this.#tickets.join(ticket, placement.kind === 'any' ? this.any : this.replicas)
    this.#explain(ticket, 'pool')
  }

  /** Takes the ticket out of its queue, and out of the counts that come with it, to be put anew. */
  lift(ticket: Ticket): void {
    this.#tickets.leave(ticket)
    if (ticket.heldBytes !== null) this.#context.holds.give(ticket.heldBytes)
    ticket.heldBytes = null
    if (ticket.isPrimaryRead) this.#context.primaryReads -= 1
    ticket.isPrimaryRead = false
  }

  /** The session leaves; returns false when it did not wait. */
  remove(waiter: Waiter): boolean {
    const ticket = this.#tickets.of(waiter)
    if (ticket === undefined) return false
    this.#forget(ticket)
    return true
  }

  /** Refusing the one before may have freed a server for it: then it does not wait any more. */
  refuse(ticket: Ticket, error: ProxyError): void {
    if (!this.#waits(ticket)) return
    this.#forget(ticket)
    ticket.waiter.refused(error)
  }

  refuseAll(error: ProxyError): void {
    for (const ticket of this.#tickets.all()) this.refuse(ticket, error)
  }

  /** In order of arrival. */
  all(): readonly Ticket[] {
    return this.#tickets.all()
  }

  /** The oldest session that a free server of `member` may serve; null when there is none. */
  nextFor(member: MemberPool): Ticket | null {
    if (this.#tickets.length === 0) return null
    let oldest = member.waiters.first ?? null
    const read = member.role === 'replica' ? this.#nextRead(member) : null
    if (read !== null && (oldest === null || read.sequence < oldest.sequence)) oldest = read
    const any = this.any.first ?? null
    if (any !== null && (oldest === null || any.sequence < oldest.sequence)) oldest = any
    return oldest
  }

  /** Sessions that wait and may share a server. */
  get riders(): number {
    return this.#tickets.riders
  }

  /** The oldest that may share a server of `member` with those of these settings; null: none. */
  nextRider(member: MemberPool, settings: Settings): Ticket | null {
    if (this.#tickets.riders === 0) return null
    const own = firstRider(member.waiters, settings)
    if (member.role !== 'replica') return own
    const read = firstRider(this.replicas, settings)
    if (read === null || !this.#isFor(read, member)) return own
    return own === null || read.sequence < own.sequence ? read : own
  }

  /** How many may share one, up to two. */
  ridersOf(member: MemberPool, settings: Settings): number {
    if (this.#tickets.riders < 2) return this.#tickets.riders
    let count = 0
    for (const queue of this.#queuesOf(member)) {
      let looked = 0
      for (const ticket of queue) {
        if (isRider(ticket) && ticket.waiter.settings === settings) count += 1
        looked += 1
        if (count === 2 || looked === RIDERS_LOOK_MAX) break
      }
    }
    return Math.min(count, 2)
  }

  #queuesOf(member: MemberPool): Queue<Ticket>[] {
    return member.role === 'replica' ? [member.waiters, this.replicas] : [member.waiters]
  }

  #isFor(read: Ticket, member: MemberPool): boolean {
    const placement = this.place(read.waiter, read.sinceMs, this.#context.clock.nowMs())
    if (placement.kind !== 'replicas') return false
    return placement.members.some(({ name }) => name === member.name)
  }

  /** How many of those who wait for a server of `member` could share none with these settings. */
  loners(member: MemberPool, settings: readonly Settings[]): number {
    let count = 0
    for (const queue of this.#queuesOf(member)) {
      let looked = 0
      for (const ticket of queue) {
        if (looked === RIDERS_LOOK_MAX) break
        looked += 1
        if (!isRider(ticket) || !settings.includes(ticket.waiter.settings)) count += 1
      }
    }
    // Nobody boards from there.
    return count + Math.min(this.any.length, RIDERS_LOOK_MAX)
  }

  /** Whether the samples that came let a held session go on. */
  isHeldWrongly(nowMs: number): boolean {
    if (this.#isPrimaryMisjudged(nowMs)) return true
    for (const queue of [this.heldReplica, this.heldPrimary]) {
      const until = queue === this.heldReplica ? 'replica' : 'primary'
      for (const ticket of queue) {
        if (until === 'primary' && ticket.waiter.wantsRole === 'primary') continue
        const placement = this.place(ticket.waiter, ticket.sinceMs, nowMs)
        if (placement.kind !== 'held' || placement.until !== until) return true
      }
    }
    return this.#isMisplacedRead(nowMs)
  }

  /** Held though the primary may serve, or queued at the primary though it may not, or no longer so. */
  #isPrimaryMisjudged(nowMs: number): boolean {
    const reason = holdReason(this.#context.view, nowMs)
    if (reason === null) return this.heldPrimary.length > 0
    const isQueued = (this.#roster.primary?.waiters.length ?? 0) > 0
    return isQueued || (this.heldPrimary.length > 0 && reason !== this.#heldFor)
  }

  /** A read queued for other replicas whose own has caught up, or for which none is left. */
  #isMisplacedRead(nowMs: number): boolean {
    let looked = 0
    for (const ticket of this.replicas) {
      if (looked === BOUND_LOOK_MAX) return false
      looked += 1
      if (this.place(ticket.waiter, ticket.sinceMs, nowMs).kind !== 'replicas') return true
    }
    return false
  }

  /** Ends waits that took too long and tells clients that wait. */
  sweep(nowMs: number): void {
    const { queryWaitTimeoutMs } = this.#state.config
    const notifyMs = this.#context.config.pgbouncer.queryWaitNotifyMs
    for (const ticket of this.#tickets.all()) {
      if (!this.#waits(ticket)) continue
      if (this.#isHoldOver(ticket, nowMs)) continue
      const queuedMs = ticket.heldSinceMs === null ? nowMs - ticket.queuedSinceMs : 0
      if (queryWaitTimeoutMs > 0 && queuedMs >= queryWaitTimeoutMs) {
        this.refuse(ticket, new ProxyError('query_wait_timeout'))
      } else if (notifyMs > 0 && nowMs - ticket.sinceMs >= notifyMs && !ticket.isNotified) {
        ticket.isNotified = true
        ticket.waiter.notify(QUEUED_NOTICE)
      }
    }
  }

  facts(nowMs: number): WaitFacts {
    let heldBytes = 0
    for (const ticket of this.heldPrimary) heldBytes += ticket.waiter.waitingBytes
    for (const ticket of this.heldReplica) heldBytes += ticket.waiter.waitingBytes
    const [oldest] = this.#tickets.all()
    return {
      waiting: this.#tickets.length,
      held: this.heldPrimary.length + this.heldReplica.length,
      heldBytes,
      oldestWaitMs: oldest === undefined ? 0 : nowMs - oldest.sinceMs,
      reasons: this.#reasons(nowMs),
    }
  }

  #reasons(nowMs: number): WaitReasonFacts[] {
    const groups = Map.groupBy(this.#tickets.all(), ({ waiter }) => waiter.waitReason ?? 'pool')
    return [...groups].map(([reason, tickets]) => ({
      reason,
      clients: tickets.length,
      bytes: tickets.reduce((sum, { waiter }) => sum + waiter.waitingBytes, 0),
      oldestMs: nowMs - (tickets[0]?.sinceMs ?? nowMs),
    }))
  }

  #joinMember(ticket: Ticket, placement: Placement & { kind: 'member' }): void {
    const member = this.#roster.members.get(placement.member)
    invariant(member !== undefined, 'a pool has every member of its topology')
    ticket.isPrimaryRead = placement.isPrimaryRead
    if (placement.isPrimaryRead) this.#context.primaryReads += 1
    this.#tickets.join(ticket, member.waiters)
  }

  #hold(ticket: Ticket, until: 'primary' | 'replica', nowMs: number): void {
    const { holds, config, view } = this.#context
    const reason = holdReason(view, nowMs) ?? 'primary'
    if (until === 'replica') {
      this.#tickets.join(ticket, this.heldReplica)
      this.#explain(ticket, 'replica')
      return
    }
    const { waitingBytes } = ticket.waiter
    if (!holds.take(waitingBytes, ticket.isWrite, config)) {
      this.refuse(ticket, new ProxyError('hold_full', { reason: missingText(view, nowMs) }))
      return
    }
    ticket.heldBytes = waitingBytes
    ticket.heldSinceMs ??= nowMs
    this.#tickets.join(ticket, this.heldPrimary)
    this.#heldFor = reason
    this.#explain(ticket, reason)
  }

  #explain(ticket: Ticket, reason: HoldReason | 'pool' | 'replica'): void {
    const isPaused = this.#context.isPaused(this.#state.config.database)
    ticket.waiter.waitReason = isPaused ? 'paused' : reason
  }

  #waits(ticket: Ticket): boolean {
    return this.#tickets.of(ticket.waiter) === ticket
  }

  #forget(ticket: Ticket): void {
    this.lift(ticket)
    this.#tickets.drop(ticket)
    ticket.waiter.waitReason = null
  }

  #nextRead(member: MemberPool): Ticket | null {
    if (this.replicas.length === 0) return null
    const nowMs = this.#context.clock.nowMs()
    let looked = 0
    for (const ticket of this.replicas) {
      if (looked === BOUND_LOOK_MAX) return null
      looked += 1
      const placement = this.place(ticket.waiter, ticket.sinceMs, nowMs)
      if (placement.kind !== 'replicas') continue
      if (placement.members.some(({ name }) => name === member.name)) return ticket
    }
    return null
  }

  #isHoldOver(ticket: Ticket, nowMs: number): boolean {
    if (ticket.heldSinceMs === null) return false
    const ms = nowMs - ticket.heldSinceMs
    if (ms < holdMsMax(this.#context.config)) return false
    const reason = missingText(this.#context.view, nowMs)
    this.refuse(ticket, new ProxyError('no_primary', { reason, ms: Math.round(ms) }))
    return true
  }
}

/** A read for want of a replica is counted, and served alone. */
function isRider({ isPrimaryRead, mayRide }: Ticket): boolean {
  return mayRide && !isPrimaryRead
}

function firstRider(queue: Iterable<Ticket>, settings: Settings): Ticket | null {
  let looked = 0
  for (const ticket of queue) {
    if (looked === RIDERS_LOOK_MAX) return null
    looked += 1
    if (isRider(ticket) && ticket.waiter.settings === settings) return ticket
  }
  return null
}
