/** Where Patroni's hook is, and what its calls do in a watcher. */
import { describe, expect, test } from 'vitest'
import { createLog } from '../../../src/base/log.ts'
import { Handover } from '../../../src/cluster/handover.ts'
import type { FailoverRequest } from '../../../src/cluster/source.ts'
import type { Incumbent } from '../../../src/cluster/switchover.ts'
import { EMPTY_TOPOLOGY } from '../../../src/cluster/topology.ts'
import { Stage } from './stage.ts'

const GRACE_MS = 300
const LOG = createLog({ level: 'silent', format: 'json' })

class World {
  nowMs = 1000
  incumbent: Incumbent | null = { name: 'a', timeline: 5, started: '1' }
  request: FailoverRequest | null = null
  readonly handover: Handover

  constructor(handover = new Handover(LOG)) {
    this.handover = handover
  }

  look(): this {
    const { nowMs, incumbent, request } = this
    const confirmedMs = incumbent === null ? null : nowMs
    const sight = { nowMs, wallMs: nowMs, incumbent, confirmedMs, request, ttlMs: 30_000 }
    this.handover.look({ ...sight, isMoot: false })
    return this
  }

  wait(ms: number): this {
    this.nowMs += ms
    return this.look()
  }

  call(member: string): this {
    this.handover.call(member, this.incumbent?.name === member, this.nowMs)
    return this.look()
  }

  /** A switchover is asked for. Returns whether the request alone makes writes wait. */
  isHeldByRequest(): boolean {
    this.request = { leader: this.incumbent?.name ?? null, candidate: null, scheduledAt: null }
    return this.look().wait(GRACE_MS).handover.isHolding
  }

  /** It was carried out. */
  succeed(name: string): this {
    const timeline = (this.incumbent?.timeline ?? 0) + 1
    this.incumbent = null
    this.look()
    this.incumbent = { name, timeline, started: '1' }
    this.look()
    this.request = null
    return this.look()
  }
}

describe('a request for a switchover', () => {
  test('holds writes after the grace while no hook was ever heard', () => {
    expect(new World().isHeldByRequest()).toBe(true)
  })

  test('only drains once the hook was heard, of whichever member', () => {
    const own = new World().call('a').succeed('b').succeed('a')
    expect(own.isHeldByRequest()).toBe(false)
    expect(own.handover.told).toEqual({ candidate: null, holds: false })
    expect(own.call('a').handover.isHolding).toBe(true)
    expect(new World().call('c').isHeldByRequest()).toBe(false)
  })

  test('holds again at a member that handed over without a call, until it calls', () => {
    const world = new World().call('c')
    expect(world.isHeldByRequest()).toBe(false)
    world.succeed('b')
    expect(world.handover.hooks).toEqual({ a: false, c: true })
    expect(world.isHeldByRequest()).toBe(false)
    world.call('b').succeed('a')
    expect(world.isHeldByRequest()).toBe(true)
    world.call('a').succeed('b').succeed('a')
    expect(world.isHeldByRequest()).toBe(false)
    expect(world.handover.hooks).toEqual({ a: true, b: true, c: true })
  })

  test('that is refused says nothing about the hook', () => {
    const world = new World().call('c')
    world.isHeldByRequest()
    world.request = null
    world.look()
    expect(world.handover.hooks).toEqual({ c: true })
  })

  test('is known to the control process that takes over, and to one that forgets', () => {
    const handover = new Handover(LOG)
    handover.takeOver({ ...EMPTY_TOPOLOGY, hooks: { c: true } }, 0)
    handover.forget()
    expect(new World(handover).isHeldByRequest()).toBe(false)
  })
})

describe('a call that reaches the watcher', () => {
  test('holds when it is about the primary, by name, by address, or by no name', async () => {
    for (const member of ['a', 'a:5432', null]) {
      const stage = await Stage.serving()
      expect(stage.watcher.drain(member)).toBe('holds')
      expect(stage.topology).toMatchObject({ switchover: { holds: true }, hooks: { a: true } })
    }
  })

  test('about a replica holds nothing and shows that the hook is there', async () => {
    const stage = await Stage.serving()
    expect(stage.watcher.drain('b')).toBe('elsewhere')
    expect(stage.watcher.drain('stranger')).toBe('elsewhere')
    stage.etcd.put('failover', JSON.stringify({ leader: 'a', member: 'b' }))
    await stage.pass(5000)
    expect(stage.topology).toMatchObject({
      switchover: { candidate: 'b', holds: false },
      hooks: { b: true },
    })
  })

  test('comes too early for a control process that has just begun, and is asked again', async () => {
    const stage = await Stage.serving()
    stage.watcher.drain('b')
    const previous = stage.topology
    await stage.watcher.stop()
    const next = stage.watch({ previous })
    await next.start()
    expect(next.drain('a')).toBe('starting')
    await stage.pass(1000)
    expect(next.drain('a')).toBe('holds')
    expect(stage.topology).toMatchObject({
      term: previous.term,
      primary: 'a',
      switchover: { holds: true },
      hooks: { a: true, b: true },
    })
  })

  test('is asked again about a primary whose probes hang: it may be back before it is stopped', async () => {
    const stage = await Stage.serving()
    stage.member('a').does = 'hang'
    await stage.pass(5000)
    expect(stage.topology.primary).toBeNull()
    expect(stage.watcher.drain('b')).toBe('elsewhere')
    expect(stage.watcher.drain('a')).toBe('starting')
    stage.member('a').does = 'answer'
    await stage.pass(1000)
    expect(stage.watcher.drain('a')).toBe('holds')
  })

  test('is still held to by the control process that takes over, until the new primary', async () => {
    const stage = await Stage.serving()
    stage.watcher.drain('a')
    const previous = stage.topology
    await stage.watcher.stop()
    const next = stage.watch({ previous })
    await next.start()
    await stage.pass(1000)
    expect(stage.topology).toMatchObject({ primary: 'a', switchover: { holds: true } })
    stage.member('a').does = 'refuse'
    stage.etcd.delete('leader')
    Object.assign(stage.member('b'), { isInRecovery: false, timeline: 6 })
    stage.etcd.lead('b')
    await stage.pass(500)
    expect(stage.topology).toMatchObject({ primary: 'b', switchover: null })
    await next.stop()
  })
})

async function asked(request: object, serving = Stage.serving()): Promise<Stage> {
  const stage = await serving
  stage.etcd.put('failover', JSON.stringify(request))
  await stage.settle()
  return stage
}

describe('requests in etcd', () => {
  test('to a member without naming a leader counts as one that names the primary', async () => {
    const stage = await asked({ member: 'b' })
    expect(stage.topology.switchover).toEqual({ candidate: 'b', holds: false })
    await stage.pass(400)
    expect(stage.topology.switchover).toEqual({ candidate: 'b', holds: true })
  })

  test('that is answered by {} ends the hold in that moment', async () => {
    const stage = await asked({ leader: 'a', member: 'b' })
    await stage.pass(400)
    expect(stage.topology.switchover?.holds).toBe(true)
    stage.etcd.put('failover', '{}')
    await stage.settle()
    expect(stage.topology).toMatchObject({ switchover: null, primary: 'a' })
  })

  test('for later do nothing until they are due', async () => {
    const stage = await Stage.serving()
    const dueMs = stage.clock.wallMs() + 5000
    await asked(
      { leader: 'a', scheduled_at: new Date(dueMs).toISOString() },
      Promise.resolve(stage),
    )
    await stage.pass(4900)
    expect(stage.topology.switchover).toBeNull()
    await stage.pass(200)
    expect(stage.topology.switchover).toEqual({ candidate: null, holds: false })
    await stage.pass(400)
    expect(stage.topology.switchover?.holds).toBe(true)
  })
})
