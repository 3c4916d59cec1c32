/** A session that has to go ends behind its next answer, where its client has nothing under way. */
import { expect, test } from 'vitest'
import { ProxyError } from '../../../src/base/errors.ts'
import { backend, frontend } from '../../support/bytes.ts'
import { answerOf, riding, turn } from '../../support/riders.ts'
import { type Client, SessionWorld } from '../../support/session.ts'

const END = new ProxyError('server_shutting_down')
const ANSWER = Buffer.concat([
  backend.rowDescription([{ name: 'a' }]),
  backend.dataRow(['1']),
  backend.commandComplete('SELECT 1'),
  backend.readyForQuery(),
])

function done(tag: string, status: 'I' | 'T'): Buffer {
  return Buffer.concat([backend.commandComplete(tag), backend.readyForQuery(status)])
}

async function connected(): Promise<{ world: SessionWorld; client: Client }> {
  const world = new SessionWorld()
  const client = world.client()
  // So that there is a server, at once.
  client.sends(frontend.query('SELECT 0'))
  await world.settle()
  client.server.onBytes(ANSWER)
  expect(client.types()).toBe('TDCZ')
  return { world, client }
}

test('one that is silent stays', async () => {
  const { client } = await connected()
  client.session.standing.leave(END)
  await turn()
  expect(client.types()).toBe('')
  expect(client.session.standing.isBetween).toBe(true)
  expect(client.closed).toBe(null)
})

test('what it sends is answered, and the end stands behind the answer in the same piece', async () => {
  const { client } = await connected()
  client.session.standing.leave(END)
  client.sends(frontend.query('SELECT 1'))
  client.server.onBytes(ANSWER)
  expect(client.pieces).toBe(1)
  expect(client.types()).toBe('TDCZE')
  expect(client.closed).toBe('server_shutting_down')
})

test('so does one that waits for its answer when it is told to go', async () => {
  const { client } = await connected()
  client.sends(frontend.query('SELECT 1'))
  client.session.standing.leave(END)
  client.server.onBytes(ANSWER)
  expect(client.pieces).toBe(1)
  expect(client.types()).toBe('TDCZE')
})

test('a transaction is ended first, from its BEGIN on', async () => {
  const { client } = await connected()
  client.session.standing.leave(END)
  client.sends(frontend.query('BEGIN'))
  await turn()
  expect(client.types()).toBe('CZ')
  client.sends(frontend.query('INSERT INTO t VALUES (1)'))
  const { server } = client
  server.onBytes(Buffer.concat([done('BEGIN', 'T'), done('INSERT 0 1', 'T')]))
  await turn()
  expect(client.types()).toBe('CZ')
  client.sends(frontend.query('COMMIT'))
  server.onBytes(done('COMMIT', 'I'))
  expect(client.types()).toBe('CZE')
})

test('a batch is whole with its Sync alone', async () => {
  const { client } = await connected()
  client.session.standing.leave(END)
  const unit = [frontend.parse('', 'SELECT 1'), frontend.bind({}), frontend.execute()]
  client.sends(...unit, frontend.flush())
  expect(client.session.standing.isBetween).toBe(false)
  const parts = [backend.parseComplete(), backend.bindComplete(), backend.dataRow(['1'])]
  client.server.onBytes(Buffer.concat([...parts, backend.commandComplete('SELECT 1')]))
  await turn()
  expect(client.types()).toBe('12DC')
  expect(client.closed).toBe(null)
  client.sends(frontend.sync())
  client.server.onBytes(backend.readyForQuery())
  expect(client.types()).toBe('ZE')
})

test('what was sent behind it is answered, too; half a message is waited for', async () => {
  const { client } = await connected()
  client.session.standing.leave(END)
  const second = frontend.query('SELECT 2')
  client.sends(frontend.query('SELECT 1'), second.subarray(0, 7))
  client.server.onBytes(ANSWER)
  await turn()
  expect(client.types()).toBe('TDCZ')
  expect(client.session.standing.isBetween).toBe(false)
  client.sends(second.subarray(7))
  client.server.onBytes(ANSWER)
  expect(client.types()).toBe('TDCZE')
})

test('who rides on a shared server goes behind its own answer', async () => {
  const { server, riders } = await riding(2)
  const [first, second] = riders
  for (const rider of riders) rider.session.standing.leave(END)
  server.onBytes(answerOf(1))
  expect(first?.pieces).toBe(1)
  expect(first?.types()).toBe('TDCZE')
  expect(second?.types()).toBe('')
  server.onBytes(answerOf(2))
  expect(second?.types()).toBe('TDCZE')
})
