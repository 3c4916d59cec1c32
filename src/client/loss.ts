/**
 * What a client gets when its server is lost: one reply for every message that was on its way, as
 * docs/failover.md tells in its table. Pure: it reads what was sent and what was answered, and says
 * what goes out and what becomes of the transaction.
 *
 * Messages are taken in groups that end with a ReadyForQuery. Groups of one transaction share its
 * fate: when its end may have been reached, none of them may be told to try again.
 */
import { type ErrorCode, ProxyError } from '../base/errors.ts'
import type { PinReason } from '../routing/classify.ts'
import * as frame from '../wire/frame.ts'
import type { Entry, EntryKind } from '../wire/ledger.ts'
import {
  BIND_COMPLETE_FRAME,
  CLOSE_COMPLETE_FRAME,
  commandComplete,
  type ErrorCodes,
  errorResponse,
  NO_DATA_FRAME,
  PARSE_COMPLETE_FRAME,
  readyForQuery,
} from '../wire/messages.ts'
import { NO_PARAMETERS } from './local.ts'
import type { Session } from './session.ts'
import {
  behind,
  CLOSES,
  ENDS,
  HIDDEN,
  LONE,
  MANY,
  OPENS,
  OWN,
  PARTS,
  READS,
  WRITES,
} from './stake.ts'

export interface Loss {
  /** What the server still had to answer. */
  readonly owed: readonly Entry[]
  /** Of the answer in progress: what was answered, and how many CommandCompletes came. */
  readonly answeredStake: number
  readonly completes: number
  /** The error of the answer in progress went out. */
  readonly hasFailed: boolean
  /** Extended messages were sent whose Sync was not. */
  readonly isUnsynced: boolean
  /** As the last ReadyForQuery told. */
  readonly isOpen: boolean
  readonly isFailed: boolean
  readonly isReplica: boolean
  /** It said FATAL 57P01 as an error: what it was doing was aborted. */
  readonly isAborted: boolean
}

export interface Outcome {
  readonly replies: Buffer
  /** SQLSTATEs of the errors among them. */
  readonly sqlstates: readonly string[]
  readonly isOpen: boolean
  /** The client knows that its open transaction is lost. */
  readonly isTold: boolean
  /** What of it may have happened. */
  readonly isUnknown: boolean
  /** The last group is not complete and failed: the rest up to its Sync is void. */
  readonly isRestVoid: boolean
}

interface Group {
  readonly entries: Entry[]
  stake: number
  /** Ends with a ReadyForQuery. */
  isReady: boolean
  /** Messages that run something. */
  runs: number
}

type ErrorName =
  | 'transaction_retry'
  | 'transaction_lost'
  | 'statement_lost'
  | 'replica_lost'
  | 'outcome_unknown'

export function outcomeOf(loss: Loss, codes: ErrorCodes): Outcome {
  return new Teller(loss, codes).tell()
}

/** What a session loses that cannot go on without its server. */
function lostState(reasons: readonly PinReason[]): string {
  if (reasons.length === 0) return 'the session that it was held for (pool_mode = session)'
  return reasons.map((reason) => STATES[reason]).join(', ')
}

const STATES: Readonly<Record<PinReason, string>> = {
  listen: 'what the session listens to (LISTEN)',
  temp_table: 'its temporary tables',
  advisory_lock: 'its advisory locks',
  hold_cursor: 'its cursors WITH HOLD',
  sql_prepare: 'what it had prepared (PREPARE)',
  set_config: 'what set_config had set',
  load: 'what it had loaded (LOAD)',
  sequence_value: 'its currval and lastval',
}

class Teller {
  readonly #loss: Loss
  readonly #codes: ErrorCodes
  readonly #groups: readonly Group[]
  readonly #replies: Buffer[] = []
  readonly #sqlstates: string[] = []
  #isOpen: boolean
  #isTold: boolean
  #isRestVoid = false

  constructor(loss: Loss, codes: ErrorCodes) {
    this.#loss = loss
    this.#codes = codes
    this.#groups = groupsOf(loss)
    this.#isOpen = isOpenBehind(loss.isOpen, loss.answeredStake)
    this.#isTold = loss.isFailed && this.#isOpen
  }

  tell(): Outcome {
    const unknown = this.#unknownGroups()
    for (const [index, group] of this.#groups.entries())
      this.#reply(group, index === 0, unknown[index] === true)
    return {
      replies: Buffer.concat(this.#replies),
      sqlstates: this.#sqlstates,
      isOpen: this.#isOpen,
      isTold: this.#isTold,
      isUnknown: unknown.includes(true),
      isRestVoid: this.#isRestVoid,
    }
  }

  /** Which groups belong to a transaction, of one statement or of many, that may have ended well. */
  #unknownGroups(): boolean[] {
    const unknown: boolean[] = []
    let isOpen = this.#isOpen
    let spanStart = 0
    for (const [index, group] of this.#groups.entries()) {
      if (!isOpen) spanStart = index
      const isAutocommit = !isOpen && (group.stake & OPENS) === 0
      unknown.push(false)
      if (this.#mayHaveHappened(group, isAutocommit, index === 0))
        for (let at = spanStart; at <= index; at += 1) unknown[at] = true
      else if (isOpen && unknown[index - 1] === true) unknown[index] = true
      isOpen = isOpenBehind(isOpen, group.stake)
    }
    return unknown
  }

  #mayHaveHappened(group: Group, isAutocommit: boolean, isHead: boolean): boolean {
    const { isAborted, isFailed, isReplica } = this.#loss
    if (isReplica || (isFailed && !isAutocommit)) return false
    const { stake } = group
    const isAtRisk = (stake & (ENDS | HIDDEN)) !== 0 || (isAutocommit && (stake & WRITES) !== 0)
    if (!isAtRisk || !isAborted) return isAtRisk
    return isHead && !this.#isProved(group, isAutocommit)
  }

  /** The server was inside this group when it said FATAL 57P01: was all of it aborted? */
  #isProved(group: Group, isAutocommit: boolean): boolean {
    const { answeredStake, completes } = this.#loss
    if ((group.stake & HIDDEN) !== 0) return false
    if (isAutocommit && (group.stake & PARTS) !== 0) return false
    if ((group.stake & MANY) !== 0 && completes > 0) return false
    // What was answered is committed by the Sync behind it.
    return group.runs > 0 || (answeredStake & WRITES) === 0
  }

  #reply(group: Group, isHead: boolean, isUnknown: boolean): void {
    const wasOpen = this.#isOpen
    const willBeOpen = isOpenBehind(wasOpen, group.stake)
    if (isHead && this.#loss.hasFailed) {
      this.#isOpen = wasOpen || (group.stake & OPENS) !== 0
      this.#isTold = this.#isOpen
      this.#isRestVoid = !group.isReady
      this.#ready(group)
    } else if ((group.stake & OWN) !== 0) {
      this.#own(group)
    } else if (isHead && this.#isDone(group, willBeOpen)) {
      this.#isOpen = willBeOpen
      this.#complete(group, '')
    } else if (this.#isRolledBack(group, wasOpen, isUnknown)) {
      this.#isOpen = false
      this.#isTold = false
      this.#complete(group, 'ROLLBACK')
    } else {
      this.#fail(group, this.#errorOf(group, wasOpen, isUnknown), willBeOpen)
    }
  }

  /** Nothing of it is left but its ReadyForQuery. */
  #isDone(group: Group, willBeOpen: boolean): boolean {
    const { answeredStake, completes } = this.#loss
    const [first] = group.entries
    if (first?.kind === 'query') return completes > 0 && (group.stake & MANY) === 0
    const isLeftOver = group.entries.every(({ kind }) => LEFT_OVER.has(kind))
    if (group.runs > 0 || !isLeftOver || completes === 0) return false
    return willBeOpen || (answeredStake & (WRITES | PARTS | HIDDEN)) === 0
  }

  /** A ROLLBACK, or the COMMIT of a transaction that is known to be lost. */
  #isRolledBack(group: Group, wasOpen: boolean, isUnknown: boolean): boolean {
    if ((group.stake & LONE) === 0 || group.runs !== 1 || isUnknown) return false
    return (group.stake & ENDS) === 0 || (wasOpen && this.#isTold)
  }

  #errorOf(group: Group, wasOpen: boolean, isUnknown: boolean): ErrorName {
    if (isUnknown) return 'outcome_unknown'
    if (wasOpen && this.#isTold) return 'transaction_lost'
    if (wasOpen || (group.stake & (OPENS | CLOSES)) !== 0) return 'transaction_retry'
    if (this.#loss.isReplica) return 'replica_lost'
    const isSure = this.#loss.isAborted || (group.stake & (READS | WRITES)) === 0
    return isSure ? 'statement_lost' : 'outcome_unknown'
  }

  #fail(group: Group, name: ErrorName, willBeOpen: boolean): void {
    const error = new ProxyError(name)
    this.#sqlstates.push(error.sqlstate)
    this.#isOpen = name === 'transaction_lost' || willBeOpen
    this.#isTold = this.#isOpen
    this.#isRestVoid = !group.isReady
    this.#replies.push(errorResponse(error, this.#codes))
    this.#ready(group)
  }

  #complete(group: Group, tag: string): void {
    for (const entry of group.entries) this.#replies.push(...repliesTo(entry, tag))
    this.#ready(group)
  }

  /** Its last message is the ReadyForQuery of a server that is gone. */
  #own(group: Group): void {
    const [entry] = group.entries
    const reply = entry?.reply?.() ?? Buffer.alloc(0)
    this.#replies.push(reply.subarray(0, Math.max(reply.length - READY_BYTES, 0)))
    this.#ready(group)
  }

  #ready(group: Group): void {
    if (group.isReady) this.#replies.push(readyForQuery(this.#status))
  }

  get #status(): number {
    if (!this.#isOpen) return frame.STATUS_IDLE
    return this.#isTold ? frame.STATUS_FAILED : frame.STATUS_OPEN
  }
}

const READY_BYTES = 6
/** Behind the last Execute. */
const LEFT_OVER: ReadonlySet<EntryKind> = new Set(['sync', 'close', 'local'])
const READY_KINDS: ReadonlySet<EntryKind> = new Set(['query', 'function', 'sync'])

function isOpenBehind(isOpen: boolean, stake: number): boolean {
  if ((stake & CLOSES) !== 0) return false
  return isOpen || (stake & OPENS) !== 0
}

function groupsOf({ owed, answeredStake, isUnsynced }: Loss): Group[] {
  const groups: Group[] = []
  const stake = answeredStake & ~(OPENS | CLOSES)
  let group: Group = { entries: [], stake, isReady: false, runs: 0 }
  for (const entry of owed) {
    if (!entry.forward) continue
    group.entries.push(entry)
    group.stake = behind(group.stake, entry.stake ?? 0)
    if (entry.kind === 'query' || entry.kind === 'function' || entry.kind === 'execute')
      group.runs += 1
    if (!READY_KINDS.has(entry.kind) && ((entry.stake ?? 0) & OWN) === 0) continue
    group.isReady = true
    groups.push(group)
    group = { entries: [], stake: 0, isReady: false, runs: 0 }
  }
  if (group.entries.length > 0 || isUnsynced) groups.push(group)
  return groups
}

/** What the server would have said, had it lived. */
function repliesTo(entry: Entry, tag: string): readonly Buffer[] {
  switch (entry.kind) {
    case 'parse':
      return [PARSE_COMPLETE_FRAME]
    case 'bind':
      return [BIND_COMPLETE_FRAME]
    case 'describe':
      return [NO_DATA_FRAME]
    case 'describe_statement':
      return [NO_PARAMETERS, NO_DATA_FRAME]
    case 'close':
      return [CLOSE_COMPLETE_FRAME]
    case 'query':
    case 'execute':
      return tag === '' ? [] : [commandComplete(tag)]
    case 'local':
      return entry.reply === null ? [] : [entry.reply()]
    case 'function':
    case 'sync':
      return []
  }
}

/** What ends a server by order of the operator ends its client too. */
const ORDERS: ReadonlySet<ErrorCode> = new Set([
  'admin_disconnect',
  'database_changed',
  'database_removed',
  'server_shutting_down',
  'shutting_down',
])

/** Whether the session may go on without the server that it held. */
export function mayOutlive({ pins, pool }: Session, error: ProxyError): boolean {
  return pool.config.poolMode !== 'session' && !pins.isPinned && !ORDERS.has(error.code)
}

/** Why the session ends with its server. */
export function endOf({ pins }: Session, error: ProxyError, isUnknown: boolean): ProxyError {
  if (ORDERS.has(error.code)) return error
  const state = lostState(pins.reasons)
  return new ProxyError(isUnknown ? 'session_outcome_unknown' : 'session_lost', { state }, error)
}
