/**
 * The two stacks of the tutorial that pgsteer's deployment answers, as they were published: the rules
 * find what is wrong with them, each at its place and nowhere else. The numbers are those of the
 * table "what the tutorial does, what we do, why" in docs/deploy.md.
 */
import { readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { expect, test } from 'vitest'
import { judge } from './rules.ts'
import { readStack, type Stack } from './stack.ts'

const fixture = (file: string, name: string): Stack =>
  readStack(join(import.meta.dirname, 'fixtures', file), { name })

const STACKS = [
  fixture('tutorial-postgres.yml', 'postgres'),
  fixture('tutorial-monitoring.yml', 'monitoring'),
]

/** Groups of its services. */
const SERVERS = ['postgres-master', 'postgres-replica', 'patroni']
const DATABASE = [...SERVERS, 'pgbouncer', 'pgbackrest', 'etcd', 'pgadmin']
const MONITORING = ['prometheus', 'postgres-exporter', 'node-exporter', 'grafana']
const ALL = [...DATABASE, ...MONITORING]
const KEEPING = ['postgres-master', 'postgres-replica', 'pgbackrest', 'etcd', 'pgadmin']
const NETWORK = ['networks.postgres-network']
const CONFIGS = ['configs.pg_hba_conf', 'configs.postgresql_conf']

type Expected = readonly [rows: string, rule: string, where: readonly string[]]

const EXPECTED: readonly Expected[] = [
  ['B2 D1 E1 F1 G1 H3 L15', 'image-pinned', ALL],
  ['B1 C7', 'no-ignored-keys', ['version', 'postgres-replica']],
  ['I4', 'files-exist', CONFIGS],
  ['L5', 'no-relative-bind', ['prometheus']],
  ['I3', 'versioned-names', CONFIGS],
  ['G5', 'stateful-dnsrr', [...KEEPING, 'prometheus', 'grafana']],
  ['G2', 'stateful-hostname', [...KEEPING, 'prometheus', 'grafana']],
  ['B8 G7 H3 I6 L6', 'stateful-pinned', ['pgbackrest', 'etcd', 'pgadmin', 'prometheus', 'grafana']],
  ['C5 G2 G3', 'stateful-alone', ['postgres-replica', 'etcd']],
  ['E4', 'own-volume', ['pgbackrest']],
  ['A3 A6 E5 F8', 'local-volume', [...SERVERS, 'pgbackrest']],
  ['B13 F10', 'stop-grace', [...KEEPING, 'patroni', 'prometheus', 'grafana']],
  ['B9 E1 F10', 'restart-any', ALL],
  ['B14', 'watched-update', ALL],
  ['L15', 'memory-limit', ['pgbouncer', 'pgbackrest', 'patroni', 'etcd', 'pgadmin', ...MONITORING]],
  ['B15', 'log-rotation', ALL],
  [
    'B7 D6 H1 L7',
    'off-the-mesh',
    ['postgres-master', 'pgbouncer', 'pgadmin', 'prometheus', 'node-exporter', 'grafana'],
  ],
  ['B7', 'databases-unpublished', ['postgres-master']],
  ['B11', 'database-shm', SERVERS],
  ['C5 G3', 'volume-lock', SERVERS],
  ['A1 F2', 'patroni-starts-it', ['postgres-master', 'postgres-replica']],
  ['F3 F4', 'patroni-name', ['patroni']],
  ['B12 C8 F10', 'patroni-liveness', SERVERS],
  ['F10', 'patroni-start-period', ['patroni']],
  ['G2 G6', 'etcd-initial-cluster', ['etcd']],
  ['F5', 'patroni-etcd-hosts', ['patroni']],
  ['F9 G4 I1', 'inner-networks', NETWORK],
  ['I2 K3 K5', 'fixed-subnet', NETWORK],
  ['I1', 'encrypted-overlay', NETWORK],
  ['L9', 'hosts-measured', ['node-exporter']],
  ['B4', 'no-default-secret', [...SERVERS, 'pgbouncer', 'pgadmin', 'postgres-exporter', 'grafana']],
  ['B4 F9 H2 L13', 'secrets-as-files', [...SERVERS, 'pgbouncer', 'pgadmin', 'grafana']],
  ['L3', 'secrets-out-of-urls', ['postgres-exporter']],
  ['L3', 'verified-tls', ['postgres-exporter']],
  ['L3', 'client-certificates', ['postgres-exporter']],
  ['G4 H1', 'login-required', ['etcd', 'pgadmin']],
]

const findings = judge(STACKS)
const places = (rule: string): string[] =>
  [...new Set(findings.filter((one) => one.rule === rule).map(({ where }) => where))].toSorted()

test.each(EXPECTED)('%s: %s', (_, rule, where) => {
  expect(places(rule)).toEqual([...where].toSorted())
})

test('nothing else is found', () => {
  const expected = new Set(EXPECTED.map(([, rule]) => rule))
  expect(findings.filter(({ rule }) => !expected.has(rule))).toEqual([])
  expect(new Set(findings.map(({ file }) => basename(file)))).toEqual(
    new Set(['tutorial-postgres.yml', 'tutorial-monitoring.yml']),
  )
})

/** How many rows each part of the table has. */
const ROWS = { A: 7, B: 15, C: 10, D: 7, E: 7, F: 11, G: 8, H: 5, I: 6, J: 9, K: 6, L: 15 }

test('the documentation answers every row of the table, and rules name rows of it', () => {
  const docs = readFileSync(join(import.meta.dirname, '../../docs/deploy.md'), 'utf8')
  const answered = [...docs.matchAll(/^\| ([A-L]\d+) \| [^|]+ \| [^|]+ \|[^|]*\|$/gm)].map(
    ([, row]) => row,
  )
  const rows = Object.entries(ROWS).flatMap(([part, count]) =>
    Array.from({ length: count }, (_, index) => `${part}${index + 1}`),
  )
  expect(answered).toEqual(rows)
  const named = EXPECTED.flatMap(([one]) => one.split(' '))
  expect(named.filter((row) => !rows.includes(row))).toEqual([])
})
