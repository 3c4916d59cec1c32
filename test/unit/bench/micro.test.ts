/** The check of the micro benchmarks says what is worse than the baseline, and only that. */
import { expect, test } from 'vitest'
import { CASES, reference } from '../../../bench/micro/cases.ts'
import { better, middle, worse } from '../../../bench/micro/judge.ts'

const BASELINE = { relay: { ratio: 1, bytes: 0 }, classify: { ratio: 4, bytes: 900 } }

test.each([
  ['as it was', 'relay', { ratio: 1, bytes: 0 }, []],
  ['a little slower, as on a busy machine', 'relay', { ratio: 1.4, bytes: 0 }, []],
  ['twice as slow', 'relay', { ratio: 2, bytes: 0 }, ['relay: ratio 2.000, was 1.000']],
  ['an object more', 'relay', { ratio: 1, bytes: 24 }, ['relay: allocates 24 bytes, was 0']],
  ['within a tenth', 'classify', { ratio: 4, bytes: 980 }, []],
  ['better', 'classify', { ratio: 1, bytes: 0 }, []],
  ['unknown', 'route', { ratio: 1, bytes: 0 }, ['route: not in the baseline, run with --write']],
])('%s', (_, name, measured, sentences) =>
  expect(worse(name, measured, BASELINE)).toEqual(sentences),
)

test('of two measurements the better counts, in each figure', () => {
  expect(better({ ratio: 1, bytes: 9 }, { ratio: 2, bytes: 0 })).toEqual({ ratio: 1, bytes: 0 })
})

test('the baseline is the middle of what was measured', () => {
  const measured = [9, 1, 5].map((ratio) => ({ ratio, bytes: 10 * ratio }))
  expect(middle(measured)).toEqual({ ratio: 5, bytes: 50 })
})

test.each([...Object.entries(CASES), ['reference', reference] as const])(
  '%s does its work, time and again',
  (_, make) => {
    const once = make()
    expect(once()).toBeDefined()
    expect(once()).toBeDefined()
  },
)
