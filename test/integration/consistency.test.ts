/** Read your writes and self-healing, against PostgreSQL 18 with two replicas whose replay is paused at will. */
import { afterEach, describe, expect, test } from 'vitest'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import type { WireClient } from '../support/wire-client.ts'

const shared = useCluster({ replicas: 2 })
const front = useSteer(shared, {
  databases: [
    '* =',
    'eventual = dbname=demo consistency=eventual',
    'everybody = dbname=demo consistency=global',
    'writer = dbname=demo route=primary',
    'reader = dbname=demo route=replica',
    'strict = dbname=demo consistency=primary',
  ].join('\n'),
  users: 'postgres = consistency=eventual\nreplicator = consistency=primary',
  cluster: { probe_timeout_ms: 5000 },
  pgsteer: { replica_wait_ms: 100, replica_lag_ms_max: 120_000 },
})

const REPLICAS = ['pg2', 'pg3']

async function resume(): Promise<void> {
  for (const name of REPLICAS) await shared.cluster.resumeReplay(name)
  await shared.cluster.caughtUp()
}

afterEach(resume)

async function pause(): Promise<void> {
  await shared.cluster.caughtUp()
  for (const name of REPLICAS) await shared.cluster.pauseReplay(name)
}

async function cell(client: WireClient, sql: string): Promise<string | null | undefined> {
  const answer = await client.query(sql)
  if (answer.sqlstate !== undefined) throw new Error(`${sql}: ${answer.errors[0]?.['M']}`)
  return answer.rows[0]?.[0]
}

function memberOf(port: string | null | undefined): string {
  return shared.cluster.members.find((member) => String(member.port) === port)?.name ?? `${port}`
}

async function served(client: WireClient, hint = ''): Promise<string> {
  return memberOf(await cell(client, `${hint}SELECT inet_server_port()`))
}

/** Waits until reads of this client land on replicas. */
async function untilRead(client: WireClient): Promise<void> {
  await waitFor('reads land on a replica', async () => (await served(client)) !== 'pg1', {
    withinMs: 20_000,
  })
}

/** How often an error was kept from a client because the primary was asked instead. */
async function healings(): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${front.steer.httpPort}/metrics`)
  const lines = (await response.text()).matchAll(/^pgsteer_statements_healed_total\S* (\d+)$/gm)
  return Array.from(lines, (line) => Number(line[1])).reduce((sum, one) => sum + one, 0)
}

describe('routing', () => {
  test('reads land on both replicas, writes on the primary', async () => {
    const client = await front.steer.wire()
    await client.query('CREATE TABLE routed (id int)')
    for (let index = 0; index < 5; index += 1)
      expect(
        memberOf(await cell(client, 'INSERT INTO routed VALUES (1) RETURNING inet_server_port()')),
      ).toBe('pg1')
    const seen = new Set<string>()
    await waitFor('both replicas served', async () => {
      const fresh = await front.steer.wire()
      seen.add(await served(fresh))
      await fresh.close()
      return seen.has('pg2') && seen.has('pg3')
    })
    await client.query('DROP TABLE routed')
    await client.close()
  })

  test.each([
    ['SELECT now()', 'replica'],
    ['SELECT txid_current()', 'primary'],
    ['SELECT pg_catalog.upper($$a$$), inet_server_port()', 'replica'],
    ['SELECT 1 FOR UPDATE', 'primary'],
    ['SELECT pg_is_in_recovery()', 'primary'],
    ['SHOW transaction_read_only', 'primary'],
    ['EXPLAIN SELECT 1', 'replica'],
    ['VALUES (1)', 'replica'],
    ['SELECT 1; SELECT 2', 'replica'],
    ['SELECT 1; CREATE TABLE IF NOT EXISTS never (a int); DROP TABLE never', 'primary'],
    ['WITH a AS (SELECT 1) SELECT * FROM a', 'replica'],
    ['COPY (SELECT 1) TO STDOUT', 'replica'],
    ["SELECT nextval('nobody')", 'primary'],
  ])('%s is for the %s', async (sql, role) => {
    const client = await front.steer.wire()
    await untilRead(client)
    const answer = await front.steer.console(
      `EXPLAIN ROUTE ${sql.includes(';') ? 'SELECT 1' : sql}`,
    )
    if (!sql.includes(';')) expect(answer[0]?.['route']).toBe(role)
    await client.query(sql)
    const row = await front.steer.clientOf('demo')
    const isRead = row?.['route_reason'] === 'read'
    expect(isRead ? 'replica' : 'primary', row?.['route_reason']).toBe(role)
    await client.close()
  })

  test('hints move a statement either way', async () => {
    const client = await front.steer.wire()
    expect(await served(client, '/* pgsteer: primary */ ')).toBe('pg1')
    await waitFor('the hint is followed', async () =>
      REPLICAS.includes(await served(client, '/* pgsteer: replica */ ')),
    )
    // What is no read is not asked of the primary behind the back of the hint.
    const refused = await client.query('/* pgsteer: replica */ CREATE TABLE never (a int)')
    expect(refused.sqlstate).toBe('25006')
    await client.close()
  })

  test('route of the database, of the start-up options and of SET', async () => {
    const writer = await front.steer.wire({ database: 'writer' })
    for (let turn = 0; turn < 5; turn += 1) expect(await served(writer)).toBe('pg1')
    await writer.close()
    const reader = await front.steer.wire({ database: 'reader' })
    for (let turn = 0; turn < 5; turn += 1) expect(REPLICAS).toContain(await served(reader))
    expect(reader.parameters.get('in_hot_standby')).toBe('on')
    await reader.close()
    const optioned = await front.steer.wire({ parameters: { options: '-c pgsteer.route=primary' } })
    for (let turn = 0; turn < 5; turn += 1) expect(await served(optioned)).toBe('pg1')
    await optioned.query("SET pgsteer.route = 'replica'")
    await untilRead(optioned)
    for (let turn = 0; turn < 5; turn += 1) expect(REPLICAS).toContain(await served(optioned))
    await optioned.close()
    const strict = await front.steer.wire({ database: 'strict' })
    for (let turn = 0; turn < 5; turn += 1) expect(await served(strict)).toBe('pg1')
    await strict.close()
  })

  test('a session keeps its replica while it only reads', async () => {
    const client = await front.steer.wire()
    await untilRead(client)
    const first = await served(client)
    for (let turn = 0; turn < 30; turn += 1) expect(await served(client)).toBe(first)
    await client.close()
  })
})

describe('read your writes with replay paused on all replicas', () => {
  test.each(['off', 'on', 'remote_apply'])(
    'synchronous_commit = %s: 300 times INSERT, then SELECT sees the row',
    async (mode) => {
      const client = await front.steer.wire()
      await client.query('CREATE TABLE written (id int PRIMARY KEY)')
      await client.query(`SET synchronous_commit = ${mode}`)
      await untilRead(client)
      await pause()
      let stale = 0
      for (let id = 1; id <= 300; id += 1) {
        await client.query(`INSERT INTO written VALUES (${id})`)
        if ((await cell(client, `SELECT count(*) FROM written WHERE id = ${id}`)) !== '1')
          stale += 1
      }
      expect(stale).toBe(0)
      await resume()
      await client.query('DROP TABLE written')
      await client.close()
    },
  )

  test('with replay running, 300 times, and then a replica has all of them', async () => {
    const client = await front.steer.wire()
    await client.query('CREATE TABLE flowing (id int PRIMARY KEY)')
    let stale = 0
    for (let id = 1; id <= 300; id += 1) {
      await client.query(`INSERT INTO flowing VALUES (${id})`)
      const seen = await cell(client, `SELECT count(*) FROM flowing WHERE id = ${id}`)
      if (seen !== '1') stale += 1
    }
    expect(stale).toBe(0)
    await untilRead(client)
    expect(await cell(client, 'SELECT count(*) FROM flowing')).toBe('300')
    await client.query('DROP TABLE flowing')
    await client.close()
  })

  test('a transaction counts as a write, in the extended protocol too', async () => {
    const client = await front.steer.connect()
    await client.query('CREATE TABLE moved (id int)')
    await pause()
    for (let id = 1; id <= 20; id += 1) {
      await client.query('BEGIN')
      await client.query('INSERT INTO moved VALUES ($1)', [id])
      await client.query('COMMIT')
      const { rows } = await client.query('SELECT max(id) AS id FROM moved')
      expect(rows).toEqual([{ id }])
    }
    await resume()
    await client.query('DROP TABLE moved')
    await client.end()
  })

  test('reads of another session may be old, and never go back in time', async () => {
    const [writer, reader] = [await front.steer.wire(), await front.steer.wire()]
    await writer.query('CREATE TABLE clock (n int); INSERT INTO clock VALUES (0)')
    await shared.cluster.caughtUp()
    await untilRead(reader)
    let last = 0
    for (let n = 1; n <= 60; n += 1) {
      // One replica stands still, the other goes on: moving between them must not show the past.
      if (n % 20 === 1) await shared.cluster.pauseReplay(REPLICAS[(n / 20) & 1] ?? 'pg2')
      await writer.query(`UPDATE clock SET n = ${n}`)
      for (let turn = 0; turn < 5; turn += 1) {
        const seen = Number(await cell(reader, 'SELECT n FROM clock'))
        expect(seen).toBeGreaterThanOrEqual(last)
        last = seen
      }
      if (n % 20 === 0) await resume()
    }
    await writer.query('DROP TABLE clock')
    await Promise.all([writer.close(), reader.close()])
  })

  test('global: a read sees what any session wrote before it', async () => {
    const [writer, reader] = [
      await front.steer.wire(),
      await front.steer.wire({ database: 'everybody' }),
    ]
    await writer.query('CREATE TABLE everyone (n int); INSERT INTO everyone VALUES (0)')
    for (let n = 1; n <= 50; n += 1) {
      await writer.query(`UPDATE everyone SET n = ${n}`)
      expect(await cell(reader, 'SELECT n FROM everyone')).toBe(String(n))
    }
    await writer.query('DROP TABLE everyone')
    await Promise.all([writer.close(), reader.close()])
  })

  test('eventual: reads go to a replica however far it is behind within the thresholds', async () => {
    const client = await front.steer.wire({ database: 'eventual' })
    await client.query('CREATE TABLE later (n int); INSERT INTO later VALUES (0)')
    await shared.cluster.caughtUp()
    await untilRead(client)
    await pause()
    await client.query('UPDATE later SET n = 1')
    expect(await cell(client, 'SELECT n FROM later')).toBe('0')
    await resume()
    await client.query('DROP TABLE later')
    await client.close()
  })
})

describe('consistency with replay paused on all replicas', () => {
  test.each([
    ['session', { database: 'demo' }, '0', REPLICAS],
    ['eventual', { database: 'eventual' }, '0', REPLICAS],
    ['global', { database: 'everybody' }, '1', ['pg1']],
    ['primary', { database: 'strict' }, '1', ['pg1']],
    ['eventual of the user', { database: 'demo', user: 'postgres' }, '0', REPLICAS],
    [
      'eventual of the user, before the database',
      { database: 'strict', user: 'postgres' },
      '0',
      REPLICAS,
    ],
    [
      'primary of the user, before the database',
      { database: 'eventual', user: 'replicator' },
      '1',
      ['pg1'],
    ],
  ] as const)(
    '%s: what a session reads of the write of another',
    async (_mode, login, seen, by) => {
      const writer = await front.steer.wire()
      await writer.query('CREATE TABLE judged (n int); INSERT INTO judged VALUES (0)')
      await writer.query('GRANT SELECT ON judged TO PUBLIC')
      await shared.cluster.caughtUp()
      const reader = await front.steer.wire(login)
      if (seen === '0') await untilRead(reader)
      await pause()
      await writer.query('UPDATE judged SET n = 1')
      for (let turn = 0; turn < 3; turn += 1) {
        expect(await cell(reader, 'SELECT n FROM judged')).toBe(seen)
        expect(by).toContain(await served(reader))
      }
      expect(await cell(writer, 'SELECT n FROM judged')).toBe('1')
      await resume()
      await writer.query('DROP TABLE judged')
      await Promise.all([writer.close(), reader.close()])
    },
  )

  test.each([
    ['eventual', '0'],
    ['demo', '1'],
  ])('what %s reads of its own write is %s', async (database, seen) => {
    const client = await front.steer.wire({ database })
    await client.query('CREATE TABLE own (n int); INSERT INTO own VALUES (0)')
    await shared.cluster.caughtUp()
    await untilRead(client)
    await pause()
    await client.query('UPDATE own SET n = 1')
    for (let turn = 0; turn < 3; turn += 1)
      expect(await cell(client, 'SELECT n FROM own')).toBe(seen)
    await resume()
    await client.query('DROP TABLE own')
    await client.close()
  })
})

/** Runs as one session with replicas that have all of the DDL, and gives the answer of `sql`. */
async function healed(ddl: string, sql: string, drop: string): Promise<void> {
  const client = await front.steer.wire()
  for (const each of ddl.split(';;')) {
    const made = await client.query(each)
    expect(made.errors).toEqual([])
  }
  await shared.cluster.caughtUp()
  const reader = await front.steer.wire()
  await untilRead(reader)
  for (let turn = 0; turn < 3; turn += 1) {
    const answer = await reader.query(sql)
    expect(answer.errors).toEqual([])
    expect(answer.types.endsWith('CZ')).toBe(true)
    expect(answer.rows).toHaveLength(1)
  }
  expect(await cell(reader, 'SELECT 1')).toBe('1')
  await client.query(drop)
  await Promise.all([client.close(), reader.close()])
}

describe('what a replica refuses is asked of the primary', () => {
  test('a view over a volatile function that writes', () =>
    healed(
      `CREATE SEQUENCE tickets;;
       CREATE FUNCTION draw() RETURNS bigint LANGUAGE sql VOLATILE AS $$ SELECT nextval('tickets') $$;;
       CREATE VIEW drawn AS SELECT draw() AS n`,
      'SELECT n FROM drawn',
      'DROP SEQUENCE tickets; DROP VIEW drawn; DROP FUNCTION draw',
    ))

  test('a STABLE function that writes', () =>
    healed(
      `CREATE TABLE audit (a int);;
       CREATE FUNCTION inner_write() RETURNS int LANGUAGE sql VOLATILE AS $$ INSERT INTO audit VALUES (1) RETURNING a $$;;
       CREATE FUNCTION pretends() RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN inner_write(); END $$`,
      'SELECT pretends()',
      'DROP FUNCTION pretends; DROP FUNCTION inner_write; DROP TABLE audit',
    ))

  test('a function in column notation', () =>
    healed(
      `CREATE TABLE things (id int);; INSERT INTO things VALUES (1);; CREATE SEQUENCE numbers;;
       CREATE FUNCTION number_of(things) RETURNS bigint LANGUAGE sql VOLATILE AS $$ SELECT nextval('numbers') $$`,
      'SELECT t.number_of FROM things t',
      'DROP FUNCTION number_of; DROP TABLE things; DROP SEQUENCE numbers',
    ))

  test('a policy that calls a volatile function', () =>
    healed(
      `CREATE SEQUENCE looks;; CREATE TABLE guarded (id int);; INSERT INTO guarded VALUES (1);;
       CREATE FUNCTION looked() RETURNS boolean LANGUAGE sql VOLATILE AS $$ SELECT nextval('looks') > 0 $$;;
       ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;; ALTER TABLE guarded FORCE ROW LEVEL SECURITY;;
       CREATE POLICY look ON guarded USING (looked())`,
      'SELECT id FROM guarded',
      'DROP TABLE guarded; DROP FUNCTION looked; DROP SEQUENCE looks',
    ))

  test('an unlogged table', () =>
    healed(
      'CREATE UNLOGGED TABLE fast (id int);; INSERT INTO fast VALUES (1)',
      'SELECT id FROM fast',
      'DROP TABLE fast',
    ))

  test('a session that is serializable by default', async () => {
    const client = await front.steer.wire({
      parameters: { options: '-c default_transaction_isolation=serializable' },
    })
    for (let turn = 0; turn < 5; turn += 1) expect(await cell(client, 'SELECT 41 + 1')).toBe('42')
    await client.close()
  })

  test('a table that the replicas do not have yet', async () => {
    const [writer, reader] = [
      await front.steer.wire(),
      await front.steer.wire({ database: 'eventual' }),
    ]
    await untilRead(reader)
    await pause()
    await writer.query('CREATE TABLE brand_new (id int); INSERT INTO brand_new VALUES (5)')
    expect(await cell(reader, 'SELECT id FROM brand_new')).toBe('5')
    await writer.query('ALTER TABLE brand_new ADD extra int DEFAULT 6')
    expect(await cell(reader, 'SELECT extra FROM brand_new')).toBe('6')
    expect((await reader.query('SELECT nothing FROM brand_new')).sqlstate).toBe('42703')
    await resume()
    await writer.query('DROP TABLE brand_new')
    await Promise.all([writer.close(), reader.close()])
  })

  test('in the extended protocol, named and unnamed', async () => {
    const client = await front.steer.connect()
    await client.query('CREATE UNLOGGED TABLE quick (id int)')
    await client.query('INSERT INTO quick VALUES (1)')
    await shared.cluster.caughtUp()
    const reader = await front.steer.connect({ database: 'eventual' })
    for (let turn = 0; turn < 3; turn += 1) {
      expect((await reader.query('SELECT id FROM quick WHERE id = $1', [1])).rows).toEqual([
        { id: 1 },
      ])
      const named = { name: 'quick', text: 'SELECT id + $1::int AS id FROM quick', values: [1] }
      expect((await reader.query(named)).rows).toEqual([{ id: 2 }])
    }
    await client.query('DROP TABLE quick')
    await client.end()
    await reader.end()
  })

  test('is remembered by its text: the next time it goes to the primary at once', async () => {
    const client = await front.steer.wire()
    await client.query('CREATE UNLOGGED TABLE learnt (id int)')
    await shared.cluster.caughtUp()
    const reader = await front.steer.wire({ database: 'eventual' })
    await untilRead(reader)
    const before = await healings()
    for (let turn = 0; turn < 5; turn += 1) await reader.query('SELECT id FROM learnt')
    const row = await front.steer.clientOf('eventual')
    expect(row?.['route_reason']).toBe('learnt')
    expect((await healings()) - before).toBe(1)
    await client.query('DROP TABLE learnt')
    await Promise.all([client.close(), reader.close()])
  })

  test('but an error that the primary has too reaches the client', async () => {
    const reader = await front.steer.wire({ database: 'eventual' })
    await untilRead(reader)
    for (const [sql, sqlstate] of [
      ['SELECT * FROM does_not_exist', '42P01'],
      ['SELECT nothing', '42703'],
      ['SELECT 1/0', '22012'],
      ['SELEC', '42601'],
    ] as const) {
      const answer = await reader.query(sql)
      expect([answer.sqlstate, answer.types]).toEqual([sqlstate, 'EZ'])
    }
    await reader.close()
  })
})
