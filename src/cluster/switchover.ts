/**
 * The planned handover of the primary, as a table like failover.ts: when pools drain, when new
 * writes wait, and when that is over. It never names a primary and never ends a connection; nothing
 * in it lasts for ever, whatever Patroni does or leaves undone. Pure: the same plan and evidence give
 * the same result. docs/failover.md prints the table and a test compares the two.
 */
import { invariant } from '../base/invariant.ts'
import type { FailoverRequest } from './source.ts'
import type { Switchover, Topology } from './topology.ts'

export const SWITCHOVER_STATES = {
  none: 'Nothing is planned.',
  draining: 'A switchover was asked for: pools make no new connections to the primary.',
  holding: 'New write transactions wait for the next primary.',
  spent: 'It was waited for in vain: writes go on, until something new is heard.',
} as const satisfies Record<string, string>

export type SwitchoverState = keyof typeof SWITCHOVER_STATES

/** The primary that is served now. */
export interface Incumbent {
  readonly name: string
  readonly timeline: number
  /** When its postmaster started, by its own clock; null when it has not said so. */
  readonly started: string | null
}

export interface PlanEvidence {
  readonly nowMs: number
  /** Milliseconds since 1970, for the time that a switchover was scheduled for. */
  readonly wallMs: number
  /** Null while there is no verified primary. */
  readonly incumbent: Incumbent | null
  /** When the question was sent that the primary answered last as such; null when it does not. */
  readonly confirmedMs: number | null
  /** The source was forgotten, or the cluster takes no writes at all. */
  readonly isMoot: boolean
  readonly request: FailoverRequest | null
  /** When Patroni's hook said last that it is about to stop the primary. */
  readonly calledMs: number | null
  /** The primary's Patroni is expected to call before it stops it. */
  readonly hasHook: boolean
  readonly limits: PlanLimits
}

export interface PlanLimits {
  /** From the request to the hold; 0: only the hook begins one. */
  readonly graceMs: number
  /** After so long, twice, a primary that was called for and serves is not going to be stopped. */
  readonly drainMsMax: number
  /** How long a request alone may drain, and hold. */
  readonly requestMsMax: number
}

/** How planned switchovers are held: keys of [pgsteer]. */
export interface PlannedLimits {
  readonly switchoverGraceMs: number
  readonly switchoverDrainMsMax: number
  /** Null: 2 x ttl + 10 s. */
  readonly failoverHoldMsMax: number | null
}

export const PLANNED: PlannedLimits = {
  switchoverGraceMs: 300,
  switchoverDrainMsMax: 5000,
  failoverHoldMsMax: null,
}

/** On top of 2 x ttl: how long holds last where the configuration does not say. */
const HOLD_EXTRA_MS = 10_000
/** Below this a drain is given up before Patroni can have stopped the primary. */
const DRAIN_MS_MIN = 1000

/** Half of what the first that waits has is left for the real failover. */
export function planLimits(planned: PlannedLimits, ttlMs: number): PlanLimits {
  return {
    graceMs: planned.switchoverGraceMs,
    drainMsMax: Math.max(planned.switchoverDrainMsMax, DRAIN_MS_MIN),
    requestMsMax: (planned.failoverHoldMsMax ?? 2 * ttlMs + HOLD_EXTRA_MS) / 2,
  }
}

export interface Plan {
  readonly state: SwitchoverState
  /** When this state began. */
  readonly sinceMs: number
  /** Whom it concerns; null in `none`. */
  readonly incumbent: Incumbent | null
  readonly candidate: string | null
  /** It began with a request, and ends with it. */
  readonly isRequested: boolean
  /** The hook's word is what it rests on. */
  readonly isCalled: boolean
  /** The newest call of the hook that was heeded. */
  readonly heardMs: number | null
}

export const NO_PLAN: Plan = {
  state: 'none',
  sinceMs: 0,
  incumbent: null,
  candidate: null,
  isRequested: false,
  isCalled: false,
  heardMs: null,
}

const CONDITIONS = {
  'it is moot': (_, evidence) => evidence.isMoot,
  'the hook calls': (plan, evidence) => isCall(plan, evidence),
  'a due request names the primary': (_, evidence) => dueRequest(evidence) !== null,
  'there is a new primary': (plan, { incumbent }) =>
    incumbent !== null &&
    (incumbent.name !== plan.incumbent?.name || incumbent.timeline !== plan.incumbent.timeline),
  'the primary was started again': (plan, { incumbent }) =>
    typeof incumbent?.started === 'string' &&
    typeof plan.incumbent?.started === 'string' &&
    incumbent.started !== plan.incumbent.started,
  'the request is gone': (plan, evidence) =>
    plan.isRequested && evidence.incumbent !== null && dueRequest(evidence) === null,
  'the grace is over': (plan, { nowMs, hasHook, limits }) =>
    !hasHook && limits.graceMs > 0 && nowMs - plan.sinceMs >= limits.graceMs,
  'it serves on though the hook called': (plan, evidence) =>
    plan.isCalled && servesSince(plan.sinceMs + 2 * evidence.limits.drainMsMax, evidence),
  'it serves on though a switchover was asked for': (plan, evidence) =>
    !plan.isCalled && servesSince(plan.sinceMs + evidence.limits.requestMsMax, evidence),
  'nothing is asked for': (plan, evidence) =>
    !plan.isRequested && evidence.incumbent !== null && dueRequest(evidence) === null,
} as const satisfies Record<string, (plan: Plan, evidence: PlanEvidence) => boolean>

type Condition = keyof typeof CONDITIONS

interface Row {
  readonly from: SwitchoverState
  readonly when: Condition
  readonly to: SwitchoverState
  readonly because: string
}

/** In the order in which they are tried. */
export const SWITCHOVER_ROWS: readonly Row[] = [
  row('none', 'it is moot', 'none', 'a standby cluster, or RECONNECT: there is nothing to hold'),
  row('none', 'the hook calls', 'holding', 'Patroni stops the primary next, asked or not'),
  row(
    'none',
    'a due request names the primary',
    'draining',
    'Patroni makes a CHECKPOINT first, or refuses',
  ),

  row('draining', 'it is moot', 'none', 'a standby cluster, or RECONNECT'),
  row('draining', 'there is a new primary', 'none', 'it went faster than the grace'),
  row('draining', 'the primary was started again', 'none', 'what was planned is over'),
  row('draining', 'the request is gone', 'none', 'it was refused or taken back'),
  row('draining', 'the hook calls', 'holding', 'the CHECKPOINT is done, the stop is next'),
  row('draining', 'the grace is over', 'holding', 'without a hook nobody says when the stop comes'),
  row(
    'draining',
    'it serves on though a switchover was asked for',
    'spent',
    'nothing drains for ever',
  ),

  row('holding', 'it is moot', 'none', 'a standby cluster, or RECONNECT'),
  row(
    'holding',
    'there is a new primary',
    'none',
    'writes go on there, in the order they waited in',
  ),
  row('holding', 'the primary was started again', 'none', 'a restart, no handover: it is back'),
  row('holding', 'the request is gone', 'none', 'it was refused or taken back: no stall'),
  row(
    'holding',
    'it serves on though the hook called',
    'spent',
    'Patroni called but did not stop it',
  ),
  row(
    'holding',
    'it serves on though a switchover was asked for',
    'spent',
    'the CHECKPOINT lasts, or nobody acts on the request',
  ),

  row('spent', 'it is moot', 'none', 'a standby cluster, or RECONNECT'),
  row('spent', 'there is a new primary', 'none', 'it came after all'),
  row('spent', 'the primary was started again', 'none', 'what was planned is over'),
  row('spent', 'the hook calls', 'holding', 'now it is really about to stop'),
  row('spent', 'the request is gone', 'none', 'the next one counts again'),
  row('spent', 'nothing is asked for', 'none', 'the next call or request counts again'),
]

/** More moves than this in one turn would be a cycle in the table. */
const MOVES_MAX = 4

/**
 * Makes every move that the evidence calls for.
 *
 * Returns the plan after them, and the rows taken, for the log.
 */
export function advancePlan(
  plan: Plan,
  evidence: PlanEvidence,
): { readonly plan: Plan; readonly taken: readonly Row[] } {
  const taken: Row[] = []
  let now = noteCall(withStart(plan, evidence), evidence)
  for (;;) {
    const next = SWITCHOVER_ROWS.find(
      (one) => one.from === now.state && CONDITIONS[one.when](now, evidence),
    )
    if (next === undefined || next.to === next.from) return { plan: now, taken }
    invariant(taken.length < MOVES_MAX, 'the switchover table has no cycle')
    taken.push(next)
    now = entered(now, next, evidence)
  }
}

/** What workers are told of it. */
export function switchoverOf(plan: Plan): Switchover | null {
  if (plan.state === 'none' || plan.state === 'spent') return null
  return { candidate: plan.candidate, holds: plan.state === 'holding' }
}

/** A control process that takes over goes on holding what its predecessor held, bounded anew. */
export function resumedPlan(previous: Topology, nowMs: number): Plan {
  const { primary: name, timeline, switchover } = previous
  if (switchover?.holds !== true || name === null || timeline === null) return NO_PLAN
  const incumbent = { name, timeline, started: null }
  const { candidate } = switchover
  return {
    state: 'holding',
    sinceMs: nowMs,
    incumbent,
    candidate,
    isRequested: false,
    isCalled: true,
    heardMs: null,
  }
}

/**
 * The request that Patroni's leader acts on now, if it is about this primary: a switchover that
 * names it, or a failover to another member without a leader. A time that cannot be read is never
 * due: the hook tells then. Source: process_manual_failover_from_leader in patroni/ha.py.
 */
function dueRequest(evidence: PlanEvidence): FailoverRequest | null {
  const { request, incumbent, wallMs } = evidence
  if (request === null || incumbent === null) return null
  const { leader, candidate, scheduledAt } = request
  if (leader !== null && leader !== incumbent.name) return null
  if (candidate === incumbent.name) return null
  return scheduledAt === null || Date.parse(scheduledAt) <= wallMs ? request : null
}

/** The primary answered as such a question that was sent after `sinceMs`. */
function servesSince(sinceMs: number, { incumbent, confirmedMs }: PlanEvidence): boolean {
  return incumbent !== null && confirmedMs !== null && confirmedMs >= sinceMs
}

function isCall(plan: Plan, { calledMs, incumbent }: PlanEvidence): boolean {
  return incumbent !== null && calledMs !== null && calledMs !== plan.heardMs
}

function entered(plan: Plan, { to: state }: Row, evidence: PlanEvidence): Plan {
  const heardMs = evidence.calledMs
  if (state === 'none') return { ...NO_PLAN, heardMs }
  const request = dueRequest(evidence)
  return {
    state,
    sinceMs: evidence.nowMs,
    incumbent: plan.incumbent ?? evidence.incumbent,
    candidate: request?.candidate ?? plan.candidate,
    isRequested: request !== null || plan.isRequested,
    isCalled: state === 'holding' && isCall(plan, evidence),
    heardMs: state === 'draining' ? plan.heardMs : heardMs,
  }
}

/** What is held already rests on the hook's word from the moment it calls. */
function noteCall(plan: Plan, evidence: PlanEvidence): Plan {
  if (plan.state !== 'holding' || !isCall(plan, evidence)) return plan
  return { ...plan, isCalled: true, sinceMs: evidence.nowMs, heardMs: evidence.calledMs }
}

/** When the primary started may be learnt later than the plan began. */
function withStart(plan: Plan, { incumbent }: PlanEvidence): Plan {
  const known = plan.incumbent
  if (known === null || known.started !== null || incumbent === null) return plan
  const isSame = known.name === incumbent.name && known.timeline === incumbent.timeline
  return isSame ? { ...plan, incumbent } : plan
}

function row(from: SwitchoverState, when: Condition, to: SwitchoverState, because: string): Row {
  return { from, when, to, because }
}
