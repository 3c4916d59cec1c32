/** A member that hangs, as a paused virtual machine does: its sockets stay open and nothing comes. */
import { afterEach, expect, test } from 'vitest'
import { frontend } from '../support/bytes.ts'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

const PROBE_TIMEOUT_MS = 300
/** The second question is not answered after this; then 3 s to tell everybody. */
const DECISION_MS = 2 * PROBE_TIMEOUT_MS + 100
const ANSWER_MS = 3000

const shared = useCluster({ replicas: 1 })
const front = useSteer(shared, { cluster: { probe_timeout_ms: PROBE_TIMEOUT_MS } })

afterEach(() => {
  for (const name of ['pg1', 'pg2']) shared.cluster.member(name).freeze('SIGCONT')
})

async function answered<T>(answer: Promise<T>): Promise<T> {
  const sinceMs = performance.now()
  const result = await answer
  expect(performance.now() - sinceMs).toBeLessThan(DECISION_MS + ANSWER_MS)
  return result
}

async function isServed(sql: string): Promise<void> {
  await waitFor('the statement to be served', async () => {
    const client = await front.steer.wire()
    const { sqlstate } = await client.query(sql)
    await client.close()
    return sqlstate === undefined
  })
}

test('reads that hang on a frozen replica are answered, and their connections stay', async () => {
  const client = await front.steer.wire()
  const port = String(shared.cluster.member('pg2').port)
  await waitFor('reads on the replica', async () => {
    const { rows } = await client.query('SELECT inet_server_port() FROM pg_class LIMIT 1')
    return rows[0]?.[0] === port
  })
  shared.cluster.member('pg2').freeze('SIGSTOP')
  client.send(frontend.query('SELECT count(*) FROM pg_class'))
  const answer = await answered(client.ready())
  expect(answer.status).toBe('I')
  expect(['40001', undefined]).toContain(answer.sqlstate)
  expect((await client.query('SELECT 1')).rows).toEqual([['1']])
  await client.close()
})

test('writes that hang on a frozen primary are told, the others wait and run when it thaws', async () => {
  const [hanging, waiting] = [await front.steer.wire(), await front.steer.wire()]
  await isServed('CREATE TABLE IF NOT EXISTS frozen (id int)')
  await waiting.query('SELECT 1')
  shared.cluster.member('pg1').freeze('SIGSTOP')
  hanging.send(frontend.query('INSERT INTO frozen VALUES (1)'))
  const { sqlstate } = await answered(hanging.until('E'))
  expect(['08007', '57P01']).toContain(sqlstate)
  waiting.send(frontend.query('INSERT INTO frozen VALUES (2)'))
  shared.cluster.member('pg1').freeze('SIGCONT')
  expect((await waiting.ready()).tags).toEqual(['INSERT 0 1'])
  await waiting.close()
})
