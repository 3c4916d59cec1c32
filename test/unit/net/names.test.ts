import { ADDRCONFIG } from 'node:dns'
import { type PerformanceEntry, PerformanceObserver } from 'node:perf_hooks'
import { expect, test } from 'vitest'
import { Names } from '../../../src/net/names.ts'
import { FakeClock } from '../../support/clock.ts'

const HERE = [{ address: '10.0.0.1', family: 4 }]
const THERE = [{ address: '10.0.0.2', family: 4 }]

function failure(code: string): Error {
  return Object.assign(new Error(code), { code })
}

/** A resolver whose answers the test gives, one after the other. */
function world() {
  const clock = new FakeClock()
  const asked: PromiseWithResolvers<typeof HERE>[] = []
  const names = new Names(clock, () => {
    const next = Promise.withResolvers<typeof HERE>()
    asked.push(next)
    return next.promise
  })
  return { clock, asked, names }
}

test('a name is asked anew each time, and has moved', async () => {
  const { asked, names } = world()
  const first = names.find('pg1')
  asked[0]?.resolve(HERE)
  expect(await first).toEqual(HERE)
  const second = names.find('pg1')
  asked[1]?.resolve(THERE)
  expect(await second).toEqual(THERE)
  expect(names.known()).toEqual([{ hostname: 'pg1', addresses: ['10.0.0.2'] }])
})

test.each(['late', 'EAI_AGAIN'])(
  'a name that cannot be resolved now is where it was (%s)',
  async (how) => {
    const { clock, asked, names } = world()
    const first = names.find('pg1')
    asked[0]?.resolve(HERE)
    await first
    const second = names.find('pg1')
    if (how === 'late') clock.advance(500)
    else asked[1]?.reject(failure(how))
    expect(await second).toEqual(HERE)
  },
)

test('a name that is no more is refused, and forgotten', async () => {
  const { asked, names } = world()
  const first = names.find('pg1')
  asked[0]?.resolve(HERE)
  await first
  const second = names.find('pg1')
  asked[1]?.reject(failure('ENOTFOUND'))
  await expect(second).rejects.toThrow('ENOTFOUND')
  const third = names.find('pg1')
  asked[2]?.reject(failure('EAI_AGAIN'))
  await expect(third).rejects.toThrow('EAI_AGAIN')
  expect(names.known()).toEqual([])
})

test('many who ask for a name that hangs are one question, and all are answered by it', async () => {
  const { asked, names } = world()
  const all = Array.from({ length: 50 }, () => names.find('pg1'))
  expect(asked).toHaveLength(1)
  asked[0]?.resolve(HERE)
  expect(new Set(await Promise.all(all))).toEqual(new Set([HERE]))
})

test('an answer that came too late counts the next time', async () => {
  const { clock, asked, names } = world()
  const first = names.find('pg1')
  asked[0]?.resolve(HERE)
  await first
  const second = names.find('pg1')
  clock.advance(500)
  await second
  asked[1]?.resolve(THERE)
  await Promise.resolve()
  const third = names.find('pg1')
  asked.at(-1)?.reject(failure('EAI_AGAIN'))
  expect(await third).toEqual(THERE)
})

test.each([true, false])('it speaks as net.connect asks, all = %s', async (all) => {
  const { asked, names } = world()
  const told = new Promise<unknown[]>((resolve) => {
    names.lookup('pg1', { all }, (...given) => resolve(given))
  })
  asked[0]?.resolve(HERE)
  expect(await told).toEqual(all ? [null, HERE] : [null, '10.0.0.1', 4])
})

test('the system is asked for addresses of its own kinds alone, as net.connect does', async () => {
  const seen = Promise.withResolvers<PerformanceEntry>()
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (entry.name === 'lookup') seen.resolve(entry)
  })
  observer.observe({ entryTypes: ['dns'] })
  try {
    await new Names(new FakeClock()).find('localhost')
    expect(await seen.promise).toMatchObject({ detail: { hints: ADDRCONFIG } })
  } finally {
    observer.disconnect()
  }
})
