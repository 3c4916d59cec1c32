/**
 * Every error a client, a peer or an operator can be told, in one table. The texts and the 08P01 of
 * PgBouncer are kept where PgBouncer has the same error (`pgbouncer` below), because alerts and
 * drivers match on them; `error_codes = postgres` sends PostgreSQL's own code instead.
 *
 * The rows are in errors/, by who is told. docs/errors.md is tested against this table, both ways.
 */
import { CONSOLE_ERRORS } from './errors/console.ts'
import { LOGIN_ERRORS } from './errors/login.ts'
import type { ErrorRow, Template } from './errors/row.ts'
import { SESSION_ERRORS } from './errors/session.ts'

const ROWS = { ...LOGIN_ERRORS, ...SESSION_ERRORS, ...CONSOLE_ERRORS } as const

export type ErrorCode = keyof typeof ROWS

/** The table by name, for the docs test and the metrics. */
export const ERRORS: Readonly<Record<string, ErrorRow>> = Object.fromEntries(
  Object.entries<Template>(ROWS).map(([code, row]) => [code, rowOf(row)]),
)

export type ErrorArguments = Readonly<Record<string, string | number>>

/** An operating error: a row of the table with its blanks filled in. */
export class ProxyError extends Error {
  readonly code: ErrorCode
  readonly row: ErrorRow
  /** PostgreSQL's code; a server's own code where the row passes one on. */
  readonly sqlstate: string

  constructor(code: ErrorCode, values: ErrorArguments = {}, cause?: unknown) {
    const row = rowOf(ROWS[code])
    super(fill(row.message, values), cause === undefined ? undefined : { cause })
    this.name = 'ProxyError'
    this.code = code
    this.row = row
    this.sqlstate = fill(row.sqlstate, values)
  }

  /** The SQLSTATE that goes on the wire under `error_codes`. */
  wireSqlstate(codes: 'pgbouncer' | 'postgres'): string {
    return codes === 'postgres' ? this.sqlstate : (this.row.pgbouncer ?? this.sqlstate)
  }
}

/** What was thrown as an operating error; anything else is a bug of ours. */
export function toProxyError(thrown: unknown): ProxyError {
  return thrown instanceof ProxyError
    ? thrown
    : new ProxyError('internal', { reason: reasonOf(thrown) }, thrown)
}

function rowOf([severity, sqlstate, pgbouncer, source, retry, level, message]: Template): ErrorRow {
  return { severity, sqlstate, pgbouncer, source, retry, level, message }
}

function fill(template: string, values: ErrorArguments): string {
  return template.replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? '?'))
}

/** What went wrong, as one line without a stack, for logs and for texts. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error.message !== '') return error.message
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name
}
