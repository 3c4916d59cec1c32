/** What an operator sees of real traffic: the metrics move, and the log has a line for each event. */
import { expect, test } from 'vitest'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

const shared = useCluster({ replicas: 1 })
const front = useSteer(shared, { pgbouncer: { log_connections: 1, log_disconnections: 1 } })

/** The value of one series; its labels in any order. */
async function metric(name: string, labels: Readonly<Record<string, string>>): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${front.steer.httpPort}/metrics`)
  const lines = (await response.text()).split('\n').filter((line) => line.startsWith(`${name}{`))
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`)
  const found = lines.filter((line) => wanted.every((part) => line.includes(part)))
  return found.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0)
}

async function untilMetric(
  name: string,
  labels: Readonly<Record<string, string>>,
  least: number,
): Promise<void> {
  const what = `${name} ${JSON.stringify(labels)} at least ${least}`
  await waitFor(what, async () => {
    const value = await metric(name, labels)
    if (value >= least) return true
    throw new Error(`${value}`)
  })
}

test('queries, routes, pins, errors and healing are counted', async () => {
  const client = await front.steer.wire()
  await client.query('CREATE UNLOGGED TABLE unlogged (a int)')
  await shared.cluster.caughtUp()
  await waitFor('reads on the replica', async () => {
    const { rows } = await client.query('SELECT inet_server_port()')
    return Number(rows[0]?.[0]) === shared.cluster.replicas[0]?.port
  })
  await client.query('SELECT a FROM unlogged')
  await client.query('SELECT 1/0')
  await client.query('LISTEN something')
  await untilMetric(
    'pgsteer_query_duration_seconds_count',
    { database: 'demo', role: 'primary' },
    2,
  )
  await untilMetric(
    'pgsteer_query_duration_seconds_count',
    { database: 'demo', role: 'replica' },
    1,
  )
  await untilMetric('pgsteer_queue_duration_seconds_count', { database: 'demo' }, 3)
  await untilMetric('pgsteer_routes_total', { reason: 'healed' }, 1)
  await untilMetric('pgsteer_statements_healed_total', {}, 1)
  await untilMetric('pgsteer_pins_total', { reason: 'listen' }, 1)
  await untilMetric('pgsteer_errors_total', { sqlstate: '22012' }, 1)
  await client.close()
})

test('a client that comes, goes or is refused is one line with its reason', async () => {
  const { steer } = front
  const lines = (text: RegExp) => steer.log.split('\n').filter((line) => text.test(line))
  const before = [lines(/"client logged in"/).length, lines(/"client gone"/).length]
  const client = await steer.wire()
  await client.close()
  const cut = await steer.wire()
  cut.destroy()
  await waitFor('both are gone', () => lines(/"client gone"/).length === (before[1] ?? 0) + 2)
  expect(lines(/"client logged in"/).length).toBe((before[0] ?? 0) + 2)
  for (const line of lines(/"client gone"/).slice(-2))
    expect(JSON.parse(line)).toMatchObject({
      database: 'demo',
      user: 'demo',
      reason: expect.any(String),
    })
  await expect(steer.wire({ password: 'not-the-word' })).rejects.toThrow(
    'SASL authentication failed',
  )
  const refused = await waitFor('the refusal', () => lines(/"log-in failed"/).at(-1))
  expect((JSON.parse(refused) as { reason: string }).reason).not.toBe('')
  expect(steer.log).not.toMatch(/not-the-word|SCRAM-SHA-256\$/)
})
