import { expect, test } from 'vitest'
import type { Pool } from '../../../src/server/pool.ts'
import {
  type FakeWaiter,
  member,
  plainIni,
  primary,
  routedIni,
  topology,
  World,
} from '../../support/pools.ts'

/** `count` sessions that want a server. */
function crowd(world: World, pool: Pool, count: number): FakeWaiter[] {
  return Array.from({ length: count }, () => {
    const waiter = world.waiter()
    pool.acquire(waiter)
    return waiter
  })
}

function served(waiters: readonly FakeWaiter[]): number {
  return waiters.filter((waiter) => waiter.server !== null).length
}

function giveBack(pool: Pool, waiter: FakeWaiter | undefined): void {
  if (waiter === undefined || waiter.server === null) throw new Error('no server')
  const { server } = waiter
  waiter.server = null
  pool.release(server, waiter)
}

function hosts(mode: string): string {
  return `[databases]
app = host=db1,db2 load_balance_hosts=${mode}
[pgbouncer]
default_pool_size = 4
server_login_retry = 1
`
}

test('pool_size bounds the servers of one database, user and member', async () => {
  const world = new World({ ini: plainIni('default_pool_size = 3') })
  const [alice, bob] = [world.pool('app', 'alice'), world.pool('app', 'bob')]
  const waiters = crowd(world, alice, 10)
  const others = crowd(world, bob, 10)
  await world.settle()
  expect([served(waiters), served(others)]).toEqual([3, 3])
})

test('no more servers are opened than sessions wait', async () => {
  const world = new World({ ini: plainIni('default_pool_size = 9') })
  const waiters = crowd(world, world.pool(), 2)
  expect(world.attempts).toHaveLength(2)
  await world.settle()
  expect(served(waiters)).toBe(2)
  expect(world.attempts).toHaveLength(2)
})

test('no more servers are opened than reads wait, over all replicas together', async () => {
  const world = new World({ ini: routedIni('default_pool_size = 9') })
  world.pools.setTopology(topology())
  const reads = Array.from({ length: 4 }, () => world.waiter({ wantsRole: 'replica' }))
  for (const read of reads) world.pool().acquire(read)
  expect(world.attempts).toHaveLength(4)
  await world.settle()
  expect(served(reads)).toBe(4)
  expect(world.attempts).toHaveLength(4)
})

test('the reserve opens when a session has waited reserve_pool_timeout', async () => {
  const ini = plainIni('default_pool_size = 1\nreserve_pool_size = 1\nreserve_pool_timeout = 5')
  const world = new World({ ini })
  const waiters = crowd(world, world.pool(), 3)
  await world.settle()
  await world.pass(4000)
  expect(world.attempts).toHaveLength(1)
  await world.pass(1500)
  await world.settle()
  expect(served(waiters)).toBe(2)
})

test('max_db_connections closes the server idle longest of another user for one that is needed', async () => {
  const world = new World({ ini: plainIni('max_db_connections = 2') })
  const [alice, bob] = [world.pool('app', 'alice'), world.pool('app', 'bob')]
  const first = crowd(world, alice, 2)
  await world.settle()
  const [oldest] = first
  const evicted = oldest?.server
  giveBack(alice, oldest)
  await world.pass(400)
  giveBack(alice, first[1])
  const second = crowd(world, bob, 1)
  await world.settle()
  expect(served(second)).toBe(1)
  expect(evicted?.state).toBe('closed')
  expect(alice.fleet.closedByReason).toEqual({ evicted: 1 })
})

test('of the idle servers of several pools the one idle longest is closed', async () => {
  const world = new World({ ini: plainIni('max_db_connections = 3') })
  const users = ['alice', 'bob', 'carol'] as const
  const waiters = users.map((user) => crowd(world, world.pool('app', user), 1)[0])
  await world.settle()
  for (const index of [1, 2, 0]) {
    giveBack(world.pool('app', users[index] ?? ''), waiters[index])
    await world.pass(400)
  }
  crowd(world, world.pool('app', 'dave'), 1)
  expect(users.map((user) => world.pool('app', user).fleet.size)).toEqual([1, 0, 1])
})

test('a server that was idle so long that it needs a check can be closed for another too', async () => {
  const world = new World({ ini: plainIni('max_db_connections = 1\nserver_check_delay = 2') })
  const alice = world.pool('app', 'alice')
  const first = crowd(world, alice, 1)
  await world.settle()
  giveBack(alice, first[0])
  await world.pass(3000)
  const second = crowd(world, world.pool('app', 'bob'), 1)
  await world.settle()
  expect(served(second)).toBe(1)
  expect(alice.fleet.size).toBe(0)
})

test('max_user_connections closes idle servers of the same user only', async () => {
  const world = new World({ ini: plainIni('max_user_connections = 1') })
  const [bob, alice] = [world.pool('app', 'bob'), world.pool('app', 'alice')]
  const first = crowd(world, bob, 1)
  await world.settle()
  giveBack(bob, first[0])
  await world.pass(400)
  const second = crowd(world, alice, 1)
  await world.settle()
  giveBack(alice, second[0])
  const third = crowd(world, world.pool('other', 'alice'), 1)
  await world.settle()
  expect(served(third)).toBe(1)
  expect([bob.fleet.size, alice.fleet.size]).toEqual([1, 0])
})

test('max_db_connections does not count other databases', async () => {
  const world = new World({ ini: plainIni('max_db_connections = 1') })
  const one = crowd(world, world.pool('app'), 1)
  const two = crowd(world, world.pool('other'), 1)
  await world.settle()
  expect([served(one), served(two)]).toEqual([1, 1])
})

test('max_user_connections counts the user over all databases of the member', async () => {
  const world = new World({ ini: plainIni('max_user_connections = 1') })
  const [app, other] = [world.pool('app'), world.pool('other')]
  const one = crowd(world, app, 1)
  const two = crowd(world, other, 1)
  await world.settle()
  expect([served(one), served(two)]).toEqual([1, 0])
  giveBack(app, one[0])
  await world.pass(400)
  await world.settle()
  expect(served(two)).toBe(1)
})

test('member_connections_max bounds all pools of a member together', async () => {
  const world = new World({ ini: routedIni('', 'member_connections_max = 3') })
  world.pools.setTopology(topology({ members: [primary('pg1'), member('pg2')] }))
  const waiters = ['a', 'b', 'c'].flatMap((user) => crowd(world, world.pool('app', user), 2))
  await world.settle()
  expect(served(waiters)).toBe(3)
})

test('a server that ends makes room for a pool that found none', async () => {
  const world = new World({ ini: plainIni('max_db_connections = 1') })
  const one = crowd(world, world.pool('app', 'alice'), 1)
  const two = crowd(world, world.pool('app', 'bob'), 1)
  await world.settle()
  world.channelOf(one[0]?.server ?? null).finish()
  await world.settle()
  expect(served(two)).toBe(1)
})

test('log-ins to one member come a few at a time and follow each other at once', async () => {
  const world = new World({ ini: plainIni('default_pool_size = 50') })
  const waiters = crowd(world, world.pool(), 30)
  expect(world.open).toHaveLength(10)
  await world.open[0]?.succeed()
  expect(world.open).toHaveLength(10)
  await world.settle()
  expect(served(waiters)).toBe(30)
})

test('limits are divided among the workers and leave everybody at least one', async () => {
  const world = new World({ ini: routedIni('default_pool_size = 3', 'workers = 2') })
  world.pools.setTopology(topology())
  const waiters = crowd(world, world.pool(), 3)
  await world.settle()
  expect(served(waiters)).toBe(1)
})

test('more than waiters_max are refused', () => {
  const world = new World({ ini: routedIni('', 'waiters_max = 2') })
  const waiters = crowd(world, world.pool(), 3)
  expect(waiters.map((waiter) => waiter.error?.code)).toEqual([
    undefined,
    undefined,
    'waiters_full',
  ])
})

test('a list of hosts is used in turn, or the same until it fails', async () => {
  const turn = new World({ ini: hosts('round-robin') })
  crowd(turn, turn.pool(), 3)
  expect(turn.attempts.map(({ target }) => target.identity.host)).toEqual(['db1', 'db2', 'db1'])
  const same = new World({ ini: hosts('disable') })
  crowd(same, same.pool(), 2)
  await same.open[0]?.fail(new Error('down'))
  await same.open[0]?.succeed()
  await same.pass(1400)
  expect(same.attempts.map(({ target }) => target.identity.host)).toEqual(['db1', 'db1', 'db2'])
})
