import { describe, expect, test } from 'vitest'
import { DRAIN_BYTES } from '../../../src/net/channel.ts'
import { backend, errorFields, frames, frontend, message } from '../../support/bytes.ts'
import { flight, lose, told } from '../../support/loss.ts'
import { member, noPrimary, plainIni, primary, routedIni, topology } from '../../support/pools.ts'
import { type Client, SessionWorld } from '../../support/session.ts'

const ANSWER = Buffer.concat([backend.commandComplete('SELECT 1'), backend.readyForQuery()])
const COPY_IN = message('G', 0, Buffer.alloc(2))

/** A client that has had one answer, and the server that gave it, which is free. */
async function warm(world = new SessionWorld()) {
  const client = world.client()
  client.sends(frontend.query('SELECT 1'))
  await world.settle()
  const { server } = client
  server.onBytes(ANSWER)
  client.take()
  world.bytesTo(server)
  return { world, client, server }
}

function answered(client: Client, ...messages: readonly Buffer[]): void {
  client.server.onBytes(Buffer.concat(messages))
}

/** One statement of an extended batch. */
const statement = (sql: string) => [frontend.parse('', sql), frontend.bind(), frontend.execute()]

test('a queued client that breaks the protocol ends alone', async () => {
  const { world, client } = await warm(new SessionWorld(plainIni('default_pool_size = 1')))
  const broken = world.client()
  client.sends(frontend.query('SELECT 1'))
  broken.sends(frontend.query('SELECT 1'), message('?', 'x'))
  expect(broken.session.state).toBe('waiting')
  answered(client, ANSWER)
  expect([client.closed, broken.closed]).toEqual([null, 'unknown_message'])
})

test('a server that skips to a Sync is given to nobody', async () => {
  const { client, server } = await warm()
  client.sends(frontend.parse('', 'SELEC'), frontend.query('SELECT 2'))
  answered(client, backend.errorResponse('42601', 'syntax error'))
  expect(server.state).toBe('active')
  client.sends(frontend.sync())
  answered(client, backend.readyForQuery())
  expect([client.types(), server.state]).toEqual(['EZ', 'idle'])
})

test('a server with a COPY that was not synced stays with its client', async () => {
  const { client, server } = await warm()
  const copy = [frontend.parse('', 'COPY t FROM STDIN'), frontend.bind(), frontend.execute()]
  client.sends(...copy, frontend.sync())
  answered(client, backend.parseComplete(), backend.bindComplete(), COPY_IN)
  client.sends(frontend.copyData('1\n'), frontend.copyDone())
  answered(client, backend.commandComplete('COPY 1'))
  expect(server.state).toBe('active')
  client.sends(frontend.sync())
  answered(client, backend.readyForQuery())
  expect([client.types(), server.state]).toEqual(['12GCZ', 'idle'])
})

test('COPY that failed is over for what comes after it', async () => {
  const { client, server } = await warm()
  client.sends(frontend.query('COPY t FROM STDIN'))
  answered(client, COPY_IN)
  client.sends(frontend.copyData('x\n'))
  answered(client, backend.errorResponse('22P02', 'bad row'), backend.readyForQuery())
  client.sends(frontend.copyDone())
  client.sends(frontend.parse('', 'SELECT 1'), frontend.sync())
  answered(client, backend.parseComplete(), backend.readyForQuery())
  expect([client.types(), client.closed, server.state]).toEqual(['GEZ1Z', null, 'idle'])
})

test('a COMMIT that fails takes back what the transaction had set', async () => {
  const { client, server } = await warm()
  client.sends(frontend.query('BEGIN'))
  client.sends(frontend.query('SET ROLE bob'))
  answered(client, backend.commandComplete('BEGIN'), backend.readyForQuery('T'))
  answered(client, backend.commandComplete('SET'), backend.readyForQuery('T'))
  client.sends(frontend.query('COMMIT'))
  answered(client, backend.errorResponse('23503', 'deferred'), backend.readyForQuery())
  expect(server.settings.entries.size).toBe(0)
  expect(client.session.carried.current.entries.size).toBe(0)
})

test('what was set before a savepoint of the same Query outlives the error behind it', async () => {
  const { client, server } = await warm()
  client.sends(frontend.query('BEGIN; SET search_path TO x; SAVEPOINT s; SELECT 1/0'))
  const tags = ['BEGIN', 'SET', 'SAVEPOINT'].map((tag) => backend.commandComplete(tag))
  const failed = [backend.errorResponse('22012', 'by zero'), backend.readyForQuery('E')]
  answered(client, ...tags, ...failed)
  client.sends(frontend.query('ROLLBACK TO s'))
  answered(client, backend.commandComplete('ROLLBACK'), backend.readyForQuery('T'))
  client.sends(frontend.query('COMMIT'))
  answered(client, backend.commandComplete('COMMIT'), backend.readyForQuery())
  expect([...server.settings.entries.keys()]).toEqual(['search_path'])
})

test('a setting of a Query that fails is taken back', async () => {
  const { client, server } = await warm()
  client.sends(frontend.query('SET search_path TO x; SELECT 1/0'))
  answered(client, backend.commandComplete('SET'))
  answered(client, backend.errorResponse('22012', 'by zero'), backend.readyForQuery())
  expect(server.settings.entries.size).toBe(0)
})

test('a client is not idle while its query runs', async () => {
  const ini = plainIni('idle_transaction_timeout = 60')
  const { world, client } = await warm(new SessionWorld(ini))
  client.sends(frontend.query('BEGIN'), frontend.query('SELECT pg_sleep(100)'))
  world.world.clock.advance(100_000)
  const rows = [backend.commandComplete('BEGIN'), backend.readyForQuery('T')]
  answered(client, ...rows, backend.commandComplete('SELECT 1'), backend.readyForQuery('T'))
  client.session.checkTime(world.world.clock.nowMs() + 59_000)
  expect(client.closed).toBeNull()
  client.session.checkTime(world.world.clock.nowMs() + 61_000)
  expect(client.closed).toBe('idle_transaction_timeout')
})

test('a free server that turns out to be dead is replaced', async () => {
  const { world, client, server } = await warm()
  client.sends(frontend.query('SET search_path TO x'))
  answered(client, backend.commandComplete('SET'), backend.readyForQuery())
  const other = world.client()
  other.sends(frontend.query('SELECT 1'))
  expect(other.session.state).toBe('settling')
  server.onClosed(null)
  expect([other.closed, other.session.state]).toEqual([null, 'waiting'])
  await world.settle()
  expect(world.written(other.server)).toBe('Q')
})

/** What the primary has written and its replica has replayed, as asked at `sentMs`. */
const sample = (sentMs: number, insertLsn: bigint, replayLsn: bigint) => ({
  serial: sentMs,
  members: [
    primary('pg1', { sentMs, writeLsn: insertLsn, insertLsn }),
    member('pg2', { sample: { sentMs, replayLsn } }),
  ],
})

/** A session in session mode that wrote and read; `members` are what the topology holds. */
async function sessionMode(members = [primary('pg1'), member('pg2')]) {
  const world = new SessionWorld(routedIni('pool_mode = session'))
  world.world.pools.setTopology(topology({ members }))
  const client = world.client()
  for (const sql of ['CREATE TABLE t ()', 'VALUES (1)']) {
    client.sends(frontend.query(sql))
    await world.settle()
    answered(client, ANSWER)
  }
  return { world, client }
}

test('session mode: reads without a replica keep to the one server of the primary', async () => {
  const { world, client } = await sessionMode([primary('pg1')])
  for (let read = 0; read < 3; read += 1) {
    client.sends(frontend.query('VALUES (1)'))
    await world.settle()
    answered(client, ANSWER)
  }
  expect(client.session.pool.fleet.size).toBe(1)
})

test('session mode: a kept replica is not read before it has replayed what was written', async () => {
  const { world, client } = await sessionMode()
  world.world.pools.setTopology(topology(sample(2000, 100n, 100n)))
  client.sends(frontend.query('VALUES (1)'))
  await world.settle()
  expect(client.server.identity.member).toBe('pg2')
  answered(client, ANSWER)
  world.world.clock.advance(5000)
  client.sends(frontend.query('CREATE TABLE u ()'))
  answered(client, ANSWER)
  world.world.pools.setTopology(topology(sample(7000, 200n, 100n)))
  client.sends(frontend.query('VALUES (2)'))
  await world.settle()
  expect(client.server.identity.member).toBe('pg1')
  expect(client.session.pool.fleet.size).toBe(2)
})

test('session mode: a write under way is unknown when a kept replica ends the session', async () => {
  const { world, client } = await sessionMode()
  world.world.pools.setTopology(topology(sample(2000, 100n, 100n)))
  client.sends(frontend.query('VALUES (1)'))
  await world.settle()
  const replica = client.server
  expect(replica.identity.member).toBe('pg2')
  answered(client, ANSWER)
  client.sends(frontend.query('INSERT INTO t VALUES (1)'))
  expect(client.server.identity.member).toBe('pg1')
  client.take()
  replica.onClosed(null)
  const [error] = frames(client.take()).frames
  expect(errorFields(error?.body ?? Buffer.alloc(0))['C']).toBe('08007')
  expect(client.closed).toBe('session_outcome_unknown')
})

test('session mode: nothing is sent to a kept server that was cut off in the same moment', async () => {
  const { world, client } = await sessionMode([primary('pg1')])
  const kept = [...client.session.pool.fleet.servers()]
  client.take()
  for (const server of kept) world.bytesTo(server)
  world.world.pools.setTopology(noPrimary({ serial: 2, term: 2, members: [member('pg1')] }))
  client.sends(frontend.query('INSERT INTO t VALUES (1)'))
  expect(kept.map((server) => world.written(server))).toEqual(kept.map(() => ''))
  await world.settle()
  const [error] = frames(client.take()).frames
  expect(errorFields(error?.body ?? Buffer.alloc(0))['C']).toBe('57P01')
})

test('a Parse that is longer than the input may be is waited for, and sent whole', async () => {
  const { world, client, server } = await warm()
  const parse = frontend.parse('', `SELECT '${'x'.repeat(500_000)}'`)
  const batch = Buffer.concat([parse, frontend.bind(), frontend.execute(), frontend.sync()])
  for (let at = 0; at < batch.length; at += 40_000) {
    expect(client.isPaused).toBe(false)
    client.session.onBytes(batch.subarray(at, at + 40_000))
  }
  expect(world.bytesTo(server).equals(batch)).toBe(true)
  const rows = [backend.parseComplete(), backend.bindComplete()]
  answered(client, ...rows, ANSWER)
  expect([client.types(), server.state]).toEqual(['12CZ', 'idle'])
})

test('a COPY is stopped only by so much unsent that a drain is told', async () => {
  const world = new SessionWorld(`${plainIni()}[pgsteer]\nbatch_bytes_max = 1024`)
  const { client, server } = await warm(world)
  const channel = world.world.channelOf(server)
  client.sends(frontend.query('COPY t FROM STDIN'))
  answered(client, COPY_IN)
  channel.unsentBytes = DRAIN_BYTES - 1
  client.sends(frontend.copyData('1\n'))
  expect(client.isPaused).toBe(false)
  channel.unsentBytes = DRAIN_BYTES
  client.sends(frontend.copyData('2\n'))
  expect(client.isPaused).toBe(true)
  channel.unsentBytes = 0
  server.onDrain()
  expect(client.isPaused).toBe(false)
})

test('a message longer than a batch may be, in pieces, waits with its server', async () => {
  const world = new SessionWorld(`${plainIni()}[pgsteer]\nbatch_bytes_max = 1024`)
  const { client, server } = await warm(world)
  for (const text of [
    frontend.query(`SELECT '${'x'.repeat(3000)}'`),
    frontend.parse('s'.repeat(3000), 'SELECT 1'),
  ]) {
    client.sends(text.subarray(0, 2000))
    await world.settle()
    expect(world.written(server)).toBe('')
    client.sends(text.subarray(2000))
    await world.settle()
    expect(world.bytesTo(server).length).toBeGreaterThan(0)
    if (text[0] === 0x51) answered(client, ANSWER)
  }
})

test('a Parse without bound is refused before it is gathered', async () => {
  const { client } = await warm()
  const head = Buffer.from([0x50, 0x3f, 0xff, 0xff, 0xff])
  client.sends(Buffer.concat([head, Buffer.alloc(70_000)]))
  expect(client.closed).toBe('frame_bytes_max')
})

/** A client of a cluster in transaction mode; its reads go to the replica. */
async function routed(world = new SessionWorld(routedIni())) {
  world.world.pools.setTopology(topology({ members: [primary('pg1'), member('pg2')] }))
  const client = world.client()
  return { world, client }
}

const MISSING = backend.errorResponse('42P01', 'relation does not exist')

test('an error inside a transaction that its own Query began is not healed', async () => {
  const { world, client } = await routed()
  client.sends(frontend.query('BEGIN READ ONLY; SELECT * FROM missing'))
  await world.settle()
  expect(client.server.identity.role).toBe('replica')
  answered(client, backend.commandComplete('BEGIN'), MISSING, backend.readyForQuery('E'))
  expect(client.types()).toBe('CEZ')
})

test('a write that a hint sends to a replica is answered by the replica', async () => {
  const { world, client } = await routed()
  client.sends(frontend.query('/* pgsteer: replica */ INSERT INTO t VALUES (1)'))
  await world.settle()
  expect(client.server.identity.role).toBe('replica')
  answered(client, backend.errorResponse('25006', 'read-only'), backend.readyForQuery())
  expect(client.types()).toBe('EZ')
})

test('a batch that committed something is not sent again for a stale plan', async () => {
  const { client } = await warm()
  client.sends(frontend.parse('s', 'SELECT * FROM t'), frontend.sync())
  answered(client, backend.parseComplete(), backend.readyForQuery())
  const written = ['BEGIN', 'INSERT INTO t VALUES (1)', 'COMMIT'].flatMap(statement)
  client.take()
  client.sends(...written, frontend.bind({ statement: 's' }), frontend.execute(), frontend.sync())
  const done = ['BEGIN', 'INSERT 0 1', 'COMMIT'].flatMap((tag) => [
    backend.parseComplete(),
    backend.bindComplete(),
    backend.commandComplete(tag),
  ])
  const stale = message('E', 'SERROR\0VERROR\0C0A000\0Mstale\0RRevalidateCachedQuery\0', 0)
  answered(client, ...done, stale, backend.readyForQuery())
  expect(client.types()).toBe('12C12C12CEZ')
})

test('a transaction begun in the extended protocol stays with the replica it began on', async () => {
  const { world, client } = await routed()
  const begin = [frontend.parse('', 'BEGIN READ ONLY'), frontend.bind(), frontend.execute()]
  const read = [frontend.parse('', 'VALUES (1)'), frontend.bind(), frontend.execute()]
  client.sends(...begin, ...read, frontend.sync())
  await world.settle()
  const { server } = client
  expect(server.identity.role).toBe('replica')
  const done = ['BEGIN', 'SELECT 1'].flatMap((tag) => [
    backend.parseComplete(),
    backend.bindComplete(),
    backend.commandComplete(tag),
  ])
  answered(client, ...done, backend.readyForQuery('T'))
  world.bytesTo(server)
  client.sends(frontend.query('SAVEPOINT s'))
  expect(world.bytesTo(server).equals(frontend.query('SAVEPOINT s'))).toBe(true)
})

test('a session that is routed to replicas does not write on the primary', async () => {
  const { world, client } = await routed(new SessionWorld(routedIni('', 'route = replica')))
  client.sends(frontend.query('BEGIN'))
  client.sends(frontend.query('INSERT INTO t VALUES (1)'))
  await world.settle()
  expect(client.server.identity.role).toBe('replica')
})

test('a reply of our own does not come in the middle of a long message', async () => {
  const { client } = await warm()
  client.sends(frontend.describe('S', ''), frontend.close('S', 's'), frontend.sync())
  const columns = Array.from({ length: 1600 }, (_, at) => ({
    name: `column_${at}`.padEnd(60, '_'),
  }))
  const answer = Buffer.concat([
    message('t', Buffer.alloc(2)),
    backend.rowDescription(columns),
    backend.readyForQuery(),
  ])
  for (let at = 0; at < answer.length; at += 70_000) {
    client.server.onBytes(answer.subarray(at, at + 70_000))
  }
  expect(client.types()).toBe('tT3Z')
})

test('what SET LOCAL is reported to have set ends with its transaction', async () => {
  const { client } = await warm()
  client.sends(frontend.query(`SET TIME ZONE 'Asia/Tokyo'`))
  const tokyo = backend.parameterStatus('TimeZone', 'Asia/Tokyo')
  answered(client, backend.commandComplete('SET'), tokyo, backend.readyForQuery())
  const { current } = client.session.carried
  client.sends(frontend.query('BEGIN'), frontend.query(`SET LOCAL TIME ZONE 'Europe/Berlin'`))
  const berlin = backend.parameterStatus('TimeZone', 'Europe/Berlin')
  answered(client, backend.commandComplete('BEGIN'), backend.readyForQuery('T'))
  answered(client, backend.commandComplete('SET'), berlin, backend.readyForQuery('T'))
  client.sends(frontend.query('COMMIT'))
  answered(client, backend.commandComplete('COMMIT'), tokyo, backend.readyForQuery())
  expect(client.session.carried.current).toBe(current)
})

test('what a function is reported to have set stays', async () => {
  const { client } = await warm()
  client.sends(frontend.query('SELECT f()'))
  const berlin = backend.parameterStatus('TimeZone', 'Europe/Berlin')
  answered(client, backend.commandComplete('SELECT 1'), berlin, backend.readyForQuery())
  expect([...client.session.carried.current.entries.keys()]).toEqual(['timezone'])
})

test('DEALLOCATE behind messages that were not synced reaches the server, whose work it ends', async () => {
  const { world, client, server } = await warm()
  client.sends(frontend.parse('s', 'INSERT INTO t VALUES (1)'), frontend.bind({ statement: 's' }))
  client.sends(frontend.execute(), frontend.flush())
  const done = [backend.parseComplete(), backend.bindComplete()]
  answered(client, ...done, backend.commandComplete('INSERT 0 1'))
  world.bytesTo(server)
  client.sends(frontend.query('DEALLOCATE s'))
  expect(world.bytesTo(server).equals(frontend.query('DEALLOCATE "PGSTEER_1"'))).toBe(true)
  expect(server.state).toBe('active')
  answered(client, backend.commandComplete('DEALLOCATE'), backend.readyForQuery())
  expect([client.types(), server.state, client.session.prepared.size]).toEqual(['12CCZ', 'idle', 0])
})

test('a COMMIT that is prepared behind a deferred BEGIN is known afterwards', async () => {
  const { world, client, server } = await warm()
  client.sends(frontend.query('BEGIN'))
  client.sends(frontend.parse('c', 'COMMIT'), frontend.bind({ statement: 'c' }))
  client.sends(frontend.execute(), frontend.sync())
  expect(world.written(server)).toBe('QPBES')
  expect(client.session.prepared.get('c')).toBeDefined()
})

test('BEGIN READ WRITE is answered by the server, which may refuse it', async () => {
  const { world, client, server } = await warm()
  client.sends(frontend.query('BEGIN READ WRITE'))
  expect(world.written(server)).toBe('Q')
})

test('statement mode: a BEGIN that comes behind a query does not reach the server', async () => {
  const ini = plainIni('pool_mode = statement').replace('pool_mode = transaction\n', '')
  const { world, client, server } = await warm(new SessionWorld(ini))
  client.sends(frontend.query('SELECT 1'), frontend.query('BEGIN'))
  expect([client.closed, world.written(server)]).toEqual(['statement_mode', ''])
})

test('lastval behind a statement of the same transaction does not tell what another client drew', async () => {
  const { world, client, server } = await warm()
  client.sends(frontend.query('BEGIN'), frontend.query('SELECT 1'))
  answered(client, backend.commandComplete('BEGIN'), backend.readyForQuery('T'))
  answered(client, backend.commandComplete('SELECT 1'), backend.readyForQuery('T'))
  world.bytesTo(server)
  client.sends(frontend.query('SELECT lastval()'))
  expect([client.closed, world.written(server)]).toEqual(['session_state', ''])
})

test('a statement is forgotten when its last client goes with a Close under way', async () => {
  const { world, client, server } = await warm()
  client.sends(frontend.parse('s', 'SELECT 1'), frontend.sync())
  answered(client, backend.parseComplete(), backend.readyForQuery())
  const other = world.client()
  other.sends(frontend.parse('s', 'SELECT 1'), frontend.sync())
  server.onBytes(backend.readyForQuery())
  client.sends(frontend.bind({ statement: 's' }), frontend.close('S', 's'), frontend.sync())
  client.session.onClosed()
  server.onClosed(null)
  other.session.onClosed()
  expect(world.registry.size).toBe(0)
})

test('a server that does not take the settings of a session in time is replaced', async () => {
  const { world, client } = await warm()
  client.sends(frontend.query('SET search_path TO x'))
  answered(client, backend.commandComplete('SET'), backend.readyForQuery())
  const other = world.client()
  other.sends(frontend.query('SELECT 1'))
  expect(other.session.state).toBe('settling')
  other.session.checkTime(world.world.clock.nowMs() + 14_000)
  await world.settle()
  expect(other.session.state).toBe('settling')
  other.session.checkTime(world.world.clock.nowMs() + 16_000)
  await world.world.pass(0)
  await world.settle()
  expect([other.closed, world.written(other.server)]).toEqual([null, 'Q'])
})

test('a copy message that cannot be as short as it says ends its client', async () => {
  const { client } = await warm()
  client.sends(Buffer.from([0x64, 0, 0, 0, 3]), frontend.query('SELECT 1'))
  expect(client.closed).toBe('bad_header')
})

describe('a Sync or a Flush behind nothing', () => {
  test.each([
    ['Sync', [frontend.sync()], 'ZI'],
    ['Flush', [frontend.flush()], ''],
    ['Flush, Sync', [frontend.flush(), frontend.sync()], 'ZI'],
    ['Sync behind a BEGIN', [frontend.query('BEGIN'), frontend.sync()], 'BEGIN ZT ZT'],
  ])('asks for no server (%s)', (_, messages, words) => {
    const client = new SessionWorld().client()
    client.sends(...messages)
    expect(told(client)).toBe(words)
    expect([client.session.state, client.session.server]).toEqual(['idle', null])
  })

  test('is the end of what a server was sent, and goes there', async () => {
    const { world, client, server } = await warm()
    client.sends(...statement('INSERT INTO t VALUES (1)'), frontend.flush())
    const replies = [backend.parseComplete(), backend.bindComplete()]
    answered(client, ...replies, backend.commandComplete('INSERT 0 1'))
    client.sends(frontend.flush())
    client.sends(frontend.sync())
    expect([told(client), world.written(server)]).toEqual(['1 2 INSERT 0 1', 'PBEHHS'])
    answered(client, backend.readyForQuery())
    expect([told(client), server.state]).toEqual(['ZI', 'idle'])
  })

  test('leaves a ROLLBACK to us where the client was told of the end', async () => {
    const { world, client, server } = await flight('primary', 'extended', [
      'INSERT INTO t VALUES (1)',
    ])
    await lose(world, server, 'fence')
    world.world.pools.setTopology(topology({ primary: null }))
    client.take()
    client.sends(frontend.sync())
    client.sends(frontend.query('ROLLBACK'))
    expect(told(client)).toBe('ZI N ROLLBACK ZI')
  })
})
