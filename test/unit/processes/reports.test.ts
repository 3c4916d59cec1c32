/** What workers counted, over their ends: no total goes back, and none counts twice. */
import { expect, test } from 'vitest'
import type { WorkerFacts } from '../../../src/admin/facts.ts'
import { Link } from '../../../src/link.ts'
import { Reports } from '../../../src/reports.ts'
import { FakeClock } from '../../support/clock.ts'
import { workerFacts } from '../../support/facts.ts'

function world() {
  const answers = new Map<number, WorkerFacts>()
  const clock = new FakeClock()
  const link: Link = new Link(
    'control',
    ({ to, name, question }) => {
      const body = typeof to === 'number' ? answers.get(to) : undefined
      const failure = body === undefined ? 'gone' : null
      queueMicrotask(() =>
        link.receive({ from: to, to: 'control', name, body, question, isAnswer: true, failure }),
      )
    },
    clock,
  )
  const reports = new Reports(link, clock)
  const total = async (workers: readonly number[]): Promise<number | undefined> => {
    const answered = await reports.ask(workers, 'counts')
    return reports.merge(answered, 3).clients.stats['app']?.transactions
  }
  return { answers, reports, total }
}

const ONE = workerFacts().clients.stats['app']?.transactions ?? 0

test('a worker that ends counts with its last word, once', async () => {
  const { answers, reports, total } = world()
  answers.set(0, workerFacts())
  answers.set(1, workerFacts({ worker: 1 }))
  expect(await total([0, 1])).toBe(2 * ONE)
  reports.retire(workerFacts())
  expect(await total([0, 1])).toBe(2 * ONE)
  answers.delete(0)
  expect(await total([1])).toBe(2 * ONE)
})

test('its number can be had by another one', async () => {
  const { answers, reports, total } = world()
  answers.set(0, workerFacts())
  expect(await total([0])).toBe(ONE)
  reports.retire(workerFacts())
  reports.replaced(0)
  expect(await total([0])).toBe(2 * ONE)
})

test('one that died without a word counts with what it said before', async () => {
  const { answers, reports, total } = world()
  answers.set(0, workerFacts())
  expect(await total([0])).toBe(ONE)
  answers.delete(0)
  expect(await total([0])).toBe(ONE)
  reports.replaced(0)
  expect(await total([])).toBe(ONE)
})
