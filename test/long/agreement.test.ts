/**
 * Two instances of pgsteer in front of one Patroni cluster come to the same answer: through a
 * planned switchover and the loss of a node they name the same primaries in the same order, no two
 * members take writes through either in turns, and clients that are spread over both lose nothing.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { acquainted, cancel, sleep } from '../failover/instances-suite.ts'
import {
  ask,
  DATABASE,
  settled,
  sight,
  startCluster,
  startSteer,
  synchronous,
  USER,
} from '../failover/steer-cluster.ts'
import { expectExactlyOnce, expectOneWriter, successor } from '../failover/steer-judgements.ts'
import { Load } from '../failover/steer-load.ts'
import type { PatroniCluster } from '../support/patroni.ts'
import type { Steer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

/** What an instance said of the cluster, and when it was heard; only what differs from before. */
interface Sighting {
  readonly heardMs: number
  readonly term: number
  readonly timeline: number
  readonly primary: string | null
}

/** Asks one instance again and again. */
class Watch {
  readonly seen: Sighting[] = []
  readonly #steer: Steer
  #isStopping = false
  readonly #running: Promise<void>

  constructor(steer: Steer) {
    this.#steer = steer
    this.#running = this.#run()
  }

  /** The primaries one after the other, without the times between them. */
  get reigns(): string[] {
    const named = this.seen.flatMap(({ primary }) => primary ?? [])
    return named.filter((name, index) => name !== named[index - 1])
  }

  async stop(): Promise<void> {
    this.#isStopping = true
    await this.#running
  }

  async #run(): Promise<void> {
    while (!this.#isStopping) {
      const { term, timeline, primary } = await sightOf(this.#steer)
      const last = this.seen.at(-1)
      if (last?.term !== term || last.primary !== primary || last.timeline !== timeline)
        this.seen.push({ heardMs: performance.now(), term, timeline, primary })
      await pause(20)
    }
  }
}

async function sightOf(steer: Steer): Promise<Omit<Sighting, 'heardMs'>> {
  return (await sight(steer)) as Awaited<ReturnType<typeof sight>> & { timeline: number }
}

let cluster: PatroniCluster
let steers: readonly Steer[] = []
let watches: readonly Watch[] = []

beforeAll(async () => {
  cluster = await startCluster({ dynamic: { synchronous_mode: true } })
  steers = [await startSteer(cluster, 'etcd'), await startSteer(cluster, 'etcd')]
  for (const steer of steers) await settled(steer, 2)
  await acquainted(steers)
  watches = steers.map((steer) => new Watch(steer))
})
afterAll(async () => {
  for (const watch of watches) await watch.stop()
  for (const steer of steers) await steer.stop()
  await cluster?.stop()
})

interface Scene {
  readonly loads: readonly Load[]
  readonly primary: string
}

/** Half of the clients at each instance. */
async function begin(prefix: string): Promise<Scene> {
  await synchronous(cluster)
  const loads = steers.map(
    (steer, index) => new Load(steer, `${prefix}${index}`, { autocommitWriters: 2, readers: 1 }),
  )
  for (const load of loads) load.start()
  for (const load of loads) await load.resumed(0)
  return { loads, primary: (await cluster.leader()) ?? '' }
}

/** Waits for the next primary, and judges what was done until then through both. */
async function finish({ loads, primary: before }: Scene, watchedFrom: number): Promise<void> {
  const [oldPort, { port, atMs }] = [
    cluster.member(before).port,
    await successor(cluster, cluster.member(before).port),
  ]
  for (const load of loads) await load.resumed(atMs)
  const after = cluster.members.find((member) => member.port === port)?.name ?? ''
  for (const load of loads) await load.stop()
  for (const [index, load] of loads.entries()) {
    const seen = watches[index]?.seen.filter(({ heardMs }) => heardMs >= watchedFrom) ?? []
    const fencedMs = seen.find(({ primary }) => primary !== before)?.heardMs ?? 0
    const late = load.failed.filter(({ startedMs }) => startedMs > fencedMs)
    expect(late, 'failed though it was sent when the loss was known').toEqual([])
    expect(load.refused, 'refused log-ins').toEqual([])
    expectOneWriter(load, oldPort, port)
    const steer = steers[index]
    if (steer === undefined) throw new Error('an instance per load')
    await expectExactlyOnce({ cluster, steer, load, primary: oldPort }, port)
  }
  const written = `select max(at) filter (where port = ${oldPort} and at > $1) <
    min(at) filter (where port = ${port} and at > $1) as is_in_turn from written`
  const since = new Date(Date.now() - (performance.now() - watchedFrom)).toISOString()
  const [row] = await ask(cluster, after, written.replaceAll('$1', `'${since}'`))
  expect(row, 'writes of both members in turns').toEqual({ is_in_turn: true })
  await waitFor('both to agree', async () => {
    const seen = await Promise.all(steers.map(sightOf))
    return seen.every(
      ({ primary, timeline }) => primary === after && timeline === seen[0]?.timeline,
    )
  })
}

/** Both named the same primaries, and a new one never under an old term. */
function expectAgreement(reigns: readonly string[]): void {
  for (const watch of watches) {
    expect(watch.reigns).toEqual(reigns)
    const terms = watch.seen.map(({ term }) => term)
    expect(terms).toEqual(terms.toSorted((a, b) => a - b))
    const named = watch.seen.filter(({ primary }) => primary !== null)
    for (const [index, one] of named.entries()) {
      const before = named[index - 1]
      if (before === undefined || before.primary === one.primary) continue
      expect(one.term).toBeGreaterThan(before.term)
      expect(one.timeline).toBeGreaterThan(before.timeline)
    }
  }
  const [first, second] = watches.map((watch) => watch.seen.at(-1))
  expect(second).toMatchObject({ primary: first?.primary, timeline: first?.timeline })
}

async function expectCancels(): Promise<void> {
  const [home, away] = steers
  if (home === undefined || away === undefined) throw new Error('two instances')
  const at = { host: home.host, port: home.port, withinMs: 30_000 }
  const client = await WireClient.login({ ...at, user: USER, password: USER, database: DATABASE })
  const [pid] = (await client.query('/* pgsteer: primary */ select pg_backend_pid()')).rows
  expect(pid).toHaveLength(1)
  const ended = client.query(sleep('victim'))
  const leader = (await cluster.leader()) ?? ''
  await waitFor('the query runs', async () => {
    const sql =
      "select 1 from pg_stat_activity where state = 'active' and query like '%''victim''%'"
    return (await cluster.query(leader, `${sql} and pid <> pg_backend_pid()`)).length === 1
  })
  await cancel(away, client.processId, client.key)
  expect((await ended).sqlstate).toBe('57014')
  await client.close()
}

test('a planned switchover and the loss of the node that is primary: one answer, one writer', async () => {
  const first = (await cluster.leader()) ?? ''
  const planned = await begin('planned')
  const fromMs = performance.now()
  await cluster.switchover()
  await finish(planned, fromMs)
  const second = (await cluster.leader()) ?? ''
  expectAgreement([first, second])
  await expectCancels()
  for (const steer of steers) await settled(steer, 2)

  const lost = await begin('lost')
  const lostMs = performance.now()
  await cluster.killNode(second)
  await finish(lost, lostMs)
  const third = (await cluster.leader()) ?? ''
  expectAgreement([first, second, third])
  await expectCancels()
})
