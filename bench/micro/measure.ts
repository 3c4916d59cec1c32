/**
 * Measures one case beside the reference in a process of its own, so that no case changes how another
 * is compiled: `node --expose-gc bench/micro/measure.ts NAME` prints a `Measured` as JSON.
 */
import { do_not_optimize } from 'mitata'
import { CASES, type Once, reference } from './cases.ts'
import type { Measured } from './judge.ts'

/** A slice is short enough to run undisturbed now and then, whatever else the machine does. */
const SLICE_NS = 300_000
const SLICES = 400
const WARM_NS = 150_000_000
const REFERENCE_TURNS = 300_000
const ALLOCATING_TURNS = 2_000
const ALLOCATING_TRIALS = 15

function ns(once: Once, turns: number): number {
  const before = process.hrtime.bigint()
  for (let turn = 0; turn < turns; turn += 1) do_not_optimize(once())
  return Number(process.hrtime.bigint() - before)
}

/**
 * Runs until it is compiled, by CPU time: a busy machine gives little of it in a second. Returns how
 * many turns make a slice.
 */
function warm(once: Once): number {
  let turns = 1
  let spent = 0
  let slice = 0
  const start = process.cpuUsage()
  while (spent < WARM_NS) {
    // The undisturbed one of three: too few turns would measure the clock.
    slice = Math.min(ns(once, turns), ns(once, turns), ns(once, turns))
    const { user, system } = process.cpuUsage(start)
    spent = 1000 * (user + system)
    if (slice < SLICE_NS) turns *= 2
  }
  return Math.max(1, Math.round((turns * SLICE_NS) / Math.max(slice, SLICE_NS)))
}

function ratioOf(once: Once, other: Once): number {
  // By turns, not by time, so that it is compiled alike in every run.
  ns(other, REFERENCE_TURNS)
  const turns = warm(once)
  const otherTurns = warm(other)
  let best = Number.POSITIVE_INFINITY
  let otherBest = Number.POSITIVE_INFINITY
  for (let slice = 0; slice < SLICES; slice += 1) {
    best = Math.min(best, ns(once, turns) / turns)
    otherBest = Math.min(otherBest, ns(other, otherTurns) / otherTurns)
  }
  return best / otherBest
}

function bytesOf(once: Once): number {
  const found: number[] = []
  for (let trial = 0; trial < ALLOCATING_TRIALS; trial += 1) {
    globalThis.gc?.()
    const before = process.memoryUsage().heapUsed
    for (let turn = 0; turn < ALLOCATING_TURNS; turn += 1) do_not_optimize(once())
    found.push((process.memoryUsage().heapUsed - before) / ALLOCATING_TURNS)
  }
  return Math.max(0, Math.round(found.toSorted((one, other) => one - other)[3] ?? 0))
}

const name = process.argv[2] ?? ''
const make = CASES[name]
if (make === undefined) throw new Error(`no case ${name}`)
const once = make()
const measured: Measured = { ratio: ratioOf(once, reference()), bytes: bytesOf(once) }
process.stdout.write(JSON.stringify(measured))
