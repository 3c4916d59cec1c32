/**
 * Whether a measurement is worse than the baseline. Pure. Times are compared as ratios to a reference
 * in the same process, so that neither the machine nor its load decides; bytes allocated are counted.
 */

export interface Measured {
  /** Time of one turn beside one turn of the reference. */
  readonly ratio: number
  /** Bytes that one turn allocates on the heap. */
  readonly bytes: number
}

export type Baseline = Readonly<Record<string, Measured>>

/** Ratios of a busy machine differ by some tens of percent. */
export const RATIO_FACTOR = 1.5
/** Ratios of what is next to nothing say little. */
export const RATIO_SLACK = 0.02
const BYTES_FACTOR = 1.1
/** The counter moves by whole objects, and by what the engine does beside. */
const BYTES_SLACK = 8

/** The better of two measurements in each figure: what disturbs only ever adds. */
export function better(one: Measured, other: Measured): Measured {
  return { ratio: Math.min(one.ratio, other.ratio), bytes: Math.min(one.bytes, other.bytes) }
}

/** The middle one of each figure. */
export function middle(measured: readonly Measured[]): Measured {
  return {
    ratio: middleOf(measured.map(({ ratio }) => ratio)),
    bytes: middleOf(measured.map(({ bytes }) => bytes)),
  }
}

function middleOf(values: readonly number[]): number {
  return values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)] ?? 0
}

/** What is worse, as sentences; none when nothing is. */
export function worse(name: string, measured: Measured, baseline: Baseline): string[] {
  const known = baseline[name]
  if (known === undefined) return [`${name}: not in the baseline, run with --write`]
  const found: string[] = []
  if (measured.ratio > known.ratio * RATIO_FACTOR + RATIO_SLACK)
    found.push(`${name}: ratio ${measured.ratio.toFixed(3)}, was ${known.ratio.toFixed(3)}`)
  if (measured.bytes > known.bytes * BYTES_FACTOR + BYTES_SLACK)
    found.push(`${name}: allocates ${measured.bytes} bytes, was ${known.bytes}`)
  return found
}
