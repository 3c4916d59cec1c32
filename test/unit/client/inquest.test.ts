/**
 * A read whose replica ends without a word: whether it is sent once more is decided by what the other
 * connections to that member say at their end.
 */
import { describe, expect, test } from 'vitest'
import type { ServerConnection } from '../../../src/server/connection.ts'
import { backend, frontend } from '../../support/bytes.ts'
import { told } from '../../support/loss.ts'
import { flush, member, primary, routedIni, topology } from '../../support/pools.ts'
import { type Client, SessionWorld } from '../../support/session.ts'

const READ = frontend.query('/* pgsteer: replica */ SELECT 1')
const ANSWER = Buffer.concat([backend.commandComplete('SELECT 1'), backend.readyForQuery()])
const CRASH = backend.noticeResponse('57P02', 'another process crashed', 'WARNING')
const WAIT_MS = 300

const bothReplicas = topology({ serial: 2 })
const onlyOne = topology({
  members: [primary('pg1'), member('pg2'), member('pg3', { eligible: false })],
})

/** Clients with a read under way on pg2 each; then there is another replica too. */
async function readers(count: number) {
  const world = new SessionWorld(routedIni('default_pool_size = 5', 'consistency = eventual'))
  world.world.pools.setTopology(onlyOne)
  const clients = Array.from({ length: count }, () => world.client())
  for (const client of clients) client.sends(READ)
  await world.settle()
  const servers = clients.map(({ server }) => server)
  world.world.pools.setTopology(bothReplicas)
  return { world, clients, servers }
}

/** One client reads, and its pool has one more server at the same member, which is free. */
async function readerAndFree() {
  const { world, clients, servers } = await readers(2)
  const [client, other] = clients as [Client, Client]
  const [server, free] = servers as [ServerConnection, ServerConnection]
  free.onBytes(ANSWER)
  expect([told(other), free.state]).toEqual(['SELECT 1 ZI', 'idle'])
  return { world, client, other, server, free }
}

async function end(world: SessionWorld, server: ServerConnection): Promise<void> {
  world.world.channelOf(server).finish()
  await flush()
}

async function expectRepeated(world: SessionWorld, client: Client): Promise<void> {
  await world.settle()
  expect(told(client)).toBe('')
  expect(client.server.identity.member).toBe('pg3')
  client.server.onBytes(ANSWER)
  expect(told(client)).toBe('SELECT 1 ZI')
}

describe('a read whose replica ends without a word goes to another one', () => {
  test('when a free connection to the member ends likewise, at once', async () => {
    const { world, client, server, free } = await readerAndFree()
    await end(world, server)
    expect(told(client)).toBe('')
    await end(world, free)
    await expectRepeated(world, client)
  })

  test('when a free one ended so a moment before', async () => {
    const { world, client, server, free } = await readerAndFree()
    await end(world, free)
    await world.world.pass(WAIT_MS - 1)
    await end(world, server)
    await expectRepeated(world, client)
  })

  test('when the connection of the probe ended so', async () => {
    const { world, clients, servers } = await readers(1)
    const [client, server] = [clients[0], servers[0]] as [Client, ServerConnection]
    await end(world, server)
    const silentEndMs = world.world.clock.nowMs()
    const gone = member('pg2', { eligible: false, silentEndMs })
    world.world.pools.setTopology(
      topology({ serial: 3, members: [primary('pg1'), gone, member('pg3')] }),
    )
    await expectRepeated(world, client)
  })

  test('once: when the next one ends likewise the client is told', async () => {
    const { world, client, server, free } = await readerAndFree()
    await end(world, server)
    await end(world, free)
    await world.settle()
    await end(world, client.server)
    expect(told(client)).toBe('40001 ZI')
  })
})

describe('it is answered 40001', () => {
  test('at once when a free connection tells of a crash', async () => {
    const { world, client, server, free } = await readerAndFree()
    await end(world, server)
    free.onBytes(CRASH)
    await end(world, free)
    expect(told(client)).toBe('40001 ZI')
  })

  test('at once when one had told of a crash before', async () => {
    const { world, client, server, free } = await readerAndFree()
    free.onBytes(CRASH)
    await end(world, free)
    await end(world, server)
    expect(told(client)).toBe('40001 ZI')
  })

  test('when a connection at work tells of a crash, whatever the others say', async () => {
    const { world, clients, servers } = await readers(3)
    const [first, second, third] = clients as [Client, Client, Client]
    const [one, two, free] = servers as [ServerConnection, ServerConnection, ServerConnection]
    free.onBytes(ANSWER)
    told(third)
    await end(world, one)
    two.onBytes(CRASH)
    await end(world, two)
    await end(world, free)
    expect([told(first), told(second)]).toEqual(['40001 ZI', '40001 ZI'])
  })

  test('after a moment when another connection to the member lives on', async () => {
    const { world, client, server } = await readerAndFree()
    await end(world, server)
    await world.world.pass(WAIT_MS - 1)
    expect(told(client)).toBe('')
    await world.world.pass(1)
    expect(told(client)).toBe('40001 ZI')
  })

  test('when a connection of another pool lives on', async () => {
    const { world, client, server, free } = await readerAndFree()
    const pool = world.world.pool('elsewhere')
    pool.acquire(world.world.waiter({ wantsRole: 'replica', preferredMember: 'pg2' }))
    await world.settle()
    await end(world, server)
    await end(world, free)
    await world.world.pass(WAIT_MS)
    expect(told(client)).toBe('40001 ZI')
  })

  test('when all that ended was at work: in the middle of a message it could not warn', async () => {
    const { world, clients, servers } = await readers(2)
    for (const server of servers) await end(world, server)
    await world.world.pass(WAIT_MS)
    expect(clients.map(told)).toEqual(['40001 ZI', '40001 ZI'])
  })

  test('when the end of the connection of the probe is an old story', async () => {
    const { world, clients, servers } = await readers(1)
    const silentEndMs = world.world.clock.nowMs()
    await world.world.pass(WAIT_MS)
    await end(world, servers[0] as ServerConnection)
    const gone = member('pg2', { silentEndMs })
    world.world.pools.setTopology(
      topology({ serial: 3, members: [primary('pg1'), gone, member('pg3')] }),
    )
    await world.world.pass(WAIT_MS)
    expect(told(clients[0] as Client)).toBe('40001 ZI')
  })
})

describe('nobody waits', () => {
  test('who is in a transaction is told at once', async () => {
    const { world, client, server, free } = await readerAndFree()
    server.onBytes(ANSWER)
    told(client)
    client.sends(frontend.query('BEGIN READ ONLY'), READ)
    await world.settle()
    told(client)
    await end(world, client.server)
    expect([free.state === 'closed', told(client)]).toEqual([false, '40001 ZE'])
  })

  test('a client that leaves meanwhile is gone, and the verdict is for nobody', async () => {
    const { world, client, server, free } = await readerAndFree()
    await end(world, server)
    client.session.onClosed()
    await end(world, free)
    await world.world.pass(WAIT_MS)
    await world.settle()
    expect([client.closed, server.holder, told(client)]).toEqual(['client_closed', null, ''])
  })

  test('what the client sends meanwhile runs behind the read, in order', async () => {
    const { world, client, server, free } = await readerAndFree()
    await end(world, server)
    client.sends(frontend.query('/* pgsteer: replica */ SELECT 2'))
    await end(world, free)
    await expectRepeated(world, client)
    await world.settle()
    client.server.onBytes(ANSWER)
    expect(told(client)).toBe('SELECT 1 ZI')
  })
})
