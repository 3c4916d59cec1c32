/** What is said to a client while a long row passes: nothing of ours may become part of it. */
import { describe, expect, test } from 'vitest'
import { ProxyError } from '../../../src/base/errors.ts'
import { backend, frames, frontend } from '../../support/bytes.ts'
import { plainIni } from '../../support/pools.ts'
import { riding } from '../../support/riders.ts'
import { SessionWorld } from '../../support/session.ts'

/** So long a row goes on as it comes. */
const ROW = backend.dataRow(['x'.repeat(30_000)])
const HEAD = backend.rowDescription([{ name: 'a' }])
const FRONT = Buffer.concat([HEAD, ROW.subarray(0, ROW.length - 40)])

async function asked(sql: string, rest = '') {
  const world = new SessionWorld(plainIni('', rest))
  const client = world.client()
  client.sends(frontend.query(sql))
  await world.settle()
  return client
}

describe('a session that ends in the middle of a row writes nothing into it', () => {
  test.each(['query_timeout', 'admin_disconnect'] as const)('%s', async (code) => {
    const client = await asked('SELECT a FROM t')
    client.server.onBytes(FRONT)
    client.session.close(new ProxyError(code))
    expect(client.take()).toEqual(FRONT)
  })

  test('as the first on a shared server; who stands behind it is told', async () => {
    const { server, riders } = await riding(2)
    server.onBytes(FRONT)
    for (const rider of riders) rider.session.close(new ProxyError('query_timeout'))
    expect(riders[0]?.take()).toEqual(FRONT)
    expect(riders[1]?.types()).toBe('E')
  })
})

test('that a session is tied to its server is told behind its rows', async () => {
  const client = await asked('SELECT pg_advisory_lock(1), a FROM t', 'session_state = warn')
  const end = [backend.commandComplete('SELECT 1'), backend.readyForQuery()]
  const whole = Buffer.concat([HEAD, ROW, ...end])
  client.server.onBytes(whole.subarray(0, 20_000))
  client.server.onBytes(whole.subarray(20_000))
  const { frames: told } = frames(client.take())
  expect(told.map(({ type }) => type).join('')).toBe('TDNCZ')
})
