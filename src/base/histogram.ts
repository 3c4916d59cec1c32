/**
 * Counts of durations in fixed buckets, as plain numbers that can cross a process boundary and be
 * added up. Bounds are upper bounds, in seconds, as Prometheus wants them.
 */

/** From 50 microseconds to a minute: a pooled query to a held one. */
export const DURATION_BOUNDS_S: readonly number[] = [
  0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5,
  5, 10, 30, 60,
]

export interface HistogramCounts {
  /** One more than the bounds: the last counts what is above them all. */
  readonly buckets: number[]
  sumS: number
  count: number
}

export function emptyHistogram(): HistogramCounts {
  return { buckets: DURATION_BOUNDS_S.map(() => 0).concat(0), sumS: 0, count: 0 }
}

/** Cost: one walk over at most 20 bounds, no allocation. */
export function observeMs(histogram: HistogramCounts, durationMs: number): void {
  const seconds = durationMs / 1000
  let index = 0
  while (index < DURATION_BOUNDS_S.length && seconds > (DURATION_BOUNDS_S[index] ?? 0)) index += 1
  histogram.buckets[index] = (histogram.buckets[index] ?? 0) + 1
  histogram.sumS += seconds
  histogram.count += 1
}

/** Adds `from` to `into`, bucket by bucket. */
export function addHistogram(into: HistogramCounts, from: HistogramCounts): void {
  for (const [index, count] of from.buckets.entries())
    into.buckets[index] = (into.buckets[index] ?? 0) + count
  into.sumS += from.sumS
  into.count += from.count
}
