/**
 * The primary's node is cut off from etcd, and from nothing else: pgsteer and the other members see
 * etcd, and see the leader key run out. In failsafe mode that is no reason to interrupt anybody. Nor
 * is it, in any mode, that pgsteer alone does not see etcd.
 */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { settled, sight, startCluster, startSteer } from '../failover/steer-cluster.ts'
import { Load } from '../failover/steer-load.ts'
import { debian13, type PatroniCluster } from '../support/patroni.ts'
import { waitFor } from '../support/wait.ts'
import { Network, type Site } from './network.ts'

/** Of Patroni's configuration in these tests. */
const TTL_MS = 20_000

let network: Network
let cluster: PatroniCluster
let stack = new AsyncDisposableStack()

beforeAll(async () => {
  network = new Network('safe', 3)
  cluster = await startCluster({
    installation: debian13(),
    dynamic: { failsafe_mode: true },
    place: (node) => network.place(node as Site),
  })
})
afterEach(async () => {
  await stack.disposeAsync()
  stack = new AsyncDisposableStack()
})
afterAll(async () => {
  await cluster?.stop()
  network?.remove()
})

async function begin(prefix: string) {
  const steer = await startSteer(cluster, 'etcd', { place: network.place('poolers') })
  stack.defer(() => steer.stop())
  const primary = await settled(steer, 2)
  const name = cluster.members.find(({ port }) => port === primary)?.name ?? ''
  const load = new Load(steer, prefix)
  load.start()
  stack.defer(() => load.stop())
  await load.resumed(0)
  return { steer, load, primary, name, site: Number(/\d+$/.exec(name)?.[0]) as Site }
}

/** Nobody there reaches any member of etcd any more, not even the one on its own node. */
function cutFromEtcd(site: Site): { heal(): void } {
  const ports = cluster.etcds.map(({ url }) => Number(new URL(url).port))
  let isCut = true
  network.mute(site, ports)
  const heal = (): void => {
    if (isCut) network.unmute(site, ports)
    isCut = false
  }
  stack.defer(heal)
  return { heal }
}

function keyIs(holder: string | null): Promise<true> {
  const look = async (): Promise<true | undefined> =>
    (await cluster.leader()) === holder ? true : undefined
  return waitFor(`the leader key of ${holder}`, look, { withinMs: 60_000, everyMs: 100 })
}

test('in failsafe mode writes go on though the leader key is gone, and when it is back', async () => {
  await waitFor('Patroni to know the failsafe set', () => cluster.has('failsafe'), {
    withinMs: 20_000,
  })
  const { steer, load, primary, name, site } = await begin('safe')
  const before = await sight(steer)
  const link = cutFromEtcd(site)
  await keyIs(null)
  const goneMs = performance.now()
  await load.resumed(goneMs)
  await waitFor('some more seconds', () => performance.now() - goneMs > 6000)
  await load.resumed(performance.now())
  expect(await cluster.leader(), 'the key is still gone').toBeNull()
  expect(steer.log).toContain('nobody leads, failsafe vouches')

  link.heal()
  await keyIs(name)
  await load.resumed(performance.now())
  await load.stop()
  const after = await sight(steer)
  expect(after).toMatchObject({ term: before.term, primary: name })
  expect(after.withoutPrimaryMs, 'never without a primary').toBe(before.withoutPrimaryMs)
  expect(load.failed).toEqual([])
  expect(load.refused).toEqual([])
  expect(load.unseen).toEqual([])
  expect(load.acknowledged.every((write) => write.port === primary)).toBe(true)
})

test('pgsteer alone is cut off from etcd for longer than ttl: writes go on while Patroni vouches', async () => {
  const { steer, load, primary, name } = await begin('blind')
  const before = await sight(steer)
  const link = cutFromEtcd('poolers')
  const cutMs = performance.now()
  await waitFor('more than ttl', () => performance.now() - cutMs > TTL_MS + 4000, {
    withinMs: TTL_MS + 10_000,
  })
  expect(await sight(steer)).toMatchObject({ source: { state: 'lost' }, primary: name })
  await load.resumed(performance.now())
  link.heal()
  await waitFor('etcd', async () => (await sight(steer)).source.state === 'connected')
  await load.resumed(performance.now())
  await load.stop()
  const after = await sight(steer)
  expect(after).toMatchObject({ term: before.term, withoutPrimaryMs: before.withoutPrimaryMs })
  expect(load.failed).toEqual([])
  expect(load.refused).toEqual([])
  expect(load.acknowledged.every((write) => write.port === primary)).toBe(true)
})

test('without failsafe mode it is fenced, and writes go on at its successor', async () => {
  await cluster.configure({ failsafe_mode: null })
  const { steer, load, primary, name, site } = await begin('unsafe')
  cutFromEtcd(site)
  const after = await waitFor(
    'another primary',
    async () => {
      const seen = await sight(steer)
      return seen.primary !== null && seen.primary !== name ? seen : undefined
    },
    { withinMs: 90_000, everyMs: 100 },
  )
  await load.resumed(performance.now())
  await load.stop()
  const port = after.members.find((member) => member.name === after.primary)?.port
  expect(load.acknowledged.at(-1)?.port).toBe(port)
  expect(load.refused).toEqual([])
  const moved = load.acknowledged.findIndex((write) => write.port === port)
  const later = load.acknowledged.slice(moved)
  expect(later.filter((write) => write.port === primary)).toEqual([])
})
