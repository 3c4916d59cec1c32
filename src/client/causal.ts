/**
 * Read your writes, as one session's position in the write-ahead log. A write makes the session
 * dirty from the moment its ReadyForQuery reached us; the first sample of the primary that was sent
 * later gives the bound that a replica must have replayed.
 *
 * Source  docs/routing.md, "Session consistency".
 */
import { memberOf } from '../cluster/topology.ts'
import type { Consistency } from '../config/config.ts'
import type { Bound } from '../server/waiter.ts'
import type { Session } from './session.ts'

/** A read that is about to be placed. */
export interface Read {
  readonly consistency: Consistency
  readonly nowMs: number
  readonly boundFor: (dirtySinceMs: number) => Bound | null
  readonly isEligible: (member: string) => boolean
}

export class CausalPosition {
  bound: Bound | null = null
  dirtySinceMs: number | null = null
  /** The replica that served the session last. */
  preferredMember: string | null = null

  /**
   * A batch was answered. What the primary answered may be newer than what a replica knows, a read
   * as well as a write.
   */
  answered(role: 'primary' | 'replica' | 'plain', member: string, nowMs: number): void {
    if (role === 'plain') return
    if (role === 'replica') {
      this.preferredMember = member
      return
    }
    this.preferredMember = null
    this.#dirty(nowMs)
  }

  /**
   * Prepares the next read: fixes the bound when one is known, and leaves a replica that may not
   * serve any more.
   */
  beforeRead(read: Read): void {
    if (read.consistency === 'eventual') {
      this.bound = null
      this.dirtySinceMs = null
      this.preferredMember = null
      return
    }
    if (read.consistency === 'global') this.#dirty(read.nowMs)
    if (this.preferredMember !== null && !read.isEligible(this.preferredMember)) {
      this.preferredMember = null
      this.#dirty(read.nowMs)
    }
    if (this.dirtySinceMs === null) return
    const bound = read.boundFor(this.dirtySinceMs)
    if (bound === null) return
    this.bound = bound
    this.dirtySinceMs = null
  }

  #dirty(nowMs: number): void {
    this.dirtySinceMs = nowMs
    this.bound = null
  }
}

export function readOf({ pool, services }: Session, nowMs: number): Read {
  const { pools } = services
  return {
    consistency: pool.config.consistency,
    nowMs,
    boundFor: (dirtySinceMs) => pools.boundFor(dirtySinceMs),
    isEligible: (member) => memberOf(pools.topology, member)?.eligible === true,
  }
}
