import { describe, expect, test } from 'vitest'
import { ProxyError } from '../../../src/base/errors.ts'
import { CLEAN_SQL } from '../../../src/server/cleaning.ts'
import type { ServerConnection } from '../../../src/server/connection.ts'
import type { Pool } from '../../../src/server/pool.ts'
import { NO_SETTINGS, withSetting } from '../../../src/server/settings.ts'
import {
  type FakeChannel,
  type FakeWaiter,
  flush,
  plainIni,
  topology,
  World,
} from '../../support/pools.ts'

interface Held {
  readonly world: World
  readonly pool: Pool
  readonly waiter: FakeWaiter
  readonly server: ServerConnection
  readonly channel: FakeChannel
}

async function held(ini: string): Promise<Held> {
  const world = new World({ ini })
  const pool = world.pool()
  const waiter = world.waiter()
  pool.acquire(waiter)
  await world.settle()
  const { server } = waiter
  if (server === null) throw new Error('no server')
  return { world, pool, waiter, server, channel: world.channelOf(server) }
}

describe('cleaning', () => {
  test('session mode runs server_reset_query before anybody else gets the server', async () => {
    const { world, pool, waiter, server, channel } = await held(
      plainIni('pool_mode = session\ndefault_pool_size = 1'),
    )
    const next = world.waiter()
    pool.acquire(next)
    server.settings = withSetting(NO_SETTINGS, 'role', 'SET ROLE bob')
    server.isUnclean = true
    channel.answers = false
    pool.release(server, waiter)
    expect(channel.queries).toEqual(['DISCARD ALL'])
    expect([server.state, next.server]).toEqual(['tested', null])
    channel.answer()
    expect(next.server).toBe(server)
    expect(server.settings).toBe(NO_SETTINGS)
    expect(server.isUnclean).toBe(false)
  })

  test('transaction mode runs nothing for a clean server', async () => {
    const { pool, waiter, server, channel } = await held(plainIni())
    pool.release(server, waiter)
    expect(channel.queries).toEqual([])
    expect(server.state).toBe('idle')
  })

  test('hidden effects are undone', async () => {
    const { pool, waiter, server, channel } = await held(plainIni())
    server.isUnclean = true
    server.settings = withSetting(NO_SETTINGS, 'role', 'SET ROLE bob')
    pool.release(server, waiter)
    await flush()
    expect(channel.queries).toEqual([CLEAN_SQL])
    expect(server.isUnclean).toBe(false)
    expect(server.settings).toBe(NO_SETTINGS)
    expect(server.state).toBe('idle')
  })

  test('server_clean = never leaves them, always undoes what is not there', async () => {
    const never = await held(plainIni('', 'server_clean=never'))
    never.server.isUnclean = true
    never.pool.release(never.server, never.waiter)
    expect(never.channel.queries).toEqual([])
    const always = await held(plainIni('', 'server_clean=always'))
    always.pool.release(always.server, always.waiter)
    expect(always.channel.queries).toEqual([CLEAN_SQL])
  })

  test('a server that cannot be cleaned is closed', async () => {
    const { pool, waiter, server, channel } = await held(plainIni())
    server.isUnclean = true
    channel.fails = true
    pool.release(server, waiter)
    await flush()
    expect(server.state).toBe('closed')
    expect(pool.fleet.size).toBe(0)
  })

  test('a server that does not answer the cleaning is cut off', async () => {
    const { world, pool, waiter, server, channel } = await held(
      plainIni('server_connect_timeout = 3'),
    )
    server.isUnclean = true
    channel.answers = false
    pool.release(server, waiter)
    await world.pass(3400)
    expect(server.state).toBe('closed')
    expect(channel.isClosed).toBe(true)
  })
})

describe('cancel', () => {
  test('a server is handed on only when the cancel connection ended', async () => {
    const { world, pool, waiter, server } = await held(plainIni('default_pool_size = 1'))
    const next = world.waiter()
    pool.acquire(next)
    void pool.cancel(server)
    void pool.cancel(server)
    pool.release(server, waiter)
    expect(server.state).toBe('active_cancel')
    world.cancels[0]?.end()
    await flush()
    expect(next.server).toBeNull()
    world.cancels[1]?.end()
    await flush()
    expect(next.server).toBe(server)
  })

  test('one that ended before the release costs nothing', async () => {
    const { world, pool, waiter, server } = await held(plainIni())
    void pool.cancel(server)
    world.cancels[0]?.end()
    await flush()
    pool.release(server, waiter)
    expect(server.state).toBe('idle')
  })

  test('one that did not end in time closes the server', async () => {
    const { world, pool, waiter, server } = await held(plainIni())
    void pool.cancel(server)
    pool.release(server, waiter)
    world.cancels[0]?.expire()
    await flush()
    expect(server.state).toBe('closed')
  })

  test('one that is never heard of again closes the server after cancel_wait_timeout', async () => {
    const { world, pool, waiter, server } = await held(plainIni('cancel_wait_timeout = 2'))
    void pool.cancel(server)
    pool.release(server, waiter)
    await world.pass(2400)
    expect(server.state).toBe('closed')
  })
})

describe('time', () => {
  test('servers end after server_idle_timeout, and are checked after server_check_delay', async () => {
    const { world, pool, waiter, server, channel } = await held(
      plainIni('server_idle_timeout = 10\nserver_check_delay = 3'),
    )
    pool.release(server, waiter)
    await world.pass(3400)
    expect(server.state).toBe('used')
    const next = world.waiter()
    pool.acquire(next)
    await flush()
    expect(channel.queries).toEqual([''])
    expect(next.server).toBe(server)
    pool.release(server, next)
    await world.pass(11_000)
    expect(server.state).toBe('closed')
    expect(channel.isTerminated).toBe(true)
  })

  test('a check that fails closes the server and the session gets another', async () => {
    const { world, pool, waiter, server, channel } = await held(plainIni('server_check_delay = 3'))
    pool.release(server, waiter)
    await world.pass(3400)
    channel.fails = true
    const next = world.waiter()
    pool.acquire(next)
    await world.settle()
    await world.settle()
    expect(server.state).toBe('closed')
    expect(next.server).not.toBeNull()
  })

  test('servers older than server_lifetime end when they come back, 0 means after one use', async () => {
    const old = await held(plainIni('server_lifetime = 60'))
    await old.world.pass(61_000)
    expect(old.server.state).toBe('active')
    old.pool.release(old.server, old.waiter)
    expect(old.server.state).toBe('closed')
    const single = await held(plainIni('server_lifetime = 0'))
    single.pool.release(single.server, single.waiter)
    expect(single.server.state).toBe('closed')
  })

  test('servers that were opened together do not end together', async () => {
    const world = new World({ ini: plainIni('server_lifetime = 60\nserver_check_delay = 600') })
    const waiters = [world.waiter(), world.waiter()]
    for (const waiter of waiters) world.pool().acquire(waiter)
    await world.settle()
    for (const waiter of waiters)
      if (waiter.server !== null) world.pool().release(waiter.server, waiter)
    await world.pass(60_500)
    expect(world.pool().fleet.size).toBe(1)
    await world.pass(31_000)
    expect(world.pool().fleet.size).toBe(0)
  })

  test('a session waits query_wait_timeout and is told after query_wait_notify', async () => {
    const { world, pool } = await held(
      plainIni('default_pool_size = 1\nquery_wait_timeout = 20\nquery_wait_notify = 5'),
    )
    const waiter = world.waiter()
    pool.acquire(waiter)
    await world.pass(5400)
    expect(waiter.notices).toEqual([
      'No server connection available in postgres backend, client being queued',
    ])
    await world.pass(15_000)
    expect(waiter.error?.code).toBe('query_wait_timeout')
    expect(waiter.notices).toHaveLength(1)
  })

  test('min_pool_size is kept while a session is logged in', async () => {
    const world = new World({ ini: plainIni('min_pool_size = 2\ndefault_pool_size = 5') })
    const pool = world.pool()
    await world.pass(400)
    expect(world.open).toHaveLength(0)
    pool.join()
    await world.pass(400)
    await world.settle()
    expect(pool.fleet.size).toBe(2)
  })

  test('a pool that no server ever took is forgotten soon', async () => {
    const world = new World({ ini: `[databases]\n* = host=db1\n` })
    const refused = expect(world.pool('nowhere').welcome()).rejects.toMatchObject({
      sqlstate: '3D000',
    })
    await world.open[0]?.fail(
      new ProxyError('server_login_failed', { sqlstate: '3D000', reason: 'does not exist' }),
    )
    await refused
    await world.pass(16_000)
    expect(world.pools.facts().pools).toHaveLength(0)
  })

  test('pools of `*` that nobody uses are forgotten, and come back when used', async () => {
    const world = new World({
      ini: `[databases]\n* = host=db1\n[pgbouncer]\nautodb_idle_timeout = 100\n`,
    })
    const pool = world.pool('some')
    await world.pass(101_000)
    expect(world.pools.facts().pools).toHaveLength(0)
    const waiter = world.waiter()
    pool.acquire(waiter)
    await world.settle()
    expect(waiter.server).not.toBeNull()
    expect(world.pools.facts().pools).toHaveLength(1)
    expect(world.pool('some')).toBe(pool)
  })
})

test('server_fast_close ends outdated servers of idle sessions in session mode', async () => {
  const { world, pool, waiter, server } = await held(
    plainIni('pool_mode = session\nserver_fast_close = 1'),
  )
  world.pools.reconnect()
  expect(server.state).toBe('active')
  await world.pass(400)
  expect(server.state).toBe('closed')
  expect(waiter.lost?.code).toBe('database_changed')
  expect(pool.fleet.size).toBe(0)
})

describe('discard', () => {
  test('cuts the server off without calling its holder', async () => {
    const { pool, waiter, server, channel } = await held(plainIni())
    pool.discard(server, new ProxyError('query_timeout'))
    await flush()
    expect(channel.isClosed).toBe(true)
    expect(waiter.lost).toBeNull()
    expect(pool.fleet.size).toBe(0)
  })
})

describe('replication', () => {
  test('gets a connection of its own to the primary, closed with its client', async () => {
    const world = new World()
    world.pools.setTopology(topology())
    const pool = world.pool()
    const holder = world.waiter()
    const opening = pool.openReplication(
      { replication: 'logical', role: 'primary', parameters: new Map() },
      holder,
    )
    expect(world.open[0]?.target).toMatchObject({
      replication: 'logical',
      identity: { member: 'pg1' },
    })
    await world.settle()
    const server = await opening
    expect(server.holder).toBe(holder)
    expect(world.pools.facts().servers[0]).toMatchObject({
      replication: 'logical',
      clientId: holder.clientId,
    })
    pool.release(server, holder)
    expect(server.state).toBe('closed')
  })

  test('is refused without a primary', async () => {
    const world = new World()
    const opening = world
      .pool()
      .openReplication(
        { replication: 'physical', role: 'primary', parameters: new Map() },
        world.waiter(),
      )
    await expect(opening).rejects.toMatchObject({ code: 'replication_refused' })
  })
})
