/** What an operator does to a running pgsteer, and what a replica's end costs, against PostgreSQL 18. */
import { describe, expect, test } from 'vitest'
import { frontend } from '../support/bytes.ts'
import { useCluster } from '../support/postgres.ts'
import { Steer, useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

const shared = useCluster({ replicas: 2 })

describe('RELOAD', () => {
  const front = useSteer(shared)

  async function configured(key: string): Promise<string | undefined> {
    return (await front.steer.console('SHOW CONFIG')).find((row) => row['key'] === key)?.['value']
  }

  test('SIGHUP changes what can change live, and sessions stay', async () => {
    const client = await front.steer.wire()
    await client.query('BEGIN')
    await client.query('SELECT 1')
    front.steer.rewrite({ pgbouncer: { default_pool_size: 3 } })
    front.steer.signal('SIGHUP')
    await waitFor(
      'the new size is in force',
      async () => (await configured('default_pool_size')) === '3',
    )
    expect((await client.query('COMMIT')).status).toBe('I')
    await client.close()
  })

  test('a new database and a new user can be used at once', async () => {
    await shared.cluster.primary.query("CREATE ROLE newcomer LOGIN PASSWORD 'newcomer'")
    await shared.cluster.caughtUp()
    front.steer.rewrite({
      databases: '* =\nfresh = dbname=demo',
      userlist: '"newcomer" "newcomer"\n',
    })
    await front.steer.console('RELOAD')
    const client = await waitFor('the newcomer is let in', () =>
      front.steer.wire({ user: 'newcomer', database: 'fresh' }),
    )
    expect((await client.query('SELECT current_user')).rows).toEqual([['newcomer']])
    await client.close()
  })

  test('a broken file changes nothing, says why, and the next good one works', async () => {
    const before = await configured('default_pool_size')
    front.steer.rewriteText('[databases]\n* =\n[pgbouncer]\ndefault_pool_siz = 9\n')
    const admin = await front.steer.connect({ user: 'postgres', database: 'pgbouncer' })
    await expect(admin.query('RELOAD')).rejects.toThrow(/RELOAD failed/)
    front.steer.signal('SIGHUP')
    await waitFor('the log says why', () => /default_pool_siz\b/.test(front.steer.log))
    expect(await configured('default_pool_size')).toBe(before)
    const client = await front.steer.wire()
    expect((await client.query('SELECT 1')).rows).toEqual([['1']])
    await client.close()
    front.steer.rewrite({ pgbouncer: { default_pool_size: 4 } })
    await admin.query('RELOAD')
    await waitFor(
      'the good one is in force',
      async () => (await configured('default_pool_size')) === '4',
    )
    await admin.end()
  })
})

describe('limits of the whole', () => {
  const front = useSteer(shared, {
    pgbouncer: { max_client_conn: 3 },
    pgsteer: { error_codes: 'postgres' },
  })

  async function refusal(user: string, database: string, password: string) {
    const client = await WireClient.connect({ port: front.steer.port, withinMs: 30_000 })
    const answer = await client.startup({ user, database, password })
    await client.ended()
    return answer.errors[0]
  }

  test('max_client_conn refuses by 53300 with error_codes = postgres, and the console still lets in', async () => {
    const clients = await Promise.all([front.steer.wire(), front.steer.wire(), front.steer.wire()])
    expect(await refusal('demo', 'demo', 'demo')).toMatchObject({
      C: '53300',
      M: 'no more connections allowed (max_client_conn)',
    })
    expect(await front.steer.console('SHOW VERSION')).toHaveLength(1)
    await Promise.all(clients.map((client) => client.close()))
  })

  test('a wrong password and an unknown user are answered alike, by 28P01', async () => {
    const wrong = await refusal('demo', 'demo', 'wrong')
    const unknown = await refusal('nobody', 'demo', 'wrong')
    expect(wrong).toMatchObject({ S: 'FATAL', C: '28P01' })
    expect(unknown).toEqual(wrong)
  })
})

describe('SIGTERM', () => {
  test('lets transactions and clients end, takes no new ones, and exits with 0', async () => {
    const steer = await Steer.start(shared.cluster)
    const client = await steer.wire()
    await client.query('BEGIN')
    await client.query('CREATE TABLE drained (a int)')
    steer.signal('SIGTERM')
    await waitFor('it listens no more', async () => {
      const refused = await WireClient.connect({ port: steer.port }).then(
        (late) => late.destroy(),
        () => true,
      )
      return refused === true
    })
    expect((await client.query('COMMIT')).tags).toEqual(['COMMIT'])
    expect((await client.query('DROP TABLE drained')).tags).toEqual(['DROP TABLE'])
    await client.close()
    await waitFor('it has ended', () => steer.exitCode !== null)
    expect(steer.exitCode).toBe(0)
    await steer.stop()
  })

  test('ends what is left at its deadline', async () => {
    const steer = await Steer.start(shared.cluster, { pgsteer: { shutdown_timeout_ms: 300 } })
    const client = await steer.wire()
    await client.query('BEGIN')
    await client.query('SELECT 1')
    steer.signal('SIGTERM')
    await client.ended()
    await waitFor('it has ended', () => steer.exitCode !== null)
    expect(steer.exitCode).toBe(0)
    await steer.stop()
  })

  test('SIGINT ends each session behind its next answer outside of a transaction, or when it is silent', async () => {
    const steer = await Steer.start(shared.cluster)
    const [silent, busy, open] = [await steer.wire(), await steer.wire(), await steer.wire()]
    await open.query('BEGIN')
    await open.query('SELECT 1')
    steer.signal('SIGINT')
    await waitFor('it listens no more', async () => {
      const refused = await WireClient.connect({ port: steer.port }).then(
        (late) => late.destroy(),
        () => true,
      )
      return refused === true
    })
    expect((await busy.query('SELECT 3')).rows).toEqual([['3']])
    await busy.ended()
    await silent.ended()
    expect((await open.query('SELECT 2')).rows).toEqual([['2']])
    await open.query('COMMIT')
    await open.ended()
    await waitFor('it has ended', () => steer.exitCode !== null)
    expect(steer.exitCode).toBe(0)
    await steer.stop()
  })

  test('SIGQUIT ends at once', async () => {
    const steer = await Steer.start(shared.cluster)
    const client = await steer.wire()
    await client.query('BEGIN')
    await client.query('SELECT 1')
    steer.signal('SIGQUIT')
    await client.ended()
    await waitFor('it has ended', () => steer.exitCode !== null)
    await steer.stop()
  })
})

describe('a worker that dies', () => {
  const front = useSteer(shared, { mayRestart: true })

  test('is started again', async () => {
    const [worker = 0] = front.steer.workers
    process.kill(worker, 'SIGKILL')
    await waitFor('another one is there', () => {
      const { workers } = front.steer
      return workers.length > 0 && !workers.includes(worker)
    })
    const client = await waitFor('a new one serves', () => front.steer.wire(), { withinMs: 20_000 })
    expect((await client.query('SELECT 1')).rows).toEqual([['1']])
    expect(front.steer.workers).not.toContain(worker)
    await client.close()
  })
})

describe('two workers', () => {
  const front = useSteer(shared, { pgsteer: { workers: 2 } })

  test('share the clients, and cancel requests find the right one', async () => {
    expect(front.steer.workers).toHaveLength(2)
    const clients = await Promise.all(Array.from({ length: 12 }, () => front.steer.wire()))
    const workers = new Set(clients.map((client) => client.processId >>> 24))
    for (const client of clients) client.send(frontend.query('SELECT pg_sleep(30)'))
    await waitFor('all of them run', async () => {
      const rows = await shared.cluster.primary.query<{ n: number }>(
        "SELECT count(*)::int AS n FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)'",
      )
      return rows[0]?.n === clients.length
    })
    for (const client of clients) {
      const request = await WireClient.connect({ port: front.steer.port })
      request.send(frontend.cancelRequest(client.processId, client.key))
      expect((await client.ready()).sqlstate).toBe('57014')
      await request.ended()
    }
    expect(workers.size).toBeGreaterThan(0)
    await Promise.all(clients.map((client) => client.close()))
  })
})

describe('a replica that is killed', () => {
  const front = useSteer(shared)

  test('costs statements in flight at most, and comes back', async () => {
    const clients = await Promise.all(Array.from({ length: 12 }, () => front.steer.wire()))
    const replicas = ['pg2', 'pg3'].map((name) => String(shared.cluster.member(name).port))
    await waitFor('reads land on replicas', async () => {
      const ports = await Promise.all(
        clients.map(async (each) => (await each.query('SELECT inet_server_port()')).rows[0]?.[0]),
      )
      return ports.every((port) => replicas.includes(port ?? ''))
    })
    await shared.cluster.kill('pg2')
    // Its sessions outlive it for a moment: what they are sent then is in flight.
    for (const client of clients)
      for (const { C } of (await client.query('SELECT inet_server_port()')).errors)
        expect(C).toBe('40001')
    for (let turn = 0; turn < 20; turn += 1)
      for (const client of clients) {
        const answer = await client.query('SELECT inet_server_port()')
        expect(answer.errors).toEqual([])
        expect(answer.rows[0]?.[0]).not.toBe(replicas[0])
      }
    await shared.cluster.member('pg2').start()
    await waitFor(
      'it serves again',
      async () => {
        const fresh = await front.steer.wire()
        const { rows } = await fresh.query('SELECT inet_server_port()')
        await fresh.close()
        return rows[0]?.[0] === replicas[0]
      },
      { withinMs: 30_000 },
    )
    await Promise.all(clients.map((client) => client.close()))
  })

  test('in the middle of a transaction: its statement fails with a code to retry by', async () => {
    const client = await front.steer.wire()
    await waitFor('a read lands on a replica', async () => {
      const { rows } = await client.query('SELECT inet_server_port()')
      return rows[0]?.[0] !== String(shared.cluster.primary.port)
    })
    // A lone read might be answered by another replica.
    await client.query('BEGIN READ ONLY')
    client.send(frontend.query('SELECT inet_server_port(), pg_sleep(20)'))
    const victim = await waitFor('it runs on a replica', async () => {
      for (const name of ['pg2', 'pg3']) {
        const rows = await shared.cluster
          .member(name)
          .query(
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(20)' AND state = 'active' AND usename = 'demo'",
          )
        if (rows.length > 0) return name
      }
      return false
    })
    await shared.cluster.kill(victim)
    const answer = await client.ready()
    expect(answer.errors[0]?.['C']).toMatch(/^(40001|08|57)/)
    await shared.cluster.member(victim).start()
    client.destroy()
  })
})
