/**
 * May a replica serve reads? A pure judgement of one member, with the reason why not as a short
 * stable word for metrics, SHOW MEMBERS and logs. Thresholds have hysteresis, so that a replica
 * whose lag swings around a limit does not come and go with every sample.
 */
import type { Sample } from './topology.ts'

/** Every reason, with the sentence that docs and SHOW print. */
export const INELIGIBLE_REASONS = {
  primary: 'It is the primary: it serves writes, and reads only when the route says so.',
  unprobed: 'It has not answered a probe yet.',
  unreachable: 'It refuses connections, starts up or shuts down.',
  stale: 'Its last answer to a probe is too old.',
  system_identifier: 'It belongs to another cluster: its system identifier differs.',
  not_in_recovery: 'It takes writes although it is not the verified primary.',
  noloadbalance: 'Patroni tags it noloadbalance.',
  timeline: 'It is not on the timeline of the primary.',
  lag_unknown: 'How far it is behind cannot be told yet; no answer is not lag 0.',
  lag_bytes: 'It is behind by more than replica_lag_bytes_max.',
  lag_ms: 'It is behind by more than replica_lag_ms_max.',
} as const satisfies Record<string, string>

export type IneligibleReason = keyof typeof INELIGIBLE_REASONS

/** A replica that was turned away for its lag returns when the lag is under this part of the limit. */
export const LAG_RETURN_FACTOR = 0.8

export interface LagLimits {
  readonly replicaLagBytesMax: number
  readonly replicaLagMsMax: number
}

export interface Candidate {
  readonly isPrimary: boolean
  readonly sample: Sample | null
  /** A definite refusal came after the sample. */
  readonly refused: boolean
  readonly lagBytes: number | null
  readonly lagMs: number | null
  readonly tags: Readonly<Record<string, string | number | boolean>>
  /** What was said last time, for the hysteresis. */
  readonly previous: IneligibleReason | null
}

export interface EligibilityContext {
  readonly nowMs: number
  readonly staleMs: number
  readonly limits: LagLimits
  readonly systemIdentifier: string | null
  /** The timeline of the last verified primary; null before the first one. */
  readonly timeline: number | null
}

/** Returns why this member may not serve reads, or null when it may. */
export function ineligibleReason(
  candidate: Candidate,
  context: EligibilityContext,
): IneligibleReason | null {
  if (candidate.isPrimary) return 'primary'
  const { sample } = candidate
  if (candidate.refused) return 'unreachable'
  if (sample === null) return 'unprobed'
  if (context.nowMs - sample.sentMs > context.staleMs) return 'stale'
  return identityReason(sample, candidate, context) ?? lagReason(candidate, context.limits)
}

function identityReason(
  sample: Sample,
  candidate: Candidate,
  context: EligibilityContext,
): IneligibleReason | null {
  if (context.systemIdentifier !== null && sample.systemIdentifier !== context.systemIdentifier)
    return 'system_identifier'
  if (!sample.inRecovery) return 'not_in_recovery'
  if (isSet(candidate.tags['noloadbalance'])) return 'noloadbalance'
  if (context.timeline !== null && sample.timeline !== context.timeline) return 'timeline'
  return null
}

function lagReason(candidate: Candidate, limits: LagLimits): IneligibleReason | null {
  const { lagBytes, lagMs, previous } = candidate
  if (lagBytes === null) return 'lag_unknown'
  if (lagBytes > returning(limits.replicaLagBytesMax, previous === 'lag_bytes')) return 'lag_bytes'
  if (lagMs === null) return 'lag_unknown'
  return lagMs > returning(limits.replicaLagMsMax, previous === 'lag_ms') ? 'lag_ms' : null
}

function returning(limit: number, wasOver: boolean): number {
  return wasOver ? limit * LAG_RETURN_FACTOR : limit
}

/** Patroni drops false booleans, but a tag may be any YAML scalar. */
function isSet(tag: string | number | boolean | undefined): boolean {
  if (typeof tag === 'string') return /^(?:true|yes|on|1)$/i.test(tag)
  return tag !== undefined && tag !== false && tag !== 0
}
