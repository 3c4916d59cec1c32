/**
 * Random lives of a few pools: sessions come, wait, work, go wrong; servers are opened, lost,
 * cancelled; the topology changes. After each step what must always hold is looked at.
 */
import { test } from '@fast-check/vitest'
import { array, boolean, constantFrom, nat, record } from 'fast-check'
import { expect } from 'vitest'
import { ProxyError } from '../../../src/base/errors.ts'
import type { ServerConnection } from '../../../src/server/connection.ts'
import type { Pool } from '../../../src/server/pool.ts'
import {
  type FakeWaiter,
  flush,
  member,
  plainIni,
  primary,
  routedIni,
  topology,
  World,
} from '../../support/pools.ts'

const OPERATIONS = [
  'acquire',
  'acquire',
  'acquire',
  'withdraw',
  'release',
  'release',
  'release dirty',
  'release in transaction',
  'discard',
  'lose',
  'log in',
  'log in',
  'log in',
  'log-in fails',
  'log-in refused',
  'cancel',
  'cancel ends',
  'cancel expires',
  'time',
  'long time',
  'topology',
  'pause',
  'resume',
] as const

type Operation = (typeof OPERATIONS)[number]
type Work = 'release' | 'release dirty' | 'release in transaction' | 'discard' | 'cancel'
type Outside =
  | 'log in'
  | 'log-in fails'
  | 'log-in refused'
  | 'time'
  | 'long time'
  | 'topology'
  | 'pause'
  | 'resume'

interface Step {
  readonly operation: Operation
  /** Chooses among what there is. */
  readonly pick: number
}

const steps = array(record({ operation: constantFrom(...OPERATIONS), pick: nat(1000) }), {
  minLength: 60,
  maxLength: 120,
  size: 'max',
})

/** On a busy machine. */
const TEST_MS_MAX = 60_000
const LIMITS = 'default_pool_size = 2\nmax_db_connections = 3\nserver_check_delay = 3'
const TOPOLOGIES = [
  topology({ term: 1 }),
  topology({ term: 1, primary: null, missing: 'not confirmed' }),
  topology({ term: 2, primary: 'pg2', members: [member('pg1'), primary('pg2'), member('pg3')] }),
  topology({ term: 3, primary: null, missing: 'nobody leads', members: [member('pg3')] }),
  topology({ term: 4, members: [primary('pg1'), member('pg2', { eligible: false })] }),
]

class Life {
  readonly world: World
  readonly pools: readonly Pool[]
  /** In order of arrival, per pool. */
  readonly waiting = new Map<FakeWaiter, Pool>()
  readonly working = new Map<FakeWaiter, Pool>()
  readonly #isRouted: boolean
  #term = 0
  #shape = 0

  constructor(isRouted: boolean) {
    this.#isRouted = isRouted
    const ini = isRouted ? routedIni(LIMITS, 'member_connections_max = 3') : plainIni(LIMITS)
    let draw = 0
    this.world = new World({
      ini,
      random: () => {
        draw = (draw * 16_807 + 11) % 2_147_483_647
        return draw / 2_147_483_647
      },
    })
    this.pools = [this.world.pool('app', 'alice'), this.world.pool('app', 'bob')]
    this.changeTopology(0)
  }

  async run(step: Step): Promise<void> {
    this.apply(step)
    await flush()
    this.collect()
    this.check()
  }

  /** Everything that can end does; who still waits then was forgotten. */
  async end(): Promise<void> {
    this.world.pools.resume()
    this.changeTopology(0)
    for (let turn = 0; turn < 100 && this.waiting.size + this.working.size > 0; turn += 1) {
      await this.run({ operation: 'time', pick: 0 })
      for (const cancel of this.world.cancels) cancel.end()
      await this.world.settle()
      this.collect()
      for (const waiter of this.working.keys()) this.giveBack(waiter)
      await flush()
      this.collect()
    }
    expect(this.waiting.size).toBe(0)
  }

  apply({ operation, pick }: Step): void {
    const worker = pickOf([...this.working.keys()], pick)
    switch (operation) {
      case 'acquire':
        this.acquire(pick)
        break
      case 'withdraw':
        this.withdraw(pickOf([...this.waiting.keys()], pick))
        break
      case 'lose':
        this.lose(pickOf(this.servers(), pick))
        break
      case 'cancel ends':
        this.world.cancels.splice(0, 1)[0]?.end()
        break
      case 'cancel expires':
        this.world.cancels.splice(0, 1)[0]?.expire()
        break
      case 'release':
      case 'release dirty':
      case 'release in transaction':
      case 'discard':
      case 'cancel':
        if (worker !== undefined && worker.server !== null)
          this.applyTo(worker, worker.server, operation)
        break
      case 'log in':
      case 'log-in fails':
      case 'log-in refused':
      case 'time':
      case 'long time':
      case 'topology':
      case 'pause':
      case 'resume':
        this.applyOutside(operation, pick)
    }
  }

  applyTo(worker: FakeWaiter, server: ServerConnection, operation: Work): void {
    const pool = this.working.get(worker)
    if (operation === 'cancel') {
      void pool?.cancel(server)
      return
    }
    if (operation === 'discard') {
      this.working.delete(worker)
      pool?.discard(server, new ProxyError('query_timeout'))
      return
    }
    if (operation === 'release dirty') server.isUnclean = true
    if (operation === 'release in transaction') this.world.channelOf(server).openTransaction()
    this.giveBack(worker)
  }

  applyOutside(operation: Outside, pick: number): void {
    const attempt = pickOf(this.world.open, pick)
    const refusal = { sqlstate: '28P01', reason: 'no' }
    switch (operation) {
      case 'log in':
        for (const each of this.world.open) void each.succeed()
        break
      case 'log-in fails':
        void attempt?.fail(new ProxyError('server_connect'))
        break
      case 'log-in refused':
        void attempt?.fail(new ProxyError('server_login_failed', refusal))
        break
      case 'time':
        this.world.clock.advance(400)
        break
      case 'long time':
        this.world.clock.advance(16_000)
        break
      case 'topology':
        this.changeTopology(pick)
        break
      case 'pause':
        void this.world.pools.pause()
        break
      case 'resume':
        this.world.pools.resume()
    }
  }

  acquire(pick: number): void {
    const pool = pickOf(this.pools, pick)
    const waiter = this.world.waiter({
      wantsRole: pickOf(['primary', 'replica', 'any'], pick) ?? 'any',
    })
    if (pool === undefined) return
    this.waiting.set(waiter, pool)
    pool.acquire(waiter)
  }

  lose(server: ServerConnection | undefined): void {
    if (server !== undefined) this.world.channelOf(server).finish()
  }

  withdraw(waiter: FakeWaiter | undefined): void {
    if (waiter === undefined) return
    expect(this.waiting.get(waiter)?.withdraw(waiter)).toBe(true)
    expect(waiter.answersCount).toBe(0)
    this.waiting.delete(waiter)
  }

  giveBack(waiter: FakeWaiter): void {
    const { server } = waiter
    const pool = this.working.get(waiter)
    this.working.delete(waiter)
    waiter.server = null
    if (server !== null) pool?.release(server, waiter)
  }

  changeTopology(pick: number): void {
    if (!this.#isRouted) return
    const next = TOPOLOGIES[pick % TOPOLOGIES.length]
    if (next === undefined) return
    // The term grows with everything but a primary that is not confirmed for a while.
    const shape = pick % TOPOLOGIES.length
    if (!(shape <= 1 && this.#shape <= 1)) this.#term += 1
    this.#shape = shape
    this.world.pools.setTopology({ ...next, term: this.#term })
  }

  /** Who was answered does not wait any more; who lost its server does not work any more. */
  collect(): void {
    for (const [waiter, pool] of this.waiting) {
      if (waiter.answersCount === 0) continue
      this.waiting.delete(waiter)
      if (waiter.server !== null) this.working.set(waiter, pool)
    }
    for (const waiter of this.working.keys())
      if (waiter.server === null) this.working.delete(waiter)
  }

  servers(): ServerConnection[] {
    return this.pools.flatMap((pool) => [...pool.fleet.servers()])
  }

  check(): void {
    for (const pool of this.pools) this.checkPool(pool)
    const held = [...this.working.keys()].map((waiter) => waiter.server)
    expect(new Set(held).size, 'a server has one holder').toBe(held.length)
    for (const waiter of this.working.keys())
      expect(waiter.server?.holder, 'who works holds its server').toBe(waiter)
    for (const waiter of [...this.waiting.keys(), ...this.working.keys()])
      expect(waiter.answersCount, 'answered once at most').toBeLessThanOrEqual(1)
    this.checkLimits()
    this.checkOrder()
  }

  checkPool(pool: Pool): void {
    const listed: ServerConnection[] = []
    for (const { servers } of listsOf(pool)) listed.push(...servers)
    expect(new Set(listed).size, 'a server is in one list').toBe(listed.length)
    const present = new Set(pool.fleet.servers())
    for (const server of listed)
      expect(present.delete(server), 'only servers are listed').toBe(true)
    for (const server of present)
      expect(pool.fleet.homeOf(server)?.isGone, 'every server is in a list').toBe(true)
    for (const { state, servers } of listsOf(pool))
      for (const server of servers) expect(server.state).toBe(state)
    const waiting = [...this.waiting.values()].filter((other) => other === pool)
    expect(pool.waiting.length, 'nobody is forgotten').toBe(waiting.length)
    for (const home of pool.roster.members.values())
      expect(home.size, 'pool_size').toBeLessThanOrEqual(2)
  }

  checkLimits(): void {
    const { topology: current } = this.world.pools
    const names = new Set(this.pools.flatMap((pool) => [...pool.roster.members.keys()]))
    for (const name of names) {
      const homes = this.pools.flatMap((pool) => pool.roster.members.get(name) ?? [])
      const size = homes.reduce((sum, home) => sum + home.size, 0)
      expect(size, 'limits of the member').toBeLessThanOrEqual(3)
    }
    for (const server of this.servers())
      expect(server.channel.isClosed, 'who is gone is not kept').toBe(false)
    for (const server of this.servers())
      if (server.identity.role === 'primary')
        expect(server.identity.term, 'no server of an older term').toBe(current.term)
  }

  /** Nobody of a plain pool waits while a server is free. */
  checkOrder(): void {
    if (this.#isRouted || this.world.pools.isPaused('app')) return
    for (const pool of this.pools) {
      const isFree = [...pool.roster.members.values()].some((home) => home.idleCount > 0)
      expect(isFree && pool.waiting.length > 0, 'nobody waits beside a free server').toBe(false)
    }
  }
}

function listsOf(
  pool: Pool,
): { readonly state: string; readonly servers: readonly ServerConnection[] }[] {
  const states = ['idle', 'used', 'tested', 'active', 'active_cancel'] as const
  return [...pool.roster.members.values()].flatMap((home) =>
    states.map((state) => ({ state, servers: home.inState(state) })),
  )
}

function pickOf<T>(values: readonly T[], pick: number): T | undefined {
  return values[pick % Math.max(1, values.length)]
}

test.prop([boolean(), steps], { numRuns: 30 })(
  'no server twice, limits hold, and everybody is answered once',
  async (isRouted, lives) => {
    const life = new Life(isRouted)
    for (const step of lives) await life.run(step)
    await life.end()
  },
  TEST_MS_MAX,
)

test.prop([array(nat(9), { minLength: 1, maxLength: 40 })], { numRuns: 30 })(
  'who came first is served first',
  async (picks) => {
    const world = new World({ ini: plainIni('default_pool_size = 2') })
    const pool = world.pool()
    const order: number[] = []
    const arrived: number[] = []
    const gone = new Set<number>()
    const working: FakeWaiter[] = []
    const waiting: FakeWaiter[] = []
    for (const pick of picks) {
      if (pick < 6) {
        const waiter = world.waiter()
        waiter.onGranted = (): void => {
          order.push(waiter.clientId)
          working.push(waiter)
        }
        arrived.push(waiter.clientId)
        waiting.push(waiter)
        pool.acquire(waiter)
      } else if (pick < 8) {
        const waiter = working.shift()
        if (waiter?.server) pool.release(waiter.server, waiter)
      } else {
        const waiter = waiting[pick % Math.max(1, waiting.length)]
        if (waiter !== undefined && pool.withdraw(waiter)) gone.add(waiter.clientId)
      }
      await world.settle()
    }
    const expected = arrived.filter((id) => !gone.has(id)).slice(0, order.length)
    expect(order).toEqual(expected)
  },
  TEST_MS_MAX,
)
