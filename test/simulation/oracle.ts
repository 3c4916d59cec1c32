/**
 * What the reply must be to everything that was under way when a server was lost: the table in
 * docs/failover.md ("What a client gets"), told a second time and without a line of src, so that the
 * two can be compared. It knows what was seen on the wire, and no ledger.
 */
export type Kind =
  | 'read'
  | 'write'
  | 'begin'
  | 'commit'
  | 'rollback'
  | 'savepoint'
  | 'rollback_to'
  | 'set'
  | 'listen'
  | 'call'
  | 'copy'

/** A SQLSTATE, or `done`: it was answered well; `repeat`: it goes to another server. */
export type Word = string

export interface Underway {
  readonly kind: Kind
  readonly isExtended: boolean
}

/** How the server said farewell: FATAL 57P01, a warning 57P01 or 57P02, or not at all. */
export type Farewell = 'none' | 'shutdown' | 'stopped' | 'crashed'

export interface Sight {
  readonly role: 'primary' | 'replica' | 'plain'
  readonly farewell: Farewell
  /** The proxy ended the connection, not the server. */
  readonly isOurs: boolean
  /** All of the member went with it. */
  readonly isMemberGone: boolean
  /** Of the answer in progress the client was sent: anything, CommandCompletes, an error. */
  readonly hasAnswered: boolean
  readonly completes: number
  readonly sqlstate: string
  /** As the client was told last. */
  readonly status: 'I' | 'T' | 'E'
}

/** The transaction behind the loss: none, lost and not told, lost and told. */
export type Lost = 'no' | 'untold' | 'told'

export interface Verdict {
  readonly words: readonly Word[]
  readonly lost: Lost
  /** Something under way may have happened. */
  readonly isUnknown: boolean
}

/** It was answered before the server was lost. */
export const ANYTHING: Word = 'anything'
const DONE: Word = 'done'
const RETRY: Word = '40001'
const FAILED: Word = '25P02'
const UNKNOWN: Word = '08007'
const ROLLED_BACK: Word = 'ROLLBACK'

interface Place {
  readonly sight: Sight
  readonly isHead: boolean
  readonly isOpen: boolean
  readonly isTold: boolean
  readonly isUnknown: boolean
}

export function verdictOf(underway: readonly Underway[], sight: Sight): Verdict {
  const unknown = unknownOf(underway, sight)
  const words: Word[] = []
  let isOpen = sight.status !== 'I'
  let isTold = sight.status === 'E'
  for (const [index, one] of underway.entries()) {
    const isUnknown = unknown[index] === true
    const word = wordOf(one, { sight, isHead: index === 0, isOpen, isTold, isUnknown })
    words.push(word)
    if (one.kind === 'commit' || one.kind === 'rollback') {
      isOpen = false
      isTold = false
    } else if (isOpen && word !== DONE) isTold = true
  }
  const inside = isTold ? 'told' : 'untold'
  const lost = isOpen ? inside : 'no'
  return { words, lost, isUnknown: unknown.includes(true) }
}

/** What belongs to a transaction, of one statement or of many, that may have been committed. */
function unknownOf(underway: readonly Underway[], sight: Sight): boolean[] {
  const unknown = underway.map(() => false)
  if (sight.role === 'replica') return unknown
  let isOpen = sight.status !== 'I'
  let isFailed = sight.status === 'E'
  let start = 0
  for (const [index, one] of underway.entries()) {
    if (!isOpen) start = index
    if (!isOpen) isFailed = false
    if (isAtRisk(one, { isOpen, isFailed, isHead: index === 0, sight }))
      unknown.fill(true, start, index + 1)
    else if (isOpen && index > start) unknown[index] = unknown[index - 1] === true
    if (one.kind === 'commit' || one.kind === 'rollback') isOpen = false
  }
  return unknown
}

function isAtRisk(
  { kind, isExtended }: Underway,
  at: { isOpen: boolean; isFailed: boolean; isHead: boolean; sight: Sight },
): boolean {
  const isOwn = !at.isOpen && (kind === 'write' || kind === 'copy')
  const isEnd = kind === 'commit' && at.isOpen && !at.isFailed
  if (kind !== 'call' && !isOwn && !isEnd) return false
  if (at.sight.farewell !== 'shutdown') return true
  // FATAL as an error proves an abort: of what had not been answered, and of nothing that commits
  // by itself. What was answered is committed by the Sync behind it.
  return at.isHead && (kind === 'call' || (isOwn && isExtended && at.sight.completes > 0))
}

function wordOf(one: Underway, place: Place): Word {
  const { sight, isHead, isOpen, isTold, isUnknown } = place
  const { kind } = one
  if (isHead && sight.sqlstate !== '') return sight.sqlstate
  if (isHead && sight.completes > 0 && (!one.isExtended || isOpen || !isChange(kind))) return DONE
  const isAnswered = kind === 'rollback' || (kind === 'commit' && isTold)
  if (isAnswered && !isUnknown) return ROLLED_BACK
  if (isUnknown) return UNKNOWN
  if (isOpen) return isTold && kind !== 'rollback_to' ? FAILED : RETRY
  return loneWord(one, sight)
}

function isChange(kind: Kind): boolean {
  return kind === 'write' || kind === 'copy' || kind === 'call'
}

function loneWord({ kind }: Underway, sight: Sight): Word {
  if (sight.role === 'replica') {
    const isRead = kind === 'read' || kind === 'write'
    if (isRead && mayRepeat(sight)) return 'repeat'
    // Whether the read is to blame, the end of the member's other connections may tell, or not.
    return isRead && sight.isMemberGone && sight.farewell === 'none' && !sight.hasAnswered
      ? ANYTHING
      : RETRY
  }
  if (sight.farewell === 'shutdown') return RETRY
  return kind === 'read' || isChange(kind) ? UNKNOWN : RETRY
}

/** No byte of its answer went out, and it is not what may have crashed the server. */
function mayRepeat({ farewell, hasAnswered, isOurs }: Sight): boolean {
  if (hasAnswered || farewell === 'crashed') return false
  return isOurs || farewell !== 'none'
}

/** What the next thing gets that is asked in a lost transaction. */
export function wordInLost(kind: Kind, lost: 'untold' | 'told'): Word {
  if (kind === 'rollback' || (kind === 'commit' && lost === 'told')) return ROLLED_BACK
  return lost === 'untold' || kind === 'rollback_to' ? RETRY : FAILED
}

export function isSatisfied(word: Word, wanted: Word): boolean {
  if (wanted === ANYTHING) return true
  if (wanted === 'repeat') return word !== RETRY
  if (wanted === DONE) return word === DONE || word === ROLLED_BACK
  return word === wanted
}
