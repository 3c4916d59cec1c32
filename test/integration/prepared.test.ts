/** Prepared statements of sessions that share servers, against PostgreSQL 18. */
import { describe, expect, test } from 'vitest'
import { frontend } from '../support/bytes.ts'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import type { Answer, WireClient } from '../support/wire-client.ts'

const shared = useCluster({ replicas: 1 })
const front = useSteer(shared, {
  databases: '* =\none = dbname=demo pool_size=1 route=primary\nduo = dbname=demo pool_size=2',
  pgbouncer: { max_prepared_statements: 2 },
})

const one = (): Promise<WireClient> => front.steer.wire({ database: 'one' })

function send(client: WireClient, ...messages: readonly Buffer[]): Promise<Answer> {
  client.send(...messages, frontend.sync())
  return client.ready()
}

const { parse, bind, describe: describeMessage, execute, close } = frontend

async function run(client: WireClient, statement: string, ...values: string[]): Promise<Answer> {
  return send(client, bind({ statement, values }), execute())
}

describe('a prepared statement', () => {
  test('of one session can not be seen by another, and each may use the name', async () => {
    const [first, second] = [await one(), await one()]
    expect((await send(first, parse('s', 'SELECT 1'))).types).toBe('1Z')
    expect((await run(second, 's')).sqlstate).toBe('26000')
    expect((await send(second, parse('s', 'SELECT 2'))).types).toBe('1Z')
    expect((await run(first, 's')).rows).toEqual([['1']])
    expect((await run(second, 's')).rows).toEqual([['2']])
    await Promise.all([first.close(), second.close()])
  })

  test('can not be reached by the name that it has on the server', async () => {
    const [first, second] = [await one(), await one()]
    await send(first, parse('s', "SELECT 'of the first'"))
    const { rows } = await second.query('SELECT name FROM pg_prepared_statements')
    expect(rows.length).toBeGreaterThan(0)
    for (const [name] of rows) {
      expect((await run(second, name ?? '')).sqlstate).toBe('26000')
      expect((await send(second, describeMessage('S', name ?? ''))).sqlstate).toBe('26000')
    }
    await Promise.all([first.close(), second.close()])
  })

  test('whose name is taken is refused by 42P05, and the first one stays', async () => {
    const client = await one()
    await send(client, parse('s', 'SELECT 1'))
    const again = await send(client, parse('s', 'SELECT 2'))
    expect([again.sqlstate, again.types]).toEqual(['42P05', 'EZ'])
    expect((await run(client, 's')).rows).toEqual([['1']])
    await client.close()
  })

  test('that is unknown is refused by 26000 for Bind and Describe, and Close of it succeeds', async () => {
    const client = await one()
    expect((await run(client, 'nobody')).sqlstate).toBe('26000')
    expect((await send(client, describeMessage('S', 'nobody'))).sqlstate).toBe('26000')
    expect((await send(client, close('S', 'nobody'))).types).toBe('3Z')
    await client.close()
  })

  test('is gone after Close and its name is free', async () => {
    const client = await one()
    await send(client, parse('s', 'SELECT 1'))
    expect((await send(client, close('S', 's'))).types).toBe('3Z')
    expect((await run(client, 's')).sqlstate).toBe('26000')
    expect(
      (await send(client, parse('s', 'SELECT 2'), bind({ statement: 's' }), execute())).rows,
    ).toEqual([['2']])
    await client.close()
  })

  test('that is unnamed lasts until the next one, across other sessions on its server', async () => {
    const [first, second] = [await one(), await one()]
    expect((await send(first, parse('', 'SELECT $1::text'))).types).toBe('1Z')
    await send(second, parse('', 'SELECT 2'), bind(), execute())
    await second.query('SELECT 3')
    expect((await run(first, '', 'mine')).rows).toEqual([['mine']])
    expect((await run(second, '')).sqlstate).toBe('26000')
    await Promise.all([first.close(), second.close()])
  })

  test('whose Parse fails does not exist', async () => {
    const client = await one()
    expect((await send(client, parse('bad', 'SELEC'))).sqlstate).toBe('42601')
    expect((await run(client, 'bad')).sqlstate).toBe('26000')
    expect((await send(client, parse('bad', 'SELECT 5'))).types).toBe('1Z')
    expect((await run(client, 'bad')).rows).toEqual([['5']])
    await client.close()
  })

  test('whose Parse is skipped behind an error does not exist, and a skipped Close did nothing', async () => {
    const client = await one()
    await send(client, parse('kept', 'SELECT 7'))
    const answer = await send(
      client,
      parse('bad', 'SELEC'),
      parse('skipped', 'SELECT 1'),
      close('S', 'kept'),
    )
    expect(answer.types).toBe('EZ')
    expect((await run(client, 'skipped')).sqlstate).toBe('26000')
    expect((await run(client, 'kept')).rows).toEqual([['7']])
    await client.close()
  })

  test('is described with its parameters and columns wherever it is', async () => {
    const [first, second] = [await one(), await one()]
    await send(first, parse('s', 'SELECT $1::int AS a, $2::text AS b'))
    for (let index = 0; index < 3; index += 1)
      await send(second, parse(`other${index}`, `SELECT ${index}`))
    expect((await send(first, describeMessage('S', 's'))).types).toBe('tTZ')
    expect((await run(first, 's', '3', 'x')).rows).toEqual([['3', 'x']])
    await Promise.all([first.close(), second.close()])
  })

  test('is prepared once for the same text, types and search_path, and again for another', async () => {
    const [first, second] = [await one(), await one()]
    await first.query('CREATE SCHEMA IF NOT EXISTS a; CREATE SCHEMA IF NOT EXISTS b')
    await first.query("CREATE TABLE a.t AS SELECT 'a' AS v; CREATE TABLE b.t AS SELECT 'b' AS v")
    await first.query('SET search_path = a')
    await second.query('SET search_path = b')
    await send(first, parse('s', 'SELECT v FROM t'))
    await send(second, parse('s', 'SELECT v FROM t'))
    for (let turn = 0; turn < 3; turn += 1) {
      expect((await run(first, 's')).rows).toEqual([['a']])
      expect((await run(second, 's')).rows).toEqual([['b']])
    }
    await first.query('DROP SCHEMA a, b CASCADE')
    await Promise.all([first.close(), second.close()])
  })
})

describe('more statements than a server keeps', () => {
  test('all of them go on working', async () => {
    const client = await one()
    for (let index = 0; index < 7; index += 1)
      expect((await send(client, parse(`s${index}`, `SELECT ${index} + $1::int`))).types).toBe('1Z')
    for (let turn = 0; turn < 3; turn += 1)
      for (let index = 0; index < 7; index += 1)
        expect((await run(client, `s${index}`, '10')).rows).toEqual([[String(10 + index)]])
    const kept = await client.query(
      "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'PGSTEER%'",
    )
    expect(Number(kept.rows[0]?.[0])).toBeLessThanOrEqual(2)
    await client.close()
  })

  test('in one pipeline too', async () => {
    const client = await one()
    const messages: Buffer[] = []
    for (let index = 0; index < 7; index += 1)
      messages.push(
        parse(`p${index}`, `SELECT ${index}`),
        bind({ statement: `p${index}` }),
        execute(),
      )
    expect((await send(client, ...messages)).rows).toEqual(
      [0, 1, 2, 3, 4, 5, 6].map((index) => [String(index)]),
    )
    expect((await run(client, 'p0')).rows).toEqual([['0']])
    await client.close()
  })

  test('an error in the middle leaves what was evicted and what was not as it is', async () => {
    const client = await one()
    for (let index = 0; index < 4; index += 1)
      await send(client, parse(`e${index}`, `SELECT ${index}`))
    const answer = await send(
      client,
      bind({ statement: 'e0' }),
      execute(),
      parse('broken', 'SELECT 1/0'),
      bind({ statement: 'broken' }),
      execute(),
      bind({ statement: 'e1' }),
      execute(),
    )
    expect([answer.sqlstate, answer.rows]).toEqual(['22012', [['0']]])
    for (let index = 0; index < 4; index += 1)
      expect((await run(client, `e${index}`)).rows).toEqual([[String(index)]])
    await client.close()
  })
})

describe('statements that forget', () => {
  test.each(['DEALLOCATE ALL', 'DISCARD ALL'])(
    '%s forgets those of this session only',
    async (sql) => {
      const [first, second] = [await one(), await one()]
      await send(first, parse('s', 'SELECT 1'))
      await send(second, parse('s', 'SELECT 2'))
      expect((await first.query(sql)).sqlstate).toBeUndefined()
      expect((await run(first, 's')).sqlstate).toBe('26000')
      expect((await run(second, 's')).rows).toEqual([['2']])
      await Promise.all([first.close(), second.close()])
    },
  )

  test('DEALLOCATE forgets one, by its folded or quoted name', async () => {
    const client = await one()
    await send(client, parse('s', 'SELECT 1'))
    await send(client, parse('Big', 'SELECT 2'))
    expect((await client.query('DEALLOCATE S')).tags).toEqual(['DEALLOCATE'])
    expect((await run(client, 's')).sqlstate).toBe('26000')
    expect((await run(client, 'Big')).rows).toEqual([['2']])
    expect((await client.query('DEALLOCATE PREPARE "Big"')).tags).toEqual(['DEALLOCATE'])
    expect((await run(client, 'Big')).sqlstate).toBe('26000')
    expect((await client.query('DEALLOCATE nobody')).sqlstate).toBe('26000')
    await client.close()
  })

  test('in the extended protocol too', async () => {
    const client = await one()
    await send(client, parse('s', 'SELECT 1'))
    const answer = await send(client, parse('', 'DEALLOCATE s'), bind(), execute())
    expect(answer.sqlstate).toBeUndefined()
    expect((await run(client, 's')).sqlstate).toBe('26000')
    await client.close()
  })

  test('SQL-level PREPARE ties the session to its server until DEALLOCATE', async () => {
    const client = await front.steer.wire({ database: 'duo' })
    await client.query('PREPARE mine AS SELECT $1::int + 1')
    const shown = await front.steer.clientOf('duo')
    expect(shown?.['pin_reasons']).toBe('sql_prepare')
    expect((await client.query('EXECUTE mine(41)')).rows).toEqual([['42']])
    await client.query('DEALLOCATE mine')
    const after = await front.steer.clientOf('duo')
    expect(after?.['pin_reasons'] ?? '').toBe('')
    await client.close()
  })
})

describe('a cached plan that does not fit any more', () => {
  test('is healed outside a transaction', async () => {
    const [client, other] = [await one(), await one()]
    await client.query('CREATE TABLE plans (a int)')
    await client.query('INSERT INTO plans VALUES (1)')
    await send(client, parse('s', 'SELECT * FROM plans'))
    expect((await run(client, 's')).rows).toEqual([['1']])
    await other.query("ALTER TABLE plans ADD b text DEFAULT 'new'")
    const healed = await run(client, 's')
    expect(healed.sqlstate).toBeUndefined()
    expect(healed.rows).toEqual([['1', 'new']])
    expect((await run(client, 's')).rows).toEqual([['1', 'new']])
    await client.query('DROP TABLE plans')
    await Promise.all([client.close(), other.close()])
  })

  test('is told inside a transaction, where nothing can be sent twice', async () => {
    const [client, other] = [await one(), await one()]
    await client.query('CREATE TABLE plans (a int)')
    await send(client, parse('s', 'SELECT * FROM plans'))
    await run(client, 's')
    await other.query("ALTER TABLE plans ADD b text DEFAULT 'new'")
    await client.query('BEGIN')
    await client.query('SELECT 1')
    expect((await run(client, 's')).sqlstate).toBe('0A000')
    expect((await client.query('ROLLBACK')).status).toBe('I')
    await client.query('DROP TABLE plans')
    await Promise.all([client.close(), other.close()])
  })
})

describe('pipelines', () => {
  test('of many Syncs get one answer each, in order, errors among them', async () => {
    const client = await one()
    const messages: Buffer[] = []
    for (let index = 0; index < 50; index += 1)
      messages.push(
        parse('', index % 7 === 3 ? 'SELECT 1/0' : `SELECT ${index}`),
        bind(),
        execute(),
        frontend.sync(),
      )
    client.send(...messages)
    for (let index = 0; index < 50; index += 1) {
      const answer = await client.ready()
      if (index % 7 === 3) expect(answer.sqlstate).toBe('22012')
      else expect(answer.rows).toEqual([[String(index)]])
    }
    await client.close()
  })

  test('with Flush are answered before Sync comes', async () => {
    const client = await one()
    client.send(parse('f', 'SELECT $1::int'), frontend.flush())
    expect((await client.until('1')).types).toBe('1')
    client.send(bind({ statement: 'f', values: ['4'] }), describeMessage('P'), frontend.flush())
    expect((await client.until('T')).types).toBe('2T')
    client.send(execute(), frontend.flush())
    expect((await client.until('C')).rows).toEqual([['4']])
    client.send(frontend.sync())
    expect((await client.ready()).types).toBe('Z')
    await client.close()
  })

  test('of simple and extended messages mixed keep their order', async () => {
    const client = await one()
    client.send(
      frontend.query('SELECT 1'),
      parse('', 'SELECT 2'),
      bind(),
      execute(),
      frontend.sync(),
      frontend.query('SELECT 3; SELECT 4'),
      parse('', 'SELECT 5'),
      bind(),
      execute(),
      frontend.sync(),
    )
    const seen: unknown[] = []
    for (let index = 0; index < 4; index += 1) seen.push((await client.ready()).rows)
    expect(seen).toEqual([[['1']], [['2']], [['3'], ['4']], [['5']]])
    await client.close()
  })

  test('of one byte at a time are the same', async () => {
    const client = await one()
    const bytes = Buffer.concat([
      parse('slow', 'SELECT $1::text'),
      bind({ statement: 'slow', values: ['byte'] }),
      describeMessage('P'),
      execute(),
      close('S', 'slow'),
      frontend.sync(),
    ])
    for (const byte of bytes) {
      client.socket.write(Buffer.of(byte))
      await new Promise(setImmediate)
    }
    const answer = await client.ready()
    expect(answer.types).toBe('12TDC3Z')
    expect(answer.rows).toEqual([['byte']])
    await client.close()
  })
})

test('row limits: a portal is fetched in parts inside a transaction', async () => {
  const client = await one()
  await client.query('BEGIN')
  await send(client, parse('', 'SELECT generate_series(1, 5)'), bind({ portal: 'c' }))
  const first = await send(client, execute('c', 2))
  expect([first.types, first.rows]).toEqual(['DDsZ', [['1'], ['2']]])
  const second = await send(client, execute('c', 2))
  expect(second.rows).toEqual([['3'], ['4']])
  const third = await send(client, execute('c', 2))
  expect([third.types, third.rows]).toEqual(['DCZ', [['5']]])
  expect((await send(client, close('P', 'c'))).types).toBe('3Z')
  await client.query('COMMIT')
  await client.close()
})

test('row limits: a portal suspended before Sync goes on behind Flush', async () => {
  const client = await one()
  client.send(
    parse('', 'SELECT generate_series(1, 4)'),
    bind({ portal: 'p' }),
    execute('p', 3),
    frontend.flush(),
  )
  expect((await client.until('s')).types).toBe('12DDDs')
  client.send(execute('p', 3), frontend.sync())
  expect((await client.ready()).types).toBe('DCZ')
  await client.close()
})
