/**
 * Scenarios of the short form once more, with two workers and reads that share servers: the same is
 * asked of them. They are part of the whole form, with one kind of replication.
 */
import { expect } from 'vitest'
import { invariant } from '../../src/base/invariant.ts'
import { type Scenario, SHORT } from './scenarios.ts'

const PLAYED = new Set([
  'planned switchover, hook',
  'node killed',
  'node cut off',
  'node frozen',
  'replica restarted, replay paused',
])
/** Behind the name of the scenario that is played. */
export const SHARING = ', shared servers'
/** Behind slow reads too: a busy machine makes all of them slow. */
const PGSTEER = { multiplex_reads: 'auto', multiplex_behind_ms_max: 1000, workers: 2 }
/** Two for each worker at each member. */
const PGBOUNCER = { default_pool_size: 4 }
const SHARED_MIN = 100
/** One that was under way, and the next, when it was sent before word of the fault came. */
const TROUBLES_MAX = 2
/** What a read is told whose server is lost (docs/failover.md, "What a client gets"). */
const LOST = /^(?:40001|08007): /

export const SHARED: readonly Scenario[] = SHORT.filter(({ name }) => PLAYED.has(name)).map(shared)
invariant(SHARED.length === PLAYED.size, 'what is played is in the short form')

function shared(scenario: Scenario): Scenario {
  return {
    ...scenario,
    name: `${scenario.name}${SHARING}`,
    title: `with reads that share servers ${scenario.title}`,
    isCompared: false,
    isShared: true,
    pgsteer: { ...scenario.pgsteer, ...PGSTEER },
    pgbouncer: PGBOUNCER,
    judge: (account, scene) => {
      scenario.judge?.(account, scene)
      const { shared: reads } = scene
      expect(account.sharedReads, 'reads that shared a server').toBeGreaterThan(SHARED_MIN)
      expect(reads?.wrong).toEqual([])
      const errors = reads?.errors ?? []
      expect(errors.flat().filter((error) => !LOST.test(error))).toEqual([])
      const most = Math.max(...errors.map(({ length }) => length))
      expect(most, JSON.stringify(errors)).toBeLessThanOrEqual(TROUBLES_MAX)
    },
  }
}
