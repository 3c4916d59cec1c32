/**
 * The stack files that are shipped: Docker accepts them, each variable that they insist on stops the
 * deploy with its name when it is missing, and they obey all rules.
 */
import { readdirSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { expect, test, vi } from 'vitest'
import { dockerStack } from '../support/docker.ts'
import { execute, type Ran } from '../support/exec.ts'
import { environmentOf } from './environment.ts'
import { judge, told } from './rules.ts'
import { readStack, type Service, type Stack, variables } from './stack.ts'

// Dozens of processes, on a machine that may be busy.
vi.setConfig({ testTimeout: 120_000 })

const DEPLOY = resolve(import.meta.dirname, '../../deploy')
/** Files that only add to another one of the same stack. */
const ADDED: Readonly<Record<string, string>> = {
  'monitoring-publish.yml': 'monitoring.yml',
  'tools-publish.yml': 'tools.yml',
}

const FILES = readdirSync(DEPLOY).filter((name) => /\.ya?ml$/.test(name) && name !== 'compose.yml')
const path = (name: string): string => join(DEPLOY, name)

/** Files of one `docker stack deploy`, and what each of them alone insists on. */
const DEPLOYED = FILES.map((name) => ({ name, base: ADDED[name] })).map(({ name, base }) => ({
  name,
  files: [...(base === undefined ? [] : [path(base)]), path(name)],
}))

const environmentFor = (files: readonly string[], options?: { all: boolean }) =>
  Object.assign({}, ...files.map((file) => environmentOf(readStack(file), options))) as Record<
    string,
    string
  >

/** `docker stack config` in an environment of its own, so that nothing of this process's helps. */
function config(files: readonly string[], environment: Record<string, string>): Promise<Ran> {
  const { file, args } = dockerStack()
  const flags = files.flatMap((one) => ['-c', one])
  const assignments = Object.entries({ PATH: process.env['PATH'] ?? '', ...environment }).map(
    ([key, value]) => `${key}=${value}`,
  )
  return execute({ file: 'env', args: ['-i', ...assignments, file, ...args], env: {} }, [
    'config',
    ...flags,
  ])
}

function stacks(): Stack[] {
  return FILES.filter((name) => ADDED[name] === undefined).map((name) =>
    readStack(path(name), {
      name: basename(name, '.yml') === 'stack' ? 'main' : `main-${basename(name, '.yml')}`,
      environment: environmentOf(readStack(path(name))),
    }),
  )
}

test('there are the stack files that the documentation names', () => {
  expect(FILES).toEqual(expect.arrayContaining(['monitoring.yml', 'stack.yml', 'tools.yml']))
})

test('the stack files, deployed together, obey every rule', () => {
  expect(told(judge(stacks()))).toBe('')
})

test('no two stacks make one and the same config, which `docker stack rm` of either would remove', () => {
  const names = stacks().flatMap(({ written }) =>
    Object.values((written['configs'] ?? {}) as Record<string, { name?: string }>).map(
      ({ name = '' }) => name.replaceAll(/\$\{(\w+)[^}]*\}/g, '$1'),
    ),
  )
  expect(names.length).toBeGreaterThan(15)
  expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([])
})

test.each(DEPLOYED)('docker accepts $name with what it insists on', async ({ files }) => {
  const { code, errors } = await config(files, environmentFor(files))
  expect(errors).toBe('')
  expect(code).toBe(0)
})

test.each(DEPLOYED)('docker accepts $name with every variable set', async ({ files }) => {
  const { code, errors } = await config(files, environmentFor(files, { all: true }))
  expect(errors).toBe('')
  expect(code).toBe(0)
})

test.each(FILES.filter((name) => ADDED[name] === undefined))(
  'each variable that %s insists on stops the deploy by its name when it is missing or empty',
  async (name) => {
    const files = [path(name)]
    const whole = environmentFor(files)
    const required = [...variables(readStack(path(name)))].filter(([, one]) => one.isRequired)
    expect(required.length).toBeGreaterThan(3)
    const passed: string[] = []
    for (const [variable] of required) {
      const { code, errors } = await config(files, { ...whole, [variable]: '' })
      if (code === 0 || !new RegExp(`required variable "?${variable}"? `).test(errors))
        passed.push(`${variable}: ${errors}`)
    }
    expect(passed).toEqual([])
  },
)

/** A fault in the shipped files themselves: that nothing is found there must not mean that nothing is seen. */
test.each<[fault: string, rule: string, where: string, change: (service: Service) => Service]>([
  [
    'Prometheus on one network alone',
    'targets-reachable',
    'prometheus',
    (service) => ({ ...service, networks: ['monitoring'] }),
  ],
  [
    'a member that starts without its entry',
    'volume-lock',
    'patroni1',
    (service) => ({ ...service, words: ['patroni', '/run/patroni'] }),
  ],
  [
    'a member that knows one etcd',
    'patroni-etcd-hosts',
    'patroni2',
    ({ environment, ...rest }) => ({
      ...rest,
      environment: new Map([...environment, ['PATRONI_ETCD3_HOSTS', 'etcd1:2379']]),
    }),
  ],
  [
    'an agent on the node of another member',
    'own-volume',
    'agent3',
    (service) => ({ ...service, constraints: ['node.labels.pg.slot==1'] }),
  ],
  [
    'pgAdmin on the port of pgsteer',
    'port-once',
    'pgadmin',
    (service) => ({ ...service, ports: [{ published: '6432', protocol: 'tcp', mode: 'host' }] }),
  ],
])('in the files that are shipped, %s is found', (_, rule, where, change) => {
  const changed = stacks().map((stack) => {
    const service = stack.services.get(where)
    if (service === undefined) return stack
    return Object.assign({}, stack, {
      services: new Map([...stack.services, [where, change(service)]]),
    })
  })
  expect(judge(changed)).toEqual(expect.arrayContaining([expect.objectContaining({ rule, where })]))
})
