/** A replica that goes away while it works: its client loses a statement at most, not its connection. */
import { beforeAll, describe, expect, test } from 'vitest'
import { frontend } from '../support/bytes.ts'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import type { WireClient } from '../support/wire-client.ts'

const { bind, execute, parse, query, sync } = frontend
const shared = useCluster({ replicas: 1 })
const front = useSteer(shared)

/** Waits until the replica sleeps, then ends its process in the way given. */
async function endSleeper(how: 'terminate' | 'kill'): Promise<void> {
  const replica = shared.cluster.member('pg2')
  const pid = await waitFor('the statement to run', async () => {
    const [row] = await replica.query(
      "SELECT pid FROM pg_stat_activity WHERE query LIKE '%sleeper%' AND pid <> pg_backend_pid()",
    )
    return row?.['pid'] as number | undefined
  })
  if (how === 'terminate') await replica.query('SELECT pg_terminate_backend($1)', [pid])
  else process.kill(pid, 'SIGKILL')
}

/** The connection goes on, and sooner or later on the replica. */
async function expectWell(client: WireClient): Promise<void> {
  const port = String(shared.cluster.member('pg2').port)
  await waitFor(
    'reads on the replica again',
    async () =>
      (await client.query('/* pgsteer: replica */ SELECT inet_server_port()')).rows[0]?.[0] ===
      port,
    { withinMs: 30_000 },
  )
}

beforeAll(async () => {
  const client = await front.steer.wire()
  await waitFor('the functions of the database to be known', async () => {
    await client.query('SELECT pg_sleep(0)')
    return (await front.steer.clientOf('demo'))?.['route_reason'] === 'read'
  })
  await client.close()
})

/** One read, in both protocols. */
const READS = [
  ['simple', [query("SELECT 'sleeper', pg_sleep(2)")]],
  ['extended', [parse('', "SELECT 'sleeper', pg_sleep(2)"), bind({}), execute(), sync()]],
] as const

test.each(READS)(
  'a read whose server is terminated is answered by another, %s',
  async (_, read) => {
    const client = await front.steer.wire()
    client.send(...read)
    await endSleeper('terminate')
    const answer = await client.ready()
    expect([answer.sqlstate, answer.rows[0]?.[0], answer.status]).toEqual([
      undefined,
      'sleeper',
      'I',
    ])
    await expectWell(client)
    await client.close()
  },
)

test.each(READS)(
  'a read that may have crashed its server is answered 40001, %s',
  async (_, read) => {
    const client = await front.steer.wire()
    client.send(...read)
    await endSleeper('kill')
    const answer = await client.ready()
    expect([answer.sqlstate, answer.status]).toEqual(['40001', 'I'])
    await expectWell(client)
    await client.close()
  },
)

describe.each(['terminate', 'kill'] as const)('a server process that ends (%s)', (how) => {
  test('during a READ ONLY transaction: it is lost, and ends with its ROLLBACK', async () => {
    const client = await front.steer.wire()
    await client.query('BEGIN READ ONLY')
    client.send(query("SELECT 'sleeper', pg_sleep(30)"))
    await endSleeper(how)
    const answer = await client.ready()
    expect([answer.sqlstate, answer.status]).toEqual(['40001', 'E'])
    expect((await client.query('SELECT 1')).sqlstate).toBe('25P02')
    const end = await client.query('ROLLBACK')
    expect([end.tags, end.status]).toEqual([['ROLLBACK'], 'I'])
    await expectWell(client)
    await client.close()
  })
})

// Last: the replica does not come back.
test('kill -9 of a whole replica under lone reads fails none of them', async () => {
  const replica = shared.cluster.member('pg2')
  const clients = await Promise.all(Array.from({ length: 6 }, () => front.steer.wire()))
  const read = query("SELECT 'under way', pg_sleep(4)")
  // The servers of half of them are free afterwards.
  for (const client of clients) client.send(query('SELECT pg_sleep(0.2)'))
  for (const client of clients) await client.ready()
  const readers = clients.slice(3)
  for (const client of readers) client.send(read)
  const underWay = async (): Promise<boolean> => {
    const [row] = await replica.query(
      "SELECT count(*)::int AS n FROM pg_stat_activity WHERE query LIKE '%under way%' AND pid <> pg_backend_pid()",
    )
    return row?.['n'] === readers.length
  }
  await waitFor('the reads to run', underWay)
  // As one: nobody has the time to say why it ends.
  replica.freeze('SIGSTOP')
  await replica.kill('SIGKILL')
  for (const client of readers) {
    const answer = await client.ready()
    expect([answer.sqlstate, answer.rows[0]?.[0], answer.status]).toEqual([
      undefined,
      'under way',
      'I',
    ])
  }
  for (const client of clients) await client.close()
})
