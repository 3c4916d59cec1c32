/**
 * What becomes of a session's next batch while it holds no server: an answer of our own, a refusal,
 * or a route. Pure but for reading the session.
 */
import { ProxyError } from '../base/errors.ts'
import type { Classified, Statement } from '../routing/classify.ts'
import { routeBatch } from '../routing/route.ts'
import { isCarriedByPooler } from '../server/settings.ts'
import { type BatchReader, NOT_UNDERSTOOD } from './batch.ts'
import { isOrdinary } from './effects.ts'
import type { Lease } from './lease.ts'
import type { Session } from './session.ts'
import { answerToken, invalidToken, positionQuery } from './token.ts'
import type { LocalAnswer, Transaction } from './transaction.ts'
import { isAsciiSafe, isOn, valuesOf } from './values.ts'
import { isUnclean } from './work.ts'

/** The batch is answered as a server would: `row`, if it shows something; `change`, if it sets it. */
export interface Completion {
  readonly kind: 'complete'
  readonly tag: string
  readonly status: number
  readonly row?: { readonly name: string; readonly value: string }
  readonly change?: Statement
  /** The transaction that begins behind the one that ends: its BEGIN, which is answered with it. */
  readonly begins?: string
  /** A warning says that no transaction is open. */
  readonly isWarned?: true
  /** It answers the first statement of a Query alone; the others are next. */
  readonly isFirst?: true
  /** It answers that much of an extended batch alone; the rest is next. */
  readonly bytes?: number
}

export type Decision =
  | Completion
  | { readonly kind: 'defer'; readonly text: string; readonly classified: Classified }
  /** `ends`: a lost transaction is over with it. */
  | { readonly kind: 'refuse'; readonly error: ProxyError; readonly ends?: boolean }
  | {
      readonly kind: 'route'
      readonly role: 'primary' | 'replica' | 'any'
      readonly reason: string
    }

const NOT_ROUTED: Decision = { kind: 'route', role: 'any', reason: 'not_routed' }

export function decide(session: Session, batch: BatchReader): Decision {
  if (batch.kind === 'simple' && session.services.config().pgbouncer.disablePqexec)
    return { kind: 'refuse', error: new ProxyError('pqexec_disallowed') }
  if (session.transaction.state === 'idle' && batch.classified.every(isOrdinary))
    return route(session, batch)
  const lone = loneStatement(batch)
  const local = answerHere(session, batch, lone) ?? answerToken(session, batch)
  if (local !== null) return local
  const refusal = refusalOf(session, batch)
  if (refusal !== null) return { kind: 'refuse', error: refusal }
  if (lone !== null && batch.kind === 'simple' && mayDefer(session, lone)) return deferral(batch)
  return route(session, batch)
}

/** BEGIN READ WRITE fails on a replica, and what is sent behind a deferred BEGIN would run then. */
function mayDefer({ pool, transaction }: Session, { verb, bare, readOnly }: Statement): boolean {
  if (verb !== 'begin' || bare !== true || readOnly === false) return false
  return transaction.state === 'idle' && pool.config.poolMode !== 'statement'
}

/** The one statement of a batch that runs one, else null. */
function loneStatement(batch: BatchReader): Statement | null {
  const [classified] = batch.classified
  if (classified === undefined || batch.executes !== 1 || !batch.isWhole) return null
  if (batch.kind === 'function' || classified.statements.length !== 1) return null
  const isOne = batch.classified.every((each) => each === classified)
  return isOne ? (classified.statements[0] ?? null) : null
}

function answerHere(session: Session, batch: BatchReader, lone: Statement | null): Decision | null {
  const { transaction } = session
  if (transaction.state === 'open' || transaction.state === 'failed') return null
  // A statement that is prepared with it has to be known to a server, if there is one.
  const isOurs = batch.kind === 'simple' || transaction.state !== 'deferred'
  const first = lone ?? firstOfLost(session, batch)
  const answer = first === null || !isOurs ? null : transaction.localAnswer(first)
  if (answer?.kind === 'complete') {
    if (lone !== null && batch.endsReady) return answer
    if (first !== lone && batch.kind === 'simple') return { ...answer, isFirst: true }
    if (transaction.state === 'lost' && batch.firstBytes > 0)
      return { ...answer, bytes: batch.firstBytes }
  }
  return transaction.state === 'lost' ? refuseLost(session, batch, answer) : null
}

/** What a Query or a pipeline of several statements begins with, where that may end a lost transaction. */
function firstOfLost({ transaction }: Session, batch: BatchReader): Statement | null {
  if (transaction.state !== 'lost') return null
  const [first] = batch.classified
  if (batch.kind === 'simple') return batch.isWhole ? (first?.statements[0] ?? null) : null
  const isAlone = batch.firstBytes > 0 && first?.statements.length === 1
  return isAlone ? (first.statements[0] ?? null) : null
}

/** A server is needed, or the client has to be told: its transaction is gone. */
function refuseLost(
  { transaction }: Session,
  batch: BatchReader,
  answer: LocalAnswer | null,
): Decision {
  const { status } = transaction
  if (batch.classified.length === 0 && batch.endsReady) return { kind: 'complete', tag: '', status }
  // What ends a transaction may be prepared in a failed one. Source: exec_parse_message in postgres.c.
  const isPrepared = batch.executes === 0 && !transaction.isLossUntold && batch.endsReady
  if (isPrepared && batch.classified.every(isEnd)) return { kind: 'complete', tag: '', status }
  const ends = answer?.kind === 'lost' && answer.ends && batch.endsReady
  const isRetry = transaction.isLossUntold || answer?.kind === 'lost'
  return {
    kind: 'refuse',
    error: new ProxyError(isRetry ? 'transaction_retry' : 'transaction_lost'),
    ends,
  }
}

function isEnd({ statements }: Classified): boolean {
  const [statement] = statements
  return statements.length === 1 && (statement?.verb === 'commit' || statement?.verb === 'rollback')
}

function deferral(batch: BatchReader): Decision {
  const [classified] = batch.classified
  const [text] = batch.texts
  return { kind: 'defer', text: text ?? 'BEGIN', classified: classified ?? NOT_UNDERSTOOD }
}

function refusalOf(session: Session, batch: BatchReader): ProxyError | null {
  for (const classified of batch.classified) {
    const refusal = refusalOfText(session, classified, true)
    if (refusal !== null) return refusal
  }
  return null
}

/** Why a text may not be sent. `isFirst`: it begins a batch, and the session holds no server. */
export function refusalOfText(
  session: Session,
  { statements }: Classified,
  isFirst = false,
): ProxyError | null {
  const { poolMode } = session.pool.config
  const isShared = isBehindPooler(session)
  const policy = isShared ? 'reject' : session.pool.config.sessionState
  if (poolMode === 'session') return null
  for (const statement of statements) {
    if (poolMode === 'statement' && statement.verb === 'begin')
      return new ProxyError('statement_mode')
    if (isFirst && isShared && isUncarriable(statement, statements.length === 1))
      return new ProxyError('session_state', { what: `SET ${statement.name ?? ''} so` })
    const what = refusedState(statement, policy, session)
    if (what !== null) return new ProxyError('session_state', { what })
  }
  return null
}

/** Behind a pooler nothing ties a session to its server for longer than a transaction. */
function isBehindPooler({ pool, services }: Session): boolean {
  return pool.config.isRouted && services.config().pgsteer.memberAddress === 'proxy_url'
}

/** A SET that cannot be made for one transaction at a time: among other statements, or too late. */
function isUncarriable({ verb, name = '' }: Statement, isLone: boolean): boolean {
  if (verb !== 'set' || isCarriedByPooler(name)) return false
  return !isLone || name.startsWith('default_transaction_')
}

/** currval and lastval would tell what another client of that server did. */
function refusedState(
  statement: Statement,
  policy: 'pin' | 'reject' | 'warn',
  session: Session,
): string | null {
  if (statement.pins === undefined) return null
  if (statement.pins.includes('sequence_value')) {
    const mayKnow = session.pins.isPinned || session.transaction.hasWritten
    return mayKnow ? null : 'the value of currval or lastval outside the transaction that drew it'
  }
  return policy === 'reject' ? `session state (${statement.pins.join(', ')})` : null
}

function route(session: Session, batch: BatchReader): Decision {
  const { config } = session.pool
  if (!config.isRouted) return NOT_ROUTED
  const { token } = session.carried
  const values = valuesOf(session.carried.current)
  const isolation = session.transaction.deferredBegin?.isolation ?? values.isolation ?? undefined
  const answer = routeBatch({
    classified: batch.classified,
    sessionRoute: values.route ?? config.route,
    inTransaction: transactionKind(session, batch),
    pinned: false,
    defaultReadOnly:
      values.defaultReadOnly ?? isOn(session.welcome('default_transaction_read_only')),
    standardStrings: values.standardStrings ?? isOn(session.welcome('standard_conforming_strings')),
    asciiSafeEncoding: values.asciiSafeEncoding ?? isAsciiSafe(session.welcome('client_encoding')),
    readTransactions: config.readTransactions,
    ...(isolation === undefined ? {} : { isolation }),
    functionCall: batch.kind === 'function',
  })
  if (token?.asked === null && answer.role !== 'any')
    return { kind: 'refuse', error: invalidToken(token) }
  if (answer.role === 'replica' && batch.classified.some((each) => positionQuery(each) !== null))
    return { kind: 'route', role: 'primary', reason: 'server_relation' }
  if (answer.role === 'replica' && !mayBeginThere(session, batch, answer.reason))
    return { kind: 'route', role: 'primary', reason: 'transaction' }
  const isRead = answer.role === 'replica' && config.consistency === 'primary'
  return isRead
    ? { kind: 'route', role: 'primary', reason: 'consistency_primary' }
    : { kind: 'route', role: answer.role, reason: answer.reason }
}

/**
 * A transaction that may write begins on a replica with a read only, since savepoints do not move,
 * and only behind a BEGIN of ours, which can be sent once more to the primary.
 */
function mayBeginThere({ transaction }: Session, batch: BatchReader, reason: string): boolean {
  if (transaction.deferredText === null) return reason !== 'read_transaction'
  if (transaction.isReadOnly || reason === 'route_replica') return true
  return batch.classified.every(({ read }) => read)
}

/** A deferred BEGIN is placed by the first statement behind it. */
function transactionKind(session: Session, batch: BatchReader): 'no' | 'read_only' | 'read_write' {
  if (session.transaction.state !== 'deferred' || batch.classified.length === 0) return 'no'
  return session.transaction.isReadOnly ? 'read_only' : 'read_write'
}

function noteOther(transaction: Transaction, statements: readonly Statement[]): void {
  transaction.hasWritten = true
  for (const statement of statements) {
    const { reason, verb } = statement
    const isModes = verb === 'begin' || verb === 'set_transaction'
    if (isModes || reason === 'not_understood') transaction.noteModes(statement)
  }
}

/**
 * A statement is being sent.
 *
 * Errors  what may not be sent behind something that is under way ends the session: its answer
 *         would have to come in the middle of others.
 */
export function noteStatement(session: Session, classified: Classified): void {
  const refusal = refusalOfText(session, classified)
  if (refusal !== null) throw refusal
  if (!classified.read) noteOther(session.transaction, classified.statements)
  if (session.server !== null && isUnclean(classified, session.pool.config.isRouted))
    session.server.isUnclean = true
}

/**
 * `read_transactions = replica_until_write`: what a transaction does on a replica, until a batch
 * comes that is not only a read.
 */
export function mayLeaveReplica({ routeReason, transaction }: Session, lease: Lease): boolean {
  const { begun, isReadOnly, state } = transaction
  // What did not begin with a BEGIN of ours cannot be begun again; a replica's route is obeyed.
  const mayMove = begun !== null && !isReadOnly && routeReason !== 'route_replica'
  const isFirst = lease.role === 'replica' && state === 'open'
  return isFirst && mayMove && !lease.isOwed && !lease.isMidBatch
}
