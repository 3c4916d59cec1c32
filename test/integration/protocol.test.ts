/** COPY, notifications, cursors, function calls, big rows, backpressure: bytes against PostgreSQL 18. */
import { describe, expect, test } from 'vitest'
import { frontend, rowValues } from '../support/bytes.ts'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import type { WireClient } from '../support/wire-client.ts'

const shared = useCluster({ replicas: 1 })
const front = useSteer(shared, {
  databases: '* =\none = dbname=demo pool_size=1 route=primary\nduo = dbname=demo pool_size=2',
})
const { parse, bind, execute, sync, query, copyData, copyDone, copyFail } = frontend

const one = (): Promise<WireClient> => front.steer.wire({ database: 'one' })

async function count(client: WireClient, table: string): Promise<string | null | undefined> {
  return (await client.query(`SELECT count(*) FROM ${table}`)).rows[0]?.[0]
}

async function withTable(name: string, body: (client: WireClient) => Promise<void>): Promise<void> {
  const client = await one()
  await client.query(`CREATE TABLE ${name} (a int, b text)`)
  await body(client)
  await client.query(`DROP TABLE ${name}`)
  await client.close()
}

describe('COPY', () => {
  test('in and out', () =>
    withTable('copied', async (client) => {
      client.send(query('COPY copied FROM STDIN'))
      await client.until('G')
      client.send(copyData('1\tone\n2\ttwo\n'), copyData('3\tthree\n'), copyDone())
      const answer = await client.ready()
      expect([answer.tags, answer.status]).toEqual([['COPY 3'], 'I'])
      const out = await client.query('COPY copied TO STDOUT')
      expect(out.types).toBe('HdddcCZ')
    }))

  test('in, everything in one write with what follows', () =>
    withTable('copied', async (client) => {
      client.send(
        query('COPY copied FROM STDIN'),
        copyData('1\tone\n'),
        copyDone(),
        query('SELECT 7'),
      )
      expect((await client.ready()).tags).toEqual(['COPY 1'])
      expect((await client.ready()).rows).toEqual([['7']])
    }))

  test('in, an error in the middle of the rows: the rest is dropped, the session goes on', () =>
    withTable('copied', async (client) => {
      client.send(query('COPY copied FROM STDIN'))
      await client.until('G')
      client.send(copyData('1\tone\n'), copyData('x\tbroken\n'))
      for (let index = 0; index < 200; index += 1)
        client.send(copyData(`${index}\t${'y'.repeat(1000)}\n`))
      client.send(copyDone())
      const answer = await client.ready()
      expect([answer.sqlstate, answer.status]).toEqual(['22P02', 'I'])
      expect(await count(client, 'copied')).toBe('0')
    }))

  test('in, an error before the first row: rows that were sent already are dropped', async () => {
    const client = await one()
    client.send(
      query('COPY nowhere FROM STDIN'),
      copyData('1\tone\n'),
      copyDone(),
      query('SELECT 7'),
    )
    expect((await client.ready()).sqlstate).toBe('42P01')
    expect((await client.ready()).rows).toEqual([['7']])
    await client.close()
  })

  test('in, CopyFail of the client', () =>
    withTable('copied', async (client) => {
      client.send(query('COPY copied FROM STDIN'))
      await client.until('G')
      client.send(copyData('1\tone\n'), copyFail('no more'))
      const answer = await client.ready()
      expect(answer.sqlstate).toBe('57014')
      expect(answer.errors[0]?.['M']).toContain('no more')
      expect(await count(client, 'copied')).toBe('0')
    }))

  test('in, in the extended protocol', () =>
    withTable('copied', async (client) => {
      client.send(parse('', 'COPY copied FROM STDIN'), bind(), execute(), sync())
      await client.until('G')
      client.send(copyData('1\tone\n'), copyDone(), sync())
      const answer = await client.ready()
      expect([answer.tags, answer.status]).toEqual([['COPY 1'], 'I'])
      expect(await count(client, 'copied')).toBe('1')
    }))

  test('in, an error in the middle in the extended protocol', () =>
    withTable('copied', async (client) => {
      client.send(parse('', 'COPY copied FROM STDIN'), bind(), execute(), sync())
      await client.until('G')
      client.send(copyData('x\tbroken\n'), copyData('1\tone\n'), copyDone(), sync())
      const answer = await client.ready()
      expect([answer.sqlstate, answer.status]).toEqual(['22P02', 'I'])
      expect(await count(client, 'copied')).toBe('0')
    }))

  test('twice in one Query', () =>
    withTable('copied', async (client) => {
      client.send(query('COPY copied FROM STDIN; COPY copied FROM STDIN; SELECT 5'))
      await client.until('G')
      client.send(copyData('1\tone\n'), copyDone())
      await client.until('G')
      client.send(copyData('2\ttwo\n'), copyDone())
      const answer = await client.ready()
      expect([answer.tags, answer.rows]).toEqual([['COPY 1', 'SELECT 1'], [['5']]])
      expect(await count(client, 'copied')).toBe('2')
    }))

  test('in, the client vanishes in the middle: the server is not reused half-way', async () => {
    await withTable('copied', async (client) => {
      const other = await one()
      other.send(query('COPY copied FROM STDIN'))
      await other.until('G')
      other.send(copyData('1\tone\n'))
      other.destroy()
      expect(await count(client, 'copied')).toBe('0')
    })
  })

  test('out, the client vanishes in the middle', async () => {
    const [client, other] = [await one(), await one()]
    other.send(query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000)) TO STDOUT"))
    await other.until('d')
    other.destroy()
    expect((await client.query('SELECT 1')).rows).toEqual([['1']])
    await client.close()
  })

  test('stray copy messages outside COPY are dropped', async () => {
    const client = await one()
    client.send(copyData('lost'), copyDone(), copyFail('lost'), query('SELECT 1'))
    expect((await client.ready()).rows).toEqual([['1']])
    await client.close()
  })
})

describe('LISTEN', () => {
  test('ties the session to its server, and what is notified arrives until UNLISTEN', async () => {
    const listener = await front.steer.wire({ database: 'duo' })
    const sender = await front.steer.wire({ database: 'duo' })
    await listener.query('LISTEN news')
    const pins = async (): Promise<string> =>
      (await front.steer.console('SHOW CLIENTS')).map((row) => row['pin_reasons'] ?? '').join('')
    expect(await pins()).toBe('listen')
    await sender.query("NOTIFY news, 'first'")
    const seen = await listener.until('A')
    expect(seen.frames.at(-1)?.body.toString('latin1', 4)).toBe('news\0first\0')
    await listener.query('UNLISTEN *')
    expect(await pins()).toBe('')
    await sender.query("NOTIFY news, 'second'")
    expect((await listener.query('SELECT 1')).types).toBe('TDCZ')
    await Promise.all([listener.close(), sender.close()])
  })

  test('of node-postgres', async () => {
    const listener = await front.steer.connect({ database: 'duo' })
    const heard = new Promise<string | undefined>((resolve) => {
      listener.on('notification', ({ payload }) => resolve(payload))
    })
    await listener.query('LISTEN word')
    const sender = await front.steer.connect({ database: 'duo' })
    await sender.query("SELECT pg_notify('word', $1)", ['hello'])
    expect(await heard).toBe('hello')
    await listener.end()
    await sender.end()
  })

  test('is not left behind on the server of a client that went', async () => {
    const listener = await one()
    await listener.query('LISTEN ghosts')
    await listener.close()
    const next = await one()
    expect((await next.query('SELECT count(*) FROM pg_listening_channels()')).rows).toEqual([['0']])
    await next.close()
  })
})

test('notices reach the client that caused them, in their place', async () => {
  const client = await one()
  const answer = await client.query(
    "DO $$ BEGIN RAISE NOTICE 'hear'; RAISE WARNING 'hear this'; END $$; SELECT 1",
  )
  expect(answer.notices.map((notice) => notice['M'])).toEqual(['hear', 'hear this'])
  expect(answer.types).toBe('NNCTDCZ')
  await client.close()
})

test('FunctionCall is answered', async () => {
  const client = await one()
  const { rows } = await client.query("SELECT 'pg_catalog.int4pl(int,int)'::regprocedure::oid")
  client.send(frontend.functionCall(Number(rows[0]?.[0]), ['40', '2']))
  const answer = await client.ready()
  expect(answer.types).toBe('VZ')
  expect(answer.frames[0]?.body.toString('utf8', 4)).toBe('42')
  client.send(frontend.functionCall(1, []), query('SELECT 1'))
  expect((await client.ready()).sqlstate).toBeDefined()
  expect((await client.ready()).rows).toEqual([['1']])
  await client.close()
})

test('SQL cursors live in their transaction, WITH HOLD ones tie the session', async () => {
  const client = await front.steer.wire({ database: 'duo' })
  await client.query('BEGIN')
  await client.query('DECLARE c CURSOR FOR SELECT generate_series(1, 10)')
  expect((await client.query('FETCH 3 FROM c')).rows).toEqual([['1'], ['2'], ['3']])
  await client.query('COMMIT')
  expect((await client.query('FETCH 3 FROM c')).sqlstate).toBe('34000')
  await client.query('DECLARE h CURSOR WITH HOLD FOR SELECT generate_series(1, 10)')
  const row = await front.steer.clientOf('duo')
  expect(row?.['pin_reasons']).toBe('hold_cursor')
  expect((await client.query('FETCH 2 FROM h')).rows).toEqual([['1'], ['2']])
  expect((await client.query('CLOSE h')).tags).toEqual(['CLOSE CURSOR'])
  await client.close()
})

describe('big answers', () => {
  test('a row of 64 MB passes, and is not held in memory', async () => {
    const client = await front.steer.wire({ database: 'one', withinMs: 50_000 })
    client.socket.removeAllListeners('data')
    const before = front.steer.workerRssBytes
    let received = 0
    let most = 0
    const bytes = 64 * 1024 * 1024
    const done = new Promise<void>((resolve) => {
      client.socket.on('data', (chunk: Buffer) => {
        received += chunk.length
        if (received % 50 === 0) most = Math.max(most, front.steer.workerRssBytes)
        if (chunk.subarray(-6).equals(Buffer.from('Z\0\0\0\x05I', 'latin1'))) resolve()
      })
    })
    for (let turn = 0; turn < 3; turn += 1) client.send(query(`SELECT repeat('x', ${bytes})`))
    await waitFor('all three came', () => received > 3 * bytes, { withinMs: 50_000 })
    await done
    most = Math.max(most, front.steer.workerRssBytes)
    expect(received).toBeGreaterThan(3 * bytes)
    expect(most - before).toBeLessThan(120 * 1024 * 1024)
    client.destroy()
  })

  test('a parameter of 32 MB arrives whole', async () => {
    const client = await front.steer.wire({ database: 'one', withinMs: 50_000 })
    const value = Buffer.alloc(32 * 1024 * 1024, 'z')
    client.send(
      parse('', 'SELECT length($1::text), md5($1::text) = md5(repeat($2, $3::int))'),
      bind({ values: [value, 'z', String(value.length)] }),
      execute(),
      sync(),
    )
    expect((await client.ready()).rows).toEqual([[String(value.length), 't']])
    await client.close()
  })

  test('a Query of 16 MB arrives whole', async () => {
    const client = await front.steer.wire({ database: 'one', withinMs: 50_000 })
    const text = 'q'.repeat(16 * 1024 * 1024)
    const answer = await client.query(`SELECT length('${text}')`)
    expect(answer.rows).toEqual([[String(text.length)]])
    await client.close()
  })

  test('a client that stops reading stops its server, and memory stays bounded', async () => {
    const slow = await one()
    const before = front.steer.workerRssBytes
    slow.socket.pause()
    slow.send(query("SELECT repeat('s', 1000) FROM generate_series(1, 1000000)"))
    // The server waits in ClientWrite when nobody takes what it sends.
    await waitFor('the server waits for us to read', async () => {
      const rows = await shared.cluster.primary.query<{ event: string }>(
        "SELECT wait_event AS event FROM pg_stat_activity WHERE query LIKE 'SELECT repeat(%s%1000000)'",
      )
      return rows.some(({ event }) => event === 'ClientWrite')
    })
    expect(front.steer.workerRssBytes - before).toBeLessThan(64 * 1024 * 1024)
    let rows = 0
    slow.socket.resume()
    for (;;) {
      const frame = await slow.next()
      if (frame === undefined || frame.type === 'Z') break
      if (frame.type === 'D') rows += 1
      if (rows === 1 && frame.type === 'D') expect(rowValues(frame.body)[0]).toHaveLength(1000)
    }
    expect(rows).toBe(1_000_000)
    expect((await slow.query('SELECT 1')).rows).toEqual([['1']])
    await slow.close()
  })
})
