/**
 * Servers that end in the middle of an answer: a part of the places and ways, the whole is in
 * test/long/cut.test.ts.
 *
 *   CUT_SEED=123 npx vitest run --project unit test/unit/client/cut.test.ts    another part
 */
import { test } from 'vitest'
import { cutAnywhere, STEPS } from '../../support/cut.ts'

const seed = Number(process.env['CUT_SEED'] ?? 20_261_123)

test.each(Object.entries(STEPS))(
  `%s: its client is told the truth and goes on, wherever the answer is cut (seed ${seed})`,
  { timeout: 60_000 },
  (_, steps) => cutAnywhere(steps, { seed, stride: 7, waysMax: 2 }),
)
