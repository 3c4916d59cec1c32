/**
 * Servers that end in the middle of an answer, at every byte and in every way.
 *
 *   CUT_SEED=123 npx vitest run --project long test/long/cut.test.ts    reads cut in another way
 */
import { test } from 'vitest'
import { cutAnywhere, STEPS } from '../support/cut.ts'

const seed = Number(process.env['CUT_SEED'] ?? 20_261_123)

test.each(Object.entries(STEPS))(
  `%s: its client is told the truth and goes on, whatever byte its answer ends with (seed ${seed})`,
  (_, steps) => cutAnywhere(steps, { seed, stride: 1, waysMax: Number.POSITIVE_INFINITY }),
)
