/**
 * The answer to a SHOW as a value: columns with a type, rows of text. Rows are text because they
 * cross a process boundary and are sent as text nearly always; values.ts makes binary of them.
 */

/** OIDs of the types that the console uses. */
export const TYPES = { bool: 16, int8: 20, int4: 23, text: 25, numeric: 1700 } as const
export type TypeName = keyof typeof TYPES

export interface Column {
  readonly name: string
  readonly type: TypeName
}

export type Cell = string | null
export type Row = readonly Cell[]

export interface Table {
  readonly columns: readonly Column[]
  readonly rows: readonly Row[]
}

/** What views put into a row, before it becomes text. */
export type Value = string | number | bigint | boolean | null

/** `'name:text port:int4'` as columns; PgBouncer's tables read best in one line. */
export function columns(spec: string): readonly Column[] {
  return spec
    .trim()
    .split(/\s+/)
    .map((word) => {
      const [name = '', type = 'text'] = word.split(':')
      return { name, type: typeName(type) }
    })
}

function typeName(word: string): TypeName {
  if (word === 'int4' || word === 'int8' || word === 'numeric' || word === 'bool') return word
  return 'text'
}

/** Numbers lose their fraction, as all numbers of the console are whole. */
export function row(...values: readonly Value[]): Row {
  return values.map((value) => {
    if (value === null || typeof value === 'string') return value
    if (typeof value === 'boolean') return value ? 't' : 'f'
    if (typeof value === 'bigint') return String(value)
    return whole(value)
  })
}

function whole(value: number): string {
  if (!Number.isFinite(value)) return '0'
  const rounded = Math.round(value)
  return Math.abs(rounded) < 1e21 ? String(rounded === 0 ? 0 : rounded) : BigInt(rounded).toString()
}

/** `2026-11-23 06:42:49 UTC`, PgBouncer's form; always UTC. */
export function timestamp(wallMs: number): string {
  return `${new Date(wallMs).toISOString().slice(0, 19).replace('T', ' ')} UTC`
}

/** Seconds and the microseconds that remain, as `wait` and `wait_us`. */
export function secondsAndMicros(ms: number): readonly [seconds: number, micros: number] {
  const micros = Math.max(0, Math.round(ms * 1000))
  return [Math.floor(micros / 1e6), micros % 1e6]
}
