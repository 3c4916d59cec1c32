/** A server that ends a session by itself: its last word reaches the client, and nothing after it. */
import { expect, test } from 'vitest'
import { errorFields } from '../support/bytes.ts'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'

const shared = useCluster({ replicas: 0 })
const front = useSteer(shared)

test('a terminated server tells its client once, in its own words', async () => {
  const client = await front.steer.wire()
  await client.query('BEGIN')
  const pid = (await client.query('SELECT pg_backend_pid()')).rows[0]?.[0]
  const admin = await shared.cluster.primary.connect('postgres')
  await admin.query('SELECT pg_terminate_backend($1)', [pid])
  await admin.end()
  const frame = await client.next()
  expect(frame === undefined ? null : errorFields(frame.body)['C']).toBe('57P01')
  expect(await client.next()).toBeUndefined()
})
