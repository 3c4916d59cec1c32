import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { FailoverRequest } from '../../../src/cluster/source.ts'
import {
  advancePlan,
  type Incumbent,
  NO_PLAN,
  type Plan,
  type PlanEvidence,
  resumedPlan,
  SWITCHOVER_ROWS,
  SWITCHOVER_STATES,
  switchoverOf,
} from '../../../src/cluster/switchover.ts'
import { EMPTY_TOPOLOGY } from '../../../src/cluster/topology.ts'

const LIMITS = { graceMs: 300, drainMsMax: 5000, requestMsMax: 35_000 }
const ASKED: FailoverRequest = { leader: 'a', candidate: 'b', scheduledAt: null }

/** A primary that answers every question, until it is stopped. */
class World {
  nowMs = 1000
  wallMs = Date.parse('2026-01-01T12:00:00Z')
  incumbent: Incumbent | null = { name: 'a', timeline: 5, started: '1' }
  request: FailoverRequest | null = null
  calledMs: number | null = null
  isMoot = false
  hasHook = false
  limits = LIMITS
  plan: Plan = NO_PLAN

  evidence(): PlanEvidence {
    const { nowMs, wallMs, incumbent, request, calledMs, isMoot, hasHook, limits } = this
    const confirmedMs = incumbent === null ? null : nowMs
    return { nowMs, wallMs, incumbent, confirmedMs, request, calledMs, isMoot, hasHook, limits }
  }

  look(): this {
    this.plan = advancePlan(this.plan, this.evidence()).plan
    return this
  }

  wait(ms: number): this {
    this.nowMs += ms
    this.wallMs += ms
    return this.look()
  }

  ask(request: FailoverRequest | null): this {
    this.request = request
    return this.look()
  }

  call(): this {
    this.calledMs = this.nowMs
    return this.look()
  }

  serves(incumbent: Incumbent | null): this {
    this.incumbent = incumbent
    return this.look()
  }

  get told() {
    return switchoverOf(this.plan)
  }
}

const drains = { candidate: 'b', holds: false }
const holds = { candidate: 'b', holds: true }
const restarted = { name: 'a', timeline: 5, started: '2' }
const successor = { name: 'b', timeline: 6, started: '1' }

describe('a request in the source', () => {
  test('drains at once, and holds after the grace', () => {
    const world = new World().ask(ASKED)
    expect(world.told).toEqual(drains)
    expect(world.wait(299).told).toEqual(drains)
    expect(world.wait(1).told).toEqual(holds)
  })

  test('without a grace it is only the hook that begins the hold', () => {
    const world = new World()
    world.limits = { ...LIMITS, graceMs: 0 }
    expect(world.ask(ASKED).wait(20_000).told).toEqual(drains)
    expect(world.call().told).toEqual(holds)
  })

  test('holds nothing by itself where a hook is expected', () => {
    const world = new World()
    world.hasHook = true
    expect(world.ask(ASKED).wait(20_000).told).toEqual(drains)
    expect(world.call().told).toEqual(holds)
  })

  test('that is taken back or refused ends everything at once', () => {
    expect(new World().ask(ASKED).ask(null).told).toBeNull()
    expect(new World().ask(ASKED).wait(400).ask(null).told).toBeNull()
  })

  test('for later does nothing until it is due', () => {
    const world = new World().ask({ ...ASKED, scheduledAt: '2026-01-01T12:01:00+00:00' })
    expect(world.wait(59_000).told).toBeNull()
    expect(world.wait(1000).told).toEqual(drains)
  })

  test('with a time that nobody can read is never due', () => {
    expect(new World().ask({ ...ASKED, scheduledAt: 'soon' }).told).toBeNull()
  })

  test.for<[string, FailoverRequest, boolean]>([
    ['a failover to a member, without a leader', { ...ASKED, leader: null }, true],
    ['a switchover to whom Patroni chooses', { ...ASKED, candidate: null }, true],
    ['a switchover away from another member', { ...ASKED, leader: 'c' }, false],
    ['a failover to the primary itself', { ...ASKED, leader: null, candidate: 'a' }, false],
  ])('%s', ([, request, counts]) => {
    expect(new World().ask(request).told !== null).toBe(counts)
  })

  test('on which nobody acts is given up, and counts again once it was gone', () => {
    const world = new World().ask(ASKED).wait(300)
    expect(world.wait(34_999).told).toEqual(holds)
    expect(world.wait(1).told).toBeNull()
    expect(world.wait(60_000).told).toBeNull()
    expect(world.ask(null).ask(ASKED).told).toEqual(drains)
  })

  test('that goes away while there is no primary ends nothing', () => {
    const world = new World().ask(ASKED).wait(300).serves(null).ask(null)
    expect(world.told).toEqual(holds)
    expect(world.serves(successor).told).toBeNull()
  })
})

describe('the hook', () => {
  test('holds at once, asked for or not', () => {
    expect(new World().call().told).toEqual({ candidate: null, holds: true })
  })

  test('ends when another primary is verified', () => {
    expect(new World().call().serves(null).wait(60_000).serves(successor).told).toBeNull()
  })

  test('ends when the same primary was started again', () => {
    expect(new World().call().serves(null).wait(1000).serves(restarted).told).toBeNull()
  })

  test('that was no stop is given up after twice the drain', () => {
    const world = new World().call()
    expect(world.wait(9999).told?.holds).toBe(true)
    expect(world.wait(1).told).toBeNull()
    expect(world.wait(1).call().told?.holds).toBe(true)
  })

  test('makes a hold that began with the grace last as long as one that it began', () => {
    const world = new World().ask(ASKED).wait(300).wait(34_000).call()
    expect(world.wait(9999).told?.holds).toBe(true)
    expect(world.wait(1).told).toBeNull()
  })

  test('is heeded once', () => {
    const world = new World().call().serves(null).serves(successor)
    expect(world.wait(10).told).toBeNull()
  })
})

test('a standby cluster and RECONNECT end it', () => {
  const world = new World().ask(ASKED).wait(300)
  world.isMoot = true
  expect(world.look().told).toBeNull()
})

test('a control process that takes over goes on holding, for a bounded time', () => {
  const world = new World()
  const switchover = { candidate: 'b', holds: true }
  const previous = { ...EMPTY_TOPOLOGY, primary: 'a', timeline: 5, switchover }
  world.plan = resumedPlan(previous, world.nowMs)
  expect(world.look().told).toEqual(holds)
  expect(world.wait(10_000).told).toBeNull()
})

describe('whatever happens, in any order', () => {
  const event = fc.oneof(
    fc
      .constantFrom<FailoverRequest | null>(ASKED, { ...ASKED, leader: null }, null)
      .map((request) => (world: World) => world.ask(request)),
    fc.constant((world: World) => world.call()),
    fc
      .constantFrom(null, restarted, successor, { name: 'a', timeline: 5, started: '1' })
      .map((incumbent) => (world: World) => world.serves(incumbent)),
    fc.integer({ min: 1, max: 40_000 }).map((ms) => (world: World) => world.wait(ms)),
  )

  test('a primary that serves for long enough is not held, and nothing but a cause holds', () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 40 }), (events) => {
        const world = new World()
        for (const one of events) {
          one(world)
          if (world.told !== null)
            expect(world.plan.isRequested || world.calledMs !== null).toBe(true)
        }
        if (world.incumbent === null) world.serves(restarted)
        for (let looks = 0; looks < 4; looks += 1) world.wait(40_000)
        expect(world.told).toBeNull()
      }),
    )
  })
})

describe('the table', () => {
  test('leads from every state back to none, and into every state', () => {
    const targets = new Set(SWITCHOVER_ROWS.map((row) => row.to))
    expect([...targets].toSorted()).toEqual(Object.keys(SWITCHOVER_STATES).toSorted())
    for (const state of Object.keys(SWITCHOVER_STATES))
      expect(SWITCHOVER_ROWS.some((row) => row.from === state && row.to === 'none')).toBe(true)
  })

  test('is printed in docs/failover.md', () => {
    const page = readFileSync(resolve(import.meta.dirname, '../../../docs/failover.md'), 'utf8')
    const rows = SWITCHOVER_ROWS.map(
      ({ from, when, to, because }) =>
        `| ${[from, when, to === from ? 'stay' : to, because].join(' | ')} |\n`,
    )
    expect(page).toContain(
      `| from | when | to | because |\n| --- | --- | --- | --- |\n${rows.join('')}`,
    )
    for (const [state, text] of Object.entries(SWITCHOVER_STATES))
      expect(page).toContain(`| \`${state}\` | ${text} |\n`)
  })
})
