/**
 * Waiting for what tests expect to happen: a condition with a deadline, never a fixed sleep.
 */
import { setTimeout as pause } from 'node:timers/promises'

/** Long for a loaded machine, and below the time that a test has. */
const WITHIN_MS = 25_000

export interface WaitOptions {
  readonly withinMs?: number
  readonly everyMs?: number
}

/**
 * Asks until the answer is neither undefined nor false, and returns it.
 *
 * Errors  Error that names `what` and the last answer or error when the deadline (25 s) has passed.
 */
export async function waitFor<T>(
  what: string,
  ask: () => T | Promise<T>,
  options: WaitOptions = {},
): Promise<Exclude<T, undefined | false>> {
  const { withinMs = WITHIN_MS, everyMs = 10 } = options
  const deadline = performance.now() + withinMs
  let last: unknown
  for (;;) {
    try {
      const answer = await ask()
      if (answer !== undefined && answer !== false) return answer as Exclude<T, undefined | false>
      last = answer
    } catch (error) {
      last = error
    }
    if (performance.now() > deadline)
      throw new Error(`${withinMs} ms passed without: ${what} (last: ${String(last)})`, {
        cause: last,
      })
    await pause(everyMs)
  }
}
