/**
 * Our console beside a real PgBouncer, asked the same: the columns it has must be ours too, in the
 * same order and of the same type, and its tags and texts must be ours.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fakeActions } from '../support/actions.ts'
import { configFrom } from '../support/config.ts'
import { startConsole, type TestConsole } from '../support/console.ts'
import { program } from '../support/debian.ts'
import { snapshotOf } from '../support/facts.ts'
import { waitFor } from '../support/wait.ts'
import { type Answer, WireClient } from '../support/wire-client.ts'

const DATABASES = `
[databases]
foo = host=127.0.0.1 port=1
bar = host=127.0.0.1 port=1 user=x pool_size=3
`

let theirs: WireClient
let ours: WireClient
let bouncer: ChildProcess
let console: TestConsole
let directory: string

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  return port
}

beforeAll(async () => {
  const port = await freePort()
  directory = mkdtempSync(join(tmpdir(), 'pgsteer-console-'))
  chmodSync(directory, 0o755)
  const ini = join(directory, 'pgbouncer.ini')
  const user = process.getuid?.() === 0 ? 'user = nobody\n' : ''
  writeFileSync(
    ini,
    `${DATABASES}[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = ${port}\nunix_socket_dir =\nauth_type = any\nadmin_users = admin\n${user}`,
  )
  const { file, args, env } = program('pgbouncer')
  bouncer = spawn(file, [...args, '-q', ini], { env: { ...process.env, ...env }, stdio: 'ignore' })
  const login = { port, user: 'admin', database: 'pgbouncer' }
  theirs = await waitFor('PgBouncer takes clients', () => WireClient.login(login))
  const config = configFrom(`${DATABASES}[pgbouncer]\nauth_type = trust\n`)
  console = await startConsole(fakeActions({ snapshotOf: () => snapshotOf({ config }) }))
  ours = await WireClient.login({ port: console.port, user: 'admin', database: 'pgbouncer' })
})

afterAll(() => {
  ours.destroy()
  theirs.destroy()
  console.close()
  bouncer.kill()
  rmSync(directory, { recursive: true })
})

/** `name type` of every column. */
function columns(answer: Answer): string[] {
  const body = answer.frames.find((frame) => frame.type === 'T')?.body ?? Buffer.from([0, 0])
  const found = []
  let at = 2
  for (let index = 0; index < body.readInt16BE(0); index += 1) {
    const end = body.indexOf(0, at)
    found.push(`${body.toString('utf8', at, end)} ${body.readInt32BE(end + 7)}`)
    at = end + 19
  }
  return found
}

/** PgBouncer 1.18 called it so; newer ones as we do. */
const RENAMED = new Map([['reserve_pool 23', 'reserve_pool_size 23']])

describe('columns', () => {
  test.each([
    'pools',
    'databases',
    'clients',
    'servers',
    'sockets',
    'active_sockets',
    'users',
    'lists',
    'config',
    'version',
    'mem',
    'dns_hosts',
    'dns_zones',
    'stats',
    'stats_totals',
    'stats_averages',
    'totals',
    'peers',
    'state',
  ])('of SHOW %s', async (view) => {
    const expected = columns(await theirs.query(`show ${view}`)).map(
      (one) => RENAMED.get(one) ?? one,
    )
    const known = columns(await ours.query(`show ${view}`))
    expect(known.filter((one) => expected.includes(one))).toEqual(expected)
  })
})

/** What a client sees of an answer, but its rows. */
function seen(answer: Answer): object {
  return {
    types: answer.types,
    tags: answer.tags,
    errors: answer.errors.map((error) => `${error['S']} ${error['C']} ${error['M']}`),
  }
}

describe('tags and texts', () => {
  test.each([
    'show version',
    'SELECT version;',
    'show "version"',
    'show',
    'show bla',
    'pause foo',
    'resume foo',
    'resume foo',
    'resume nope',
    'resume',
    'pause',
    'pause',
    'kill',
    'resume',
    'enable',
    'disable',
    'disable foo',
    'enable foo',
    'enable nope',
    'reconnect',
    'reconnect foo',
    'reconnect pgbouncer',
    'wait_close pgbouncer',
    'wait_close',
    'pause pgbouncer',
    'kill pgbouncer',
    'set max_client_conn = 120',
    'SET max_client_conn to "130"',
    "set max_client_conn = '140';",
    'set nothing = 1',
    'set datestyle = iso',
    'show datestyle',
    'show client_encoding',
    'show default_transaction_isolation',
    'reload',
    'reload foo',
    'shutdown bla',
    'begin',
    'select 1',
    'show version; show version',
    'pause my-db',
    'averyveryverylongverb',
    `pause ${'x'.repeat(80)}`,
  ])('of %j', async (sql) => {
    const expected = seen(await theirs.query(sql))
    const answered = await ours.query(sql)
    // Notices of RELOAD are ours.
    const frames = answered.frames.filter((frame) => sql !== 'reload' || frame.type !== 'N')
    const types = frames.map((frame) => frame.type).join('')
    expect({ ...seen(answered), types }).toEqual(expected)
  })

  test('the settings that drivers ask for have the same values', async () => {
    for (const name of ['datestyle', 'client_encoding', 'timezone', 'standard_conforming_strings'])
      expect((await ours.query(`show ${name}`)).rows).toEqual(
        (await theirs.query(`show ${name}`)).rows,
      )
  })

  test('the greeting names the same parameters', () => {
    expect([...ours.parameters.keys()].toSorted()).toEqual([...theirs.parameters.keys()].toSorted())
  })
})
