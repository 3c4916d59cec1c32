/**
 * Read your writes, as one session's position in the write-ahead log. A write makes the session
 * dirty from the moment its ReadyForQuery reached us; the first sample of the primary that was sent
 * later gives the bound that a replica must have replayed.
 *
 * Source  docs/routing.md, "Consistency".
 */
import { memberOf, type Topology } from '../cluster/topology.ts'
import type { Consistency } from '../config/config.ts'
import type { ServerConnection } from '../server/connection.ts'
import type { Bound } from '../server/waiter.ts'
import type { Session } from './session.ts'

/** A read that is about to be placed. */
export interface Read {
  readonly consistency: Consistency
  readonly nowMs: number
  readonly boundFor: (dirtySinceMs: number) => Bound | null
}

/** An answer that reached the session whole. */
export interface Answer {
  readonly role: 'primary' | 'replica' | 'plain'
  readonly member: string
  readonly nowMs: number
}

/**
 * Every answer of the primary asks for a later bound, so reads that follow each other faster than
 * probes do would stay there for ever. So long after the last write one of them waits for the
 * replicas, so long at most; in vain, the next one does so after twice the time.
 */
const RETURN_AFTER_MS = 200
const RETURN_WAIT_MS = 60
const RETURN_AFTER_MS_MAX = 10_000

export class CausalPosition {
  bound: Bound | null = null
  dirtySinceMs: number | null = null
  /** How long the next read waits for a replica before the primary serves it. */
  patienceMs = 0
  /** The replica that served the session last. */
  preferredMember: string | null = null
  /** When it did so last, and between which starts of it; null: not known. */
  preferredMs = 0
  preferredLife: string | null = null
  /** What is answered next was asked as a read. */
  #isRead = false
  #returnMs = 0
  #returnAfterMs = RETURN_AFTER_MS

  /**
   * A batch was answered. What the primary answered may be newer than what a replica knows, a read
   * as well as a write.
   */
  answered({ role, member, nowMs }: Answer, topology: Topology): void {
    const isRead = this.#isRead
    this.#isRead = false
    if (role === 'plain') return
    if (role === 'replica' || !isRead) this.#returnAfterMs = RETURN_AFTER_MS
    if (role === 'replica') {
      // What is no read shows nothing of what the replica knows.
      if (isRead || this.preferredMember === null) this.#prefer(member, nowMs, topology)
      else if (this.preferredMember === member) this.preferredMs = nowMs
      return
    }
    if (!isRead) this.#returnMs = nowMs + RETURN_AFTER_MS
    this.preferredMember = null
    this.#dirty(nowMs)
  }

  /** Prepares the next read: fixes the bound when one is known. */
  beforeRead(read: Read): void {
    this.#isRead = true
    this.#takePatience(read.nowMs)
    if (read.consistency === 'eventual') {
      this.bound = null
      this.dirtySinceMs = null
      this.preferredMember = null
      return
    }
    if (read.consistency === 'global') this.#dirty(read.nowMs)
    if (this.dirtySinceMs === null) return
    const bound = read.boundFor(this.dirtySinceMs)
    if (bound === null) return
    this.bound = bound
    this.dirtySinceMs = null
  }

  #prefer(member: string, nowMs: number, topology: Topology): void {
    this.preferredMember = member
    this.preferredMs = nowMs
    this.preferredLife = memberOf(topology, member)?.sample?.started ?? null
  }

  #takePatience(nowMs: number): void {
    this.patienceMs = 0
    if (this.preferredMember !== null || nowMs < this.#returnMs) return
    this.patienceMs = RETURN_WAIT_MS
    this.#returnMs = nowMs + this.#returnAfterMs
    this.#returnAfterMs = Math.min(2 * this.#returnAfterMs, RETURN_AFTER_MS_MAX)
  }

  #dirty(nowMs: number): void {
    this.dirtySinceMs = nowMs
    this.bound = null
  }
}

/** The server is free again. Who answers what anybody may answer shows nothing of what it knows. */
export function noteAnswer(session: Session, { identity }: ServerConnection): void {
  const { role, member } = identity
  // What no replica stands behind asks for nothing.
  if (role === 'plain') return
  const { clock, pools } = session.services
  if (role !== 'replica' || session.wantsRole !== 'any')
    session.causal.answered({ role, member, nowMs: clock.nowMs() }, pools.topology)
}

export function readOf({ pool, services }: Session, nowMs: number): Read {
  const { pools } = services
  const boundFor = (dirtySinceMs: number): Bound | null => pools.boundFor(dirtySinceMs)
  return { consistency: pool.config.consistency, nowMs, boundFor }
}
