/** A replication connection through pgsteer streams both ways, and is gone with its client. */
import { expect, test } from 'vitest'
import { frontend } from '../support/bytes.ts'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

const shared = useCluster({ replicas: 0 })
const front = useSteer(shared)

async function walSenders(): Promise<number> {
  const [row] = await shared.cluster.primary.query<{ count: number }>(
    'SELECT count(*)::int AS count FROM pg_stat_replication',
  )
  return row?.count ?? -1
}

test('START_REPLICATION streams what is written, ends by CopyDone, and can be cut', async () => {
  const login = { user: 'replicator', database: 'postgres', parameters: { replication: 'true' } }
  const client = await front.steer.wire(login)
  const { rows } = await client.query('IDENTIFY_SYSTEM')
  const start = `START_REPLICATION PHYSICAL ${rows[0]?.[2]} TIMELINE ${rows[0]?.[1]}`
  client.send(frontend.query(start))
  expect((await client.until('WE')).types).toBe('W')
  expect(await walSenders()).toBe(1)
  await shared.cluster.primary.query("SELECT pg_logical_emit_message(true, 'test', 'streamed')")
  await waitFor('what was written', async () =>
    (await client.until('d')).frames.at(-1)?.body.includes('streamed'),
  )
  client.send(frontend.copyDone())
  const end = await client.ready()
  expect(end.types.replaceAll('d', '')).toMatch(/^cC+Z$/)
  client.send(frontend.query(start))
  await client.until('W')
  client.destroy()
  await waitFor('the sender is gone', async () => (await walSenders()) === 0)
})
