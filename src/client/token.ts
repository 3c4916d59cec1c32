/**
 * Read your writes across connections: `SHOW pgsteer.lsn` tells a position, `SET pgsteer.min_lsn`
 * asks whoever serves the session to have it. The position is asked of the primary itself; what is
 * asked for is kept here and never set on a server, since servers with different settings cannot
 * serve each other's clients.
 *
 *     5:16/B374D848      timeline, then the position in the write-ahead log as PostgreSQL writes it
 *
 * Source  docs/routing.md, "Tokens".
 */
import { ProxyError } from '../base/errors.ts'
import { parseLsn } from '../cluster/probe.ts'
import type { Classified, Statement } from '../routing/classify.ts'
import { judge } from '../server/bounds.ts'
import type { MinLsn } from '../server/waiter.ts'
import type { BatchReader } from './batch.ts'
import type { Decision } from './decide.ts'
import type { Session } from './session.ts'

export const MIN_LSN = 'pgsteer.min_lsn'
const LSN = 'pgsteer.lsn'
const TIMELINE_MAX = 0xffff_ffff
/** Of a value in an error. */
const VALUE_CHARS_MAX = 64

export interface Token {
  readonly text: string
  /** Null: the text is no token. */
  readonly asked: MinLsn | null
}

/**
 * The insert position of the primary: all that was committed anywhere before lies below it. On a
 * replica it fails as pg_walfile_name() does there (55000).
 */
const POSITION_SQL = `SELECT pg_catalog.concat(pg_catalog.concat('x', pg_catalog.substr(pg_catalog.pg_walfile_name(p), 1, 8))::pg_catalog.bit(32)::pg_catalog.int8, ':', p) AS "pgsteer.lsn" FROM pg_catalog.pg_current_wal_insert_lsn() AS p`

/** What stands for a lone `SHOW pgsteer.lsn`, else null. */
export function positionQuery({ statements }: Classified): string | null {
  const [statement] = statements
  return statement?.name === LSN && statement.verb === 'show' && statements.length === 1
    ? POSITION_SQL
    : null
}

/** The value of `pgsteer.min_lsn`; the empty one asks for nothing. */
export function tokenOf(text: string): Token | null {
  if (text === '') return null
  const [, timeline = '', lsn] = /^([1-9]\d{0,9}):([^:]+)$/.exec(text) ?? []
  const position = parseLsn(lsn)
  const isToken = position !== null && Number(timeline) <= TIMELINE_MAX
  const asked = isToken ? { timeline: Number(timeline), lsn: position, isMet: false } : null
  return { text, asked }
}

/**
 * The token that the startup packet brings.
 *
 * Errors  ProxyError `startup_min_lsn`.
 */
export function startupToken(startup: ReadonlyMap<string, string>): Token | null {
  const token = tokenOf(startup.get(MIN_LSN) ?? '')
  if (token !== null && token.asked === null)
    throw new ProxyError('startup_min_lsn', { value: shown(token.text) })
  return token
}

/** The text of a constant, without its quotes. */
export function literalOf(value: string): string {
  return /^(['"])(.*)\1$/s.exec(value.trim())?.[2] ?? value.trim()
}

/**
 * What becomes of a batch that only sets or shows the token while no server is inside a transaction
 * of the session; null when it is not ours.
 */
export function answerToken(session: Session, batch: BatchReader): Decision | null {
  const [classified] = batch.classified
  const [statement] = classified?.statements ?? []
  const name = statement?.name
  if (statement === undefined || (name !== MIN_LSN && name !== LSN)) return null
  const { pool, transaction } = session
  const isLone = classified?.statements.length === 1
  if (!isLone || !pool.config.isRouted || !isAnswerable(batch)) return null
  if (transaction.state !== 'idle' && transaction.state !== 'deferred') return null
  const isLocal = statement.verb === 'set_local'
  if (isLocal && transaction.state === 'idle') return null
  const change = statement.verb === 'set' || isLocal || statement.verb === 'reset'
  if (name === LSN) return change ? refused(new ProxyError('lsn_fixed')) : null
  if (statement.verb === 'show') return shownToken(session)
  return change ? changedToken(session, statement, batch.executes > 0) : null
}

/** One statement, run once or only prepared, in messages that can be answered without a server. */
function isAnswerable(batch: BatchReader): boolean {
  const [classified] = batch.classified
  const isOne = batch.classified.every((each) => each === classified)
  const isOver = batch.endsReady || (batch.executes === 0 && batch.binds === 0)
  return isOne && isOver && batch.isWhole && batch.executes <= 1 && batch.kind !== 'function'
}

function shownToken({ carried, transaction }: Session): Decision {
  const row = { name: MIN_LSN, value: carried.token?.text ?? '' }
  return { kind: 'complete', tag: 'SHOW', status: transaction.status, row }
}

function changedToken(
  { services, transaction }: Session,
  statement: Statement,
  isRun: boolean,
): Decision {
  const isReset = statement.verb === 'reset' && statement.isSetToDefault !== true
  const tag = isReset ? 'RESET' : 'SET'
  const { status } = transaction
  if (!isRun) return { kind: 'complete', tag, status }
  const token = tokenOf(literalOf(statement.value ?? ''))
  if (token !== null) {
    if (token.asked === null) return refused(invalidToken(token))
    if (judge(token.asked, services.pools.topology) === 'lost')
      return refused(new ProxyError('min_lsn_lost', { timeline: token.asked.timeline }))
  }
  return { kind: 'complete', tag, status, change: statement }
}

/** Makes the change of a statement that no server has seen. */
export function changeToken({ carried }: Session, { name = '', value, verb }: Statement): void {
  if (verb === 'set_local') carried.setLocal(name, value)
  else if (verb === 'reset') carried.reset(name)
  else carried.set(name, value ?? "''")
}

/** A server took the SET of what is no token: it is refused where it would matter. */
export function invalidToken({ text }: Token): ProxyError {
  return new ProxyError('min_lsn_invalid', { value: shown(text) })
}

function refused(error: ProxyError): Decision {
  return { kind: 'refuse', error }
}

function shown(text: string): string {
  return text.slice(0, VALUE_CHARS_MAX)
}
