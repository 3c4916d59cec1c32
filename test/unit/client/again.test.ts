/** The unnamed statement prepared again with the same text: nothing is remembered wrongly. */
import { expect, test } from 'vitest'
import { backend, errorFields, frames, frontend } from '../../support/bytes.ts'
import { plainIni } from '../../support/pools.ts'
import { type Client, SessionWorld, typesOf } from '../../support/session.ts'

const ROW = Buffer.concat([
  backend.parseComplete(),
  backend.bindComplete(),
  backend.commandComplete('SELECT 1'),
  backend.readyForQuery(),
])

const run = [frontend.bind(), frontend.execute(), frontend.sync()]
const batch = (sql: string) => [frontend.parse('', sql), ...run]

function answered(client: Client, ...messages: readonly Buffer[]): void {
  client.server.onBytes(Buffer.concat(messages))
}

/** The letters of its messages, and the text of a Parse of the unnamed statement in front. */
function typesAndText(bytes: Buffer): [string, string] {
  const [, text = ''] = frames(bytes).frames[0]?.body.toString('latin1').split('\0') ?? []
  return [typesOf(bytes), text]
}

/** A client that has run `SELECT a` without a name, and the server that it ran on. */
async function warm() {
  const world = new SessionWorld(plainIni('default_pool_size = 1'))
  const client = world.client()
  client.sends(...batch('SELECT a'))
  await world.settle()
  const { server } = client
  answered(client, ROW)
  client.take()
  world.bytesTo(server)
  return { world, client, server }
}

test('goes to the server as it came, and its answer to the client', async () => {
  const { world, client, server } = await warm()
  client.sends(...batch('SELECT a'))
  expect(world.bytesTo(server).equals(Buffer.concat(batch('SELECT a')))).toBe(true)
  answered(client, ROW)
  expect([client.types(), server.state]).toEqual(['12CZ', 'idle'])
})

test('may be bound later without another Parse', async () => {
  const { world, client, server } = await warm()
  client.sends(...batch('SELECT a'))
  answered(client, ROW)
  world.bytesTo(server)
  client.sends(...run)
  expect(world.written(server)).toBe('BES')
})

test('is parsed anew behind what another client left on the server', async () => {
  const { world, client, server } = await warm()
  client.sends(...batch('SELECT a'))
  answered(client, ROW)
  const other = world.client()
  other.sends(...batch('SELECT b'))
  answered(other, ROW)
  world.bytesTo(server)
  client.sends(...run)
  expect(typesAndText(world.bytesTo(server))).toEqual(['PBES', 'SELECT a'])
})

test('that fails leaves the server without it', async () => {
  const { world, client, server } = await warm()
  client.sends(...batch('SELECT a'))
  answered(client, backend.errorResponse('42P01', 'gone'), backend.readyForQuery())
  const { frames: got } = frames(client.take())
  expect(errorFields(got[0]?.body ?? Buffer.alloc(0))['C']).toBe('42P01')
  world.bytesTo(server)
  client.sends(...run)
  expect(typesAndText(world.bytesTo(server))).toEqual(['PBES', 'SELECT a'])
})

test('is the text that came, not one that went in its place', async () => {
  const { world, client, server } = await warm()
  client.sends(frontend.parse('mine', 'SELECT m'), frontend.sync())
  answered(client, backend.parseComplete(), backend.readyForQuery())
  const named = frames(world.bytesTo(server)).frames[0]?.body.toString('latin1') ?? ''
  const [name = ''] = named.split('\0')
  client.sends(...batch('DEALLOCATE mine'))
  answered(client, ROW)
  client.sends(frontend.parse('mine', 'SELECT m'), frontend.sync())
  answered(client, backend.parseComplete(), backend.readyForQuery())
  // What was sent in place of the client's own text is another text when the client says it.
  client.sends(...batch(`DEALLOCATE "${name}"`))
  answered(client, ROW)
  expect(client.session.prepared.get('mine')).toBeDefined()
})

test("of which an earlier one under way fails is still the client's", async () => {
  const { world, client, server } = await warm()
  client.sends(...batch('SELECT c'), ...batch('SELECT c'))
  answered(client, backend.errorResponse('42P01', 'not yet'), backend.readyForQuery(), ROW)
  world.bytesTo(server)
  client.sends(...run)
  expect(typesAndText(world.bytesTo(server))).toEqual(['PBES', 'SELECT c'])
})

test('of a DEALLOCATE whose name became known meanwhile goes with the name on the server', async () => {
  const { world, client, server } = await warm()
  client.sends(...batch('DEALLOCATE mine'))
  const refusal = [backend.errorResponse('26000', 'unknown'), backend.readyForQuery()]
  answered(client, backend.parseComplete(), backend.bindComplete(), ...refusal)
  client.sends(frontend.parse('mine', 'SELECT m'), frontend.sync())
  answered(client, backend.parseComplete(), backend.readyForQuery())
  world.bytesTo(server)
  client.sends(...batch('DEALLOCATE mine'))
  const [types, text] = typesAndText(world.bytesTo(server))
  expect(types).toBe('PBES')
  expect(text).toMatch(/^DEALLOCATE "PGSTEER_\d+"$/)
})

/** What makes PostgreSQL skip everything up to the next Sync. */
const FAILURE = frontend.parse('named', 'SELECT broken')
const FAILED = Buffer.concat([
  backend.errorResponse('42601', 'syntax error'),
  backend.readyForQuery(),
])

test.each([
  ['a Parse without a name', frontend.parse('', 'SELECT b')],
  ['the same Parse again', frontend.parse('', 'SELECT a')],
  ['a Query', frontend.query('SELECT b')],
])('%s that was skipped left the one before: nobody else finds it', async (_, skipped) => {
  const { world, client, server } = await warm()
  client.sends(FAILURE, skipped, frontend.sync())
  answered(client, FAILED)
  expect(server.state).toBe('idle')
  world.bytesTo(server)
  const other = world.client()
  other.sends(...run)
  await world.settle()
  expect([other.server, world.written(server)]).toEqual([server, 'CBES'])
  // What the server had is closed; that is nobody's answer.
  const none = backend.errorResponse('26000', 'unnamed prepared statement does not exist')
  answered(other, backend.closeComplete(), none, backend.readyForQuery())
  expect(other.types()).toBe('EZ')
})

test('a Query that ran leaves none, and nothing is closed', async () => {
  const { world, client, server } = await warm()
  client.sends(frontend.query('SELECT b'))
  answered(client, backend.commandComplete('SELECT 1'), backend.readyForQuery())
  world.bytesTo(server)
  const other = world.client()
  other.sends(...run)
  await world.settle()
  expect(world.written(server)).toBe('BES')
})
