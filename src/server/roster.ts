/**
 * The members that one pool can have servers at, as the topology or the entry's hosts say, and what
 * changes in them end: fenced, moved, promoted, gone. Also which of them the pool cannot log in to.
 */

import { ProxyError } from '../base/errors.ts'
import type { Member } from '../cluster/topology.ts'
import type { PoolConfig } from '../config/config.ts'
import type { Address } from '../net/dial.ts'
import { chooseMember } from './balance.ts'
import type { ServerConnection } from './connection.ts'
import type { PoolContext } from './context.ts'
import type { Fleet } from './fleet.ts'
import { MemberPool, type PoolRole } from './member-pool.ts'
import type { Placement, TopologyView } from './placement.ts'
import { ticketQueue } from './tickets.ts'
import type { Waiter } from './waiter.ts'

export class Roster {
  /** The only member of a plain entry, else null. */
  plain: MemberPool | null = null
  /** The cluster without replicas that this pool cannot log in to. */
  view: TopologyView
  readonly #context: PoolContext
  readonly #fleet: Fleet
  readonly #members = new Map<string, MemberPool>()
  /** Where every session (plain), or every write, goes; made once per topology. */
  #only: Placement | null = null

  constructor(context: PoolContext, fleet: Fleet) {
    this.#context = context
    this.#fleet = fleet
    this.view = context.view
  }

  get members(): ReadonlyMap<string, MemberPool> {
    return this.#members
  }

  /** The servers at the member that a placement names. */
  named(member: string): MemberPool | undefined {
    const { plain } = this
    return plain !== null && plain.name === member ? plain : this.#members.get(member)
  }

  get primary(): MemberPool | undefined {
    const { primary } = this.#context.view
    return primary === null ? undefined : this.#members.get(primary.name)
  }

  /** Who is about to take over from the primary, as planned; the only replica if nobody is named. */
  get candidate(): MemberPool | null {
    const { switchover, members } = this.#context.view.topology
    if (switchover === null || this.plain !== null) return null
    const standbys = members.filter(({ role, sample }) => role === 'replica' && sample !== null)
    const [only] = standbys.length === 1 ? standbys : []
    const name = switchover.candidate ?? only?.name
    const isKnown = standbys.some((member) => member.name === name)
    return isKnown ? (this.#members.get(name ?? '') ?? null) : null
  }

  /** The placement that needs no judgement: of a plain entry, and of writes while they may begin. */
  placementOf(waiter: Waiter, nowMs: number): Placement | null {
    if (this.plain !== null) return this.#only
    const isWrite = waiter.wantsRole === 'primary'
    return isWrite && nowMs < this.#context.view.writesUntilMs ? this.#only : null
  }

  /** Whether something new may begin on servers of this member; the clock is read only if it counts. */
  isOpen(member: MemberPool): boolean {
    if (member.role !== 'primary') return true
    const { writesUntilMs } = this.#context.view
    if (writesUntilMs === Number.POSITIVE_INFINITY) return true
    return this.#context.clock.nowMs() < writesUntilMs
  }

  /** Whether sessions may be sent to the member now. */
  mayServe(member: MemberPool): boolean {
    if (member.role === 'replica')
      return this.view.eligible.some(({ name }) => name === member.name)
    return member.role === 'plain' || member === this.primary
  }

  /** Where statements that anybody can answer may go: replicas first. */
  serving(): MemberPool[] {
    const members = [...this.#members.values()].filter((member) => this.mayServe(member))
    return members.toSorted((one, other) => rank(one) - rank(other))
  }

  /** Where a log-in may learn what servers report: who serves first, then who answered a probe. */
  known(): MemberPool[] {
    if (this.plain !== null) return [this.plain]
    const { primary, eligible, topology } = this.#context.view
    const seen = topology.members.filter((member) => member.sample !== null)
    const members = new Set([...eligible, ...(primary === null ? [] : [primary]), ...seen])
    return [...members].flatMap(({ name }) => this.#members.get(name) ?? [])
  }

  /** The one of `members` that gets the next read. */
  draw(members: readonly Member[]): MemberPool | undefined {
    const drawn = chooseMember(members, {
      random: this.#context.random,
      zone: this.#context.config.pgsteer.zone ?? '',
      outstanding: ({ name }) => this.#members.get(name)?.outstanding ?? 0,
    })
    return drawn === null ? undefined : this.#members.get(drawn.name)
  }

  /** Nothing new is sent to a primary's server of an older term, or while no primary is named. */
  isUsable(server: ServerConnection): boolean {
    if (server.isDoomed) return false
    const { role, term, member } = server.identity
    if (role === 'plain') return true
    if (role === 'replica') return this.#members.get(member)?.role === 'replica'
    const { topology } = this.#context.view
    return topology.primary === member && topology.term === term
  }

  /** The error when no member can be logged in to and there is no server left; else null. */
  failingEverywhere(): ProxyError | null {
    if (this.#fleet.size > 0) return null
    let last: ProxyError | null = null
    for (const member of this.known()) {
      const isHopeless = member.role === 'plain' || member.failure?.isFinal === true
      if (!isHopeless || !this.#isFailing(member)) return null
      last = member.failure?.error ?? null
    }
    return last === null ? null : failing(last)
  }

  /** A session that would wait for a member that just refused us is told at once. */
  failingFor(placement: Placement): ProxyError | null {
    if (placement.kind !== 'member') return null
    const member = this.#members.get(placement.member)
    if (member === undefined || member.failure === null || member.size > 0) return null
    if (member.role !== 'plain' && !member.failure.isFinal) return null
    return this.#isFailing(member) ? failing(member.failure.error) : null
  }

  /** What made log-ins fail may be over: they are tried again at once. */
  forgetFailures(): void {
    for (const member of this.#members.values()) member.failure = null
  }

  /** Takes over the configuration and the topology of now. */
  sync(config: PoolConfig): void {
    if (config.isRouted) this.#syncCluster(config)
    else this.#syncPlain(config)
    const only = this.plain?.name ?? this.#context.view.primary?.name
    this.#only = only === undefined ? null : { kind: 'member', member: only, isPrimaryRead: false }
    this.refreshView()
  }

  refreshView(): void {
    const { view } = this.#context
    const isOut = ({ name }: Member): boolean => {
      const member = this.#members.get(name)
      return member !== undefined && member.serverCount === 0 && this.#isFailing(member)
    }
    this.view = view.eligible.some(isOut)
      ? { ...view, eligible: view.eligible.filter((member) => !isOut(member)) }
      : view
  }

  #syncCluster(config: PoolConfig): void {
    if (this.plain !== null) this.#remove(this.plain)
    this.plain = null
    const { topology } = this.#context.view
    const names = new Set(topology.members.map(({ name }) => name))
    for (const member of this.#members.values()) if (!names.has(member.name)) this.#remove(member)
    for (const { name, host, port, cutBeforeMs } of topology.members) {
      const role = name === topology.primary ? 'primary' : 'replica'
      const member = this.#members.get(name) ?? this.#add(name, role, config)
      this.#syncMember(member, role, { host, port })
      if (cutBeforeMs === null) continue
      this.#fleet.cutBefore(member, cutBeforeMs, new ProxyError('member_silent', { member: name }))
    }
  }

  #syncMember(member: MemberPool, role: PoolRole, address: Address): void {
    const [old] = member.addresses
    const isMoved = old !== undefined && (old.host !== address.host || old.port !== address.port)
    if (isMoved || old === undefined) member.addresses = [address]
    // What failed before the cluster changed may work now; a wrong password will not.
    if (isMoved || member.role !== role || member.failure?.isFinal === false) member.failure = null
    member.role = role
    this.#fence(member)
    for (const server of member.servers())
      if (isMoved) this.#fleet.doom(server, 'changed')
      else if (server.isShared && server.identity.role === 'replica' && role === 'primary')
        this.#fleet.doom(server, 'promoted')
  }

  /** What was opened to a primary of an older term is cut off, whoever holds it. */
  #fence(member: MemberPool): void {
    const { term, missing } = this.#context.view.topology
    for (const server of member.servers()) {
      if (server.identity.role !== 'primary' || server.identity.term === term) continue
      const reason = missing === '' ? 'the cluster has a new primary' : missing
      this.#fleet.close(server, 'fenced', new ProxyError('primary_lost', { reason }))
    }
  }

  #syncPlain(config: PoolConfig): void {
    const { hosts, port } = config
    const name = hosts.map((host) => `${host}:${port}`).join(',')
    for (const member of this.#members.values()) if (member.name !== name) this.#remove(member)
    const member = this.#members.get(name) ?? this.#add(name, 'plain', config)
    member.addresses = hosts.map((host) => ({ host, port }))
    this.plain = member
  }

  #add(name: string, role: PoolRole, config: PoolConfig): MemberPool {
    const slot = { member: name, database: config.database, user: config.serverUser }
    const member = new MemberPool(slot, role, { addresses: [], waiters: ticketQueue() })
    this.#members.set(name, member)
    return member
  }

  /** Those who wait for it are placed anew by the caller. */
  #remove(member: MemberPool): void {
    member.isGone = true
    this.#members.delete(member.name)
    this.#fence(member)
    for (const server of member.servers()) this.#fleet.doom(server, 'member_gone')
  }

  #isFailing(member: MemberPool): boolean {
    return member.isFailing(this.#context.clock.nowMs())
  }
}

function rank(member: MemberPool): number {
  return member.role === 'primary' ? 1 : 0
}

function failing(error: ProxyError): ProxyError {
  return new ProxyError('server_login_failing', { reason: error.message }, error)
}
