/**
 * Two instances of pgsteer find numbers of their own and each other through a real etcd, without a
 * line of configuration, and a cancel request reaches the right query through either.
 */
import { describe, expect, test } from 'vitest'
import { SCOPE } from '../support/patroni.ts'
import { freePort } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import {
  acquainted,
  cancel,
  countOf,
  EXPIRY,
  etcd,
  forged,
  freeNumber,
  numberOf,
  PREFIX,
  useInstances,
} from './instances-suite.ts'

const instances = useInstances()

test("each has a number of its own and knows the other, and Patroni's keys are as they were", async () => {
  const { one, other } = instances.at
  const [mine, yours] = [await numberOf(one), await numberOf(other)]
  expect(mine).toBeGreaterThan(0)
  expect(yours).toBeGreaterThan(0)
  expect(mine).not.toBe(yours)
  const rows = await one.console('SHOW INSTANCES')
  expect(rows.map((row) => [Number(row['instance']), row['self'], row['source']])).toEqual(
    [mine, yours].toSorted((a, b) => a - b).map((id) => [id, id === mine, 'etcd']),
  )
  expect(await other.console('SHOW PEERS')).toHaveLength(2)
  const patroni = (await instances.at.keysUnder('/service/')).map(({ name }) => name)
  const names = ['config', 'initialize', 'leader', 'members/pg1']
  expect(patroni.toSorted()).toEqual(names.map((name) => `/service/${SCOPE}/${name}`))
  for (const { lease } of await instances.at.keysUnder(PREFIX)) expect(lease).not.toBe('0')
})

describe('a cancel request through the other instance cancels this query, and no other', () => {
  test.for([0, 2])('protocol 3.%i', async (minor) => {
    const { at } = instances
    for (const [home, away] of [
      [at.one, at.other],
      [at.other, at.one],
    ] as const) {
      const before = await countOf(away, 'passed_on')
      const [victim, bystander] = [await at.wire(home, minor), await at.wire(home, minor)]
      expect(victim.key).toHaveLength(minor === 2 ? 32 : 4)
      await at.running(bystander, 'spared')
      await at.running(victim, 'victim')
      const wrong = Buffer.from(victim.key)
      wrong[0] = (wrong[0] ?? 0) ^ 1
      await cancel(away, victim.processId, wrong)
      await cancel(away, victim.processId, victim.key)
      expect((await victim.ready()).sqlstate).toBe('57014')
      expect(await at.runs('spared')).toBe(true)
      await cancel(away, bystander.processId, bystander.key)
      expect((await bystander.ready()).sqlstate).toBe('57014')
      await waitFor('the count', async () => (await countOf(away, 'passed_on')) === before + 3)
    }
  })
})

test('an etcd that is restarted changes nothing, and cancel requests go on without it', async () => {
  const { at } = instances
  const numbers = [await numberOf(at.one), await numberOf(at.other)]
  await at.store.signal('etcd1', 'SIGKILL')
  await at.expectCancelled(at.one, at.other)
  at.store.startEtcd('etcd1')
  await waitFor('etcd', () => at.keysUnder(PREFIX).then((keys) => keys.length === 2), EXPIRY)
  await at.expectCancelled(at.other, at.one)
  expect([await numberOf(at.one), await numberOf(at.other)]).toEqual(numbers)
})

test('an instance whose lease is lost takes another one and keeps its number', async () => {
  const { at } = instances
  const number = await numberOf(at.one)
  const before = await at.leaseOf(number)
  await etcd(at.store, 'lease/revoke', { ID: before })
  await at.untilOtherLease(number, before)
  await acquainted([at.one, at.other])
  expect(await numberOf(at.one)).toBe(number)
})

describe('an instance that cannot be reached', () => {
  // Both numbers were written down a moment ago: nobody has been told of them, etcd is asked.
  test('is counted, and the client sees the end of its connection', async () => {
    const { at } = instances
    const number = await freeNumber(at.other)
    await at.impostor(number, await freePort())
    const before = await countOf(at.other, 'unreachable')
    await cancel(at.other, ...forged(number))
    await waitFor('it', async () => (await countOf(at.other, 'unreachable')) === before + 1)
  })

  test('gets no more requests at once than a pool has connections, and SHOW PEER_POOLS shows them', async () => {
    const { at } = instances
    const peer = await at.silentPeer()
    const number = await freeNumber(at.other)
    await at.impostor(number, peer.port)
    const before = await countOf(at.other, 'passed_on')
    const asked = Array.from({ length: 5 }, () => cancel(at.other, ...forged(number)))
    await waitFor('three', () => peer.heard.length === 3)
    await waitFor('the rest refused', async () => (await countOf(at.other, 'crowded')) === 2)
    const pools = await at.other.console('SHOW PEER_POOLS')
    expect(pools.find((row) => Number(row['peer_id']) === number)).toMatchObject({
      cl_active_cancel_req: 3,
      sv_active_cancel: 3,
      sv_login: 0,
    })
    for (const socket of peer.sockets) socket.end()
    await Promise.all(asked)
    await waitFor('them', async () => (await countOf(at.other, 'passed_on')) === before + 3)
    expect(peer.heard.map((bytes) => bytes.length)).toEqual([16, 16, 16])
  })
})
