/** Cancel, pins, modes, limits, timeouts, the console and replication, against PostgreSQL 18. */
import { describe, expect, test } from 'vitest'
import { frontend } from '../support/bytes.ts'
import { program } from '../support/debian.ts'
import { execute as run } from '../support/exec.ts'
import { cancel } from '../support/nonce.ts'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

const shared = useCluster({ replicas: 1 })
const front = useSteer(shared, {
  databases: [
    '* =',
    'one = dbname=demo pool_size=1 route=primary',
    'duo = dbname=demo pool_size=2',
    'statement = dbname=demo pool_mode=statement',
    'session = dbname=demo pool_mode=session pool_size=2',
    'single = dbname=demo pool_mode=session pool_size=1 route=primary',
    'rejecting = dbname=demo session_state=reject',
    'warning = dbname=demo session_state=warn',
    'hasty = dbname=demo pool_size=1 route=primary query_wait_timeout=1',
    'narrow = dbname=demo max_db_client_connections=2',
    'missing = dbname=not_there route=primary',
  ].join('\n'),
  users: [
    'replicator = query_timeout=1',
    'pgsteer = idle_transaction_timeout=1',
    'shortly = client_idle_timeout=1',
    'briefly = transaction_timeout=1',
  ].join('\n'),
  userlist: '"shortly" "shortly"\n"briefly" "briefly"\n',
  pgbouncer: { server_login_retry: 1 },
})

const at = (database: string, user = 'demo'): Promise<WireClient> =>
  front.steer.wire({ database, user })

async function makeUsers(): Promise<void> {
  await shared.cluster.primary.query(
    `DO $$ BEGIN
       IF to_regrole('shortly') IS NULL THEN
         CREATE ROLE shortly LOGIN PASSWORD 'shortly'; CREATE ROLE briefly LOGIN PASSWORD 'briefly';
       END IF;
     END $$`,
  )
}

describe('cancel', () => {
  test('ends the statement of its client', async () => {
    const client = await at('one')
    client.send(frontend.query('SELECT pg_sleep(30)'))
    await waitFor('it runs', async () =>
      (await front.steer.clientOf('one'))?.['member'] !== null ? true : undefined,
    )
    await cancel(front.steer.port, client)
    const answer = await client.ready()
    expect([answer.sqlstate, answer.status]).toEqual(['57014', 'I'])
    expect((await client.query('SELECT 1')).rows).toEqual([['1']])
    await client.close()
  })

  test('takes a statement that waits for a server out of its queue', async () => {
    const [busy, waiting] = [await at('one'), await at('one')]
    await busy.query('BEGIN')
    await busy.query('CREATE TABLE IF NOT EXISTS cancelled (a int)')
    waiting.send(frontend.query('INSERT INTO cancelled VALUES (1)'))
    await waitFor('it waits', async () =>
      (await front.steer.console('SHOW CLIENTS')).some((row) => row['state'] === 'waiting'),
    )
    await cancel(front.steer.port, waiting)
    const answer = await waiting.ready()
    expect([answer.sqlstate, answer.status]).toEqual(['57014', 'I'])
    await busy.query('COMMIT')
    expect((await waiting.query('SELECT count(*) FROM cancelled')).rows).toEqual([['0']])
    await busy.query('DROP TABLE cancelled')
    await Promise.all([busy.close(), waiting.close()])
  })

  test('with a wrong key is ignored', async () => {
    const client = await at('one')
    client.send(frontend.query("SELECT pg_sleep(0.2), 'done'"))
    const key = Buffer.from(client.key)
    key[0] = (key[0] ?? 0) ^ 1
    const foe = Object.assign(Object.create(client) as WireClient, {})
    Object.defineProperty(foe, 'key', { value: key })
    Object.defineProperty(foe, 'processId', { value: client.processId })
    await cancel(front.steer.port, foe)
    expect((await client.ready()).rows).toEqual([['', 'done']])
    await client.close()
  })

  test('300 times at the end of a statement, never hits the statement of the next client', async () => {
    const [first, next] = [await at('one'), await at('one')]
    let [cancelled, finished] = [0, 0]
    for (let turn = 0; turn < 300; turn += 1) {
      first.send(frontend.query('SELECT pg_sleep(0.001)'))
      const asked = cancel(front.steer.port, first)
      next.send(frontend.query(`SELECT ${turn}, pg_sleep(0.002)`))
      const own = await first.ready()
      if (own.sqlstate === '57014') cancelled += 1
      else finished += 1
      const other = await next.ready()
      expect(other.errors).toEqual([])
      expect(other.rows[0]?.[0]).toBe(String(turn))
      await asked
    }
    expect(cancelled + finished).toBe(300)
    expect(cancelled).toBeGreaterThan(0)
    await Promise.all([first.close(), next.close()])
  })
})

describe('pins', () => {
  test.each([
    ['LISTEN a', 'listen', 'UNLISTEN *'],
    ['CREATE TEMP TABLE tt (a int)', 'temp_table', 'DROP TABLE tt'],
    ['SELECT pg_advisory_lock(1)', 'advisory_lock', 'SELECT pg_advisory_unlock(1)'],
    ['PREPARE pp AS SELECT 1', 'sql_prepare', 'DEALLOCATE pp'],
    ["SELECT set_config('my.pin', 'x', false)", 'set_config', 'DISCARD ALL'],
    ['DECLARE hh CURSOR WITH HOLD FOR SELECT 1', 'hold_cursor', 'CLOSE ALL'],
  ])('%s pins with its reason, until it is over', async (sql, reason, end) => {
    const client = await at('duo')
    expect((await client.query(sql)).errors).toEqual([])
    expect((await front.steer.clientOf('duo'))?.['pin_reasons']).toBe(reason)
    expect((await client.query('SELECT 1')).rows).toEqual([['1']])
    expect((await client.query(end)).errors).toEqual([])
    // Whether advisory locks are left is asked of the server, behind the answer.
    await waitFor('the pin is over', async () => {
      const row = await front.steer.clientOf('duo')
      return row !== undefined && (row['pin_reasons'] ?? '') === ''
    })
    await client.close()
  })

  test('temporary tables of one client are never seen by another', async () => {
    const first = await at('duo')
    await first.query('CREATE TEMP TABLE secret AS SELECT 42 AS answer')
    expect((await first.query('SELECT answer FROM secret')).rows).toEqual([['42']])
    const others = await Promise.all([at('duo'), at('duo'), at('duo')])
    for (const other of others)
      expect((await other.query('SELECT answer FROM secret')).sqlstate).toBe('42P01')
    await first.close()
    for (const other of others)
      expect((await other.query('SELECT answer FROM secret')).sqlstate).toBe('42P01')
    await Promise.all(others.map((other) => other.close()))
  })

  test('hidden effects of a DO block are gone before the next client comes', async () => {
    const [first, next] = [await at('one'), await at('one')]
    await first.query(
      `DO $$ BEGIN
         EXECUTE 'CREATE TEMP TABLE hidden (a int)';
         PERFORM set_config('work_mem', '6MB', false);
         PERFORM pg_advisory_lock(77);
       END $$`,
    )
    expect((await next.query("SELECT to_regclass('pg_temp.hidden') IS NULL")).rows).toEqual([['t']])
    expect((await next.query('SHOW work_mem')).rows).toEqual([['4MB']])
    expect(
      (await next.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")).rows,
    ).toEqual([['0']])
    await Promise.all([first.close(), next.close()])
  })

  test('currval never tells what another client drew', async () => {
    const [first, next] = [await at('one'), await at('one')]
    await first.query('CREATE SEQUENCE drawn')
    await first.query("SELECT nextval('drawn')")
    const told = await next.query("SELECT currval('drawn')")
    expect(['0A000', '55000']).toContain(told.sqlstate)
    await first.query('BEGIN')
    await first.query("SELECT nextval('drawn')")
    expect((await first.query("SELECT currval('drawn')")).errors).toEqual([])
    await first.query('COMMIT')
    await first.query('DROP SEQUENCE drawn')
    await Promise.all([first.close(), next.close()])
  })

  test('session_state = reject refuses, = warn says so', async () => {
    const rejecting = await at('rejecting')
    expect((await rejecting.query('LISTEN a')).sqlstate).toBe('0A000')
    expect((await rejecting.query('SELECT 1')).rows).toEqual([['1']])
    await rejecting.close()
    const warning = await at('warning')
    const answer = await warning.query('LISTEN a')
    expect(answer.errors).toEqual([])
    expect(answer.notices[0]?.['M']).toContain('listen')
    await warning.close()
  })
})

describe('pool modes', () => {
  test('statement mode refuses transactions with the words of PgBouncer', async () => {
    const client = await at('statement')
    expect((await client.query('SELECT 1')).rows).toEqual([['1']])
    const answer = await client.query('BEGIN')
    expect(answer.errors[0]).toMatchObject({
      S: 'FATAL',
      C: '08P01',
      M: 'transaction blocks not allowed in statement pooling mode',
    })
    await client.ended()
  })

  test('session mode keeps what the session did, and cleans it for the next', async () => {
    const first = await at('single')
    await first.query('CREATE TEMP TABLE mine (a int)')
    await first.query("SELECT set_config('my.x', 'y', false); SELECT pg_advisory_lock(5)")
    await first.query('PREPARE s AS SELECT 7')
    expect((await first.query('EXECUTE s')).rows).toEqual([['7']])
    expect((await first.query('SELECT count(*) FROM mine')).rows).toEqual([['0']])
    const pid = (await first.query('SELECT pg_backend_pid()')).rows
    await first.close()
    const next = await at('single')
    expect((await next.query('SELECT count(*) FROM mine')).sqlstate).toBe('42P01')
    expect((await next.query('EXECUTE s')).sqlstate).toBe('26000')
    expect((await next.query("SELECT coalesce(current_setting('my.x', true), '')")).rows).toEqual([
      [''],
    ])
    expect(pid).toHaveLength(1)
    await next.close()
  })

  test('session mode holds at most one server per role', async () => {
    const client = await at('session')
    for (let turn = 0; turn < 10; turn += 1) {
      await client.query('SELECT 1')
      await client.query('CREATE TABLE IF NOT EXISTS both_roles (a int)')
    }
    const servers = (await front.steer.console('SHOW SERVERS')).filter(
      (row) => row['database'] === 'session' && row['state'] === 'active',
    )
    expect(servers.length).toBeLessThanOrEqual(2)
    await client.query('DROP TABLE both_roles')
    await client.close()
  })
})

async function refused(database: string, user = 'demo', password = user) {
  const client = await WireClient.connect({ port: front.steer.port, withinMs: 30_000 })
  const answer = await client.startup({ user, database, password })
  await client.ended()
  return answer.errors[0] ?? {}
}

describe('limits and timeouts, in the words of PgBouncer', () => {
  test('an unknown database is told after the log-in only', async () => {
    const plain = await front.steer.wire({ database: 'narrow' })
    await plain.close()
    expect(await refused('demo', 'demo', 'wrong')).toMatchObject({ C: '08P01' })
    expect((await refused('nowhere_at_all', 'demo', 'wrong'))['M']).toBe(
      'SASL authentication failed',
    )
    expect(await refused('missing')).toMatchObject({ S: 'FATAL', C: '3D000' })
  })

  test('max_db_client_connections', async () => {
    const clients = [await at('narrow'), await at('narrow')]
    expect(await refused('narrow')).toMatchObject({
      S: 'FATAL',
      C: '08P01',
      M: 'client connections exceeded (max_db_client_connections)',
    })
    await Promise.all(clients.map((client) => client.close()))
    await waitFor('there is room again', async () => {
      const client = await at('narrow')
      await client.close()
      return true
    })
  })

  test('query_wait_timeout', async () => {
    const [busy, late] = [await at('hasty'), await at('hasty')]
    await busy.query('BEGIN')
    await busy.query('SELECT 1')
    const answer = await late.query('SELECT 1')
    expect(answer.errors[0]).toMatchObject({ S: 'FATAL', C: '08P01', M: 'query_wait_timeout' })
    await late.ended()
    await busy.query('COMMIT')
    await busy.close()
  })

  test.each([
    ['replicator', ['SELECT pg_sleep(20)'], 'query timeout'],
    ['pgsteer', ['BEGIN', 'SELECT 1'], 'idle transaction timeout'],
    ['shortly', ['SELECT 1'], 'client_idle_timeout'],
    ['briefly', ['BEGIN', 'SELECT pg_sleep(20)'], 'transaction timeout'],
  ])('user %s: %s ends by "%s"', async (user, script, text) => {
    await makeUsers()
    const client = await at('postgres', user)
    for (const sql of script) client.send(frontend.query(sql))
    await client.ended()
    const answer = await client.until('E')
    expect(answer.errors[0]).toMatchObject({ S: 'FATAL', C: '08P01', M: text })
  })
})

describe('replication connections', () => {
  test('IDENTIFY_SYSTEM goes to the primary', async () => {
    const client = await front.steer.wire({
      user: 'replicator',
      database: 'postgres',
      parameters: { replication: 'true' },
    })
    const answer = await client.query('IDENTIFY_SYSTEM')
    expect(answer.rows[0]?.[1]).toBe('1')
    const [system] = await shared.cluster.primary.query<{ id: string }>(
      'SELECT system_identifier::text AS id FROM pg_control_system()',
    )
    expect(answer.rows[0]?.[0]).toBe(system?.id)
    await client.close()
  })

  test('psql "replication=database" works', async () => {
    const dsn = `host=127.0.0.1 port=${front.steer.port} user=postgres password=postgres dbname=postgres replication=database`
    const ran = await run(program('psql'), ['-X', '-A', '-t', '-c', 'IDENTIFY_SYSTEM', dsn])
    expect(ran.errors).toBe('')
    expect(ran.output).toMatch(/^\d+\|1\|[0-9A-F]+\/[0-9A-F]+\|postgres\n$/)
  })
})

describe('the console', () => {
  test('over psql', async () => {
    const ran = await run(
      program('psql'),
      ['-X', '-A', '-t', '-c', 'SHOW VERSION', '-c', 'SHOW POOLS', '-c', 'SHOW MEMBERS'],
      { env: front.steer.libpq('pgbouncer', 'postgres') },
    )
    expect(ran.errors).toBe('')
    expect(ran.output).toMatch(/pgsteer|PgBouncer/i)
    expect(ran.code).toBe(0)
  })

  test('over the extended protocol', async () => {
    const admin = await front.steer.connect({ user: 'postgres', database: 'pgbouncer' })
    const { rows } = await admin.query({ text: 'SHOW DATABASES', values: [] })
    expect(rows.map((row) => row.name)).toContain('one')
    await admin.end()
  })

  test('is refused to those who are neither admin nor stats user', async () => {
    await expect(front.steer.connect({ database: 'pgbouncer' })).rejects.toThrow('not allowed')
    const stats = await front.steer.connect({ user: 'pgsteer', database: 'pgbouncer' })
    await expect(stats.query('PAUSE')).rejects.toThrow('admin access needed')
    await stats.end()
  })

  test('PAUSE waits for transactions, holds the next, RESUME lets them go', async () => {
    const [open, later] = [await at('duo'), await at('duo')]
    await open.query('BEGIN')
    await open.query('SELECT 1')
    const paused = front.steer.console('PAUSE duo')
    await waitFor('it is pausing', async () =>
      (await front.steer.console('SHOW DATABASES')).some(
        (row) => row['name'] === 'duo' && Number(row['paused']) === 1,
      ),
    )
    later.send(frontend.query("SELECT 'held'"))
    expect((await open.query('COMMIT')).status).toBe('I')
    await paused
    await waitFor('the other waits', async () =>
      (await front.steer.console('SHOW CLIENTS')).some((row) => row['wait_reason'] === 'paused'),
    )
    await front.steer.console('RESUME duo')
    expect((await later.ready()).rows).toEqual([['held']])
    await Promise.all([open.close(), later.close()])
  })

  test('KILL_CLIENT', async () => {
    const client = await at('duo')
    const id = (await front.steer.clientOf('duo'))?.['id'] ?? ''
    await front.steer.console(`KILL_CLIENT ${id}`)
    const answer = await client.ready()
    expect(answer.errors[0]).toMatchObject({ S: 'FATAL', M: 'admin forced disconnect' })
    await client.ended()
  })
})
