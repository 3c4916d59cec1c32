/** The names of prepared statements on a server, when what was sent for them is skipped. */
import { expect, test } from 'vitest'
import { backend, frontend } from '../../support/bytes.ts'
import { plainIni } from '../../support/pools.ts'
import { SessionWorld } from '../../support/session.ts'

function use(statement: string): Buffer[] {
  return [frontend.bind({ statement }), frontend.execute(), frontend.sync()]
}
function made(statement: string): Buffer[] {
  return [frontend.parse(statement, `SELECT ${statement} FROM t`), ...use(statement)]
}
const USED = [
  backend.bindComplete(),
  backend.commandComplete('SELECT 1'),
  backend.readyForQuery('T'),
]
const FAILED = [backend.errorResponse('42P01', 'no such table'), backend.readyForQuery('E')]

test('a server on which a statement was given up in vain serves nobody after its transaction', async () => {
  const world = new SessionWorld(plainIni('max_prepared_statements = 1'))
  const client = world.client()
  client.sends(frontend.query('BEGIN'), frontend.query('LOCK t'))
  await world.settle()
  const { server } = client
  for (const tag of ['BEGIN', 'LOCK TABLE'])
    server.onBytes(Buffer.concat([backend.commandComplete(tag), backend.readyForQuery('T')]))
  for (const statement of ['a', 'b']) {
    client.sends(...made(statement))
    const closed = statement === 'b' ? [Buffer.from([0x33, 0, 0, 0, 4])] : []
    server.onBytes(Buffer.concat([...closed, backend.parseComplete(), ...USED]))
  }
  expect(server.isDoomed).toBe(false)
  // The first fails, so that b is not closed; the second took it for closed.
  client.sends(frontend.parse('', 'SELECT 1 FROM nosuch'), ...use('a'), ...use('b'))
  const aborted = [backend.errorResponse('25P02', 'aborted'), backend.readyForQuery('E')]
  server.onBytes(Buffer.concat([...FAILED, ...aborted]))
  client.sends(frontend.query('ROLLBACK'))
  server.onBytes(Buffer.concat([backend.commandComplete('ROLLBACK'), backend.readyForQuery('I')]))
  await world.settle()
  expect(client.closed).toBeNull()
  expect(server.state).toBe('closed')
  client.take()
  client.sends(...use('b'))
  await world.settle()
  expect(world.bytesTo(client.server).toString('latin1')).toContain('SELECT b FROM t')
})
