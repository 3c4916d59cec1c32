/**
 * Waiting for what Docker does by itself and tells nobody: asked again and again, for so long and no longer.
 */
import { wait } from '../base/clock.ts'
import type { Context } from './context.ts'
import type { OperatorError } from './operator.ts'

const POLL_MS = 500

/**
 * Asks until `lacking` answers undefined. Errors: what it answers after `ms`. A dry run asks nothing, since
 * nothing was begun.
 */
export async function untilNothingLacks(
  { docker, clock }: Pick<Context, 'docker' | 'clock'>,
  ms: number,
  lacking: () => Promise<OperatorError | undefined>,
): Promise<void> {
  if (docker.isDryRun) return
  const untilMs = clock.nowMs() + ms
  for (;;) {
    const problem = await lacking()
    if (problem === undefined) return
    if (clock.nowMs() > untilMs) throw problem
    await wait(clock, POLL_MS)
  }
}
