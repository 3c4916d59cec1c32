/**
 * How many servers one member may have, over all pools: by database, by user, altogether, and how
 * many may be logging in at once. Counts slots, one per server or opening; knows no pools.
 */
import { invariant } from '../base/invariant.ts'
import type { Config, PoolConfig } from '../config/config.ts'

/** What one server is counted under. */
export interface Slot {
  readonly member: string
  readonly database: string
  /** The user that the server sees. */
  readonly user: string
}

export type FullReason = 'max_db_connections' | 'max_user_connections' | 'member_connections_max'

/** Writes leave this part of the hold to reads that wait for a primary as well. */
const READ_RESERVE = 0.1

interface MemberCounts {
  servers: number
  logins: number
  readonly byDatabase: Map<string, number>
  readonly byUser: Map<string, number>
}

/** A worker's part of a limit; 0 stays 'no limit', and everybody gets at least one. */
export function shareOf(limit: number, config: Config): number {
  if (limit === 0) return 0
  return Math.max(1, Math.floor(limit / config.pgsteer.workers))
}

export class Limits {
  readonly #members = new Map<string, MemberCounts>()

  /** Why the member may not get one more server of this kind, or null. */
  full(slot: Slot, pool: PoolConfig, config: Config): FullReason | null {
    const counts = this.#members.get(slot.member)
    if (counts === undefined) return null
    const { maxDbConnections, maxUserConnections } = pool
    const { memberConnectionsMax } = config.pgsteer
    if (isReached(counts.byDatabase.get(slot.database), shareOf(maxDbConnections, config)))
      return 'max_db_connections'
    if (isReached(counts.byUser.get(slot.user), shareOf(maxUserConnections, config)))
      return 'max_user_connections'
    return isReached(counts.servers, shareOf(memberConnectionsMax, config))
      ? 'member_connections_max'
      : null
  }

  take(slot: Slot): void {
    const counts = this.#of(slot.member)
    counts.servers += 1
    add(counts.byDatabase, slot.database, 1)
    add(counts.byUser, slot.user, 1)
  }

  give(slot: Slot): void {
    const counts = this.#of(slot.member)
    invariant(counts.servers > 0, 'a slot is given back once')
    counts.servers -= 1
    add(counts.byDatabase, slot.database, -1)
    add(counts.byUser, slot.user, -1)
    this.#forget(slot.member, counts)
  }

  /** A new primary is not hit by all pools in the same moment: `member_logins_max` bounds it. */
  mayLogIn(member: string, config: Config): boolean {
    const loginsMax = shareOf(config.pgsteer.memberLoginsMax, config)
    return (this.#members.get(member)?.logins ?? 0) < loginsMax
  }

  loginBegins(member: string): void {
    this.#of(member).logins += 1
  }

  loginEnds(member: string): void {
    const counts = this.#of(member)
    invariant(counts.logins > 0, 'a log-in ends once')
    counts.logins -= 1
    this.#forget(member, counts)
  }

  #of(member: string): MemberCounts {
    const known = this.#members.get(member)
    if (known !== undefined) return known
    const counts = { servers: 0, logins: 0, byDatabase: new Map(), byUser: new Map() }
    this.#members.set(member, counts)
    return counts
  }

  #forget(member: string, counts: MemberCounts): void {
    if (counts.servers === 0 && counts.logins === 0) this.#members.delete(member)
  }
}

function isReached(count: number | undefined, limit: number): boolean {
  return limit > 0 && (count ?? 0) >= limit
}

function add(counts: Map<string, number>, key: string, change: number): void {
  const count = (counts.get(key) ?? 0) + change
  if (count === 0) counts.delete(key)
  else counts.set(key, count)
}

/** Who waits for a primary, over all pools of this process. */
export class HoldLimits {
  waiters = 0
  bytes = 0

  /**
   * Returns false, and counts nothing, when `hold_waiters_max` or `hold_bytes_max` is reached; for
   * writes that is the case a tenth earlier.
   */
  take(bytes: number, isWrite: boolean, config: Config): boolean {
    const { holdWaitersMax, holdBytesMax } = config.pgsteer
    if (this.waiters + 1 > openTo(isWrite, shareOf(holdWaitersMax, config))) return false
    if (this.bytes + bytes > openTo(isWrite, shareOf(holdBytesMax, config))) return false
    this.waiters += 1
    this.bytes += bytes
    return true
  }

  give(bytes: number): void {
    this.waiters -= 1
    this.bytes -= bytes
    invariant(this.waiters >= 0 && this.bytes >= 0, 'a hold ends once')
  }
}

function openTo(isWrite: boolean, limit: number): number {
  return isWrite ? limit - Math.floor(limit * READ_RESERVE) : limit
}

/** The longest wait for a primary, in milliseconds; Patroni's ttl decides unless it is set. */
export function holdMsMax(config: Config): number {
  return config.pgsteer.failoverHoldMsMax ?? 2 * (config.cluster?.ttlMs ?? 30_000) + 10_000
}
