/** Who leaves a shared server, and what room there is on one. */
import { expect, test } from 'vitest'
import { ProxyError } from '../../../src/base/errors.ts'
import { frontend } from '../../support/bytes.ts'
import { answerOf, riding, textOf } from '../../support/riders.ts'
import type { Client } from '../../support/session.ts'

function nonces(client: Client | undefined): string[] {
  return [...(client?.take().toString('latin1') ?? '').matchAll(/nonce \d+/g)].map(([one]) => one)
}

test('a client that goes leaves its place empty', async () => {
  const { server, riders } = await riding(3)
  riders[1]?.session.onClosed()
  server.onBytes(Buffer.concat([answerOf(1), answerOf(2), answerOf(3)]))
  expect([riders[0], riders[2]].map(nonces)).toEqual([['nonce 1'], ['nonce 3']])
  expect(server.isIdle).toBe(true)
})

test('who rides is active, and at work on its server', async () => {
  const { server, riders } = await riding(2)
  expect(riders.map(({ session }) => session.standing.clientState)).toEqual(['active', 'active'])
  expect(riders[1]?.session.server).toBe(server)
})

test('who left takes no room once its answer was dropped', async () => {
  const { world, server, riders } = await riding(6)
  for (const rider of riders.slice(0, 5)) rider.session.onClosed()
  server.onBytes(Buffer.concat([1, 2, 3, 4, 5].map((nonce) => answerOf(nonce))))
  const next = world.client()
  next.sends(frontend.query(textOf(7)))
  expect(next.session.state).toBe('riding')
  server.onBytes(Buffer.concat([answerOf(6), answerOf(7)]))
  expect([riders[5], next].map(nonces)).toEqual([['nonce 6'], ['nonce 7']])
})

test('nobody boards on a server that was cut off already', async () => {
  const { server, riders, world } = await riding(2)
  const [rider] = riders
  rider?.session.pool.fleet.close(server, 'killed', new ProxyError('server_lost'))
  const next = world.client()
  next.sends(frontend.query(textOf(3)))
  expect(next.session.state).toBe('waiting')
})
