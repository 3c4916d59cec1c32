/**
 * Reads of many clients on few real servers, with `multiplex_reads = auto`: over an entry with a host
 * of its own, and over a cluster. What PostgreSQL says of a shared server is seen here, not assumed.
 */
import { expect, test } from 'vitest'
import { frontend } from '../support/bytes.ts'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import type { WireClient } from '../support/wire-client.ts'

const CLIENTS = 24
const TURNS = 60

const shared = useCluster({ replicas: 1 })
const front = useSteer(shared, () => ({
  databases: `* =\nplain = host=127.0.0.1 port=${shared.cluster.primary.port} dbname=demo`,
  pgbouncer: { default_pool_size: 2 },
  pgsteer: { multiplex_reads: 'auto' },
}))

function nonceOf(client: number, turn: number): string {
  return `${client}000${turn}`
}

/** One client's reads, in both protocols; returns what it was answered wrongly. */
async function reads(client: WireClient, id: number): Promise<string[]> {
  const wrong: string[] = []
  const expectNonce = async (turn: number): Promise<void> => {
    const answer = await client.ready()
    const found = answer.rows[0]?.[0]
    if (found !== nonceOf(id, turn)) wrong.push(`${found} for ${nonceOf(id, turn)}`)
  }
  client.send(frontend.parse('n', 'SELECT $1::text AS nonce FROM one'), frontend.sync())
  await client.ready()
  for (let turn = 0; turn < TURNS; turn += 1) {
    const nonce = nonceOf(id, turn)
    if (turn % 3 === 0) client.send(frontend.query(`SELECT '${nonce}' AS nonce FROM one`))
    else if (turn % 3 === 1)
      client.send(
        frontend.bind({ statement: 'n', values: [nonce] }),
        frontend.describe('P'),
        frontend.execute(),
        frontend.sync(),
      )
    else
      client.send(
        frontend.parse('', `SELECT '${nonce}' AS nonce FROM one`),
        frontend.bind(),
        frontend.execute(),
        frontend.sync(),
      )
    await expectNonce(turn)
    if (turn % 10 !== id % 10) continue
    const failed = await client.query('SELECT 1 / nought FROM one')
    if (failed.errors[0]?.['C'] !== '22012') wrong.push(`no error: ${failed.types}`)
  }
  return wrong
}

async function metric(name: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${front.steer.httpPort}/metrics`)).text()
  return Number(new RegExp(`^${name} (\\d+)`, 'm').exec(text)?.[1])
}

test.each(['demo', 'plain'])('%s: every client gets its own answers', async (database) => {
  const owner = await front.steer.wire({ database })
  await owner.query('CREATE TABLE IF NOT EXISTS one AS SELECT 0 AS nought')
  const before = await metric('pgsteer_multiplexed_reads_total')
  const clients = await Promise.all(
    Array.from({ length: CLIENTS }, () => front.steer.wire({ database })),
  )
  const wrong = await Promise.all(clients.map(reads))
  expect(wrong.flat()).toEqual([])
  // Otherwise nothing was tried here.
  expect((await metric('pgsteer_multiplexed_reads_total')) - before).toBeGreaterThan(CLIENTS)
})

/** One database's row of SHOW STATS_TOTALS, in numbers. */
async function totals(database: string): Promise<Record<string, number>> {
  const rows = await front.steer.console('SHOW STATS_TOTALS')
  const found = rows.find((row) => row['database'] === database) ?? {}
  return Object.fromEntries(Object.entries(found).map(([name, value]) => [name, Number(value)]))
}

test('each read counts once, and no moment of it twice', async () => {
  const clients = await Promise.all(
    Array.from({ length: CLIENTS }, () => front.steer.wire({ database: 'plain' })),
  )
  const startedMs = performance.now()
  const before = await totals('plain')
  const counted = 'pgsteer_query_duration_seconds_count\\{database="plain",role="plain"\\}'
  const observed = await metric(counted)
  await Promise.all(clients.map(reads))
  const after = await totals('plain')
  const grown = (name: string): number => (after[name] ?? 0) - (before[name] ?? 0)
  // The Parse, each turn, and those that fail.
  const queries = CLIENTS * (1 + TURNS + TURNS / 10)
  expect(grown('query_count')).toBe(queries)
  expect(grown('xact_count')).toBe(queries)
  expect((await metric(counted)) - observed).toBe(queries)
  expect(grown('server_assignment_count')).toBeGreaterThanOrEqual(queries)
  const elapsedUs = (performance.now() - startedMs) * 1000
  const spentUs = grown('query_time') + grown('wait_time')
  expect(spentUs).toBeGreaterThan(0)
  expect(spentUs).toBeLessThan(CLIENTS * elapsedUs)
  // Each is a transaction of its own; what is shown is in whole microseconds.
  expect(Math.abs(grown('xact_time') - grown('query_time'))).toBeLessThanOrEqual(2)
})

test('a write that a view hides is made once, by a server that nobody shares', async () => {
  const owner = await front.steer.wire({ database: 'plain' })
  await owner.query('CREATE SEQUENCE hidden_sequence')
  await owner.query(`CREATE VIEW hidden AS SELECT nextval('hidden_sequence') AS value`)
  const clients = await Promise.all(
    Array.from({ length: CLIENTS }, () => front.steer.wire({ database: 'plain' })),
  )
  const answers = await Promise.all(
    clients.map((client) => client.query('SELECT value FROM hidden')),
  )
  const values = answers
    .map(({ rows }) => Number(rows[0]?.[0]))
    .toSorted((one, other) => one - other)
  expect(values).toEqual(Array.from({ length: CLIENTS }, (_, index) => index + 1))
})

test('a client that writes finds its server ordinary, also behind those who shared it', async () => {
  const clients = await Promise.all(
    Array.from({ length: CLIENTS }, () => front.steer.wire({ database: 'plain' })),
  )
  await clients[0]?.query('CREATE TABLE made (id int PRIMARY KEY)')
  const answers = await Promise.all(
    clients.map(async (client, id) => {
      for (let turn = 0; turn < 20; turn += 1) await client.query('SELECT nought FROM one')
      const made = await client.query(`INSERT INTO made VALUES (${id})`)
      const shown = await client.query('SHOW transaction_read_only')
      return [made.errors[0]?.['C'] ?? 'made', shown.rows[0]?.[0]]
    }),
  )
  expect(answers).toEqual(clients.map(() => ['made', 'off']))
})
