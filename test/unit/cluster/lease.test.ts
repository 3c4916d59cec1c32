/** Until when the leader's lease allows writes: what the watcher publishes, on a clock of the test. */
import { describe, expect, test } from 'vitest'
import { isLate, writableUntil } from '../../../src/cluster/lease.ts'
import { Stage, TTL_MS } from './stage.ts'

const DYNAMIC = { ttlMs: 30_000, loopWaitMs: 10_000 }
const LEASE = { dynamic: DYNAMIC, guardMs: 3000, expiresMs: 50_000 }
/** A published end moves in steps, and etcd rounds down to whole seconds. */
const STEP_MS = 2000
const ROUNDED_MS = 1000

describe('a lease', () => {
  test('limits writes unless a healthy one comes too close to the guard', () => {
    expect(writableUntil(LEASE)).toBe(50_000)
    expect(writableUntil({ ...LEASE, guardMs: 15_400 })).toBe(50_000)
    expect(writableUntil({ ...LEASE, guardMs: 15_401 })).toBeNull()
    expect(writableUntil({ ...LEASE, expiresMs: null })).toBeNull()
  })

  test('is late when a healthy one would have been renewed, or when it is not known', () => {
    expect(isLate(LEASE, 50_000 - 15_400)).toBe(false)
    expect(isLate(LEASE, 50_000 - 15_399)).toBe(true)
    expect(isLate({ ...LEASE, expiresMs: null }, 0)).toBe(true)
    expect(isLate({ ...LEASE, guardMs: 20_000 }, 50_000 - 24_600)).toBe(false)
    expect(isLate({ ...LEASE, guardMs: 20_000 }, 50_000 - 24_599)).toBe(true)
  })
})

describe('the lease that is published', () => {
  test('never ends later than the lease does, and moves with every renewal', async () => {
    const stage = await Stage.serving()
    const ends = new Set<number>()
    for (let count = 0; count < 60; count += 1) {
      await stage.passHealthy(1000)
      const { writableUntilMs } = stage.topology
      ends.add(writableUntilMs ?? 0)
      expect(writableUntilMs).toBeLessThanOrEqual(stage.etcd.leaseUntilMs)
      expect(stage.writableForMs).toBeGreaterThan(TTL_MS - 10_000 - ROUNDED_MS - STEP_MS - 1000)
    }
    expect(ends.size).toBeGreaterThan(4)
    expect(stage.topology).toMatchObject({ primary: 'a', term: 1 })
  })

  test('ends in time when nobody renews it, with all keys unchanged', async () => {
    const stage = await Stage.serving()
    const endMs = stage.etcd.leaseUntilMs
    await stage.pass(endMs - stage.clock.nowMs() - 100)
    expect(stage.topology.primary).toBe('a')
    expect(stage.topology.writableUntilMs).toBeLessThanOrEqual(endMs)
    expect(stage.writableForMs).toBeGreaterThan(100 - ROUNDED_MS - STEP_MS)
    expect(stage.writableForMs).toBeLessThanOrEqual(100)
  })

  test('counts from when etcd was asked, not from when it answered', async () => {
    const stage = await Stage.serving()
    await stage.passHealthy(5000)
    stage.etcd.latencyMs = 900
    for (let count = 0; count < 30; count += 1) {
      await stage.passHealthy(1000)
      expect(stage.topology.writableUntilMs).toBeLessThanOrEqual(stage.etcd.leaseUntilMs)
    }
    expect(stage.topology.primary).toBe('a')
  })

  test('an answer that is older than another one does not shorten it', async () => {
    const stage = await Stage.serving()
    await stage.pass(8000)
    stage.etcd.latencyMs = 800
    await stage.pass(700)
    stage.etcd.keepAlive()
    stage.etcd.latencyMs = 0
    await stage.pass(60)
    let last = stage.topology.writableUntilMs ?? 0
    for (let count = 0; count < 100; count += 1) {
      await stage.pass(20)
      const { writableUntilMs } = stage.topology
      expect(writableUntilMs).toBeGreaterThanOrEqual(last)
      last = writableUntilMs ?? 0
    }
    expect(last).toBeGreaterThan(stage.etcd.leaseUntilMs - ROUNDED_MS - STEP_MS)
  })

  test('is that of the new reign as soon as there is one, never that of the old', async () => {
    const stage = await Stage.serving()
    await stage.pass(25_000)
    expect(stage.writableForMs).toBeLessThan(5000)
    stage.etcd.lead('a')
    await stage.settle()
    expect(stage.topology.writableUntilMs).toBeNull()
    await stage.pass(1000)
    expect(stage.topology.primary).toBe('a')
    expect(stage.writableForMs).toBeGreaterThan(TTL_MS - 1000 - ROUNDED_MS - STEP_MS)
  })

  test('of the new reign ends earlier than that of the old one where it does', async () => {
    const stage = await Stage.serving()
    stage.etcd.keepAlive()
    await stage.pass(1000)
    stage.etcd.lead('a', 12_000)
    await stage.pass(1000)
    expect(stage.topology.writableUntilMs).toBeLessThanOrEqual(stage.etcd.leaseUntilMs)
  })

  test('of the old reign is not taken for that of the new one before that was asked for', async () => {
    const stage = await Stage.serving()
    stage.etcd.leaseAnswers = 'never'
    stage.etcd.lead('a')
    await stage.pass(2000)
    expect(stage.topology).toMatchObject({ writableUntilMs: null, primary: 'a' })
  })

  test('other keys that change do not renew it', async () => {
    const stage = await Stage.serving()
    const endMs = stage.etcd.leaseUntilMs
    await stage.pass(20_000, () => stage.etcd.put('status', String(stage.clock.nowMs())))
    expect(stage.topology.writableUntilMs).toBeLessThanOrEqual(endMs)
  })

  test('what a member says that led etcd until now is not taken', async () => {
    const stage = await Stage.serving()
    stage.etcd.leaseAnswers = 'nonsense'
    const before = stage.topology.writableUntilMs
    await stage.pass(3000)
    expect(stage.topology.writableUntilMs).toBe(before)
  })

  test('is not known any more when reads are answered and questions about it are not', async () => {
    const stage = await Stage.serving()
    stage.etcd.leaseAnswers = 'never'
    await stage.pass(4000)
    expect(stage.topology.writableUntilMs).not.toBeNull()
    await stage.pass(3000)
    expect(stage.topology).toMatchObject({ writableUntilMs: null, primary: 'a' })
  })

  test('limits nothing in pause', async () => {
    const stage = await Stage.serving()
    stage.configure({ pause: true })
    await stage.pass(100)
    expect(stage.topology).toMatchObject({ writableUntilMs: null, primary: 'a' })
  })
})

/** etcd falls silent so long after a renewal. */
async function silentFrom(renewedMsAgo: number): Promise<Stage> {
  const stage = await Stage.serving()
  stage.etcd.keepAlive()
  await stage.pass(renewedMsAgo)
  stage.etcd.isSilent = true
  await stage.pass(3000)
  expect(stage.state).toBe('failstatic')
  return stage
}

describe('a silent source', () => {
  test('lifts the limit of a lease that was healthy', async () => {
    const stage = await silentFrom(8000)
    expect(stage.topology).toMatchObject({ writableUntilMs: null, primary: 'a' })
  })

  test('brings it back when that lease would have ended and Patroni says nothing', async () => {
    const stage = await silentFrom(8000)
    const endMs = stage.etcd.leaseUntilMs
    await stage.pass(endMs - stage.clock.nowMs() + 1000)
    expect(stage.topology).toMatchObject({ writableUntilMs: null, primary: 'a' })
    stage.member('a').patroni = null
    await stage.pass(7000)
    expect(stage.topology.primary === null || (stage.writableForMs ?? 1) <= 0).toBe(true)
  })

  test('keeps the limit of a lease that was late, while Patroni says nothing', async () => {
    const stage = await Stage.serving()
    stage.member('a').patroni = null
    stage.etcd.keepAlive()
    const endMs = stage.etcd.leaseUntilMs
    await stage.pass(20_000)
    stage.etcd.isSilent = true
    await stage.pass(4000)
    expect(stage.state).toBe('failstatic')
    expect(stage.topology.writableUntilMs).toBeLessThanOrEqual(endMs)
    stage.member('a').patroni = { failsafe: false }
    await stage.pass(1500)
    expect(stage.topology).toMatchObject({ writableUntilMs: null, primary: 'a' })
  })

  test.for<[string, (stage: Stage) => unknown, number]>([
    [
      'nobody vouches after ttl',
      (stage) => {
        stage.member('a').patroni = null
      },
      TTL_MS + 2000,
    ],
    [
      'another one claims',
      (stage) => Object.assign(stage.member('b'), { isInRecovery: false, timeline: 6 }),
      2000,
    ],
  ])('%s: what runs on the primary is over', async ([, happen, withinMs]) => {
    const stage = await silentFrom(8000)
    happen(stage)
    await stage.pass(withinMs)
    expect(stage.topology).toMatchObject({ primary: null, term: 1 })
    expect(stage.writableForMs).toBeLessThanOrEqual(0)
    Object.assign(stage.member('b'), { isInRecovery: true, timeline: 5 })
    stage.member('a').patroni = { failsafe: false }
    await stage.pass(2000)
    expect(stage.topology).toMatchObject({ primary: 'a', writableUntilMs: null })
  })

  test('is what a stall looks like: a late lease then goes on limiting', async () => {
    const stage = await Stage.serving()
    stage.member('a').patroni = null
    await stage.pass(24_000)
    const endMs = stage.topology.writableUntilMs ?? 0
    const from = stage.seen.length
    stage.etcd.isSilent = true
    stage.clock.stall(2500)
    await stage.settle()
    for (const { primary, writableUntilMs } of stage.seen.slice(from))
      expect(primary === null || (writableUntilMs ?? Number.POSITIVE_INFINITY) <= endMs).toBe(true)
  })
})

/** What arrived during a stall is heard for so long, before anything is decided. */
const LISTEN_MS = 20

describe('a stall of the control process', () => {
  test('is no reason to believe: after a long one writes wait for fresh answers', async () => {
    const stage = await Stage.serving()
    const from = stage.seen.length
    for (const member of stage.members.values()) member.does = 'hang'
    stage.clock.stall(10_000)
    await stage.settle()
    await stage.pass(LISTEN_MS)
    expect(stage.seen.slice(from).at(-1)?.primary).toBeNull()
    for (const member of stage.members.values()) member.does = 'answer'
    await stage.pass(3000)
    expect(stage.topology).toMatchObject({ primary: 'a', term: 1 })
  })

  test('is held against nobody whose answer lay there meanwhile', async () => {
    const stage = await Stage.serving()
    stage.etcd.isSilent = true
    await stage.pass(4000)
    const from = stage.seen.length
    stage.clock.stall(2500)
    await stage.settle()
    await stage.pass(100)
    expect(stage.seen.length).toBeGreaterThan(from)
    expect(stage.seen.slice(from).filter(({ primary }) => primary === null)).toEqual([])
  })

  test('past the end of a lease never prolongs it', async () => {
    const stage = await Stage.serving()
    stage.member('a').patroni = null
    stage.etcd.isSilent = true
    const endMs = stage.etcd.leaseUntilMs
    const from = stage.seen.length
    stage.clock.stall(endMs - stage.clock.nowMs() + 10)
    await stage.settle()
    await stage.pass(LISTEN_MS)
    expect(stage.seen.length).toBeGreaterThan(from)
    for (const { primary, writableUntilMs } of stage.seen.slice(from))
      expect(primary === null || (writableUntilMs ?? Number.POSITIVE_INFINITY) <= endMs).toBe(true)
  })
})

describe('failsafe mode', () => {
  test('asks Patroni only when the lease is late, and then lets it stand in for the lease', async () => {
    const stage = await Stage.serving({ failsafe_mode: true })
    await stage.passHealthy(30_000)
    stage.etcd.keepAlive()
    await stage.pass(1000)
    stage.member('a').asked = 0
    await stage.pass(12_000)
    expect(stage.member('a').asked).toBe(0)
    await stage.pass(8000)
    expect(stage.member('a').asked).toBeGreaterThan(2)
    expect(stage.topology.writableUntilMs).not.toBeNull()
    stage.member('a').patroni = { failsafe: true }
    await stage.pass(2000)
    expect(stage.topology.writableUntilMs).toBeNull()
    await stage.pass(stage.etcd.leaseUntilMs - stage.clock.nowMs())
    stage.expire()
    await stage.pass(20_000)
    expect(stage.state).toBe('vouched')
    expect(stage.topology).toMatchObject({ primary: 'a', term: 1, writableUntilMs: null })
    stage.list('a')
    stage.etcd.lead('a')
    stage.member('a').patroni = { failsafe: false }
    await stage.pass(2000)
    expect(stage.state).toBe('serving')
    expect(stage.topology).toMatchObject({ primary: 'a', term: 1 })
    expect(new Set(stage.seen.slice(10).map(({ primary }) => primary))).toEqual(new Set(['a']))
  })

  test('a Patroni that hangs is limited by its lease and fenced at its end, as without', async () => {
    const stage = await Stage.serving({ failsafe_mode: true })
    const endMs = stage.etcd.leaseUntilMs
    stage.member('a').patroni = null
    await stage.pass(endMs - stage.clock.nowMs())
    expect(stage.topology.writableUntilMs).toBeLessThanOrEqual(endMs)
    stage.expire()
    await stage.settle()
    expect(stage.topology.primary).toBeNull()
    await stage.pass(5000)
    expect(stage.state).toBe('fenced')
  })

  test('a replica that takes the key fences in that moment', async () => {
    const stage = await Stage.serving({ failsafe_mode: true })
    stage.member('a').patroni = { failsafe: true }
    await stage.pass(28_000)
    stage.expire()
    await stage.pass(1000)
    expect(stage.topology.primary).toBe('a')
    stage.etcd.lead('b')
    await stage.settle()
    expect(stage.topology.primary).toBeNull()
    Object.assign(stage.member('b'), { isInRecovery: false, timeline: 6 })
    await stage.pass(500)
    expect(stage.topology).toMatchObject({ primary: 'b', timeline: 6 })
  })
})
