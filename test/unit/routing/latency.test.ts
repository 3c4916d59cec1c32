/** How long statements usually take is learnt by their shape, in bounded memory, and soon believed. */
import { fc, test as property } from '@fast-check/vitest'
import { describe, expect, test } from 'vitest'
import { Latencies, shapeOfBytes, shapeOfText } from '../../../src/routing/latency.ts'

const SHAPE = shapeOfText('SELECT 1')

function observed(...samples: readonly number[]): Latencies {
  const latencies = new Latencies()
  for (const ms of samples) latencies.observe(SHAPE, ms)
  return latencies
}

/** So many samples of `ms`. */
function times(count: number, ms: number): number[] {
  return Array.from({ length: count }, () => ms)
}

describe('the shape of a text', () => {
  test.each([
    ['SELECT 1', 'SELECT 20000'],
    ['SELECT 1.5e10', 'SELECT 0x1F'],
    ['SELECT a FROM t WHERE b = 1;', 'SELECT a FROM t WHERE b = 98765432;'],
    ["SELECT 'a', 'it''s'", "SELECT '', 'x'"],
    ["SELECT E'it\\'s', 1", "SELECT E'', 2"],
    ['SELECT $$it$$', 'SELECT $$ is $$'],
    ["SELECT 'a' /* trace 1 */", "SELECT 'b' /* trace 22 */"],
    ['/* 1 */SELECT 1', 'SELECT 1'],
    ['SELECT 1 -- a\n+ 2', 'SELECT 1 \n+ 3'],
    ['SELECT 1 -- a', 'SELECT 2 -- bc'],
    ["SELECT 'open", "SELECT 'open to the end"],
    ['SELECT 1 /* open', 'SELECT 1 /* open to the end'],
  ])('of %j is that of %j', (one, other) => expect(shapeOfText(one)).toBe(shapeOfText(other)))

  test.each([
    ['SELECT a', 'SELECT b'],
    ['SELECT a1', 'SELECT a2'],
    ['SELECT $1', 'SELECT $2'],
    ['SELECT 1', 'SELECT 1, 2'],
    ["SELECT 'a'", 'SELECT "a"'],
    ["SELECT 'a' b", "SELECT 'a b'"],
    ['SELECT a - b', 'SELECT a / b'],
    ['SELECT "a1"', 'SELECT "a2"'],
  ])('of %j is not that of %j', (one, other) =>
    expect(shapeOfText(one)).not.toBe(shapeOfText(other)),
  )

  const anyText = fc.oneof(
    fc.string({ maxLength: 60 }),
    fc
      .array(fc.constantFrom('a', '1', "'", '$', '$$', '-', '--', '/*', '*/', '\n', 'é', 'E', '\\'))
      .map((parts) => parts.join('')),
    fc.string({ minLength: 16_000, maxLength: 17_000 }),
  )
  const around = fc.constantFrom('', "'", '-', '$', '*', 'E', '1', 'a')
  property.prop([anyText, around, around], { numRuns: 1000 })(
    'is the same from bytes and from text, wherever the bytes stand',
    (text, before, behind) => {
      const latin1 = Buffer.from(text, 'utf8').toString('latin1')
      const shape = shapeOfText(latin1)
      const bytes = Buffer.from(`${before}${latin1}${behind}`, 'latin1')
      const start = before.length
      expect(shapeOfBytes(bytes, start, start + latin1.length)).toBe(shape)
      expect(shape).toBeGreaterThanOrEqual(0)
      expect(Number.isInteger(shape)).toBe(true)
    },
  )

  test('of 5,000 texts that differ in a name is one each, but for a few', () => {
    const shapes = new Set(
      Array.from({ length: 5000 }, (_, number) => shapeOfText(`SELECT a FROM t${number}`)),
    )
    expect(shapes.size).toBeGreaterThan(4995)
  })
})

describe('what a shape is expected to take', () => {
  test('is not known before the third sample', () => {
    expect(observed().expectedMs(SHAPE)).toBe(Number.POSITIVE_INFINITY)
    expect(observed(1, 1).expectedMs(SHAPE)).toBe(Number.POSITIVE_INFINITY)
    expect(observed(1, 2, 3).expectedMs(SHAPE)).toBeCloseTo(2)
  })

  test('follows the samples', () => {
    expect(observed(...times(20, 1), ...times(40, 4)).expectedMs(SHAPE)).toBeCloseTo(4, 1)
    expect(observed(...times(20, 40), ...times(60, 0.5)).expectedMs(SHAPE)).toBeCloseTo(0.5, 1)
  })

  test('one outlier does not make slow what is quick, nor quick what is slow', () => {
    expect(observed(...times(10, 0.3), 10_000).expectedMs(SHAPE)).toBeLessThan(2)
    expect(observed(...times(10, 50), 0.1).expectedMs(SHAPE)).toBeGreaterThan(40)
  })

  test('a few slow ones in a row make it slow', () => {
    expect(observed(...times(100, 0.3), ...times(5, 200)).expectedMs(SHAPE)).toBeGreaterThan(5)
  })

  test('what no clock can have measured is no sample', () => {
    expect(observed(1, 1, 1, Number.NaN, -1).expectedMs(SHAPE)).toBe(1)
  })

  test('one that is barred is never quick, until all is forgotten', () => {
    const latencies = observed(1, 1, 1)
    latencies.bar(SHAPE)
    latencies.observe(SHAPE, 1)
    expect([latencies.expectedMs(SHAPE), latencies.isBarred(SHAPE)]).toEqual([
      Number.POSITIVE_INFINITY,
      true,
    ])
    latencies.forget()
    expect([latencies.isBarred(SHAPE), latencies.size]).toEqual([false, 0])
    for (const ms of [2, 2, 2]) latencies.observe(SHAPE, ms)
    expect(latencies.expectedMs(SHAPE)).toBe(2)
  })

  test('one can be barred that was never seen', () => {
    const latencies = new Latencies()
    latencies.bar(SHAPE)
    expect([latencies.isBarred(SHAPE), latencies.size]).toEqual([true, 1])
  })
})

test('300 samples leave it as well known as it was', () => {
  const latencies = observed(...times(300, 1))
  expect([latencies.expectedMs(SHAPE), latencies.isBarred(SHAPE)]).toEqual([1, false])
})

const shapes = fc.integer({ min: 0, max: 2 ** 31 - 1 })

property.prop([fc.array(fc.tuple(shapes, fc.double({ min: 0, max: 1e6, noNaN: true })))])(
  'nothing that is learnt is more than what was seen',
  (samples) => {
    const latencies = new Latencies()
    for (const [shape, ms] of samples)
      for (let turn = 0; turn < 3; turn += 1) latencies.observe(shape, ms)
    const most = Math.max(0, ...samples.map(([, ms]) => ms))
    for (const [shape] of samples) {
      const expected = latencies.expectedMs(shape)
      if (Number.isFinite(expected))
        expect(expected).toBeLessThanOrEqual(Math.fround(most) * 1.000_01)
    }
    expect(latencies.size).toBeLessThanOrEqual(samples.length)
  },
)

test('the table is full at 32,768 shapes, and goes on learning', () => {
  const latencies = new Latencies()
  for (let shape = 0; shape < 200_000; shape += 2)
    for (let turn = 0; turn < 3; turn += 1) latencies.observe(shape, 1)
  expect(latencies.size).toBe(32_768)
  expect(latencies.expectedMs(199_998)).toBe(1)
  expect(latencies.expectedMs(2)).toBe(Number.POSITIVE_INFINITY)
})

test('one that comes often keeps its place beside one that comes rarely', () => {
  const latencies = new Latencies()
  const often = 4
  for (let turn = 0; turn < 50; turn += 1) latencies.observe(often, 1)
  for (let check = 1; check < 100; check += 1) latencies.observe((check << 15) | often, 9)
  expect(latencies.expectedMs(often)).toBe(1)
})
