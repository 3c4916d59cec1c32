/**
 * Scenarios of the whole form that need more than a process killed or a link cut: promotions that
 * are slow or fail, stores that lie or forget, clocks that jump, a pgsteer that stands still.
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { sight } from '../failover/steer-cluster.ts'
import { type PatroniMember, PROBE } from '../support/patroni.ts'
import { waitFor } from '../support/wait.ts'
import { etcdAsk, etcdLeader } from './etcd.ts'
import { JUMPING, jump } from './jump.ts'
import { clientOf, reasonOf } from './load.ts'
import { NODES, type NodeSite } from './network.ts'
import { LONGER_THAN_TTL_MS, type Scenario } from './scenarios.ts'
import type { Scene, Stage } from './stage.ts'

/** How long a promotion is kept from being one. */
const PROMOTION_S = 3
/** pgsteer believes a store that went back in time after this. */
const BELIEVED_MS = 10_000
const RESTORED_MS = BELIEVED_MS + 4000
const SLOW_MS = 8000
/** etcd stands still, and runs, by turns. */
const STILL_MS = 400
const RUNS_MS = 100
/** Fewer than the writers need, and pgsteer may open. */
const CONNECTIONS = 6
const HOUR_MS = 3_600_000
const CONFLICTS = 4
/** Of a table whose square keeps a replica busy for a moment. */
const ROWS = 3000
/** What was severed is united as soon as the successor writes; then it has to be found. */
const UNITED_MS = 6000
/** Half of what the C library waits for a name server that says nothing. */
const TOLD_MS = 5000

export const FURTHER: readonly Scenario[] = [
  {
    name: 'promoted, not yet writable, hook',
    title: 'a leader that is not writable for seconds gets no write, and none fails',
    hasHook: true,
    costs: 'nothing',
    play: async (stage, scene) => {
      stage.hook.planPromotion(`sleep ${PROMOTION_S}`)
      await stage.cluster.switchover()
      await stage.succeeded(scene)
    },
    judge: ({ outageMs }) => expect(outageMs).toBeGreaterThan(PROMOTION_S * 1000),
  },
  {
    name: 'promotion fails, hook',
    title: 'a promotion that fails gives the key to the next one, and no write fails',
    hasHook: true,
    costs: 'nothing',
    play: async (stage, scene) => {
      stage.hook.planPromotion('exit 1')
      // Patroni calls it failed when the candidate does not lead in the end.
      await stage.cluster.switchover().catch(() => undefined)
      await waitFor('the failure', () => stage.hook.isPromotionDone, { withinMs: 60_000 })
      await stage.resumed(scene)
    },
  },
  {
    name: 'pgsteer and primary cut off together',
    title:
      'pgsteer that is cut off with the primary takes nothing for it once another one may lead',
    costs: 'flight',
    extraStallMs: UNITED_MS,
    play: async (stage, scene) => {
      const { network } = stage
      const others = NODES.filter((node) => node !== scene.site)
      for (const site of [scene.site, 'poolers'] as const) network.sever(site, others)
      const unite = once(() => {
        for (const site of [scene.site, 'poolers'] as const) network.unite(site, others)
      })
      stage.undo(unite)
      scene.struckMs = performance.now()
      await stage.successor(scene)
      const led = scene.load.of('acknowledged').filter(({ endedMs }) => endedMs > scene.keyMs)
      expect(led, 'acknowledged where another one leads').toEqual([])
      unite()
      await stage.resumed(scene)
    },
  },
  {
    name: 'etcd member cut off from the others, switchover, hook',
    title: 'an etcd member that hears of nothing keeps no news from pgsteer',
    hasHook: true,
    costs: 'nothing',
    play: async (stage, scene) => {
      const leader = await etcdLeader(stage)
      const quiet = NODES.find((node) => `etcd${node}` !== leader && node !== scene.site) ?? 1
      isolate(stage, quiet)
      await stage.advanced(scene, 20)
      scene.struckMs = performance.now()
      await stage.cluster.switchover()
      await stage.succeeded(scene)
    },
  },
  {
    name: 'compaction and switchover behind its back, hook',
    title: 'pgsteer that misses a switchover and a compaction of etcd finds the new primary',
    hasHook: true,
    costs: 'nothing',
    extraStallMs: UNITED_MS,
    play: async (stage, scene) => {
      const { cluster, network } = stage
      network.cutFromEtcd('poolers')
      const heal = once(() => network.healToEtcd('poolers'))
      stage.undo(heal)
      await waitFor('etcd to be lost', async () => {
        const { source } = await sight(scene.steer)
        return source.state === 'lost'
      })
      scene.struckMs = performance.now()
      await cluster.switchover()
      await stage.successor(scene)
      const [etcd] = cluster.etcds
      const { header } = (await etcdAsk(etcd?.url ?? '', 'kv/range', { key: 'AA==' })) as {
        header: { revision: string }
      }
      await etcdAsk(etcd?.url ?? '', 'kv/compaction', { revision: header.revision, physical: true })
      heal()
      await stage.resumed(scene)
    },
  },
  {
    name: 'etcd comes back empty',
    title: 'an etcd that lost all it knew costs statements in flight at most',
    // Who leads has a new key, so a new reign: what the old one had begun is cut off.
    costs: 'flight',
    // Until it is believed only Patronis vouch for who leads, and they are started anew meanwhile.
    extraStallMs: BELIEVED_MS,
    play: async (stage, scene) => {
      const { cluster } = stage
      const names = cluster.etcds.map(({ name }) => name)
      await Promise.all(names.map((name) => cluster.signal(name, 'SIGKILL')))
      for (const name of names) rmSync(join(cluster.folder, name), { recursive: true })
      for (const name of names) cluster.startEtcd(name)
      // Patroni refuses an etcd whose Raft term is lower than one that it saw, until it is started anew.
      for (const { name } of cluster.members) {
        await cluster.signal(name, 'SIGKILL')
        cluster.startPatroni(name)
      }
      await stage.lasted(scene, RESTORED_MS)
      await stage.resumed(scene)
      const { source } = await sight(scene.steer)
      expect(source.state).toBe('connected')
    },
  },
  {
    name: 'etcd slow',
    title: 'an etcd that answers late, again and again, fails nothing and fences nobody',
    costs: 'outage',
    play: async (stage, scene) => {
      const before = await sight(scene.steer)
      const { cluster } = stage
      const all = (signal: 'SIGSTOP' | 'SIGCONT') =>
        Promise.all(cluster.etcds.map(({ name }) => cluster.signal(name, signal)))
      stage.undo(() => all('SIGCONT'))
      while (performance.now() < scene.struckMs + SLOW_MS) {
        await all('SIGSTOP')
        await rest(STILL_MS)
        await all('SIGCONT')
        await rest(RUNS_MS)
      }
      await stage.resumed(scene)
      const after = await sight(scene.steer)
      if (after.primary === before.primary) expect(after.term).toBe(before.term)
    },
  },
  {
    name: 'recovery conflicts',
    title: 'reads that a replica cancels for what it replays are answered all the same',
    costs: 'nothing',
    play: async (stage, scene) => {
      await endConflictsAtOnce(stage, scene)
      await fill(stage, scene)
      for (let count = 0; count < CONFLICTS; count += 1) await conflict(stage, scene)
      await stage.resumed(scene)
    },
  },
  {
    name: 'new primary full, hook',
    title: 'a new primary that refuses connections is asked again, and no write fails',
    hasHook: true,
    costs: 'nothing',
    play: async (stage, scene) => {
      const limit = (most: number) => stage.ruled(`alter role demo connection limit ${most}`)
      await limit(CONNECTIONS)
      const lift = once(() => limit(-1))
      stage.undo(lift)
      await stage.cluster.switchover()
      await stage.succeeded(scene)
      await stage.advanced(scene)
      await lift()
      expect(scene.steer.log).toMatch(/53300|too many connections/)
    },
  },
  {
    name: 'pgsteer stands still while Patroni is frozen',
    title: 'pgsteer that stood still through an election gives the old primary nothing',
    costs: 'flight',
    // It stands still for as long as the election takes, which is no outage for others.
    extraStallMs: LONGER_THAN_TTL_MS + UNITED_MS,
    play: async (stage, scene) => {
      const { cluster, network } = stage
      const { name } = scene.primary
      const still = network.signalAll('poolers', 'SIGSTOP')
      const wake = once(() => network.thaw(still))
      stage.undo(wake)
      scene.struckMs = performance.now()
      await cluster.signal(name, 'SIGSTOP')
      stage.undo(() => cluster.signal(name, 'SIGCONT'))
      await stage.successor(scene)
      wake()
      await stage.resumed(scene)
    },
    judge: (_, { load, primary, struckMs }) => {
      const late = load.of('acknowledged').filter(({ port, startedMs }) => {
        return port === primary.port && startedMs > struckMs
      })
      expect(late, `acknowledged by ${primary.name} without its key`).toEqual([])
    },
  },
  {
    name: 'clock jumps, switchover, hook',
    title: 'a wall clock that jumps by hours, forth and back, fails nothing',
    hasHook: true,
    env: JUMPING,
    costs: 'nothing',
    play: async (stage, scene) => {
      stage.undo(() => jump(0))
      jump(HOUR_MS)
      await stage.advanced(scene, 20)
      await stage.cluster.switchover()
      jump(-2 * HOUR_MS)
      await stage.succeeded(scene)
      await stage.advanced(scene, 20)
    },
  },
  {
    name: 'resolver silent, switchover; names gone and astray',
    title:
      'a switchover while names are not told costs statements in flight, names gone or astray nothing',
    isNamed: true,
    costs: 'flight',
    play: async (stage, scene) => {
      const { load, primary, replicas, resolver } = scene
      resolver?.freeze()
      for (const member of replicas) {
        await disconnect(stage, scene, member)
        await untilFit(scene, member, TOLD_MS)
      }
      scene.struckMs = performance.now()
      await stage.cluster.switchover()
      await stage.succeeded(scene)
      await stage.advanced(scene)
      resolver?.thaw()
      const failures = (): number => load.writes.length - load.of('acknowledged').length
      const before = [failures(), load.readErrors.length]
      for (const address of [null, stage.network.nowhere]) {
        await untilFit(scene, primary)
        resolver?.tell(primary.name, address)
        await disconnect(stage, scene, primary)
        await stage.advanced(scene)
        resolver?.tell(primary.name, primary.host)
        await untilFit(scene, primary)
      }
      expect([failures(), load.readErrors.length], JSON.stringify(load.readErrors)).toEqual(before)
    },
  },
  {
    name: 'all members stopped and started',
    title:
      'a cluster without any member fails what was in flight, and the rest waits for its return',
    costs: 'flight',
    play: async (stage, scene) => {
      const { cluster } = stage
      await Promise.all(cluster.members.map(({ name }) => cluster.signal(name, 'SIGTERM')))
      for (const { name } of cluster.members) cluster.startPatroni(name)
      await stage.resumed(scene)
    },
  },
]

function once<T>(action: () => T): () => T | undefined {
  let isDone = false
  return () => {
    if (isDone) return undefined
    isDone = true
    return action()
  }
}

function rest(ms: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  setTimeout(resolve, ms)
  return promise
}

function portOf(url: string): number {
  return Number(new URL(url).port)
}

/** Its clients reach that etcd member, the other members do not. */
function isolate(stage: Stage, node: NodeSite): void {
  const { cluster, network } = stage
  const own = portOf(cluster.etcds[node - 1]?.peerUrl ?? '')
  const others = cluster.etcds.map(({ peerUrl }) => portOf(peerUrl)).filter((port) => port !== own)
  network.isolateEtcd(node, own, others)
  stage.undo(() => network.joinEtcd(node, others))
}

async function isFit({ steer }: Scene, { port }: PatroniMember): Promise<boolean> {
  const { members } = await sight(steer)
  return members.find((member) => member.port === port)?.isEligible ?? false
}

function untilFit(scene: Scene, member: PatroniMember, withinMs = 60_000): Promise<true> {
  return waitFor(`${member.name} to be a fit replica`, () => isFit(scene, member), { withinMs })
}

/** Returns when pgsteer has no connection to that replica, and has to make new ones. */
async function disconnect(stage: Stage, scene: Scene, member: PatroniMember): Promise<void> {
  const roles = `('demo', '${PROBE.user}')`
  const sql = `select pg_terminate_backend(pid) from pg_stat_activity where usename in ${roles}`
  await waitFor(`${member.name} to be lost`, async () => {
    await stage.cluster.query(member.name, sql)
    return !(await isFit(scene, member))
  })
}

/** Replicas cancel what keeps them from replaying. */
async function endConflictsAtOnce(stage: Stage, scene: Scene): Promise<void> {
  const { cluster } = stage
  const set = (value: number | null) =>
    cluster.configure({ postgresql: { parameters: { max_standby_streaming_delay: value } } })
  await set(0)
  stage.undo(() => set(null))
  for (const { name } of scene.replicas)
    await waitFor(
      `the setting on ${name}`,
      async () => {
        const [row] = await cluster.query(name, 'show max_standby_streaming_delay')
        return row?.['max_standby_streaming_delay'] === '0'
      },
      { withinMs: 30_000 },
    )
}

async function fill(stage: Stage, { primary }: Scene): Promise<void> {
  await stage.ask(primary.name, 'create table if not exists squared (n int)')
  await stage.ask(primary.name, `insert into squared select generate_series(1, ${ROWS})`)
  stage.undo(() => stage.ruled('drop table if exists squared', 'demo'))
}

/** A long read through pgsteer, and a TRUNCATE that the replica cannot replay beside it. */
async function conflict(stage: Stage, scene: Scene): Promise<void> {
  const client = clientOf(scene.steer)
  await client.connect()
  try {
    await everywhere(stage, scene)
    const read = client.query('select count(*) from squared a, squared b').catch(reasonOf)
    await waitFor('the read on a replica', () => isReading(stage, scene), { everyMs: 10 })
    await stage.ask(scene.primary.name, 'truncate squared')
    expect(await read).not.toBeTypeOf('string')
    await stage.ask(scene.primary.name, `insert into squared select generate_series(1, ${ROWS})`)
  } finally {
    await client.end()
  }
}

/** Every replica has the rows. */
async function everywhere(stage: Stage, { replicas }: Scene): Promise<void> {
  for (const { name } of replicas)
    await waitFor(`the rows on ${name}`, async () => {
      const [row] = await stage.ask(name, 'select count(*)::int as rows from squared')
      return Number(row?.['rows']) > 0
    })
}

async function isReading({ cluster }: Stage, { replicas }: Scene): Promise<boolean> {
  const sql = `select from pg_stat_activity where state = 'active' and query like 'select count(*) from squared a%'`
  const found = await Promise.all(replicas.map(({ name }) => cluster.query(name, sql)))
  return found.some((rows) => rows.length > 0)
}
