import { fc, test as property } from '@fast-check/vitest'
import { describe, expect, it, test } from 'vitest'
import type { TypeName } from '../../../src/admin/table.ts'
import { row, secondsAndMicros, timestamp } from '../../../src/admin/table.ts'
import { BINARY, encodeRow, TEXT } from '../../../src/admin/values.ts'

function binary(cell: string, type: TypeName): Buffer {
  const [value] = encodeRow([cell], [{ name: 'x', type }], [BINARY])
  if (!Buffer.isBuffer(value)) throw new Error('not binary')
  return value
}

/** What numeric_recv makes of the bytes, written from its source. */
function numericFrom(bytes: Buffer): string {
  const digits = Array.from({ length: bytes.readInt16BE(0) }, (_, index) =>
    bytes.readInt16BE(8 + index * 2),
  )
  expect(bytes).toHaveLength(8 + digits.length * 2)
  const weight = bytes.readInt16BE(2)
  let sum = 0n
  for (const [index, digit] of digits.entries())
    sum += BigInt(digit) * 10_000n ** BigInt(weight - index)
  return String(bytes.readUInt16BE(4) === 0x4000 ? -sum : sum)
}

describe('numeric in binary', () => {
  test.each([
    '0',
    '1',
    '9999',
    '10000',
    '10001',
    '100000000',
    '123456789012345678901',
    '-1',
    '-20000',
    '42000000',
  ])('%s', (text) => {
    expect(numericFrom(binary(text, 'numeric'))).toBe(text)
  })

  property.prop([fc.bigInt({ min: -(10n ** 30n), max: 10n ** 30n })])(
    'any whole number',
    (number) => {
      expect(numericFrom(binary(String(number), 'numeric'))).toBe(String(number))
    },
  )

  it('has no zeros at either end, as PostgreSQL sends it', () => {
    expect(binary('0', 'numeric')).toEqual(Buffer.alloc(8))
    expect(binary('100000000', 'numeric').readInt16BE(0)).toBe(1)
  })
})

it('booleans and integers in binary', () => {
  expect(binary('t', 'bool')).toEqual(Buffer.of(1))
  expect(binary('f', 'bool')).toEqual(Buffer.of(0))
  expect(binary('-2', 'int4').readInt32BE(0)).toBe(-2)
  expect(binary('3000000000', 'int4').readInt32BE(0)).toBe(2_147_483_647)
  expect(binary('9007199254740993', 'int8').readBigInt64BE(0)).toBe(9_007_199_254_740_993n)
  expect(binary('grün', 'text').toString()).toBe('grün')
})

it('text stays text, and null is null in both formats', () => {
  const columns = [
    { name: 'a', type: 'int4' },
    { name: 'b', type: 'int4' },
  ] as const
  expect(encodeRow(['1', null], columns, [TEXT, BINARY])).toEqual(['1', null])
  expect(encodeRow(['1', null], columns, [])).toEqual(['1', null])
})

it('cells are whole numbers, booleans as PostgreSQL writes them, and text', () => {
  expect(row(1.6, -0.2, 10n ** 20n, true, false, null, 'x', Number.NaN)).toEqual([
    '2',
    '0',
    '100000000000000000000',
    't',
    'f',
    null,
    'x',
    '0',
  ])
  expect(row(2 ** 80)).toEqual(['1208925819614629174706176'])
})

it('times are seconds and microseconds, moments are UTC', () => {
  expect(secondsAndMicros(1250.5)).toEqual([1, 250_500])
  expect(secondsAndMicros(-5)).toEqual([0, 0])
  expect(timestamp(Date.UTC(2026, 0, 2, 3, 4, 5, 678))).toBe('2026-01-02 03:04:05 UTC')
})
