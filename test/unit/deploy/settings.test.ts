import { expect, test } from 'vitest'
import { OperatorError } from '../../../src/deploy/operator.ts'
import {
  entriesOf,
  parseSettings,
  settingsText,
  withSettings,
} from '../../../src/deploy/settings.ts'

const VALUES = {
  CLUSTER: 'main',
  PG_NODES: '1:a,2:b,3:c',
  ETCD_NODES: '1:a,2:b,3:c',
  PGBACKREST_NODE: 'c',
  MONITORING_NODE: 'c',
  NODE_IMAGE: 'node:1',
  PGSTEER_IMAGE: 'pgsteer:1',
}
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
])('%o is refused', (values, message) => {
  expect(refused({ ...VALUES, ...values })).toContain(message)
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
