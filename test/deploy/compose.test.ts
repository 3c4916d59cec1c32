/** The compose file for one machine: compose accepts it with nothing set, and it obeys the rules. */
import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import { dockerCompose } from '../support/docker.ts'
import { execute } from '../support/exec.ts'
import { environmentOf } from './environment.ts'
import { judge, told } from './rules.ts'
import { services } from './services.ts'
import { at, list, mapping, readStack, text } from './stack.ts'

const FILE = resolve(import.meta.dirname, '../../deploy/compose.yml')
const COMPOSE = readStack(FILE, { kind: 'compose', name: 'pgsteer' })

/** `docker compose config`, as JSON, with this and nothing else in the environment. */
async function config(environment: Record<string, string> = {}): Promise<unknown> {
  const { file, args } = dockerCompose()
  const variables = { PATH: process.env['PATH'] ?? '', HOME: '/nonexistent', ...environment }
  const words = Object.entries(variables).map(([key, value]) => `${key}=${value}`)
  const { code, output, errors } = await execute(
    { file: 'env', args: ['-i', ...words, file, ...args], env: {} },
    ['-f', FILE, '--profile', '*', 'config', '--format', 'json'],
  )
  expect(code, errors).toBe(0)
  return JSON.parse(output)
}

test('compose accepts it with nothing set, and with everything set', async () => {
  const names = services(COMPOSE).map(({ name }) => name)
  for (const environment of [{}, environmentOf(COMPOSE, { all: true })])
    expect(Object.keys(mapping(at(await config(environment), 'services'))).toSorted()).toEqual(
      names.toSorted(),
    )
})

test('it obeys every rule that is not about Swarm', () => {
  expect(told(judge([COMPOSE]))).toBe('')
})

test('what it publishes, it publishes for this machine alone', async () => {
  const all = Object.values(mapping(at(await config(), 'services')))
  const ports = all.flatMap((service) => list(mapping(service)['ports']))
  expect(ports).toHaveLength(2)
  for (const port of ports) expect(text(mapping(port)['host_ip'])).toBe('127.0.0.1')
})

test('every password and key is made at the first start, in a volume of its reader', () => {
  const secrets = services(COMPOSE).flatMap(({ name, mounts }) =>
    mounts
      .filter(({ source }) => source.startsWith('secrets-'))
      .map(({ source }) => [name, source]),
  )
  const prepared = secrets.filter(([name]) => name === 'prepare').map(([, volume]) => volume)
  const read = secrets.filter(([name]) => name !== 'prepare').map(([, volume]) => volume)
  expect(new Set(read)).toEqual(new Set(prepared))
  expect(COMPOSE.content['secrets']).toBeUndefined()
})
