/**
 * The eight scenarios that matter most: the form that runs with every change. Each row says what
 * is done to the cluster and what that may cost clients of pgsteer beyond what is never allowed
 * (test/chaos/suite.ts).
 */
import { expect } from 'vitest'
import { waitFor } from '../support/wait.ts'
import type { Account } from './account.ts'
import type { Keys, Scene, Stage } from './stage.ts'

export interface Scenario {
  /** Its row in the table. */
  readonly name: string
  /** What is promised; the test's name. */
  readonly title: string
  /** Strikes, and returns when clients write again or were proved not to be hurt. */
  readonly play: (stage: Stage, scene: Scene) => Promise<void>
  /**
   * `nothing`: no statement fails. `flight`: writes fail that were under way when the fault came.
   * `outage`: nothing, unless the cluster itself could not write.
   */
  readonly costs: 'nothing' | 'flight' | 'outage'
  /** Patroni's before_stop calls pgsteer. */
  readonly hasHook?: boolean
  /** Keys of [pgsteer] and [pgbouncer] beside the defaults. */
  readonly pgsteer?: Keys
  readonly pgbouncer?: Keys
  /** More of its environment. */
  readonly env?: Readonly<Record<string, string>>
  /** HAProxy and PgBouncer get the same load at the same time, in the whole form. */
  readonly isCompared?: boolean
  /** Clients beside the load read at the same moments (reads.ts), so that they share servers. */
  readonly isShared?: boolean
  /** pgsteer knows the members by names, of which a name server of its own tells (resolver.ts). */
  readonly isNamed?: boolean
  /** How much longer than the cluster's own outage clients may have to wait because of it. */
  readonly extraStallMs?: number
  readonly judge?: (account: Account, scene: Scene) => void
}

/** Patroni's ttl in these clusters, and some. */
export const LONGER_THAN_TTL_MS = 25_000
/** The default of lease_guard_ms, and how late pgsteer may see a renewal (docs/failover.md). */
export const LEASE_MS = 3000 + 4600
/** Two probes without an answer, the interval between them, and three seconds to be told. */
const HUNG_MS_MAX = 2 * 1500 + 250 + 3000
/** Nothing is acknowledged by a primary whose key is gone. */
export function expectFenced(_: Account, { load, primary, keyMs }: Scene): void {
  expect(keyMs, 'the key was looked at').toBeLessThan(Number.POSITIVE_INFINITY)
  const late = load.of('acknowledged').filter(({ port, endedMs }) => {
    return port === primary.port && endedMs > keyMs
  })
  expect(late, `acknowledged by ${primary.name} without its key`).toEqual([])
}

export async function killNode(stage: Stage, scene: Scene): Promise<void> {
  const { cluster, network } = stage
  const { name } = scene.primary
  const etcd = `etcd${scene.site}`
  network.signalAll(scene.site, 'SIGKILL')
  await Promise.all([cluster.ended(name), cluster.ended(etcd)])
  stage.undo(() => {
    cluster.startEtcd(etcd)
    cluster.startPatroni(name)
  })
}

/** Patroni asks all members, whatever etcd does, once they are in its list. */
export async function useFailsafe(stage: Stage): Promise<void> {
  const { cluster } = stage
  await cluster.configure({ failsafe_mode: true })
  stage.undo(async () => {
    await cluster.configure({ failsafe_mode: null })
    // Patroni leaves it; the next scenario has to see that all members know of their own.
    await cluster.put(cluster.etcds[2], 'failsafe', null)
  })
  for (const { name, restUrl } of cluster.members)
    await waitFor(`the failsafe set on ${name}`, () => isOk(`${restUrl}/failsafe`), {
      withinMs: 60_000,
      everyMs: 100,
    })
}

async function isOk(url: string): Promise<boolean> {
  const response = await fetch(url, { signal: AbortSignal.timeout(2000) })
  await response.body?.cancel()
  return response.ok
}

const MOST_OF_ETCD = ['etcd1', 'etcd2']

/** Two of three etcd members die; `findQuorum` ends that. */
export async function loseQuorum(stage: Stage): Promise<void> {
  await Promise.all(MOST_OF_ETCD.map((name) => stage.cluster.signal(name, 'SIGKILL')))
}

export async function findQuorum({ cluster }: Stage): Promise<void> {
  for (const name of MOST_OF_ETCD) cluster.startEtcd(name)
  await waitFor('a quorum', () => cluster.leader().then(() => true), { withinMs: 60_000 })
}

export const SHORT: readonly Scenario[] = [
  {
    name: 'planned switchover, hook',
    title: 'a planned switchover with the hook fails no statement and drops no connection',
    hasHook: true,
    isCompared: true,
    costs: 'nothing',
    play: async (stage, scene) => {
      await stage.cluster.switchover()
      await stage.succeeded(scene)
    },
    judge: (account) => expect(account.lost).toBe(0),
  },
  {
    name: 'planned switchover, no hook',
    title: 'a switchover without the hook costs statements in flight at most',
    isCompared: true,
    costs: 'flight',
    play: async (stage, scene) => {
      await stage.cluster.switchover()
      await stage.succeeded(scene)
    },
    judge: (account) => expect(account.lost).toBe(0),
  },
  {
    name: 'node killed',
    title: "kill -9 of all that the primary's node runs costs statements in flight at most",
    isCompared: true,
    costs: 'flight',
    play: async (stage, scene) => {
      await killNode(stage, scene)
      await stage.succeeded(scene)
    },
  },
  {
    name: 'node cut off',
    title: "a partition of the primary's node costs statements in flight at most",
    isCompared: true,
    costs: 'flight',
    play: async (stage, scene) => {
      stage.network.cut(scene.site)
      stage.undo(() => stage.network.heal(scene.site))
      await stage.succeeded(scene)
    },
  },
  {
    name: 'node frozen',
    title: 'a frozen node costs statements in flight at most, and nobody hangs on it',
    isCompared: true,
    costs: 'flight',
    play: async (stage, scene) => {
      const frozen = stage.network.signalAll(scene.site, 'SIGSTOP')
      stage.undo(() => stage.network.thaw(frozen))
      await stage.succeeded(scene)
    },
    judge: (account) => expect(account.hungMs).toBeLessThan(HUNG_MS_MAX),
  },
  {
    name: 'Patroni frozen, PostgreSQL alive',
    title: 'a primary whose Patroni hangs acknowledges nothing once its key is gone',
    costs: 'flight',
    extraStallMs: LEASE_MS,
    play: async (stage, scene) => {
      const { name } = scene.primary
      await stage.cluster.signal(name, 'SIGSTOP')
      stage.undo(() => stage.cluster.signal(name, 'SIGCONT'))
      await stage.succeeded(scene)
    },
    judge: expectFenced,
  },
  {
    name: 'etcd without quorum, failsafe mode',
    title: 'etcd without a quorum for longer than ttl fails no statement in failsafe mode',
    costs: 'outage',
    play: async (stage, scene) => {
      await useFailsafe(stage)
      await loseQuorum(stage)
      stage.undo(() => findQuorum(stage))
      scene.struckMs = performance.now()
      await stage.lasted(scene, LONGER_THAN_TTL_MS)
      await stage.advanced(scene)
      await stage.resumed(scene)
    },
  },
  {
    name: 'replica restarted, replay paused',
    title: 'a replica that is restarted, or stops to replay, fails no read and no read is stale',
    costs: 'nothing',
    play: async (stage, scene) => {
      const { cluster } = stage
      const readers = ({ port }: { port: number }): number => scene.load.readersOn(port) ?? 0
      const [busy, other] = scene.replicas.toSorted((one, two) => readers(two) - readers(one))
      if (busy === undefined || other === undefined) throw new Error('two replicas are needed')
      await cluster.query(other.name, 'select pg_wal_replay_pause()')
      stage.undo(() => cluster.query(other.name, 'select pg_wal_replay_resume()'))
      await stage.advanced(scene, 20)
      await cluster.query(other.name, 'select pg_wal_replay_resume()')
      await cluster.rest(busy.name, 'restart')
      await stage.advanced(scene, 20)
      await stage.resumed(scene)
    },
  },
]
