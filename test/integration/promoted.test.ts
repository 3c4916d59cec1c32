/** Connections that were opened to a replica serve writes when it was promoted. */
import { expect, test } from 'vitest'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

const shared = useCluster({ replicas: 1 })
const front = useSteer(shared, { pgbouncer: { default_pool_size: 2 } })

test('a server of a promoted replica is the one that runs the next write', async () => {
  const client = await front.steer.wire()
  const port = String(shared.cluster.member('pg2').port)
  const reader = await front.steer.wire()
  await waitFor('a transaction on the replica', async () => {
    await reader.query('BEGIN READ ONLY')
    const { rows } = await reader.query('/* pgsteer: replica */ SELECT inet_server_port()')
    if (rows[0]?.[0] !== port) await reader.query('ROLLBACK')
    return rows[0]?.[0] === port
  })
  const pid = await waitFor('a read on the replica', async () => {
    const { rows } = await client.query(
      '/* pgsteer: replica */ SELECT pg_backend_pid(), inet_server_port()',
    )
    return rows[0]?.[1] === port ? rows[0][0] : undefined
  })
  await shared.cluster.kill('pg1')
  await shared.cluster.promote('pg2')
  const written = await client.query('CREATE TABLE promoted AS SELECT pg_backend_pid() AS pid')
  expect(written.sqlstate).toBeUndefined()
  const { rows } = await client.query('/* pgsteer: primary */ SELECT pid FROM promoted')
  expect(rows).toEqual([[pid]])
  // Its transaction goes on where it began, and what comes behind it may write.
  expect((await reader.query('SELECT inet_server_port()')).rows).toEqual([[port]])
  expect((await reader.query('COMMIT')).tags).toEqual(['COMMIT'])
  expect((await reader.query('INSERT INTO promoted VALUES (0)')).tags).toEqual(['INSERT 0 1'])
  await reader.close()
  await client.close()
})
