/** Durations in buckets: bounds are inclusive, as Prometheus reads `le`. */
import { fc, test } from '@fast-check/vitest'
import { expect } from 'vitest'
import {
  addHistogram,
  DURATION_BOUNDS_S,
  emptyHistogram,
  observeMs,
} from '../../../src/base/histogram.ts'

test.prop([fc.array(fc.double({ min: 0, max: 200_000, noNaN: true }), { maxLength: 50 })])(
  'every duration is in the first bucket whose bound is not less',
  (durationsMs) => {
    const histogram = emptyHistogram()
    for (const durationMs of durationsMs) observeMs(histogram, durationMs)
    let cumulative = 0
    for (const [index, boundS] of DURATION_BOUNDS_S.entries()) {
      cumulative += histogram.buckets[index] ?? 0
      expect(cumulative).toBe(durationsMs.filter((ms) => ms / 1000 <= boundS).length)
    }
    expect(cumulative + (histogram.buckets.at(-1) ?? 0)).toBe(durationsMs.length)
    expect(histogram.count).toBe(durationsMs.length)
    expect(histogram.sumS * 1000).toBeCloseTo(
      durationsMs.reduce((sum, ms) => sum + ms, 0),
      3,
    )
  },
)

test('two histograms add up to that of all durations', () => {
  const [one, other, all] = [emptyHistogram(), emptyHistogram(), emptyHistogram()]
  for (const ms of [0.01, 3, 70_000]) {
    observeMs(one, ms)
    observeMs(all, ms)
  }
  for (const ms of [3, 900]) {
    observeMs(other, ms)
    observeMs(all, ms)
  }
  addHistogram(one, other)
  expect(one.buckets).toEqual(all.buckets)
  expect([one.count, one.sumS]).toEqual([all.count, expect.closeTo(all.sumS)])
})
