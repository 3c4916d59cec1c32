// hot path
/**
 * Walks the tokens of one statement and notes everything that keeps it from being a read or that it
 * leaves behind: data-modifying words, INTO, locking clauses, function calls, names that speak about
 * the server, advisory locks. It does not parse: it looks for what a parse tree with such a thing must
 * have in its tokens, and where a token could be either, it assumes the worse.
 */
import type { Catalogue } from './catalogue.ts'
import type { PinReason, StatementReason, Verb } from './classify.ts'
import {
  CLOSE,
  COMMA,
  DOT,
  foldedAt,
  hashOf,
  nameAt,
  OPEN,
  QUOTED,
  STRING,
  type Tokens,
  TYPECAST,
  WORD,
} from './lexer.ts'
import { isServerSetting } from './settings.ts'
import {
  CLEAN_VOLATILE,
  IS_FOR,
  IS_INTO,
  IS_MAIN,
  IS_MODIFYING,
  IS_NEVER_CALLED,
  IS_RARELY_CALLED,
  isServerName,
  MAIN_VERBS,
  SPECIAL_FUNCTIONS,
  type SpecialFunction,
  WORD_FLAGS,
} from './words.ts'

const DEPTH_MAX = 4096
/** Words behind which `name (` is an alias or a WITH entry with column names. */
const ALIASING = new Set(['as', 'with', 'recursive', 'ordinality'])
const FUNCTIONS_MAX = 64
/** How far the arguments of one set_config are read; nested calls would cost the square. */
const ARGUMENT_TOKENS_MAX = 128

/** What a statement's tokens hold. `reason` is the first thing that keeps it from being a read. */
export interface Findings {
  reason: StatementReason | null
  /** The first of SELECT, VALUES, TABLE, INSERT, UPDATE, DELETE, MERGE outside parentheses. */
  main: Verb | null
  /** null: none. */
  pins: PinReason[] | null
  unpins: PinReason[] | null
  takesAdvisoryLock: boolean
  advisoryUnlock: boolean
  /** A function that is not built in and not proved is called. */
  userFunction: boolean
  /** A name is called of which the catalogue knows nothing. */
  unknownFunction: boolean
}

export interface Range {
  readonly from: number
  readonly to: number
}

/** What kind of thing an open parenthesis belongs to: one after which an operand may follow, or not. */
const PLAIN = 0
const PREFIX = 1
const stack = new Uint8Array(DEPTH_MAX)

/** Adds the names called to `functions`. Cost: linear in the tokens of `range`. */
export function scan(tokens: Tokens, range: Range, knowledge: Knowledge): Findings {
  const found = emptyFindings()
  let depth = 0
  let closed = PLAIN
  for (let at = range.from; at < range.to; at += 1) {
    const kind = tokens.kind[at]
    if (kind === OPEN) {
      if (depth === DEPTH_MAX) return notUnderstood(found)
      stack[depth] = isPrefix(tokens, at, range.from) ? PREFIX : PLAIN
      depth += 1
    } else if (kind === CLOSE) {
      if (depth === 0) return notUnderstood(found)
      depth -= 1
      closed = stack[depth] ?? PLAIN
    } else if (kind === WORD) {
      if (matters(tokens, at)) scanWord(found, { tokens, range, knowledge, at, closed }, depth)
    } else if (kind === QUOTED) {
      const name = nameAt(tokens, at)
      if (isServerName(name)) found.reason ??= 'server_relation'
      if (tokens.kind[at + 1] === OPEN && at + 1 < range.to) {
        call(found, { tokens, range, knowledge, at, closed }, name)
      }
    }
  }
  return depth === 0 ? found : notUnderstood(found)
}

/** What judging needs besides the tokens; `functions` grows by the names called. */
export interface Knowledge {
  readonly catalogue: Catalogue
  readonly functions: string[]
}

/** One bit per word that matters without a parenthesis behind it, by its hash. */
const SINGLE_WORDS = new Uint8Array(1024)
for (const [word, flags] of WORD_FLAGS) {
  if ((flags & (IS_MODIFYING | IS_INTO | IS_FOR | IS_MAIN)) !== 0) {
    SINGLE_WORDS[hashOf(word) & 1023] = 1
  }
}

/** False for a word that is certainly neither a call nor one that the rules name. */
function matters(tokens: Tokens, at: number): boolean {
  if (tokens.kind[at + 1] === OPEN) return true
  if (SINGLE_WORDS[(tokens.hash[at] ?? 0) & 1023] === 1) return true
  const start = tokens.start[at] ?? 0
  const first = tokens.text.charCodeAt(start) | 32
  const second = tokens.text.charCodeAt(start + 1) | 32
  return (first === 112 && second === 103) || (first === 116 && second === 120)
}

/** Where the walk stands. `closed` tells what the last closed parenthesis belonged to. */
interface Place {
  readonly tokens: Tokens
  readonly range: Range
  readonly knowledge: Knowledge
  readonly at: number
  readonly closed: number
}

function scanWord(found: Findings, place: Place, depth: number): void {
  const { tokens, range, at } = place
  const name = foldedAt(tokens, at)
  const isCall = at + 1 < range.to && tokens.kind[at + 1] === OPEN
  if (isServerName(name)) found.reason ??= 'server_relation'
  if (at > range.from && tokens.kind[at - 1] === DOT) {
    if (isCall) call(found, place, name)
    return
  }
  const flags = WORD_FLAGS.get(name) ?? 0
  if ((flags & (IS_MODIFYING | IS_INTO | IS_FOR | IS_MAIN)) !== 0)
    keyword(found, place, flags, depth)
  if (!isCall || (flags & IS_NEVER_CALLED) !== 0) return
  if ((flags & IS_RARELY_CALLED) !== 0 && !place.knowledge.catalogue.exists(name)) return
  call(found, place, name)
}

function keyword(found: Findings, place: Place, flags: number, depth: number): void {
  const { tokens, range, at } = place
  if (isLabel(tokens, at, range.from)) return
  if ((flags & IS_MAIN) !== 0 && depth === 0)
    found.main ??= MAIN_VERBS.get(foldedAt(tokens, at)) ?? null
  if ((flags & IS_MODIFYING) !== 0) found.reason ??= 'data_modifying_cte'
  if ((flags & IS_INTO) !== 0) into(found, place)
  if ((flags & IS_FOR) !== 0 && at + 1 < range.to && isLock(tokens, at + 1)) {
    found.reason ??= 'locking_clause'
  }
}

/** Behind AS a word is only a name, unless that `as` is itself a name: `t.as INTO x`, `1 AS as INTO x`. */
function isLabel(tokens: Tokens, at: number, from: number): boolean {
  if (at - 2 < from || !isWord(tokens, at - 1, 'as')) return false
  return tokens.kind[at - 2] !== DOT && !isWord(tokens, at - 2, 'as')
}

function into(found: Findings, place: Place): void {
  found.reason ??= 'into'
  const { tokens, range, at } = place
  if (at + 1 >= range.to || found.main === 'insert' || found.main === 'merge') return
  let next = at + 1
  if (isWord(tokens, next, 'local') || isWord(tokens, next, 'global')) next += 1
  const isTemporary = ['temp', 'temporary', 'pg_temp'].some((word) => isWord(tokens, next, word))
  if (isTemporary) found.pins = added(found.pins, 'temp_table')
}

function isLock(tokens: Tokens, at: number): boolean {
  return ['update', 'share', 'no', 'key'].some((word) => isWord(tokens, at, word))
}

/** A name directly before "(" : a call unless its surroundings make it an alias or a type. */
function call(found: Findings, place: Place, name: string): void {
  const { tokens, range, at } = place
  const { catalogue, functions } = place.knowledge
  const special = SPECIAL_FUNCTIONS.get(name)
  if (special !== undefined) effect(found, place, special)
  let first = at
  while (first - 2 >= range.from && tokens.kind[first - 1] === DOT) first -= 2
  if (first > range.from && isNotCall(place, first)) return
  if (functions.length < FUNCTIONS_MAX) functions.push(name)
  if (isServerName(name)) found.reason ??= 'server_relation'
  const isNamed = isAscii(name)
  if (isNamed && catalogue.isHarmless(name)) return
  found.reason ??= 'unproved_function'
  if (!isNamed || !catalogue.exists(name)) found.unknownFunction = true
  else if (!catalogue.isBuiltin(name) && !CLEAN_VOLATILE.has(name)) found.userFunction = true
}

/**
 * `x::name(`, `INTO name(`, `AS name(`, `WITH name(`, `WITH ORDINALITY name(`, `) name(` and `, name(a, b) AS (SELECT`
 * cannot be calls in any valid statement. After ")" an operand may follow only where the parenthesis
 * belonged to DISTINCT ON or OPERATOR.
 */
function isNotCall(place: Place, first: number): boolean {
  const { tokens, at, range, closed } = place
  const before = tokens.kind[first - 1]
  if (before === TYPECAST) return true
  if (isWord(tokens, first - 1, 'into')) return true
  if (before === CLOSE) return closed === PLAIN
  if (before === COMMA) return isNextCte(tokens, at, range.to)
  if (before !== WORD || (first - 2 >= range.from && tokens.kind[first - 2] === DOT)) return false
  const word = foldedAt(tokens, first - 1)
  if (word === 'tablesample') {
    return isWord(tokens, at, 'bernoulli') || isWord(tokens, at, 'system')
  }
  return ALIASING.has(word)
}

/** `name (a, b) AS [[NOT] MATERIALIZED] (SELECT`: the next entry of a WITH list. */
function isNextCte(tokens: Tokens, at: number, to: number): boolean {
  let next = at + 2
  while (next < to && isName(tokens, next)) {
    next += 1
    if (tokens.kind[next] !== COMMA) break
    next += 1
  }
  if (tokens.kind[next] !== CLOSE || !isWord(tokens, next + 1, 'as')) return false
  next += 2
  if (isWord(tokens, next, 'not')) next += 1
  if (isWord(tokens, next, 'materialized')) next += 1
  if (next + 1 >= to || tokens.kind[next] !== OPEN) return false
  if (tokens.kind[next + 1] === OPEN) return true
  if (isWord(tokens, next + 1, 'values')) return tokens.kind[next + 2] === OPEN
  return ['select', 'with', 'table'].some((word) => isWord(tokens, next + 1, word))
}

function isName(tokens: Tokens, at: number): boolean {
  return tokens.kind[at] === WORD || tokens.kind[at] === QUOTED
}

/** OPERATOR(...) and DISTINCT ON (...) are followed by an operand; other parentheses are not. */
function isPrefix(tokens: Tokens, at: number, from: number): boolean {
  if (at === from || tokens.kind[at - 1] !== WORD) return false
  const word = foldedAt(tokens, at - 1)
  return word === 'operator' || word === 'on'
}

function effect(found: Findings, place: Place, special: SpecialFunction): void {
  switch (special) {
    case 'lock':
      found.takesAdvisoryLock = true
      found.pins = added(found.pins, 'advisory_lock')
      break
    case 'xact_lock':
      found.takesAdvisoryLock = true
      break
    case 'unlock':
      found.advisoryUnlock = true
      break
    case 'unlock_all':
      found.unpins = added(found.unpins, 'advisory_lock')
      break
    case 'sequence_value':
      found.pins = added(found.pins, 'sequence_value')
      break
    case 'set_config':
      if (!isLocalSetting(place)) found.pins = added(found.pins, 'set_config')
      break
    case 'current_setting':
      if (asksServer(place)) found.reason ??= 'server_relation'
      break
  }
}

function added(list: PinReason[] | null, pin: PinReason): PinReason[] {
  if (list === null) return [pin]
  list.push(pin)
  return list
}

/** `set_config(a, b, true)`: gone at the end of the transaction. */
function isLocalSetting(place: Place): boolean {
  const { tokens, at, range } = place
  let depth = 0
  let commas = 0
  const to = Math.min(range.to, at + ARGUMENT_TOKENS_MAX)
  for (let next = at + 1; next < to; next += 1) {
    const kind = tokens.kind[next]
    if (kind === OPEN) depth += 1
    else if (kind === CLOSE) depth -= 1
    else if (kind === COMMA && depth === 1) commas += 1
    if (depth === 0) return false
    if (kind === COMMA && depth === 1 && commas === 2) {
      return isWord(tokens, next + 1, 'true') && tokens.kind[next + 2] === CLOSE
    }
  }
  return false
}

/** `current_setting('in_hot_standby')` and its like. */
function asksServer(place: Place): boolean {
  const { tokens, at } = place
  if (tokens.kind[at + 2] !== STRING) return false
  const text = tokens.text.slice(tokens.start[at + 2], tokens.end[at + 2])
  return isServerSetting(text.replaceAll("'", '').toLowerCase())
}

/** True when token `at` is the unquoted word `word`. */
export function isWord(tokens: Tokens, at: number, word: string): boolean {
  if (tokens.kind[at] !== WORD || at >= tokens.count) return false
  if ((tokens.end[at] ?? 0) - (tokens.start[at] ?? 0) !== word.length) return false
  return foldedAt(tokens, at) === word
}

function isAscii(name: string): boolean {
  for (let at = 0; at < name.length; at += 1) if (name.charCodeAt(at) > 127) return false
  return true
}

function notUnderstood(found: Findings): Findings {
  found.reason = 'not_understood'
  return found
}

function emptyFindings(): Findings {
  return {
    reason: null,
    main: null,
    pins: null,
    unpins: null,
    takesAdvisoryLock: false,
    advisoryUnlock: false,
    userFunction: false,
    unknownFunction: false,
  }
}
