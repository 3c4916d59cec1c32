import { expect, test } from 'vitest'
import { chooseMember, nearest } from '../../../src/server/balance.ts'
import { member, primary, routedIni, topology, World } from '../../support/pools.ts'

/** A small generator, so that a failure can be repeated. */
function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32
    return state / 2 ** 32
  }
}

/** Reads per member when each stays for a while: always `atOnce` at work. */
function spread(weights: Readonly<Record<string, number>>, atOnce: number): Map<string, number> {
  const members = Object.entries(weights).map(([name, weight]) => member(name, { weight }))
  const outstanding = new Map<string, number>()
  const total = new Map<string, number>()
  const working: string[] = []
  const random = seeded(7)
  for (let turn = 0; turn < 6000; turn += 1) {
    const chosen = chooseMember(members, {
      random,
      zone: '',
      outstanding: ({ name }) => outstanding.get(name) ?? 0,
    })
    if (chosen === null) throw new Error('nobody chosen')
    outstanding.set(chosen.name, (outstanding.get(chosen.name) ?? 0) + 1)
    total.set(chosen.name, (total.get(chosen.name) ?? 0) + 1)
    working.push(chosen.name)
    if (working.length < atOnce) continue
    const [done] = working.splice(Math.floor(random() * working.length), 1)
    if (done !== undefined) outstanding.set(done, (outstanding.get(done) ?? 0) - 1)
  }
  return total
}

test('equal members get equal shares', () => {
  for (const count of spread({ a: 1, b: 1, c: 1, d: 1 }, 20).values()) {
    expect(count).toBeGreaterThan(1350)
    expect(count).toBeLessThan(1650)
  }
})

test('a member of twice the weight gets about twice as much', () => {
  const total = spread({ a: 2, b: 1 }, 30)
  const ratio = (total.get('a') ?? 0) / (total.get('b') ?? 1)
  expect(ratio).toBeGreaterThan(1.7)
  expect(ratio).toBeLessThan(2.3)
})

test('the less loaded of the two drawn is taken, whichever is drawn first', () => {
  const members = [member('a'), member('b')]
  for (const draw of [0, 0.99]) {
    const chosen = chooseMember(members, {
      random: () => draw,
      zone: '',
      outstanding: ({ name }) => (name === 'a' ? 5 : 0),
    })
    expect(chosen?.name).toBe('b')
  }
})

test('members of our zone go first, others when there is none', () => {
  const members = [member('a', { zone: 'x' }), member('b', { zone: 'y' })]
  expect(nearest(members, 'y').map(({ name }) => name)).toEqual(['b'])
  expect(nearest(members, 'z')).toHaveLength(2)
  expect(nearest(members, '')).toHaveLength(2)
})

test('nobody is chosen of none', () => {
  const choice = { random: (): number => 0, zone: '', outstanding: (): number => 0 }
  expect(chooseMember([], choice)).toBeNull()
})

test('a member of weight 0 gets no reads', async () => {
  const world = new World({ random: seeded(3) })
  world.pools.setTopology(
    topology({ members: [primary('pg1'), member('pg2', { weight: 0 }), member('pg3')] }),
  )
  for (let turn = 0; turn < 20; turn += 1) {
    const read = world.waiter({ wantsRole: 'replica' })
    world.pool().acquire(read)
    await world.settle()
    expect(read.server?.identity.member).toBe('pg3')
    if (read.server !== null) world.pool().release(read.server, read)
  }
})

test('no replica but one of weight 0 is no replica', async () => {
  const world = new World()
  world.pools.setTopology(topology({ members: [primary('pg1'), member('pg2', { weight: 0 })] }))
  const read = world.waiter({ wantsRole: 'replica' })
  world.pool().acquire(read)
  await world.settle()
  expect(read.server?.identity.member).toBe('pg1')
})

test('a replica without servers gets its share although another has free ones', async () => {
  const world = new World({ ini: routedIni('default_pool_size = 8'), random: seeded(5) })
  world.pools.setTopology(topology())
  const counts = new Map<string, number>()
  for (let turn = 0; turn < 400; turn += 1) {
    const read = world.waiter({ wantsRole: 'replica' })
    world.pool().acquire(read)
    await world.settle()
    const { server } = read
    if (server === null) throw new Error('no server')
    counts.set(server.identity.member, (counts.get(server.identity.member) ?? 0) + 1)
    world.pool().release(server, read)
  }
  expect(counts.get('pg2')).toBeGreaterThan(120)
  expect(counts.get('pg3')).toBeGreaterThan(120)
})
