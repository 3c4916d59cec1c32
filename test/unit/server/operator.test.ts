import { describe, expect, test } from 'vitest'
import { configFrom } from '../../support/config.ts'
import { type FakeWaiter, flush, plainIni, topology, World } from '../../support/pools.ts'

async function working(world: World, database = 'app'): Promise<FakeWaiter> {
  const waiter = world.waiter()
  world.pool(database).acquire(waiter)
  await world.settle()
  return waiter
}

function giveBack(world: World, waiter: FakeWaiter, database = 'app'): void {
  if (waiter.server === null) throw new Error('no server')
  world.pool(database).release(waiter.server, waiter)
}

/** Whether the promise is settled by now. */
async function isDone(promise: Promise<void>): Promise<boolean> {
  const pending = Symbol('pending')
  await flush()
  return (await Promise.race([promise, Promise.resolve(pending)])) !== pending
}

describe('PAUSE', () => {
  test('ends when the servers at work came back, and nobody gets one meanwhile', async () => {
    const world = new World({ ini: plainIni() })
    const worker = await working(world)
    const idle = await working(world)
    giveBack(world, idle)
    const paused = world.pools.pause('app')
    expect(await isDone(paused)).toBe(false)
    expect(idle.server?.state).toBe('closed')
    const late = world.waiter()
    world.pool().acquire(late)
    expect(late.waitReason).toBe('paused')
    expect(world.open).toHaveLength(0)
    giveBack(world, worker)
    expect(await isDone(paused)).toBe(true)
    expect(late.server).toBeNull()
    world.pools.resume('app')
    await world.settle()
    expect(late.server).not.toBeNull()
  })

  test('of one database leaves the others alone', async () => {
    const world = new World({ ini: plainIni() })
    await world.pools.pause('app')
    const other = await working(world, 'other')
    expect(other.server).not.toBeNull()
  })

  test('a log-in that ends meanwhile leaves no server behind', async () => {
    const world = new World({ ini: plainIni() })
    const waiter = world.waiter()
    world.pool().acquire(waiter)
    await world.pools.pause()
    await world.settle()
    expect(waiter.server).toBeNull()
    expect(world.pool().fleet.size).toBe(0)
  })
})

test('DISABLE refuses new log-ins until ENABLE', () => {
  const world = new World({ ini: plainIni() })
  const pool = world.pool()
  world.pools.disable('app')
  expect(() => world.pool()).toThrow('database "app" is disabled')
  world.pools.enable('app')
  expect(world.pool()).toBe(pool)
})

test('an unknown database is refused', () => {
  const world = new World({ ini: plainIni() })
  expect(() => world.pool('nowhere')).toThrow('no such database: nowhere')
})

test('RECONNECT replaces servers when they come back, WAIT_CLOSE waits for that', async () => {
  const world = new World({ ini: plainIni() })
  const worker = await working(world)
  const old = worker.server
  world.pools.reconnect()
  const closed = world.pools.waitClose('app')
  expect(await isDone(closed)).toBe(false)
  giveBack(world, worker)
  expect(await isDone(closed)).toBe(true)
  const next = await working(world)
  expect(next.server).not.toBe(old)
})

test('KILL cuts off who works, refuses who waits, and leaves the database paused', async () => {
  const world = new World({ ini: plainIni('default_pool_size = 1') })
  const worker = await working(world)
  const waiter = world.waiter()
  world.pool().acquire(waiter)
  world.pools.kill('app')
  await flush()
  expect(worker.lost?.code).toBe('admin_disconnect')
  expect(waiter.error?.code).toBe('admin_disconnect')
  expect(world.pools.isPaused('app')).toBe(true)
  expect(world.pools.isPaused('other')).toBe(false)
})

describe('shutdown', () => {
  test('wait_for_servers refuses who waits and ends with the last server at work', async () => {
    const world = new World({ ini: plainIni('default_pool_size = 1') })
    const worker = await working(world)
    const waiter = world.waiter()
    world.pool().acquire(waiter)
    const done = world.pools.shutdown('wait_for_servers')
    expect(waiter.error?.message).toBe('server shutting down')
    expect(await isDone(done)).toBe(false)
    giveBack(world, worker)
    expect(await isDone(done)).toBe(true)
    const late = world.waiter()
    world.pool().acquire(late)
    expect(late.error?.code).toBe('server_shutting_down')
  })

  test('immediate cuts everything off and stops the janitor', async () => {
    const world = new World({ ini: plainIni() })
    const worker = await working(world)
    await world.pools.shutdown('immediate')
    await flush()
    expect(worker.lost?.code).toBe('server_shutting_down')
    expect(world.clock.timers).toBe(0)
  })
})

describe('RELOAD', () => {
  test('a larger pool serves who waits, a smaller one closes what is idle', async () => {
    const world = new World({ ini: plainIni('default_pool_size = 1') })
    await working(world)
    const second = world.waiter()
    world.pool().acquire(second)
    world.pools.setConfig(configFrom(plainIni('default_pool_size = 2')))
    await world.settle()
    expect(second.server).not.toBeNull()
    giveBack(world, second)
    world.pools.setConfig(configFrom(plainIni('default_pool_size = 1')))
    await world.pass(400)
    expect(world.pool().fleet.size).toBe(1)
  })

  test('a changed address ends the old servers in good order', async () => {
    const world = new World({ ini: plainIni() })
    const worker = await working(world)
    const old = worker.server
    world.pools.setConfig(configFrom(plainIni().replaceAll('db1', 'db2')))
    expect(old?.state).toBe('active')
    const next = world.waiter()
    world.pool().acquire(next)
    await world.settle()
    expect(next.server?.identity.host).toBe('db2')
    giveBack(world, worker)
    expect(old?.state).toBe('closed')
  })

  test('a changed dbname of the entry is a changed address too', async () => {
    const world = new World({ ini: plainIni() })
    const worker = await working(world)
    const old = worker.server
    giveBack(world, worker)
    world.pools.setConfig(configFrom(plainIni('', 'dbname=shop')))
    expect(old?.state).toBe('closed')
  })

  test('a removed database takes its servers and sessions with it', async () => {
    const world = new World({ ini: plainIni('default_pool_size = 1') })
    const pool = world.pool()
    const worker = await working(world)
    const waiter = world.waiter()
    pool.acquire(waiter)
    world.pools.setConfig(configFrom('[databases]\nother = host=db1\n'))
    await flush()
    expect(waiter.error?.code).toBe('database_removed')
    expect(worker.lost?.code).toBe('database_removed')
    expect(world.pools.facts().pools).toHaveLength(0)
    const late = world.waiter()
    pool.acquire(late)
    expect(late.error?.code).toBe('database_removed')
  })
})

test('facts count the lists', async () => {
  const world = new World()
  world.pools.setTopology(topology())
  const one = await working(world)
  const two = await working(world)
  const third = world.waiter()
  world.pool().acquire(third)
  giveBack(world, two)
  if (one.server !== null) void world.pool().cancel(one.server)
  const [pool] = world.pools.facts().pools
  const pg1 = pool?.members.find((facts) => facts.member === 'pg1')
  expect(pg1).toMatchObject({ role: 'primary', active: 2, idle: 0, login: 0, beingCanceled: 1 })
  expect(pool).toMatchObject({ serversOpened: 2, poolSize: 2, isRouted: true })
  expect(pool?.waits).toMatchObject({ waiting: 0, held: 0 })
})
