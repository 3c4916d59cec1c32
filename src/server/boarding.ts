/**
 * Servers that sessions share for reads: when a pool has none left, a server that comes free is made
 * a carrier, on which the reads of several sessions stand behind each other. Decides which server
 * becomes one, who boards where, and when one has to make way for who needs a server alone. What
 * rides, and how it is answered, is the carrier's business.
 *
 * hot path: `isCrowded`, `board`, `fill`; constant while a pool has no carriers.
 */
import { invariant } from '../base/invariant.ts'
import type { Holder, ServerConnection } from './connection.ts'
import type { CloseReason } from './fleet.ts'
import type { MemberPool } from './member-pool.ts'
import type { Placement } from './placement.ts'
import type { Roster } from './roster.ts'
import type { Settings } from './settings.ts'
import type { Ticket } from './tickets.ts'
import type { Waiter } from './waiter.ts'
import type { Waiting } from './waiting.ts'

/** Who holds a server for several sessions at a time. */
export interface Carrier extends Holder {
  readonly server: ServerConnection
  /** Of its server, and of all who board. */
  readonly settings: Settings
  readonly home: MemberPool
  /** Answers that its server owes. */
  readonly count: number
  /** One more may board now. */
  readonly hasRoom: boolean
  readonly isRetiring: boolean
  /** It holds its server: begins to make it ready. */
  open(): void
  /** Nobody boards any more; the server is given back when it owes nothing. */
  retire(): void
}

/** What the pool knows. */
export interface BoardingOwner {
  readonly roster: Roster
  readonly waiting: Waiting
  /** Nobody is given anything now. */
  readonly isAtRest: boolean
  /** One more server could be opened: nobody has to share one. */
  mayGrow(member: MemberPool): boolean
  retireReason(server: ServerConnection, member: MemberPool): CloseReason | null
}

/** So few do not make up for a server that others wait for. */
const WORTH_RIDERS = 2

export class Boarding {
  /** Carriers that there are. */
  count = 0
  readonly #owner: BoardingOwner

  constructor(owner: BoardingOwner) {
    this.#owner = owner
  }

  /** Somebody who may share a server waits for one. */
  get hasRiders(): boolean {
    return this.#owner.waiting.riders > 0
  }

  /** Whether there would be no free server if everybody who rides had one. */
  isCrowded(placement: Placement): boolean {
    if (this.count === 0) return false
    if (placement.kind === 'member') return isCrowded(this.#member(placement.member))
    if (placement.kind !== 'replicas') return false
    return placement.members.every(({ name }) => isCrowded(this.#member(name)))
  }

  /** Lets the session board where its placement allows. Returns false when it has to wait. */
  board(waiter: Waiter, placement: Placement): boolean {
    // Who came first boards first.
    if (this.count === 0 || this.#owner.waiting.riders > 0) return false
    const carrier = this.#roomFor(waiter.settings, placement)
    if (carrier === null) return false
    waiter.boards?.(carrier)
    return true
  }

  /** A session was queued: it may board behind those who came before it, or needs a server alone. */
  onQueued({ mayRide, settings }: Waiter): void {
    if (this.count === 0) return
    for (const member of this.#owner.roster.members.values()) {
      let isRider = false
      for (const carrier of member.carriers) {
        if (mayRide !== true || carrier.isRetiring || carrier.settings !== settings) continue
        isRider = true
        this.fill(carrier)
      }
      if (!isRider) this.makeWay(member)
    }
  }

  /** Who waits boards, the oldest first, as long as there is room. */
  fill(carrier: Carrier): void {
    const { home, settings } = carrier
    const { roster, waiting } = this.#owner
    while (waiting.riders > 0 && carrier.hasRoom) {
      if (this.#owner.isAtRest || !roster.isUsable(carrier.server) || !roster.isOpen(home)) return
      const ticket = waiting.nextRider(home, settings)
      if (ticket === null) return
      waiting.remove(ticket.waiter)
      ticket.waiter.boards?.(carrier)
    }
  }

  /**
   * A server is free and clean, and the oldest session waits for it. Returns whether it shall be
   * shared: the carrier is at its member then, and opens by itself.
   */
  mayConvert(server: ServerConnection, member: MemberPool, ticket: Ticket): boolean {
    if (!ticket.mayRide || ticket.isPrimaryRead || server.isShared) return false
    const { waiter } = ticket
    if (server.settings !== waiter.settings) return false
    const { waiting } = this.#owner
    if (waiting.ridersOf(member, waiter.settings) < WORTH_RIDERS) return false
    if (this.#owner.mayGrow(member)) return false
    const shared = member.carriers.map(({ settings }) => settings)
    const loners = waiting.loners(member, [...shared, waiter.settings])
    const ordinary = member.serverCount - member.carriers.length - 1
    return loners === 0 || ordinary >= Math.min(loners, halfOf(member))
  }

  /** A carrier holds its server from here on. */
  join(carrier: Carrier): void {
    carrier.home.carriers.push(carrier)
    this.count += 1
  }

  /** It holds no server any more. Safe to call twice. */
  leave(carrier: Carrier): void {
    const { carriers } = carrier.home
    const index = carriers.indexOf(carrier)
    if (index === -1) return
    carriers.splice(index, 1)
    this.count -= 1
    invariant(this.count >= 0, 'who leaves has joined')
  }

  /** Its server would not be given to anybody now. */
  isOver({ home, server }: Carrier): boolean {
    return !this.#owner.roster.isUsable(server) || this.#owner.retireReason(server, home) !== null
  }

  /** A carrier is given up where those who can share none would get too little. */
  makeWay(member: MemberPool): void {
    const open = member.carriers.filter(({ isRetiring }) => !isRetiring)
    if (open.length === 0) return
    const settings = open.map((carrier) => carrier.settings)
    const loners = this.#owner.waiting.loners(member, settings)
    const ordinary = member.serverCount - open.length
    if (ordinary >= loners) return
    const [least] = open.toSorted((one, other) => one.count - other.count)
    if (least === undefined) return
    const isTooMany = ordinary < Math.min(loners, halfOf(member))
    if (isTooMany || least.count < WORTH_RIDERS) least.retire()
  }

  #roomFor(settings: Settings, placement: Placement): Carrier | null {
    if (placement.kind === 'member')
      return placement.isPrimaryRead ? null : this.#roomAt(placement.member, settings, null)
    if (placement.kind !== 'replicas') return null
    let best: Carrier | null = null
    for (const { name } of placement.members) best = this.#roomAt(name, settings, best)
    return best
  }

  /** The emptiest of those at the member, or `best` if that is emptier still. */
  #roomAt(name: string, settings: Settings, best: Carrier | null): Carrier | null {
    const member = this.#member(name)
    const { roster } = this.#owner
    if (member === undefined || this.#owner.mayGrow(member) || !roster.isOpen(member)) return best
    let found = best
    for (const carrier of member.carriers) {
      if (carrier.settings !== settings || !carrier.hasRoom) continue
      if (found !== null && found.count <= carrier.count) continue
      if (roster.isUsable(carrier.server)) found = carrier
    }
    return found
  }

  #member(name: string): MemberPool | undefined {
    return this.#owner.roster.members.get(name)
  }
}

function isCrowded(member: MemberPool | undefined): boolean {
  if (member === undefined || member.carriers.length === 0) return false
  let busy = member.count('active') - member.carriers.length
  for (const { count } of member.carriers) busy += count
  return busy >= member.serverCount
}

function halfOf(member: MemberPool): number {
  return Math.ceil(member.serverCount / 2)
}
