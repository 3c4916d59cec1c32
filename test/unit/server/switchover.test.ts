import { describe, expect, test } from 'vitest'
import { type FakeWaiter, flush, plainIni, topology, World } from '../../support/pools.ts'

async function granted(world: World, fields: Partial<FakeWaiter> = {}): Promise<FakeWaiter> {
  const waiter = world.waiter(fields)
  world.pool().acquire(waiter)
  await world.settle()
  return waiter
}

function giveBack(world: World, waiter: FakeWaiter): void {
  if (waiter.server === null) throw new Error('no server')
  world.pool().release(waiter.server, waiter)
  waiter.server = null
}

describe('writes that run', () => {
  test('are the sessions at work on the primary: no reads on replicas, and none that rest', async () => {
    const world = new World()
    world.pools.setTopology(topology())
    expect(world.pools.writesRunning).toBe(0)
    const write = await granted(world)
    await granted(world, { wantsRole: 'replica' })
    await granted(world, { isWorking: false })
    expect(world.pools.writesRunning).toBe(1)
    giveBack(world, write)
    expect(world.pools.writesRunning).toBe(0)
  })

  test('of an entry with a host are not counted', async () => {
    const world = new World({ ini: plainIni() })
    await granted(world)
    expect(world.pools.writesRunning).toBe(0)
  })

  test('are waited for until none is left', async () => {
    const world = new World()
    world.pools.setTopology(topology())
    const write = await granted(world)
    const answers: number[] = []
    void world.pools.writesEnded(5000).then((count) => answers.push(count))
    await world.pass(100)
    expect(answers).toEqual([])
    giveBack(world, write)
    await world.pass(20)
    expect(answers).toEqual([0])
  })

  test('are not waited for longer than asked', async () => {
    const world = new World()
    world.pools.setTopology(topology())
    await granted(world)
    const answers: number[] = []
    void world.pools.writesEnded(50).then((count) => answers.push(count))
    await world.pass(49)
    expect(answers).toEqual([])
    await world.pass(1)
    await flush()
    expect(answers).toEqual([1])
  })
})
