/**
 * What a row of the error table says.
 */

export type ErrorSource = 'client' | 'server' | 'proxy' | 'operator'
/** When the statement may be sent again: never, or only if no byte of it reached a server. */
export type ErrorRetry = 'never' | 'unsent'
export type ErrorLevel = 'debug' | 'info' | 'warn' | 'error' | null

export interface ErrorRow {
  readonly severity: 'FATAL' | 'ERROR'
  /** PostgreSQL's own code for this condition. */
  readonly sqlstate: string
  /** What PgBouncer sends instead, where it knows the error; null where the error is ours. */
  readonly pgbouncer: string | null
  readonly source: ErrorSource
  readonly retry: ErrorRetry
  readonly level: ErrorLevel
  /** One sentence; `{name}` is filled in from the arguments. */
  readonly message: string
}

export type Template = readonly [
  severity: 'FATAL' | 'ERROR',
  sqlstate: string,
  pgbouncer: string | null,
  source: ErrorSource,
  retry: ErrorRetry,
  level: ErrorLevel,
  message: string,
]
