/**
 * PgBouncer's timeouts of a client, asked for a few times a second.
 */
import { type ErrorCode, ProxyError } from '../base/errors.ts'
import type { PoolConfig } from '../config/config.ts'
import type { Session } from './session.ts'

export interface Ages {
  /** Since the query under way was sent; 0 when none is. */
  readonly queryMs: number
  /** Since the transaction began; 0 outside one. */
  readonly transactionMs: number
  /** Since the client's last byte. */
  readonly idleMs: number
  /** A server owes an answer. */
  readonly isOwed: boolean
  /** Its batch waits for a server: query_wait_timeout is the pools' business. */
  readonly isWaiting: boolean
}

function agesOf(session: Session, nowMs: number): Ages {
  const { activeMs, isOwed, meter, state, transaction } = session
  return {
    queryMs: meter.queryStartedMs === 0 ? 0 : nowMs - meter.queryStartedMs,
    transactionMs: transaction.startedMs === 0 ? 0 : nowMs - transaction.startedMs,
    idleMs: nowMs - activeMs,
    isOwed,
    isWaiting: state === 'waiting' || state === 'settling',
  }
}

/** The error that ends the session, or null. */
export function timeoutOf(ages: Ages, config: PoolConfig): ErrorCode | null {
  const isInTransaction = ages.transactionMs > 0
  if (hasPassed(ages.transactionMs, config.transactionTimeoutMs)) return 'transaction_timeout'
  if (ages.isOwed) return hasPassed(ages.queryMs, config.queryTimeoutMs) ? 'query_timeout' : null
  if (ages.isWaiting) return null
  if (isInTransaction)
    return hasPassed(ages.idleMs, config.idleTransactionTimeoutMs)
      ? 'idle_transaction_timeout'
      : null
  return hasPassed(ages.idleMs, config.clientIdleTimeoutMs) ? 'client_idle_timeout' : null
}

/**
 * Ends the session when a timeout passed.
 *
 * `settlingMs`  since its server was given its settings.
 */
export function checkTime(session: Session, settlingMs: number, nowMs: number): void {
  // What we ask of a server has the deadline of a log-in; then another one is taken.
  if (session.state === 'settling' && isStuck(session, settlingMs))
    session.server?.destroy(new ProxyError('server_connect_timeout'))
  const code = timeoutOf(agesOf(session, nowMs), session.pool.config)
  if (code !== null) session.close(new ProxyError(code))
}

/** A server that is given the session's settings does not take them in time. */
function isStuck({ services }: Session, settlingMs: number): boolean {
  return settlingMs > services.config().pgbouncer.serverConnectTimeoutMs
}

/** A limit of 0 is none. */
function hasPassed(durationMs: number, limitMs: number): boolean {
  return limitMs > 0 && durationMs > limitMs
}
