/** `pgsteer.min_lsn` and `pgsteer.lsn`, as one session answers, keeps and forgets them. */
import { describe, expect, test } from 'vitest'
import { tokenOf } from '../../../src/client/token.ts'
import { backend, frontend } from '../../support/bytes.ts'
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

  test('an entry that is not routed leaves it to its server', async () => {
    const { client, world } = session(plainIni())
    client.sends(frontend.query("SET pgsteer.min_lsn = 'x'"))
    await world.settle()
    expect(world.bytesTo(client.server).toString()).toContain('pgsteer.min_lsn')
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
    expect(client.session.clientState).toBe('held')
    const other = world.client()
    expect(query(other, "SET pgsteer.lsn = '3:0/1'").text).toContain('55P02')
  })
})
