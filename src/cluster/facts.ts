/**
 * What the watcher tells of itself: counters and states for metrics, SHOW and the status page, as
 * plain values that are read at scrape time.
 */
import type { FailoverState } from './failover.ts'
import type { Entry } from './roster.ts'

export interface WatcherFacts {
  readonly source: 'etcd' | 'patroni' | 'static'
  readonly sourceAnswers: boolean
  /** Why the source does not answer; empty when it does. */
  readonly sourceTrouble: string
  /** Age of the last proof that the source's view is current; null before the first. */
  readonly sourceContactAgeMs: number | null
  readonly state: FailoverState
  readonly stateAgeMs: number
  readonly term: number
  /** How long writes have been held for want of a primary; null while there is one. */
  readonly holdAgeMs: number | null
  readonly holds: number
  /** A member other than the last one, or a new timeline, became the primary. */
  readonly failovers: number
  readonly fences: number
  readonly forgets: number
  readonly probes: number
  readonly probeFailures: ReadonlyMap<string, number>
  readonly publications: number
  /** From Patroni's configuration, or `ttl_ms`. */
  readonly ttlMs: number
  readonly leaseRemainingMs: number | null
  readonly failsafeMode: boolean
  readonly synchronousMode: boolean
  /** A switchover or failover was asked for and is not over. */
  readonly failoverRequested: boolean
  readonly members: readonly MemberFacts[]
}

/** What is known of a member beyond its row of the Topology. */
export interface MemberFacts {
  readonly name: string
  /** Why it does not answer the probe; null while it does. */
  readonly failure: string | null
  /** `streaming`, or null while nothing streams or without pg_monitor. */
  readonly receiverStatus: string | null
  /** When its postmaster started, in seconds since 1970 by its own clock. */
  readonly startedS: number | null
  /** The source lists it no longer. */
  readonly isUnlisted: boolean
}

export function memberFacts({
  member,
  testimony,
  receiverStatus,
  started,
  isUnlisted,
}: Entry): MemberFacts {
  return {
    name: member.name,
    failure: testimony.failure?.reason ?? null,
    receiverStatus,
    startedS: started === null ? null : Number(started),
    isUnlisted,
  }
}
