/**
 * The failover machine: in whom we believe, as a table. Events are recorded as evidence elsewhere;
 * `advance` looks at it and makes the moves whose condition holds, first row first, until none
 * does. Pure: the same beliefs and evidence give the same result. docs/failover.md prints the table
 * and a test compares the two.
 */
import { invariant, unreachable } from '../base/invariant.ts'
import {
  type Beliefs,
  type Evidence,
  failuresOf,
  isBlind,
  isConfirmed,
  isConfirmedAlone,
  isPastTtl,
  isVouchedFor,
  isWitnessed,
  leaderOf,
  rivalOf,
  sameReign,
  silence,
  type Verified,
  verify,
} from './evidence.ts'
import type { Topology } from './topology.ts'

export const FAILOVER_STATES = {
  unseen: 'The source has not answered once.',
  vacant: 'Nobody leads.',
  verifying: 'A member leads; its own SQL, identity and timeline have yet to agree.',
  serving: 'All three agree: writes flow.',
  interrupted: 'The same member leads in the same reign, but its SQL does not confirm it.',
  failstatic: 'The source is silent; the verified primary serves while its SQL confirms it.',
  unlocked: 'Patroni is paused and the leader key is gone; the verified primary serves on.',
  vouched:
    'The leader key ran out in failsafe mode; all members answer for the verified primary, which serves on.',
  fenced: 'The reign of the verified primary is over: it takes no new work, and nobody leads yet.',
  standby: 'The cluster is a standby cluster: nothing in it takes writes.',
} as const satisfies Record<string, string>

export type FailoverState = keyof typeof FAILOVER_STATES

/** The states in which a primary is named. */
const NAMED: ReadonlySet<FailoverState> = new Set(['serving', 'failstatic', 'unlocked', 'vouched'])

/** The questions a row can ask, each a pure function of beliefs and evidence. */
const CONDITIONS = {
  'a view came': (_, evidence) => evidence.view !== null,
  'it is a standby cluster': (_, evidence) => evidence.view?.dynamic.standbyCluster === true,
  'it is no standby cluster': (_, evidence) => evidence.view?.dynamic.standbyCluster === false,
  'a member leads': (_, evidence) => leaderOf(evidence) !== null,
  'another member leads': ({ verified, isFenced }, evidence) => {
    const leader = leaderOf(evidence)
    return verified !== null && !isFenced && leader !== null && leader !== verified.name
  },
  'nobody leads': (_, evidence) => leaderOf(evidence) === null,
  'nobody leads, not paused': (_, evidence) => leaderOf(evidence) === null && !isPaused(evidence),
  'all three agree': (beliefs, evidence) => typeof verify(beliefs, evidence) !== 'string',
  'the reign is over': (beliefs, evidence) => !sameReign(beliefs, evidence),
  'the source is silent': (_, evidence) => isBlind(evidence),
  'the source answers': (_, evidence) => !isBlind(evidence),
  'paused without a key': (_, evidence) => isPaused(evidence) && leaderOf(evidence) === null,
  'paused without a key, SQL confirms': (beliefs, evidence) =>
    isPaused(evidence) && leaderOf(evidence) === null && servesUnlocked(beliefs, evidence),
  'it leads again, SQL confirms': (beliefs, evidence) =>
    leaderOf(evidence) === beliefs.verified?.name && servesUnlocked(beliefs, evidence),
  'SQL denies or is too old': (beliefs, evidence) =>
    beliefs.verified === null ||
    !isConfirmed(beliefs.verified, evidence, evidence.limits.confirmMs),
  'the source is silent, SQL confirms': (beliefs, evidence) =>
    isBlind(evidence) && servesAlone(beliefs, evidence),
  'SQL stops to confirm, alone': (beliefs, evidence) => !servesAlone(beliefs, evidence),
  'nobody leads, failsafe vouches': (beliefs, evidence) => servesVouched(beliefs, evidence),
  'failsafe vouches no more': (beliefs, evidence) => !servesVouched(beliefs, evidence),
  'SQL stops to confirm, unlocked': (beliefs, evidence) => !servesUnlocked(beliefs, evidence),
} as const satisfies Record<string, (beliefs: Beliefs, evidence: Evidence) => boolean>

type Condition = keyof typeof CONDITIONS

/**
 * `fence`: the term grows and the verified primary takes no new work. `believe`: what the evidence
 * verifies becomes the primary; the term grows unless it is the same primary, not fenced, on the
 * same timeline. `adopt`: the same primary in a new reign, its connections untouched. `restore`: the
 * same primary in the same reign; the term grows if it was fenced.
 */
type Effect = 'none' | 'fence' | 'believe' | 'adopt' | 'restore'

interface Row {
  readonly from: FailoverState
  readonly when: Condition
  readonly to: FailoverState
  readonly effect: Effect
  readonly because: string
}

/** In the order in which they are tried. A row that leads to its own state means: stay. */
export const FAILOVER_ROWS: readonly Row[] = [
  row(
    'unseen',
    'it is a standby cluster',
    'standby',
    'none',
    'its leader never leaves recovery; a hold would be for ever',
  ),
  row(
    'unseen',
    'another member leads',
    'fenced',
    'fence',
    'the primary of the control process before this one was replaced',
  ),
  row(
    'unseen',
    'a member leads',
    'verifying',
    'none',
    'the leader key is a claim until SQL agrees',
  ),
  row('unseen', 'a view came', 'vacant', 'none', 'bootstrap, or an election under way'),

  row('vacant', 'it is a standby cluster', 'standby', 'none', 'the flag was set while nobody led'),
  row(
    'vacant',
    'paused without a key, SQL confirms',
    'unlocked',
    'none',
    'verified by the control process before this one, in pause',
  ),
  row(
    'vacant',
    'nobody leads, failsafe vouches',
    'vouched',
    'restore',
    'verified before, by this control process or the one before it',
  ),
  row(
    'vacant',
    'another member leads',
    'fenced',
    'fence',
    'the one that the control process before this one verified was replaced',
  ),
  row(
    'vacant',
    'a member leads',
    'verifying',
    'none',
    'the key comes 0.2 s before the member is writable',
  ),

  row('verifying', 'it is a standby cluster', 'standby', 'none', 'a standby leader is no primary'),
  row(
    'verifying',
    'another member leads',
    'fenced',
    'fence',
    'its claim came before SQL agreed with the one of the control process before this one',
  ),
  row(
    'verifying',
    'nobody leads',
    'vacant',
    'none',
    'the promotion failed and the key was given back',
  ),
  row(
    'verifying',
    'all three agree',
    'serving',
    'believe',
    'the source, its own SQL, and identity with timeline',
  ),

  row('serving', 'it is a standby cluster', 'standby', 'fence', 'patronictl demote-cluster'),
  row(
    'serving',
    'paused without a key, SQL confirms',
    'unlocked',
    'none',
    'in pause PostgreSQL runs on without the key',
  ),
  row(
    'serving',
    'paused without a key',
    'interrupted',
    'none',
    'in pause nobody else is promoted, so no fence',
  ),
  row(
    'serving',
    'nobody leads, failsafe vouches',
    'vouched',
    'none',
    'its Patroni is cut off from the store; nobody races while all members answer it',
  ),
  row(
    'serving',
    'the reign is over',
    'fenced',
    'fence',
    'from this moment on another member may be promoted',
  ),
  row(
    'serving',
    'SQL denies or is too old',
    'interrupted',
    'none',
    'crash, restart, demotion, or promotion under an unchanged key',
  ),
  row(
    'serving',
    'the source is silent',
    'failstatic',
    'none',
    'losing the store is not losing the primary',
  ),

  row(
    'interrupted',
    'it is a standby cluster',
    'standby',
    'fence',
    'demoted together with the cluster',
  ),
  row(
    'interrupted',
    'paused without a key, SQL confirms',
    'unlocked',
    'none',
    'started again by hand in pause',
  ),
  row(
    'interrupted',
    'paused without a key',
    'interrupted',
    'none',
    'in pause nobody takes over: wait for it',
  ),
  row(
    'interrupted',
    'the reign is over',
    'fenced',
    'fence',
    'its lease ran out, or it gave the key back',
  ),
  row(
    'interrupted',
    'all three agree',
    'serving',
    'believe',
    'restarted in place, or promoted again under the same key on a later timeline',
  ),
  row(
    'interrupted',
    'the source is silent, SQL confirms',
    'failstatic',
    'none',
    'restarted in place while the store was gone',
  ),

  row(
    'failstatic',
    'the source answers',
    'serving',
    'none',
    'the rows of serving judge what it says',
  ),
  row(
    'failstatic',
    'SQL stops to confirm, alone',
    'interrupted',
    'none',
    'no answer in time, a rival, or no witness after ttl',
  ),

  row('unlocked', 'it is a standby cluster', 'standby', 'fence', 'demoted in pause'),
  row(
    'unlocked',
    'it leads again, SQL confirms',
    'serving',
    'adopt',
    'its Patroni was started again; nothing happened to its sessions',
  ),
  row(
    'unlocked',
    'a member leads',
    'fenced',
    'fence',
    'somebody else was made the leader in pause',
  ),
  row(
    'unlocked',
    'nobody leads, failsafe vouches',
    'vouched',
    'none',
    'the pause is over, but its Patroni is cut off from the store',
  ),
  row(
    'unlocked',
    'nobody leads, not paused',
    'fenced',
    'fence',
    'the pause is over: an election may begin',
  ),
  row(
    'unlocked',
    'SQL stops to confirm, unlocked',
    'interrupted',
    'none',
    'it stopped, a second primary claims, or the source is silent past ttl',
  ),

  row('vouched', 'it is a standby cluster', 'standby', 'fence', 'demoted while it was cut off'),
  row(
    'vouched',
    'it leads again, SQL confirms',
    'serving',
    'adopt',
    'its Patroni reaches the store again and made the key anew',
  ),
  row('vouched', 'a member leads', 'fenced', 'fence', 'another member took the key'),
  row(
    'vouched',
    'paused without a key, SQL confirms',
    'unlocked',
    'none',
    'paused meanwhile: nobody is promoted',
  ),
  row(
    'vouched',
    'failsafe vouches no more',
    'fenced',
    'fence',
    'a member does not answer it, its Patroni hangs, SQL denies, or the mode was turned off',
  ),

  row('fenced', 'it is a standby cluster', 'standby', 'none', 'demoted together with the cluster'),
  row(
    'fenced',
    'nobody leads, failsafe vouches',
    'vouched',
    'restore',
    'nobody led in between, and all members answer for it',
  ),
  row(
    'fenced',
    'a member leads',
    'verifying',
    'none',
    'a new reign: the fence is lifted only by the timeline rule',
  ),

  row('standby', 'it is no standby cluster', 'vacant', 'none', 'patronictl promote-cluster'),
]

/** What the machine is: its state, its term and what it remembers. */
export interface Failover {
  readonly state: FailoverState
  readonly term: number
  readonly beliefs: Beliefs
}

export const UNSEEN: Failover = {
  state: 'unseen',
  term: 0,
  beliefs: { verified: null, rivalSince: false, isFenced: false },
}

/**
 * The machine of a control process that takes over from another one: in the term that workers know,
 * believing what they were told last. A primary that is verified again on its timeline keeps its
 * term, and so its connections.
 */
export function resumed(previous: Topology): Failover {
  const { term, primary: name, timeline, systemIdentifier } = previous
  if (name === null || timeline === null || systemIdentifier === null) return { ...UNSEEN, term }
  const verified = { name, epoch: '', systemIdentifier, timeline }
  return { ...UNSEEN, term, beliefs: { ...UNSEEN.beliefs, verified } }
}

/** More moves than this in one turn would be a cycle in the table. */
const MOVES_MAX = 8

/**
 * Makes every move that the evidence calls for.
 *
 * Returns the machine after them, and the rows taken, for the log.
 */
export function advance(
  machine: Failover,
  evidence: Evidence,
): { readonly machine: Failover; readonly taken: readonly Row[] } {
  const taken: Row[] = []
  let now: Failover = { ...machine, beliefs: noteRival(machine.beliefs, evidence) }
  for (;;) {
    const next = FAILOVER_ROWS.find(
      (one) => one.from === now.state && CONDITIONS[one.when](now.beliefs, evidence),
    )
    if (next === undefined || next.to === next.from) return { machine: now, taken }
    invariant(taken.length < MOVES_MAX, 'the failover table has no cycle')
    taken.push(next)
    now = apply(now, next, evidence)
  }
}

/** RECONNECT: forgets whom it believed in, its timeline and every fence. The term still grows. */
export function forget(machine: Failover): Failover {
  return { ...UNSEEN, term: machine.term + 1 }
}

/** Whether the word of the verified primary's own Patroni can make a difference now. */
export function wantsWitness({ state, beliefs }: Failover, evidence: Evidence): boolean {
  if (beliefs.verified === null) return false
  if (state === 'failstatic' || state === 'vouched') return true
  if (state === 'interrupted' && isBlind(evidence)) return true
  return canBeVouchedFor(beliefs, evidence) && (state === 'fenced' || state === 'vacant')
}

/** The verified primary that may be written to now, or null: hold. */
export function primaryOf(machine: Failover): Verified | null {
  return NAMED.has(machine.state) ? machine.beliefs.verified : null
}

/** What is missing for a primary, as one sentence for the operator; empty when there is one. */
export function missingOf(machine: Failover, evidence: Evidence): string {
  const { verified } = machine.beliefs
  switch (machine.state) {
    case 'serving':
    case 'failstatic':
    case 'unlocked':
    case 'vouched':
      return ''
    case 'standby':
      return 'this is a standby cluster, nothing in it takes writes'
    case 'fenced':
      return `${verified?.name} is fenced: ${evidence.view?.vacancy || 'it leads no longer'}`
    case 'unseen':
      return silence(evidence)
    case 'vacant':
      return `${evidence.view?.vacancy || 'nobody leads'}${failuresOf(evidence)}`
    case 'verifying':
    case 'interrupted':
      return interruption(machine.beliefs, evidence)
    default:
      return unreachable(machine.state)
  }
}

function interruption(beliefs: Beliefs, evidence: Evidence): string {
  const reason = verify(beliefs, evidence)
  const sentence = typeof reason === 'string' ? reason : `${reason.name} leads again`
  const { verified } = beliefs
  if (verified === null || !isBlind(evidence)) return sentence
  return `${sentence}, and ${whyNotAlone(verified, evidence)}`
}

function whyNotAlone(verified: Verified, evidence: Evidence): string {
  const rival = rivalOf(verified, evidence)
  if (rival !== null) return `both ${verified.name} and ${rival} take writes`
  if (!isConfirmedAlone(verified, evidence))
    return `${verified.name} does not confirm over SQL that it is the primary`
  return `Patroni on ${verified.name} does not confirm it on /primary`
}

function apply(machine: Failover, taken: Row, evidence: Evidence): Failover {
  const { beliefs, term } = machine
  const { to: state } = taken
  switch (taken.effect) {
    case 'none':
      return { state, term, beliefs }
    case 'fence':
      return { state, term: term + 1, beliefs: { ...beliefs, isFenced: true } }
    case 'adopt':
      return { state, term, beliefs: adopted(beliefs, evidence) }
    case 'restore': {
      const after = { ...beliefs, isFenced: false }
      return { state, term: beliefs.isFenced ? term + 1 : term, beliefs: after }
    }
    case 'believe': {
      const verified = verify(beliefs, evidence)
      invariant(typeof verified !== 'string', 'only what is verified is believed')
      const grows = beliefs.isFenced || !isSame(beliefs.verified, verified)
      const after = { verified, rivalSince: false, isFenced: false }
      return { state, term: grows ? term + 1 : term, beliefs: after }
    }
    default:
      return unreachable(taken.effect)
  }
}

function adopted(beliefs: Beliefs, evidence: Evidence): Beliefs {
  const { verified } = beliefs
  const epoch = evidence.view?.leader?.epoch
  invariant(verified !== null && epoch !== undefined, 'a reign is adopted by a verified primary')
  return { ...beliefs, verified: { ...verified, epoch } }
}

function isSame(one: Verified | null, other: Verified): boolean {
  return (
    one !== null &&
    one.name === other.name &&
    one.timeline === other.timeline &&
    one.systemIdentifier === other.systemIdentifier
  )
}

function noteRival(beliefs: Beliefs, evidence: Evidence): Beliefs {
  const leader = leaderOf(evidence)
  if (leader === null || beliefs.verified === null || leader === beliefs.verified.name)
    return beliefs
  return beliefs.rivalSince ? beliefs : { ...beliefs, rivalSince: true }
}

function canBeVouchedFor({ rivalSince }: Beliefs, evidence: Evidence): boolean {
  const isFailsafe = evidence.view?.dynamic.failsafeMode === true
  return isFailsafe && !rivalSince && leaderOf(evidence) === null && !isPaused(evidence)
}

function isPaused(evidence: Evidence): boolean {
  return evidence.view?.dynamic.paused === true
}

/** With the source silent: fresh SQL, no rival, and after ttl Patroni's own word. */
function servesAlone({ verified }: Beliefs, evidence: Evidence): boolean {
  if (verified === null || !isSole(verified, evidence)) return false
  return !isPastTtl(evidence) || isWitnessed(verified.name, evidence)
}

/** In pause without a key: fresh SQL and no rival, as long as the source can tell of a change. */
function servesUnlocked(beliefs: Beliefs, evidence: Evidence): boolean {
  const { verified, rivalSince, isFenced } = beliefs
  if (verified === null || rivalSince || isFenced) return false
  return isSole(verified, evidence) && !isPastTtl(evidence)
}

/**
 * Nobody holds the key, in failsafe mode: fresh SQL, no rival since, and the word of Patroni that
 * all members answer it. That holds while the source is silent, too.
 */
function servesVouched(beliefs: Beliefs, evidence: Evidence): boolean {
  const { verified } = beliefs
  if (verified === null || !canBeVouchedFor(beliefs, evidence)) return false
  const isHeard = isBlind(evidence)
    ? isConfirmedAlone(verified, evidence)
    : isConfirmed(verified, evidence, evidence.limits.confirmMs)
  if (!isHeard || rivalOf(verified, evidence) !== null) return false
  return isVouchedFor(verified.name, evidence)
}

function isSole(verified: Verified, evidence: Evidence): boolean {
  return isConfirmedAlone(verified, evidence) && rivalOf(verified, evidence) === null
}

function row(
  from: FailoverState,
  when: Condition,
  to: FailoverState,
  ...[effect, because]: [Effect, string]
): Row {
  return { from, when, to, effect, because }
}
