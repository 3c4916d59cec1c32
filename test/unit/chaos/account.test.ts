/**
 * The account of the chaos suite sees what it is there for: a suite that counts nothing passes too.
 */
import { expect, test } from 'vitest'
import { type Account, accountOf } from '../../chaos/account.ts'
import type { ChaosLoad, Write } from '../../chaos/load.ts'

const OLD = 5431
const FORK = 1000n

function write(id: string, more: Partial<Write> = {}): Write {
  const told = { outcome: 'acknowledged', error: '', port: OLD, lsn: 500n } as const
  return { id, client: id[0] ?? '', startedMs: 0, endedMs: 10, ...told, ...more }
}

function account(writes: readonly Write[], held: Readonly<Record<string, number>>): Account {
  const load = {
    writes,
    of: (outcome: string) => writes.filter((one) => one.outcome === outcome),
    unseen: ['a1'],
    readErrors: [],
    dropped: 0,
    refused: 0,
    writeStallMs: 0,
    readStallMs: 0,
  }
  const times = new Map(Object.entries(held))
  return accountOf(
    load as unknown as ChaosLoad,
    { times, forkLsn: FORK },
    { scenario: '', pooler: '', port: OLD, struckMs: 5, outageMs: 0, handoverMs: null, load: 0 },
  )
}

test("a write that is lost though it was committed before the fork point is not the cluster's loss", () => {
  const later = write('b1', { startedMs: 20, endedMs: 30, lsn: 900n })
  expect(account([write('a1'), later], { b1: 1 })).toMatchObject({ lost: 1, lostOfOurs: 1 })
})

test("a lost write that nothing proves to be before the fork point is the cluster's loss", () => {
  const behind = write('a1', { lsn: 1200n })
  expect(account([behind], {})).toMatchObject({ lost: 1, lostOfOurs: 0, beyondFork: 1 })
})

test("a lost write that another member than the old primary took is never the cluster's loss", () => {
  expect(account([write('a1', { port: 1, lsn: 1200n })], {})).toMatchObject({ lostOfOurs: 1 })
})

test('what is there twice, what was denied and is there, and what was not seen are counted', () => {
  const denied = write('b1', { outcome: 'failed', startedMs: 7, endedMs: 107 })
  const counts = { doubled: 1, untrue: 1, stale: 1, failed: 1, troublesOfOne: 1, hungMs: 100 }
  expect(account([write('a1'), denied], { a1: 2, b1: 1 })).toMatchObject(counts)
})
