/**
 * A read that a replica refuses is asked of the primary, once, and only while nothing of the
 * replica's answer is with the client.
 */
import { expect, test } from 'vitest'
import { backend, frontend } from '../../support/bytes.ts'
import { member, primary, routedIni, topology } from '../../support/pools.ts'
import { type Client, SessionWorld } from '../../support/session.ts'

const REFUSED = backend.errorResponse('25006', 'cannot execute INSERT in a read-only transaction')
const READY = backend.readyForQuery()
const ROW = Buffer.concat([
  backend.rowDescription([{ name: 'a' }]),
  backend.dataRow(['1']),
  backend.commandComplete('SELECT 1'),
])

/** A client whose read is with a replica. */
async function reading(text = 'SELECT a FROM v') {
  const world = new SessionWorld(routedIni())
  world.world.pools.setTopology(topology())
  const client = world.client()
  client.sends(frontend.query(text))
  await world.settle()
  expect(client.server.identity.role).toBe('replica')
  return { world, client }
}

function says(client: Client, ...messages: readonly Buffer[]): void {
  client.server.onBytes(Buffer.concat(messages))
}

test('what was refused before a byte went out is answered by the primary', async () => {
  const { world, client } = await reading()
  says(client, REFUSED, READY)
  await world.settle()
  expect(client.types()).toBe('')
  expect(client.server.identity.role).toBe('primary')
  expect(world.written(client.server)).toBe('Q')
  says(client, ROW, READY)
  expect(client.types()).toBe('TDCZ')
})

test('what was refused after a row went out is the error of the client', async () => {
  const { client } = await reading()
  says(client, backend.rowDescription([{ name: 'a' }]), backend.dataRow(['1']))
  says(client, REFUSED, READY)
  expect(client.types()).toBe('TDEZ')
  expect(client.session.state).toBe('idle')
})

test('what the primary refuses as well is told, and not asked a third time', async () => {
  const { world, client } = await reading()
  says(client, REFUSED, READY)
  await world.settle()
  says(client, REFUSED, READY)
  expect(client.types()).toBe('EZ')
  expect(client.session.state).toBe('idle')
})

test('a text that a replica refused goes to the primary from then on, whoever sends it', async () => {
  const { world, client } = await reading()
  says(client, REFUSED, READY)
  await world.settle()
  says(client, ROW, READY)
  const [same, other] = [world.client(), world.client()]
  same.sends(frontend.query('SELECT a FROM v'))
  other.sends(frontend.query('SELECT a FROM w'))
  await world.settle()
  expect(same.server.identity.role).toBe('primary')
  expect(other.server.identity.role).toBe('replica')
})

test('a Query that is like others but for its constants is learnt from without its text', async () => {
  const { world, client } = await reading('SELECT a FROM v WHERE b = 1')
  says(client, ROW, READY)
  for (const constant of [2, 3]) {
    client.sends(frontend.query(`SELECT a FROM v WHERE b = ${constant}`))
    await world.settle()
    if (constant === 2) says(client, ROW, READY)
  }
  says(client, REFUSED, READY)
  await world.settle()
  expect(client.server.identity.role).toBe('primary')
  says(client, ROW, READY)
  const [like, other] = [world.client(), world.client()]
  like.sends(frontend.query('SELECT a FROM v WHERE b = 4'))
  other.sends(frontend.query('SELECT a FROM w WHERE b = 4'))
  await world.settle()
  expect(like.server.identity.role).toBe('primary')
  expect(other.server.identity.role).toBe('replica')
})

test.each(['22012', '57014', '42501', '23505'])(
  'an error that the primary would give too is told at once: %s',
  async (sqlstate) => {
    const { client } = await reading()
    says(client, backend.errorResponse(sqlstate, 'no'), READY)
    expect(client.types()).toBe('EZ')
  },
)

test('a statement that the replica has under its name is healed as well: ParseComplete waits for it', async () => {
  const world = new SessionWorld(routedIni('default_pool_size = 1'))
  world.world.pools.setTopology(topology({ members: [primary('pg1'), member('pg2')] }))
  const unit = [
    frontend.parse('s', 'SELECT a FROM t'),
    frontend.bind({ statement: 's' }),
    frontend.execute(),
    frontend.sync(),
  ]
  const answered = Buffer.concat([backend.bindComplete(), ROW, READY])
  const [one, two] = [world.client(), world.client()]
  one.sends(...unit)
  await world.settle()
  one.server.onBytes(Buffer.concat([backend.parseComplete(), answered]))
  two.sends(...unit)
  await world.settle()
  expect(two.types()).toBe('')
  const conflict = backend.errorResponse('40001', 'conflict with recovery')
  two.server.onBytes(Buffer.concat([backend.bindComplete(), conflict, READY]))
  await world.settle()
  expect(two.types()).toBe('')
  expect(two.server.identity.role).toBe('primary')
  two.server.onBytes(Buffer.concat([backend.parseComplete(), answered]))
  expect(two.types()).toBe('12TDCZ')
})
