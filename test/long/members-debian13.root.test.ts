/**
 * Members that are somebody else when they come back: under another name, or at each other's
 * addresses; and a cluster that is not there yet when pgsteer is.
 */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { furnish, settled, sight, startSteer, synchronous } from '../failover/steer-cluster.ts'
import { expectExactlyOnce } from '../failover/steer-judgements.ts'
import { Load } from '../failover/steer-load.ts'
import { debian13, PatroniCluster } from '../support/patroni.ts'
import type { Steer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

let cluster: PatroniCluster
let steer: Steer
let load: Load

/** In this order: pgsteer, etcd, Patroni, and then somebody to write. */
beforeEach(async () => {
  // Two members are away at once below: asynchronous replication may lose what the second one took.
  const dynamic = { synchronous_mode: true }
  cluster = await PatroniCluster.prepare({ installation: debian13(), dynamic })
  steer = await startSteer(cluster, 'etcd', { untilReady: false })
  await waitFor('it says that etcd is not there', async () => {
    const seen = await sight(steer)
    return seen.primary === null && seen.source.state !== 'connected'
  })
  for (const { name } of cluster.etcds) cluster.startEtcd(name)
  for (const { name } of cluster.members) cluster.startPatroni(name)
  await cluster.ready()
  await furnish(cluster)
  await settled(steer, 2)
  await synchronous(cluster)
  load = new Load(steer, 'members')
  load.start()
  await load.resumed(0)
})
afterEach(async () => {
  await load?.stop()
  await steer?.stop()
  await cluster?.stop()
})

async function primary(): Promise<string> {
  return (await cluster.leader()) ?? ''
}

/** What pgsteer knows: the ports of its members by their names. */
async function ports(): Promise<Record<string, number>> {
  const { members } = await sight(steer)
  return Object.fromEntries(members.map(({ name, port }) => [name, port]))
}

/** Every write stands there once if its client was told so, and every session saw its own. */
async function expectHonest(): Promise<void> {
  await load.resumed(performance.now())
  await load.stop()
  const known = await sight(steer)
  const port = known.members.find(({ name }) => name === known.primary)?.port ?? 0
  await expectExactlyOnce({ cluster, steer, load, primary: port }, port)
  expect(load.refused).toEqual([])
}

test('pgsteer that is there before the cluster serves it as soon as it is one', async () => {
  await expectHonest()
  expect(load.failed).toEqual([])
  expect((await sight(steer)).primary).toBe(await primary())
})

test('a member that comes back under another name is that one, and nobody fails', async () => {
  const leader = await primary()
  const replica = cluster.members.find(({ name }) => name !== leader)
  const name = replica?.name ?? ''
  await cluster.signal(name, 'SIGTERM')
  cluster.reconfigure(name, (configuration) => {
    configuration.name = 'renamed'
  })
  cluster.startPatroni(name)
  await waitFor(
    'the other name alone',
    async () => {
      const known = await ports()
      return known['renamed'] === replica?.port && known[name] === undefined
    },
    { withinMs: 60_000 },
  )
  await settled(steer, 2)
  await expectHonest()
  expect(load.failed).toEqual([])
})

test('members that swap their addresses are told apart, and no write goes astray', async () => {
  const first = await primary()
  const second = cluster.members.find(({ name }) => name !== first)?.name ?? ''
  const before = await ports()
  const swapped = [first, second].map((name) => cluster.member(name))
  for (const name of [first, second]) await cluster.signal(name, 'SIGTERM')
  for (const [index, name] of [first, second].entries()) {
    const other = swapped[1 - index]
    const address = `${other?.host}:${other?.port}`
    cluster.reconfigure(name, ({ postgresql }) => {
      Object.assign(postgresql, { listen: address, connect_address: address })
    })
    cluster.startPatroni(name)
  }
  await waitFor(
    'their new addresses',
    async () => {
      const known = await ports()
      return known[first] === before[second] && known[second] === before[first]
    },
    { withinMs: 60_000 },
  )
  const port = await settled(steer, 2)
  await expectHonest()
  expect((await ports())[await primary()]).toBe(port)
  expect(load.acknowledged.at(-1)?.port).toBe(port)
})
