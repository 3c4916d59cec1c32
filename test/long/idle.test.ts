/** Ten thousand clients that are logged in and mostly idle, on one worker and four servers. */
import { expect, test } from 'vitest'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import type { WireClient } from '../support/wire-client.ts'

const CLIENTS = 10_000
/** Log-ins, and later statements, under way at once. */
const AT_ONCE = 100
/** 13 KB when this was written, a third of it Node's own for a socket. */
const BYTES_PER_CLIENT_MAX = 30_000

const shared = useCluster({ replicas: 0 })
const front = useSteer(shared, {
  pgbouncer: { auth_type: 'trust', max_client_conn: CLIENTS + 100, default_pool_size: 4 },
})

/** `work` for each of 0 .. CLIENTS - 1, AT_ONCE at a time. */
async function forAll(work: (index: number) => Promise<void>): Promise<void> {
  let next = 0
  const lane = async (): Promise<void> => {
    while (next < CLIENTS) {
      next += 1
      await work(next - 1)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, lane))
}

test(`${CLIENTS} idle clients are held in bounded memory, and each gets its own answer`, async () => {
  const { steer } = front
  const clients: WireClient[] = []
  const before = steer.workerRssBytes
  await forAll(async (index) => {
    clients[index] = await steer.wire()
  })
  const pools = await steer.console('SHOW POOLS')
  const pool = pools.find((row) => row['database'] === 'demo')
  expect(Number(pool?.['cl_active'])).toBe(CLIENTS)
  expect((steer.workerRssBytes - before) / CLIENTS).toBeLessThan(BYTES_PER_CLIENT_MAX)

  const wrong: unknown[] = []
  await forAll(async (index) => {
    const answer = await clients[index]?.query(`SELECT ${index}`)
    if (answer?.rows[0]?.[0] !== String(index)) wrong.push([index, answer])
  })
  expect(wrong).toEqual([])
  for (const client of clients) client.destroy()
})
