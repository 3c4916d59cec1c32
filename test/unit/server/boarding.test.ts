/** Which servers are shared, who boards where, and when one has to make way. */
import { describe, expect, test } from 'vitest'
import type { Carrier } from '../../../src/server/boarding.ts'
import type { ServerConnection } from '../../../src/server/connection.ts'
import type { MemberPool } from '../../../src/server/member-pool.ts'
import type { Pool } from '../../../src/server/pool.ts'
import { internSettings, NO_SETTINGS } from '../../../src/server/settings.ts'
import {
  FakeWaiter,
  member,
  plainIni,
  primary,
  routedIni,
  topology,
  World,
} from '../../support/pools.ts'

const OTHER = internSettings(new Map([['datestyle', 'SET datestyle TO ISO']]))

/** Has room for two, and remembers who boarded. */
class FakeCarrier implements Carrier {
  readonly server: ServerConnection
  readonly settings: Carrier['settings']
  readonly home: MemberPool
  readonly riders: FakeWaiter[] = []
  isRetiring = false
  isOpen = false
  readonly #pool: Pool

  constructor(server: ServerConnection, pool: Pool) {
    this.server = server
    this.settings = server.settings
    if (server.home === null) throw new Error('no home')
    this.home = server.home
    this.#pool = pool
  }

  get count(): number {
    return this.riders.length
  }
  get hasRoom(): boolean {
    return this.isOpen && !this.isRetiring && this.riders.length < 2
  }
  open(): void {
    this.isOpen = true
    this.#pool.boarding.fill(this)
  }
  /** The first is answered. */
  answer(): void {
    this.riders.shift()
    if (this.isRetiring && this.riders.length === 0) this.giveBack()
    else this.#pool.boarding.fill(this)
  }
  retire(): void {
    this.isRetiring = true
    if (this.riders.length === 0) this.giveBack()
  }
  giveBack(): void {
    this.#pool.boarding.leave(this)
    this.#pool.release(this.server, this)
  }
  onServerBytes(): void {}
  onServerDrain(): void {}
  onServerClosed(): void {}
}

class Rider extends FakeWaiter {
  mayRide = true
  carrier: FakeCarrier | null = null
  readonly #pool: Pool

  constructor(id: number, pool: Pool, fields: Partial<FakeWaiter> = {}) {
    super(id, { wantsRole: 'any', ...fields })
    this.#pool = pool
  }

  carries(server: ServerConnection): Carrier {
    return new FakeCarrier(server, this.#pool)
  }
  boards(carrier: Carrier): void {
    if (!(carrier instanceof FakeCarrier)) throw new Error('another carrier')
    carrier.riders.push(this)
    this.carrier = carrier
  }
}

class Scene {
  readonly world: World
  readonly pool: Pool
  #id = 0

  constructor(ini = plainIni()) {
    this.world = new World({ ini })
    this.pool = this.world.pool()
  }

  rider(fields: Partial<FakeWaiter> = {}): Rider {
    this.#id += 1
    const rider = new Rider(this.#id, this.pool, fields)
    this.pool.acquire(rider)
    return rider
  }

  loner(fields: Partial<FakeWaiter> = {}): FakeWaiter {
    const loner = this.world.waiter({ wantsRole: 'any', ...fields })
    this.pool.acquire(loner)
    return loner
  }

  release(waiter: FakeWaiter): void {
    const { server } = waiter
    if (server === null) throw new Error('no server')
    waiter.server = null
    this.pool.release(server, waiter)
  }
}

/** Two servers, both held; then so many riders wait. */
async function exhausted(riders: number): Promise<[Scene, FakeWaiter, FakeWaiter, Rider[]]> {
  const scene = new Scene()
  const [one, other] = [scene.loner(), scene.loner()]
  await scene.world.settle()
  return [scene, one, other, Array.from({ length: riders }, () => scene.rider())]
}

describe('a server becomes shared', () => {
  test('when two wait that may share it, and none can be opened', async () => {
    const [scene, one, , [first, second, third]] = await exhausted(3)
    scene.release(one)
    expect([first, second].map((rider) => rider?.carrier?.count)).toEqual([2, 2])
    expect(third?.waitReason).toBe('pool')
    first?.carrier?.answer()
    expect(third?.carrier).toBe(second?.carrier)
  })

  test('never for one alone', async () => {
    const [scene, one, , [only]] = await exhausted(1)
    scene.release(one)
    expect(only?.server).not.toBeNull()
    expect(scene.pool.boarding.count).toBe(0)
  })

  test('never while the pool may grow', async () => {
    const scene = new Scene(plainIni('', 'pool_size=9'))
    const one = scene.loner()
    await scene.world.settle()
    const riders = [scene.rider(), scene.rider(), scene.rider()]
    scene.release(one)
    expect(riders.map(({ carrier }) => carrier)).toEqual([null, null, null])
  })

  test('also where a limit of the member keeps the pool from growing', async () => {
    const scene = new Scene(plainIni('max_db_connections = 1'))
    const one = scene.loner()
    await scene.world.settle()
    const riders = [scene.rider(), scene.rider()]
    scene.release(one)
    expect(riders.map(({ carrier }) => carrier?.count)).toEqual([2, 2])
  })

  test('never with other settings than those who wait have', async () => {
    const scene = new Scene()
    const one = scene.loner()
    scene.loner()
    await scene.world.settle()
    const riders = [scene.rider({ settings: OTHER }), scene.rider({ settings: OTHER })]
    scene.release(one)
    expect(riders[0]?.server?.settings).toBe(NO_SETTINGS)
    expect(scene.pool.boarding.count).toBe(0)
  })

  test('never when that would leave none for one who needs it alone', async () => {
    const [scene, one, other, riders] = await exhausted(2)
    scene.release(one)
    expect(riders.map(({ carrier }) => carrier?.count)).toEqual([2, 2])
    const more = [scene.rider(), scene.rider()]
    const loner = scene.loner()
    scene.release(other)
    expect(more.map(({ carrier, server }) => carrier ?? server?.id ?? null)).toEqual([
      expect.any(Number),
      null,
    ])
    expect(loner.server).toBeNull()
  })
})

describe('boarding', () => {
  test('happens where fewest ride', async () => {
    const [scene, one, other] = await exhausted(4)
    scene.release(one)
    scene.release(other)
    const [first, second] = [...scene.pool.roster.members.values()][0]?.carriers ?? []
    ;(second as FakeCarrier).answer()
    const next = scene.rider()
    expect(next.carrier).toBe(second)
    expect([first?.count, second?.count]).toEqual([2, 2])
  })

  test('keeps the order of arrival', async () => {
    const [scene, one, , [first, second, third]] = await exhausted(3)
    scene.release(one)
    const fourth = scene.rider()
    expect([first, second, third, fourth].map((rider) => rider?.carrier !== null)).toEqual([
      true,
      true,
      false,
      false,
    ])
    first?.carrier?.answer()
    expect([third, fourth].map((rider) => rider?.carrier !== null)).toEqual([true, false])
  })

  test('is not for other settings', async () => {
    const [scene, one, , [first]] = await exhausted(2)
    scene.release(one)
    first?.carrier?.answer()
    expect(scene.rider({ settings: OTHER }).carrier).toBeNull()
  })

  test('a free server is preferred while there are as many as there is work', async () => {
    const [scene, one, other, [first, second]] = await exhausted(2)
    scene.release(one)
    first?.carrier?.answer()
    second?.carrier?.answer()
    scene.release(other)
    const next = scene.rider()
    expect(next.carrier).toBeNull()
    expect(next.server).not.toBeNull()
    expect(scene.rider().carrier).not.toBeNull()
  })

  test('ends with PAUSE', async () => {
    const [scene, one, , [first]] = await exhausted(2)
    scene.release(one)
    const carrier = first?.carrier
    void scene.world.pools.pause('app')
    expect(carrier === null || carrier === undefined || scene.pool.boarding.isOver(carrier)).toBe(
      true,
    )
    carrier?.answer()
    expect(scene.rider().carrier).toBeNull()
  })

  test('who goes while it waits does not board', async () => {
    const [scene, one, , [first, second, third]] = await exhausted(3)
    if (second !== undefined) scene.pool.withdraw(second)
    scene.release(one)
    expect([first, third].map((rider) => rider?.carrier?.count)).toEqual([2, 2])
    expect(second?.carrier).toBeNull()
  })
})

describe('a shared server makes way', () => {
  test('at once for who needs one alone, where there is no other', async () => {
    const [scene, one, other, riders] = await exhausted(4)
    scene.release(one)
    scene.release(other)
    expect(scene.pool.boarding.count).toBe(2)
    const loner = scene.loner()
    expect(scene.pool.boarding.count).toBe(2)
    riders[0]?.carrier?.answer()
    riders[1]?.carrier?.answer()
    expect(loner.server).not.toBeNull()
    expect(scene.pool.boarding.count).toBe(1)
  })

  test('and no more than half of them, however many wait', async () => {
    const [scene, one, other] = await exhausted(4)
    scene.release(one)
    scene.release(other)
    for (let count = 0; count < 5; count += 1) scene.loner()
    const carriers = [...scene.pool.roster.members.values()][0]?.carriers ?? []
    expect(carriers.filter(({ isRetiring }) => isRetiring)).toHaveLength(1)
    expect(carriers).toHaveLength(2)
  })
})

test('reads of a cluster share the servers of replicas that may serve them', async () => {
  const scene = new Scene(routedIni())
  scene.world.pools.setTopology(
    topology({ members: [primary('pg1'), member('pg2'), member('pg3', { eligible: false })] }),
  )
  const one = scene.loner({ wantsRole: 'replica' })
  scene.loner({ wantsRole: 'replica' })
  await scene.world.settle()
  const riders = [scene.rider({ wantsRole: 'replica' }), scene.rider({ wantsRole: 'replica' })]
  scene.release(one)
  expect(riders.map(({ carrier }) => carrier?.home.name)).toEqual(['pg2', 'pg2'])
  scene.world.pools.setTopology(
    topology({
      serial: 2,
      members: [primary('pg1'), member('pg2', { eligible: false }), member('pg3')],
    }),
  )
  riders[0]?.carrier?.answer()
  expect(scene.rider({ wantsRole: 'replica' }).carrier).toBeNull()
})
