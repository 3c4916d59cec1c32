import { describe, expect, test } from 'vitest'
import {
  FAILOVER_ROWS,
  FAILOVER_STATES,
  forget,
  primaryOf,
  resumed,
  wantsWitness,
} from '../../../src/cluster/failover.ts'
import { DEFAULT_DYNAMIC } from '../../../src/cluster/source.ts'
import type { Sample } from '../../../src/cluster/topology.ts'
import { EMPTY_TOPOLOGY } from '../../../src/cluster/topology.ts'
import { IDENTIFIER, LIMITS, World } from './beliefs.ts'

function serving(): World {
  const world = new World().leads('a').writes('a', 5)
  expect(world.primary).toBe('a')
  return world
}

function silent(): World {
  const world = serving()
  for (let count = 0; count < 5; count += 1) world.wait(500, true).writes('a', 5)
  expect(world.state).toBe('failstatic')
  return world
}

/** Its Patroni alone is cut off from the source, and all members answer it. */
function cutOff(): World {
  return serving().dynamic({ failsafeMode: true }).hears('a', true)
}

/** The same after its lease. */
function vouched(): World {
  const world = cutOff().leads(null)
  expect(world.state).toBe('vouched')
  return world
}

function pausedWithoutKey(): World {
  return serving().dynamic({ paused: true }).leads(null)
}

describe('three must agree', () => {
  test('the leader key alone names nobody, whatever its holder said before', () => {
    const world = new World()
    world.writes('a', 5)
    world.wait(1).leads('a')
    expect(world.primary).toBeNull()
    expect(world.missing).toBe('a leads and has not been asked since it does')
    expect(world.writes('a', 5).primary).toBe('a')
  })

  test('SQL alone names nobody', () => {
    expect(new World().leads(null).writes('a', 5).primary).toBeNull()
  })

  test('a leader in recovery is not named', () => {
    const world = new World().leads('a').replays('a', 5)
    expect(world.primary).toBeNull()
    expect(world.missing).toBe('a leads but is still in recovery')
  })

  test('a leader of another cluster is not named', () => {
    const world = new World().leads('a').says('a', false, 5, '42')
    expect(world.primary).toBeNull()
    expect(world.missing).toContain('belongs to another cluster')
  })

  test('a leader that denies the probe is not named, and says why', () => {
    const world = new World().leads('a').fails('a', 'denied')
    expect(world.missing).toBe('a leads but denies the probe: a denied')
  })
})

describe('fences', () => {
  test('the deletion of the leader key fences at once', () => {
    const world = serving()
    const { term } = world.machine
    world.leads(null)
    expect(world.primary).toBeNull()
    expect(world.machine.term).toBe(term + 1)
    expect(world.writes('a', 5).primary).toBeNull()
    expect(world.missing).toBe('a is fenced: nobody holds the leader key')
  })

  test('a new leader needs a later timeline than the last verified one', () => {
    const world = serving().leads('b').writes('b', 5)
    expect(world.primary).toBeNull()
    expect(world.missing).toContain('must be on 6 or later')
    expect(world.writes('b', 6).primary).toBe('b')
  })

  test('the fence is lifted on the same timeline when nobody led in between', () => {
    const world = serving().leads(null)
    const { term } = world.machine
    world.leads('a').writes('a', 5)
    expect(world.primary).toBe('a')
    expect(world.machine.term).toBe(term + 1)
  })

  test('a member that another one replaced in between needs a later timeline', () => {
    const world = serving().leads('b').leads('a').writes('a', 5)
    expect(world.primary).toBeNull()
    expect(world.writes('a', 6).primary).toBe('a')
  })

  test('a zombie that claims on its old timeline is ignored', () => {
    const world = serving().leads('b').writes('b', 6)
    expect(world.writes('a', 5).primary).toBe('b')
    expect(world.wait(100).primary).toBe('b')
  })

  test('forgetting lets any verified member in, and the term still grows', () => {
    const world = serving().leads('b').writes('b', 5)
    const { term } = world.machine
    world.machine = forget(world.machine)
    expect(world.advance().primary).toBe('b')
    expect(world.machine.term).toBeGreaterThan(term)
  })
})

describe('interruptions under an unchanged key', () => {
  test('a refusal stops writes at once, a restart in place resumes them in the same term', () => {
    const world = serving()
    const { term } = world.machine
    expect(world.fails('a', 'refused').primary).toBeNull()
    expect(world.missing).toBe('a leads but does not serve: a refused')
    expect(world.writes('a', 5).primary).toBe('a')
    expect(world.machine.term).toBe(term)
  })

  test('a promotion under the same key is a new term on the later timeline', () => {
    const world = serving().replays('a', 5)
    const { term } = world.machine
    expect(world.primary).toBeNull()
    expect(world.writes('a', 6).primary).toBe('a')
    expect(world.machine.term).toBe(term + 1)
    expect(primaryOf(world.machine)?.timeline).toBe(6)
  })

  test('a later timeline seen without any interruption is a new term too', () => {
    const world = serving()
    const { term } = world.machine
    expect(world.writes('a', 6).primary).toBe('a')
    expect(world.machine.term).toBe(term + 1)
  })

  test('one silent probe is endured, silence is not', () => {
    const world = serving().fails('a', 'silent')
    expect(world.primary).toBe('a')
    expect(world.wait(LIMITS.confirmMs + 1).primary).toBeNull()
  })
})

describe('the source is silent', () => {
  test('the verified primary serves on while SQL confirms it', () => {
    const world = silent()
    expect(world.primary).toBe('a')
    expect(world.wait(LIMITS.confirmAloneMs + 1, true).primary).toBeNull()
    expect(world.missing).toContain('a does not confirm over SQL')
    expect(world.writes('a', 5).primary).toBe('a')
  })

  test('answers that are slow, but each in time, confirm it', () => {
    const world = silent()
    for (let count = 0; count < 10; count += 1) {
      const answeredMs = world.nowMs + LIMITS.answerMs
      const sample = { ...world.writes('a', 5).testimony.get('a')?.sample } as Sample
      world.testimony.set('a', { sample: { ...sample, receivedMs: answeredMs }, failure: null })
      // The next question is put when this one was answered, and is answered in time itself.
      expect(world.wait(answeredMs - world.nowMs, true).primary).toBe('a')
      expect(world.wait(LIMITS.answerMs - 1, true).hears('a', false).primary).toBe('a')
    }
    expect(world.wait(2, true).primary).toBeNull()
  })

  test('another claim on the same or a later timeline ends it', () => {
    const world = silent().writes('b', 6)
    expect(world.primary).toBeNull()
    expect(world.missing).toContain('both a and b take writes')
  })

  test('after ttl it needs the word of its Patroni', () => {
    const world = silent()
    world.wait(DEFAULT_DYNAMIC.ttlMs, true).writes('a', 5)
    expect(world.primary).toBeNull()
    expect(world.missing).toContain('Patroni on a does not confirm it')
    world.hears('a', false)
    expect(world.primary).toBe('a')
    expect(world.wait(LIMITS.witnessMs + 1, true).writes('a', 5).primary).toBeNull()
  })

  test('after ttl SQL is enough where the operator says so', () => {
    const world = silent()
    world.needsWitness = false
    for (let count = 0; count < 100; count += 1)
      expect(world.wait(1000, true).writes('a', 5).primary).toBe('a')
    expect(world.writes('b', 6).primary).toBeNull()
  })

  test('nobody new is verified, whoever claims', () => {
    const world = serving().leads('b')
    world.wait(LIMITS.blindMs + 1, true).writes('b', 6)
    expect(world.primary).toBeNull()
    expect(world.missing).toContain('does not answer')
  })

  test('what the source says when it is back counts again', () => {
    const world = silent()
    expect(world.leads('b').primary).toBeNull()
    expect(world.writes('b', 6).primary).toBe('b')
  })
})

function asks(world: World): boolean {
  return wantsWitness(world.machine, world.evidence())
}

describe('failsafe mode', () => {
  test('the verified primary keeps serving without its key while all members answer it', () => {
    const world = cutOff()
    const { term } = world.machine
    world.leads(null)
    expect(world.state).toBe('vouched')
    for (let seconds = 0; seconds < 60; seconds += 1)
      expect(world.wait(1000).hears('a', true).writes('a', 5).primary).toBe('a')
    world.leads('a')
    expect([world.state, world.primary, world.machine.term]).toEqual(['serving', 'a', term])
  })

  test.for<[string, (world: World) => unknown]>([
    ['the mode is off', (world) => world.dynamic({ failsafeMode: false })],
    ['its Patroni says nothing of the check', (world) => world.hears('a', false)],
    ['another member is asked', (world) => world.hears('b', true)],
    ['its Patroni is silent', (world) => world.wait(LIMITS.failsafeMs).writes('a', 5)],
    ['SQL refuses', (world) => world.fails('a', 'refused')],
    ['SQL is silent', (world) => world.wait(LIMITS.confirmMs).hears('a', true)],
    ['it is in recovery', (world) => world.replays('a', 5)],
    ['another one claims', (world) => world.writes('b', 6)],
  ])('no key, and %s: a fence', ([, change]) => {
    const before = cutOff()
    change(before)
    before.leads(null)
    before.wait(1)
    expect([before.state, before.primary]).toEqual(['fenced', null])

    const during = vouched()
    const { term } = during.machine
    change(during)
    during.wait(1)
    expect([during.state, during.primary]).toEqual(['fenced', null])
    expect(during.machine.term).toBe(term + 1)
  })

  test('another member that takes the key fences in that moment, whatever Patroni says', () => {
    const world = vouched()
    const { term } = world.machine
    expect(world.leads('b').primary).toBeNull()
    expect(world.machine.term).toBe(term + 1)
    expect(world.hears('a', true).writes('a', 5).primary).toBeNull()
    expect(world.leads(null).hears('a', true).writes('a', 5).primary).toBeNull()
  })

  test('an answer that comes after the fence lifts it, in a new term', () => {
    const world = serving().dynamic({ failsafeMode: true }).leads(null)
    expect(world.state).toBe('fenced')
    const { term } = world.machine
    expect(world.hears('a', true).primary).toBe('a')
    expect(world.machine.term).toBe(term + 1)
  })

  test('the source may fall silent meanwhile: SQL then has to answer as fast as alone', () => {
    const world = vouched()
    for (let count = 0; count < 60; count += 1)
      expect(world.wait(1000, true).writes('a', 5).hears('a', true).primary).toBe('a')
    expect(world.wait(LIMITS.confirmAloneMs + 1, true).hears('a', true).primary).toBeNull()
  })

  test('a pause takes over, and the check again when it ends', () => {
    const world = vouched().dynamic({ failsafeMode: true, paused: true })
    expect(world.state).toBe('unlocked')
    expect(world.dynamic({ failsafeMode: true }).state).toBe('vouched')
  })

  test('the word of Patroni is asked for when it can count', () => {
    expect(asks(new World())).toBe(false)
    expect(asks(serving())).toBe(false)
    expect(asks(serving().leads(null))).toBe(false)
    expect(asks(serving().dynamic({ failsafeMode: true }).leads(null))).toBe(true)
    expect(asks(vouched())).toBe(true)
    expect(asks(vouched().leads('b').leads(null))).toBe(false)
    expect(asks(silent())).toBe(true)
  })
})

describe('a control process that takes over while the key is gone', () => {
  const previous = { ...EMPTY_TOPOLOGY, term: 7, primary: 'a', timeline: 5 }

  function successor(): World {
    const world = new World()
    world.machine = resumed({ ...previous, systemIdentifier: IDENTIFIER })
    return world
  }

  test('believes what its predecessor did in pause, in the same term', () => {
    const world = successor().leads(null).dynamic({ paused: true })
    expect(world.primary).toBeNull()
    expect(world.writes('a', 5).primary).toBe('a')
    expect([world.state, world.machine.term]).toEqual(['unlocked', 7])
  })

  test('believes what its predecessor did in failsafe mode, in the same term', () => {
    const world = successor().leads(null).dynamic({ failsafeMode: true }).writes('a', 5)
    expect(world.primary).toBeNull()
    expect(world.hears('a', true).primary).toBe('a')
    expect([world.state, world.machine.term]).toEqual(['vouched', 7])
  })

  test.each([
    ['at once', () => successor()],
    ['after nobody led', () => successor().leads(null)],
    ['after the same one led', () => successor().leads('a')],
  ])('fences whom its predecessor verified when another one leads, %s', (_, before) => {
    const world = before().leads('b')
    expect(world.primary).toBeNull()
    expect([world.state, world.machine.term]).toEqual(['verifying', 8])
    expect(world.writes('b', 6).primary).toBe('b')
  })

  test('believes nobody whom it did not hear of', () => {
    const world = new World().leads(null).dynamic({ failsafeMode: true, paused: true })
    expect(world.writes('a', 5).hears('a', true).primary).toBeNull()
    expect(world.dynamic({ failsafeMode: true }).primary).toBeNull()
  })
})

describe('pause', () => {
  test('the verified primary keeps serving without its key, in one term', () => {
    const world = serving().dynamic({ paused: true })
    const { term } = world.machine
    world.leads(null)
    expect(world.state).toBe('unlocked')
    expect(world.primary).toBe('a')
    world.leads('a')
    expect(world.state).toBe('serving')
    expect(world.machine.term).toBe(term)
  })

  test('a second claim ends it, and so does the end of the pause', () => {
    expect(pausedWithoutKey().writes('b', 5).primary).toBeNull()
    const ended = pausedWithoutKey().dynamic({ paused: false })
    expect(ended.primary).toBeNull()
    expect(ended.state).toBe('fenced')
  })

  test('a pause that begins after the fence does not lift it', () => {
    const world = serving().leads(null)
    expect(world.state).toBe('fenced')
    world.wait(1).leads('a').replays('a', 5).leads(null).dynamic({ paused: true })
    expect(world.state).toBe('vacant')
    expect(world.writes('a', 5).primary).toBeNull()
  })

  test('a crash in pause is waited out', () => {
    const world = serving().dynamic({ paused: true }).fails('a', 'refused').leads(null)
    expect(world.state).toBe('interrupted')
    expect(world.writes('a', 5).primary).toBe('a')
  })
})

describe('standby cluster', () => {
  test('names nobody and says so, until it is promoted', () => {
    const world = new World().leads('a').dynamic({ standbyCluster: true }).replays('a', 5)
    expect(world.missing).toBe('this is a standby cluster, nothing in it takes writes')
    world.dynamic({ standbyCluster: false }).writes('a', 6)
    expect(world.primary).toBe('a')
  })

  test('demoting the cluster fences its primary', () => {
    const world = serving()
    const { term } = world.machine
    expect(world.dynamic({ standbyCluster: true }).primary).toBeNull()
    expect(world.machine.term).toBe(term + 1)
  })
})

describe('the table', () => {
  test('every state but the first can be reached and can be left', () => {
    const states = Object.keys(FAILOVER_STATES)
    const left = new Set(FAILOVER_ROWS.filter((row) => row.to !== row.from).map((row) => row.from))
    const reached = new Set<string>(['unseen'])
    for (const _ of states)
      for (const row of FAILOVER_ROWS) if (reached.has(row.from)) reached.add(row.to)
    expect([...reached].toSorted()).toEqual(states.toSorted())
    expect([...left].toSorted()).toEqual(states.toSorted())
  })

  test('no row is hidden by an equal one before it', () => {
    const keys = FAILOVER_ROWS.map((row) => `${row.from}: ${row.when}`)
    expect(new Set(keys).size).toBe(keys.length)
  })
})
