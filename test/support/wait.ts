/**
 * Waiting for what tests expect to happen: a condition with a deadline, never a fixed sleep.
 */
import { setTimeout as pause } from 'node:timers/promises'

export interface WaitOptions {
  readonly withinMs?: number
  readonly everyMs?: number
}

/**
 * Asks until the answer is neither undefined nor false, and returns it.
 *
 * Errors  Error that names `what` and the last answer or error when the deadline (10 s) has passed.
 */
export async function waitFor<T>(
  what: string,
  ask: () => T | Promise<T>,
  options: WaitOptions = {},
): Promise<Exclude<T, undefined | false>> {
  const { withinMs = 10_000, everyMs = 10 } = options
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

/** Rejects with `what` when `promise` takes longer. */
export async function within<T>(what: string, ms: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${ms} ms passed without: ${what}`)), ms)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
