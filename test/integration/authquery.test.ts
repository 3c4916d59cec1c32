import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Lookup } from '../../src/auth/lookup.ts'
import { parseSecret } from '../../src/auth/secret.ts'
import { systemClock } from '../../src/base/clock.ts'
import { EMPTY_TOPOLOGY, type Topology } from '../../src/cluster/topology.ts'
import { loadConfig } from '../../src/config/load.ts'
import { ServerTls, serverTlsSettings } from '../../src/net/tls.ts'
import { authQuery } from '../../src/server/authquery.ts'
import { Front } from '../support/front.ts'
import { useCluster } from '../support/postgres.ts'
import { waitFor } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

const shared = useCluster({ replicas: 1 })
const directory = mkdtempSync(join(tmpdir(), 'pgsteer-authquery-'))
afterAll(() => rmSync(directory, { recursive: true }))

beforeAll(async () => {
  const { primary } = shared.cluster
  for (const sql of [
    "CREATE ROLE asker LOGIN SUPERUSER PASSWORD 'asker'",
    "CREATE ROLE expired LOGIN PASSWORD 'x' VALID UNTIL '2001-01-01'",
    "CREATE ROLE lasting LOGIN PASSWORD 'lasting' VALID UNTIL 'infinity'",
    "CREATE ROLE nologin PASSWORD 'x'",
    'CREATE ROLE passwordless LOGIN',
    "CREATE FUNCTION lookup(n text, OUT u text, OUT p text) LANGUAGE sql AS $$ SELECT CASE n WHEN 'ghost' THEN NULL ELSE n END, 'md5' || md5('secret' || n) $$",
    'CREATE FUNCTION slow(n text, OUT u text, OUT p text) LANGUAGE sql AS $$ SELECT n, pg_sleep(60)::text $$',
  ])
    await primary.query(sql)
  await shared.cluster.caughtUp()
})

interface Setup {
  readonly keys?: string
  readonly databases?: string
  readonly userlist?: string
  readonly topology?: Topology
}

/** The function under test, for a configuration given as text. */
function query({ keys = '', databases, userlist = '"asker" "asker"\n', topology }: Setup = {}) {
  const file = join(directory, 'pgsteer.ini')
  writeFileSync(join(directory, 'userlist.txt'), userlist)
  const app =
    databases ?? `app = host=127.0.0.1 port=${shared.cluster.primary.port} dbname=postgres`
  writeFileSync(
    file,
    `[databases]\n${app}\n[pgbouncer]\nauth_file = userlist.txt\nauth_user = asker\n${keys}\n`,
  )
  const { config } = loadConfig(file, {})
  return authQuery({
    config: () => config,
    topology: () => topology ?? EMPTY_TOPOLOGY,
    tls: new ServerTls(serverTlsSettings(config.pgbouncer)),
    clock: systemClock,
  })
}

/** What may pass is waited for as long as a log-in may take. */
const BRIEF = 'client_login_timeout = 1'

describe('auth_query', () => {
  it('finds the SCRAM secret of a role', async () => {
    const raw = await query()('demo', 'app')
    expect(parseSecret(raw ?? '').kind).toBe('scram')
  })

  it.each(['nobody', 'expired', 'nologin', 'passwordless'])(
    'finds nothing that %s could log in with',
    async (user) => {
      expect(await query()(user, 'app')).toBe(null)
    },
  )

  it('finds a role whose password has not ended', async () => {
    expect(await query()('lasting', 'app')).toMatch(/^SCRAM-SHA-256\$/)
  })

  it('is not confused by quotes in a name', async () => {
    expect(await query()("x' OR true --", 'app')).toBe(null)
  })

  it('may be a function, whose NULL user is nobody', async () => {
    const ask = query({ keys: 'auth_query = SELECT u, p FROM public.lookup($1)' })
    expect(await ask('alice', 'app')).toMatch(/^md5[0-9a-f]{32}$/)
    expect(await ask('ghost', 'app')).toBe(null)
  })

  it('is asked in auth_dbname, for every database', async () => {
    const port = shared.cluster.primary.port
    const databases = `app = host=127.0.0.1 port=1\nauth = host=127.0.0.1 port=${port} dbname=postgres`
    const ask = query({ keys: 'auth_dbname = auth', databases })
    expect(await ask('demo', 'app')).toMatch(/^SCRAM/)
    expect(await ask('demo', 'pgbouncer')).toMatch(/^SCRAM/)
  })

  it('asks nobody for a database that is not there', async () => {
    expect(await query()('demo', 'nowhere')).toBe(null)
  })

  it('asks the next host when the first is dead', async () => {
    const port = shared.cluster.primary.port
    const databases = `app = host=127.0.0.9,127.0.0.1 port=${port} dbname=postgres`
    expect(await query({ databases })('demo', 'app')).toMatch(/^SCRAM/)
  })

  it('is answered by a replica while there is no primary', async () => {
    const replica = shared.cluster.member('pg2')
    const member = { ...MEMBER, name: 'pg2', host: replica.host, port: replica.port }
    const dead = { ...MEMBER, name: 'pg1', host: '127.0.0.1', port: 1 }
    const topology = { ...EMPTY_TOPOLOGY, members: [dead, member] }
    const databases = 'postgres =\n[cluster]\nsource = static\nhosts = a:1\nprobe_user = x'
    expect(await query({ databases, topology })('demo', 'postgres')).toMatch(/^SCRAM/)
  })

  it('serves many at once over few connections', async () => {
    const ask = query()
    const users = Array.from({ length: 60 }, (_, index) => (index % 2 === 0 ? 'demo' : 'nobody'))
    const found = await Promise.all(users.map((user) => ask(user, 'app')))
    expect(found.filter((raw) => raw !== null)).toHaveLength(30)
    const rows = await shared.cluster.primary.query(
      "SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = 'pgsteer auth_query' AND usename = 'asker'",
    )
    expect(rows[0]?.['n']).toBeLessThan(60)
  })

  it.each([
    ['a query that fails', { keys: 'auth_query = SELECT nothing' }],
    [
      'a query that takes too long',
      { keys: `auth_query = SELECT u, p FROM public.slow($1)\n${BRIEF}` },
    ],
    ['a wrong password of auth_user', { userlist: '"asker" "wrong"\n' }],
    ['a hash in place of it', { userlist: '"asker" "md500000000000000000000000000000000"\n' }],
    ['a dead server', { databases: 'app = host=127.0.0.1 port=1', keys: BRIEF }],
  ])('with %s fails as PgBouncer says it', async (_, setup) => {
    await expect(query(setup)('demo', 'app')).rejects.toMatchObject({
      code: 'auth_query_failed',
      message: 'bouncer config error',
    })
  })
})

it('auth_query waits for a function that is made just now', async () => {
  const { primary } = shared.cluster
  const found = query({ keys: 'auth_query = SELECT u, p FROM public.later($1)' })('demo', 'app')
  const errors = 'SELECT sum(xact_rollback)::int AS n FROM pg_stat_database'
  const before = (await primary.query(errors))[0]?.['n'] as number
  await waitFor('the first answer, an error', async () => {
    await primary.query('SELECT pg_stat_clear_snapshot()')
    return ((await primary.query(errors))[0]?.['n'] as number) > before
  })
  await primary.query(
    "CREATE FUNCTION later(n text, OUT u text, OUT p text) LANGUAGE sql AS $$ SELECT n, 'md5' || md5('secret' || n) $$",
  )
  expect(await found).toMatch(/^md5/)
})

it('auth_query waits for a server that comes back', async () => {
  let refused = 0
  const front = createServer((socket) => {
    if (refused < 2) {
      refused += 1
      socket.destroy()
      return
    }
    const server = connect(shared.cluster.primary.port, '127.0.0.1')
    for (const [one, other] of [
      [socket, server],
      [server, socket],
    ] as const)
      one.on('error', () => other.destroy()).pipe(other)
  })
  front.listen(0, '127.0.0.1')
  await once(front, 'listening')
  const { port } = front.address() as AddressInfo
  const databases = `app = host=127.0.0.1 port=${port} dbname=postgres`
  expect(await query({ databases })('demo', 'app')).toMatch(/^SCRAM/)
  expect(refused).toBe(2)
  front.close()
})

it('a client logs in with what auth_query found, and its keys fit the server', async () => {
  const front = await Front.open({
    keys: 'auth_type = scram-sha-256',
    context: { lookup: new Lookup({ userlist: new Map(), query: query() }, systemClock) },
  })
  try {
    const client = await WireClient.login({
      port: front.port,
      user: 'demo',
      database: 'app',
      password: 'demo',
    })
    client.destroy()
    expect(front.arrivals[0]).toMatchObject({ user: 'demo', secret: { kind: 'scram' } })
  } finally {
    await front.close()
  }
})

const MEMBER = {
  role: 'unknown',
  state: 'running',
  sample: null,
  lagBytes: null,
  lagMs: null,
  eligible: false,
  ineligibleReason: null,
  cutBeforeMs: null,
  weight: 1,
  zone: null,
  tags: {},
} as const
