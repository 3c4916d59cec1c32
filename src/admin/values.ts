/**
 * Cells in the binary format, for clients that ask for it (drivers that only speak the extended
 * protocol do). Values of the console are whole numbers, booleans and text.
 * Source  int4send, int8send, boolsend and numeric_send in PostgreSQL's src/backend/utils/adt.
 */
import { type Cell, type Column, TYPES, type TypeName } from './table.ts'

export const TEXT = 0
export const BINARY = 1

/** What a DataRow holds: strings as text, buffers as binary. */
export function encodeRow(
  cells: readonly Cell[],
  columns: readonly Column[],
  formats: readonly number[],
): (string | Buffer | null)[] {
  return cells.map((cell, index) => {
    if (cell === null || (formats[index] ?? TEXT) === TEXT) return cell
    return encodeBinary(cell, columns[index]?.type ?? 'text')
  })
}

/** Columns with OIDs, as RowDescription has them. */
export function describeColumns(columns: readonly Column[]): { name: string; type: number }[] {
  return columns.map(({ name, type }) => ({ name, type: TYPES[type] }))
}

function encodeBinary(cell: string, type: TypeName): Buffer {
  switch (type) {
    case 'bool':
      return Buffer.of(cell === 't' ? 1 : 0)
    case 'int4':
      return int4(cell)
    case 'int8':
      return int8(cell)
    case 'numeric':
      return numeric(cell)
    case 'text':
      return Buffer.from(cell)
    default:
      return Buffer.from(cell)
  }
}

/** What does not fit (bytes of memory above 2 GB) is the largest number that does. */
function int4(cell: string): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(Math.max(-2_147_483_648, Math.min(2_147_483_647, Number(cell))))
  return bytes
}

function int8(cell: string): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64BE(BigInt.asIntN(64, BigInt(cell)))
  return bytes
}

/**
 * Shape  Int16 digits, weight, sign (0x4000 negative), display scale 0, then the digits in base
 *        10000, without zeros at either end.
 */
function numeric(cell: string): Buffer {
  const isNegative = cell.startsWith('-')
  const text = isNegative ? cell.slice(1) : cell
  const padded = text.padStart(Math.ceil(text.length / 4) * 4, '0')
  const digits = (padded.match(/\d{4}/g) ?? []).map(Number)
  while (digits[0] === 0) digits.shift()
  const weight = Math.max(0, digits.length - 1)
  while (digits.at(-1) === 0) digits.pop()
  const bytes = Buffer.alloc(8 + digits.length * 2)
  bytes.writeInt16BE(digits.length, 0)
  bytes.writeInt16BE(weight, 2)
  bytes.writeUInt16BE(isNegative && digits.length > 0 ? 0x4000 : 0, 4)
  for (const [index, digit] of digits.entries()) bytes.writeInt16BE(digit, 8 + index * 2)
  return bytes
}
