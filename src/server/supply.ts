/**
 * How many servers to get ready for those who wait, and where: as many as nothing under way will
 * serve, and no more. A server that was unused for long is checked before a new one is opened.
 */
import type { Member } from '../cluster/topology.ts'
import type { ServerConnection } from './connection.ts'
import type { MemberPool } from './member-pool.ts'
import type { Opener } from './opener.ts'
import type { Roster } from './roster.ts'
import type { Ticket } from './tickets.ts'
import type { Waiting } from './waiting.ts'

export interface SupplyOwner {
  readonly roster: Roster
  readonly waiting: Waiting
  readonly opener: Opener
  /** Runs the check query; the server is handed on when it is answered. */
  check(server: ServerConnection, member: MemberPool): void
}

/** Waiting reads looked at for what they need; the others follow when these are served. */
const READS_LOOK_MAX = 32

/** Cost: constant while no member may get another server, which is what a full pool looks like. */
export function supply(owner: SupplyOwner, nowMs: number): void {
  for (const member of owner.roster.members.values()) {
    const underWay = member.openings.size + member.count('tested')
    const missing = member.waiters.length - underWay
    member.spare = Math.max(0, -missing)
    provide(owner, member, { oldest: member.waiters.first, nowMs }, missing)
  }
  const { replicas, any } = owner.waiting
  const { view } = owner.roster
  if (mayGrow(owner, { oldest: replicas.first, nowMs }, view.eligible)) supplyReads(owner, nowMs)
  if (any.length > 0) supplyAny(owner, nowMs)
}

/** Gets one server ready at `member` though nobody waits for it. */
export function prepare(owner: SupplyOwner, member: MemberPool): void {
  provide(owner, member, { oldest: undefined, nowMs: 0 }, 1)
}

interface Need {
  /** The oldest session that needs it: how long it waits decides over the reserve. */
  readonly oldest: Ticket | undefined
  readonly nowMs: number
}

/** Whether one of `members` may get another server, as far as its pool alone can say. */
function mayGrow(owner: SupplyOwner, need: Need, members: readonly Member[]): boolean {
  if (need.oldest === undefined) return false
  const waitedMs = need.nowMs - need.oldest.queuedSinceMs
  for (const { name } of members) {
    const member = owner.roster.members.get(name)
    if (member === undefined) continue
    if (member.count('used') > 0 || owner.opener.mayOpen(member, waitedMs)) return true
  }
  return false
}

/** Gets up to `count` servers ready at one member; returns whether it got all. */
function provide(owner: SupplyOwner, member: MemberPool, need: Need, count: number): boolean {
  const waitedMs = need.oldest === undefined ? 0 : need.nowMs - need.oldest.queuedSinceMs
  for (let index = 0; index < count; index += 1) {
    const [used] = member.count('used') > 0 ? member.inState('used') : []
    if (used !== undefined && owner.roster.isUsable(used)) owner.check(used, member)
    else if (!owner.opener.open(member, waitedMs)) return false
  }
  return true
}

/** Each read counts on a server under way at a member that may serve it, or gets a new one. */
function supplyReads(owner: SupplyOwner, nowMs: number): void {
  let looked = 0
  for (const ticket of owner.waiting.replicas) {
    if (looked === READS_LOOK_MAX) return
    looked += 1
    const placement = owner.waiting.place(ticket.waiter, ticket.sinceMs, nowMs)
    if (placement.kind !== 'replicas') continue
    if (takeSpare(owner, placement.members)) continue
    const isServed = provideOne(owner, placement.members, { oldest: ticket, nowMs })
    // Where every replica was asked in vain, the next ask in vain too.
    if (!isServed && placement.members.length === owner.roster.view.eligible.length) return
  }
}

/** At the member that the balance draws, or at another when that one cannot get a server. */
function provideOne(owner: SupplyOwner, members: readonly Member[], need: Need): boolean {
  let left = members
  for (;;) {
    const member = owner.roster.draw(left)
    if (member === undefined) return false
    if (provide(owner, member, need, 1)) return true
    left = left.filter(({ name }) => name !== member.name)
  }
}

function takeSpare(owner: SupplyOwner, members: readonly Member[]): boolean {
  for (const { name } of members) {
    const member = owner.roster.members.get(name)
    if (member === undefined || member.spare === 0) continue
    member.spare -= 1
    return true
  }
  return false
}

function supplyAny(owner: SupplyOwner, nowMs: number): void {
  const { any } = owner.waiting
  let missing = any.length
  for (const member of owner.roster.members.values()) missing -= member.spare
  for (const member of owner.roster.serving()) {
    if (missing <= 0) return
    if (provide(owner, member, { oldest: any.first, nowMs }, 1)) missing -= 1
  }
}
