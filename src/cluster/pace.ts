/**
 * How often members are asked: as often as the operator says while all is well, and faster where the
 * next answer decides something. Pure.
 */
import type { ClusterConfig } from '../config/config.ts'
import type { FailoverState } from './failover.ts'

/** While nobody is believed to be the primary. */
const SEARCH_MS = 30
/** After searching in vain for so long, ask less often: nothing is about to happen. */
const SEARCH_FAST_MS = 180_000
const SEARCH_SLOW_MS = 250
/** While the primary's own word is all there is, it is asked at least this often. */
export const ALONE_MS = 250
/** While the primary is about to hand over. */
const PLANNED_MS = 100

/** Serving without a key. */
const ALONE: ReadonlySet<FailoverState> = new Set<FailoverState>([
  'failstatic',
  'unlocked',
  'vouched',
])

export interface Situation {
  readonly state: FailoverState
  readonly stateAgeMs: number
  readonly hasPrimary: boolean
  /** The primary is about to hand over. */
  readonly isPlanned: boolean
  /** A session waits for a replica to catch up, or a server was lost a moment ago. */
  readonly isBusy: boolean
}

export interface Pace {
  /** From question to question. */
  readonly periodMs: number
  /** The same to a member that does not answer. */
  readonly failurePeriodMs: number
  /** A primary is looked for. */
  readonly isSearching: boolean
}

export function paceOf(
  { hasPrimary, isBusy, isPlanned, state, stateAgeMs }: Situation,
  {
    probeBusyIntervalMs,
    probeIntervalMs,
  }: Pick<ClusterConfig, 'probeBusyIntervalMs' | 'probeIntervalMs'>,
): Pace {
  const isSearching = !hasPrimary && state !== 'standby'
  const searchMs = stateAgeMs < SEARCH_FAST_MS ? SEARCH_MS : SEARCH_SLOW_MS
  let periodMs = probeIntervalMs
  if (ALONE.has(state)) periodMs = Math.min(periodMs, ALONE_MS)
  if (isPlanned) periodMs = Math.min(periodMs, PLANNED_MS)
  if (isSearching) periodMs = Math.min(periodMs, searchMs)
  if (isBusy) periodMs = Math.min(periodMs, probeBusyIntervalMs)
  const failurePeriodMs = isSearching ? Math.min(probeIntervalMs, searchMs) : probeIntervalMs
  return { periodMs, failurePeriodMs, isSearching }
}
