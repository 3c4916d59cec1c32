import { describe, expect, test } from 'vitest'
import type { Sample, Topology } from '../../../src/cluster/topology.ts'
import {
  type FakeWaiter,
  member,
  noPrimary,
  primary,
  routedIni,
  topology,
  World,
} from '../../support/pools.ts'

/** pg1 wrote up to `written` at `sentMs`; pg2 and pg3 have replayed what is given. */
function lagging(sentMs: number, written: bigint, replayed: readonly bigint[]): Topology {
  const replicas = replayed.map((replayLsn, index) =>
    member(`pg${index + 2}`, { sample: { replayLsn, sentMs } }),
  )
  return topology({
    serial: sentMs,
    members: [primary('pg1', { sentMs, insertLsn: written }), ...replicas],
  })
}

/** pg2 is the new primary and began its timeline at 450. */
function promoted(replayLsn: bigint): Topology {
  return topology({
    term: 2,
    primary: 'pg2',
    members: [
      primary('pg2', { sentMs: 200, timeline: 2, insertLsn: 450n }),
      member('pg3', { sample: { timeline: 2, replayLsn } }),
    ],
  })
}

async function served(world: World, fields: Partial<FakeWaiter>): Promise<string | null> {
  const waiter = world.waiter({ wantsRole: 'replica', ...fields })
  world.pool().acquire(waiter)
  await world.settle()
  const { server } = waiter
  if (server === null) return waiter.error?.code ?? null
  world.pool().release(server, waiter)
  return server.identity.member
}

describe('read your writes', () => {
  test('a dirty session reads from the primary until a later sample gives its bound', async () => {
    const world = new World()
    world.pools.setTopology(lagging(100, 500n, [500n, 500n]))
    expect(await served(world, { dirtySinceMs: 100 })).toBe('pg1')
    expect(world.pools.boundFor(100)).toBeNull()
    world.pools.setTopology(lagging(101, 600n, [500n, 600n]))
    expect(world.pools.boundFor(100)).toMatchObject({ lsn: 600n, timeline: 1 })
    expect(await served(world, { dirtySinceMs: 100 })).toBe('pg3')
  })

  test('the bound is that of the first sample sent after the write, not of the last', () => {
    const world = new World()
    for (const [sentMs, lsn] of [
      [100, 500n],
      [200, 600n],
      [300, 700n],
    ] as const)
      world.pools.setTopology(lagging(sentMs, lsn, [lsn]))
    expect(world.pools.boundFor(100)?.lsn).toBe(600n)
    expect(world.pools.boundFor(250)?.lsn).toBe(700n)
    expect(world.pools.boundFor(50)?.lsn).toBe(500n)
    expect(world.pools.boundFor(300)).toBeNull()
  })

  test('a replica of another timeline does not meet a bound', async () => {
    const world = new World()
    const old = member('pg2', { sample: { timeline: 1, replayLsn: 900n } })
    world.pools.setTopology(topology({ members: [primary('pg1', { timeline: 2 }), old] }))
    expect(await served(world, { bound: { timeline: 2, lsn: 100n } })).toBe('pg1')
  })

  test('a bound of an older timeline asks for what the new primary began with', async () => {
    const world = new World()
    world.pools.setTopology(lagging(100, 500n, [500n]))
    world.pools.setTopology(promoted(440n))
    expect(await served(world, { bound: { timeline: 1, lsn: 500n } })).toBe('pg2')
    world.pools.setTopology(promoted(450n))
    expect(await served(world, { bound: { timeline: 1, lsn: 500n } })).toBe('pg3')
  })

  test('without a primary a dirty session without a bound is held like a write', () => {
    const world = new World()
    world.pools.setTopology(noPrimary({ members: [member('pg2')] }))
    const read = world.waiter({ wantsRole: 'replica', dirtySinceMs: 10 })
    world.pool().acquire(read)
    expect(read.waitReason).toBe('primary')
  })

  test('consistency = global waits for the bound, at most replica_wait_ms', async () => {
    const world = new World({ ini: routedIni('', 'consistency = global') })
    world.pools.setTopology(lagging(100, 500n, [500n]))
    const read = world.waiter({ wantsRole: 'replica', dirtySinceMs: 1000 })
    world.pool().acquire(read)
    expect(read.waitReason).toBe('replica')
    world.pools.setTopology(lagging(1001, 600n, [600n]))
    await world.settle()
    expect(read.server?.identity.member).toBe('pg2')
    const late = world.waiter({ wantsRole: 'replica', dirtySinceMs: 1001 })
    world.pool().acquire(late)
    await world.pass(1400)
    await world.settle()
    expect(late.server?.identity.member).toBe('pg1')
  })

  test('probes are asked to hurry while a read lacks its bound, and told once', async () => {
    const world = new World()
    world.pools.setTopology(lagging(100, 500n, [500n]))
    await served(world, { dirtySinceMs: 100 })
    await served(world, { dirtySinceMs: 100 })
    expect(world.busy).toEqual([true])
    world.pools.setTopology(lagging(200, 600n, [500n]))
    expect(world.busy).toEqual([true])
    world.pools.setTopology(lagging(220, 600n, [600n]))
    expect(world.busy).toEqual([true, false])
  })

  test('a replica that never catches up does not keep the probes in a hurry', async () => {
    const world = new World()
    world.pools.setTopology(lagging(100, 500n, [400n]))
    await served(world, { bound: { timeline: 1, lsn: 500n } })
    await world.pass(2500)
    expect(world.busy).toEqual([true, false])
  })
})

describe('a session stays with its replica', () => {
  test('while that is eligible, also when another is free', async () => {
    const world = new World()
    world.pools.setTopology(topology())
    for (const name of ['pg2', 'pg3', 'pg3', 'pg2'])
      expect(await served(world, { preferredMember: name })).toBe(name)
  })

  test('moving asks for as much as a write would', async () => {
    const world = new World()
    world.pools.setTopology(lagging(100, 500n, [500n]))
    expect(await served(world, { preferredMember: 'gone' })).toBe('pg1')
    world.pools.setTopology(lagging(world.clock.nowMs() + 1, 500n, [500n]))
    expect(await served(world, { preferredMember: 'gone' })).toBe('pg2')
  })

  test('that catches up while the session waits for another one', async () => {
    const world = new World()
    const bound = { timeline: 1, lsn: 500n }
    world.pools.setTopology(lagging(2000, 500n, [400n, 500n]))
    const others = [1, 2].map(() => world.waiter({ wantsRole: 'replica', bound }))
    for (const other of others) world.pool().acquire(other)
    await world.settle()
    const waiter = world.waiter({ wantsRole: 'replica', bound, preferredMember: 'pg2' })
    world.pool().acquire(waiter)
    await world.settle()
    expect(waiter.server).toBeNull()
    world.pools.setTopology(lagging(3000, 500n, [500n, 500n]))
    await world.settle()
    expect(waiter.server?.identity.member).toBe('pg2')
  })

  test('a patient read waits for a replica that is behind, and no longer than it said', async () => {
    const world = new World()
    const bound = { timeline: 1, lsn: 500n }
    world.pools.setTopology(lagging(100, 500n, [400n]))
    const [early, late] = [1, 2].map(() =>
      world.waiter({ wantsRole: 'replica', bound, patienceMs: 60 }),
    )
    for (const waiter of [early, late]) if (waiter !== undefined) world.pool().acquire(waiter)
    await world.settle()
    expect([early?.waitReason, late?.waitReason]).toEqual(['replica', 'replica'])
    if (late !== undefined) world.pool().withdraw(late)
    world.pools.setTopology(lagging(120, 500n, [500n]))
    await world.settle()
    expect(early?.server?.identity.member).toBe('pg2')
    world.pools.setTopology(lagging(140, 900n, [500n]))
    const vain = world.waiter({
      wantsRole: 'replica',
      bound: { timeline: 1, lsn: 900n },
      patienceMs: 60,
    })
    world.pool().acquire(vain)
    await world.pass(400)
    await world.settle()
    expect(vain.server?.identity.member).toBe('pg1')
  })

  test('when it has not replayed what the session wrote, another serves', async () => {
    const world = new World()
    world.pools.setTopology(lagging(2000, 500n, [400n, 500n]))
    const bound = { timeline: 1, lsn: 500n }
    expect(await served(world, { bound, preferredMember: 'pg2' })).toBe('pg3')
  })
})

/** What pg2, which served the session last, pg3 and the primary had. */
const membersOf = (pg2: Partial<Sample>, pg3: bigint, written: Partial<Sample>) => [
  primary('pg1', { insertLsn: 500n, ...written }),
  member('pg2', { eligible: false, sample: { started: 'first', ...pg2 } }),
  member('pg3', { sample: { replayLsn: pg3, sentMs: 300 } }),
]

/** pg2 was started again and has replayed so much. */
const rewound = (sentMs: number, replayLsn: bigint) =>
  topology({
    members: [
      primary('pg1', { sentMs, insertLsn: 500n }),
      member('pg2', { sample: { sentMs, replayLsn, started: 'second' } }),
    ],
  })

const asks = (timeline: number, lsn: bigint, isMet = false) => ({
  minLsn: { timeline, lsn, isMet },
})

/** Timeline 2 began at 450. */
const second = (replayLsn: bigint): Topology => ({
  ...promoted(replayLsn),
  timeline: 2,
  history: [{ timeline: 1, lsn: 450n }],
})

describe('a session leaves its replica', () => {
  /** pg2 served last at 250; the samples say what it and the primary had afterwards. */
  const seen = { preferredMember: 'pg2', causal: { preferredMs: 250, preferredLife: 'first' } }

  test('for one that has what the primary had written after its last answer', async () => {
    const world = new World()
    world.pools.setTopology(
      topology({ members: membersOf({ sentMs: 200 }, 499n, { sentMs: 260 }) }),
    )
    expect(await served(world, seen)).toBe('pg1')
    world.pools.setTopology(
      topology({ members: membersOf({ sentMs: 200 }, 500n, { sentMs: 270 }) }),
    )
    expect(await served(world, seen)).toBe('pg3')
  })

  test('without a primary for one that has what its own has replayed since', async () => {
    const world = new World()
    const old = { sentMs: 240, replayLsn: 400n }
    world.pools.setTopology(topology({ members: membersOf(old, 450n, { sentMs: 200 }) }))
    world.pools.setTopology(noPrimary({ members: membersOf(old, 450n, {}).slice(1) }))
    const held = world.waiter({ wantsRole: 'replica', ...seen })
    world.pool().acquire(held)
    await world.settle()
    expect(held.waitReason).toBe('primary')
    const behind = { sentMs: 260, replayLsn: 451n }
    world.pools.setTopology(noPrimary({ members: membersOf(behind, 450n, {}).slice(1) }))
    await world.settle()
    expect(held.waitReason).toBe('primary')
    const known = { sentMs: 270, replayLsn: 450n }
    world.pools.setTopology(noPrimary({ members: membersOf(known, 450n, {}).slice(1) }))
    await world.settle()
    expect(held.server?.identity.member).toBe('pg3')
  })

  test('but what it has replayed after a new start says nothing', async () => {
    const world = new World()
    const again = { sentMs: 270, replayLsn: 400n, started: 'second' }
    world.pools.setTopology(noPrimary({ members: membersOf(again, 450n, {}).slice(1) }))
    const held = world.waiter({ wantsRole: 'replica', ...seen })
    world.pool().acquire(held)
    await world.settle()
    expect(held.waitReason).toBe('primary')
  })

  test('when it was started again: it may have gone back, and counts as another', async () => {
    const world = new World()
    world.pools.setTopology(rewound(260, 400n))
    expect(await served(world, seen)).toBe('pg1')
    world.pools.setTopology(rewound(270, 500n))
    expect(await served(world, seen)).toBe('pg2')
  })
})

describe('pgsteer.min_lsn', () => {
  test('only a replica that has it serves; else the primary does', async () => {
    const world = new World()
    world.pools.setTopology(lagging(100, 500n, [400n, 500n]))
    for (let turn = 0; turn < 8; turn += 1) expect(await served(world, asks(1, 500n))).toBe('pg3')
    expect(await served(world, asks(1, 501n))).toBe('pg1')
    expect(await served(world, { ...asks(1, 450n), preferredMember: 'pg2' })).not.toBe('pg2')
  })

  test('of an older timeline it means the same up to where that ended', async () => {
    const world = new World()
    world.pools.setTopology(second(430n))
    expect(await served(world, asks(1, 430n))).toBe('pg3')
    expect(await served(world, asks(1, 450n))).toBe('pg2')
  })

  test('beyond that end what it asks for may be lost, also where the primary would serve', async () => {
    const world = new World()
    world.pools.setTopology(second(900n))
    expect(await served(world, asks(1, 451n))).toBe('min_lsn_lost')
    expect(await served(world, { ...asks(1, 451n), wantsRole: 'primary' })).toBe('min_lsn_lost')
  })

  test('what was met before the failover is not judged by it', async () => {
    const world = new World()
    world.pools.setTopology(second(450n))
    expect(await served(world, asks(1, 451n, true))).toBe('pg3')
    expect(await served(world, { ...asks(1, 451n, true), wantsRole: 'primary' })).toBe('pg2')
  })

  test('while nobody says where its timeline ended it waits, and then may be lost', async () => {
    const world = new World()
    world.pools.setTopology({ ...second(900n), history: [] })
    const [told, untold] = [1, 2].map(() =>
      world.waiter({ wantsRole: 'replica', ...asks(1, 440n) }),
    )
    if (told === undefined || untold === undefined) throw new Error('two waiters')
    world.pool().acquire(told)
    expect(told.waitReason).toBe('replica')
    world.pools.setTopology(second(900n))
    await world.settle()
    expect(told.server?.identity.member).toBe('pg3')
    world.pools.setTopology({ ...second(900n), history: [] })
    world.pool().acquire(untold)
    await world.pass(9000)
    expect(untold.error).toBeNull()
    await world.pass(1400)
    expect(untold.error?.code).toBe('min_lsn_lost')
    world.pools.setTopology({ ...second(900n), timeline: 3, history: [{ timeline: 2, lsn: 460n }] })
    expect(await served(world, asks(1, 440n))).toBe('min_lsn_lost')
  })

  test('of a newer timeline it waits for the primary of that, reads and writes alike', async () => {
    const world = new World({ ini: routedIni('', 'failover_hold_ms_max = 3000') })
    world.pools.setTopology(lagging(100, 500n, [500n]))
    const [read, write, late] = (['replica', 'primary', 'replica'] as const).map((wantsRole) =>
      world.waiter({ wantsRole, ...asks(2, 460n) }),
    )
    if (read === undefined || write === undefined || late === undefined) throw new Error('three')
    for (const waiter of [read, write]) world.pool().acquire(waiter)
    await world.settle()
    expect([read.server, write.server]).toEqual([null, null])
    world.pools.setTopology(second(460n))
    await world.settle()
    expect(read.server?.identity.member).toBe('pg3')
    expect(write.server?.identity.member).toBe('pg2')
    late.minLsn = { timeline: 3, lsn: 1n, isMet: false }
    world.pool().acquire(late)
    await world.pass(3400)
    expect(late.error).toMatchObject({ code: 'no_primary', sqlstate: '57P03' })
  })

  test('a SET of something else asks nobody for it', async () => {
    const world = new World()
    world.pools.setTopology(lagging(100, 500n, [400n]))
    expect(await served(world, { ...asks(7, 1n), wantsRole: 'any' })).not.toBeNull()
  })
})

describe('no replica may serve', () => {
  const alone = topology({ members: [primary('pg1'), member('pg2', { eligible: false })] })

  test('no_replica = primary sends reads there', async () => {
    const world = new World()
    world.pools.setTopology(alone)
    expect(await served(world, {})).toBe('pg1')
  })

  test('no_replica = error says why', async () => {
    const world = new World({ ini: routedIni('', 'no_replica = error') })
    const ineligibleReason = 'lag_bytes'
    world.pools.setTopology(
      topology({ members: [primary('pg1'), member('pg2', { eligible: false, ineligibleReason })] }),
    )
    const read = world.waiter({ wantsRole: 'replica' })
    world.pool().acquire(read)
    expect(read.error?.message).toContain('pg2: lag_bytes')
  })

  test('no_replica = wait waits replica_wait_ms, then takes the primary', async () => {
    const world = new World({ ini: routedIni('', 'no_replica = wait') })
    world.pools.setTopology(alone)
    const read = world.waiter({ wantsRole: 'replica' })
    world.pool().acquire(read)
    await world.settle()
    expect(read.waitReason).toBe('replica')
    await world.pass(1400)
    await world.settle()
    expect(read.server?.identity.member).toBe('pg1')
  })

  test('no_replica = wait takes a replica that comes in time', async () => {
    const world = new World({ ini: routedIni('', 'no_replica = wait') })
    world.pools.setTopology(alone)
    const read = world.waiter({ wantsRole: 'replica' })
    world.pool().acquire(read)
    world.pools.setTopology(topology())
    await world.settle()
    expect(read.server?.identity.role).toBe('replica')
  })

  test('primary_reads_max bounds reads on the primary', async () => {
    const world = new World({
      ini: routedIni('default_pool_size = 9', 'primary_reads_max = 1'),
    })
    world.pools.setTopology(alone)
    const [one, two, three] = [1, 2, 3].map(() => world.waiter({ wantsRole: 'replica' }))
    for (const waiter of [one, two, three]) if (waiter !== undefined) world.pool().acquire(waiter)
    await world.settle()
    expect([one?.server === null, two?.server === null]).toEqual([false, true])
    if (one?.server === null || one === undefined) throw new Error('no server')
    world.pool().release(one.server, one)
    expect(two?.server).not.toBeNull()
    expect(three?.server).toBeNull()
    await world.pass(1400)
    expect(three?.error?.code).toBe('no_replica')
  })

  test('without primary and replica a read is held, and runs on the first that comes', async () => {
    const world = new World()
    world.pools.setTopology(noPrimary({ members: [] }))
    const read = world.waiter({ wantsRole: 'replica' })
    world.pool().acquire(read)
    expect(read.waitReason).toBe('primary')
    world.pools.setTopology(noPrimary({ serial: 5, members: [member('pg3')] }))
    await world.settle()
    expect(read.server?.identity.member).toBe('pg3')
  })
})

test('statements that any member can answer take the server at hand', async () => {
  const world = new World()
  world.pools.setTopology(topology())
  const write = world.waiter()
  world.pool().acquire(write)
  await world.settle()
  if (write.server === null) throw new Error('no server')
  world.pool().release(write.server, write)
  const any = world.waiter({ wantsRole: 'any' })
  world.pool().acquire(any)
  expect(any.server?.identity.member).toBe('pg1')
})
