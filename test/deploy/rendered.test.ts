/**
 * What the tool deploys: its stack files for five members and three of etcd obey the same rules as
 * those that are written by hand, and the secrets that it makes are those that the files name.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { parse } from 'yaml'
import { DEPLOY, stackVariables } from '../../src/deploy/context.ts'
import { Folder } from '../../src/deploy/folder.ts'
import { STACKS, type Stack as StackName, stackName } from '../../src/deploy/names.ts'
import { type Rendered, render } from '../../src/deploy/render.ts'
import { makeCertificates, makePasswords, secretsOf } from '../../src/deploy/secrets.ts'
import { parseSettings, type Settings } from '../../src/deploy/settings.ts'
import { dockerStack } from '../support/docker.ts'
import { execute } from '../support/exec.ts'
import { judge, told } from './rules.ts'
import { isEtcd, isPatroni, services } from './services.ts'
import { at, interpolated, list, mapping, readStack, type Stack, text } from './stack.ts'

const MEMBERS = 5
const ETCD = 3
/** What the tool makes for jobs and for people, which no service needs. */
const FOR_OTHERS = ['admin_crt', 'admin_key']

const path = mkdtempSync(join(tmpdir(), 'pgsteer-rendered-'))
afterAll(() => rmSync(path, { recursive: true }))

let settings: Settings
let stacks: readonly Stack[]
let rendered: readonly { readonly name: StackName; readonly as: Rendered }[]
let made: readonly string[]

const slots = (count: number): string =>
  Array.from({ length: count }, (_, index) => `${index + 1}:node${index + 1}`).join(',')

const CLUSTER_ENV = `
CLUSTER=main
PG_NODES=${slots(MEMBERS)}
ETCD_NODES=${slots(ETCD)}
PGBACKREST_NODE=node1
MONITORING_NODE=node2
NODE_IMAGE=registry.example/node:1.2.3
PGSTEER_IMAGE=registry.example/pgsteer:1.2.3
CERT_EPOCH=7
AUTH_EPOCH=9
PGADMIN_EMAIL=dba@example.org
ALERT_RECEIVERS_FILE=${join(DEPLOY, 'alertmanager/receivers.example.yml')}
`

/** With cluster and epoch. */
const full = (names: readonly string[]): string[] =>
  names.map((name) => `main_${name}_${/_(?:crt|key)$/.test(name) ? 7 : 9}`)

beforeAll(async () => {
  const folder = new Folder(path, false)
  settings = parseSettings(CLUSTER_ENV, stackVariables(DEPLOY), 'cluster.env')
  await makeCertificates(folder, settings, { nodeNames: ['node1'], nowMs: Date.now() })
  makePasswords(folder, settings)
  made = secretsOf(folder, settings).map(({ name }) => name)
  rendered = STACKS.map((name) => ({
    name,
    as: render({ folder, deploy: DEPLOY }, settings, name),
  }))
  stacks = rendered.map(({ name, as }) =>
    readStack(as.file, { name: stackName(settings.cluster, name), environment: as.env }),
  )
}, 60_000)

test('every variable that the files insist on is set', () => {
  expect(rendered.flatMap(({ as }) => as.missing)).toEqual([])
})

test('there are as many members and etcds as the settings say', () => {
  const all = stacks.flatMap((stack) => services(stack))
  expect(all.filter(isPatroni).map(({ name }) => name)).toHaveLength(MEMBERS)
  expect(all.filter(isEtcd)).toHaveLength(ETCD)
})

test('the rendered files obey every rule', () => {
  expect(told(judge(stacks))).toBe('')
})

test('Docker accepts the rendered files, and gives secrets to their reader alone', async () => {
  const { file, args } = dockerStack()
  const modes = new Map<string, number>()
  for (const { as } of rendered) {
    const docker = { file, args: [...args, 'config'], env: as.env }
    const { code, output, errors } = await execute(docker, ['-c', as.file])
    expect(code, errors).toBe(0)
    for (const service of Object.values(mapping(at(parse(output), 'services'))))
      for (const secret of list(mapping(service)['secrets']))
        modes.set(text(mapping(secret)['source']), Number(mapping(secret)['mode']))
  }
  expect(modes.size).toBeGreaterThan(2 * (MEMBERS + ETCD))
  const others = [...modes].filter(([name, mode]) => name !== 'ca_crt' && mode !== 0o400)
  expect(others).toEqual([])
}, 60_000)

test('the secrets that the files name are those that the tool makes, each under its epoch', () => {
  const named = stacks.flatMap((stack) => {
    const environment = { CLUSTER: 'main', CERT_EPOCH: '7', AUTH_EPOCH: '9' }
    return Object.values(mapping(stack.written['secrets'])).map((secret) =>
      interpolated(text(mapping(secret)['name']), environment),
    )
  })
  expect([...new Set(named)].toSorted()).toEqual(
    made.filter((name) => !full(FOR_OTHERS).includes(name)).toSorted(),
  )
  expect(made).toEqual(expect.arrayContaining(full(FOR_OTHERS)))
})
