/**
 * What clients of one contender saw, in steps of time around the fault: answers per second, the
 * longest wait, clients that wait, failed statements. Pure.
 */
import type { Attempt } from './traffic.ts'

export const STEP_MS = 250
/** A statement that takes longer waits for something else than its turn. */
const WAITS_MS = 100

export interface Step {
  /** Seconds after the fault; negative before it. */
  readonly atS: number
  readonly answersPerS: number
  /** Longest wait, in milliseconds, of what was answered in this step; null without an answer. */
  readonly longestMs: number | null
  readonly waiting: number
  readonly failed: number
}

export interface Timeline {
  readonly contender: string
  readonly steps: readonly Step[]
  readonly failed: number
  /** Longest time in milliseconds without an answer to any write, and to any read. */
  readonly writeOutageMs: number
  readonly readOutageMs: number
  readonly errors: Readonly<Record<string, number>>
}

export function timelineOf(
  contender: string,
  attempts: readonly Attempt[],
  span: { readonly faultMs: number; readonly fromMs: number; readonly untilMs: number },
): Timeline {
  const { faultMs, fromMs, untilMs } = span
  const steps: Step[] = []
  for (let startMs = fromMs; startMs + STEP_MS <= untilMs; startMs += STEP_MS)
    steps.push(stepOf(attempts, startMs, faultMs))
  const failed = attempts.filter((one) => one.error !== '')
  const errors: Record<string, number> = {}
  for (const { error } of failed) errors[error] = (errors[error] ?? 0) + 1
  return {
    contender,
    steps,
    failed: failed.length,
    writeOutageMs: outageOf(attempts, 'write'),
    readOutageMs: outageOf(attempts, 'read'),
    errors,
  }
}

function stepOf(attempts: readonly Attempt[], startMs: number, faultMs: number): Step {
  const endMs = startMs + STEP_MS
  const ended = attempts.filter((one) => one.endedMs >= startMs && one.endedMs < endMs)
  const answered = ended.filter((one) => one.error === '')
  const waits = attempts.filter(
    (one) =>
      one.startedMs < endMs - WAITS_MS &&
      one.endedMs >= endMs &&
      one.endedMs - one.startedMs > WAITS_MS,
  )
  return {
    atS: (startMs - faultMs) / 1000,
    answersPerS: answered.length * (1000 / STEP_MS),
    longestMs:
      answered.length === 0
        ? null
        : Math.round(Math.max(...answered.map((one) => one.endedMs - one.startedMs))),
    waiting: waits.length,
    failed: ended.length - answered.length,
  }
}

function outageOf(attempts: readonly Attempt[], kind: Attempt['kind']): number {
  const times = attempts
    .filter((one) => one.kind === kind && one.error === '')
    .map((one) => one.endedMs)
    .toSorted((a, b) => a - b)
  return Math.round(Math.max(0, ...times.map((time, index) => time - (times[index - 1] ?? time))))
}
