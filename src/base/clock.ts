/**
 * Time, as everything in the program reads it. Decisions use the monotonic clock only; the wall
 * clock is for people (logs, SHOW CLIENTS).
 */
import { performance } from 'node:perf_hooks'

export interface Timer {
  cancel(): void
}

export interface Clock {
  /** Monotonic milliseconds, with fractions; the same clock in every process of the machine. */
  nowMs(): number
  /** Milliseconds since 1970. */
  wallMs(): number
  /** Calls `run` once after `delayMs`. Never keeps the process alive. */
  after(delayMs: number, run: () => void): Timer
  /** Calls `run` every `periodMs`. Never keeps the process alive. */
  every(periodMs: number, run: () => void): Timer
}

/** More readings than this do not come closer together. */
const READINGS = 100
/**
 * `process.hrtime` is CLOCK_MONOTONIC, one clock for all processes, as causal bounds need;
 * `performance.now` is the same clock counted from the start of this process, and cheaper to read.
 */
const ORIGIN_MS = originMs()

/**
 * Where `performance.now` began on the other clock. Milliseconds may pass between two readings, when
 * they are the first or the machine is busy: of many, the pair that lies closest together counts.
 */
function originMs(): number {
  let closestNs = Number.POSITIVE_INFINITY
  let origin = 0
  for (let reading = 0; reading < READINGS; reading += 1) {
    const before = process.hrtime.bigint()
    const sinceStartMs = performance.now()
    const passedNs = Number(process.hrtime.bigint() - before)
    if (passedNs >= closestNs) continue
    closestNs = passedNs
    origin = (Number(before) + passedNs / 2) / 1e6 - sinceStartMs
  }
  return origin
}

/** The reading of the turn under way; 0 before the first one, negative where no turn is. */
let turnMs = -1

/**
 * What arrived is worked on: until `endTurn` time stands still, so that it is read once. Whoever
 * calls these calls both, and nothing that waits comes between them.
 */
export function beginTurn(): void {
  turnMs = 0
}

export function endTurn(): void {
  turnMs = -1
}

function systemNowMs(): number {
  if (turnMs > 0) return turnMs
  const nowMs = ORIGIN_MS + performance.now()
  if (turnMs === 0) turnMs = nowMs
  return nowMs
}

export const systemClock: Clock = {
  nowMs: systemNowMs,
  wallMs: () => Date.now(),
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs).unref()
    return { cancel: () => clearTimeout(timer) }
  },
  every(periodMs, run) {
    const timer = setInterval(run, periodMs).unref()
    return { cancel: () => clearInterval(timer) }
  },
}

/** As `systemClock`, but whoever waits keeps the process alive: for commands that run in the foreground. */
export const foregroundClock: Clock = {
  ...systemClock,
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs)
    return { cancel: () => clearTimeout(timer) }
  },
}

/** Resolves after `delayMs`. */
export function wait(clock: Clock, delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    clock.after(delayMs, resolve)
  })
}

/**
 * What `work` comes to; or after `deadlineMs` an Error that says `reason`. Work that is late goes on,
 * and nobody hears of it.
 */
export async function within<T>(
  work: Promise<T>,
  clock: Clock,
  deadlineMs: number,
  reason: string,
): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>()
  const timer = clock.after(deadlineMs, () => reject(new Error(reason)))
  try {
    return await Promise.race([work, late])
  } finally {
    timer.cancel()
  }
}
