/**
 * Applications write and read through pgsteer while nodes of a real cluster are switched, killed,
 * frozen and cut off. A node is one etcd member, one Patroni and its PostgreSQL in a network
 * namespace; pgsteer is in another one, clients and prober in a third. For every scenario there is
 * an account of what clients were told against what the cluster then held.
 */
import { chmodSync, copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { ask, settled, startCluster, startSteer, synchronous } from '../failover/steer-cluster.ts'
import { debian13, type PatroniCluster } from '../support/patroni.ts'
import type { Steer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import { ChaosLoad } from './load.ts'
import { Network, type Site } from './network.ts'
import { Prober } from './prober.ts'

const REPORTS = resolve(import.meta.dirname, '../../.cache/reports')
const DRAIN = resolve(import.meta.dirname, '../../deploy/patroni-before-stop')
const TOKEN = 'token-of-the-chaos-suite'
/** Beyond the outage that the prober saw in the same run; the machine has other work. */
const STALL_MS_MAX = 2000

interface Account {
  readonly scenario: string
  readonly acknowledged: number
  readonly lost: number
  readonly doubled: number
  readonly unknown: number
  readonly failed: number
  /** Told that they were undone, and yet there. */
  readonly untrue: number
  readonly dropped: number
  readonly refused: number
  /** Own writes that a read did not see though they are there; a lost one is counted as lost alone. */
  readonly stale: number
  readonly readErrors: number
  readonly writeStallMs: number
  readonly readStallMs: number
  readonly outageMs: number
  readonly errors: readonly string[]
}

export function chaosSuite(mode: 'synchronous' | 'asynchronous', third: number): void {
  const hook = join(debian13().root ?? '', 'tmp', `hook-${mode}`)
  let network: Network
  let cluster: PatroniCluster
  let stack = new AsyncDisposableStack()
  const accounts: Account[] = []

  beforeAll(async () => {
    network = new Network(mode.slice(0, 5), third)
    mkdirSync(hook, { recursive: true })
    copyFileSync(DRAIN, join(hook, 'drain'))
    chmodSync(join(hook, 'drain'), 0o755)
    writeFileSync(join(hook, 'token'), TOKEN)
    // Without the file that a scenario makes, Patroni stops as if it had no hook.
    writeFileSync(
      join(hook, 'run'),
      `[ ! -e "$0.at" ] || /tmp/hook-${mode}/drain "$1" "$(cat "$0.at")" /tmp/hook-${mode}/token\n`,
    )
    cluster = await startCluster({
      installation: debian13(),
      dynamic: { synchronous_mode: mode === 'synchronous' },
      place: (node) => network.place(node as Site),
      postgresql: (name) => ({ before_stop: `sh /tmp/hook-${mode}/run ${name}` }),
    })
  })
  afterEach(async () => {
    await stack.disposeAsync()
    stack = new AsyncDisposableStack()
  })
  afterAll(async () => {
    await cluster?.stop()
    network?.remove()
    mkdirSync(REPORTS, { recursive: true })
    writeFileSync(join(REPORTS, `chaos-${mode}.json`), `${JSON.stringify(accounts, null, 2)}\n`)
  })

  interface Scene {
    readonly steer: Steer
    readonly load: ChaosLoad
    readonly prober: Prober
    readonly primary: string
    readonly site: Site
  }

  async function begin(isDrained: boolean): Promise<Scene> {
    const steer = await startSteer(cluster, 'etcd', {
      place: network.place('poolers'),
      pgsteer: { http_token_file: join(hook, 'token') },
    })
    stack.defer(() => steer.stop())
    if (isDrained) {
      writeFileSync(join(hook, 'run.at'), `http://${steer.host}:${steer.httpPort}`)
      stack.defer(() => rmSync(join(hook, 'run.at')))
    }
    const port = await settled(steer, cluster.members.length - 1)
    if (mode === 'synchronous') await synchronous(cluster)
    const primary = cluster.members.find((member) => member.port === port)?.name ?? ''
    const prober = new Prober(cluster)
    prober.start()
    stack.defer(() => prober.stop())
    const load = new ChaosLoad(steer, `${mode}-${accounts.length}`)
    load.start()
    stack.defer(() => load.stop())
    await waitFor('every writer', () => load.hasResumed(0), { withinMs: 30_000 })
    return { steer, load, prober, primary, site: Number(/\d+$/.exec(primary)?.[0]) as Site }
  }

  async function finish(scenario: string, scene: Scene): Promise<Account> {
    const { load, prober, primary } = scene
    const port = await waitFor('a successor', () => prober.writer(cluster.member(primary).port), {
      withinMs: 120_000,
    })
    const resumedMs = performance.now()
    await waitFor('writes again', () => load.hasResumed(resumedMs), { withinMs: 60_000 })
    await load.stop()
    await prober.stop()
    const name = cluster.members.find((member) => member.port === port)?.name ?? ''
    const rows = await ask(
      cluster,
      name,
      'select id, count(*)::int as times from written group by 1',
    )
    const times = new Map(rows.map((row) => [row['id'], row['times']]))
    const account = {
      scenario,
      acknowledged: load.of('acknowledged').length,
      lost: load.of('acknowledged').filter(({ id }) => !times.has(id)).length,
      doubled: load.writes.filter(({ id }) => Number(times.get(id) ?? 0) > 1).length,
      unknown: load.of('unknown').length,
      failed: load.of('failed').length,
      untrue: load.of('failed').filter(({ id }) => times.has(id)).length,
      dropped: load.dropped,
      refused: load.refused,
      stale: load.stale.filter((id) => times.has(id)).length,
      readErrors: load.readErrors.length,
      writeStallMs: Math.round(load.writeStallMs),
      readStallMs: Math.round(load.readStallMs),
      outageMs: Math.round(prober.outageMs),
      errors: [...new Set(load.writes.map(({ error }) => error.slice(0, 120)).filter(Boolean))],
    }
    accounts.push(account)
    return account
  }

  function expectHonest(account: Account): void {
    const said = JSON.stringify(account)
    expect(account.doubled, said).toBe(0)
    expect(account.untrue, said).toBe(0)
    expect(account.stale, said).toBe(0)
    if (mode === 'synchronous') expect(account.lost, said).toBe(0)
    expect(account.dropped + account.refused, said).toBe(0)
    expect(account.unknown + account.failed, said).toBeLessThanOrEqual(8)
    expect(account.writeStallMs, said).toBeLessThan(account.outageMs + STALL_MS_MAX)
  }

  describe(`${mode} replication`, () => {
    test('a planned switchover with the hook fails no statement and drops no connection', async () => {
      const scene = await begin(true)
      await cluster.switchover()
      const account = await finish('planned switchover, hook', scene)
      expectHonest(account)
      expect(account.unknown + account.failed, JSON.stringify(account)).toBe(0)
      expect(account.lost, JSON.stringify(account)).toBe(0)
    })

    test('a switchover without the hook costs statements in flight at most', async () => {
      const scene = await begin(false)
      await cluster.switchover()
      expectHonest(await finish('planned switchover, no hook', scene))
    })

    test("kill -9 of all that the primary's node runs costs statements in flight at most", async () => {
      const scene = await begin(false)
      const etcd = `etcd${scene.site}`
      await Promise.all([cluster.killNode(scene.primary), cluster.signal(etcd, 'SIGKILL')])
      stack.defer(() => {
        cluster.startEtcd(etcd)
        cluster.startPatroni(scene.primary)
      })
      expectHonest(await finish('node killed', scene))
    })

    test("a partition of the primary's node costs statements in flight at most", async () => {
      const scene = await begin(false)
      network.cut(scene.site)
      stack.defer(() => network.heal(scene.site))
      expectHonest(await finish('node cut off', scene))
    })

    test('a frozen node costs statements in flight at most', async () => {
      const scene = await begin(false)
      const frozen = network.processes(scene.site)
      for (const pid of frozen) process.kill(pid, 'SIGSTOP')
      stack.defer(() => {
        for (const pid of frozen) process.kill(pid, 'SIGCONT')
      })
      expectHonest(await finish('node frozen', scene))
    })
  })
}
