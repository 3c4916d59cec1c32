/**
 * Read your writes while COMMIT does not wait for the write-ahead log: what is committed then lies
 * beyond what the primary has written out, so a bound from its write position would be too low. The
 * reads go on for longer than a probe takes: the first ones run on the primary in any case.
 */
import { expect, test } from 'vitest'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

const TURNS = 15
const READ_MS = 300

// The log is written out so rarely that it is never by chance.
const shared = useCluster({ replicas: 1, settings: { wal_writer_delay: '10s' } })
const front = useSteer(shared)

/** A commit that waits takes everything before it along. */
async function writeOut(): Promise<void> {
  await shared.cluster.primary.query("SELECT pg_logical_emit_message(true, 'test', '')")
}

test('what a session committed is seen by its reads, also while the primary has not written it out', async () => {
  const client = await front.steer.wire()
  const [replica] = shared.cluster.replicas
  const isOnReplica = async () => {
    await writeOut()
    return Number((await client.query('SELECT inet_server_port()')).rows[0]?.[0]) === replica?.port
  }
  await client.query('CREATE TABLE hasty (id int PRIMARY KEY)')
  await client.query('SET synchronous_commit = off')
  let [stale, ahead] = [0, 0]
  for (let id = 1; id <= TURNS; id += 1) {
    await waitFor('reads on the replica', isOnReplica)
    await client.query(`INSERT INTO hasty VALUES (${id})`)
    const untilMs = performance.now() + READ_MS
    while (performance.now() < untilMs) {
      const seen = await client.query(`SELECT count(*) FROM hasty WHERE id = ${id}`)
      if (seen.rows[0]?.[0] !== '1') stale += 1
    }
    const [row] = await shared.cluster.primary.query<{ isAhead: boolean }>(
      'SELECT pg_current_wal_insert_lsn() > pg_current_wal_lsn() AS "isAhead"',
    )
    if (row?.isAhead === true) ahead += 1
  }
  expect(stale).toBe(0)
  // Otherwise nothing was tried here.
  expect(ahead).toBeGreaterThan(TURNS / 2)
  await client.close()
})
