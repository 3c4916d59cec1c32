/** The failover machine in any order of events. */
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Failover, primaryOf } from '../../../src/cluster/failover.ts'
import { LIMITS, World } from './beliefs.ts'

type Event = (world: World) => unknown

const name = fc.constantFrom('a', 'b', 'c')
const timeline = fc.integer({ min: 1, max: 4 })
const patroniEvent: fc.Arbitrary<Event> = fc.oneof(
  fc.tuple(name, timeline).map(
    ([who, on]) =>
      (world: World) =>
        world.writes(who, on),
  ),
  fc.tuple(name, timeline).map(
    ([who, on]) =>
      (world: World) =>
        world.replays(who, on),
  ),
  name.map((who) => (world: World) => world.leads(who)),
  fc.constant((world: World) => world.leads(null)),
  fc.tuple(name, fc.constantFrom('refused' as const, 'silent' as const, 'denied' as const)).map(
    ([who, kind]) =>
      (world: World) =>
        world.fails(who, kind),
  ),
  fc.tuple(fc.integer({ min: 1, max: 20_000 }), fc.boolean()).map(
    ([ms, isSilent]) =>
      (world: World) =>
        world.wait(ms, isSilent),
  ),
  fc.boolean().map((on) => (world: World) => world.dynamic({ paused: on })),
  fc.tuple(name, fc.boolean()).map(
    ([who, isFailsafe]) =>
      (world: World) =>
        world.hears(who, isFailsafe),
  ),
  fc.boolean().map((on) => (world: World) => world.dynamic({ failsafeMode: on })),
  name.map(
    (who) => (world: World) =>
      world
        .dynamic({ failsafeMode: true })
        .hears(who, true)
        .leads(null)
        .writes(who, world.testimony.get(who)?.sample?.timeline ?? 1),
  ),
)

/** Becoming a standby cluster fences too, but within a reign: its end needs no new one. */
const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 12, arbitrary: patroniEvent },
  {
    weight: 1,
    arbitrary: fc.boolean().map((on) => (world: World) => world.dynamic({ standbyCluster: on })),
  },
)

describe('in any order of events', () => {
  test('a primary is named only by fresh SQL of its own, terms only grow, and change with it', () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 60 }), (events) => {
        const world = new World()
        let before = world.machine
        for (const one of events) {
          one(world)
          checkStep(world, before)
          before = world.machine
        }
      }),
      { numRuns: 3000 },
    )
  })

  test('a fenced primary is named again only in a new reign, or when all members answer for it', () => {
    fc.assert(
      fc.property(fc.array(patroniEvent, { maxLength: 60 }), (events) => {
        const world = new World()
        let fenced: { name: string; epoch: string } | null = null
        for (const one of events) {
          one(world)
          const { beliefs } = world.machine
          const named = primaryOf(world.machine)
          if (fenced !== null && named !== null && world.state !== 'vouched')
            expect(`${named.name} ${named.epoch}`).not.toBe(`${fenced.name} ${fenced.epoch}`)
          if (world.state === 'vouched') fenced = null
          if (beliefs.isFenced) fenced = beliefs.verified
        }
      }),
      { numRuns: 3000 },
    )
  })

  test('there is a sentence exactly when there is no primary', () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 60 }), (events) => {
        const world = new World()
        for (const one of events) {
          one(world)
          expect(world.missing === '').toBe(world.primary !== null)
        }
      }),
      { numRuns: 2000 },
    )
  })
})

/** Nobody holds the key, and a fresh word of failsafe mode is about this member. */
function checkVouched({ view, witness, nowMs, machine }: World, named: string): void {
  expect(view?.leader).toBeNull()
  expect(view?.dynamic).toMatchObject({ failsafeMode: true, paused: false })
  expect(witness).toMatchObject({ name: named, isFailsafe: true })
  expect(nowMs - (witness?.atMs ?? 0)).toBeLessThanOrEqual(LIMITS.failsafeMs)
  expect(machine.beliefs).toMatchObject({ rivalSince: false, isFenced: false })
}

function checkStep(world: World, before: Failover): void {
  const { machine, nowMs } = world
  expect(machine.term).toBeGreaterThanOrEqual(before.term)
  const now = primaryOf(machine)
  if (now === null) return
  if (machine.state === 'vouched') checkVouched(world, now.name)
  const heard = world.testimony.get(now.name)
  expect(heard?.sample?.inRecovery).toBe(false)
  expect(heard?.failure?.kind).not.toBe('refused')
  expect(heard?.sample?.timeline).toBe(now.timeline)
  expect(nowMs - (heard?.sample?.sentMs ?? 0)).toBeLessThanOrEqual(LIMITS.confirmMs)
  const last = before.beliefs.verified
  if (last === null) return
  expect(now.timeline).toBeGreaterThanOrEqual(last.timeline)
  if (last.name !== now.name) expect(now.timeline).toBeGreaterThan(last.timeline)
  if (last.name !== now.name || last.timeline !== now.timeline)
    expect(machine.term).toBeGreaterThan(before.term)
}
