import { expect, test } from 'vitest'
import { backend, frontend } from '../../support/bytes.ts'
import { routedIni, topology } from '../../support/pools.ts'
import { SessionWorld } from '../../support/session.ts'

test('a SET answered by another replica does not move the reads of its session there', async () => {
  const world = new SessionWorld(routedIni('default_pool_size = 1'))
  world.world.pools.setTopology(topology())
  const client = world.client()
  client.sends(frontend.query('SELECT 1'))
  await world.settle()
  const read = client.server
  read.onBytes(Buffer.concat([backend.commandComplete('SELECT 1'), backend.readyForQuery()]))
  const other = world.client()
  other.sends(frontend.query('SELECT 2'))
  await world.settle()
  expect(other.server).toBe(read)
  client.sends(frontend.query('SET search_path TO x'))
  await world.settle()
  const set = client.server
  expect([set.identity.role, set === read]).toEqual(['replica', false])
  set.onBytes(Buffer.concat([backend.commandComplete('SET'), backend.readyForQuery()]))
  expect(client.session.preferredMember).toBe(read.identity.member)
})
