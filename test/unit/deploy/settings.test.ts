import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { OperatorError } from '../../../src/deploy/operator.ts'
import {
  entriesOf,
  parseSettings,
  settingsText,
  withSettings,
} from '../../../src/deploy/settings.ts'
import { readYaml } from '../../../src/deploy/yaml.ts'
import { VALUES } from './values.ts'

const NONE = new Set<string>()
const parse = (values: Record<string, string>, extra = NONE) =>
  parseSettings(settingsText(values), extra, 'cluster.env')

/** What the operator is told. */
function refused(values: Record<string, string>): string {
  try {
    parse(values)
  } catch (error) {
    if (error instanceof OperatorError) return `${error.message} | ${error.remedy}`
    throw error
  }
  return 'accepted'
}

test('a written file reads back as the same settings, in the order of slots', () => {
  const settings = parse({ ...VALUES, PG_NODES: '4:d,1:a' })
  expect(settings.cluster).toBe('main')
  expect(settings.members).toEqual([
    { slot: 1, node: 'a' },
    { slot: 4, node: 'd' },
  ])
  expect(settings.certEpoch).toBe(1)
  expect(settings.isLocalImages).toBe(false)
  expect(entriesOf(settingsText(settings.env))).toEqual(settings.env)
})

test.each(Object.keys(VALUES))('%s left out stops with its name and how to set it', (name) => {
  expect(refused({ ...VALUES, [name]: '' })).toMatch(
    new RegExp(`cluster\\.env: ${name} is not set \\| .*--set ${name}=`),
  )
})

test.each([
  [{ CLUSTER: 'My_Cluster' }, "CLUSTER is 'My_Cluster'"],
  [{ PG_NODES: 'a,b,c' }, "PG_NODES is 'a,b,c'"],
  [{ PG_NODES: '1:a,1:b' }, 'PG_NODES gives a slot twice'],
  [{ PG_NODES: '1:a,2:a' }, 'PG_NODES gives a node two members'],
  [{ ETCD_NODES: '1:a,2:b' }, 'ETCD_NODES names 2 members'],
  [{ PG_MEMORY: '4 GB' }, "PG_MEMORY is '4 GB'"],
  [{ CERT_EPOCH: '0' }, "CERT_EPOCH is '0'"],
  [{ CLUSTER: 'main-' }, "CLUSTER is 'main-'"],
  [{ CLUSTER: 'main-monitoring' }, "CLUSTER is 'main-monitoring'"],
  [{ CLUSTER: 'a'.repeat(30) }, 'at most 29'],
  [{ PG_MEMORY: '1M' }, "PG_MEMORY is '1M'"],
  [{ PGSTEER_PORT: '99999' }, "PGSTEER_PORT is '99999'"],
  [{ CERT_DAYS: '999999999' }, '825 at most'],
  [{ DCS_SUBNET: '999.1.1.1/77' }, "DCS_SUBNET is '999.1.1.1/77'"],
  [{ DCS_SUBNET: '10.77.1.7/24' }, 'by its first address'],
  [{ DB_SUBNET: '10.77.1.0/24' }, 'DB_SUBNET overlaps with DCS_SUBNET'],
  [{ FRONT_SUBNET: '10.77.0.0/16' }, 'FRONT_SUBNET overlaps with DCS_SUBNET'],
])('%o is refused', (values, message) => {
  expect(refused({ ...VALUES, ...values })).toContain(message)
})

test.each([
  ['BACKUP_FULL', 'not a cron'],
  ['BACKUP_DIFF', '0 25 * * *'],
  ['BACKUP_INCR', '*/0 * * * *'],
  ['BACKUP_FULL', '0 1 * * 7'],
  ['BACKUP_FULL', '0 1 * * fri-mon'],
  ['BACKUP_RESTORE_TEST', '0 1 * *'],
  ['BACKUP_REPOSITORIES', 'abc'],
  ['GRAFANA_PORT', '0'],
  ['PGSTEER_MEMBER_CONNECTIONS_MAX', 'many'],
])('%s=%s is refused, though only the stack files know the key', (name, value) => {
  const refuse = () => parse({ ...VALUES, [name]: value }, new Set([name]))
  expect(refuse).toThrow(`${name} is '${value}'`)
})

test.each([
  ['BACKUP_FULL', '0 1 * * sun'],
  ['BACKUP_FULL', '30 2,14 1-15/2 jan-jun mon-fri'],
  ['BACKUP_DIFF', 'off'],
  ['BACKUP_INCR', '15 */6 * * *'],
  ['BACKUP_INCR', ''],
  ['BACKUP_REPOSITORIES', '2'],
])('%s=%s is taken', (name, value) => {
  expect(parse({ ...VALUES, [name]: value }, new Set([name])).env[name]).toBe(value)
})

test.each(['CERT_EPOCH=2', 'export CERT_EPOCH=2', ' CERT_EPOCH = 2'])(
  'a key that is there twice is refused: %s',
  (line) => {
    const text = `${settingsText(VALUES)}${line}\n`
    expect(() => parseSettings(text, NONE, 'cluster.env')).toThrow('CERT_EPOCH is there twice')
  },
)

test('a key is changed where it is, however it is written', () => {
  expect(withSettings('export CERT_EPOCH=1\n', { CERT_EPOCH: '2' })).toBe('CERT_EPOCH=2\n')
  expect(withSettings(' CERT_EPOCH = 1\n', { CERT_EPOCH: '2' })).toBe('CERT_EPOCH=2\n')
  expect(withSettings('# CERT_EPOCH=1\n', { CERT_EPOCH: '2' })).toBe(
    '# CERT_EPOCH=1\nCERT_EPOCH=2\n',
  )
})

test('with the longest name of a cluster all names of the stack files fit into what Docker takes', () => {
  const longest = 'a'.repeat(29)
  const folder = resolve(import.meta.dirname, '../../../deploy')
  const names = ['stack.yml', 'monitoring.yml', 'tools.yml'].flatMap((file) => {
    const text = readFileSync(join(folder, file), 'utf8')
    const stack = file === 'stack.yml' ? longest : `${longest}-${file.replace('.yml', '')}`
    const services = Object.keys((readYaml(text) as { services: object }).services)
    const named = [...text.matchAll(/^ {4}name: "?(.*?)"?$/gm)].map(([, name = '']) =>
      name
        .replace(/\$\{CLUSTER[^}]*\}/, longest)
        .replace(/\$\{\w+_SHA[^}]*\}/, 'f'.repeat(12))
        .replace(/\$\{\w+_EPOCH[^}]*\}/, '999'),
    )
    return named.concat(services.map((service) => `${stack}_${service}`))
  })
  expect(names.length).toBeGreaterThan(50)
  expect(names.filter((name) => name.length > 63 && !/_[f]{12}$/.test(name))).toEqual([])
  expect(names.filter((name) => name.length > 64)).toEqual([])
  expect(names.filter((name) => name.includes('$'))).toEqual([])
})

test('a misspelt key is an error that names the nearest one', () => {
  expect(refused({ ...VALUES, PG_MEMROY: '8G' })).toContain('Did you mean PG_MEMORY?')
})

test('a key that only the stack files know is let through to them', () => {
  const { env } = parse({ ...VALUES, BACKUP_FULL: '0 1 * * 0' }, new Set(['BACKUP_FULL']))
  expect(env['BACKUP_FULL']).toBe('0 1 * * 0')
})

test('changing a value keeps comments, order and everything else of the file', () => {
  const text = '# mine\nCLUSTER=main\n\n# why\nCERT_EPOCH=1\n'
  expect(withSettings(text, { CERT_EPOCH: '2', ETCD1_STATE: 'existing' })).toBe(
    '# mine\nCLUSTER=main\n\n# why\nCERT_EPOCH=2\nETCD1_STATE=existing\n',
  )
})
