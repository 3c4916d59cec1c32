/** Each rule for stack files is broken once: a good stack with one thing wrong has that one finding. */
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { judge, RULES } from './rules.ts'
import { type Mapping, makeStack, readStack, type Stack } from './stack.ts'

const FILE = join(import.meta.dirname, 'fixtures/good.yml')
const ENVIRONMENT = {
  NODE_IMAGE: 'registry.example/node:1.2.0',
  PATRONI_BASE_SHA: '0123456789ab',
  PROMETHEUS_SHA: '0123456789ab',
  AUTH_EPOCH: '1',
}
const GOOD = readStack(FILE, { environment: ENVIRONMENT })

/** Where in the file, by dots, and what is there instead; `undefined` is nothing. */
type Edit = readonly [path: string, value: unknown]

/** The good stack with parts of it replaced. */
function broken(edits: readonly Edit[]): Stack {
  const written = structuredClone(GOOD.written)
  for (const [path, value] of edits) put(written, path.split('.'), value)
  return makeStack(FILE, written, { environment: ENVIRONMENT })
}

function put(inside: Record<string, unknown>, path: readonly string[], value: unknown): void {
  const [key = '', ...rest] = path
  if (rest.length > 0) put((inside[key] ??= {}) as Record<string, unknown>, rest, value)
  else if (value === undefined) delete inside[key]
  else inside[key] = value
}

const service = (name: string): Mapping =>
  (GOOD.written['services'] as Record<string, Mapping>)[name] ?? {}

const etcd = (name: string): Mapping => ({
  ...service('etcd3'),
  hostname: name,
  environment: { ETCD_NAME: name, ETCD_INITIAL_CLUSTER: FOUR },
  volumes: [],
})
const FOUR = [1, 2, 3, 4].map((one) => `etcd${one}=https://etcd${one}:2380`).join(',')
const WITHOUT_ETCD3 = 'etcd1=https://etcd1:2380,etcd2=https://etcd2:2380'

interface Seeded {
  readonly rule: string
  readonly fault: string
  readonly edits: readonly Edit[]
  /** Where it is found, if not at the service that the first edit is in. */
  readonly at?: readonly string[]
  /** Other rules that the same fault breaks. */
  readonly also?: readonly string[]
}

const p1 = 'services.patroni1'
const p2 = 'services.patroni2'
const e1 = 'services.etcd1'
const steer = 'services.pgsteer'
const prometheus = 'services.prometheus'

const SEEDED: readonly Seeded[] = [
  {
    rule: 'image-pinned',
    fault: 'an image without a tag',
    edits: [[`${steer}.image`, 'host:5000/pgsteer']],
  },
  { rule: 'image-pinned', fault: 'the tag latest', edits: [[`${steer}.image`, 'pgsteer:latest']] },
  {
    rule: 'image-pinned',
    fault: 'a major version alone',
    edits: [[`${steer}.image`, 'pgsteer:2']],
  },
  { rule: 'no-ignored-keys', fault: 'shm_size', edits: [[`${p1}.shm_size`, '1g']] },
  { rule: 'no-ignored-keys', fault: 'tmpfs', edits: [[`${steer}.tmpfs`, ['/tmp']]] },
  { rule: 'no-ignored-keys', fault: 'depends_on', edits: [[`${steer}.depends_on`, ['etcd1']]] },
  { rule: 'no-ignored-keys', fault: 'a version', edits: [['version', '3.8']], at: ['version'] },
  {
    rule: 'references-defined',
    fault: 'an unknown network',
    edits: [[`${steer}.networks`, ['dcs', 'db', 'front']]],
  },
  {
    rule: 'references-defined',
    fault: 'an unknown volume',
    edits: [['volumes.pg2', undefined]],
    at: ['patroni2'],
  },
  {
    rule: 'references-defined',
    fault: 'an unknown config',
    edits: [[`${steer}.configs`, ['ini']]],
  },
  {
    rule: 'references-defined',
    fault: 'an unknown secret',
    edits: [[`${steer}.secrets`, ['token']]],
  },
  {
    rule: 'files-exist',
    fault: 'a config without its file',
    edits: [['configs.more', { name: 'more_${MORE_SHA}', file: 'none.yml' }]],
    at: ['configs.more'],
  },
  {
    rule: 'no-nested-variables',
    fault: 'a default that is a variable',
    edits: [[`${steer}.command`, ['${WORD:-${OTHER:?}}']]],
  },
  {
    rule: 'plain-messages',
    fault: 'a hyphen in a message',
    edits: [[`${steer}.image`, '${PGSTEER_IMAGE:?the image of pgsteer, pgsteer-1.0.0}']],
    also: ['image-pinned'],
  },
  {
    rule: 'no-relative-bind',
    fault: 'a bind mount beside the file',
    edits: [[`${steer}.volumes`, ['./pgsteer.ini:/etc/pgsteer.ini']]],
  },
  {
    rule: 'versioned-names',
    fault: 'a config of a fixed name',
    edits: [['configs.patroni_base.name', 'patroni_base']],
    at: ['configs.patroni_base'],
  },
  {
    rule: 'versioned-names',
    fault: 'a secret without a name',
    edits: [['secrets.patroni_auth.name', undefined]],
    at: ['secrets.patroni_auth'],
  },
  {
    rule: 'stateful-dnsrr',
    fault: 'a database behind a virtual address',
    edits: [[`${p1}.deploy.endpoint_mode`, 'vip']],
  },
  {
    rule: 'stateful-hostname',
    fault: 'a member without hostname',
    edits: [[`${e1}.hostname`, undefined]],
  },
  {
    rule: 'stateful-pinned',
    fault: 'a member without a place',
    edits: [[`${p2}.deploy.placement`, undefined]],
  },
  {
    rule: 'stateful-pinned',
    fault: 'node.role as the only constraint',
    edits: [[`${p2}.deploy.placement.constraints`, ['node.role == manager']]],
  },
  {
    rule: 'stateful-alone',
    fault: 'two replicas on one volume',
    edits: [[`${prometheus}.deploy.replicas`, 2]],
  },
  {
    rule: 'own-volume',
    fault: 'one volume for two members',
    edits: [[`${p2}.volumes.0`, 'pg1:/var/lib/postgresql']],
  },
  {
    rule: 'own-volume',
    fault: 'an agent on another node than its member',
    edits: [['services.agent1.deploy.placement.constraints', ['node.labels.pg.slot == 2']]],
    at: ['agent1'],
  },
  {
    rule: 'local-volume',
    fault: 'a volume on S3',
    edits: [['volumes.pg2.driver', 'rexray/s3fs']],
    at: ['patroni2'],
  },
  { rule: 'stop-grace', fault: "Docker's 10 s", edits: [[`${e1}.stop_grace_period`, undefined]] },
  { rule: 'stop-grace', fault: '60 s for PostgreSQL', edits: [[`${p1}.stop_grace_period`, '60s']] },
  {
    rule: 'restart-any',
    fault: 'no restart policy',
    edits: [[`${steer}.deploy.restart_policy`, undefined]],
  },
  {
    rule: 'restart-any',
    fault: 'on-failure',
    edits: [[`${p1}.deploy.restart_policy.condition`, 'on-failure']],
  },
  {
    rule: 'restart-any',
    fault: 'max_attempts',
    edits: [[`${p1}.deploy.restart_policy.max_attempts`, 3]],
  },
  {
    rule: 'stop-first',
    fault: 'start-first with a host port',
    edits: [[`${steer}.deploy.update_config.order`, 'start-first']],
  },
  {
    rule: 'stop-first',
    fault: 'start-first with a volume, when rolled back',
    edits: [[`${p1}.deploy.rollback_config`, { order: 'start-first' }]],
  },
  {
    rule: 'watched-update',
    fault: 'no failure_action',
    edits: [[`${steer}.deploy.update_config.failure_action`, undefined]],
  },
  {
    rule: 'memory-limit',
    fault: 'no limit',
    edits: [['services.stanza.deploy.resources', undefined]],
    at: ['stanza'],
  },
  { rule: 'log-rotation', fault: 'logs without a bound', edits: [[`${steer}.logging`, undefined]] },
  {
    rule: 'dnsrr-host-ports',
    fault: 'a port on the mesh',
    edits: [[`${steer}.ports.0.mode`, 'ingress']],
    also: ['off-the-mesh'],
  },
  {
    rule: 'off-the-mesh',
    fault: 'Prometheus on the mesh',
    edits: [[`${prometheus}.ports`, ['9090:9090']]],
    also: ['dnsrr-host-ports'],
  },
  {
    rule: 'databases-unpublished',
    fault: 'a published PostgreSQL',
    edits: [[`${p1}.ports`, [{ target: 5432, published: 5432, mode: 'host' }]]],
  },
  {
    rule: 'databases-unpublished',
    fault: 'a published etcd',
    edits: [[`${e1}.ports`, [{ target: 2379, published: 2379, mode: 'host' }]]],
  },
  {
    rule: 'port-once',
    fault: 'one port of two services',
    edits: [[`${prometheus}.ports.0.published`, 6432]],
  },
  {
    rule: 'database-shm',
    fault: 'no /dev/shm',
    edits: [[`${p1}.volumes`, ['pg1:/var/lib/postgresql']]],
  },
  {
    rule: 'database-shm',
    fault: "Docker's 64 MiB",
    edits: [[`${p1}.volumes.1.tmpfs.size`, 67_108_864]],
  },
  {
    rule: 'volume-lock',
    fault: 'Patroni without a lock',
    edits: [[`${p1}.command`, ['patroni', '/etc/patroni']]],
  },
  {
    rule: 'patroni-starts-it',
    fault: 'a bare PostgreSQL',
    edits: [
      [`${p1}.environment`, {}],
      [`${p1}.image`, 'postgres:17.6'],
      [`${p1}.configs`, []],
    ],
  },
  {
    rule: 'patroni-name',
    fault: "the deployer's HOSTNAME",
    edits: [[`${p1}.environment.PATRONI_NAME`, '${HOSTNAME}']],
  },
  {
    rule: 'etcd-no-health-check',
    fault: 'a health check that needs a quorum',
    edits: [[`${e1}.healthcheck`, { test: ['CMD', 'etcdctl', 'endpoint', 'health'] }]],
  },
  {
    rule: 'patroni-liveness',
    fault: 'pg_isready',
    edits: [[`${p1}.healthcheck.test`, ['CMD-SHELL', 'pg_isready']]],
  },
  {
    rule: 'patroni-liveness',
    fault: '/readiness',
    edits: [[`${p1}.healthcheck.test`, ['CMD', 'curl', 'https://localhost:8008/readiness']]],
  },
  {
    rule: 'patroni-start-period',
    fault: 'less time to start than to stop',
    edits: [[`${p1}.healthcheck.start_period`, '2m']],
  },
  {
    rule: 'etcd-initial-cluster',
    fault: 'a member left out',
    edits: [[`${e1}.environment.ETCD_INITIAL_CLUSTER`, WITHOUT_ETCD3]],
  },
  {
    rule: 'etcd-initial-cluster',
    fault: 'the name of another member',
    edits: [[`${e1}.environment.ETCD_NAME`, 'etcd2']],
  },
  {
    rule: 'etcd-odd',
    fault: 'a fourth member',
    edits: [1, 2, 3, 4].map((one): Edit => [`services.etcd${one}`, etcd(`etcd${one}`)]),
    at: ['services'],
    also: ['patroni-etcd-hosts'],
  },
  {
    rule: 'patroni-etcd-hosts',
    fault: 'one host of three',
    edits: [[`${p1}.environment.PATRONI_ETCD3_HOSTS`, "'etcd1:2379'"]],
  },
  {
    rule: 'inner-networks',
    fault: 'an attachable network',
    edits: [['networks.db.attachable', true]],
    at: ['networks.db'],
  },
  {
    rule: 'inner-networks',
    fault: 'a network with a way out',
    edits: [['networks.dcs.internal', undefined]],
    at: ['networks.dcs'],
  },
  {
    rule: 'fixed-subnet',
    fault: 'any subnet',
    edits: [['networks.db.ipam', undefined]],
    at: ['networks.db'],
  },
  {
    rule: 'encrypted-overlay',
    fault: 'plain text between nodes',
    edits: [['networks.dcs.driver_opts', undefined]],
    at: ['networks.dcs'],
  },
  {
    rule: 'hosts-measured',
    fault: 'node-exporter in an overlay',
    edits: [[`${steer}.image`, 'quay.io/prometheus/node-exporter:v1.12.1']],
  },
  {
    rule: 'targets-reachable',
    fault: 'an exporter elsewhere',
    edits: [['services.exporter1.networks', ['dcs']]],
    at: ['prometheus'],
  },
  {
    rule: 'targets-reachable',
    fault: 'an exporter on no network',
    edits: [['services.exporter1.networks', []]],
    at: ['exporter1', 'prometheus'],
  },
  {
    rule: 'targets-reachable',
    fault: 'a scrape of nobody',
    edits: [['services.exporter1', undefined]],
    at: ['prometheus'],
  },
  {
    rule: 'no-default-secret',
    fault: 'a default password',
    edits: [[`${steer}.command`, ['run', '${ADMIN_PASSWORD:-admin}']]],
  },
  {
    rule: 'secrets-as-files',
    fault: 'a password in the environment',
    edits: [[`${steer}.environment.PGSTEER_PROBE_PASSWORD`, '${PROBE_PASSWORD:?}']],
  },
  {
    rule: 'secrets-out-of-urls',
    fault: 'a password in a URL',
    edits: [
      [
        'services.exporter1.environment.DATA_SOURCE_NAME',
        'postgresql://metrics:word@patroni1/postgres',
      ],
    ],
    at: ['exporter1'],
  },
  {
    rule: 'verified-tls',
    fault: 'sslmode=require',
    edits: [
      [
        'services.exporter1.environment.DATA_SOURCE_URI',
        'patroni1/postgres?sslmode=require&sslcert=/run/secrets/crt&sslkey=/run/secrets/key',
      ],
    ],
    at: ['exporter1'],
  },
  {
    rule: 'client-certificates',
    fault: 'a connection string without a certificate',
    edits: [
      ['services.exporter1.environment.DATA_SOURCE_URI', 'patroni1/postgres?sslmode=verify-full'],
    ],
    at: ['exporter1'],
  },
  {
    rule: 'login-required',
    fault: 'pgAdmin without a login',
    edits: [[`${steer}.environment.PGADMIN_CONFIG_SERVER_MODE`, 'False']],
  },
]

test('the good stack breaks no rule', () => {
  expect(judge([GOOD])).toEqual([])
})

test.each(SEEDED)('$rule: $fault', ({ rule, edits, at, also = [] }) => {
  const findings = judge([broken(edits)])
  const places = at ?? [(edits[0]?.[0] ?? '').split('.')[1] ?? '']
  const own = findings.filter((one) => one.rule === rule).map(({ where }) => where)
  expect([...new Set(own)]).toEqual(places)
  const others = findings.filter((one) => one.rule !== rule).map((one) => one.rule)
  expect([...new Set(others)]).toEqual(also)
})

test('every rule is broken once, and says what has to hold and why', () => {
  const names = RULES.map(({ name }) => name)
  expect(new Set(names).size).toBe(names.length)
  expect(names.filter((name) => !SEEDED.some(({ rule }) => rule === name))).toEqual([])
  for (const { says, why } of RULES)
    for (const sentence of [says, why]) expect(sentence).toMatch(/^\S.* .*\.$/)
})

test('a network of another stack is found by the name that both give it', () => {
  const exporter = { ...service('exporter1'), networks: ['theirs'] }
  const monitoring = (name: string): Stack =>
    makeStack(FILE, { services: { exporter }, networks: { theirs: { external: true, name } } })
  const good = makeStack(FILE, GOOD.written, { environment: ENVIRONMENT, name: 'main' })
  const reachable = (name: string): string[] =>
    judge([good, monitoring(name)])
      .filter(({ rule }) => rule === 'targets-reachable')
      .map(({ where }) => where)
  expect(reachable('main_db')).toEqual([])
  expect(reachable('postgres_db')).toEqual(['exporter'])
})

test('a compose file for one machine is not judged by what only Swarm needs', () => {
  const kind = 'compose'
  const swarmOnly: readonly Edit[] = [
    [`${p1}.deploy.endpoint_mode`, 'vip'],
    [`${p1}.privileged`, true],
  ]
  const { written } = broken(swarmOnly)
  expect(judge([makeStack(FILE, written, { environment: ENVIRONMENT, kind })])).toEqual([])
})
