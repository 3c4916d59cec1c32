/**
 * What a session asks of the pools: one server for one batch, described without naming a member.
 */
import type { ProxyError } from '../base/errors.ts'
import type { Carrier } from './boarding.ts'
import type { Holder, ServerConnection } from './connection.ts'
import type { HoldReason } from './placement.ts'
import type { Settings } from './settings.ts'

/** What a replica must have replayed before it may serve a session (ARCHITECTURE 5). */
export interface Bound {
  readonly timeline: number
  readonly lsn: bigint
}

/** A position that the client itself asks for, as another session or instance told it. */
export interface MinLsn extends Bound {
  /** Something was served under it: whoever served knew it, and what follows goes on from there. */
  isMet: boolean
}

/** When the replica that served a session last did so. */
export interface PreferredAt {
  readonly preferredMs: number
  /** Which start of its postmaster it was then, as `Sample.started` tells; null: not known. */
  readonly preferredLife: string | null
}

/**
 * Why a session waits: `pool` (no free server), `paused` (by the console), `replica` (none may serve
 * it yet), or for the primary: `primary` (nobody is believed in), `switchover` (it hands over),
 * `lease` (nobody vouches for it for long enough).
 */
export type WaitReason = 'pool' | 'paused' | 'replica' | HoldReason

/** It waits for a primary that may serve it, not for a free server. */
export function isHeldReason(reason: WaitReason | null): boolean {
  return reason === 'primary' || reason === 'switchover' || reason === 'lease'
}

/**
 * A session that wants a server. The object is the session's own and is used again for each batch;
 * it is in at most one queue.
 */
export interface Waiter extends Holder {
  readonly clientId: number
  /** Which members may serve it. */
  readonly wantsRole: 'primary' | 'replica' | 'any'
  /** Set when replicas are asked for; null: any eligible replica. */
  readonly bound: Bound | null
  /** What the client asks for (`pgsteer.min_lsn`), of whoever serves it; absent or null: nothing. */
  readonly minLsn?: MinLsn | null
  /**
   * The session wrote at this monotonic time and no bound is known yet: a replica may serve it only
   * after a primary sample sent later than this gives one. Null when the session is clean.
   */
  readonly dirtySinceMs: number | null
  /** The replica that served it last: kept while it is eligible, so that reads never go back. */
  readonly preferredMember: string | null
  /** Absent: it may have served it until now. */
  readonly causal?: PreferredAt | undefined
  /** How long a read waits for replicas that are behind before the primary serves it; absent: 0. */
  readonly patienceMs?: number
  /** The member whose server was lost under the read at hand: any other is preferred. */
  readonly avoidedMember?: string | null
  readonly settings: Settings
  /** What it asks may go behind what others ask, on one server; absent: it may not. */
  readonly mayRide?: boolean
  /** Bytes that wait with it, for `hold_bytes_max`. */
  readonly waitingBytes: number
  /** Set by the pools when it asks for a server. */
  waitingSinceMs: number
  /** Set by the pools. */
  waitReason: WaitReason | null
  /** A statement or a transaction of the session is under way on this server of its own. */
  worksOn(server: ServerConnection): boolean
  /** The server is held by the waiter from `nowMs` on; may be called inside `acquire`. */
  granted(server: ServerConnection, nowMs: number): void
  /** A server for it and for others who may ride: whoever is returned holds it. */
  carries?(server: ServerConnection): Carrier
  /** Its batch goes behind those of others; it holds no server. May be called inside `acquire`. */
  boards?(carrier: Carrier): void
  /** Nothing was sent; the waiter is in no queue any more. */
  refused(error: ProxyError): void
  /** A NOTICE that the client is queued (`query_wait_notify`). */
  notify(text: string): void
}
