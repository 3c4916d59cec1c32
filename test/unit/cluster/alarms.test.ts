import { expect, test } from 'vitest'
import { createLog } from '../../../src/base/log.ts'
import { alarmsOf, tellAlarms } from '../../../src/cluster/alarms.ts'
import type { Sample } from '../../../src/cluster/topology.ts'
import { member, topology } from '../../support/facts.ts'

function on(timeline: number): Sample {
  return {
    sentMs: 0,
    receivedMs: 0,
    inRecovery: true,
    systemIdentifier: '7000000000000000001',
    timeline,
    writeLsn: null,
    insertLsn: null,
    replayLsn: 1n,
    receiveLsn: 1n,
  }
}

function refused(primary: string | null, ineligibleReason: string, timeline = 5) {
  const suspect = member({ name: 'x', ineligibleReason, eligible: false, sample: on(timeline) })
  const alarms = alarmsOf(topology({ primary, timeline: 5, members: [suspect] }))
  return alarms.get('x') ?? null
}

test('a member of another cluster is an alarm, with a primary and without', () => {
  expect(refused('a', 'system_identifier')).toBe('system_identifier')
  expect(refused(null, 'system_identifier')).toBe('system_identifier')
})

test('a second primary is an alarm, but not the next one before it is verified', () => {
  expect(refused('a', 'not_in_recovery')).toBe('not_in_recovery')
  expect(refused(null, 'not_in_recovery')).toBeNull()
})

test('a later timeline is an alarm, an earlier one is on its way', () => {
  expect(refused('a', 'timeline', 6)).toBe('timeline')
  expect(refused('a', 'timeline', 4)).toBeNull()
})

test('a member that is down, late or tagged is none', () => {
  for (const reason of ['unreachable', 'stale', 'lag_bytes', 'noloadbalance', 'primary'])
    expect(refused('a', reason)).toBeNull()
})

test('each alarm is told once, and once when it is over', () => {
  const lines: string[] = []
  const note = (_: unknown, line: string): void => void lines.push(line)
  const log = Object.assign(createLog({ level: 'silent', format: 'json' }), {
    error: note,
    info: note,
  })
  const suspect = member({ name: 'x', ineligibleReason: 'system_identifier' })
  let told: ReadonlyMap<string, string> = new Map()
  for (const members of [[suspect], [suspect], [], []])
    told = tellAlarms(told, topology({ members }), log)
  expect(lines).toEqual([
    'a member is refused: it belongs to another cluster',
    'the member is refused no longer',
  ])
})
