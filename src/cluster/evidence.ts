/**
 * What has been heard, and the questions the failover machine asks of it. Everything here is a pure
 * function of recorded facts and of one reading of the clock; who decides is failover.ts.
 */

import type { ProbeFailure } from './probe.ts'
import type { ClusterView, ViewMember } from './source.ts'
import type { Sample } from './topology.ts'
import type { Word } from './witness.ts'

/** What one member said last, and how asking it went since. */
export interface Testimony {
  readonly sample: Sample | null
  /** The failure after that sample; null when the sample is the newest thing known. */
  readonly failure: ProbeFailure | null
}

/** A primary that was verified: by the source, by its own SQL and by identity and timeline. */
export interface Verified {
  readonly name: string
  readonly epoch: string
  readonly systemIdentifier: string
  readonly timeline: number
}

/** A sentence stays readable. */
const REASONS_MAX = 3

/** Deadlines of belief, all in milliseconds. */
export interface BeliefLimits {
  /** An answer of the primary is believed this long. */
  readonly confirmMs: number
  /** The same while nobody but the primary itself can be asked. */
  readonly confirmAloneMs: number
  /** A question is answered within this time, or not at all. */
  readonly answerMs: number
  /** Without contact for this long the source counts as gone. */
  readonly blindMs: number
  /** An answer 200 of Patroni's REST /primary is believed this long. */
  readonly witnessMs: number
  /** The same where it is believed although the leader key is gone: in failsafe mode. */
  readonly failsafeMs: number
}

export interface Evidence {
  readonly nowMs: number
  readonly limits: BeliefLimits
  readonly view: ClusterView | null
  /** When the source was last known to be right; null before the first view. */
  readonly contactMs: number | null
  /** Why the source is silent, for people. */
  readonly trouble: string
  /** When the leader of the view (name and epoch) was first heard of. */
  readonly leaderSinceMs: number
  readonly testimony: ReadonlyMap<string, Testimony>
  /** The last answer 200 of REST /primary. */
  readonly witness: Word | null
  /** Without it nobody serves while the source is silent for longer than ttl. */
  readonly needsWitness: boolean
}

/** What the machine remembers between turns. */
export interface Beliefs {
  /** The last verified primary, kept when it is fenced: its successor must surpass it. */
  readonly verified: Verified | null
  /** Another member held the leader key since `verified` was verified. */
  readonly rivalSince: boolean
  /** Its reign ended: only a new one, fit by the timeline rule, brings it back. */
  readonly isFenced: boolean
}

export function leaderOf(evidence: Evidence): string | null {
  return evidence.view?.leader?.name ?? null
}

export function isBlind(evidence: Evidence): boolean {
  const { contactMs, nowMs, limits } = evidence
  return contactMs === null || nowMs - contactMs > limits.blindMs
}

/** The source is gone for longer than a lease lives: whatever it said may be over. */
export function isPastTtl(evidence: Evidence): boolean {
  const { contactMs, nowMs, view } = evidence
  return contactMs === null || view === null || nowMs - contactMs > view.dynamic.ttlMs
}

/** The source still names the verified primary, in the same reign. */
export function sameReign(beliefs: Beliefs, evidence: Evidence): boolean {
  const leader = evidence.view?.leader ?? null
  const { verified } = beliefs
  if (leader === null || verified === null) return false
  return leader.name === verified.name && leader.epoch === verified.epoch
}

/** The newest word of `name` when it says, recently enough, that it takes writes. */
export function claimOf(evidence: Evidence, name: string, ageMsMax: number): Sample | null {
  const heard = evidence.testimony.get(name)
  if (heard === undefined || heard.sample === null || heard.sample.inRecovery) return null
  if (heard.failure?.kind === 'refused') return null
  return evidence.nowMs - heard.sample.sentMs <= ageMsMax ? heard.sample : null
}

/** The verified primary certainly does not serve as it did: SQL said so. */
export function isDenied(verified: Verified, evidence: Evidence): boolean {
  const heard = evidence.testimony.get(verified.name)
  if (heard === undefined) return true
  if (heard.failure?.kind === 'refused') return true
  const { sample } = heard
  if (sample === null) return false
  return (
    sample.inRecovery ||
    sample.timeline !== verified.timeline ||
    sample.systemIdentifier !== verified.systemIdentifier
  )
}

/** What it said or did since contradicts the belief; a member that was not asked yet does not. */
export function isRefuted(verified: Verified, evidence: Evidence): boolean {
  const heard = evidence.testimony.get(verified.name)
  const isUnasked = heard === undefined || (heard.sample === null && heard.failure === null)
  return !isUnasked && isDenied(verified, evidence)
}

/** The verified primary said within `ageMsMax` that it serves, on the same timeline. */
export function isConfirmed(verified: Verified, evidence: Evidence, ageMsMax: number): boolean {
  return !isDenied(verified, evidence) && claimOf(evidence, verified.name, ageMsMax) !== null
}

/**
 * The same while nobody else can be asked: until the question after its last answer, which is put
 * when that came, should have been answered itself. Who answers slowly, but in time, is believed.
 */
export function isConfirmedAlone(verified: Verified, evidence: Evidence): boolean {
  const { nowMs, limits } = evidence
  if (isConfirmed(verified, evidence, limits.confirmAloneMs)) return true
  const claim = claimOf(evidence, verified.name, limits.confirmMs)
  if (claim === null || isDenied(verified, evidence)) return false
  return nowMs - claim.receivedMs <= limits.answerMs
}

/**
 * Somebody else takes writes on this cluster and might be right: on the verified primary's
 * timeline or a newer one. A zombie on an older timeline cannot have become the primary since.
 */
export function rivalOf(verified: Verified, evidence: Evidence): string | null {
  for (const [name, heard] of evidence.testimony) {
    const { sample } = heard
    if (name === verified.name || sample === null || sample.inRecovery) continue
    if (sample.systemIdentifier !== verified.systemIdentifier) continue
    if (sample.timeline >= verified.timeline && heard.failure?.kind !== 'refused') return name
  }
  return null
}

/** Its Patroni vouches for it, or nobody asks for that (`failstatic_needs = sql`). */
export function isWitnessed(name: string, evidence: Evidence): boolean {
  const { witness, nowMs, limits, needsWitness } = evidence
  if (!needsWitness) return true
  return witness !== null && witness.name === name && nowMs - witness.atMs <= limits.witnessMs
}

/**
 * Whoever still works on the verified primary must stop: another one may be the primary, or the
 * source has been silent for longer than ttl and Patroni does not vouch either.
 */
export function isForsaken(verified: Verified, evidence: Evidence): boolean {
  if (rivalOf(verified, evidence) !== null) return true
  return isPastTtl(evidence) && !isWitnessed(verified.name, evidence)
}

/**
 * Failsafe mode is on, and Patroni on that member says that all members answered for it within the
 * last ttl: they do not race for the leader key, whoever holds it.
 */
export function isVouchedFor(name: string, evidence: Evidence): boolean {
  const { witness, nowMs, limits, view } = evidence
  if (view?.dynamic.failsafeMode !== true || witness?.name !== name) return false
  return witness.isFailsafe && nowMs - witness.atMs <= limits.failsafeMs
}

/**
 * The three-way rule: the source names it now, its own SQL said so after the source did, and
 * system identifier and timeline fit.
 *
 * Returns the primary to believe in, or the sentence that says what is missing.
 */
export function verify(beliefs: Beliefs, evidence: Evidence): Verified | string {
  const { view } = evidence
  if (view === null || isBlind(evidence)) return silence(evidence)
  if (view.leader === null) return view.vacancy
  const claim = claimFrom(view.leader.name, view, evidence)
  return typeof claim === 'string' ? claim : identity(beliefs, view, { ...view.leader, ...claim })
}

/** What the leader itself says, if that is a claim to be the primary, fresh, and newer than its reign. */
function claimFrom(
  name: string,
  view: ClusterView,
  evidence: Evidence,
): { sample: Sample } | string {
  const heard = evidence.testimony.get(name)
  const sample = heard?.sample ?? null
  const failure = heard?.failure ?? null
  if (failure !== null && failure.kind !== 'silent') return failureText(name, failure)
  if (sample === null || evidence.nowMs - sample.sentMs > evidence.limits.confirmMs) {
    if (failure !== null) return failureText(name, failure)
    return unheardText(
      name,
      view.members.find((one) => one.name === name),
    )
  }
  if (sample.inRecovery) return `${name} leads but is still in recovery`
  if (sample.sentMs < evidence.leaderSinceMs)
    return `${name} leads and has not been asked since it does`
  return { sample }
}

function identity(
  beliefs: Beliefs,
  view: ClusterView,
  claimant: { name: string; epoch: string; sample: Sample },
): Verified | string {
  const { name, epoch, sample } = claimant
  const { verified } = beliefs
  const expected = view.systemIdentifier ?? verified?.systemIdentifier ?? sample.systemIdentifier
  if (sample.systemIdentifier !== expected)
    return `${name} leads but belongs to another cluster (system identifier ${sample.systemIdentifier}, not ${expected})`
  if (verified !== null && verified.systemIdentifier === sample.systemIdentifier) {
    const must = requiredTimeline(beliefs, verified, name)
    if (sample.timeline < must)
      return `${name} leads but is on timeline ${sample.timeline} and must be on ${must} or later (RECONNECT forgets this)`
  }
  return { name, epoch, systemIdentifier: sample.systemIdentifier, timeline: sample.timeline }
}

/**
 * A promotion always starts a new timeline, so a new primary must be on a later one than the last.
 * The same member may come back on its own timeline when nobody led in between.
 */
function requiredTimeline(beliefs: Beliefs, verified: Verified, name: string): number {
  const continues = verified.name === name && !beliefs.rivalSince
  return continues ? verified.timeline : verified.timeline + 1
}

export function silence(evidence: Evidence): string {
  const why = evidence.trouble === '' ? '' : ` (${evidence.trouble})`
  return evidence.contactMs === null || evidence.view === null
    ? `the cluster has not been seen yet${why}`
    : `the source of the cluster's state does not answer${why}`
}

function failureText(name: string, failure: ProbeFailure): string {
  if (failure.kind === 'denied') return `${name} leads but denies the probe: ${failure.reason}`
  return `${name} leads but does not serve: ${failure.reason}`
}

function unheardText(name: string, member: ViewMember | undefined): string {
  if (member === undefined) return `${name} leads but its address is not known`
  if (member.addresses.length === 0) return `${name} leads but its conn_url cannot be read`
  return `${name} leads but has not answered yet`
}

/** Why members cannot be asked, as the end of a sentence; empty when all of them answer. */
export function failuresOf(evidence: Evidence): string {
  const reasons = [...evidence.testimony].flatMap(([name, { failure }]) =>
    failure === null ? [] : `${name}: ${failure.reason}`,
  )
  return reasons.length === 0 ? '' : ` (${reasons.slice(0, REASONS_MAX).join('; ')})`
}
