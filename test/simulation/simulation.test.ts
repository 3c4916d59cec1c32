/**
 * The simulation over fixed seeds. A failure prints its seed:
 *
 *   SIMULATION_SEED=123 npx vitest run --project simulation    that one life alone
 *   SIMULATION_LIVES=500 npx vitest run --project simulation   as many fresh ones besides
 */
import { expect, test } from 'vitest'
import { SimulatedWorld } from './world.ts'

/** In the first and the last reads share servers. */
const FIXED = [1, 2, 3, 4, 5, 24]
const FRESH = Number(process.env['SIMULATION_LIVES'] ?? 0)
const TEST_MS_MAX = 1_800_000

async function live(seed: number): Promise<void> {
  const { broken, trace, counts, steps, ...outcome } = await new SimulatedWorld(seed).run()
  const replay = `SIMULATION_SEED=${seed} npx vitest run --project simulation`
  const told = [`seed ${seed}: ${broken}`, `again: ${replay}`, ...trace].join('\n')
  expect(broken, told).toBeNull()
  expect(counts.acknowledged, 'writes that were acknowledged').toBeGreaterThan(20)
  expect(counts.reads, 'reads that were answered').toBeGreaterThan(20)
  if (outcome.isShared) expect(outcome.rides, 'reads that shared a server').toBeGreaterThan(100)
  if (process.env['SIMULATION_SEED'] !== undefined)
    console.log(steps, counts, outcome, trace.join('\n'))
}

const asked = process.env['SIMULATION_SEED']
const fresh = Array.from({ length: FRESH }, () => Math.floor(Math.random() * 2 ** 32))
const seeds = asked === undefined ? [...FIXED, ...fresh] : [Number(asked)]

test.each(seeds)(
  'a life of the proxy among faults keeps every promise (seed %i)',
  (seed) => live(seed),
  TEST_MS_MAX,
)
