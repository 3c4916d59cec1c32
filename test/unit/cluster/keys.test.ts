import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { formatAddress, parseConnectionUrl, parseHosts } from '../../../src/cluster/address.ts'
import {
  isSuccessor,
  keyPrefix,
  parseDynamic,
  parseFailover,
  parseHistory,
  parseInitialize,
  parseMember,
  parseObject,
} from '../../../src/cluster/keys.ts'
import {
  adopt,
  applyEvents,
  type Keyspace,
  leaderLease,
  refusal,
  type StoredKey,
  sameKeys,
  viewOf,
} from '../../../src/cluster/keyspace.ts'
import { parseLsn } from '../../../src/cluster/probe.ts'

describe('conn_url', () => {
  test.for([
    ['postgres://10.0.0.1:5432/postgres', ['10.0.0.1:5432']],
    ['postgres://pg1.example.org:5433/postgres', ['pg1.example.org:5433']],
    ['postgres://[2001:db8::1]:5432/postgres', ['[2001:db8::1]:5432']],
    ['postgres://h1,h2:5433/postgres', ['h1:5433', 'h2:5433']],
    ['postgres://h1:5431,h2:5432/postgres', ['h1:5431', 'h2:5432']],
    ['postgres://[::1],[::2]:6000/postgres', ['[::1]:6000', '[::2]:6000']],
    ['postgresql://user:p@ss@host/db?sslmode=require', ['host:5432']],
    ['postgres://host', ['host:5432']],
    ['mysql://host:1/db', []],
    ['postgres://host:99999/db', []],
    ['postgres:///db', []],
    ['', []],
  ] as const)('%s', ([url, expected]) => {
    expect(parseConnectionUrl(url).map(formatAddress)).toEqual(expected)
  })

  test('a bare IPv6 address in a list is an address without a port', () => {
    expect(parseHosts('::1, pg2:5433')).toEqual([
      { host: '::1', port: 5433 },
      { host: 'pg2', port: 5433 },
    ])
  })

  test('no text makes it throw', () => {
    fc.assert(fc.property(fc.string(), (text) => Array.isArray(parseConnectionUrl(text))))
  })
})

describe('the key prefix', () => {
  test('is as Patroni makes it, with its slash at the end', () => {
    expect(keyPrefix('/service/', 'main', null)).toBe('/service/main/')
    expect(keyPrefix('service', 'main', 0)).toBe('/service/main/0/')
    expect(keyPrefix('//a//b', 'main', null)).toBe('/a/b/main/')
  })
})

describe('member keys of every Patroni', () => {
  test('3.0: role master, no replication_state', () => {
    const text =
      '{"conn_url":"postgres://127.0.0.1:5432/postgres","api_url":"http://127.0.0.1:8008/patroni",' +
      '"state":"running","role":"master","version":"3.0.2","xlog_location":67384328,"timeline":1}'
    expect(parseMember('pg1', text)).toEqual({
      name: 'pg1',
      addresses: [{ host: '127.0.0.1', port: 5432 }],
      proxy: null,
      restUrl: 'http://127.0.0.1:8008',
      state: 'running',
      tags: {},
    })
  })

  test('4.1: role primary, LSNs, tags of any scalar, a pooler in front', () => {
    const text =
      '{"conn_url":"postgres://pg1:5432/postgres","api_url":"https://pg1:8008/patroni",' +
      '"proxy_url":"postgres://pg1:6432/postgres","state":"running","role":"primary",' +
      '"receive_lsn":1,"replay_lsn":1,"tags":{"noloadbalance":true,"zone":"b","weight":2,"x":{}},' +
      '"pending_restart_reason":{}}'
    expect(parseMember('pg1', text)).toMatchObject({
      proxy: { host: 'pg1', port: 6432 },
      restUrl: 'https://pg1:8008',
      tags: { noloadbalance: true, zone: 'b', weight: 2 },
    })
  })

  test('while it starts there is little, and nothing is invented', () => {
    expect(parseMember('pg2', '{"state":"creating replica","role":"uninitialized"}')).toEqual({
      name: 'pg2',
      addresses: [],
      proxy: null,
      restUrl: null,
      state: 'creating replica',
      tags: {},
    })
  })

  test('no value of any key throws', () => {
    fc.assert(
      fc.property(fc.oneof(fc.json(), fc.string()), (text) => {
        parseMember('x', text)
        parseDynamic(parseObject(text), 30_000)
        parseFailover(text)
        parseHistory(parseObject(text)['history'])
        parseInitialize(text)
      }),
    )
  })
})

describe('config', () => {
  test("absent keys have Patroni's defaults", () => {
    expect(parseDynamic({}, 30_000)).toEqual({
      ttlMs: 30_000,
      loopWaitMs: 10_000,
      paused: false,
      standbyCluster: false,
      failsafeMode: false,
      synchronousMode: false,
    })
  })

  test('what is set counts, in any spelling of a boolean', () => {
    const text =
      '{"ttl":20,"loop_wait":5,"pause":"on","failsafe_mode":true,"synchronous_mode":"quorum",' +
      '"standby_cluster":{"host":"other"}}'
    expect(parseDynamic(parseObject(text), 30_000)).toEqual({
      ttlMs: 20_000,
      loopWaitMs: 5000,
      paused: true,
      standbyCluster: true,
      failsafeMode: true,
      synchronousMode: true,
    })
    expect(parseDynamic({ standby_cluster: null, pause: null }, 1).standbyCluster).toBe(false)
  })
})

describe('failover', () => {
  test.for([
    ['{"leader":"a","member":"b"}', { leader: 'a', candidate: 'b', scheduledAt: null }],
    [
      '{"leader":"a","scheduled_at":"2026-01-01T00:00:00+00:00"}',
      { leader: 'a', candidate: null, scheduledAt: '2026-01-01T00:00:00+00:00' },
    ],
    ['{"member":"b"}', { leader: null, candidate: 'b', scheduledAt: null }],
    ['a:b', { leader: 'a', candidate: 'b', scheduledAt: null }],
    ['a:', { leader: 'a', candidate: null, scheduledAt: null }],
    ['{}', null],
    ['', null],
  ] as const)('%s', ([text, expected]) => {
    expect(parseFailover(text)).toEqual(expected)
  })
})

describe('initialize', () => {
  test('is empty while somebody bootstraps', () => {
    expect(parseInitialize('')).toBeNull()
    expect(parseInitialize('7711257450862600699')).toBe('7711257450862600699')
  })
})

function history(...lines: [number, number][]): ReturnType<typeof parseHistory> {
  return parseHistory(lines.map(([timeline, lsn]) => [timeline, lsn, 'no recovery target']))
}

describe('history', () => {
  test('a line more, and old lines cut off, continue it', () => {
    expect(isSuccessor(history([1, 10]), history([1, 10], [2, 20]))).toBe(true)
    expect(isSuccessor(history([1, 10], [2, 20]), history([2, 20], [3, 30]))).toBe(true)
    expect(isSuccessor([], history([1, 10]))).toBe(true)
    expect(isSuccessor(history([1, 10]), [])).toBe(true)
  })

  test('another end of a timeline, or a timeline taken back, does not', () => {
    expect(isSuccessor(history([1, 10], [2, 20]), history([1, 10], [2, 21]))).toBe(false)
    expect(isSuccessor(history([1, 10], [2, 20]), history([1, 10]))).toBe(false)
  })
})

describe('LSN', () => {
  test('is read as 64 bits', () => {
    expect(parseLsn('16/B374D848')).toBe(0x16b374d848n)
    expect(parseLsn('0/0')).toBe(0n)
    expect(parseLsn('FFFFFFFF/FFFFFFFF')).toBe(0xffffffffffffffffn)
    expect(parseLsn(null)).toBeNull()
    expect(parseLsn('x/1')).toBeNull()
  })
})

function stored(value: string, modRevision: bigint, lease = '0'): StoredKey {
  return { value, createRevision: modRevision, modRevision, lease }
}

function keyspace(revision: bigint, keys: Record<string, StoredKey>): Keyspace {
  return {
    header: { clusterId: '77', revision, raftTerm: 3n },
    keys: new Map(Object.entries(keys)),
  }
}

function vacancy(keys: Record<string, StoredKey>): string {
  return viewOf(keyspace(1n, keys), '/service/main/', 30_000).vacancy
}

describe('the keyspace', () => {
  const member = '{"conn_url":"postgres://h:1/p","state":"running","role":"master"}'
  const known = keyspace(10n, {
    leader: stored('pg1', 5n, '123'),
    'members/pg1': stored(member, 6n),
    initialize: stored('7711257450862600699', 2n),
  })

  test('is read into a view: the reign is the cluster id and the create revision', () => {
    const view = viewOf(known, '/service/main/', 30_000)
    expect(view.leader).toEqual({ name: 'pg1', epoch: '77/5' })
    expect(view.members.map((one) => one.name)).toEqual(['pg1'])
    expect(view.systemIdentifier).toBe('7711257450862600699')
    expect(leaderLease(known)).toBe('123')
  })

  test('a member that says it is the primary is no leader', () => {
    const without = keyspace(10n, { 'members/pg1': stored(member, 6n) })
    expect(viewOf(without, '/service/main/', 30_000).leader).toBeNull()
  })

  test('says why nobody leads', () => {
    expect(vacancy({})).toContain('nothing under /service/main/')
    expect(vacancy({ initialize: stored('', 1n) })).toBe('the cluster is not bootstrapped yet')
    const initialize = stored('7711257450862600699', 1n)
    expect(vacancy({ initialize })).toBe('nobody holds the leader key')
    expect(vacancy({ initialize, config: stored('{"pause":true}', 1n) })).toContain('paused')
  })

  test('takes events that are newer than what it knows, and no others', () => {
    const header = { ...known.header, revision: 12n }
    const after = applyEvents(known, header, [
      { name: 'leader', key: null, modRevision: 11n },
      { name: 'leader', key: stored('pg2', 12n), modRevision: 12n },
      { name: 'members/pg1', key: null, modRevision: 9n },
    ])
    expect(after.keys.get('leader')?.value).toBe('pg2')
    expect(after.keys.has('members/pg1')).toBe(true)
    expect(after.header.revision).toBe(12n)
  })

  test('an older read does not undo what is known', () => {
    expect(adopt(known, keyspace(9n, {}))).toBe(known)
    expect(adopt(known, keyspace(10n, {})).keys.size).toBe(0)
  })

  test('any write of a key makes a difference', () => {
    const written = keyspace(11n, { ...Object.fromEntries(known.keys), leader: stored('pg1', 11n) })
    expect(sameKeys(known, known)).toBe(true)
    expect(sameKeys(known, written)).toBe(false)
  })

  test('answers of another cluster, an older raft term or an older revision are refused', () => {
    const { header } = known
    expect(refusal(null, header)).toBeNull()
    expect(refusal(header, { ...header, revision: 11n })).toBeNull()
    expect(refusal(header, { ...header, clusterId: '78' })).toContain('another cluster')
    expect(refusal(header, { ...header, raftTerm: 2n })).toContain('raft term')
    expect(refusal(header, { ...header, revision: 9n })).toContain('revision')
  })
})
