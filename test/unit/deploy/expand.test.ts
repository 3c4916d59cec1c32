import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { expand } from '../../../src/deploy/expand.ts'

const DEPLOY = resolve(import.meta.dirname, '../../../deploy')
const read = (file: string): string => readFileSync(resolve(DEPLOY, file), 'utf8')
const written = { members: [1, 2, 3], etcd: [1, 2, 3] }

interface StackFile {
  services: Record<string, Record<string, unknown>>
  volumes: Record<string, unknown>
  secrets: Record<string, { name: string }>
}
const stack = (members: number[], etcd = [1, 2, 3]) =>
  parse(expand('stack.yml', read('stack.yml'), { members, etcd }), {
    merge: true,
    version: '1.1',
  }) as StackFile

const comments = (text: string): string[] =>
  text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line.startsWith('#'))

test.each(['stack.yml', 'monitoring.yml', 'prometheus/prometheus.yml'])(
  '%s for three members is the file as it is written',
  (file) => {
    expect(expand(file, read(file), written)).toBe(read(file))
  },
)

test('five members: two more of whatever a member has, and nothing else', () => {
  const before = stack([1, 2, 3])
  const after = stack([1, 2, 3, 4, 5])
  const added = (key: keyof StackFile) =>
    Object.keys(after[key]).filter((name) => !(name in before[key]))
  expect(added('services')).toEqual(['patroni4', 'patroni5', 'agent4', 'agent5'])
  expect(added('volumes')).toEqual(['pg4', 'pg5'])
  expect(added('secrets')).toEqual(['patroni4_crt', 'patroni4_key', 'patroni5_crt', 'patroni5_key'])
  for (const name of ['patroni1', 'patroni3', 'etcd3', 'agent3', 'pgsteer'])
    expect(after.services[name]).toEqual(before.services[name])
})

test('a further member is the third with its own number everywhere', () => {
  const { services, secrets } = stack([1, 2, 3, 4])
  const text = JSON.stringify(services['patroni3'])
  const wanted = text.replaceAll('patroni3', 'patroni4').replace('pg3:', 'pg4:')
  expect(services['patroni4']).toEqual(JSON.parse(wanted.replace('slot == 3', 'slot == 4')))
  expect(secrets['patroni4_key']?.name).toBe('${CLUSTER}_patroni4_key_${CERT_EPOCH}')
  expect(services['pgbackrest']?.['environment']).toMatchObject({
    MEMBERS: 'patroni1,patroni2,patroni3,patroni4',
  })
})

test('five members of etcd: everybody knows all of them', () => {
  const { services } = stack([1, 2, 3], [1, 2, 3, 4, 5])
  expect(services['etcd5']?.['environment']).toMatchObject({
    ETCD_NAME: 'etcd5',
    ETCD_INITIAL_CLUSTER: [1, 2, 3, 4, 5].map((n) => `etcd${n}=https://etcd${n}:2380`).join(','),
    ETCD_INITIAL_CLUSTER_STATE: '${ETCD5_STATE:-new}',
  })
  expect(services['pgsteer']?.['environment']).toMatchObject({
    PGSTEER_CLUSTER_ETCD_HOSTS: [1, 2, 3, 4, 5].map((n) => `https://etcd${n}:2379`).join(','),
  })
  expect(Object.keys(services).filter((name) => name.startsWith('patroni'))).toHaveLength(3)
})

test('fewer members, and one from the middle: what was theirs is left out', () => {
  const { services, volumes, secrets } = stack([1, 3], [1])
  const names = Object.keys(services)
  expect(names.filter((name) => /\d$/.test(name))).toEqual([
    'etcd1',
    'patroni1',
    'patroni3',
    'agent1',
    'agent3',
  ])
  expect(Object.keys(volumes)).toEqual(['etcd1', 'pg1', 'pg3', 'repo1', 'scratch'])
  expect(Object.keys(secrets)).not.toContain('patroni2_crt')
  expect(services['pgbackrest']?.['environment']).toMatchObject({ MEMBERS: 'patroni1,patroni3' })
  expect(services['patroni1']?.['environment']).toMatchObject({ PATRONI_ETCD3_HOSTS: 'etcd1:2379' })
})

const modes = (text: string): string[] => text.match(/mode: \d+/g) ?? []

test('a mode in octal digits stays one: a key is readable by its owner alone', () => {
  const text = expand('stack.yml', read('stack.yml'), { members: [1, 2, 4], etcd: [1, 2, 3] })
  expect(modes(text)).toEqual(modes(read('stack.yml')))
  expect(modes(text)).toContain('mode: 0400')
})

test("the file's comments stay", () => {
  const text = expand('stack.yml', read('stack.yml'), { members: [1, 2, 3, 4], etcd: [1, 2, 3] })
  expect(comments(text)).toEqual(comments(read('stack.yml')))
})

test('Prometheus scrapes further members, their exporters and further members of etcd', () => {
  const text = expand('prometheus/prometheus.yml', read('prometheus/prometheus.yml'), {
    members: [1, 2, 3, 4],
    etcd: [1, 2, 3, 4, 5],
  })
  for (const target of ['patroni4:8008', 'exporter4:9187', 'etcd4:2381', 'etcd5:2381'])
    expect(text).toContain(`- ${target}\n`)
  expect(text).not.toContain('patroni5')
})

test('lines of an ini file: blocks of a slot are repeated, lists in a line are lengthened', () => {
  const ini =
    '[main]\npg2-host=patroni2\npg2-port=1\npg3-host=patroni3\npg3-port=1\nhosts = patroni1, patroni2, patroni3\nport=3\n'
  expect(expand('a.conf', ini, { members: [1, 2, 3, 4], etcd: [1, 2, 3] })).toBe(
    ini
      .replace('pg3-port=1\n', 'pg3-port=1\npg4-host=patroni4\npg4-port=1\n')
      .replace('patroni2, patroni3\n', 'patroni2, patroni3, patroni4\n'),
  )
})
