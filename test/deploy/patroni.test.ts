/**
 * Patroni's configuration that is shipped, judged by Debian 12's Patroni 3.0 with a real etcd, and the
 * numbers in it that have to fit those of pgsteer. test/long judges it by Patroni 4.
 */
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { parse } from 'yaml'
import { debian12 } from '../support/patroni.ts'
import { MemberConfiguration, ROLES } from '../support/patroni-config.ts'
import { at } from './stack.ts'

// Programs that start slowly on a machine that is busy.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

const DEPLOY = resolve(import.meta.dirname, '../../deploy')
const read = (file: string): string => readFileSync(join(DEPLOY, file), 'utf8')

let member: MemberConfiguration
beforeAll(async () => {
  member = await MemberConfiguration.prepare(debian12())
})
afterAll(() => member?.stop())

/** 3.0 insists on the place where it had the lines of pg_hba.conf once. */
const OLD_PLACE = { bootstrap: { pg_hba: ['local all postgres peer'] } }
const same = (base: string): string => base
const soon = (base: string): string => base.replace(/\bttl: \d+/, 'ttl: soon')
/** Patroni merges into what an alias shares: all roles would become the last one. */
const aliased = (base: string): string => base.replaceAll('{<<: *peer}', '*peer')

test('Patroni accepts base.yml with its secrets', async () => {
  expect(await member.complaints(member.write(same, OLD_PLACE))).toEqual([])
})

test('Patroni complains of what is wrong in it', async () => {
  expect(await member.complaints(member.write(soon, OLD_PLACE))).toEqual([
    expect.stringMatching(/^bootstrap\.dcs\.ttl\b/),
  ])
})

test('each role has its own name and password, and the same TLS settings, after the merge', async () => {
  const merged = await member.roles(member.write(same))
  for (const [role, credentials] of Object.entries(ROLES))
    expect(merged[role], role).toMatchObject({ ...credentials, sslmode: 'verify-full' })
})

test('roles that share their settings by an alias are seen to become one', async () => {
  expect(same(SHIPPED.base)).not.toBe(aliased(SHIPPED.base))
  const { replication } = await member.roles(member.write(aliased))
  expect(replication).not.toMatchObject(ROLES.replication)
})

interface Numbers {
  readonly ini: string
  readonly base: string
  readonly member: string
}

const SHIPPED: Numbers = {
  ini: read('pgsteer/pgsteer.ini'),
  base: read('patroni/base.yml'),
  member: read('images/node/member'),
}

/** One pgsteer for each of the three nodes that the stack is written for. */
const PROXIES = 3
/** PostgreSQL's reserve for superusers, and what the cluster itself and people may take. */
const RESERVED = 3
const OTHERS_MIN = 20

function dcs({ base }: Numbers): Record<string, unknown> {
  return at(parse(base), 'bootstrap', 'dcs') as Record<string, unknown>
}

/** What does not fit, in sentences. */
function misfits(numbers: Numbers): string[] {
  const { ttl, loop_wait: loopWait, retry_timeout: retry, postgresql } = dcs(numbers)
  const maxConnections = Number(at(postgresql, 'parameters', 'max_connections'))
  const ofOne = Number(/^member_connections_max\s*=\s*(\d+)/m.exec(numbers.ini)?.[1] ?? Infinity)
  const sized = Number(/^connections=(\d+)/m.exec(numbers.member)?.[1])
  const left = maxConnections - RESERVED - PROXIES * ofOne
  return [
    ...(left >= OTHERS_MIN ? [] : [`${left} connections are left for others`]),
    ...(sized === maxConnections ? [] : [`memory is sized for ${sized} connections`]),
    ...(Number(loopWait) + 2 * Number(retry) <= Number(ttl) ? [] : ['ttl is too short']),
  ]
}

test('connections of all pgsteers fit in max_connections, memory is sized by it, and the lease outlasts its retries', () => {
  expect(misfits(SHIPPED)).toEqual([])
})

test.each<[string, Numbers, RegExp]>([
  [
    'too large pools',
    { ...SHIPPED, ini: 'member_connections_max = 66\n' },
    /connections are left for others/,
  ],
  ['pools without a bound', { ...SHIPPED, ini: '' }, /connections are left for others/],
  [
    'another max_connections',
    { ...SHIPPED, base: SHIPPED.base.replace(/max_connections: \d+/, 'max_connections: 500') },
    /memory is sized for/,
  ],
  ['a short lease', { ...SHIPPED, base: SHIPPED.base.replace(/\bttl: 30/, 'ttl: 20') }, /ttl/],
])('numbers that do not fit are seen: %s', (_, numbers, said) => {
  expect(misfits(numbers)).toEqual([expect.stringMatching(said)])
})

test('nobody logs in over the network without TLS, and nobody without a password', () => {
  const lines = at(parse(SHIPPED.base), 'postgresql', 'pg_hba') as string[]
  for (const line of lines.filter((one) => !one.startsWith('local') && !one.endsWith(' reject')))
    expect(line).toMatch(/^hostssl .* scram-sha-256(?: clientcert=verify-(?:ca|full))?$/)
  for (const line of lines) expect(line).not.toMatch(/\b(?:trust|md5|password|ident)\b/)
  expect(lines.at(-1)).toBe('host all all all reject')
})
