/**
 * Reads SET, RESET and SHOW into the name of the setting and the value's own text, so that a session
 * can say the same again as `SET name TO value`. Grammar: VariableSetStmt in src/backend/parser/gram.y.
 */
import type { Statement } from './classify.ts'
import { characteristicsOf, setTransactionOf } from './control.ts'
import { type Head, isNameAt, kindAt, NOT_UNDERSTOOD, plain, restOf, wordAt } from './head.ts'
import { COMMA, DOT, NUMBER, nameAt, OPERATOR, QUOTED, STRING, WORD } from './lexer.ts'
import { isServerSetting, isTransactionSetting } from './settings.ts'

type Scope = 'set' | 'set_local'

export function setHead(head: Head): Statement {
  const at = head.from + 1
  const word = wordAt(head, at)
  if (word === 'constraints') return plain('other')
  if (word === 'session' && isNameAt(head, at + 1)) return sessionForm(head, at + 1)
  if (word === 'local' && isNameAt(head, at + 1)) return assignment(head, at + 1, 'set_local')
  return assignment(head, at, 'set')
}

/** Behind SET SESSION: AUTHORIZATION and CHARACTERISTICS are words of their own here only. */
function sessionForm(head: Head, at: number): Statement {
  if (wordAt(head, at) === 'authorization') return identity(head, at + 1, 'session_authorization')
  if (wordAt(head, at) !== 'characteristics') return assignment(head, at, 'set')
  const isMode = wordAt(head, at + 1) === 'as' && wordAt(head, at + 2) === 'transaction'
  return isMode ? characteristicsOf(head, at + 3) : NOT_UNDERSTOOD
}

function assignment(head: Head, at: number, scope: Scope): Statement {
  const second = wordAt(head, at + 1)
  switch (wordAt(head, at)) {
    case 'transaction':
      if (second !== 'to' && !isEquals(head, at + 1)) return setTransactionOf(head, at + 1)
      break
    case 'time':
      if (second === 'zone') return timeZone(head, at + 2, scope)
      break
    case 'names':
      if (second !== 'to' && !isEquals(head, at + 1)) return names(head, at + 1, scope)
      break
    case 'schema':
      if (kindAt(head, at + 1) === STRING) return valued(head, at + 1, 'search_path', scope)
      break
    case 'role':
      if (second !== 'to' && !isEquals(head, at + 1)) return role(head, at + 1, scope)
      break
    case 'xml':
      if (second === 'option') return valued(head, at + 2, 'xmloption', scope)
      break
    case 'session':
      if (second === 'authorization')
        return local(identity(head, at + 2, 'session_authorization'), scope)
      break
    default:
  }
  return named(head, at, scope)
}

/** `name TO value`, `name = value`, `name TO DEFAULT`; `name FROM CURRENT` is for functions only. */
function named(head: Head, at: number, scope: Scope): Statement {
  const setting = settingName(head, at)
  if (setting === null) return NOT_UNDERSTOOD
  const { name, next } = setting
  if (wordAt(head, next) !== 'to' && !isEquals(head, next)) return NOT_UNDERSTOOD
  if (isTransactionSetting(name)) return transactionSetting(head, next + 1, name)
  return valued(head, next + 1, name, scope)
}

function valued(head: Head, at: number, name: string, scope: Scope): Statement {
  if (wordAt(head, at) === 'default' && at + 1 === head.to) return reset(name, scope)
  if (!isValue(head, at)) return NOT_UNDERSTOOD
  return { ...plain(scope), name, value: restOf(head, at) }
}

/** SET TIME ZONE: LOCAL and DEFAULT reset; an INTERVAL cannot be said as SET timezone TO. */
function timeZone(head: Head, at: number, scope: Scope): Statement {
  const word = wordAt(head, at)
  if (word === 'local' && at + 1 === head.to) return reset('timezone', scope)
  if (word === 'interval') return uncarried(scope)
  return valued(head, at, 'timezone', scope)
}

function names(head: Head, at: number, scope: Scope): Statement {
  return at === head.to
    ? reset('client_encoding', scope)
    : valued(head, at, 'client_encoding', scope)
}

function role(head: Head, at: number, scope: Scope): Statement {
  if (at + 1 !== head.to || wordAt(head, at) === 'default') return NOT_UNDERSTOOD
  return valued(head, at, 'role', scope)
}

function identity(head: Head, at: number, name: string): Statement {
  return at + 1 === head.to ? valued(head, at, name, 'set') : NOT_UNDERSTOOD
}

/** SET LOCAL SESSION AUTHORIZATION is the local form of the same. */
function local(statement: Statement, scope: Scope): Statement {
  return scope === 'set' || statement.verb === 'other'
    ? statement
    : { ...statement, verb: 'set_local' }
}

function reset(name: string, scope: Scope): Statement {
  return scope === 'set'
    ? { ...plain('reset'), name, isSetToDefault: true }
    : { ...plain('set_local'), name }
}

function uncarried(scope: Scope): Statement {
  return scope === 'set' ? { ...plain('other'), pins: ['set_config'] } : plain('set_local')
}

/** `SET transaction_read_only = on` and its kin are SET TRANSACTION in other words. */
function transactionSetting(head: Head, at: number, name: string): Statement {
  if (!isValue(head, at) && wordAt(head, at) !== 'default') return NOT_UNDERSTOOD
  const value = restOf(head, at).replaceAll("'", '').toLowerCase()
  const statement = plain('set_transaction')
  if (name === 'transaction_read_only') {
    if (value === 'on' || value === 'true' || value === '1') return { ...statement, readOnly: true }
    if (value === 'off' || value === 'false' || value === '0')
      return { ...statement, readOnly: false }
  }
  if (name === 'transaction_isolation') {
    if (value === 'serializable') return { ...statement, isolation: 'serializable' }
    if (value === 'repeatable read') return { ...statement, isolation: 'repeatable_read' }
    if (value.startsWith('read ')) return { ...statement, isolation: 'read_committed' }
  }
  return statement
}

export function resetHead(head: Head): Statement {
  const at = head.from + 1
  const name = settingPhrase(head, at)
  if (name === null || isTransactionSetting(name)) return NOT_UNDERSTOOD
  return name === 'all' ? plain('reset_all') : { ...plain('reset'), name }
}

export function showHead(head: Head): Statement {
  const name = settingPhrase(head, head.from + 1)
  if (name === null) return NOT_UNDERSTOOD
  if (isServerSetting(name)) return { ...plain('show', 'server_relation'), name }
  return { verb: 'show', read: true, reason: 'show', unclean: false, name }
}

/** The setting that RESET and SHOW name, in words or by itself; ALL is `all`. */
function settingPhrase(head: Head, at: number): string | null {
  const words = head.to - at
  if (words === 2 && wordAt(head, at) === 'time' && wordAt(head, at + 1) === 'zone')
    return 'timezone'
  if (words === 2 && wordAt(head, at) === 'session' && wordAt(head, at + 1) === 'authorization') {
    return 'session_authorization'
  }
  if (words === 3 && wordAt(head, at) === 'transaction' && wordAt(head, at + 1) === 'isolation') {
    return wordAt(head, at + 2) === 'level' ? 'transaction_isolation' : null
  }
  const setting = settingName(head, at)
  return setting !== null && setting.next === head.to ? setting.name : null
}

/** `name` or `class.name`; names of settings are the same in any case, quoted or not. */
function settingName(head: Head, at: number): { name: string; next: number } | null {
  let next = at
  let name = ''
  while (isNameAt(head, next)) {
    name += nameAt(head.tokens, next).toLowerCase()
    next += 1
    if (kindAt(head, next) !== DOT) return { name, next }
    name += '.'
    next += 1
  }
  return null
}

/** Constants and words with commas between them, and signs before numbers. */
function isValue(head: Head, at: number): boolean {
  let next = at
  while (next < head.to) {
    const kind = kindAt(head, next)
    if (kind === OPERATOR) {
      if (kindAt(head, next + 1) !== NUMBER || !'+-'.includes(textAt(head, next))) return false
      next += 1
    } else if (kind !== STRING && kind !== NUMBER && kind !== WORD && kind !== QUOTED) return false
    else if (wordAt(head, next) === 'default') return false
    next += 1
    if (next === head.to) return true
    if (kindAt(head, next) !== COMMA) return false
    next += 1
  }
  return false
}

function isEquals(head: Head, at: number): boolean {
  return kindAt(head, at) === OPERATOR && textAt(head, at) === '='
}

function textAt(head: Head, at: number): string {
  return head.tokens.text.slice(head.tokens.start[at], head.tokens.end[at])
}
