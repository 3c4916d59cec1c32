/**
 * The prepared statements and portals of one console session: names, commands, and how far a
 * portal's rows were sent. Takes the bodies of Parse, Bind, Describe, Execute and Close apart.
 * Source  PostgreSQL manual, "Message Formats"; exec_parse_message and exec_bind_message in
 *         src/backend/tcop/postgres.c.
 */
import { ProxyError } from '../base/errors.ts'
import { FrameReader } from '../wire/reader.ts'
import type { ConsoleResult } from './commands.ts'
import { type Command, columnsOf } from './parse.ts'
import { BINARY, TEXT } from './values.ts'

/** Statements, and portals, that one session may have at a time. */
export const NAMES_MAX = 100

export interface Statement {
  readonly sql: string
  readonly command: Command
}

export interface Portal {
  readonly statement: Statement
  /** One per column. */
  readonly formats: readonly number[]
  /** Null until the first Execute. */
  result: ConsoleResult | null
  /** Rows that went out. */
  sent: number
}

const STATEMENT = 0x53 // S
const PORTAL = 0x50 // P

export class Portals {
  readonly #statements = new Map<string, Statement>()
  readonly #portals = new Map<string, Portal>()
  readonly #reader = new FrameReader()

  get statements(): number {
    return this.#statements.size
  }

  /** Errors  those of `parseCommand`, `prepared_exists`, `console_names_max`, `broken_message`. */
  parse(body: Buffer, parseCommand: (sql: string) => Command): void {
    const reader = this.#begin(body)
    const name = reader.cstring()
    const sql = utf8(reader.cstring())
    const types = reader.int16()
    for (let index = 0; index < types && !reader.isBroken; index += 1) skip(reader, 4)
    finish(reader, 'Parse')
    if (name !== '' && this.#statements.has(name))
      throw new ProxyError('prepared_exists', { name: utf8(name) })
    // As in PostgreSQL: the unnamed statement is gone even if this Parse fails.
    if (name === '') this.#statements.delete('')
    bound(this.#statements)
    this.#statements.set(name, { sql, command: parseCommand(sql) })
  }

  /** Errors  `prepared_missing`, `portal_exists`, `console_parameters`, `bind_formats`. */
  bind(body: Buffer): void {
    const reader = this.#begin(body)
    const name = reader.cstring()
    const statement = this.#statement(reader.cstring())
    const valueFormats = reader.int16()
    for (let index = 0; index < valueFormats && !reader.isBroken; index += 1) reader.int16()
    if (reader.int16() > 0) throw new ProxyError('console_parameters')
    const formats = formatsOf(reader, columnsOf(statement.command)?.length ?? 0)
    finish(reader, 'Bind')
    if (name !== '' && this.#portals.has(name))
      throw new ProxyError('portal_exists', { name: utf8(name) })
    if (name === '') this.#portals.delete('')
    bound(this.#portals)
    this.#portals.set(name, { statement, formats, result: null, sent: 0 })
  }

  describe(body: Buffer): {
    readonly isStatement: boolean
    readonly command: Command
    readonly formats: readonly number[]
  } {
    const { kind, name } = this.#target(body, 'Describe')
    if (kind === STATEMENT)
      return { isStatement: true, command: this.#statement(name).command, formats: [] }
    const { statement, formats } = this.#portal(name)
    return { isStatement: false, command: statement.command, formats }
  }

  /** `rowsMax` 0 means all. */
  execute(body: Buffer): { readonly portal: Portal; readonly rowsMax: number } {
    const reader = this.#begin(body)
    const name = reader.cstring()
    const rowsMax = (reader.int16() << 16) | (reader.int16() & 0xffff)
    finish(reader, 'Execute')
    return { portal: this.#portal(name), rowsMax: Math.max(0, rowsMax) }
  }

  /** Closing what does not exist is no error. */
  close(body: Buffer): void {
    const { kind, name } = this.#target(body, 'Close')
    if (kind === PORTAL) this.#portals.delete(name)
    else this.#statements.delete(name)
  }

  /** Portals end with their transaction: at Sync, and at a simple Query. */
  endTransaction(): void {
    this.#portals.clear()
  }

  clear(): void {
    this.#portals.clear()
    this.#statements.clear()
  }

  #begin(body: Buffer): FrameReader {
    this.#reader.begin(body, 0, body.length)
    return this.#reader
  }

  #target(body: Buffer, message: string): { kind: number; name: string } {
    const reader = this.#begin(body)
    const kind = reader.byte()
    const name = reader.cstring()
    finish(reader, message)
    if (kind !== STATEMENT && kind !== PORTAL) throw new ProxyError('broken_message', { message })
    return { kind, name }
  }

  #statement(name: string): Statement {
    const statement = this.#statements.get(name)
    if (statement === undefined) throw new ProxyError('prepared_missing', { name: utf8(name) })
    return statement
  }

  #portal(name: string): Portal {
    const portal = this.#portals.get(name)
    if (portal === undefined) throw new ProxyError('portal_missing', { name: utf8(name) })
    return portal
  }
}

/** None: all text; one: for every column; else one per column. */
function formatsOf(reader: FrameReader, columns: number): readonly number[] {
  const count = reader.int16()
  const formats: number[] = []
  for (let index = 0; index < count && !reader.isBroken; index += 1) formats.push(reader.int16())
  if (formats.some((format) => format !== TEXT && format !== BINARY))
    throw new ProxyError('bind_formats', { formats: count, columns })
  if (count === 0) return Array.from({ length: columns }, () => TEXT)
  if (count === 1) return Array.from({ length: columns }, () => formats[0] ?? TEXT)
  if (count !== columns) throw new ProxyError('bind_formats', { formats: count, columns })
  return formats
}

function bound(names: ReadonlyMap<string, unknown>): void {
  if (names.size >= NAMES_MAX) throw new ProxyError('console_names_max', { max: NAMES_MAX })
}

function finish(reader: FrameReader, message: string): void {
  if (reader.isBroken || !reader.isAtEnd) throw new ProxyError('broken_message', { message })
}

function skip(reader: FrameReader, bytes: number): void {
  for (let index = 0; index < bytes; index += 1) reader.byte()
}

/** FrameReader gives the bytes of a text; the console speaks UTF-8. */
function utf8(text: string): string {
  return Buffer.from(text, 'latin1').toString('utf8')
}
