/** Sessions that are refused one after the other, where the end of one frees a server for the next. */
import { expect, test } from 'vitest'
import { backend, frontend } from '../../support/bytes.ts'
import { configFrom } from '../../support/config.ts'
import { member, primary, routedIni, topology } from '../../support/pools.ts'
import { type Client, SessionWorld } from '../../support/session.ts'

const ROW = Buffer.concat([
  backend.rowDescription([{ name: 'a' }]),
  backend.dataRow(['1']),
  backend.commandComplete('SELECT 1'),
  backend.readyForQuery(),
])
/** Session mode, and a server goes from one to the next without a word. */
const KEYS =
  'pool_mode = session\ndefault_pool_size = 1\nserver_reset_query =\nquery_wait_timeout = 5'

/** Two wait: one for the primary, and it keeps the replica that the other waits for. */
async function twoWaiting(): Promise<{ world: SessionWorld; one: Client; two: Client }> {
  const world = new SessionWorld(routedIni(KEYS))
  world.world.pools.setTopology(topology({ members: [primary('pg1'), member('pg2')] }))
  world.client().sends(frontend.query('INSERT INTO t VALUES (1)'))
  const one = world.client()
  one.sends(frontend.query('SELECT a FROM t'))
  await world.settle()
  one.server.onBytes(ROW)
  one.sends(frontend.query('INSERT INTO t VALUES (2)'))
  const two = world.client()
  two.sends(frontend.query('SELECT a FROM t'))
  await world.settle()
  expect([one.session.state, two.session.state]).toEqual(['waiting', 'waiting'])
  return { world, one, two }
}

test('of two that waited too long the second is served by what the first gave back', async () => {
  const { world, one, two } = await twoWaiting()
  await world.world.pass(6000)
  expect(one.closed).toBe('query_wait_timeout')
  expect(two.session.state).toBe('active')
})

test('when their database is removed, both end', async () => {
  const { world, one, two } = await twoWaiting()
  world.world.pools.setConfig(configFrom(routedIni(KEYS).replace('* =', 'x =')))
  await world.settle()
  expect(one.closed).toBe('database_removed')
  expect(two.session.server).toBeNull()
})
