/**
 * Until when the leader's lease allows writes, and when it is late. Pure: the lease is read by
 * etcd.ts, workers act on the answer (server/placement.ts), and why the limits are what they are is
 * in docs/failover.md.
 */
import { type Evidence, isVouchedFor, isWitnessed } from './evidence.ts'
import type { Failover } from './failover.ts'
import type { DynamicConfig } from './source.ts'

/**
 * What a healthy lease may lose on top of loop_wait before we see it renewed: the second that etcd
 * rounds off, a read and its deadline, and the 2 s after which the source counts as silent.
 */
const SLACK_MS = 4600

export interface Lease {
  readonly dynamic: Pick<DynamicConfig, 'ttlMs' | 'loopWaitMs'>
  /** `lease_guard_ms` */
  readonly guardMs: number
  /** Monotonic: it cannot run out before; null when that is not known. */
  readonly expiresMs: number | null
}

/**
 * Null where the lease limits nothing: its end is not known, or a healthy one comes so close to it
 * that the guard would stop writes for nothing.
 */
export function writableUntil({ dynamic, guardMs, expiresMs }: Lease): number | null {
  const leftMs = dynamic.ttlMs - dynamic.loopWaitMs
  return leftMs < guardMs + SLACK_MS ? null : expiresMs
}

/** A healthy lease would have been renewed by now; one that is not known counts as late. */
export function isLate({ dynamic, guardMs, expiresMs }: Lease, nowMs: number): boolean {
  if (expiresMs === null) return true
  const leastMs = dynamic.ttlMs - dynamic.loopWaitMs - SLACK_MS
  return expiresMs - nowMs < Math.max(leastMs, guardMs + SLACK_MS)
}

/**
 * Until when the lease lets the verified primary be written to; null: it sets no limit now.
 *
 * In failsafe mode a primary for which all members answer needs no lease. While the source is
 * silent (or we have stalled) nobody tells of renewals: one that was late then, or would have ended
 * since, limits writes on, unless Patroni vouches.
 */
export function leaseLimit(
  lease: Lease | null,
  { state, beliefs }: Failover,
  evidence: Evidence,
): number | null {
  const name = beliefs.verified?.name
  if (lease === null || name === undefined || isVouchedFor(name, evidence)) return null
  if (state === 'serving') return writableUntil(lease)
  if (state !== 'failstatic' || isWitnessed(name, evidence)) return null
  const untilMs = writableUntil(lease)
  const isOver = untilMs !== null && untilMs <= evidence.nowMs
  return isOver || isLate(lease, evidence.contactMs ?? 0) ? untilMs : null
}
