/**
 * Applications write and read through pgsteer while a real Patroni cluster fails over, with
 * synchronous_mode on. Run against each Debian's Patroni and PostgreSQL; every scenario leaves a
 * primary and two streaming replicas.
 */
import type { Client } from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Installation, PatroniCluster } from '../support/patroni.ts'
import { waitFor } from '../support/wait.ts'
import { settled, sight, startCluster, startSteer, synchronous } from './steer-cluster.ts'
import {
  equip,
  expectErrorsOnlyInFlight,
  expectExactlyOnce,
  expectFailedOver,
  expectOneWriter,
  expectReadsWentOn,
  expectUnharmed,
  RESUME_MS_MAX,
  type Scene,
  successor,
} from './steer-judgements.ts'
import { connect, end, insert, Load } from './steer-load.ts'

const TTL_MS = 20_000

export function steerScenarios(installation: () => Installation): void {
  let cluster: PatroniCluster
  let stack: AsyncDisposableStack
  let scenes = 0

  beforeAll(async () => {
    stack = new AsyncDisposableStack()
    cluster = await startCluster({
      installation: installation(),
      dynamic: { synchronous_mode: true },
    })
  })
  afterEach(async () => {
    await stack.disposeAsync()
    stack = new AsyncDisposableStack()
  })
  afterAll(() => cluster?.stop())

  /** Everybody writes and reads. */
  async function begin(source: 'etcd' | 'patroni' | 'static'): Promise<Scene> {
    const steer = await startSteer(cluster, source)
    stack.defer(() => steer.stop())
    const primary = await settled(steer, cluster.members.length - 1)
    await synchronous(cluster)
    scenes += 1
    const load = new Load(steer, `scene${scenes}`)
    load.start()
    stack.defer(() => load.stop())
    await load.resumed(0)
    await load.onReplicas(primary)
    return { cluster, steer, load, primary }
  }

  /** Clients that do nothing until they are asked to; each has used a primary and a replica. */
  async function idlers({ steer }: Scene): Promise<Client[]> {
    const clients = await Promise.all([0, 1, 2].map(() => newcomer({ steer })))
    await equip(clients, `idle${scenes}`)
    return clients
  }

  async function newcomer({ steer }: Pick<Scene, 'steer'>): Promise<Client> {
    const client = await connect(steer)
    stack.defer(() => end(client))
    return client
  }

  async function loseQuorum(): Promise<void> {
    for (const { name } of cluster.etcds.slice(0, 2)) {
      await cluster.signal(name, 'SIGSTOP')
      stack.defer(() => cluster.signal(name, 'SIGCONT'))
    }
  }

  /** Patroni that has not left the frozen etcd yet refuses, or says so though the switch goes on. */
  function insistOnSwitchover({ primary }: Scene): Promise<true> {
    const insist = async (): Promise<boolean> => {
      const leader = await cluster.leader()
      if (leader === null || cluster.member(leader).port !== primary) return true
      return cluster.switchover().then(() => true)
    }
    return waitFor('a switchover', insist, { withinMs: 60_000, everyMs: 500 })
  }

  /** Patroni refuses a change of its configuration while etcd comes back. */
  async function configure(dynamic: Readonly<Record<string, unknown>>): Promise<void> {
    const change = (): Promise<true> => cluster.configure(dynamic).then(() => true)
    await waitFor('Patroni to take a configuration', change, { withinMs: 20_000, everyMs: 250 })
  }

  async function finish(scene: Scene, idle: readonly Client[], primary: number): Promise<void> {
    await expectUnharmed(idle, `idle${scenes}`, primary)
    await scene.load.stop()
    await expectExactlyOnce(scene, primary)
  }

  describe('a planned switchover moves writes, loses nothing acknowledged and no idle client', () => {
    test.for(['etcd', 'patroni', 'static'] as const)('source = %s', async (source) => {
      const scene = await begin(source)
      const idle = await idlers(scene)
      const [after] = await Promise.all([expectFailedOver(scene), cluster.switchover()])
      await finish(scene, idle, after)
    })
  })

  test("kill -9 of the primary's node: writes and log-ins wait for its successor, reads go on", async () => {
    const scene = await begin('etcd')
    const idle = await idlers(scene)
    const dead = cluster.members.find(({ port }) => port === scene.primary)?.name ?? ''
    const lostMs = performance.now()
    await cluster.killNode(dead)
    stack.defer(() => cluster.startPatroni(dead))
    await waitFor('the loss noticed', async () => (await sight(scene.steer)).primary === null)
    const late = await newcomer(scene)
    const [after, writer] = await Promise.all([
      expectFailedOver(scene, () => lostMs),
      insert(late, `late${scenes}`),
    ])
    expect(writer).toBe(after)
    await finish(scene, idle, after)
  })

  test('a switchover with the etcd leader frozen', async () => {
    const scene = await begin('etcd')
    const idle = await idlers(scene)
    const frozen = await etcdLeader(cluster)
    await cluster.signal(frozen, 'SIGSTOP')
    stack.defer(() => cluster.signal(frozen, 'SIGCONT'))
    const frozenS = Date.now() / 1000
    await waitFor('a turn of Patroni', async () => (await etcdSeenS(cluster)) > frozenS, {
      withinMs: 30_000,
      everyMs: 100,
    })
    await scene.load.resumed(performance.now())
    expect(scene.load.failed, 'a frozen etcd member is no reason to fail').toEqual([])
    const [after] = await Promise.all([expectFailedOver(scene), insistOnSwitchover(scene)])
    await finish(scene, idle, after)
  })

  test('etcd without quorum: writes go on until Patroni demotes, and wait for its return', async () => {
    const scene = await begin('etcd')
    const { load, steer, primary } = scene
    const idle = await idlers(scene)
    await loseQuorum()
    await waitFor('a silent source', async () => (await sight(steer)).source.state !== 'serving')
    await load.resumed(performance.now())
    expect(load.failed, 'losing the store is not losing the primary').toEqual([])
    await waitFor('the demotion', async () => (await sight(steer)).primary === null, {
      withinMs: 60_000,
      everyMs: 50,
    })
    const lostMs = performance.now()
    const late = await newcomer(scene)
    const held = insert(late, `late${scenes}`)
    const answered = load.reads.length
    await waitFor('reads during the hold', () => load.reads.length > answered + 50)
    for (const { name } of cluster.etcds.slice(0, 2)) await cluster.signal(name, 'SIGCONT')
    const { atMs, port: after } = await successor(cluster, null)
    await load.resumed(atMs)
    expect(await held).toBe(after)
    const first = load.acknowledged.find((write) => write.endedMs > lostMs)
    expect((first?.endedMs ?? Number.POSITIVE_INFINITY) - atMs).toBeLessThan(RESUME_MS_MAX)
    expectOneWriter(load, primary, after)
    expectErrorsOnlyInFlight(load, lostMs)
    expectReadsWentOn(load, lostMs, atMs)
    await finish(scene, idle, after)
  })

  test('etcd without quorum for longer than ttl interrupts nothing in failsafe mode', async () => {
    await configure({ failsafe_mode: true })
    stack.defer(() => configure({ failsafe_mode: null }))
    const scene = await begin('etcd')
    const { load, primary } = scene
    const idle = await idlers(scene)
    await waitFor('Patroni to know the failsafe set', () => cluster.has('failsafe'), {
      withinMs: 20_000,
    })
    await loseQuorum()
    const lostMs = performance.now()
    await waitFor('more than ttl', () => performance.now() - lostMs > TTL_MS + 3000, {
      withinMs: TTL_MS + 10_000,
      everyMs: 100,
    })
    await load.resumed(performance.now())
    expect(load.failed).toEqual([])
    expectReadsWentOn(load, lostMs, performance.now())
    expectOneWriter(load, primary, primary)
    await finish(scene, idle, primary)
  })
}

interface EtcdStatus {
  readonly header: { readonly member_id: string }
  readonly leader?: string
}

/** The etcd member that leads, by its own word. */
async function etcdLeader(cluster: PatroniCluster): Promise<string> {
  const statuses = await Promise.all(
    cluster.etcds.map(async ({ name, url }) => ({ name, status: await statusOf(url) })),
  )
  const leader = statuses.find(({ status }) => status.header.member_id === status.leader)
  if (leader === undefined) throw new Error('no etcd member leads')
  return leader.name
}

async function statusOf(url: string): Promise<EtcdStatus> {
  const response = await fetch(`${url}/v3/maintenance/status`, {
    method: 'POST',
    body: '{}',
    signal: AbortSignal.timeout(2000),
  })
  return (await response.json()) as EtcdStatus
}

/** When the primary's Patroni last heard from etcd, in seconds of the clock. */
async function etcdSeenS(cluster: PatroniCluster): Promise<number> {
  const leader = (await cluster.leader()) ?? ''
  const response = await fetch(`${cluster.member(leader).restUrl}/patroni`, {
    signal: AbortSignal.timeout(2000),
  })
  return ((await response.json()) as { dcs_last_seen: number }).dcs_last_seen
}
