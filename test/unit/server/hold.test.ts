import { describe, expect, test } from 'vitest'
import { member, noPrimary, primary, routedIni, topology, World } from '../../support/pools.ts'

describe('while no primary is believed in', () => {
  test('writes wait and run on the next primary', async () => {
    const world = new World()
    world.pools.setTopology(noPrimary())
    const write = world.waiter()
    world.pool().acquire(write)
    expect(write.waitReason).toBe('primary')
    expect(world.open).toHaveLength(0)
    world.pools.setTopology(
      topology({ term: 3, primary: 'pg2', members: [member('pg1'), primary('pg2')] }),
    )
    await world.settle()
    expect(write.server?.identity).toMatchObject({ member: 'pg2', role: 'primary', term: 3 })
  })

  test('reads go on', async () => {
    const world = new World()
    world.pools.setTopology(noPrimary())
    const read = world.waiter({ wantsRole: 'replica' })
    world.pool().acquire(read)
    await world.settle()
    expect(read.server?.identity.role).toBe('replica')
  })

  test('a write is refused after failover_hold_ms_max with what is missing', async () => {
    const world = new World({ ini: routedIni('', 'failover_hold_ms_max = 5000') })
    world.pools.setTopology(noPrimary())
    const write = world.waiter()
    world.pool().acquire(write)
    await world.pass(4900)
    world.pools.setTopology(noPrimary({ term: 3, serial: 2 }))
    expect(write.error).toBeNull()
    await world.pass(500)
    expect(write.error?.code).toBe('no_primary')
    expect(write.error?.message).toContain('nobody holds the leader key')
  })

  test('the hold is 2 x ttl + 10 s unless set', async () => {
    const world = new World()
    world.pools.setTopology(noPrimary())
    const write = world.waiter()
    world.pool().acquire(write)
    await world.pass(69_000)
    expect(write.error).toBeNull()
    await world.pass(1400)
    expect(write.error?.code).toBe('no_primary')
  })

  test('more than hold_waiters_max or hold_bytes_max are refused at once', () => {
    const world = new World({ ini: routedIni('', 'hold_waiters_max = 2\nhold_bytes_max = 1024') })
    world.pools.setTopology(noPrimary())
    const pool = world.pool()
    const [small, big, third, fourth] = [
      world.waiter(),
      world.waiter({ waitingBytes: 1000 }),
      world.waiter(),
      world.waiter(),
    ]
    pool.acquire(small)
    pool.acquire(big)
    expect(big.error?.code).toBe('hold_full')
    pool.acquire(third)
    pool.acquire(fourth)
    expect(third.error).toBeNull()
    expect(fourth.error?.code).toBe('hold_full')
  })

  test('who leaves the hold makes room in it', () => {
    const world = new World({ ini: routedIni('', 'hold_waiters_max = 1') })
    world.pools.setTopology(noPrimary())
    const [one, two] = [world.waiter(), world.waiter()]
    world.pool().acquire(one)
    expect(world.pool().withdraw(one)).toBe(true)
    expect(world.pool().withdraw(one)).toBe(false)
    world.pool().acquire(two)
    expect(two.error).toBeNull()
    expect(one.answersCount).toBe(0)
  })

  test('a session whose batch grows while it is held is counted as it came', () => {
    const world = new World()
    world.pools.setTopology(noPrimary())
    const write = world.waiter()
    world.pool().acquire(write)
    write.waitingBytes = 5000
    expect(world.pool().withdraw(write)).toBe(true)
    expect(world.pools.facts().pools[0]?.waits).toMatchObject({ held: 0, heldBytes: 0 })
  })

  test('a standby cluster refuses writes at once', () => {
    const world = new World()
    world.pools.setTopology(noPrimary({ standbyCluster: true }))
    const write = world.waiter()
    world.pool().acquire(write)
    expect(write.error?.code).toBe('standby_cluster')
  })

  test('held writes run in the order in which they came', async () => {
    const world = new World({ ini: routedIni('default_pool_size = 1') })
    world.pools.setTopology(noPrimary())
    const order: number[] = []
    for (let index = 0; index < 5; index += 1) {
      const write = world.waiter()
      write.onGranted = (server): void => {
        order.push(write.clientId)
        queueMicrotask(() => world.pool().release(server, write))
      }
      world.pool().acquire(write)
    }
    world.pools.setTopology(topology({ term: 3 }))
    await world.settle()
    await world.pass(0)
    expect(order).toEqual([1, 2, 3, 4, 5])
  })
})

describe('a term that ends', () => {
  test('cuts off the servers of the old primary and tells their holders', async () => {
    const world = new World()
    world.pools.setTopology(topology())
    const [active, free] = [world.waiter(), world.waiter()]
    world.pool().acquire(active)
    world.pool().acquire(free)
    await world.settle()
    const { server } = free
    if (server === null || active.server === null) throw new Error('no server')
    world.pool().release(server, free)
    world.pools.setTopology(noPrimary())
    expect(server.state).toBe('closed')
    expect(active.server.state).toBe('closed')
    await world.pass(0)
    expect(active.lost?.code).toBe('primary_lost')
    expect(free.lost).toBeNull()
  })

  test('the same primary in a later term gets new servers', async () => {
    const world = new World()
    world.pools.setTopology(topology())
    const write = world.waiter()
    world.pool().acquire(write)
    await world.settle()
    world.pools.setTopology(topology({ term: 2 }))
    await world.pass(0)
    const next = world.waiter()
    world.pool().acquire(next)
    expect(next.server).toBeNull()
    await world.settle()
    expect(next.server?.identity.term).toBe(2)
  })

  test('a log-in begun in the old term is not used', async () => {
    const world = new World()
    world.pools.setTopology(topology())
    const write = world.waiter()
    world.pool().acquire(write)
    const [attempt] = world.open
    world.pools.setTopology(topology({ term: 2 }))
    const channel = await attempt?.succeed()
    expect(write.server).toBeNull()
    expect(channel?.isClosed).toBe(true)
    await world.pass(400)
    await world.settle()
    expect(write.server?.identity.term).toBe(2)
  })

  test('while the primary is not confirmed in the same term its servers wait', async () => {
    const world = new World()
    world.pools.setTopology(topology())
    const write = world.waiter()
    world.pool().acquire(write)
    await world.settle()
    const { server } = write
    if (server === null) throw new Error('no server')
    world.pools.setTopology(topology({ primary: null, missing: 'SQL does not confirm' }))
    world.pool().release(server, write)
    const next = world.waiter()
    world.pool().acquire(next)
    expect(next.waitReason).toBe('primary')
    world.pools.setTopology(topology())
    await world.settle()
    expect(next.server).not.toBeNull()
  })

  test('a server that says it is a standby is not taken for a primary', async () => {
    const world = new World()
    world.pools.setTopology(topology())
    const write = world.waiter()
    world.pool().acquire(write)
    const channel = await world.open[0]?.succeed({ in_hot_standby: 'on' })
    expect(channel?.isClosed).toBe(true)
    expect(write.server).toBeNull()
    await world.pass(400)
    await world.settle()
    expect(write.server).not.toBeNull()
  })

  test('free servers of a promoted replica end, those at work end when they come back', async () => {
    const world = new World()
    world.pools.setTopology(topology({ members: [primary('pg1'), member('pg2')] }))
    const [working, free] = [
      world.waiter({ wantsRole: 'replica' }),
      world.waiter({ wantsRole: 'replica' }),
    ]
    world.pool().acquire(working)
    world.pool().acquire(free)
    await world.settle()
    const [kept, idle] = [working.server, free.server]
    if (kept === null || idle === null) throw new Error('no server')
    world.pool().release(idle, free)
    world.pools.setTopology(
      topology({ term: 2, primary: 'pg2', members: [member('pg1'), primary('pg2')] }),
    )
    expect(idle.state).toBe('closed')
    expect(kept.state).toBe('active')
    world.pool().release(kept, working)
    expect(kept.state).toBe('closed')
  })

  test('a member that leaves takes its pool with it', async () => {
    const world = new World()
    world.pools.setTopology(topology({ members: [primary('pg1'), member('pg2')] }))
    const read = world.waiter({ wantsRole: 'replica' })
    world.pool().acquire(read)
    await world.settle()
    const { server } = read
    if (server === null) throw new Error('no server')
    world.pools.setTopology(topology({ members: [primary('pg1')] }))
    world.pool().release(server, read)
    expect(server.state).toBe('closed')
    expect(world.pools.facts().pools[0]?.members.map((facts) => facts.member)).toEqual(['pg1'])
  })
})
