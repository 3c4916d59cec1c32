import { describe, expect, test } from 'vitest'
import { ProxyError } from '../../../src/base/errors.ts'
import {
  flush,
  member,
  plainIni,
  primary,
  routedIni,
  topology,
  World,
} from '../../support/pools.ts'

function refusal(sqlstate: string, reason: string): ProxyError {
  return new ProxyError('server_login_failed', { sqlstate, reason })
}

const DOWN = new ProxyError('server_connect', { reason: 'connection refused' })

describe('a plain entry', () => {
  test("sessions that wait get the server's own error", async () => {
    const world = new World({ ini: plainIni() })
    const waiter = world.waiter()
    world.pool().acquire(waiter)
    await world.open[0]?.fail(refusal('28P01', 'password authentication failed for user "alice"'))
    expect(waiter.error?.sqlstate).toBe('28P01')
    expect(waiter.error?.message).toContain('password authentication failed')
  })

  test('57P03 and a refused connection keep them waiting', async () => {
    const world = new World({ ini: plainIni('server_login_retry = 2') })
    const waiter = world.waiter()
    world.pool().acquire(waiter)
    await world.open[0]?.fail(refusal('57P03', 'the database system is starting up'))
    expect(world.open).toHaveLength(0)
    await world.pass(2400)
    await world.open[0]?.fail(DOWN)
    await world.pass(2400)
    await world.settle()
    expect(waiter.error).toBeNull()
    expect(waiter.server).not.toBeNull()
  })

  test('within server_login_retry new sessions fail at once, with the cached error', async () => {
    const world = new World({ ini: plainIni() })
    world.pool().acquire(world.waiter())
    await world.open[0]?.fail(DOWN)
    const late = world.waiter()
    world.pool().acquire(late)
    expect(late.error?.message).toBe(
      'server login has been failing, cached error: connect failed: connection refused (server_login_retry)',
    )
    await expect(world.pool().welcome()).rejects.toMatchObject({ code: 'server_login_failing' })
  })

  test('but wait while there is a server', async () => {
    const world = new World({ ini: plainIni() })
    world.pool().acquire(world.waiter())
    await world.settle()
    world.pool().acquire(world.waiter())
    await world.open[0]?.fail(DOWN)
    const late = world.waiter()
    world.pool().acquire(late)
    expect(late.error).toBeNull()
  })
})

describe('a routed entry', () => {
  test('a primary that refuses connections is tried again soon, and nobody is failed', async () => {
    const world = new World()
    world.pools.setTopology(topology())
    const write = world.waiter()
    world.pool().acquire(write)
    await world.open[0]?.fail(DOWN)
    const second = world.waiter()
    world.pool().acquire(second)
    await world.pass(400)
    expect(world.open.length).toBeGreaterThan(0)
    await world.settle()
    expect([write.error, second.error]).toEqual([null, null])
    expect(write.server).not.toBeNull()
  })

  test('reads leave a replica that cannot be logged in to', async () => {
    const world = new World()
    world.pools.setTopology(topology())
    const read = world.waiter({ wantsRole: 'replica' })
    world.pool().acquire(read)
    const failed = world.open[0]?.target.identity.member
    await world.open[0]?.fail(DOWN)
    await world.settle()
    expect(read.server?.identity.role).toBe('replica')
    expect(read.server?.identity.member).not.toBe(failed)
  })

  test('reads go to the primary when no replica can be logged in to', async () => {
    const world = new World()
    world.pools.setTopology(topology({ members: [primary('pg1'), member('pg2')] }))
    const read = world.waiter({ wantsRole: 'replica' })
    world.pool().acquire(read)
    await world.open[0]?.fail(DOWN)
    await world.settle()
    expect(read.server?.identity.member).toBe('pg1')
  })

  test("a wrong password is told in the server's words, then from memory", async () => {
    const refused: string[] = []
    const world = new World({ onSecretRefused: (_, user) => refused.push(user) })
    world.pools.setTopology(topology())
    const write = world.waiter()
    world.pool().acquire(write)
    await world.open[0]?.fail(refusal('28P01', 'password authentication failed'))
    expect(write.error?.sqlstate).toBe('28P01')
    expect(refused).toEqual(['alice'])
    const next = world.waiter()
    world.pool().acquire(next)
    expect(next.error?.code).toBe('server_login_failing')
  })

  test('a new secret of the user is tried at once', async () => {
    const world = new World()
    world.pools.setTopology(topology())
    world.pool().acquire(world.waiter())
    await world.open[0]?.fail(refusal('28P01', 'password authentication failed'))
    const pool = world.pools.pool('app', 'alice', { kind: 'plain', password: 'new' })
    const next = world.waiter()
    pool.acquire(next)
    await world.settle()
    expect(next.server).not.toBeNull()
  })
})

describe('welcome', () => {
  test('comes from a server of any role, without a primary', async () => {
    const world = new World()
    world.pools.setTopology(topology({ primary: null, members: [member('pg2')] }))
    const welcome = world.pool().welcome()
    await world.open[0]?.succeed({ server_version: '18.1' })
    expect((await welcome).get('server_version')).toBe('18.1')
    expect(world.attempts).toHaveLength(1)
  })

  test('needs no server once it is known', async () => {
    const world = new World()
    world.pools.setTopology(topology())
    const first = world.pool().welcome()
    await world.settle()
    await first
    world.pools.setTopology(topology({ term: 2, primary: null, members: [] }))
    await expect(world.pool().welcome()).resolves.toBeInstanceOf(Map)
  })

  test('tries another member when one refuses connections', async () => {
    const world = new World()
    world.pools.setTopology(topology())
    const welcome = world.pool().welcome()
    await world.open[0]?.fail(DOWN)
    await world.settle()
    await expect(welcome).resolves.toBeInstanceOf(Map)
  })

  test('ends with client_login_timeout', async () => {
    const world = new World({ ini: routedIni('client_login_timeout = 3') })
    const welcome = world.pool().welcome()
    const ended = expect(welcome).rejects.toMatchObject({ code: 'client_login_timeout_server' })
    await world.pass(3400)
    await ended
  })

  test("passes on the server's own refusal", async () => {
    const world = new World({ ini: plainIni() })
    const ended = expect(world.pool().welcome()).rejects.toMatchObject({ sqlstate: '3D000' })
    await world.open[0]?.fail(refusal('3D000', 'database "app" does not exist'))
    await ended
  })
})

test('what the entry sets is asked for at log-in, and connect_query runs before the first use', async () => {
  const ini = plainIni('', "timezone=UTC application_name=shop connect_query='set jit to off'")
  const world = new World({ ini })
  const waiter = world.waiter()
  world.pool().acquire(waiter)
  expect(Object.fromEntries(world.open[0]?.target.parameters ?? [])).toEqual({
    timezone: 'UTC',
    application_name: 'shop',
  })
  const channel = await world.open[0]?.succeed()
  await flush()
  expect(channel?.queries).toEqual(['set jit to off'])
  expect(waiter.server).not.toBeNull()
})

describe('a server that is lost', () => {
  test('makes its member suspect, one that is closed does not', async () => {
    const world = new World({ ini: plainIni() })
    const waiter = world.waiter()
    world.pool().acquire(waiter)
    await world.settle()
    const { server } = waiter
    if (server === null) throw new Error('no server was granted')
    world.channelOf(server).finish()
    expect(world.lost).toEqual([server.identity.member])
    const next = world.waiter()
    world.pool().acquire(next)
    await world.settle()
    if (next.server !== null) world.pool().discard(next.server, DOWN)
    await flush()
    expect(world.lost).toHaveLength(1)
  })
})
