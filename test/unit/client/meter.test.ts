/**
 * What one session adds to the counters of its worker: times are those of its own waits, queries and
 * transactions, whoever else is on its server.
 */
import { describe, expect, test } from 'vitest'
import { shapeOfText } from '../../../src/routing/latency.ts'
import { backend, frontend } from '../../support/bytes.ts'
import { plainIni } from '../../support/pools.ts'
import { answerOf, type Riders, riderIni, riding, textOf, turn } from '../../support/riders.ts'
import { type Client, SessionWorld } from '../../support/session.ts'

function completed(status: 'I' | 'T' = 'I'): Buffer {
  return Buffer.concat([backend.commandComplete('X'), backend.readyForQuery(status)])
}

/** What was added to the database's counters since the last look. */
function growing({ session }: Client) {
  const { stats } = session.meter
  let before = { ...stats }
  return () => {
    const { queries, queryMs, transactions, transactionMs, serverAssignments, waitMs } = stats
    const now = { queries, queryMs, transactions, transactionMs, serverAssignments, waitMs }
    const grown = Object.fromEntries(
      Object.entries(now).map(([key, value]) => [
        key,
        value - (before[key as keyof typeof now] ?? 0),
      ]),
    )
    before = { ...stats }
    return grown
  }
}

async function alone(keys = '') {
  const world = new SessionWorld(plainIni(`default_pool_size = 1\n${keys}`))
  const client = world.client()
  const grown = growing(client)
  const says = async (sql: string): Promise<void> => {
    client.sends(frontend.query(sql))
    await world.settle()
  }
  return { world, client, grown, says }
}

describe('a server of its own', () => {
  test('what a client thinks in its transaction is time of the transaction, and of no query', async () => {
    const { world, client, grown, says } = await alone()
    await says('BEGIN READ WRITE')
    world.world.clock.advance(5)
    client.server.onBytes(completed('T'))
    expect(grown()).toMatchObject({ queries: 1, queryMs: 5, transactions: 0 })
    world.world.clock.advance(1000)
    await says('SELECT 1')
    world.world.clock.advance(7)
    client.server.onBytes(completed('T'))
    expect(grown()).toMatchObject({ queries: 1, queryMs: 7, transactions: 0 })
    world.world.clock.advance(100)
    await says('COMMIT')
    world.world.clock.advance(3)
    client.server.onBytes(completed())
    expect(grown()).toMatchObject({
      queries: 1,
      queryMs: 3,
      transactions: 1,
      transactionMs: 5 + 1000 + 7 + 100 + 3,
    })
  })

  test('query_timeout counts a statement from when it was sent, not from the one before', async () => {
    const { world, client, says } = await alone('query_timeout = 2')
    await says('BEGIN READ WRITE')
    client.server.onBytes(completed('T'))
    world.world.clock.advance(5000)
    await says('SELECT 1')
    world.world.clock.advance(1000)
    client.session.checkTime(world.world.clock.nowMs())
    expect(client.closed).toBeNull()
    world.world.clock.advance(1001)
    client.session.checkTime(world.world.clock.nowMs())
    expect(client.closed).toBe('query_timeout')
  })

  test('each of several that are under way counts from the end of the one before', async () => {
    const { world, client, grown } = await alone()
    client.sends(...['INSERT 1', 'INSERT 2'].map((sql) => frontend.query(sql)))
    await world.settle()
    world.world.clock.advance(4)
    client.server.onBytes(completed())
    expect(grown()).toMatchObject({ queryMs: 4, transactionMs: 4 })
    world.world.clock.advance(6)
    client.server.onBytes(completed())
    expect(grown()).toMatchObject({ queryMs: 6, transactionMs: 6 })
  })
})

/** Reads of a few clients on one server, and what each of them adds from then on. */
async function together(count: number, options: Parameters<typeof riding>[1] = {}) {
  const all = await riding(count, options)
  // They are of one database, and count together.
  return { ...all, clock: all.world.world.clock, grown: growing(all.busy) }
}

function expectedMs({ world }: Pick<Riders, 'world'>): number {
  return world.statements.latencies.expectedMs(shapeOfText(textOf(1)))
}

describe('a server that is shared (hazard 13)', () => {
  test('a query lasts from its boarding to its own answer, and is a transaction of that time', async () => {
    const { clock, grown, server } = await together(3)
    clock.advance(5)
    server.onBytes(answerOf(1))
    expect(grown()).toMatchObject({ queries: 1, queryMs: 5, transactions: 1, transactionMs: 5 })
    clock.advance(3)
    server.onBytes(answerOf(2))
    expect(grown()).toMatchObject({ queries: 1, queryMs: 8, transactions: 1, transactionMs: 8 })
    clock.advance(1)
    server.onBytes(answerOf(3))
    expect(grown()).toMatchObject({ queries: 1, queryMs: 9, transactions: 1, transactionMs: 9 })
  })

  test('what is learnt of a statement is the time in which the server worked for it alone', async () => {
    const { clock, server, world } = await together(3)
    const before = expectedMs({ world })
    clock.advance(before)
    server.onBytes(answerOf(1))
    clock.advance(before)
    server.onBytes(answerOf(2))
    clock.advance(before)
    server.onBytes(answerOf(3))
    expect(expectedMs({ world })).toBeCloseTo(before)
  })

  test('a client has no query under way between two of its own, and none while it waits', async () => {
    const { clock, grown, riders, server } = await together(2)
    clock.advance(2)
    server.onBytes(answerOf(1))
    expect(riders.map(({ session }) => session.meter.queryStartedMs > 0)).toEqual([false, true])
    clock.advance(1000)
    grown()
    riders[0]?.sends(frontend.query(textOf(11)))
    clock.advance(4)
    server.onBytes(Buffer.concat([answerOf(2), answerOf(11)]))
    expect(grown()).toMatchObject({ queries: 2, queryMs: 1006 + 0, waitMs: 4 })
  })

  test('the time until it boards is its wait, and one assignment', async () => {
    const { clock, grown, server, world } = await together(2, {
      ini: riderIni('', 'multiplex_depth_max = 2'),
    })
    const third = world.client()
    third.sends(frontend.query(textOf(3)))
    expect(third.session.standing.clientState).toBe('waiting')
    clock.advance(6)
    server.onBytes(answerOf(1))
    await turn()
    expect(third.session.standing.clientState).toBe('active')
    expect(third.session.server).toBe(server)
    expect(grown()).toMatchObject({ queries: 1, serverAssignments: 1, waitMs: 6 })
    clock.advance(2)
    server.onBytes(Buffer.concat([answerOf(2), answerOf(3)]))
    expect(grown()).toMatchObject({ queries: 2, queryMs: 8 + 2, serverAssignments: 0, waitMs: 0 })
  })

  test('who is moved from behind a late one has waited so long, and asked once', async () => {
    const { grown, other, riders, server, world } = await together(2)
    for (let time = 0; time < 3; time += 1) await world.world.pass(10)
    expect(riders.map(({ session }) => session.state)).toEqual(['riding', 'waiting'])
    await world.world.pass(4)
    other.onBytes(completed())
    grown()
    expect(riders[1]?.session.state).toBe('active')
    await world.world.pass(1)
    other.onBytes(answerOf(2))
    expect(grown()).toMatchObject({ queries: 1, queryMs: 1, transactions: 1, transactionMs: 1 })
    server.onBytes(Buffer.concat([answerOf(1), answerOf(2)]))
    expect(grown()).toMatchObject({ queries: 1, queryMs: 35, transactions: 1 })
    const { queueTime, queryTime } = world.counters
    for (const times of [queueTime, queryTime]) expect(times.facts().length).toBe(1)
    const { stats } = riders[1]?.session.meter ?? {}
    expect(queryTime.facts()[0]?.histogram).toMatchObject({ count: stats?.queries })
    expect(queueTime.facts()[0]?.histogram).toMatchObject({ count: stats?.serverAssignments })
    expect(queryTime.facts()[0]?.histogram.sumS).toBeCloseTo((stats?.queryMs ?? 0) / 1000)
    // Since the others began: the ride in vain, and the wait behind it.
    expect(stats?.waitMs).toBe(34)
  })

  test('who goes again, alone, has waited for as long as it rode', async () => {
    const { clock, grown, other, riders, server } = await together(1)
    clock.advance(3)
    const refusal = backend.errorResponse(
      '25006',
      'cannot execute INSERT in a read-only transaction',
    )
    server.onBytes(Buffer.concat([refusal, backend.readyForQuery()]))
    expect(grown()).toMatchObject({ queries: 0, transactions: 0 })
    clock.advance(4)
    other.onBytes(completed())
    expect(grown()).toMatchObject({ queries: 1, queryMs: 7, waitMs: 3 + 4, serverAssignments: 1 })
    clock.advance(5)
    expect(riders[0]?.server).toBe(other)
    other.onBytes(answerOf(1))
    expect(grown()).toMatchObject({ queries: 1, queryMs: 5, transactions: 1, transactionMs: 5 })
  })

  test('who is cancelled behind another one was answered then', async () => {
    const { clock, grown, riders, server } = await together(2)
    clock.advance(3)
    await riders[1]?.session.cancel()
    expect(grown()).toMatchObject({ queries: 1, queryMs: 3, transactions: 1, transactionMs: 3 })
    server.onBytes(Buffer.concat([answerOf(1), answerOf(2)]))
    expect(grown()).toMatchObject({ queries: 1, queryMs: 3, transactions: 1, transactionMs: 3 })
  })
})
