/** Servers that end under their clients, on a real primary: who is told what, and that they go on. */
import { describe, expect, test } from 'vitest'
import { errorFields, frontend } from '../support/bytes.ts'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import type { WireClient } from '../support/wire-client.ts'

const { bind, execute, parse, query, sync } = frontend
const shared = useCluster({ replicas: 0 })
const front = useSteer(shared)

async function pidOf(client: WireClient): Promise<number> {
  return Number((await client.query('SELECT pg_backend_pid()')).rows[0]?.[0])
}

/** Waits until a statement with this word runs. */
async function running(word: string): Promise<number> {
  return await waitFor('the statement to run', async () => {
    const [row] = await shared.cluster.primary.query(
      "SELECT pid FROM pg_stat_activity WHERE query LIKE '%' || $1 || '%' AND state = 'active' AND pid <> pg_backend_pid()",
      [word],
    )
    return row?.['pid'] as number | undefined
  })
}

/** Ends with the others when one is killed, and is started again when all have ended. */
async function checkpointer(): Promise<number | undefined> {
  const [row] = await shared.cluster.primary.query(
    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'",
  )
  return row?.['pid'] as number | undefined
}

/** After a kill PostgreSQL ends all the others too: returns when it has, so that none of them gets what follows. */
async function end(pid: number, how: 'terminate' | 'kill'): Promise<void> {
  if (how === 'terminate') {
    await shared.cluster.primary.query('SELECT pg_terminate_backend($1)', [pid])
    return
  }
  const before = await checkpointer()
  process.kill(pid, 'SIGKILL')
  await waitFor('PostgreSQL to have started its processes again', async () => {
    const now = await checkpointer()
    return now !== undefined && now !== before
  })
}

async function expectWell(client: WireClient): Promise<void> {
  await waitFor(
    'writes again',
    async () =>
      (await client.query('SELECT 1 FROM pg_stat_activity LIMIT 1')).sqlstate === undefined,
    { withinMs: 30_000 },
  )
}

describe.each(['terminate', 'kill'] as const)('a server process that ends (%s)', (how) => {
  test('in an idle transaction: its next statement is told, and ROLLBACK ends it', async () => {
    const client = await front.steer.wire()
    await client.query('BEGIN')
    await end(await pidOf(client), how)
    await waitFor('the server to be gone', async () => {
      const rows = await front.steer.console('SHOW CLIENTS')
      return rows.every(({ database, link }) => database !== 'demo' || link === '')
    })
    const [first, second, last] = [
      await client.query('SELECT 1'),
      await client.query('SELECT 1'),
      await client.query('ROLLBACK'),
    ]
    expect([first.sqlstate, first.status]).toEqual(['40001', 'E'])
    expect([second.sqlstate, second.status]).toEqual(['25P02', 'E'])
    expect([last.tags, last.status]).toEqual([['ROLLBACK'], 'I'])
    await expectWell(client)
    await client.close()
  })

  test('during a write of its own: aborted where PostgreSQL says so, else unknown', async () => {
    const client = await front.steer.wire()
    await client.query('CREATE TABLE IF NOT EXISTS w (a int)')
    client.send(query("INSERT INTO w SELECT length('w_sleeper') FROM pg_sleep(30)"))
    await end(await running('w_sleeper'), how)
    const answer = await client.ready()
    expect([answer.sqlstate, answer.status]).toEqual([how === 'kill' ? '08007' : '40001', 'I'])
    await expectWell(client)
    expect((await client.query('SELECT count(*) FROM w')).rows).toEqual([['0']])
    await client.close()
  })

  test('what the session had set and prepared is there again', async () => {
    const client = await front.steer.wire()
    await client.query("SET application_name = 'kept'")
    client.send(parse('mine', 'SELECT current_setting($1)'), sync())
    await client.ready()
    await client.query('BEGIN')
    await end(await pidOf(client), how)
    await waitFor(
      'the loss to be told',
      async () => (await client.query('SELECT 1')).status === 'E',
    )
    await client.query('ROLLBACK')
    await expectWell(client)
    client.send(bind({ statement: 'mine', values: ['application_name'] }), execute(), sync())
    expect((await client.ready()).rows).toEqual([['kept']])
    await client.close()
  })

  test('under a session that listens: it is told what went', async () => {
    const client = await front.steer.wire()
    await client.query('LISTEN news')
    await end(await pidOf(client), how)
    const told = await client.next()
    expect(told === undefined ? null : errorFields(told.body)).toMatchObject({
      S: 'FATAL',
      C: '57P01',
    })
    expect(await client.next()).toBeUndefined()
  })

  test('during DO: unknown, in both protocols', async () => {
    for (const messages of [
      [query("DO $$ BEGIN PERFORM 'do_sleeper', pg_sleep(30); END $$")],
      [
        parse('', "DO $$ BEGIN PERFORM 'do_sleeper', pg_sleep(30); END $$"),
        bind({}),
        execute(),
        sync(),
      ],
    ]) {
      const client = await front.steer.wire()
      client.send(...messages)
      await end(await running('do_sleeper'), how)
      const answer = await client.ready()
      expect([answer.sqlstate, answer.status]).toEqual(['08007', 'I'])
      await expectWell(client)
      await client.close()
    }
  })
})
