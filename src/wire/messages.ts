/**
 * The messages we make ourselves, as whole frames. What only passes is never rebuilt.
 * Source  PostgreSQL manual, "Message Formats".
 */
import { serialize } from 'pg-protocol'
import type { ProxyError } from '../base/errors.ts'
import * as frame from './frame.ts'

export type ErrorCodes = 'pgbouncer' | 'postgres'

export const PARSE_COMPLETE_FRAME = fixed(frame.PARSE_COMPLETE)
export const BIND_COMPLETE_FRAME = fixed(frame.BIND_COMPLETE)
export const CLOSE_COMPLETE_FRAME = fixed(frame.CLOSE_COMPLETE)
export const NO_DATA_FRAME = fixed(frame.NO_DATA)
export const EMPTY_QUERY_FRAME = fixed(frame.EMPTY_QUERY)
export const SYNC_FRAME: Buffer = serialize.sync()
export const TERMINATE_FRAME: Buffer = serialize.end()
export const READY_IDLE = fixed(frame.READY_FOR_QUERY, Buffer.of(frame.STATUS_IDLE))
export const READY_OPEN = fixed(frame.READY_FOR_QUERY, Buffer.of(frame.STATUS_OPEN))
export const READY_FAILED = fixed(frame.READY_FOR_QUERY, Buffer.of(frame.STATUS_FAILED))

/** One frame around `body`. */
export function fixed(type: number, body: Buffer = Buffer.alloc(0)): Buffer {
  const bytes = Buffer.allocUnsafe(frame.HEADER_BYTES + body.length)
  bytes[0] = type
  bytes.writeInt32BE(body.length + 4, 1)
  body.copy(bytes, frame.HEADER_BYTES)
  return bytes
}

export function readyForQuery(status: number): Buffer {
  if (status === frame.STATUS_IDLE) return READY_IDLE
  return status === frame.STATUS_OPEN ? READY_OPEN : READY_FAILED
}

export function authenticationOk(): Buffer {
  return fixed(frame.AUTHENTICATION, Buffer.alloc(4))
}

export function backendKeyData(processId: number, secret: Buffer): Buffer {
  const body = Buffer.allocUnsafe(4 + secret.length)
  body.writeUInt32BE(processId, 0)
  secret.copy(body, 4)
  return fixed(frame.BACKEND_KEY_DATA, body)
}

export function parameterStatus(name: string, value: string): Buffer {
  return fixed(frame.PARAMETER_STATUS, Buffer.from(`${name}\0${value}\0`))
}

export function commandComplete(tag: string): Buffer {
  return fixed(frame.COMMAND_COMPLETE, Buffer.from(`${tag}\0`))
}

/** PgBouncer's own errors carry the fields S, C and M; PostgreSQL's drivers read V as well. */
export function errorResponse(error: ProxyError, codes: ErrorCodes): Buffer {
  const severity = error.row.severity
  return report(frame.ERROR_RESPONSE, {
    S: severity,
    V: severity,
    C: error.wireSqlstate(codes),
    M: error.message,
  })
}

export function noticeResponse(message: string, detail?: string): Buffer {
  const fields = { S: 'NOTICE', V: 'NOTICE', C: '00000', M: message }
  return report(frame.NOTICE_RESPONSE, detail === undefined ? fields : { ...fields, D: detail })
}

/** An ErrorResponse or NoticeResponse with the fields given by their type letters. */
export function report(type: number, fields: Readonly<Record<string, string>>): Buffer {
  let text = ''
  for (const [letter, value] of Object.entries(fields)) text += `${letter}${value}\0`
  return fixed(type, Buffer.from(`${text}\0`))
}

export interface Column {
  readonly name: string
  /** int4, int8, numeric, text, timestamptz, bytea as OIDs. */
  readonly type: number
}

/** Sizes of the fixed-size types among those that the console sends. */
const TYPE_BYTES: Readonly<Record<number, number>> = { 23: 4, 20: 8, 16: 1 }

/** `formats` by column, 0 text and 1 binary; text where there is none. */
export function rowDescription(
  columns: readonly Column[],
  formats: readonly number[] = [],
): Buffer {
  const parts: Buffer[] = [int16(columns.length)]
  for (const [index, { name, type }] of columns.entries()) {
    const tail = Buffer.alloc(18)
    tail.writeUInt32BE(type, 6)
    tail.writeInt16BE(TYPE_BYTES[type] ?? -1, 10)
    tail.writeInt32BE(-1, 12)
    tail.writeInt16BE(formats[index] ?? 0, 16)
    parts.push(Buffer.from(`${name}\0`), tail)
  }
  return fixed(frame.ROW_DESCRIPTION, Buffer.concat(parts))
}

/** Strings are values in text format, buffers in binary; null is NULL. */
export function dataRow(values: readonly (string | Buffer | null)[]): Buffer {
  const parts: Buffer[] = [int16(values.length)]
  for (const value of values) {
    if (value === null) {
      parts.push(int32(-1))
    } else {
      const bytes = typeof value === 'string' ? Buffer.from(value) : value
      parts.push(int32(bytes.length), bytes)
    }
  }
  return fixed(frame.DATA_ROW, Buffer.concat(parts))
}

/** A simple Query. */
export function query(text: string): Buffer {
  return serialize.query(text)
}

/** Parse of bytes as they came: text and types are not decoded. `body` starts after the name. */
export function parse(name: string, body: Buffer): Buffer {
  const head = Buffer.from(`${name}\0`, 'latin1')
  return fixed(frame.PARSE, Buffer.concat([head, body]))
}

export function closeStatement(name: string): Buffer {
  return serialize.close({ type: 'S', name })
}

/** The fields of an ErrorResponse or NoticeResponse body, by their type letters. */
export function reportFields(body: Buffer): Record<string, string> {
  const fields: Record<string, string> = {}
  let offset = 0
  while (offset < body.length && body[offset] !== 0) {
    const end = body.indexOf(0, offset + 1)
    if (end === -1) break
    fields[String.fromCharCode(body[offset] ?? 0)] = body.toString('utf8', offset + 1, end)
    offset = end + 1
  }
  return fields
}

function int16(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(2)
  bytes.writeInt16BE(value, 0)
  return bytes
}

function int32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4)
  bytes.writeInt32BE(value, 0)
  return bytes
}
