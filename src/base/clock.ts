/**
 * Time, as everything in the program reads it. Decisions use the monotonic clock only; the wall
 * clock is for people (logs, SHOW CLIENTS).
 */

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

/**
 * `process.hrtime` is CLOCK_MONOTONIC, one clock for all processes, as causal bounds need;
 * `performance.now` is the same clock counted from the start of this process, and cheaper to read.
 */
const ORIGIN_MS = Number(process.hrtime.bigint()) / 1e6 - performance.now()

export const systemClock: Clock = {
  nowMs: () => ORIGIN_MS + performance.now(),
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

/** Resolves after `delayMs`. */
export function wait(clock: Clock, delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    clock.after(delayMs, resolve)
  })
}
