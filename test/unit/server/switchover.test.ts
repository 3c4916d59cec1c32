import { describe, expect, test } from 'vitest'
import {
  type FakeWaiter,
  flush,
  member,
  noPrimary,
  plainIni,
  primary,
  routedIni,
  topology,
  World,
} from '../../support/pools.ts'

async function granted(world: World, fields: Partial<FakeWaiter> = {}): Promise<FakeWaiter> {
  const waiter = world.waiter(fields)
  world.pool().acquire(waiter)
  await world.settle()
  return waiter
}

function giveBack(world: World, waiter: FakeWaiter): void {
  if (waiter.server === null) throw new Error('no server')
  world.pool().release(waiter.server, waiter)
  waiter.server = null
}

describe('writes that run', () => {
  test('are the sessions at work on the primary: no reads on replicas, and none that rest', async () => {
    const world = new World()
    world.pools.setTopology(topology())
    expect(world.pools.writesRunning).toBe(0)
    const write = await granted(world)
    await granted(world, { wantsRole: 'replica' })
    await granted(world, { isWorking: false })
    expect(world.pools.writesRunning).toBe(1)
    giveBack(world, write)
    expect(world.pools.writesRunning).toBe(0)
  })

  test('of an entry with a host are not counted', async () => {
    const world = new World({ ini: plainIni() })
    await granted(world)
    expect(world.pools.writesRunning).toBe(0)
  })

  test('are waited for until none is left', async () => {
    const world = new World()
    world.pools.setTopology(topology())
    const write = await granted(world)
    const answers: number[] = []
    void world.pools.writesEnded(5000).then((count) => answers.push(count))
    await world.pass(100)
    expect(answers).toEqual([])
    giveBack(world, write)
    await world.pass(20)
    expect(answers).toEqual([0])
  })

  test('are not waited for longer than asked', async () => {
    const world = new World()
    world.pools.setTopology(topology())
    await granted(world)
    const answers: number[] = []
    void world.pools.writesEnded(50).then((count) => answers.push(count))
    await world.pass(49)
    expect(answers).toEqual([])
    await world.pass(1)
    await flush()
    expect(answers).toEqual([1])
  })
})

const HOLDING = { candidate: 'pg2', holds: true }

describe('the hold of a switchover', () => {
  test('new writes wait in order, what runs goes on, and a switchover that is called off resumes all', async () => {
    const world = new World({ ini: routedIni('default_pool_size = 1') })
    world.pools.setTopology(topology())
    const running = await granted(world)
    const order: number[] = []
    world.pools.setTopology(topology({ switchover: HOLDING }))
    expect(running.lost).toBeNull()
    const held = [world.waiter(), world.waiter(), world.waiter()]
    for (const waiter of held) {
      waiter.onGranted = (server): void => {
        order.push(waiter.clientId)
        queueMicrotask(() => world.pool().release(server, waiter))
      }
      world.pool().acquire(waiter)
    }
    expect(held.map(({ waitReason }) => waitReason)).toEqual([
      'switchover',
      'switchover',
      'switchover',
    ])
    giveBack(world, running)
    await world.pass(400)
    expect(order).toEqual([])
    world.pools.setTopology(topology())
    await flush()
    expect(order).toEqual(held.map(({ clientId }) => clientId))
    expect(world.pools.facts().pools[0]?.serversOpened).toBe(1)
  })

  test('those that were queued for a server of the primary are held too', async () => {
    const world = new World({ ini: routedIni('default_pool_size = 1') })
    world.pools.setTopology(topology())
    const running = await granted(world)
    const queued = world.waiter()
    world.pool().acquire(queued)
    world.pools.setTopology(topology({ switchover: HOLDING }))
    expect(queued.waitReason).toBe('switchover')
    giveBack(world, running)
    expect(queued.server).toBeNull()
  })

  test('ends on the new primary', async () => {
    const world = new World()
    world.pools.setTopology(topology({ switchover: HOLDING }))
    const write = world.waiter()
    world.pool().acquire(write)
    world.pools.setTopology(noPrimary())
    expect(write.waitReason).toBe('primary')
    world.pools.setTopology(
      topology({ term: 3, primary: 'pg2', members: [member('pg1'), primary('pg2')] }),
    )
    await world.settle()
    expect(write.server?.identity).toMatchObject({ member: 'pg2', term: 3 })
  })

  test('a read goes to a replica, and waits where there is none', async () => {
    const world = new World()
    world.pools.setTopology(topology({ switchover: HOLDING }))
    expect((await granted(world, { wantsRole: 'replica' })).server).not.toBeNull()
    world.pools.setTopology(topology({ switchover: HOLDING, members: [primary('pg1')] }))
    const read = await granted(world, { wantsRole: 'replica' })
    expect(read.waitReason).toBe('switchover')
  })

  test('what waits too long is told that a switchover is under way', async () => {
    const world = new World({ ini: routedIni('', 'failover_hold_ms_max = 1000') })
    world.pools.setTopology(topology({ switchover: HOLDING }))
    const write = await granted(world)
    await world.pass(1400)
    expect(write.error?.code).toBe('no_primary')
    expect(write.error?.message).toContain('switchover')
  })
})

const DRAINING = { candidate: 'pg2', holds: false }

describe('before a switchover', () => {
  test('the primary gets no new servers while those it has serve', async () => {
    const world = new World()
    world.pools.setTopology(topology({ members: [primary('pg1'), member('pg3')] }))
    const first = await granted(world)
    world.pools.setTopology(
      topology({ switchover: DRAINING, members: [primary('pg1'), member('pg3')] }),
    )
    const second = world.waiter()
    world.pool().acquire(second)
    expect(world.open).toHaveLength(0)
    giveBack(world, first)
    expect(second.server).not.toBeNull()
  })

  test('a pool without a server there gets one, and who waits in vain gets another', async () => {
    const world = new World()
    world.pools.setTopology(topology({ switchover: DRAINING, members: [primary('pg1')] }))
    const [first, second] = [world.waiter(), world.waiter()]
    world.pool().acquire(first)
    world.pool().acquire(second)
    await world.settle()
    expect([first.server === null, second.server === null]).toEqual([false, true])
    await world.pass(400)
    await world.settle()
    expect(second.server).not.toBeNull()
  })

  test('as many servers as the pool has at the primary are opened at the candidate', async () => {
    const world = new World()
    world.pools.setTopology(topology())
    await granted(world)
    await granted(world)
    world.pools.setTopology(topology({ switchover: DRAINING }))
    await world.settle()
    const [facts] = world.pools.facts().pools
    expect(facts?.members.map(({ member: name, idle, active }) => [name, idle, active])).toEqual([
      ['pg1', 0, 2],
      ['pg2', 2, 0],
      ['pg3', 0, 0],
    ])
  })

  test('they serve the held writes when the candidate was promoted', async () => {
    const world = new World()
    world.pools.setTopology(topology())
    await granted(world)
    world.pools.setTopology(topology({ switchover: HOLDING }))
    await world.settle()
    const write = await granted(world)
    expect(write.waitReason).toBe('switchover')
    const [, warmed] = [...world.pool().fleet.servers()]
    if (warmed === undefined) throw new Error('no server')
    world.channelOf(warmed).report('in_hot_standby', 'off')
    const opened = world.attempts.length
    world.pools.setTopology(
      topology({ term: 2, primary: 'pg2', members: [member('pg1'), primary('pg2')] }),
    )
    await world.pass(0)
    expect(write.server).toBe(warmed)
    expect(world.attempts).toHaveLength(opened)
  })

  test('without a name the only replica is the candidate, of two neither', async () => {
    const unnamed = { candidate: null, holds: false }
    const world = new World()
    world.pools.setTopology(topology())
    await granted(world)
    world.pools.setTopology(topology({ switchover: unnamed }))
    expect(world.open).toHaveLength(0)
    world.pools.setTopology(
      topology({ switchover: unnamed, members: [primary('pg1'), member('pg2')] }),
    )
    expect(world.open.map(({ target }) => target.identity.member)).toEqual(['pg2'])
  })

  test('servers of the primary are not closed for their age', async () => {
    const world = new World({ ini: routedIni('server_lifetime = 10\nserver_idle_timeout = 10') })
    world.pools.setTopology(topology())
    const write = await granted(world)
    giveBack(world, write)
    world.pools.setTopology(topology({ switchover: DRAINING, members: [primary('pg1')] }))
    await world.pass(60_000)
    expect(world.pools.facts().pools[0]?.serversClosed).toEqual({})
    world.pools.setTopology(topology({ members: [primary('pg1')] }))
    await world.pass(400)
    expect(world.pools.facts().pools[0]?.serversClosed).toEqual({ lifetime: 1 })
  })
})
