import { describe, expect, test } from 'vitest'
import type { Entry } from '../../../src/cluster/roster.ts'
import { type MemberAddress, MemberTable, type TableContext } from '../../../src/cluster/table.ts'
import type { Member, Sample } from '../../../src/cluster/topology.ts'

const LIMITS = { replicaLagBytesMax: 1000, replicaLagMsMax: 10_000 }

function sample(sentMs: number, lsn: number, inRecovery: boolean): Sample {
  return {
    sentMs,
    receivedMs: sentMs,
    inRecovery,
    systemIdentifier: '1',
    timeline: 1,
    writeLsn: inRecovery ? null : BigInt(lsn),
    insertLsn: inRecovery ? null : BigInt(lsn),
    replayLsn: inRecovery ? BigInt(lsn) : null,
    receiveLsn: null,
  }
}

function entry(name: string, said: Sample | null, changes: Partial<Entry['member']> = {}): Entry {
  return {
    member: {
      name,
      addresses: [{ host: name, port: 5432 }],
      proxy: null,
      restUrl: null,
      state: 'running',
      tags: {},
      ...changes,
    },
    testimony: { sample: said, failure: null },
    address: null,
    started: null,
    receiverStatus: null,
    cutBeforeMs: null,
    silences: 0,
    isUnlisted: false,
  }
}

function context(nowMs: number, primary: string | null = 'a'): TableContext {
  return {
    primary,
    verified: { name: 'a', epoch: '1', systemIdentifier: '1', timeline: 1 },
    systemIdentifier: '1',
    nowMs,
    staleMs: 3000,
    weights: new Map([['b', 5]]),
    zones: new Map([['b', 'north']]),
  }
}

function rows(entries: Entry[], address: MemberAddress = 'conn_url'): readonly Member[] {
  const table = new MemberTable(LIMITS, address)
  table.learn(sample(0, 0, false), 100n)
  return table.members(entries, context(0))
}

describe('the rows of a Topology', () => {
  test('traffic goes to the pooler beside a member only if asked for and if there is one', () => {
    const proxy = { host: 'b', port: 6432 }
    const entries = [entry('a', null), entry('b', null, { proxy })]
    expect(rows(entries, 'conn_url').map((one) => one.port)).toEqual([5432, 5432])
    expect(rows(entries, 'proxy_url').map((one) => one.port)).toEqual([5432, 6432])
  })

  test('weights and zones come from the configuration, zones else from the tag', () => {
    const entries = [
      entry('b', null, { tags: { zone: 'south' } }),
      entry('c', null, { tags: { zone: 'south' } }),
    ]
    expect(rows(entries)).toMatchObject([
      { name: 'b', weight: 5, zone: 'north' },
      { name: 'c', weight: 1, zone: 'south' },
    ])
  })

  test('a member that takes writes without being the primary has no role and gets no reads', () => {
    expect(rows([entry('b', sample(0, 100, false))])).toMatchObject([
      { role: 'unknown', eligible: false, ineligibleReason: 'not_in_recovery' },
    ])
  })

  test('the hysteresis remembers from row to row', () => {
    const table = new MemberTable(LIMITS, 'conn_url')
    table.learn(sample(0, 0, false), 10_000n)
    const at = (lsn: number): string | null | undefined =>
      table.members([entry('b', sample(0, lsn, true))], context(0))[0]?.ineligibleReason
    expect(at(8000)).toBe('lag_bytes')
    expect(at(9100)).toBe('lag_bytes')
    expect(at(10_000)).toBeNull()
  })

  test('rows cannot be changed', () => {
    const [row] = rows([entry('b', null)])
    expect(Object.isFrozen(row)).toBe(true)
  })
})
