import { describe, expect, test } from 'vitest'
import { configFrom } from '../../support/config.ts'
import { type FakeWaiter, member, primary, topology, World } from '../../support/pools.ts'

const INI = `[databases]
* =
[pgbouncer]
pool_mode = transaction
default_pool_size = 2
[cluster]
source = static
hosts = pg1:5432, pg2:5432
lease_guard_ms = 3000
`

const MEMBERS = [primary('pg1'), member('pg2')]

function leased(world: World, leftMs: number, fields = {}): void {
  const writableUntilMs = world.clock.nowMs() + leftMs
  world.pools.setTopology(topology({ members: MEMBERS, writableUntilMs, ...fields }))
}

async function granted(world: World, fields: Partial<FakeWaiter> = {}): Promise<FakeWaiter> {
  const waiter = world.waiter(fields)
  world.pool().acquire(waiter)
  await world.settle()
  return waiter
}

describe('the lease guard', () => {
  test('no new write starts when less than lease_guard_ms is left, and all go on when it is renewed', async () => {
    const world = new World({ ini: INI })
    leased(world, 10_000)
    const first = await granted(world)
    if (first.server === null) throw new Error('no server')
    world.pool().release(first.server, first)
    await world.pass(6999)
    const last = world.waiter()
    world.pool().acquire(last)
    expect(last.server).not.toBeNull()
    await world.pass(1)
    const [late, later] = [world.waiter(), world.waiter()]
    world.pool().acquire(late)
    world.pool().acquire(later)
    expect([late.server, late.waitReason]).toEqual([null, 'lease'])
    expect(world.open).toHaveLength(0)
    leased(world, 10_000, { serial: 2 })
    await world.settle()
    expect(late.server).not.toBeNull()
    expect(later.waitReason).toBe('pool')
  })

  test('a server that comes free under it is not handed to who was queued before', async () => {
    const world = new World({ ini: INI.replace('_size = 2', '_size = 1') })
    leased(world, 10_000)
    const running = await granted(world)
    const queued = world.waiter()
    world.pool().acquire(queued)
    expect(queued.waitReason).toBe('pool')
    world.clock.advance(6990)
    world.clock.advance(11)
    if (running.server === null) throw new Error('no server')
    world.pool().release(running.server, running)
    expect(queued.server).toBeNull()
    await world.pass(400)
    expect(queued.waitReason).toBe('lease')
    leased(world, 10_000, { serial: 2 })
    expect(queued.server).not.toBeNull()
  })

  test('reads on replicas go on under it, those for the primary wait', async () => {
    const world = new World({ ini: INI })
    leased(world, 2000)
    const read = await granted(world, { wantsRole: 'replica' })
    expect(read.server?.identity.role).toBe('replica')
    leased(world, 2000, { members: [primary('pg1')], serial: 2 })
    const alone = world.waiter({ wantsRole: 'replica' })
    world.pool().acquire(alone)
    expect(alone.waitReason).toBe('lease')
    const any = world.waiter({ wantsRole: 'any' })
    world.pool().acquire(any)
    expect(any.waitReason).toBe('lease')
  })

  test('at the end of the lease running writes are cut off, without a word of the control process', async () => {
    const world = new World({ ini: INI })
    leased(world, 10_000)
    const write = await granted(world)
    const read = await granted(world, { wantsRole: 'replica' })
    await world.pass(9999)
    expect(write.lost).toBeNull()
    await world.pass(1)
    expect(write.lost?.code).toBe('primary_lost')
    expect(read.lost).toBeNull()
    expect(world.pools.facts().pools[0]?.serversClosed).toEqual({ lease: 1 })
  })

  test('a worker that stalled past the end cuts off what runs and begins nothing when it wakes', async () => {
    const world = new World({ ini: INI })
    leased(world, 10_000)
    const write = await granted(world)
    world.clock.stall(10_001)
    await world.settle()
    expect(write.lost?.code).toBe('primary_lost')
    const late = world.waiter()
    world.pool().acquire(late)
    expect([late.server, late.waitReason]).toEqual([null, 'lease'])
  })

  test('a worker that stalled into the guard lets what runs go on and begins nothing', async () => {
    const world = new World({ ini: INI })
    leased(world, 10_000)
    const write = await granted(world)
    world.clock.stall(8000)
    expect(write.lost).toBeNull()
    const late = world.waiter()
    world.pool().acquire(late)
    expect(late.waitReason).toBe('lease')
  })

  test('a new term limits by its own lease, not by that of the one before', async () => {
    const world = new World({ ini: INI })
    leased(world, 2000)
    const write = world.waiter()
    world.pool().acquire(write)
    expect(write.waitReason).toBe('lease')
    leased(world, 10_000, { term: 2, serial: 2 })
    await world.settle()
    expect(write.server).not.toBeNull()
    await world.pass(6000)
    expect(write.lost).toBeNull()
  })

  test('what runs on a primary that nobody vouches for any more is cut off, within its term', async () => {
    const world = new World({ ini: INI })
    world.pools.setTopology(topology({ members: MEMBERS }))
    const write = await granted(world)
    const members = [{ ...primary('pg1'), role: 'unknown' as const }, member('pg2')]
    const writableUntilMs = world.clock.nowMs()
    const missing = 'Patroni does not confirm it'
    world.pools.setTopology(
      topology({ primary: null, missing, members, writableUntilMs, serial: 2 }),
    )
    await world.settle()
    expect(write.lost?.code).toBe('primary_lost')
  })

  test('a renewed lease does not cut anything at the end of the old one', async () => {
    const world = new World({ ini: INI })
    leased(world, 10_000)
    const write = await granted(world)
    await world.pass(9000)
    leased(world, 10_000, { serial: 2 })
    await world.pass(9000)
    expect(write.lost).toBeNull()
  })

  test('without a known end there is none', async () => {
    const world = new World({ ini: INI })
    world.pools.setTopology(topology())
    await world.pass(100_000)
    expect((await granted(world)).server).not.toBeNull()
  })

  test('what waits too long under it is told why', async () => {
    const world = new World({ ini: `${INI}[pgsteer]\nfailover_hold_ms_max = 1000\n` })
    leased(world, 2500)
    const write = world.waiter()
    world.pool().acquire(write)
    await world.pass(1400)
    expect(write.error?.message).toContain('lease_guard_ms')
  })

  test('RELOAD changes it', () => {
    const world = new World({ ini: INI })
    leased(world, 5000)
    world.pools.setConfig(configFrom(INI.replace('3000', '6000')))
    const write = world.waiter()
    world.pool().acquire(write)
    expect(write.waitReason).toBe('lease')
  })
})

describe('a member that is cut off', () => {
  test('loses what was opened before, in use or free, and nothing that comes after', async () => {
    const world = new World({ ini: INI })
    world.pools.setTopology(topology({ members: MEMBERS }))
    const [write, free, read] = [
      await granted(world),
      await granted(world),
      await granted(world, { wantsRole: 'replica' }),
    ]
    const idle = free.server
    if (idle === null) throw new Error('no server')
    world.pool().release(idle, free)
    await world.pass(1000)
    const cut = { ...primary('pg1'), cutBeforeMs: world.clock.nowMs() }
    world.pools.setTopology(
      topology({ primary: null, missing: 'silent', members: [cut, member('pg2')] }),
    )
    await world.pass(0)
    expect(write.lost?.code).toBe('member_silent')
    expect(idle.state).toBe('closed')
    expect(read.lost).toBeNull()
    world.pools.setTopology(topology({ members: [cut, member('pg2')] }))
    const next = await granted(world)
    world.pools.setTopology(topology({ serial: 9, members: [cut, member('pg2', { weight: 2 })] }))
    await world.pass(0)
    expect(next.lost).toBeNull()
    expect(next.server).not.toBeNull()
  })
})
