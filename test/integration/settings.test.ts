/** What a session sets follows it from server to server, against PostgreSQL 18 with one replica. */
import { describe, expect, test } from 'vitest'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import type { WireClient } from '../support/wire-client.ts'

const shared = useCluster({ replicas: 1 })
const front = useSteer(shared, {
  databases: '* =\none = dbname=demo pool_size=1 route=primary\nduo = dbname=demo pool_size=1',
})

/** Two clients of one server connection. */
async function pair(): Promise<[WireClient, WireClient]> {
  return [await front.steer.wire({ database: 'one' }), await front.steer.wire({ database: 'one' })]
}

async function value(client: WireClient, sql: string): Promise<string | null | undefined> {
  const answer = await client.query(sql)
  if (answer.sqlstate !== undefined) throw new Error(`${sql}: ${answer.errors[0]?.['M']}`)
  return answer.rows[0]?.[0]
}

async function closeAll(...clients: readonly WireClient[]): Promise<void> {
  await Promise.all(clients.map((client) => client.close()))
}

describe('settings', () => {
  test('both clients run on the same server connection', async () => {
    const [one, two] = await pair()
    expect(await value(one, 'SELECT pg_backend_pid()')).toBe(
      await value(two, 'SELECT pg_backend_pid()'),
    )
    await closeAll(one, two)
  })

  test.each([
    ['work_mem', "'5MB'", '5MB', "'7MB'", '7MB'],
    ['search_path', 'a, b', 'a, b', '"C", public', '"C", public'],
    ['application_name', "'it''s one'", "it's one", "'zwei'", 'zwei'],
    ['timezone', "'Europe/Berlin'", 'Europe/Berlin', "'Asia/Tokyo'", 'Asia/Tokyo'],
    ['datestyle', "'German'", 'German, DMY', "'SQL, MDY'", 'SQL, MDY'],
    ['statement_timeout', '60000', '1min', "'2min'", '2min'],
    ['my.own', "'x'", 'x', "'y'", 'y'],
    ['intervalstyle', 'iso_8601', 'iso_8601', 'sql_standard', 'sql_standard'],
    ['bytea_output', 'escape', 'escape', 'hex', 'hex'],
  ] as const)('SET %s belongs to the session that said it', async (name, ...values) => {
    const [one, seenOne, two, seenTwo] = values
    const [first, second] = await pair()
    expect((await first.query(`SET ${name} = ${one}`)).tags).toEqual(['SET'])
    expect((await second.query(`SET ${name} TO ${two}`)).tags).toEqual(['SET'])
    for (let turn = 0; turn < 3; turn += 1) {
      expect(await value(first, `SHOW ${name}`)).toBe(seenOne)
      expect(await value(second, `SHOW ${name}`)).toBe(seenTwo)
    }
    await first.query(`RESET ${name}`)
    expect(await value(second, `SHOW ${name}`)).toBe(seenTwo)
    expect(await value(first, `SHOW ${name}`)).not.toBe(seenOne)
    expect(await value(second, `SHOW ${name}`)).toBe(seenTwo)
    await closeAll(first, second)
  })

  test('SET in the extended protocol follows too, and reports reach the client', async () => {
    const client = await front.steer.connect({ database: 'one' })
    const other = await front.steer.connect({ database: 'one' })
    await client.query({ text: "SET TIME ZONE 'Asia/Tokyo'", values: [] })
    await other.query("SET timezone = 'Europe/Berlin'")
    const seen = await client.query('SELECT current_setting($1) AS zone', ['timezone'])
    expect(seen.rows).toEqual([{ zone: 'Asia/Tokyo' }])
    await client.end()
    await other.end()
  })

  test('SET LOCAL ends with its transaction and is not carried', async () => {
    const [first, second] = await pair()
    await first.query('BEGIN')
    await first.query("SET LOCAL work_mem = '9MB'")
    expect(await value(first, 'SHOW work_mem')).toBe('9MB')
    await first.query('COMMIT')
    expect(await value(second, 'SHOW work_mem')).toBe('4MB')
    expect(await value(first, 'SHOW work_mem')).toBe('4MB')
    await closeAll(first, second)
  })

  test('a SET that is rolled back was never made', async () => {
    const [first, second] = await pair()
    await first.query("SET work_mem = '5MB'")
    await first.query('BEGIN')
    await first.query("SET work_mem = '6MB'")
    expect(await value(first, 'SHOW work_mem')).toBe('6MB')
    await first.query('ROLLBACK')
    expect(await value(second, 'SHOW work_mem')).toBe('4MB')
    expect(await value(first, 'SHOW work_mem')).toBe('5MB')
    await closeAll(first, second)
  })

  test('ROLLBACK TO takes back what was set behind the savepoint and keeps what was set before', async () => {
    const [first, second] = await pair()
    const script = [
      'BEGIN',
      "SET work_mem = '5MB'",
      'SAVEPOINT a',
      "SET work_mem = '6MB'",
      "SET my.own = 'lost'",
      'SAVEPOINT b',
      "SET work_mem = '7MB'",
      'RELEASE b',
      'ROLLBACK TO SAVEPOINT a',
      'COMMIT',
    ]
    for (const sql of script) expect((await first.query(sql)).sqlstate).toBeUndefined()
    expect(await value(second, 'SHOW work_mem')).toBe('4MB')
    expect(await value(first, 'SHOW work_mem')).toBe('5MB')
    expect(await value(first, "SELECT coalesce(current_setting('my.own', true), '')")).toBe('')
    await closeAll(first, second)
  })

  test('COMMIT of a failed transaction is a rollback for its settings', async () => {
    const [first, second] = await pair()
    await first.query('BEGIN')
    await first.query("SET work_mem = '6MB'")
    expect((await first.query('SELECT 1/0')).sqlstate).toBe('22012')
    expect((await first.query('COMMIT')).tags).toEqual(['ROLLBACK'])
    expect(await value(second, 'SHOW work_mem')).toBe('4MB')
    expect(await value(first, 'SHOW work_mem')).toBe('4MB')
    await closeAll(first, second)
  })

  test('several statements in one Query are one transaction for settings', async () => {
    const [first, second] = await pair()
    expect((await first.query("SET work_mem = '6MB'; SELECT 1/0")).sqlstate).toBe('22012')
    expect(await value(first, 'SHOW work_mem')).toBe('4MB')
    expect((await first.query("SET work_mem = '6MB'; SELECT 1")).tags).toEqual(['SET', 'SELECT 1'])
    expect(await value(second, 'SHOW work_mem')).toBe('4MB')
    expect(await value(first, 'SHOW work_mem')).toBe('6MB')
    await closeAll(first, second)
  })

  test('RESET ALL and DISCARD ALL go back to what the log-in asked for', async () => {
    const first = await front.steer.wire({
      database: 'one',
      parameters: { application_name: 'start', options: '-c work_mem=8MB' },
    })
    const second = await front.steer.wire({ database: 'one' })
    expect(await value(first, 'SHOW work_mem')).toBe('8MB')
    for (const reset of ['RESET ALL', 'DISCARD ALL']) {
      await first.query("SET work_mem = '5MB'")
      await first.query("SET application_name = 'else'")
      await first.query(reset)
      expect(await value(second, 'SHOW work_mem')).toBe('4MB')
      expect(await value(first, 'SHOW work_mem')).toBe('8MB')
      expect(await value(first, 'SHOW application_name')).toBe('start')
    }
    await closeAll(first, second)
  })

  test('what RESET brings back is there at once, also on the same server', async () => {
    const client = await front.steer.wire({
      database: 'one',
      parameters: { options: '-c work_mem=8MB -c timezone=Asia/Tokyo' },
    })
    const other = await front.steer.wire({ database: 'one' })
    for (const reset of ['RESET work_mem', 'RESET ALL', 'DISCARD ALL']) {
      await client.query("SET work_mem = '5MB'")
      await client.query(reset)
      expect(await value(client, 'SHOW work_mem'), reset).toBe('8MB')
      expect(await value(client, 'SHOW timezone'), reset).toBe('Asia/Tokyo')
      expect(await value(other, 'SHOW work_mem'), reset).toBe('4MB')
      expect(await value(other, 'SHOW timezone'), reset).toBe('UTC')
    }
    await client.query('BEGIN')
    await client.query('RESET work_mem')
    await client.query('ROLLBACK')
    expect(await value(other, 'SHOW work_mem')).toBe('4MB')
    await closeAll(client, other)
  })

  test('a function that calls set_config: what the server reports is carried', async () => {
    await shared.cluster.primary.query('SELECT 1')
    const [first, second] = await pair()
    await first.query(
      `CREATE FUNCTION name_it(text) RETURNS void LANGUAGE sql AS
       $$ SELECT set_config('application_name', $1, false) $$`,
    )
    await first.query("SELECT name_it('by function')")
    expect(await value(second, 'SHOW application_name')).toBe('')
    expect(await value(first, 'SHOW application_name')).toBe('by function')
    await first.query('DROP FUNCTION name_it')
    await closeAll(first, second)
  })

  test('SET ROLE follows the session and RESET ROLE ends it', async () => {
    await shared.cluster.primary.query('CREATE ROLE actor; GRANT actor TO demo')
    const [first, second] = await pair()
    await first.query('SET ROLE actor')
    expect(await value(second, 'SELECT current_user')).toBe('demo')
    expect(await value(first, 'SELECT current_user')).toBe('actor')
    await first.query("SET work_mem = '6MB'")
    expect(await value(second, 'SHOW work_mem')).toBe('4MB')
    expect(await value(first, "SELECT current_user || current_setting('work_mem')")).toBe(
      'actor6MB',
    )
    await first.query('RESET ROLE')
    expect(await value(second, 'SELECT current_user')).toBe('demo')
    expect(await value(first, 'SELECT current_user')).toBe('demo')
    await closeAll(first, second)
  })

  test('a setting that can not be made any more is told, and the statement never runs without it', async () => {
    await shared.cluster.primary.query('CREATE ROLE fleeting; GRANT fleeting TO demo')
    const [first, second] = await pair()
    await first.query('CREATE TABLE marks (who text)')
    await first.query('SET ROLE fleeting')
    expect(await value(second, 'SELECT current_user')).toBe('demo')
    await shared.cluster.primary.query('DROP ROLE fleeting')
    const answer = await first.query('INSERT INTO marks VALUES (current_user)')
    expect(answer.sqlstate).toBe('22023')
    expect(answer.errors[0]?.['M']).toMatch(/fleeting/)
    expect(answer.types).toBe('EZ')
    expect(await value(second, 'SELECT count(*) FROM marks')).toBe('0')
    // The way out is open: the session says what it wants instead.
    expect((await first.query('RESET ROLE')).sqlstate).toBeUndefined()
    expect((await first.query('INSERT INTO marks VALUES (current_user)')).tags).toEqual([
      'INSERT 0 1',
    ])
    await second.query('DROP TABLE marks')
    await closeAll(first, second)
  })

  test('a setting follows from the primary to a replica', async () => {
    const client = await front.steer.connect({ database: 'duo' })
    await client.query("SET extra_float_digits = 0; SET my.mark = 'here'")
    await waitFor('a read lands on the replica', async () => {
      const { rows } = await client.query(
        "SELECT inet_server_port() AS port, current_setting('my.mark') AS mark",
      )
      expect(rows[0].mark).toBe('here')
      return rows[0].port === shared.cluster.member('pg2').port
    })
    await client.end()
  })

  test('in_hot_standby says the role of the route, not of the server that answers', async () => {
    const client = await front.steer.wire({ database: 'duo' })
    expect(client.parameters.get('in_hot_standby')).toBe('off')
    for (let turn = 0; turn < 20; turn += 1) await client.query('SELECT 1')
    expect(client.parameters.get('in_hot_standby')).toBe('off')
    await client.close()
  })
})

describe('BEGIN', () => {
  test('of an empty transaction takes no server', async () => {
    const busy = await front.steer.wire({ database: 'one' })
    await busy.query('BEGIN')
    await busy.query('SELECT 1')
    const idle = await front.steer.wire({ database: 'one' })
    const begin = await idle.query('BEGIN')
    expect([begin.tags, begin.status]).toEqual([['BEGIN'], 'T'])
    const commit = await idle.query('COMMIT')
    expect([commit.tags, commit.status]).toEqual([['COMMIT'], 'I'])
    await idle.query('BEGIN ISOLATION LEVEL SERIALIZABLE')
    const rollback = await idle.query('ROLLBACK')
    expect([rollback.tags, rollback.status]).toEqual([['ROLLBACK'], 'I'])
    await busy.query('COMMIT')
    await closeAll(busy, idle)
  })

  test('that was deferred is made when a statement comes, with its options', async () => {
    const [first, second] = await pair()
    await first.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
    expect(await value(first, 'SHOW transaction_isolation')).toBe('repeatable read')
    expect((await first.query('SELECT 1')).status).toBe('T')
    await first.query('COMMIT')
    expect(await value(second, 'SHOW transaction_isolation')).toBe('read committed')
    await closeAll(first, second)
  })

  test('then an error, then ROLLBACK: as PostgreSQL answers', async () => {
    const client = await front.steer.wire({ database: 'one' })
    await client.query('BEGIN')
    const broken = await client.query('SELECT 1/0')
    expect([broken.sqlstate, broken.status]).toEqual(['22012', 'E'])
    const refused = await client.query('SELECT 1')
    expect([refused.sqlstate, refused.status]).toEqual(['25P02', 'E'])
    const end = await client.query('ROLLBACK')
    expect([end.tags, end.status]).toEqual([['ROLLBACK'], 'I'])
    expect(await value(client, 'SELECT 1')).toBe('1')
    await client.close()
  })

  test('in the extended protocol, pipelined with its first statement and COMMIT', async () => {
    const client = await front.steer.connect({ database: 'one' })
    await client.query({ text: 'BEGIN', values: [] })
    const seen = await client.query('SELECT $1::int + 1 AS n', [41])
    expect(seen.rows).toEqual([{ n: 42 }])
    await client.query({ text: 'COMMIT', values: [] })
    await client.end()
  })

  test('twice warns as PostgreSQL does', async () => {
    const client = await front.steer.wire({ database: 'one' })
    await client.query('BEGIN')
    const again = await client.query('BEGIN')
    expect(again.notices[0]?.['C']).toBe('25001')
    expect(again.status).toBe('T')
    await client.query('ROLLBACK')
    await client.close()
  })

  test('COMMIT AND CHAIN keeps the session in a transaction', async () => {
    const client = await front.steer.wire({ database: 'one' })
    await client.query('BEGIN')
    await client.query('SELECT 1')
    expect((await client.query('COMMIT AND CHAIN')).status).toBe('T')
    expect((await client.query('ROLLBACK')).status).toBe('I')
    await client.query('BEGIN')
    expect((await client.query('ROLLBACK AND CHAIN')).status).toBe('T')
    expect((await client.query('COMMIT')).status).toBe('I')
    await client.close()
  })

  test('READ ONLY goes to a replica, and a write in it is refused there', async () => {
    const client = await front.steer.wire({ database: 'duo' })
    await waitFor('the replica serves', async () => {
      await client.query('BEGIN READ ONLY')
      const port = await value(client, 'SELECT inet_server_port()')
      await client.query('COMMIT')
      return port === String(shared.cluster.member('pg2').port)
    })
    await client.query('BEGIN READ ONLY')
    await client.query('SELECT 1')
    expect((await client.query('CREATE TABLE never (a int)')).sqlstate).toBe('25006')
    expect((await client.query('ROLLBACK')).status).toBe('I')
    await client.close()
  })

  test('any other goes to the primary', async () => {
    const client = await front.steer.wire({ database: 'duo' })
    for (let turn = 0; turn < 5; turn += 1) {
      await client.query('BEGIN')
      expect(await value(client, 'SELECT inet_server_port()')).toBe(
        String(shared.cluster.primary.port),
      )
      await client.query('COMMIT')
    }
    await client.close()
  })
})
