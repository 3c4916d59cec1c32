/**
 * What a client gets when its server is lost: every row of the table in docs/failover.md, in both
 * protocols, for each way in which a server goes.
 */
import { describe, expect, test } from 'vitest'
import { backend, frontend, message } from '../../support/bytes.ts'
import { BEGUN, flight, HINT, lose, type Role, says, told, WAYS } from '../../support/loss.ts'
import { flush, noPrimary, plainIni, routedIni, topology } from '../../support/pools.ts'
import { SessionWorld } from '../../support/session.ts'

interface Row {
  readonly what: string
  readonly role: Role
  readonly texts: readonly string[]
  /** After FATAL 57P01 as an error, and after anything else. */
  readonly fatal: string
  readonly other: string
}

const ROWS: readonly Row[] = [
  {
    what: 'a read on the primary',
    role: 'primary',
    texts: ['SELECT 1'],
    fatal: '40001 ZI',
    other: '08007 ZI',
  },
  {
    what: 'an autocommit write',
    role: 'primary',
    texts: ['INSERT INTO t VALUES (1)'],
    fatal: '40001 ZI',
    other: '08007 ZI',
  },
  {
    what: 'DO',
    role: 'primary',
    texts: ['DO $$ BEGIN END $$'],
    fatal: '08007 ZI',
    other: '08007 ZI',
  },
  { what: 'CALL', role: 'primary', texts: ['CALL p()'], fatal: '08007 ZI', other: '08007 ZI' },
  {
    what: 'COMMIT PREPARED',
    role: 'primary',
    texts: ["COMMIT PREPARED 'x'"],
    fatal: '40001 ZI',
    other: '08007 ZI',
  },
  {
    what: 'ROLLBACK PREPARED',
    role: 'primary',
    texts: ["ROLLBACK PREPARED 'x'"],
    fatal: '40001 ZI',
    other: '08007 ZI',
  },
  {
    what: 'a transaction',
    role: 'primary',
    texts: [...BEGUN, 'INSERT INTO t VALUES (1)'],
    fatal: '40001 ZE',
    other: '40001 ZE',
  },
  {
    what: 'a transaction with SAVEPOINT',
    role: 'primary',
    texts: [...BEGUN, 'SAVEPOINT s'],
    fatal: '40001 ZE',
    other: '40001 ZE',
  },
  {
    what: 'COMMIT',
    role: 'primary',
    texts: [...BEGUN, 'COMMIT'],
    fatal: '40001 ZI',
    other: '08007 ZI',
  },
  { what: 'END', role: 'primary', texts: [...BEGUN, 'END'], fatal: '40001 ZI', other: '08007 ZI' },
  {
    what: 'PREPARE TRANSACTION',
    role: 'primary',
    texts: [...BEGUN, "PREPARE TRANSACTION 'x'"],
    fatal: '40001 ZI',
    other: '08007 ZI',
  },
  {
    what: 'CALL in a transaction',
    role: 'primary',
    texts: [...BEGUN, 'CALL p()'],
    fatal: '08007 ZE',
    other: '08007 ZE',
  },
  {
    what: 'COPY FROM',
    role: 'primary',
    texts: ['COPY t FROM STDIN'],
    fatal: '40001 ZI',
    other: '08007 ZI',
  },
  {
    what: 'COPY TO',
    role: 'primary',
    texts: ['COPY t TO STDOUT'],
    fatal: '40001 ZI',
    other: '08007 ZI',
  },
  {
    what: 'a read only transaction of a replica',
    role: 'replica',
    texts: ['BEGIN READ ONLY', 'SELECT 1', 'SELECT 2'],
    fatal: '40001 ZE',
    other: '40001 ZE',
  },
  {
    what: 'the COMMIT of a replica',
    role: 'replica',
    texts: ['BEGIN READ ONLY', 'SELECT 1', 'COMMIT'],
    fatal: '40001 ZI',
    other: '40001 ZI',
  },
]

const CASES = WAYS.flatMap((way) =>
  (['simple', 'extended'] as const).flatMap((protocol) =>
    ROWS.map((row) => Object.assign({ way, protocol }, row)),
  ),
)

test.each(CASES)('$what, $protocol, lost by $way', async (row) => {
  const { world, client, server } = await flight(row.role, row.protocol, row.texts)
  await lose(world, server, row.way)
  expect(told(client)).toBe(row.way === 'fatal' ? row.fatal : row.other)
  expect(client.closed).toBeNull()
})

describe.each(WAYS)('a server lost by %s', (way) => {
  test('who has nothing under way is told nothing, and goes on', async () => {
    const { world, client, server } = await flight('primary', 'simple', [
      'INSERT INTO t VALUES (1)',
    ])
    server.onBytes(Buffer.concat([backend.commandComplete('INSERT 0 1'), backend.readyForQuery()]))
    client.take()
    await lose(world, server, way)
    expect([told(client), client.closed]).toEqual(['', null])
    client.sends(frontend.query(`${HINT}INSERT INTO t VALUES (2)`))
    await world.settle()
    expect(client.server).not.toBe(server)
    expect(world.written(client.server)).toBe('Q')
  })

  test('who waits for a server is told nothing, and its statement runs on the next one', async () => {
    const { world, client, server } = await flight('primary', 'simple', [...BEGUN, 'SELECT 2'])
    const other = world.client()
    other.sends(frontend.query(`${HINT}INSERT INTO t VALUES (1)`))
    await world.settle()
    expect(other.session.state).toBe('waiting')
    await lose(world, server, way)
    await world.settle()
    expect([told(client), told(other)]).toEqual(['40001 ZE', ''])
    expect(world.written(other.server)).toBe('Q')
  })

  test('a pinned session is told what it lost', async () => {
    const { world, client, server } = await flight('primary', 'simple', ['LISTEN x'])
    server.onBytes(Buffer.concat([backend.commandComplete('LISTEN'), backend.readyForQuery()]))
    client.take()
    await lose(world, server, way)
    expect(told(client)).toBe('57P01')
    expect(client.closed).toBe('session_lost')
  })

  test('a pinned session with a COMMIT under way is told that its outcome is unknown', async () => {
    const { world, client, server } = await flight('primary', 'simple', ['LISTEN x'])
    server.onBytes(Buffer.concat([backend.commandComplete('LISTEN'), backend.readyForQuery()]))
    client.take()
    client.sends(frontend.query('BEGIN; INSERT INTO t VALUES (1); COMMIT'))
    await lose(world, server, way)
    expect(told(client)).toBe(way === 'fatal' ? '57P01' : '08007')
  })

  test('session mode: the end of a kept server is told at once', async () => {
    const world = new SessionWorld(plainIni('').replace('transaction', 'session'))
    const client = world.client()
    client.sends(frontend.query('SELECT 1'))
    await world.settle()
    const { server } = client
    server.onBytes(Buffer.concat([backend.commandComplete('SELECT 1'), backend.readyForQuery()]))
    client.take()
    await lose(world, server, way)
    expect(told(client)).toBe('57P01')
    expect(client.closed).toBe('session_lost')
  })

  test('a row of which a part had come is not begun', async () => {
    const { world, client, server } = await flight('primary', 'simple', ['SELECT 1'])
    const row = backend.dataRow(['x'.repeat(5000)])
    server.onBytes(Buffer.concat([backend.rowDescription([{ name: 'a' }]), row, row]))
    server.onBytes(row.subarray(0, 4000))
    await lose(world, server, way === 'fatal' || way === 'notice' ? 'eof' : way)
    expect(told(client)).toBe('T D D 08007 ZI')
    expect(client.closed).toBeNull()
  })

  test('a client in the middle of a long row is disconnected without a word', async () => {
    const { world, client, server } = await flight('primary', 'simple', ['SELECT 1'])
    const begun = backend.dataRow(['x'.repeat(50_000)]).subarray(0, 40_000)
    server.onBytes(begun)
    // What it says now is part of the row.
    await lose(world, server, way === 'fatal' || way === 'notice' ? 'eof' : way)
    expect(client.take()).toEqual(begun)
    expect(client.closed).toBe('session_lost')
  })

  test('a COMMIT that came in two pieces is a COMMIT', async () => {
    const { world, client, server } = await flight('primary', 'simple', [...BEGUN, 'SELECT 2'])
    server.onBytes(Buffer.concat([backend.commandComplete('SELECT 1'), backend.readyForQuery('T')]))
    client.take()
    const commit = frontend.query('COMMIT')
    client.sends(commit.subarray(0, 8))
    client.sends(commit.subarray(8))
    await lose(world, server, way)
    expect(told(client)).toBe(way === 'fatal' ? '40001 ZI' : '08007 ZI')
  })

  test('a hundred pipelined writes get a hundred answers', async () => {
    const { world, client, server } = await flight('primary', 'simple', [
      'INSERT INTO t VALUES (1)',
    ])
    for (let n = 0; n < 99; n += 1) client.sends(says('extended', 'INSERT INTO t VALUES (1)'))
    await lose(world, server, way)
    const code = way === 'fatal' ? '40001' : '08007'
    expect(told(client)).toBe(Array.from({ length: 100 }, () => `${code} ZI`).join(' '))
  })

  test('a pipelined transaction is unknown from its first statement on', async () => {
    const { world, client, server } = await flight('primary', 'extended', ['BEGIN READ WRITE'])
    for (const sql of ['INSERT INTO t VALUES (1)', 'COMMIT', 'SELECT 1'])
      client.sends(says('extended', sql))
    await lose(world, server, way)
    const unknown = '08007 ZE 08007 ZE 08007 ZI 08007 ZI'
    expect(told(client)).toBe(
      way === 'fatal' ? '40001 ZE 25P02 ZE 1 2 n ROLLBACK ZI 40001 ZI' : unknown,
    )
  })

  test('the rest of a batch that was sent in part is dropped up to its Sync', async () => {
    const { world, client, server } = await flight('primary', 'simple', [...BEGUN, 'SELECT 2'])
    server.onBytes(Buffer.concat([backend.commandComplete('SELECT 1'), backend.readyForQuery('T')]))
    client.take()
    const bind = frontend.bind({ values: ['x'.repeat(1000)] })
    client.sends(frontend.parse('', 'INSERT INTO t VALUES ($1)'), bind.subarray(0, 300))
    await lose(world, server, way)
    expect(told(client)).toBe('40001')
    client.sends(bind.subarray(300), frontend.execute(), frontend.sync())
    client.sends(frontend.query('ROLLBACK'))
    expect(told(client)).toBe('ZE ROLLBACK ZI')
  })

  test('the copy messages that still come are dropped', async () => {
    const { world, client, server } = await flight('primary', 'simple', ['COPY t FROM STDIN'])
    server.onBytes(message('G', 0, Buffer.alloc(2)))
    client.sends(frontend.copyData('1\n'))
    client.take()
    await lose(world, server, way)
    client.sends(
      frontend.copyData('2\n'),
      frontend.copyDone(),
      frontend.query('INSERT INTO t VALUES (1)'),
    )
    await world.settle()
    expect(world.written(client.server)).toBe('Q')
    expect(told(client)).toBe(way === 'fatal' ? '40001 ZI' : '08007 ZI')
  })
})

test.each(['fatal', 'notice', 'fence'] as const)(
  'a read of a replica that is lost by %s is answered by another server',
  async (way) => {
    const { world, client, server } = await flight('replica', 'simple', ['SELECT 1'])
    await lose(world, server, way)
    await world.settle()
    expect(told(client)).toBe('')
    expect(client.server.identity.member).not.toBe(server.identity.member)
    expect(world.written(client.server)).toBe('Q')
    client.server.onBytes(
      Buffer.concat([backend.commandComplete('SELECT 1'), backend.readyForQuery()]),
    )
    expect(told(client)).toBe('SELECT 1 ZI')
  },
)

test('what a dying server had not sent before its farewell does not reach the client', async () => {
  const begun = backend.rowDescription([{ name: 'a' }])
  for (const farewell of [
    backend.errorResponse('57P01', 'terminating connection', 'FATAL'),
    backend.noticeResponse('57P01', 'immediate shutdown', 'WARNING'),
  ]) {
    const { world, client, server } = await flight('replica', 'simple', ['SELECT 1'])
    server.onBytes(Buffer.concat([begun, farewell]))
    await lose(world, server, 'eof')
    await world.settle()
    expect(told(client)).toBe('')
    expect(world.written(client.server)).toBe('Q')
  }
})

test('what a crashing server had said before its farewell goes out, since the read is not repeated', async () => {
  const { world, client, server } = await flight('replica', 'extended', ['SELECT 1'])
  const answer = [backend.parseComplete(), backend.bindComplete(), backend.noData()]
  const farewell = backend.noticeResponse('57P02', 'crash', 'WARNING')
  server.onBytes(Buffer.concat([...answer, backend.commandComplete('SELECT 0'), farewell]))
  expect(told(client)).toBe('')
  await lose(world, server, 'eof')
  expect(told(client)).toBe('1 2 n SELECT 0 ZI')
})

test('a read is not repeated when it may be what crashed its server', async () => {
  for (const word of [null, backend.noticeResponse('57P02', 'crash', 'WARNING')]) {
    const { world, client, server } = await flight('replica', 'simple', ['SELECT 1'])
    if (word !== null) server.onBytes(word)
    await lose(world, server, 'eof')
    // Without a word nothing is said before the others of its member had the time for one.
    if (word === null) expect(told(client)).toBe('')
    await world.world.pass(300)
    expect(told(client)).toBe('40001 ZI')
  }
})

test('a read of which a byte went out is not repeated', async () => {
  const { world, client, server } = await flight('replica', 'simple', ['SELECT 1'])
  server.onBytes(backend.rowDescription([{ name: 'a' }]))
  await lose(world, server, 'fatal')
  expect(told(client)).toBe('T 40001 ZI')
})

test('a write that is held is told nothing, and runs once when there is a primary', async () => {
  const world = new SessionWorld(routedIni('default_pool_size = 1'))
  world.world.pools.setTopology(noPrimary())
  const client = world.client()
  client.sends(frontend.query(`${HINT}INSERT INTO t VALUES (1)`))
  await world.settle()
  expect([client.session.standing.clientState, told(client)]).toEqual(['held', ''])
  world.world.pools.setTopology(topology({ term: 3 }))
  await world.settle()
  expect([told(client), world.written(client.server)]).toEqual(['', 'Q'])
})

test('a warning that is no farewell reaches the client', async () => {
  const { client, server } = await flight('primary', 'simple', ['SELECT 1'])
  server.onBytes(backend.noticeResponse('57P01', 'RAISE', 'WARNING'))
  expect(told(client)).toBe('')
  server.onBytes(Buffer.concat([backend.commandComplete('SELECT 1'), backend.readyForQuery()]))
  expect(told(client)).toBe('N SELECT 1 ZI')
})

test('an answer that is whole goes out, whatever its replica says behind it, and the next server is another matter', async () => {
  const { world, client, server } = await flight('replica', 'extended', ['SELECT 1'])
  const answer = [backend.parseComplete(), backend.bindComplete(), backend.noData()]
  const end = [backend.commandComplete('SELECT 0'), backend.readyForQuery('I')]
  const farewell = backend.errorResponse('57P01', 'terminating connection', 'FATAL')
  server.onBytes(Buffer.concat([...answer, ...end, farewell]))
  expect(told(client)).toBe('1 2 n SELECT 0 ZI')
  world.world.channelOf(server).finish()
  await flush()
  client.sends(frontend.query('/* pgsteer: replica */ SELECT 2'))
  await world.settle()
  const next = client.server
  next.onBytes(backend.commandComplete('SELECT 1'))
  next.onBytes(backend.readyForQuery('I'))
  expect(told(client)).toBe('SELECT 1 ZI')
})
