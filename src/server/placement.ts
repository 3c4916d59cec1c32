/**
 * Where a session that wants a server has to wait, or be served, under one topology: a pure
 * judgement. What is free or full is not asked here.
 *
 * Source  ARCHITECTURE 5 (eligibility, read your writes) and 7.3 (hold, do not fail).
 */
import { ProxyError } from '../base/errors.ts'
import { type Member, memberOf, type Topology } from '../cluster/topology.ts'
import type { Consistency } from '../config/config.ts'
import { type Bounds, judge, laterBound, lowerBound, meets } from './bounds.ts'
import type { Bound, MinLsn, Waiter } from './waiter.ts'

/** A topology with the answers that every placement asks for. */
export interface TopologyView {
  readonly topology: Topology
  readonly primary: Member | null
  /** Replicas that may serve reads and have a weight. */
  readonly eligible: readonly Member[]
  /**
   * Monotonic: from then on nothing new begins on the primary. -Infinity: nothing may now;
   * Infinity: no such limit is known.
   */
  readonly writesUntilMs: number
}

/** Why nothing new begins on the primary. */
export type HoldReason = 'primary' | 'switchover' | 'lease'

export type Placement =
  /** This member and no other; `isPrimaryRead`: a read for want of a replica. */
  | { readonly kind: 'member'; readonly member: string; readonly isPrimaryRead: boolean }
  /** Whichever of these is free first. */
  | { readonly kind: 'replicas'; readonly members: readonly Member[] }
  | { readonly kind: 'any' }
  /** Nobody now. */
  | { readonly kind: 'held'; readonly until: 'primary' | 'replica' }
  | { readonly kind: 'refused'; readonly error: ProxyError }

export interface PlacementRules {
  readonly view: TopologyView
  readonly bounds: Bounds
  readonly noReplica: 'primary' | 'wait' | 'error'
  readonly consistency: Consistency
  readonly replicaWaitMs: number
  /** `failover_hold_ms_max`. */
  readonly holdMsMax: number
  /** `primary_reads_max` is reached. */
  readonly primaryReadsFull: boolean
  readonly nowMs: number
}

/** Patroni says where a timeline ended a second or so after the next one began. */
const HISTORY_WAIT_MS = 10_000

const ANY: Placement = { kind: 'any' }
const HELD_PRIMARY: Placement = { kind: 'held', until: 'primary' }
const HELD_REPLICA: Placement = { kind: 'held', until: 'replica' }

/** `leaseGuardMs`: nothing new begins on the primary when its lease has less left. */
export function viewOf(topology: Topology, leaseGuardMs: number): TopologyView {
  const primary = topology.primary === null ? undefined : memberOf(topology, topology.primary)
  return {
    topology,
    primary: primary ?? null,
    eligible: topology.members.filter((member) => member.eligible && member.weight > 0),
    writesUntilMs:
      primary === undefined ? Number.NEGATIVE_INFINITY : untilOf(topology, leaseGuardMs),
  }
}

function untilOf({ switchover, writableUntilMs }: Topology, leaseGuardMs: number): number {
  if (switchover?.holds === true) return Number.NEGATIVE_INFINITY
  return writableUntilMs === null ? Number.POSITIVE_INFINITY : writableUntilMs - leaseGuardMs
}

/** Why nothing new may begin on the primary now, or null when it may. */
export function holdReason(view: TopologyView, nowMs: number): HoldReason | null {
  if (nowMs < view.writesUntilMs) return null
  if (view.primary === null) return 'primary'
  return view.topology.switchover?.holds === true ? 'switchover' : 'lease'
}

/** What those who wait for the primary are told is missing. */
export function missingText(view: TopologyView, nowMs: number): string {
  switch (holdReason(view, nowMs)) {
    case 'switchover':
      return 'a planned switchover is under way'
    case 'lease':
      return "the lease of the leader's key is about to end (lease_guard_ms)"
    case 'primary':
    case null:
      return view.topology.missing
  }
}

/** `sinceMs`: when it began to wait. */
export function place(waiter: Waiter, sinceMs: number, rules: PlacementRules): Placement {
  const { primary, eligible, topology, writesUntilMs } = rules.view
  const asked = waiter.wantsRole === 'any' ? null : (waiter.minLsn ?? null)
  const unmet = asked === null ? null : placeUnmet(asked, sinceMs, rules)
  if (unmet !== null) return unmet
  if (waiter.wantsRole === 'replica') return placeRead(waiter, sinceMs, rules)
  const isOpen = rules.nowMs < writesUntilMs
  if (waiter.wantsRole === 'any' && (isOpen || eligible.length > 0)) return ANY
  if (topology.standbyCluster) return refuse(new ProxyError('standby_cluster'))
  if (primary === null || !isOpen) return HELD_PRIMARY
  return { kind: 'member', member: primary.name, isPrimaryRead: false }
}

/**
 * Nobody that we know can meet what the client asks for: on a newer timeline than ours there is a
 * newer primary, on one whose end we do not know the write may be lost. Null: who has replayed it may.
 */
function placeUnmet(asked: MinLsn, sinceMs: number, rules: PlacementRules): Placement | null {
  const { topology, primary } = rules.view
  const verdict = judge(asked, topology)
  const waitedMs = rules.nowMs - sinceMs
  switch (verdict) {
    case 'newer': {
      if (primary === null) return HELD_PRIMARY
      if (waitedMs < rules.holdMsMax) return HELD_REPLICA
      const reason = `pgsteer.min_lsn is of timeline ${asked.timeline}, the primary is not`
      return refuse(new ProxyError('no_primary', { reason, ms: Math.round(waitedMs) }))
    }
    case 'unknown':
      return waitedMs < HISTORY_WAIT_MS ? HELD_REPLICA : refuse(lostError(asked))
    case 'lost':
      return refuse(lostError(asked))
    default:
      return null
  }
}

function lostError({ timeline }: MinLsn): ProxyError {
  return new ProxyError('min_lsn_lost', { timeline })
}

function placeRead(waiter: Waiter, sinceMs: number, given: PlacementRules): Placement {
  const rules = avoiding(waiter.avoidedMember ?? null, given)
  const { view, bounds, nowMs } = rules
  const preferred = preferredOf(waiter, rules)
  if (preferred !== null) return { kind: 'member', member: preferred.name, isPrimaryRead: false }
  const demand = demandOf(waiter, sinceMs, rules)
  if (typeof demand === 'number') bounds.note(demand, null, nowMs)
  else {
    const members = demand === null ? view.eligible : meeting(view.eligible, demand)
    if (members.length > 0) return { kind: 'replicas', members }
    if (demand !== null) bounds.note(sinceMs, demand, nowMs)
  }
  return placeWithoutReplica(sinceMs, rules, waiter.patienceMs ?? 0)
}

/** Without the replica that was just lost, if somebody else may serve. */
function avoiding(avoided: string | null, rules: PlacementRules): PlacementRules {
  if (avoided === null) return rules
  const { noReplica, view } = rules
  const eligible = view.eligible.filter(({ name }) => name !== avoided)
  const isOnly = eligible.length === 0 && (view.primary === null || noReplica !== 'primary')
  return isOnly ? rules : { ...rules, view: { ...view, eligible } }
}

/** No replica may serve the read now. */
function placeWithoutReplica(
  sinceMs: number,
  rules: PlacementRules,
  patienceMs: number,
): Placement {
  const { view, noReplica } = rules
  const isLate = rules.nowMs - sinceMs >= rules.replicaWaitMs
  const isBehind = view.eligible.length > 0
  const mayCatchUp = isBehind && (rules.consistency === 'global' || noReplica === 'error')
  if (!isLate && (noReplica === 'wait' || mayCatchUp)) return HELD_REPLICA
  if (isBehind && view.primary !== null && rules.nowMs - sinceMs < patienceMs) return HELD_REPLICA
  if (noReplica === 'error') return refuse(noReplicaError(rules))
  if (view.topology.standbyCluster) return isLate ? refuse(noReplicaError(rules)) : HELD_REPLICA
  if (view.primary === null || rules.nowMs >= view.writesUntilMs) return HELD_PRIMARY
  if (rules.primaryReadsFull) return isLate ? refuse(noReplicaError(rules)) : HELD_REPLICA
  return { kind: 'member', member: view.primary.name, isPrimaryRead: true }
}

/** The replica that served it last, while it may: reads of a session do not go back in time. */
function preferredOf(waiter: Waiter, rules: PlacementRules): Member | null {
  const { preferredMember, dirtySinceMs } = waiter
  if (preferredMember === null) return null
  const member = rules.view.eligible.find(({ name }) => name === preferredMember)
  if (member === undefined || !isSameLife(member, waiter)) return null
  const written = dirtySinceMs === null ? null : rules.bounds.boundFor(dirtySinceMs)
  if (dirtySinceMs !== null && written === null) return null
  const bound = laterBound(knownDemand(waiter, rules), written)
  return bound === null || meets(member, bound) ? member : null
}

/** What the session is known to have seen, and what its client asks for besides. */
function knownDemand({ bound, minLsn }: Waiter, { bounds, view }: PlacementRules): Bound | null {
  const own = bound === null ? null : bounds.current(bound)
  if (minLsn === undefined || minLsn === null) return own
  const asked = judge(minLsn, view.topology)
  return typeof asked === 'string' ? own : laterBound(own, bounds.current(asked))
}

/** Started again, a replica may have gone back in time, and counts as another one. */
function isSameLife({ sample }: Member, { causal }: Waiter): boolean {
  const before = causal?.preferredLife ?? null
  const now = sample?.started ?? null
  return before === null || now === null || before === now
}

/**
 * What whoever serves the read must have replayed; null: nothing particular. A number: it is not
 * known yet, and a sample of the primary that is sent after that moment tells it.
 */
function demandOf(waiter: Waiter, sinceMs: number, rules: PlacementRules): Bound | null | number {
  const { dirtySinceMs, preferredMember } = waiter
  const written = dirtySinceMs === null ? null : rules.bounds.boundFor(dirtySinceMs)
  if (dirtySinceMs !== null && written === null) return dirtySinceMs
  const demand = laterBound(knownDemand(waiter, rules), written)
  if (preferredMember === null) return demand
  const seenMs = waiter.causal?.preferredMs ?? sinceMs
  const seen = seenBy(seenMs, waiter, rules)
  return seen === null ? seenMs : laterBound(demand, seen)
}

/**
 * What a session can have seen on the replica that it leaves: no more than the primary had written,
 * nor than the replica has replayed without a new start, in a sample sent after its last answer.
 */
function seenBy(seenMs: number, waiter: Waiter, { bounds, view }: PlacementRules): Bound | null {
  const member = memberOf(view.topology, waiter.preferredMember ?? '')
  const sample = member?.sample ?? null
  const written = bounds.boundFor(seenMs)
  if (member === undefined || sample === null || sample.replayLsn === null) return written
  if (sample.sentMs <= seenMs || !isSameLife(member, waiter)) return written
  const { timeline, replayLsn: lsn } = sample
  return lowerBound(bounds.current({ timeline, lsn }), written)
}

function meeting(members: readonly Member[], bound: Bound): readonly Member[] {
  return members.filter((member) => meets(member, bound))
}

function noReplicaError(rules: PlacementRules): ProxyError {
  const { view } = rules
  const reasons = view.topology.members
    .filter((member) => member.name !== view.topology.primary)
    .map((member) => `${member.name}: ${member.ineligibleReason ?? 'has not replayed enough'}`)
  const full = rules.primaryReadsFull ? ['the primary: primary_reads_max'] : []
  const reason = [...reasons, ...full].join(', ')
  return new ProxyError('no_replica', { reason: reason === '' ? 'there is none' : reason })
}

function refuse(error: ProxyError): Placement {
  return { kind: 'refused', error }
}
