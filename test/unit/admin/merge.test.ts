import { describe, expect, it } from 'vitest'
import { averageOfAll, StatsWindow, statsLine } from '../../../src/admin/averages.ts'
import { countClients } from '../../../src/admin/facts.ts'
import { globalId, localId, mergeFacts, mergeNames, Retired } from '../../../src/admin/merge.ts'
import { emptyStats } from '../../../src/client/facts.ts'
import { FakeClock } from '../../support/clock.ts'
import {
  clientFacts,
  clientsFacts,
  memberPool,
  poolFacts,
  serverFacts,
  workerFacts,
} from '../../support/facts.ts'

describe('facts of several workers become one', () => {
  it('adds totals, gauges and histograms', () => {
    const { clients, counts } = mergeFacts([workerFacts(), workerFacts({ worker: 1 })], 2)
    expect(clients.stats['app']).toMatchObject({ queries: 20, transactions: 8, queryMs: 51 })
    expect(clients.routesByReason).toEqual({ read: 12, write: 8 })
    expect(clients.loginFailures).toBe(2)
    expect(clients.queryTime).toHaveLength(1)
    expect(clients.queryTime[0]?.histogram.count).toBe(4)
    expect(clients.queryTime[0]?.histogram.sumS).toBeCloseTo(0.0406)
    expect(counts).toEqual([
      { database: 'app', user: 'alice', active: 2, waiting: 0, activeCancels: 0, pinned: 0 },
    ])
  })

  it('does not change what it was given', () => {
    const one = workerFacts()
    const before = structuredClone(one)
    mergeFacts([one, workerFacts({ worker: 1 })], 2)
    expect(one).toEqual(before)
  })

  it('adds pools member by member and keeps the longest wait', () => {
    const slow = { waiting: 2, held: 0, heldBytes: 0, oldestWaitMs: 900, reasons: [] }
    const pools = [
      poolFacts({
        waits: slow,
        members: [memberPool({ active: 3 }), memberPool({ member: 'pg9', idle: 1 })],
        serversClosed: { lifetime: 1, idle: 4 },
      }),
    ]
    const [pool, ...rest] = mergeFacts([workerFacts(), workerFacts({ worker: 1, pools })], 2).pools
    expect(rest).toEqual([])
    expect(pool?.waits).toEqual(slow)
    expect(pool?.poolSize).toBe(40)
    expect(pool?.serversClosed).toEqual({ lifetime: 2, idle: 4 })
    expect(pool?.members.map(({ member, active }) => [member, active])).toEqual([
      ['pg1', 1],
      ['pg2', 4],
      ['pg9', 1],
    ])
  })

  it('makes ids unique and keeps the links between clients and servers', () => {
    const { clients, servers } = mergeFacts([workerFacts(), workerFacts({ worker: 1 })], 2)
    const ids = clients.clients.map(({ id }) => id)
    expect(new Set(ids).size).toBe(2)
    for (const client of clients.clients) {
      const server = servers.find(({ id }) => id === client.serverId)
      expect(server?.clientId).toBe(client.id)
    }
    expect(ids.map((id) => localId(id, 2))).toEqual([
      { worker: 0, id: 7 },
      { worker: 1, id: 7 },
    ])
  })

  it('leaves ids as they are with one worker', () => {
    expect(globalId(42, 0, 1)).toBe(42)
    expect(mergeFacts([workerFacts()], 1).servers[0]?.id).toBe(serverFacts().id)
  })

  it('never lets a counter go back when a worker is restarted', () => {
    const retired = new Retired()
    retired.add(workerFacts())
    retired.add(workerFacts())
    const fresh = workerFacts({ clients: clientsFacts({ stats: {}, loginFailures: 0 }) })
    const { clients } = mergeFacts([fresh], 1, retired.clients)
    expect(clients.stats['app']?.queries).toBe(20)
    expect(clients.loginFailures).toBe(2)
    expect(clients.clients).toEqual([])
  })
})

it('a worker that does not answer keeps its totals, and its gauges are gone', () => {
  const retired = new Retired()
  expect(retired.with([])).toBeNull()
  retired.add(workerFacts())
  const absent = [workerFacts({ worker: 1 })]
  const { clients } = mergeFacts([workerFacts()], 2, retired.with(absent))
  expect(clients.stats['app']?.queries).toBe(30)
  expect(clients.clients).toHaveLength(1)
  expect(retired.clients?.stats['app']?.queries).toBe(10)
})

it('clients are counted by database, user and what they do', () => {
  const counts = countClients([
    clientFacts({ pinReasons: ['listen'] }),
    clientFacts({ state: 'idle' }),
    clientFacts({ state: 'waiting', cancels: 1 }),
    clientFacts({ state: 'held' }),
    clientFacts({ state: 'login' }),
    clientFacts({ state: 'closed' }),
    clientFacts({ user: 'bob' }),
  ])
  expect(counts).toEqual([
    { database: 'app', user: 'alice', active: 2, waiting: 2, activeCancels: 1, pinned: 1 },
    { database: 'app', user: 'bob', active: 1, waiting: 0, activeCancels: 0, pinned: 0 },
  ])
})

const stats = (queries: number, queryMs = 0) => ({ app: { ...emptyStats(), queries, queryMs } })

describe('averages of SHOW STATS', () => {
  it('are over one to two periods, per second and per query', () => {
    const clock = new FakeClock()
    const window = new StatsWindow(clock)
    clock.advance(60_000)
    window.turn(stats(600, 1200))
    clock.advance(60_000)
    window.turn(stats(1200, 2400))
    clock.advance(30_000)
    const { app } = window.averages(stats(2400, 6000))
    expect(app?.queries).toBe((2400 - 600) / 90)
    expect(app?.queryMs).toBe((6000 - 1200) / (2400 - 600))
  })

  it('count from the start in the first period', () => {
    const clock = new FakeClock()
    const window = new StatsWindow(clock)
    clock.advance(2000)
    expect(window.averages(stats(10))['app']?.queries).toBe(5)
  })

  it('are 0 where nothing happened, and never negative', () => {
    const clock = new FakeClock()
    const window = new StatsWindow(clock)
    window.turn(stats(100))
    window.turn(stats(100))
    expect(window.averages(stats(0))['app']).toEqual(emptyStats())
    clock.advance(1000)
    expect(window.averages(stats(0))['app']).toEqual(emptyStats())
    expect(window.averages(stats(100))['app']?.queryMs).toBe(0)
  })
})

it('the line of log_stats is that of PgBouncer', () => {
  const averages = { ...emptyStats(), queries: 12.4, transactions: 3, queryMs: 1.5, bytesSent: 900 }
  expect(statsLine(averages)).toBe(
    'stats: 3 xacts/s, 12 queries/s, 0 client parses/s, 0 server parses/s, 0 binds/s, in 0 B/s, out 900 B/s, xact 0 us, query 1500 us, wait 0 us',
  )
})

it('averages of several databases are weighted by how much each did', () => {
  const all = averageOfAll({
    busy: { ...emptyStats(), queries: 30, queryMs: 1 },
    quiet: { ...emptyStats(), queries: 10, queryMs: 5 },
  })
  expect(all).toMatchObject({ queries: 40, queryMs: 2, transactionMs: 0 })
})

it('shows a name that several processes looked up once', () => {
  const pg1 = { hostname: 'pg1', addresses: ['10.0.0.1'] }
  const pg2 = { hostname: 'pg2', addresses: ['10.0.0.2'] }
  expect(mergeNames([pg1, pg2, { ...pg1 }])).toEqual([pg1, pg2])
})
