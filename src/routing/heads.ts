/**
 * One statement: its first words say which, a reader for each says the rest. A first word that is not
 * in the table is not understood.
 */
import { resetHead, setHead, showHead } from './assign.ts'
import type { PinReason, Statement, StatementReason, Verb } from './classify.ts'
import { beginHead, endHead, releaseHead, savepointHead, startHead } from './control.ts'
import {
  behindClose,
  type Head,
  isNameAt,
  kindAt,
  NOT_UNDERSTOOD,
  onlyName,
  plain,
  qualifiedAt,
  skipWords,
  wordAt,
} from './head.ts'
import { COMMA, DOT, nameAt, OPEN, OPERATOR, STRING, type Tokens } from './lexer.ts'
import { type Findings, type Knowledge, type Range, scan } from './scan.ts'

export function statementOf(tokens: Tokens, range: Range, knowledge: Knowledge): Statement {
  const { from, to } = range
  const { catalogue, functions } = knowledge
  const head: Head = { tokens, from, to, catalogue, functions }
  if (kindAt(head, head.from) === OPEN) return queryHead(head)
  const reader = HEADS.get(wordAt(head, head.from))
  return reader === undefined ? NOT_UNDERSTOOD : reader(head)
}

type Reader = (head: Head) => Statement

/** Verbs whose functions are not judged by unknown names: `t (` in their text is mostly a table. */
const DEFINING: ReadonlySet<Verb> = new Set<Verb>(['create', 'drop', 'alter', 'other', 'lock'])

/** Scans the statement and adds what it found to `statement`. */
function scanned(head: Head, statement: Statement, from = head.from): Statement {
  const found = scan(head.tokens, { from, to: head.to }, head)
  return withFindings(statement, found)
}

function withFindings(statement: Statement, found: Findings): Statement {
  const isDefining = DEFINING.has(statement.verb)
  const unclean = statement.unclean || found.userFunction || (found.unknownFunction && !isDefining)
  if (found.pins === null && found.unpins === null) {
    const hasLock = found.takesAdvisoryLock || found.advisoryUnlock
    if (!hasLock) return unclean === statement.unclean ? statement : { ...statement, unclean }
  }
  const pins = [...(statement.pins ?? []), ...(found.pins ?? [])]
  return {
    ...statement,
    unclean,
    ...(pins.length > 0 && { pins }),
    ...(found.unpins !== null && { unpins: found.unpins }),
    ...(found.takesAdvisoryLock && { takesAdvisoryLock: true }),
    ...(found.advisoryUnlock && { advisoryUnlock: true }),
  }
}

/** SELECT, VALUES, TABLE, WITH and the same in parentheses. */
function queryHead(head: Head): Statement {
  let at = head.from
  while (kindAt(head, at) === OPEN) at += 1
  const first = QUERY_VERBS.get(wordAt(head, at))
  if (first === undefined) return NOT_UNDERSTOOD
  const found = scan(head.tokens, head, head)
  const verb = found.main ?? first
  if (DATA_VERBS.has(verb)) return withFindings(plain(verb), found)
  const read: Statement = {
    verb,
    read: true,
    reason: READ_REASONS.get(verb) ?? 'select',
    unclean: false,
  }
  if (found.reason === null) return withFindings(read, found)
  return withFindings({ ...read, read: false, reason: found.reason }, found)
}

/** The first word of a query, and its verb unless a word behind the WITH list says another. */
const QUERY_VERBS: ReadonlyMap<string, Verb> = new Map<string, Verb>([
  ['select', 'select'],
  ['values', 'values'],
  ['table', 'table'],
  ['with', 'select'],
])
const READ_REASONS: ReadonlyMap<Verb, StatementReason> = new Map<Verb, StatementReason>([
  ['select', 'select'],
  ['values', 'values'],
  ['table', 'table'],
])
const DATA_VERBS: ReadonlySet<Verb> = new Set(['insert', 'update', 'delete', 'merge'])

/** EXPLAIN [(options)] or [ANALYZE] [VERBOSE] of a query. */
function explainHead(head: Head): Statement {
  let at = head.from + 1
  if (kindAt(head, at) === OPEN && !startsQuery(head, at)) at = behindClose(head, at)
  else {
    if (wordAt(head, at) === 'analyze' || wordAt(head, at) === 'analyse') at += 1
    at = skipWords(head, at, ['verbose'])
  }
  if (at < 0 || at >= head.to || wordAt(head, at) === 'explain') return NOT_UNDERSTOOD
  const inner = statementOf(head.tokens, { from: at, to: head.to }, head)
  const isQuery = READ_REASONS.has(inner.verb)
  const read = inner.read && isQuery
  const { readOnly: _r, isolation: _i, name: _n, value: _v, ...rest } = inner
  let reason: StatementReason = 'verb'
  if (isQuery) reason = read ? 'explain' : inner.reason
  return { ...rest, verb: 'explain', read, reason }
}

/** True when the parenthesis at `at` opens a query and not a list of options. */
function startsQuery(head: Head, at: number): boolean {
  let next = at
  while (kindAt(head, next) === OPEN) next += 1
  const word = wordAt(head, next)
  if (word === 'values') return kindAt(head, next + 1) === OPEN
  return QUERY_VERBS.has(word)
}

/** COPY (query) TO STDOUT and COPY table TO STDOUT read; every other COPY does not. */
function copyHead(head: Head): Statement {
  const at = head.from + 1
  if (kindAt(head, at) === OPEN) return copyQuery(head, at)
  const table = qualifiedAt(head, skipBinary(head, at))
  if (table === null) return NOT_UNDERSTOOD
  let { next } = table
  if (kindAt(head, next) === OPEN) next = behindClose(head, next)
  if (next < 0) return NOT_UNDERSTOOD
  if (!isToStdout(head, next)) return copyOther(head, next)
  const found = scan(head.tokens, { from: at, to: table.next }, head)
  const reason = found.reason ?? 'copy'
  return { verb: 'copy', read: found.reason === null, reason, unclean: false }
}

/** COPY FROM, or COPY to a file: only its WHERE may call something, options cannot. */
function copyOther(head: Head, at: number): Statement {
  const statement = plain('copy', 'copy_target')
  for (let next = at; next < head.to; next += 1) {
    if (wordAt(head, next) === 'where') return scanned(head, statement, next)
  }
  return statement
}

function copyQuery(head: Head, at: number): Statement {
  const next = behindClose(head, at)
  if (next < 0 || !startsQuery(head, at)) {
    return scanned(head, plain('copy', next < 0 ? 'not_understood' : 'data_modifying_cte'))
  }
  const inner = statementOf(head.tokens, { from: at, to: next }, head)
  const isRead = inner.read && isToStdout(head, next)
  let reason: StatementReason = 'copy'
  if (!isRead) reason = inner.read ? 'copy_target' : inner.reason
  return { ...inner, verb: 'copy', read: isRead, reason }
}

/** `COPY BINARY t` of old; a table may be called binary only in quotes. */
function skipBinary(head: Head, at: number): number {
  return wordAt(head, at) === 'binary' && isNameAt(head, at + 1) ? at + 1 : at
}

function isToStdout(head: Head, at: number): boolean {
  return wordAt(head, at) === 'to' && wordAt(head, at + 1) === 'stdout'
}

/** PREPARE TRANSACTION 'x', or PREPARE name AS statement. */
function prepareHead(head: Head): Statement {
  const at = head.from + 1
  if (wordAt(head, at) === 'transaction' && kindAt(head, at + 1) === STRING) {
    return at + 2 === head.to ? plain('prepare_transaction') : NOT_UNDERSTOOD
  }
  if (!isNameAt(head, at)) return NOT_UNDERSTOOD
  const statement: Statement = {
    ...plain('prepare'),
    name: nameAt(head.tokens, at),
    pins: ['sql_prepare'],
  }
  return scanned(head, statement, at + 1)
}

function executeHead(head: Head): Statement {
  const at = head.from + 1
  if (!isNameAt(head, at)) return NOT_UNDERSTOOD
  return scanned(head, { ...plain('execute'), name: nameAt(head.tokens, at) }, at + 1)
}

function deallocateHead(head: Head): Statement {
  const at = head.from + 1
  const name = onlyName(head, at) ?? onlyName(head, skipWords(head, at, ['prepare']))
  if (name === null) return NOT_UNDERSTOOD
  if (wordAt(head, head.to - 1) === 'all')
    return { ...plain('deallocate'), unpins: ['sql_prepare'] }
  return { ...plain('deallocate'), name }
}

function discardHead(head: Head): Statement {
  const word = wordAt(head, head.from + 1)
  const name = word === 'temporary' ? 'temp' : word
  const unpins = DISCARDS.get(name)
  if (unpins === undefined || head.from + 2 !== head.to) return NOT_UNDERSTOOD
  return { ...plain('discard'), name, ...(unpins.length > 0 && { unpins }) }
}

const DISCARDS: ReadonlyMap<string, readonly (PinReason | 'all')[]> = new Map([
  ['all', ['all']],
  ['temp', ['temp_table']],
  ['sequences', ['sequence_value']],
  ['plans', []],
])

function listenHead(head: Head): Statement {
  const name = onlyName(head, head.from + 1)
  return name === null ? NOT_UNDERSTOOD : { ...plain('listen'), name, pins: ['listen'] }
}

function unlistenHead(head: Head): Statement {
  const at = head.from + 1
  if (kindAt(head, at) === OPERATOR && at + 1 === head.to) {
    return { ...plain('unlisten'), unpins: ['listen'] }
  }
  const name = onlyName(head, at)
  return name === null ? NOT_UNDERSTOOD : { ...plain('unlisten'), name }
}

function declareHead(head: Head): Statement {
  const at = head.from + 1
  if (!isNameAt(head, at)) return NOT_UNDERSTOOD
  let holds = false
  for (let next = at + 1; next < head.to && wordAt(head, next) !== 'for'; next += 1) {
    if (wordAt(head, next) === 'with' && wordAt(head, next + 1) === 'hold') holds = true
  }
  const name = nameAt(head.tokens, at)
  const pins: readonly PinReason[] = holds ? ['hold_cursor'] : []
  return scanned(head, { ...plain('declare'), name, ...(holds && { pins }) }, at + 1)
}

function closeHead(head: Head): Statement {
  const name = onlyName(head, head.from + 1)
  if (name === null) return NOT_UNDERSTOOD
  if (wordAt(head, head.from + 1) === 'all') return { ...plain('close'), unpins: ['hold_cursor'] }
  return { ...plain('close'), name }
}

/** CREATE: a temporary relation pins, unless it is gone at the end of its transaction. */
function createHead(head: Head): Statement {
  const statement = scanned(head, plain('create'))
  let at = skipWords(head, head.from + 1, ['or', 'replace'])
  const scope = wordAt(head, at)
  if (scope === 'local' || scope === 'global') at += 1
  const isTemporary = wordAt(head, at) === 'temp' || wordAt(head, at) === 'temporary'
  at = skipWords(head, isTemporary ? at + 1 : at, ['unlogged', 'recursive', 'materialized'])
  const isRelation = RELATION_WORDS.has(wordAt(head, at))
  at = isRelation ? skipWords(head, at + 1, ['if', 'not', 'exists']) : at
  if (!isTemporary && !namesTemporarySchema(head)) return statement
  if (dropsOnCommit(head)) return statement
  const name = isRelation ? qualifiedAt(head, at)?.name : undefined
  const pins: readonly PinReason[] = [...(statement.pins ?? []), 'temp_table']
  return { ...statement, pins, ...(name !== undefined && { name }) }
}

const RELATION_WORDS: ReadonlySet<string> = new Set(['table', 'view', 'sequence'])

function namesTemporarySchema(head: Head): boolean {
  for (let at = head.from; at < head.to; at += 1) {
    if (kindAt(head, at + 1) === DOT && isNameAt(head, at)) {
      if (nameAt(head.tokens, at).startsWith('pg_temp')) return true
    }
  }
  return false
}

function dropsOnCommit(head: Head): boolean {
  for (let at = head.from; at < head.to; at += 1) {
    if (wordAt(head, at) === 'on' && wordAt(head, at + 1) === 'commit') {
      return wordAt(head, at + 2) === 'drop'
    }
  }
  return false
}

function dropHead(head: Head): Statement {
  let at = skipWords(head, head.from + 1, ['materialized'])
  if (!RELATION_WORDS.has(wordAt(head, at))) return plain('drop')
  at = skipWords(head, at + 1, ['if', 'exists'])
  const names: string[] = []
  for (;;) {
    const relation = qualifiedAt(head, at)
    if (relation === null) return plain('drop')
    names.push(relation.name)
    if (kindAt(head, relation.next) !== COMMA) return { ...plain('drop'), names }
    at = relation.next + 1
  }
}

/** A statement of which only the verb, its functions and its pins matter. */
function scanOnly(verb: Verb, pins: readonly PinReason[] = []): Reader {
  return (head) => scanned(head, { ...plain(verb), ...(pins.length > 0 && { pins }) })
}

/** DO and CALL run code that the text does not show. */
function hidden(verb: Verb): Reader {
  return (head) => scanned(head, { ...plain(verb), unclean: true })
}

const OTHERS = `analyze analyse checkpoint cluster comment grant import reassign refresh reindex repack
  revoke security truncate vacuum wait`

const HEADS: ReadonlyMap<string, Reader> = new Map<string, Reader>([
  ['select', queryHead],
  ['values', queryHead],
  ['table', queryHead],
  ['with', queryHead],
  ['show', showHead],
  ['explain', explainHead],
  ['copy', copyHead],
  ['insert', scanOnly('insert')],
  ['update', scanOnly('update')],
  ['delete', scanOnly('delete')],
  ['merge', scanOnly('merge')],
  ['begin', beginHead],
  ['start', startHead],
  ['commit', endHead],
  ['end', endHead],
  ['rollback', endHead],
  ['abort', endHead],
  ['savepoint', savepointHead],
  ['release', releaseHead],
  ['set', setHead],
  ['reset', resetHead],
  ['discard', discardHead],
  ['prepare', prepareHead],
  ['execute', executeHead],
  ['deallocate', deallocateHead],
  ['declare', declareHead],
  ['fetch', () => plain('fetch')],
  ['move', () => plain('move')],
  ['close', closeHead],
  ['listen', listenHead],
  ['unlisten', unlistenHead],
  ['notify', () => plain('notify')],
  ['load', () => ({ ...plain('load'), pins: ['load'] })],
  ['do', hidden('do')],
  ['call', hidden('call')],
  ['create', createHead],
  ['drop', dropHead],
  ['alter', scanOnly('alter')],
  ['lock', () => plain('lock')],
  ...OTHERS.split(/\s+/).map((word): [string, Reader] => [word, scanOnly('other')]),
])
