import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type Candidate,
  type EligibilityContext,
  ineligibleReason,
  LAG_RETURN_FACTOR,
} from '../../../src/cluster/eligibility.ts'
import { mostAdvanced, PrimaryRing } from '../../../src/cluster/lag.ts'
import type { Sample } from '../../../src/cluster/topology.ts'

function primarySample(sentMs: number, lsn: number, timeline = 1): Sample {
  return {
    sentMs,
    receivedMs: sentMs + 1,
    inRecovery: false,
    systemIdentifier: '1',
    timeline,
    writeLsn: BigInt(lsn),
    insertLsn: BigInt(lsn),
    replayLsn: null,
    receiveLsn: null,
  }
}

function replicaSample(sentMs: number, lsn: number | null, timeline = 1): Sample {
  const at = lsn === null ? null : BigInt(lsn)
  return {
    ...primarySample(sentMs, 0, timeline),
    inRecovery: true,
    writeLsn: null,
    insertLsn: null,
    replayLsn: at,
    receiveLsn: at,
  }
}

describe('lag', () => {
  test('an idle primary is no lag, however long it idles', () => {
    const ring = new PrimaryRing(10_000)
    for (let ms = 0; ms <= 60_000; ms += 500) ring.push(primarySample(ms, 100))
    expect(ring.lagOf(replicaSample(60_000, 100))).toEqual({ lagBytes: 0, lagMs: 0 })
  })

  test('a replica behind is as late as the time since the primary stood where it stands', () => {
    const ring = new PrimaryRing(10_000)
    for (let ms = 0; ms <= 4000; ms += 500) ring.push(primarySample(ms, 100 + ms))
    expect(ring.lagOf(replicaSample(4000, 2100))).toEqual({ lagBytes: 2000, lagMs: 2000 })
  })

  test('after an idle hour the first write is a lag of moments, not of an hour', () => {
    const ring = new PrimaryRing(10_000)
    for (let ms = 0; ms <= 3_600_000; ms += 500) ring.push(primarySample(ms, 100))
    ring.push(primarySample(3_600_500, 200))
    expect(ring.lagOf(replicaSample(3_600_500, 100))).toEqual({ lagBytes: 100, lagMs: 500 })
  })

  test('what cannot be told is null, never 0', () => {
    const ring = new PrimaryRing(10_000)
    const unknown = { lagBytes: null, lagMs: null }
    expect(ring.lagOf(replicaSample(0, 100))).toEqual(unknown)
    ring.push(primarySample(0, 100))
    expect(ring.lagOf(replicaSample(0, null))).toEqual(unknown)
    expect(ring.lagOf(replicaSample(0, 100, 2))).toEqual(unknown)
    expect(ring.lagOf(replicaSample(0, 50))).toEqual({ lagBytes: 50, lagMs: null })
  })

  test('when the primary is gone the lag is frozen and nobody is evicted for it', () => {
    const ring = new PrimaryRing(10_000)
    for (let ms = 0; ms <= 4000; ms += 500) ring.push(primarySample(ms, 100 + ms))
    const then = ring.lagOf(replicaSample(4000, 4000))
    expect(ring.lagOf(replicaSample(900_000, 4000))).toEqual(then)
    expect(ring.lagOf(replicaSample(900_000, 4100))).toEqual({ lagBytes: 0, lagMs: 0 })
  })

  test('a new timeline starts a new history', () => {
    const ring = new PrimaryRing(10_000)
    ring.push(primarySample(0, 1000))
    ring.push(primarySample(500, 900, 2))
    expect(ring.lagOf(replicaSample(500, 1000))).toEqual({ lagBytes: null, lagMs: null })
    expect(ring.lagOf(replicaSample(500, 900, 2))).toEqual({ lagBytes: 0, lagMs: 0 })
    ring.push(primarySample(1000, 2000, 3))
    expect(ring.lagOf(replicaSample(1000, 950, 3))).toEqual({ lagBytes: 1050, lagMs: null })
  })

  test('the ring covers its span at any rate of samples', () => {
    const ring = new PrimaryRing(10_000, 64)
    for (let ms = 0; ms <= 30_000; ms += 20) ring.push(primarySample(ms, ms))
    const { lagMs } = ring.lagOf(replicaSample(30_000, 20_000))
    expect(lagMs).toBeGreaterThanOrEqual(10_000)
    expect(lagMs).toBeLessThan(10_700)
  })

  test('the lag told is never less than the true one', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 1, max: 900 }), fc.integer({ min: 0, max: 50 }))),
        fc.integer({ min: 0, max: 2000 }),
        (steps, replay) => {
          const ring = new PrimaryRing(5000, 16)
          let [ms, lsn] = [0, 0]
          for (const [wait, bytes] of steps) {
            ms += wait
            lsn += bytes
            ring.push(primarySample(ms, lsn))
          }
          const { lagBytes } = ring.lagOf(replicaSample(ms, replay))
          if (steps.length > 0) expect(lagBytes).toBeGreaterThanOrEqual(lsn - replay)
        },
      ),
    )
  })
})

describe('the most advanced replica', () => {
  test('is the one with most WAL on the newest timeline, received or replayed', () => {
    const received = { ...replicaSample(0, 50, 2), receiveLsn: 70n }
    const restarted = { ...replicaSample(0, 60, 2), receiveLsn: 0n }
    const samples = [replicaSample(0, 900), primarySample(0, 999, 3), restarted, received]
    expect(mostAdvanced(samples)).toEqual({ sample: received, lsn: 70n })
    expect(mostAdvanced([restarted])?.lsn).toBe(60n)
    expect(mostAdvanced([primarySample(0, 1), replicaSample(0, null)])).toBeNull()
  })
})

const FIT: Candidate = {
  isPrimary: false,
  sample: replicaSample(1000, 100),
  refused: false,
  lagBytes: 0,
  lagMs: 0,
  tags: {},
  previous: null,
}

const CONTEXT: EligibilityContext = {
  nowMs: 1000,
  staleMs: 3000,
  limits: { replicaLagBytesMax: 1000, replicaLagMsMax: 10_000 },
  systemIdentifier: '1',
  timeline: 1,
}

describe('eligibility', () => {
  test('a fresh replica without lag on the current timeline may serve reads', () => {
    expect(ineligibleReason(FIT, CONTEXT)).toBeNull()
  })

  test.for([
    ['primary', { isPrimary: true }],
    ['unprobed', { sample: null }],
    ['unreachable', { refused: true }],
    ['stale', { sample: replicaSample(-2001, 100) }],
    ['system_identifier', { sample: { ...replicaSample(1000, 100), systemIdentifier: '2' } }],
    ['not_in_recovery', { sample: primarySample(1000, 100) }],
    ['noloadbalance', { tags: { noloadbalance: true } }],
    ['timeline', { sample: replicaSample(1000, 100, 2) }],
    ['lag_unknown', { lagBytes: null }],
    ['lag_unknown', { lagMs: null }],
    ['lag_bytes', { lagBytes: 1001 }],
    ['lag_ms', { lagMs: 10_001 }],
  ] as const)('%s', ([reason, changes]) => {
    expect(ineligibleReason({ ...FIT, ...changes }, CONTEXT)).toBe(reason)
  })

  test('a replica turned away for its lag returns only well below the limit', () => {
    const returning = { ...FIT, previous: 'lag_bytes' as const }
    expect(ineligibleReason({ ...returning, lagBytes: 1000 }, CONTEXT)).toBe('lag_bytes')
    const under = 1000 * LAG_RETURN_FACTOR
    expect(ineligibleReason({ ...returning, lagBytes: under }, CONTEXT)).toBeNull()
    expect(ineligibleReason({ ...FIT, lagBytes: 1000 }, CONTEXT)).toBeNull()
  })

  test('a tag that says false, in any spelling, does not exclude', () => {
    for (const tag of [false, 0, 'false', 'no'])
      expect(ineligibleReason({ ...FIT, tags: { noloadbalance: tag } }, CONTEXT)).toBeNull()
  })
})
