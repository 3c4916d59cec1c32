/** Reads the heads of transaction control: BEGIN to ROLLBACK PREPARED, and lists of transaction modes. */
import type { Isolation, Statement } from './classify.ts'
import { type Head, kindAt, NOT_UNDERSTOOD, onlyName, plain, skipWords, wordAt } from './head.ts'
import { COMMA, STRING } from './lexer.ts'

export interface Modes {
  readonly readOnly?: boolean
  readonly isolation?: Isolation
  /** How many modes were named. */
  readonly count: number
}

/** BEGIN [WORK | TRANSACTION] modes, START TRANSACTION modes. */
export function beginOf(head: Head, at: number): Statement {
  const modes = modesOf(head, at)
  if (modes === null) return NOT_UNDERSTOOD
  return { ...plain('begin'), ...modeFields(modes), bare: true }
}

export function beginHead(head: Head): Statement {
  const word = wordAt(head, head.from + 1)
  return beginOf(head, head.from + (word === 'work' || word === 'transaction' ? 2 : 1))
}

export function startHead(head: Head): Statement {
  if (wordAt(head, head.from + 1) !== 'transaction') return NOT_UNDERSTOOD
  return beginOf(head, head.from + 2)
}

/** COMMIT and END, ROLLBACK and ABORT, each with PREPARED, TO and AND CHAIN where it may have them. */
export function endHead(head: Head): Statement {
  const first = wordAt(head, head.from)
  const verb = first === 'commit' || first === 'end' ? 'commit' : 'rollback'
  let at = head.from + 1
  if (wordAt(head, at) === 'prepared' && (first === 'commit' || first === 'rollback')) {
    if (kindAt(head, at + 1) !== STRING || at + 2 !== head.to) return NOT_UNDERSTOOD
    return plain(verb === 'commit' ? 'commit_prepared' : 'rollback_prepared')
  }
  const noise = wordAt(head, at)
  if (noise === 'work' || noise === 'transaction') at += 1
  if (at === head.to) return plain(verb)
  if (first === 'rollback' && wordAt(head, at) === 'to') return rollbackTo(head, at + 1)
  if (wordAt(head, at) !== 'and') return NOT_UNDERSTOOD
  const chain = wordAt(head, at + 1) !== 'no'
  at += chain ? 1 : 2
  if (wordAt(head, at) !== 'chain' || at + 1 !== head.to) return NOT_UNDERSTOOD
  return { ...plain(verb), chain }
}

function rollbackTo(head: Head, at: number): Statement {
  const name = savepointAt(head, at)
  return name === null ? NOT_UNDERSTOOD : { ...plain('rollback_to'), name }
}

export function savepointHead(head: Head): Statement {
  const name = onlyName(head, head.from + 1)
  return name === null ? NOT_UNDERSTOOD : { ...plain('savepoint'), name }
}

export function releaseHead(head: Head): Statement {
  const name = savepointAt(head, head.from + 1)
  return name === null ? NOT_UNDERSTOOD : { ...plain('release'), name }
}

/** `[SAVEPOINT] name`, where a savepoint may itself be called savepoint. */
function savepointAt(head: Head, at: number): string | null {
  return onlyName(head, at) ?? onlyName(head, skipWords(head, at, ['savepoint']))
}

/** SET [LOCAL | SESSION] TRANSACTION, from behind that word. */
export function setTransactionOf(head: Head, at: number): Statement {
  if (wordAt(head, at) === 'snapshot' && kindAt(head, at + 1) === STRING && at + 2 === head.to) {
    return plain('set_transaction')
  }
  const modes = modesOf(head, at)
  if (modes === null || modes.count === 0) return NOT_UNDERSTOOD
  return { ...plain('set_transaction'), ...modeFields(modes) }
}

/** SET SESSION CHARACTERISTICS AS TRANSACTION mode: one mode is one setting, several are not carried. */
export function characteristicsOf(head: Head, at: number): Statement {
  const modes = modesOf(head, at)
  if (modes === null || modes.count === 0) return NOT_UNDERSTOOD
  if (modes.count > 1) return { ...plain('other'), pins: ['set_config'] }
  const [name, value] = settingOf(head, at, modes)
  return { ...plain('set'), name, value }
}

function settingOf(head: Head, at: number, modes: Modes): readonly [string, string] {
  if (modes.readOnly !== undefined) {
    return ['default_transaction_read_only', modes.readOnly ? 'on' : 'off']
  }
  if (modes.isolation !== undefined) {
    const level = [wordAt(head, at + 2), wordAt(head, at + 3)].filter((word) => word !== '')
    return ['default_transaction_isolation', `'${level.join(' ')}'`]
  }
  return ['default_transaction_deferrable', wordAt(head, at) === 'not' ? 'off' : 'on']
}

const LEVELS: readonly (readonly [readonly string[], Isolation])[] = [
  [['serializable'], 'serializable'],
  [['repeatable', 'read'], 'repeatable_read'],
  [['read', 'committed'], 'read_committed'],
  [['read', 'uncommitted'], 'read_committed'],
]

/** The transaction modes from `at` to the end, or null when there is anything else. */
function modesOf(head: Head, at: number): Modes | null {
  const modes: { -readonly [Key in keyof Modes]: Modes[Key] } = { count: 0 }
  let next = at
  while (next < head.to) {
    if (modes.count > 0 && kindAt(head, next) === COMMA) next += 1
    const step = modeAt(head, next)
    if (step === null) return null
    Object.assign(modes, step.mode)
    modes.count += 1
    next = step.next
  }
  return modes
}

interface ModeStep {
  readonly mode: Omit<Modes, 'count'>
  readonly next: number
}

function modeAt(head: Head, at: number): ModeStep | null {
  const second = wordAt(head, at + 1)
  switch (wordAt(head, at)) {
    case 'read':
      if (second !== 'only' && second !== 'write') return null
      return { mode: { readOnly: second === 'only' }, next: at + 2 }
    case 'deferrable':
      return { mode: {}, next: at + 1 }
    case 'not':
      return second === 'deferrable' ? { mode: {}, next: at + 2 } : null
    case 'isolation':
      return second === 'level' ? levelAt(head, at + 2) : null
    default:
      return null
  }
}

function levelAt(head: Head, at: number): ModeStep | null {
  for (const [words, isolation] of LEVELS) {
    const next = at + words.length
    if (words.every((word, index) => wordAt(head, at + index) === word)) {
      return { mode: { isolation }, next }
    }
  }
  return null
}

function modeFields(modes: Modes): Omit<Modes, 'count'> {
  const { count: _, ...fields } = modes
  return fields
}
