import { describe, expect, test } from 'vitest'
import { ProxyError } from '../../../src/base/errors.ts'
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

  test('the last tenth of the hold is for reads', () => {
    const world = new World({ ini: routedIni('', 'hold_waiters_max = 10') })
    world.pools.setTopology(noPrimary({ members: [] }))
    const writes = Array.from({ length: 10 }, () => world.waiter())
    const reads = Array.from({ length: 2 }, () => world.waiter({ wantsRole: 'replica' }))
    for (const waiter of [...writes, ...reads]) world.pool().acquire(waiter)
    expect(writes.filter(({ error }) => error?.code === 'hold_full')).toHaveLength(1)
    expect(reads.map(({ waitReason }) => waitReason)).toEqual(['primary', null])
  })

  test('held writes take no places of reads in the queue of the pool', async () => {
    const world = new World({ ini: routedIni('default_pool_size = 1', 'waiters_max = 2') })
    world.pools.setTopology(noPrimary())
    const writes = Array.from({ length: 3 }, () => world.waiter())
    const reads = Array.from({ length: 2 }, () => world.waiter({ wantsRole: 'replica' }))
    for (const waiter of [...writes, ...reads]) world.pool().acquire(waiter)
    expect(writes.map(({ error }) => error?.code)).toEqual([undefined, undefined, 'waiters_full'])
    await world.settle()
    expect(reads.map(({ error }) => error)).toEqual([null, null])
  })

  test('a session that goes while it is held takes its write with it', async () => {
    const world = new World()
    world.pools.setTopology(noPrimary())
    const [gone, stays] = [world.waiter(), world.waiter()]
    world.pool().acquire(gone)
    world.pool().acquire(stays)
    world.pool().withdraw(gone)
    world.pools.setTopology(topology({ term: 3 }))
    await world.settle()
    expect(gone.answersCount).toBe(0)
    expect(stays.server).not.toBeNull()
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

  test('servers of a promoted replica serve writes, each once it said so itself', async () => {
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
    world.pools.setTopology(noPrimary({ members: [member('pg2')] }))
    const [write, second] = [world.waiter(), world.waiter()]
    world.pool().acquire(write)
    world.pool().acquire(second)
    world.channelOf(idle).report('in_hot_standby', 'off')
    world.channelOf(kept).answers = false
    world.pools.setTopology(
      topology({ term: 3, primary: 'pg2', members: [member('pg1'), primary('pg2')] }),
    )
    await world.pass(0)
    expect(world.channelOf(idle).queries.at(-1)).toContain('pg_is_in_recovery')
    expect(write.server).toBe(idle)
    expect(idle.identity).toMatchObject({ role: 'primary', term: 3 })
    expect(kept.state).toBe('active')
    world.pool().release(kept, working)
    expect(kept.state).toBe('tested')
    expect(second.server).toBeNull()
    world.channelOf(kept).report('in_hot_standby', 'off')
    world.channelOf(kept).answer()
    await world.pass(0)
    expect(second.server).toBe(kept)
    world.pools.setTopology(noPrimary({ term: 4 }))
    await world.pass(0)
    expect(second.lost?.code).toBe('primary_lost')
  })

  test('a server of a promoted replica that is still in recovery is closed', async () => {
    const world = new World()
    world.pools.setTopology(topology({ members: [primary('pg1'), member('pg2')] }))
    const reads = [world.waiter({ wantsRole: 'replica' }), world.waiter({ wantsRole: 'replica' })]
    for (const read of reads) world.pool().acquire(read)
    await world.settle()
    const servers = reads.flatMap(({ server }) => server ?? [])
    for (const [index, read] of reads.entries()) {
      const server = servers[index]
      if (server !== undefined) world.pool().release(server, read)
    }
    // The one says an error, the other does not report that it left recovery.
    world.channelOf(servers[0] ?? null).fails = true
    world.pools.setTopology(
      topology({ term: 2, primary: 'pg2', members: [member('pg1'), primary('pg2')] }),
    )
    await world.pass(0)
    expect(servers.map(({ state }) => state)).toEqual(['closed', 'closed'])
    expect(world.pools.facts().pools[0]?.serversClosed).toEqual({ promoted: 2 })
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

describe('the new primary', () => {
  test('gets its connections at the pace of member_logins_max, all pools together', async () => {
    const world = new World({ ini: routedIni('default_pool_size = 20', 'member_logins_max = 3') })
    world.pools.setTopology(noPrimary())
    const users = ['alice', 'bob', 'carol']
    for (const user of users)
      for (let index = 0; index < 5; index += 1) world.pool('app', user).acquire(world.waiter())
    world.pools.setTopology(topology({ term: 3 }))
    expect(world.open).toHaveLength(3)
    await world.open[0]?.succeed()
    expect(world.open).toHaveLength(3)
  })

  test('serves first whose session waits for longest, over all pools', async () => {
    const world = new World({ ini: routedIni('default_pool_size = 20', 'member_logins_max = 1') })
    world.pools.setTopology(noPrimary())
    const order: string[] = []
    const arrivals = ['carol', 'alice', 'bob', 'alice', 'carol']
    for (const user of ['alice', 'bob', 'carol']) world.pool('app', user)
    for (const user of arrivals) {
      const write = world.waiter()
      write.onGranted = (): void => {
        order.push(user)
      }
      world.pool('app', user).acquire(write)
      world.clock.advance(1)
    }
    world.pools.setTopology(topology({ term: 3 }))
    await world.settle()
    // The first log-in was begun by whichever pool was told first.
    expect(order.slice(1)).toEqual(['carol', 'bob', 'alice', 'carol'])
  })

  test('that has no connection left (53300) is asked again and again, and nobody is refused', async () => {
    const world = new World()
    world.pools.setTopology(noPrimary())
    const write = world.waiter()
    world.pool().acquire(write)
    world.pools.setTopology(topology({ term: 3 }))
    const full = new ProxyError('server_login_failed', {
      sqlstate: '53300',
      reason: 'sorry, too many clients already',
    })
    for (let turn = 0; turn < 6; turn += 1) {
      expect(world.open).toHaveLength(1)
      await world.open[0]?.fail(full)
      expect(world.open).toHaveLength(0)
      await world.pass(2400)
    }
    expect(write.error).toBeNull()
    await world.settle()
    expect(write.server).not.toBeNull()
  })
})
