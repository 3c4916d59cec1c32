/** `pgsteer.min_lsn` and `pgsteer.lsn`, as one session answers, keeps and forgets them. */
import { describe, expect, test } from 'vitest'
import { tokenOf } from '../../../src/client/token.ts'
import { backend, frontend } from '../../support/bytes.ts'
import { told } from '../../support/loss.ts'
import { member, plainIni, primary, routedIni, topology } from '../../support/pools.ts'
import { type Client, SessionWorld } from '../../support/session.ts'

const READY = backend.readyForQuery()
const TOPOLOGY = topology({
  timeline: 3,
  history: [{ timeline: 2, lsn: 0x500n }],
  members: [primary('pg1', { timeline: 3 }), member('pg2', { sample: { timeline: 3 } })],
})

function session(ini = routedIni()): { world: SessionWorld; client: Client } {
  const world = new SessionWorld(ini)
  world.world.pools.setTopology(TOPOLOGY)
  return { world, client: world.client() }
}

/** Message types, and the text of everything that came. */
function answer(client: Client, ...messages: readonly Buffer[]): { types: string; text: string } {
  client.sends(...messages)
  const bytes = client.take()
  const types = []
  for (let at = 0; at < bytes.length; at += 1 + bytes.readInt32BE(at + 1))
    types.push(String.fromCharCode(bytes[at] ?? 0))
  return { types: types.join(''), text: bytes.toString('latin1') }
}

const query = (client: Client, sql: string) => answer(client, frontend.query(sql))

describe('the text of a token', () => {
  test.each([
    ['5:16/B374D848', { timeline: 5, lsn: 0x16b374d848n, isMet: false }],
    ['1:0/0', { timeline: 1, lsn: 0n, isMet: false }],
    ['4294967295:FFFFFFFF/FFFFFFFF', { timeline: 4294967295, lsn: 2n ** 64n - 1n, isMet: false }],
  ])('%s is a timeline and a position', (text, asked) => {
    expect(tokenOf(text)).toEqual({ text, asked })
  })

  test.each([
    '16/B374D848',
    '0:1/1',
    '5:16',
    '5:16/B374D8481',
    '4294967296:0/0',
    ' 5:0/1',
    '5:0/1;',
  ])('"%s" is none', (text) => {
    expect(tokenOf(text)).toEqual({ text, asked: null })
  })
})

describe('SET pgsteer.min_lsn', () => {
  test('is answered without a server, in both protocols, and shown', () => {
    const { client } = session()
    expect(query(client, "SET pgsteer.min_lsn = '3:0/10'").types).toBe('CZ')
    expect(client.session.minLsn).toEqual({ timeline: 3, lsn: 16n, isMet: false })
    const shown = query(client, 'SHOW pgsteer.min_lsn')
    expect(shown.types).toBe('TDCZ')
    expect(shown.text).toContain('pgsteer.min_lsn')
    expect(shown.text).toContain('3:0/10')
    expect(shown.text).toContain('SHOW')
    const extended = answer(
      client,
      frontend.parse('', 'SET pgsteer.min_lsn TO "3:0/20"'),
      frontend.bind(),
      frontend.describe('P'),
      frontend.execute(),
      frontend.sync(),
    )
    expect(extended.types).toBe('12nCZ')
    expect(client.session.minLsn?.lsn).toBe(32n)
    expect(client.session.server).toBeNull()
  })

  test('a driver that prepares first finds its statement behind the Flush', () => {
    const { client } = session()
    query(client, "SET pgsteer.min_lsn = '3:0/10'")
    const show = frontend.parse('s', 'SHOW pgsteer.min_lsn')
    expect(answer(client, show, frontend.describe('S', 's'), frontend.flush()).types).toBe('1tT')
    const run = answer(
      client,
      frontend.bind({ statement: 's' }),
      frontend.execute(),
      frontend.sync(),
    )
    expect(run.types).toBe('2DCZ')
    expect(run.text).toContain('3:0/10')
  })

  test('RESET and the empty value ask for nothing', () => {
    const { client } = session()
    for (const sql of ['RESET pgsteer.min_lsn', "SET pgsteer.min_lsn = ''"]) {
      query(client, "SET pgsteer.min_lsn = '3:0/10'")
      expect(query(client, sql).types).toBe('CZ')
      expect(client.session.minLsn).toBeNull()
    }
  })

  test('of what is no token is 22023, and changes nothing', () => {
    const { client } = session()
    query(client, "SET pgsteer.min_lsn = '3:0/10'")
    const refused = query(client, "SET pgsteer.min_lsn = 'yesterday'")
    expect(refused.types).toBe('EZ')
    expect(refused.text).toContain('22023')
    expect(refused.text).toContain('not "yesterday"')
    expect(client.session.minLsn?.lsn).toBe(16n)
  })

  test('of a position beyond the end of its timeline says that the write may be lost', () => {
    const { client } = session()
    expect(query(client, "SET pgsteer.min_lsn = '2:0/500'").types).toBe('CZ')
    const refused = query(client, "SET pgsteer.min_lsn = '2:0/501'")
    expect(refused.text).toContain('08007')
    expect(refused.text).toContain('may be lost')
  })

  test('SET LOCAL holds until the end of the transaction, and not outside of one', async () => {
    const { client, world } = session()
    query(client, "SET pgsteer.min_lsn = '3:0/10'")
    for (const end of ['COMMIT', 'ROLLBACK']) {
      query(client, 'BEGIN')
      expect(query(client, "SET LOCAL pgsteer.min_lsn = '3:0/90'").types).toBe('CZ')
      expect(client.session.minLsn?.lsn).toBe(0x90n)
      expect(query(client, end).types).toBe('CZ')
      expect(client.session.minLsn?.lsn).toBe(16n)
    }
    client.sends(frontend.query("SET LOCAL pgsteer.min_lsn = '3:0/90'"))
    await world.settle()
    client.server.onBytes(Buffer.concat([backend.commandComplete('SET'), READY]))
    expect(client.session.minLsn?.lsn).toBe(16n)
  })

  test('a transaction that is rolled back takes it back', () => {
    const { client } = session()
    query(client, 'BEGIN')
    query(client, "SET pgsteer.min_lsn = '3:0/10'")
    query(client, 'ROLLBACK')
    expect(client.session.minLsn).toBeNull()
    query(client, 'BEGIN')
    query(client, "SET pgsteer.min_lsn = '3:0/10'")
    query(client, 'COMMIT')
    expect(client.session.minLsn?.lsn).toBe(16n)
  })

  test('inside a transaction that a server has begun it is the same, and no server keeps it', async () => {
    const { client, world } = session()
    query(client, 'BEGIN')
    client.sends(frontend.query('SELECT 1'))
    await world.settle()
    const { server } = client
    const T = backend.readyForQuery('T')
    server.onBytes(Buffer.concat([backend.commandComplete('BEGIN'), T]))
    server.onBytes(Buffer.concat([backend.commandComplete('SELECT 1'), T]))
    client.sends(frontend.query("SET pgsteer.min_lsn = '3:0/10'"))
    server.onBytes(Buffer.concat([backend.commandComplete('SET'), T]))
    client.sends(frontend.query('COMMIT'))
    server.onBytes(Buffer.concat([backend.commandComplete('COMMIT'), READY]))
    expect(client.session.minLsn?.lsn).toBe(16n)
    expect(client.session.settings.entries.size).toBe(0)
    world.bytesTo(server)
    const other = world.client()
    other.sends(frontend.query('UPDATE t SET a = 1'))
    expect(other.session.state).toBe('settling')
    expect(world.bytesTo(server).toString()).toContain('RESET "pgsteer"."min_lsn"')
  })

  test('what a server took though it is no token is refused where it would matter', async () => {
    const { client, world } = session()
    client.sends(frontend.query("SET pgsteer.min_lsn = 'x'; SELECT 1"))
    await world.settle()
    const done = [backend.commandComplete('SET'), backend.commandComplete('SELECT 1'), READY]
    client.server.onBytes(Buffer.concat(done))
    client.take()
    expect(query(client, 'SELECT 1').text).toContain('22023')
    expect(query(client, 'RESET pgsteer.min_lsn').types).toBe('CZ')
  })

  test('TO DEFAULT is a SET by its tag', () => {
    const { client } = session()
    for (const sql of ['SET pgsteer.min_lsn TO DEFAULT', 'SET SESSION pgsteer.min_lsn = DEFAULT']) {
      query(client, "SET pgsteer.min_lsn = '3:0/10'")
      client.sends(frontend.query(sql))
      expect([told(client), client.session.minLsn]).toEqual(['SET ZI', null])
    }
    client.sends(frontend.query('RESET pgsteer.min_lsn'))
    expect(told(client)).toBe('RESET ZI')
  })

  test('an entry that is not routed leaves it to its server', async () => {
    const { client, world } = session(plainIni())
    client.sends(frontend.query("SET pgsteer.min_lsn = 'x'"))
    await world.settle()
    expect(world.bytesTo(client.server).toString()).toContain('pgsteer.min_lsn')
  })
})

const INSERTED = [backend.commandComplete('INSERT 0 1'), READY]
const SET_AND_INSERTED = [backend.commandComplete('SET'), ...INSERTED]

describe('what lies beyond the end of its timeline', () => {
  test.each([
    [["SET pgsteer.min_lsn = '2:0/501'; INSERT INTO t VALUES (1)"], SET_AND_INSERTED],
    [
      ["SELECT f(); SET pgsteer.min_lsn = '2:0/501'", 'INSERT INTO t VALUES (1)'],
      [backend.commandComplete('SELECT 1'), backend.commandComplete('SET'), READY, ...INSERTED],
    ],
    [
      ['INSERT INTO t VALUES (1)', "SET pgsteer.min_lsn = '2:0/501'"],
      [...INSERTED, backend.commandComplete('SET'), READY],
    ],
  ])('is not met by what ran behind the SET: %j', async (texts, answers) => {
    const { client, world } = session()
    client.sends(...texts.map((sql) => frontend.query(sql)))
    await world.settle()
    client.server.onBytes(Buffer.concat(answers))
    client.take()
    expect(client.session.minLsn).toEqual({ timeline: 2, lsn: 0x501n, isMet: false })
    client.sends(frontend.query('SELECT 1'))
    expect(told(client)).toBe('08007 ZI')
    client.sends(frontend.query('UPDATE t SET a = 1'))
    expect(told(client)).toBe('08007 ZI')
  })

  test('is not met by a transaction that a server had begun before the SET', async () => {
    const { client, world } = session()
    client.sends(frontend.query('BEGIN'))
    client.sends(frontend.query('UPDATE t SET a = 1'))
    await world.settle()
    const T = backend.readyForQuery('T')
    const { server } = client
    server.onBytes(Buffer.concat([backend.commandComplete('BEGIN'), T]))
    server.onBytes(Buffer.concat([backend.commandComplete('UPDATE 1'), T]))
    client.sends(frontend.query("SET pgsteer.min_lsn = '2:0/501'"))
    server.onBytes(Buffer.concat([backend.commandComplete('SET'), T]))
    client.sends(frontend.query('COMMIT'))
    server.onBytes(Buffer.concat([backend.commandComplete('COMMIT'), READY]))
    client.take()
    client.sends(frontend.query('SELECT 1'))
    expect(told(client)).toBe('08007 ZI')
  })

  test('is not met by a session that is tied to its server', async () => {
    const { client, world } = session()
    client.sends(frontend.query('LISTEN a'))
    await world.settle()
    const { server } = client
    server.onBytes(Buffer.concat([backend.commandComplete('LISTEN'), READY]))
    client.sends(frontend.query("SET pgsteer.min_lsn = '2:0/501'"))
    server.onBytes(Buffer.concat([backend.commandComplete('SET'), READY]))
    client.sends(frontend.query('INSERT INTO t VALUES (1)'))
    server.onBytes(Buffer.concat(INSERTED))
    expect(client.session.server).toBe(server)
    expect(client.session.minLsn).toEqual({ timeline: 2, lsn: 0x501n, isMet: false })
  })

  test('is met for good by who was placed under it when that was its own timeline', async () => {
    const { client, world } = session()
    query(client, "SET pgsteer.min_lsn = '3:0/10'")
    client.sends(frontend.query('INSERT INTO t VALUES (1)'))
    await world.settle()
    client.server.onBytes(Buffer.concat(INSERTED))
    expect(client.session.minLsn?.isMet).toBe(true)
    query(client, "SET pgsteer.min_lsn = '3:0/20'")
    expect(client.session.minLsn?.isMet).toBe(false)
  })
})

describe('a primary that session mode keeps', () => {
  const ini = routedIni('pool_mode = session\ndefault_pool_size = 1').replace(
    'pool_mode = transaction\n',
    '',
  )

  async function parked() {
    const { client, world } = session(ini)
    client.sends(frontend.query('INSERT INTO t VALUES (1)'))
    await world.settle()
    const { server } = client
    server.onBytes(Buffer.concat(INSERTED))
    client.take()
    world.bytesTo(server)
    expect(server.state).toBe('active')
    return { client, server, world }
  }

  test('does not serve what lies beyond the end of its timeline', async () => {
    const { client, server, world } = await parked()
    world.world.pools.setTopology({ ...TOPOLOGY, history: [] })
    expect(query(client, "SET pgsteer.min_lsn = '2:0/501'").types).toBe('CZ')
    world.world.pools.setTopology(TOPOLOGY)
    client.sends(frontend.query('INSERT INTO t VALUES (2)'))
    expect([told(client), world.written(server)]).toEqual(['08007 ZI', ''])
    query(client, 'RESET pgsteer.min_lsn')
    client.sends(frontend.query('INSERT INTO t VALUES (2)'))
    expect([client.server, world.written(server)]).toEqual([server, 'Q'])
  })

  test('waits with a token of a timeline that is still to come, and stands in no way', async () => {
    const { client, server, world } = await parked()
    expect(query(client, "SET pgsteer.min_lsn = '4:0/1'").types).toBe('CZ')
    client.sends(frontend.query('INSERT INTO t VALUES (2)'))
    expect(client.session.state).toBe('waiting')
    expect(world.bytesTo(server).toString()).toMatch(/^Q....DISCARD ALL.$/s)
    server.onBytes(Buffer.concat([backend.commandComplete('DISCARD ALL'), READY]))
    expect(server.state).toBe('idle')
    world.world.pools.setTopology({ ...TOPOLOGY, timeline: 4, history: [] })
    await world.settle()
    expect(client.server).toBe(server)
  })

  test('serves under a token that it meets, for good', async () => {
    const { client, server, world } = await parked()
    query(client, "SET pgsteer.min_lsn = '3:0/10'")
    client.sends(frontend.query('INSERT INTO t VALUES (2)'))
    expect([client.server, world.written(server)]).toEqual([server, 'Q'])
    server.onBytes(Buffer.concat(INSERTED))
    expect(client.session.minLsn?.isMet).toBe(true)
  })
})

const show = (name: string) => frontend.parse(name, 'SHOW pgsteer.min_lsn')

describe('names of prepared statements that no server has seen', () => {
  const sync = frontend.sync()

  test('are refused by 42P05 where they are taken, and the first one stays', () => {
    const { client } = session()
    expect(answer(client, show('s'), sync).types).toBe('1Z')
    client.sends(frontend.parse('s', 'RESET pgsteer.min_lsn'), sync)
    expect(told(client)).toBe('42P05 ZI')
    const run = answer(client, frontend.bind({ statement: 's' }), frontend.execute(), sync)
    expect(run.types).toBe('2DCZ')
    expect(client.session.prepared.size).toBe(1)
  })

  test('are free again behind a Close, and none of a refused batch stays', () => {
    const { client } = session()
    answer(client, show('s'), sync)
    expect(answer(client, frontend.close('S', 's'), show('s'), sync).types).toBe('31Z')
    client.sends(show('a'), frontend.close('S', 's'), show('s'), show('a'), sync)
    expect(told(client)).toBe('42P05 ZI')
    const { prepared } = client.session
    expect([prepared.size, prepared.get('s')?.statement.holders]).toEqual([1, 1])
  })

  test('taken, they fail a transaction that was only announced', () => {
    const { client } = session()
    answer(client, show('s'), sync)
    query(client, 'BEGIN')
    client.sends(show('s'), sync)
    expect(told(client)).toBe('42P05 ZE')
  })

  test('are as few as a server would have been given', () => {
    const { client } = session()
    for (let index = 0; index < 10_000; index += 1) client.sends(show(`s${index}`), sync)
    expect([client.session.prepared.size, client.closed]).toEqual([10_000, null])
    client.take()
    client.sends(show('one more'), sync)
    expect([told(client), client.closed]).toEqual(['54000', 'prepared_names_max'])
  })
})

describe('SHOW pgsteer.lsn', () => {
  test('asks the primary, whatever the route', async () => {
    const { client, world } = session(routedIni('', 'route = replica'))
    client.sends(frontend.query('SHOW pgsteer.lsn'))
    await world.settle()
    expect(client.server.identity.role).toBe('primary')
    const sent = world.bytesTo(client.server).toString()
    expect(sent).toContain('pg_current_wal_insert_lsn')
    expect(sent).not.toContain('SHOW')
  })

  test('is held without a primary, and cannot be set', async () => {
    const { client, world } = session()
    world.world.pools.setTopology({
      ...TOPOLOGY,
      primary: null,
      members: TOPOLOGY.members.slice(1),
    })
    client.sends(frontend.query('SHOW pgsteer.lsn'))
    await world.settle()
    expect(client.session.standing.clientState).toBe('held')
    const other = world.client()
    expect(query(other, "SET pgsteer.lsn = '3:0/1'").text).toContain('55P02')
  })
})
