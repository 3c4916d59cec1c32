/**
 * Transactions on a replica, byte by byte: what was not routed there never goes there, however the
 * client's bytes come in, and a transaction that leaves for the primary takes its statement along.
 */
import { describe, expect, test } from 'vitest'
import type { ServerConnection } from '../../../src/server/connection.ts'
import { backend, frontend } from '../../support/bytes.ts'
import { plainIni, routedIni, topology } from '../../support/pools.ts'
import { type Client, SessionWorld } from '../../support/session.ts'

const INSERT = 'INSERT INTO t VALUES (1)'
const WAYS = {
  simple: frontend.query(INSERT),
  extended: Buffer.concat([
    frontend.parse('', INSERT),
    frontend.bind(),
    frontend.execute(),
    frontend.sync(),
  ]),
}

function done(tag: string, status: 'I' | 'T'): Buffer {
  return Buffer.concat([backend.commandComplete(tag), backend.readyForQuery(status)])
}

function routed(keys = ''): SessionWorld {
  const world = new SessionWorld(routedIni('', keys))
  world.world.pools.setTopology(topology())
  return world
}

/** A client whose transaction is open on a replica, with nothing under way. */
async function onReplica(
  world: SessionWorld,
  begin: string,
): Promise<{ client: Client; replica: ServerConnection }> {
  const client = world.client()
  client.sends(frontend.query(begin))
  client.sends(frontend.query('SELECT 1'))
  await world.settle()
  const replica = client.server
  expect(replica.identity.role).toBe('replica')
  replica.onBytes(done('BEGIN', 'T'))
  replica.onBytes(done('SELECT 1', 'T'))
  world.bytesTo(replica)
  client.take()
  return { client, replica }
}

describe('read_transactions = replica_until_write', () => {
  const KEYS = 'read_transactions = replica_until_write'

  test.each(Object.entries(WAYS))('a write in two pieces moves whole (%s)', async (_, insert) => {
    const world = routed(KEYS)
    const { client, replica } = await onReplica(world, 'BEGIN')
    client.sends(insert.subarray(0, 10))
    client.sends(insert.subarray(10))
    expect(world.bytesTo(replica)).toEqual(frontend.query('COMMIT'))
    replica.onBytes(done('COMMIT', 'I'))
    await world.settle()
    expect(client.server.identity.role).toBe('primary')
    const sent = world.bytesTo(client.server).toString('latin1')
    expect(sent).toMatch(/BEGIN.*INSERT/s)
    expect(world.bytesTo(replica)).toHaveLength(0)
  })

  test('what comes while the replica ends its transaction goes to the primary', async () => {
    const world = routed(KEYS)
    const { client, replica } = await onReplica(world, 'BEGIN')
    client.sends(WAYS.simple)
    expect(world.bytesTo(replica)).toEqual(frontend.query('COMMIT'))
    client.sends(frontend.query('SELECT 2'))
    const reply = done('COMMIT', 'I')
    replica.onBytes(reply.subarray(0, 7))
    replica.onBytes(reply.subarray(7))
    expect(world.bytesTo(replica)).toHaveLength(0)
    await world.settle()
    const sent = world.bytesTo(client.server).toString('latin1')
    expect(client.server.identity.role).toBe('primary')
    expect(sent).toMatch(/BEGIN.*INSERT/s)
  })

  test('a write behind a read that is not answered yet moves', async () => {
    const world = routed(KEYS)
    const { client, replica } = await onReplica(world, 'BEGIN')
    client.sends(frontend.query('SELECT 2'))
    client.sends(WAYS.simple)
    expect(world.bytesTo(replica)).toEqual(frontend.query('SELECT 2'))
    replica.onBytes(done('SELECT 1', 'T'))
    expect(world.bytesTo(replica)).toEqual(frontend.query('COMMIT'))
  })
})

test('what follows the COMMIT of a read only transaction is routed by itself', async () => {
  const world = routed()
  const { client, replica } = await onReplica(world, 'BEGIN READ ONLY')
  client.sends(Buffer.concat([frontend.query('COMMIT'), WAYS.simple]))
  expect(world.bytesTo(replica)).toEqual(frontend.query('COMMIT'))
  replica.onBytes(done('COMMIT', 'I'))
  await world.settle()
  expect(client.server.identity.role).toBe('primary')
  expect(world.bytesTo(client.server).toString('latin1')).toContain('INSERT')
})

test('a statement over batch_bytes_max that is not all there yet is sent as it comes', async () => {
  const world = routed('batch_bytes_max = 1024')
  const client = world.client()
  client.sends(frontend.query("SET pgsteer.route = 'replica'"))
  await world.settle()
  world.bytesTo(client.server)
  client.server.onBytes(done('SET', 'I'))
  client.take()
  const query = frontend.query(`SELECT '${'x'.repeat(70_000)}'`)
  client.sends(query.subarray(0, 66_000))
  await world.settle()
  const replica = client.server
  expect(replica.identity.role).toBe('replica')
  client.sends(query.subarray(66_000))
  expect(world.bytesTo(replica)).toEqual(query)
})

test('a statement of ours makes a server forget the unnamed statement', async () => {
  const world = new SessionWorld(plainIni('default_pool_size = 1'))
  const [first, second] = [world.client(), world.client()]
  first.sends(frontend.parse('', 'SELECT 7'), frontend.sync())
  await world.settle()
  const { server } = first
  server.onBytes(Buffer.concat([backend.parseComplete(), backend.readyForQuery()]))
  second.sends(frontend.query('SET search_path = x'))
  server.onBytes(done('SET', 'I'))
  // Of the first client: the setting is taken back by a statement of ours.
  first.sends(frontend.parse('', 'SELECT 7'), frontend.sync())
  server.onBytes(done('RESET', 'I'))
  server.onBytes(Buffer.concat([backend.parseComplete(), backend.readyForQuery()]))
  // Of the second one: it is made again, and its own statement has a name.
  second.sends(frontend.parse('n', 'SELECT 8'), frontend.sync())
  server.onBytes(done('SET', 'I'))
  server.onBytes(Buffer.concat([backend.parseComplete(), backend.readyForQuery()]))
  world.bytesTo(server)
  first.sends(frontend.bind(), frontend.execute(), frontend.sync())
  server.onBytes(done('RESET', 'I'))
  expect(world.bytesTo(server).toString('latin1')).toContain('SELECT 7')
})
