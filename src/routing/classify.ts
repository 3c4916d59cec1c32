/**
 * What a text of SQL does, as far as routing and session state must know: one Statement per statement,
 * and whether all of them are proved reads. It never says read when it is not sure, and never throws.
 * What a text cannot show (views, casts, operators, triggers, `t.f`) is listed in docs/routing.md.
 */
import type { Catalogue } from './catalogue.ts'
import { statementOf } from './heads.ts'
import { CLOSE, foldedAt, lex, OPEN, SEMICOLON, type Tokens, WORD } from './lexer.ts'
import { isWord } from './scan.ts'

export type Verb =
  | 'select'
  | 'values'
  | 'table'
  | 'show'
  | 'explain'
  | 'copy'
  | 'insert'
  | 'update'
  | 'delete'
  | 'merge'
  | 'begin'
  | 'commit'
  | 'rollback'
  | 'savepoint'
  | 'rollback_to'
  | 'release'
  | 'prepare_transaction'
  | 'commit_prepared'
  | 'rollback_prepared'
  | 'set'
  | 'set_local'
  | 'set_transaction'
  | 'reset'
  | 'reset_all'
  | 'discard'
  | 'deallocate'
  | 'prepare'
  | 'execute'
  | 'declare'
  | 'fetch'
  | 'close'
  | 'move'
  | 'listen'
  | 'unlisten'
  | 'notify'
  | 'load'
  | 'do'
  | 'call'
  | 'create'
  | 'drop'
  | 'alter'
  | 'lock'
  | 'empty'
  | 'other'

/** What a statement leaves behind in the server session that cannot be carried. */
export type PinReason =
  | 'listen'
  | 'temp_table'
  | 'advisory_lock'
  | 'hold_cursor'
  | 'sql_prepare'
  | 'set_config'
  | 'load'
  | 'sequence_value'

export type Isolation = 'serializable' | 'repeatable_read' | 'read_committed'

/** Why a statement is a read, or the first thing that keeps it from being one. */
export type StatementReason =
  | 'select'
  | 'values'
  | 'table'
  | 'show'
  | 'explain'
  | 'copy'
  | 'verb'
  | 'empty'
  | 'locking_clause'
  | 'into'
  | 'data_modifying_cte'
  | 'unproved_function'
  | 'server_relation'
  | 'copy_target'
  | 'learnt'
  | 'not_understood'

export interface Statement {
  readonly verb: Verb
  /** Proved read. */
  readonly read: boolean
  readonly reason: StatementReason
  /** begin, set_transaction: READ ONLY (true) or READ WRITE (false) was asked for. */
  readonly readOnly?: boolean
  readonly isolation?: Isolation
  /** COMMIT or ROLLBACK ... AND CHAIN. */
  readonly chain?: boolean
  /** A BEGIN that may be deferred: all its options are understood and cannot fail by themselves. */
  readonly bare?: boolean
  /**
   * set, reset, show: the setting, in lower case. discard: all, temp, sequences or plans. savepoint,
   * rollback_to, release, prepare, execute, deallocate, listen, unlisten, declare, close, create of a
   * temporary relation: the name as PostgreSQL folds it; absent where the statement means all of them.
   */
  readonly name?: string
  /** reset: it is said as SET ... TO DEFAULT, and answered as a SET. */
  readonly isSetToDefault?: true
  /**
   * set: the text after TO, such that `SET name TO value` says the same. A SET that cannot be said so
   * (an INTERVAL as time zone, several characteristics) is `other` and pins.
   */
  readonly value?: string
  /** drop of tables, views and sequences: the names without schema. */
  readonly names?: readonly string[]
  /** advisory_lock stands once per call in the text. */
  readonly pins?: readonly PinReason[]
  readonly unpins?: readonly (PinReason | 'all')[]
  /** pg_advisory_unlock was called: one lock fewer, perhaps. */
  readonly advisoryUnlock?: boolean
  /** DO, CALL or an unproved function that is not built in: hidden effects are possible. */
  readonly unclean: boolean
  /** Any advisory lock, of the session or of the transaction. */
  readonly takesAdvisoryLock?: boolean
}

export interface Classified {
  readonly statements: readonly Statement[]
  /** At least one statement, and all of them are proved reads. */
  readonly read: boolean
  /** Of the first statement that is not a read; of the first one if all are. */
  readonly reason: StatementReason
  /** From a leading comment. */
  readonly hint: 'primary' | 'replica' | null
  /** Names of the functions called, for diagnosis; bounded, may repeat. */
  readonly functions: readonly string[]
}

/** More statements than this in one text are not understood. */
const STATEMENTS_MAX = 10_000

const NOT_UNDERSTOOD: Statement = {
  verb: 'other',
  read: false,
  reason: 'not_understood',
  unclean: true,
}
const EMPTY: Statement = { verb: 'empty', read: false, reason: 'empty', unclean: false }

/**
 * Classifies one Query text or the text of one Parse. `text` holds the bytes decoded as latin1, and
 * the session has standard_conforming_strings on.
 */
export function classify(text: string, catalogue: Catalogue): Classified {
  const tokens = lex(text)
  if (tokens === null) return summary([NOT_UNDERSTOOD], null, [])
  const statements: Statement[] = []
  const functions: string[] = []
  let from = 0
  while (from < tokens.count) {
    const to = endOf(tokens, from)
    if (to > from) statements.push(statementOf(tokens, { from, to }, { catalogue, functions }))
    if (statements.length > STATEMENTS_MAX) return summary([NOT_UNDERSTOOD], tokens.hint, [])
    from = to + 1
  }
  if (statements.length === 0) statements.push(EMPTY)
  return summary(statements, tokens.hint, functions)
}

/** Where the first statement of a text that is understood begins, and where the next may begin. */
export function firstStatement(text: string): { readonly start: number; readonly end: number } {
  const tokens = lex(text)
  if (tokens === null) return { start: 0, end: 0 }
  let from = 0
  let to = endOf(tokens, from)
  while (to === from && from < tokens.count) {
    from += 1
    to = endOf(tokens, from)
  }
  return { start: tokens.start[from] ?? 0, end: tokens.end[Math.min(to, tokens.count - 1)] ?? 0 }
}

function summary(
  statements: readonly Statement[],
  hint: Classified['hint'],
  functions: readonly string[],
): Classified {
  const firstOther = statements.find((statement) => !statement.read)
  const reason = (firstOther ?? statements[0])?.reason ?? 'empty'
  return { statements, read: firstOther === undefined, reason, hint, functions }
}

/**
 * The index of the semicolon that ends the statement, or the number of tokens. A semicolon inside
 * parentheses (CREATE RULE) or inside BEGIN ATOMIC ... END (CREATE FUNCTION) does not end it.
 */
function endOf(tokens: Tokens, from: number): number {
  const mayHaveBody = isWord(tokens, from, 'create')
  let depth = 0
  let blocks = 0
  for (let at = from; at < tokens.count; at += 1) {
    const kind = tokens.kind[at]
    if (kind === OPEN) depth += 1
    else if (kind === CLOSE) depth -= 1
    else if (kind === SEMICOLON && depth <= 0 && blocks === 0) return at
    else if (kind === WORD && mayHaveBody) blocks += blockChange(tokens, at, blocks)
  }
  return tokens.count
}

/** How a word changes the number of open BEGIN ATOMIC and CASE blocks. */
function blockChange(tokens: Tokens, at: number, blocks: number): number {
  switch (foldedAt(tokens, at)) {
    case 'begin':
      return isWord(tokens, at + 1, 'atomic') ? 1 : 0
    case 'case':
      return blocks > 0 ? 1 : 0
    case 'end':
      return blocks > 0 ? -1 : 0
    default:
      return 0
  }
}
