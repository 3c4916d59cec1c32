import { describe, expect, test } from 'vitest'
import { ProxyError } from '../../../src/base/errors.ts'
import { NO_SETTINGS, withSetting } from '../../../src/server/settings.ts'
import { backend } from '../../support/bytes.ts'
import { flush, plainIni, routedIni, topology, World } from '../../support/pools.ts'

describe('granting', () => {
  test('a session waits for a new server and has it when the log-in is done', async () => {
    const world = new World({ ini: plainIni() })
    const waiter = world.waiter()
    world.pool().acquire(waiter)
    expect(world.open).toHaveLength(1)
    expect(waiter.waitReason).toBe('pool')
    await world.settle()
    expect(waiter.server?.state).toBe('active')
    expect(waiter.waitReason).toBeNull()
  })

  test('a free server is granted inside the call', async () => {
    const world = new World({ ini: plainIni() })
    const pool = world.pool()
    const first = world.waiter()
    pool.acquire(first)
    await world.settle()
    const { server } = first
    if (server === null) throw new Error('no server')
    pool.release(server, first)
    expect(server.state).toBe('idle')
    const second = world.waiter()
    pool.acquire(second)
    expect(second.server).toBe(server)
  })

  test('a freed server goes to the oldest waiter inside the release', async () => {
    const world = new World({ ini: plainIni('default_pool_size = 1') })
    const pool = world.pool()
    const waiters = [world.waiter(), world.waiter(), world.waiter()] as const
    for (const waiter of waiters) pool.acquire(waiter)
    await world.settle()
    expect(world.attempts).toHaveLength(1)
    const { server } = waiters[0]
    if (server === null) throw new Error('no server')
    pool.release(server, waiters[0])
    expect(waiters[1].server).toBe(server)
    expect(waiters[2].server).toBeNull()
  })

  test('writes go to the primary and reads to replicas', async () => {
    const world = new World({ ini: routedIni() })
    world.pools.setTopology(topology())
    const write = world.waiter()
    const read = world.waiter({ wantsRole: 'replica' })
    world.pool().acquire(write)
    world.pool().acquire(read)
    await world.settle()
    expect(write.server?.identity.member).toBe('pg1')
    expect(read.server?.identity.role).toBe('replica')
  })

  test('a server whose settings are the wanted ones is preferred', async () => {
    const world = new World({ ini: plainIni() })
    const pool = world.pool()
    const one = world.waiter()
    const two = world.waiter()
    pool.acquire(one)
    pool.acquire(two)
    await world.settle()
    const settings = withSetting(NO_SETTINGS, 'search_path', 'SET search_path TO x')
    const [wanted, other] = [one.server, two.server]
    if (wanted === null || other === null) throw new Error('no server')
    wanted.settings = settings
    pool.release(wanted, one)
    pool.release(other, two)
    const third = world.waiter({ settings })
    pool.acquire(third)
    expect(third.server).toBe(wanted)
  })
})

describe('release', () => {
  test('a server in a transaction is closed, not reused', async () => {
    const world = new World({ ini: plainIni() })
    const pool = world.pool()
    const waiter = world.waiter()
    pool.acquire(waiter)
    await world.settle()
    const { server } = waiter
    if (server === null) throw new Error('no server')
    world.channelOf(server).openTransaction()
    pool.release(server, waiter)
    await flush()
    expect(server.state).toBe('closed')
    expect(pool.fleet.size).toBe(0)
  })

  test('a server that a slow client stopped reads again for the next', async () => {
    const world = new World({ ini: plainIni() })
    const waiter = world.waiter()
    world.pool().acquire(waiter)
    await world.settle()
    const channel = world.channelOf(waiter.server)
    channel.pause()
    if (waiter.server !== null) world.pool().release(waiter.server, waiter)
    expect(channel.isPaused).toBe(false)
  })

  test('a free server that was terminated is given to nobody, though its socket is still open', async () => {
    const world = new World({ ini: plainIni() })
    const pool = world.pool()
    const [holder, next] = [world.waiter(), world.waiter()]
    pool.acquire(holder)
    await world.settle()
    const terminated = holder.server
    if (terminated !== null) pool.release(terminated, holder)
    world.channelOf(terminated).sayFarewell()
    pool.acquire(next)
    expect(next.server).toBeNull()
    await world.settle()
    expect(next.server).not.toBeNull()
    expect(next.server).not.toBe(terminated)
    expect(next.lost).toBeNull()
  })

  test.each(['57P01', '57P02'])(
    'a free server that warns of its end by %s is given to nobody',
    async (sqlstate) => {
      const world = new World({ ini: plainIni() })
      const pool = world.pool()
      const [holder, next] = [world.waiter(), world.waiter()]
      pool.acquire(holder)
      await world.settle()
      const ending = holder.server
      if (ending !== null) pool.release(ending, holder)
      ending?.onBytes(backend.noticeResponse(sqlstate, 'terminating connection', 'WARNING'))
      pool.acquire(next)
      expect(next.server).toBeNull()
      await world.settle()
      expect(next.server).not.toBe(ending)
      expect(next.lost).toBeNull()
    },
  )

  test('a server that is lost tells its holder and frees its place', async () => {
    const world = new World({ ini: plainIni('default_pool_size = 1') })
    const pool = world.pool()
    const [holder, next] = [world.waiter(), world.waiter()]
    pool.acquire(holder)
    pool.acquire(next)
    await world.settle()
    world.channelOf(holder.server).finish(new ProxyError('server_lost'))
    expect(holder.lost?.code).toBe('server_lost')
    await world.settle()
    expect(next.server).not.toBeNull()
  })
})
