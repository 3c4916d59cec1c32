/**
 * Where a batch goes: ARCHITECTURE 5, items 1 to 6, the first that answers wins. Pure: what the
 * session is doing comes in as a RouteQuestion, a role and a reason come out. Which member of that
 * role serves is decided elsewhere.
 */
import { unreachable } from '../base/invariant.ts'
import type { Classified, Isolation, Statement, StatementReason, Verb } from './classify.ts'
import { isSettable } from './settings.ts'

/** Every reason with one sentence, for docs/routing.md, the metrics and EXPLAIN ROUTE. */
export const REASONS = [
  ['pinned', 'The session holds its server: it is pinned, or its transaction is open there.'],
  ['hint_primary', 'A leading comment asked for the primary.'],
  ['hint_replica', 'A leading comment asked for a replica.'],
  ['route_primary', 'The route of the session, user or database is primary.'],
  ['route_replica', 'The route of the session, user or database is replica.'],
  ['strings', 'standard_conforming_strings is off, so texts are not judged.'],
  ['encoding', 'The client encoding is not ASCII-safe, so texts are not judged.'],
  ['function_call', 'A FunctionCall message names a function by number, so it is not judged.'],
  ['empty', 'The batch holds no statement.'],
  ['setting', 'Only settings of the session are set, reset, discarded or shown.'],
  ['setting_and_read', 'A setting is changed in the same batch as something is read.'],
  ['read', 'Every statement is a proved read.'],
  ['read_only_transaction', 'The transaction is READ ONLY.'],
  ['read_transaction', 'Only reads so far, and read_transactions is replica_until_write.'],
  ['transaction', 'A transaction that may write.'],
  ['serializable', 'SERIALIZABLE is not available on a replica.'],
  ['advisory_lock', 'A READ ONLY transaction takes an advisory lock.'],
  ['session_state', 'The statement leaves something in the session that pins it to its server.'],
  ['write', 'The statement is not one of those that read.'],
  ['locking_clause', 'FOR UPDATE, FOR SHARE and their kin lock rows.'],
  ['into', 'SELECT INTO makes a table.'],
  ['data_modifying_cte', 'INSERT, UPDATE, DELETE or MERGE stands somewhere in the text.'],
  ['unproved_function', 'A function is called that is not proved to only read.'],
  ['server_relation', 'A relation, function or setting is named that speaks about one server.'],
  ['copy_target', 'COPY that is not TO STDOUT.'],
  [
    'learnt',
    'A replica refused this text before, with 25006 or 0A000, or one that differs in its constants alone.',
  ],
  ['not_understood', 'The text is not understood, so it may be anything.'],
] as const satisfies readonly (readonly [string, string])[]

export type Reason = (typeof REASONS)[number][0]

export interface Route {
  readonly role: 'primary' | 'replica' | 'any'
  readonly reason: Reason
}

export interface RouteQuestion {
  /** One per text the batch runs, in order. */
  readonly classified: readonly Classified[]
  /** From SET pgsteer.route, the startup option, the user or the database. */
  readonly sessionRoute: 'split' | 'primary' | 'replica'
  /** The transaction that is open but has no server yet (a deferred BEGIN), or 'no'. */
  readonly inTransaction: 'no' | 'read_only' | 'read_write'
  /** The session holds a server, by a pin or by its open transaction. */
  readonly pinned: boolean
  /** default_transaction_read_only of the session. */
  readonly defaultReadOnly: boolean
  /** standard_conforming_strings of the session. */
  readonly standardStrings: boolean
  /** The client encoding never uses a byte under 0x80 as part of another character. */
  readonly asciiSafeEncoding: boolean
  readonly readTransactions: 'primary' | 'replica_until_write'
  /** Of the open transaction, or default_transaction_isolation; absent: read committed. */
  readonly isolation?: Isolation
  /** The batch is a FunctionCall message. */
  readonly functionCall?: boolean
}

/** Answers where the batch goes, and why. A role of `any` is the server at hand or any member. */
export function routeBatch(question: RouteQuestion): Route {
  if (question.pinned) return { role: 'any', reason: 'pinned' }
  const asked = askedFor(question)
  if (asked !== null) return asked
  if (question.functionCall === true) return primary('function_call')
  if (!question.standardStrings) return primary('strings')
  if (!question.asciiSafeEncoding) return primary('encoding')
  return place(question)
}

function primary(reason: Reason): Route {
  return { role: 'primary', reason }
}

function askedFor({ classified, sessionRoute }: RouteQuestion): Route | null {
  for (const { hint } of classified) {
    if (hint === 'primary') return primary('hint_primary')
    if (hint === 'replica') return { role: 'replica', reason: 'hint_replica' }
  }
  if (sessionRoute === 'primary') return primary('route_primary')
  return sessionRoute === 'replica' ? { role: 'replica', reason: 'route_replica' } : null
}

/** The transaction as the statements of the batch change it. */
interface Transaction {
  mode: RouteQuestion['inTransaction']
  isolation: Isolation
}

/** One statement that needs the primary decides; else settings and reads must not be mixed. */
function place(question: RouteQuestion): Route {
  const transaction: Transaction = {
    mode: question.inTransaction,
    isolation: question.isolation ?? 'read_committed',
  }
  let replica: Reason | null = null
  let isEmpty = true
  let changesSetting = false
  for (const { statements } of question.classified) {
    for (const statement of statements) {
      const route = placeOne(statement, transaction, question)
      if (route.role === 'primary') return route
      if (route.role === 'replica') replica ??= route.reason
      if (route.reason !== 'empty') isEmpty = false
      if (route.role === 'any' && !statement.read && statement.verb !== 'empty')
        changesSetting = true
    }
  }
  if (replica === null) return { role: 'any', reason: isEmpty ? 'empty' : 'setting' }
  return changesSetting ? primary('setting_and_read') : { role: 'replica', reason: replica }
}

function placeOne(statement: Statement, transaction: Transaction, question: RouteQuestion): Route {
  if (statement.verb === 'empty') return { role: 'any', reason: 'empty' }
  advance(statement, transaction, question)
  switch (transaction.mode) {
    case 'read_only':
      return inReadOnly(statement, transaction)
    case 'read_write':
      return inReadWrite(statement, transaction, question)
    case 'no':
      return outside(statement, transaction, question)
    default:
      return unreachable(transaction.mode)
  }
}

/** BEGIN, SET TRANSACTION and the end of the transaction change what the next statement runs in. */
function advance(statement: Statement, transaction: Transaction, question: RouteQuestion): void {
  const { verb, readOnly, isolation } = statement
  if (verb === 'begin') {
    transaction.mode = (readOnly ?? question.defaultReadOnly) ? 'read_only' : 'read_write'
  } else if (verb === 'set_transaction' && transaction.mode !== 'no' && readOnly !== undefined) {
    transaction.mode = readOnly ? 'read_only' : 'read_write'
  }
  if ((verb === 'begin' || verb === 'set_transaction') && isolation !== undefined) {
    transaction.isolation = isolation
  }
}

/** Statements that a READ ONLY transaction may run on a replica. */
const READ_ONLY_VERBS: ReadonlySet<Verb> = new Set<Verb>([
  'select',
  'values',
  'table',
  'show',
  'explain',
  'copy',
  'begin',
  'commit',
  'rollback',
  'savepoint',
  'rollback_to',
  'release',
  'set',
  'set_local',
  'set_transaction',
  'reset',
  'reset_all',
  'declare',
  'fetch',
  'move',
  'close',
  'deallocate',
])

/** Of what keeps a statement from being a read, what matters in a READ ONLY transaction too. */
const FORCED_IN_READ_ONLY = ['server_relation', 'not_understood', 'copy_target', 'learnt'] as const

function inReadOnly(statement: Statement, transaction: Transaction): Route {
  const { verb, reason } = statement
  if (statement.takesAdvisoryLock === true) return primary('advisory_lock')
  if (transaction.isolation === 'serializable') return primary('serializable')
  if (statement.pins !== undefined) return primary('session_state')
  const forced = FORCED_IN_READ_ONLY.find((known) => known === reason)
  if (forced !== undefined) return primary(forced)
  if (!READ_ONLY_VERBS.has(verb)) return primary('write')
  if ((verb === 'commit' || verb === 'rollback') && statement.chain !== true)
    transaction.mode = 'no'
  return { role: 'replica', reason: 'read_only_transaction' }
}

/** Statements that a transaction may hold before its first write without being one. */
const NEUTRAL_VERBS: ReadonlySet<Verb> = new Set<Verb>([
  'begin',
  'commit',
  'rollback',
  'savepoint',
  'rollback_to',
  'release',
  'set_local',
  'set_transaction',
])

function inReadWrite(
  statement: Statement,
  transaction: Transaction,
  question: RouteQuestion,
): Route {
  if (question.readTransactions === 'primary') return primary('transaction')
  if (transaction.isolation !== 'read_committed') return primary('transaction')
  if (!statement.read && !NEUTRAL_VERBS.has(statement.verb)) return primary('transaction')
  const { verb } = statement
  if ((verb === 'commit' || verb === 'rollback') && statement.chain !== true)
    transaction.mode = 'no'
  return { role: 'replica', reason: 'read_transaction' }
}

/** Statements about carried state: any server will do, the session keeps what they say. */
const SETTING_VERBS: ReadonlySet<Verb> = new Set<Verb>([
  'set',
  'set_local',
  'set_transaction',
  'reset',
  'reset_all',
  'discard',
  'deallocate',
])

function outside(statement: Statement, transaction: Transaction, question: RouteQuestion): Route {
  const { verb, read, reason, name } = statement
  if (SETTING_VERBS.has(verb)) return { role: 'any', reason: 'setting' }
  if (verb === 'show' && read && name !== undefined && isSettable(name)) {
    return { role: 'any', reason: 'setting' }
  }
  if (question.defaultReadOnly) return inReadOnly(statement, { ...transaction })
  if (!read) return primary(reasonOf(statement, reason))
  if (transaction.isolation === 'serializable') return primary('serializable')
  return { role: 'replica', reason: 'read' }
}

function reasonOf(statement: Statement, reason: StatementReason): Reason {
  switch (reason) {
    case 'select':
    case 'values':
    case 'table':
    case 'show':
    case 'explain':
    case 'copy':
    case 'empty':
    case 'verb':
      return statement.pins === undefined ? 'write' : 'session_state'
    case 'locking_clause':
    case 'into':
    case 'data_modifying_cte':
    case 'unproved_function':
    case 'server_relation':
    case 'copy_target':
    case 'learnt':
    case 'not_understood':
      return reason
    default:
      return unreachable(reason)
  }
}
