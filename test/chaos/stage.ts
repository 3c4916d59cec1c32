/**
 * What a scenario is played on: a cluster in a network of its own, pgsteer in front of it, a load
 * through it, and a prober beside it. A node is one etcd member, one Patroni and its PostgreSQL in a
 * network namespace; pgsteer is in another one, clients and prober in a third. HAProxy, and HAProxy
 * with a PgBouncer beside each member, get the same load at the same time when they are asked for.
 */
import { loadavg } from 'node:os'
import { setTimeout as pause } from 'node:timers/promises'
import { ask, settled, startCluster, startSteer, synchronous } from '../failover/steer-cluster.ts'
import { BeforeStop } from '../support/before-stop.ts'
import { HaProxy } from '../support/haproxy.ts'
import { debian13, type PatroniCluster, type PatroniMember } from '../support/patroni.ts'
import type { Steer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import { type Account, accountOf, type Held } from './account.ts'
import { ChaosLoad } from './load.ts'
import { Network, type Site } from './network.ts'
import { PgBouncers } from './pgbouncers.ts'
import { Prober } from './prober.ts'
import { SharedReads } from './reads.ts'
import { Resolver } from './resolver.ts'

export type Mode = 'synchronous' | 'asynchronous'
export type Keys = Readonly<Record<string, string | number>>

/** How many answers every client has before the fault. */
const ANSWERS_BEFORE = 20
const KEY_POLL_MS = 20

/** One scenario under way: who leads, and who works against it. */
export interface Scene {
  readonly steer: Steer
  readonly load: ChaosLoad
  /** The load of the other poolers, by their names. */
  readonly others: ReadonlyMap<string, ChaosLoad>
  /** Reads that share servers; null where they do not. */
  readonly shared: SharedReads | null
  /** Who tells pgsteer where members are; null where it knows their addresses. */
  readonly resolver: Resolver | null
  readonly prober: Prober
  readonly primary: PatroniMember
  readonly replicas: readonly PatroniMember[]
  readonly site: Site
  readonly timeline: number
  readonly hasHook: boolean
  /** When the fault came, on performance.now(). */
  struckMs: number
  /** When the old leader's key was last seen to be there; Infinity before anybody looked. */
  keyMs: number
  /** When the cluster could write again. */
  backMs: number
}

export interface BeginOptions {
  readonly hasHook: boolean
  readonly isCompared: boolean
  readonly isShared: boolean
  readonly isNamed: boolean
  /** More keys of [pgsteer] and [pgbouncer]. */
  readonly pgsteer: Keys
  readonly pgbouncer: Keys
  readonly env: Readonly<Record<string, string>>
}

export class Stage {
  readonly mode: Mode
  readonly network: Network
  readonly cluster: PatroniCluster
  readonly hook: BeforeStop
  #undo = new AsyncDisposableStack()
  #scenes = 0

  private constructor(mode: Mode, network: Network, cluster: PatroniCluster, hook: BeforeStop) {
    this.mode = mode
    this.network = network
    this.cluster = cluster
    this.hook = hook
  }

  /** `third`: networks of two stages must not meet. */
  static async start(mode: Mode, third: number): Promise<Stage> {
    const network = new Network(mode.slice(0, 5), third)
    const hook = new BeforeStop(debian13())
    const cluster = await startCluster({
      installation: debian13(),
      dynamic: {
        synchronous_mode: mode === 'synchronous',
        postgresql: { use_pg_rewind: true, parameters: { max_connections: 150 } },
      },
      place: (node) => network.place(node as Site),
      postgresql: (name) => hook.settings(name),
    })
    return new Stage(mode, network, cluster, hook)
  }

  async stop(): Promise<void> {
    await this.cluster.stop()
    this.hook.remove()
    this.network.remove()
  }

  /** What puts the cluster right again, in reverse order, before the load ends. */
  undo(action: () => unknown): void {
    this.#undo.defer(async () => {
      await action()
    })
  }

  /** Ends the scene: faults are undone, loads and poolers end. */
  async clear(): Promise<void> {
    const undo = this.#undo
    this.#undo = new AsyncDisposableStack()
    await undo.disposeAsync()
  }

  siteOf({ name }: { readonly name: string }): Site {
    return Number(/\d+$/.exec(name)?.[0]) as Site
  }

  /** One statement on one member as the application, without a pooler in between. */
  ask(name: string, sql: string): Promise<Record<string, unknown>[]> {
    return ask(this.cluster, name, sql, { query_timeout: 60_000 })
  }

  /** One statement on whoever leads, as the superuser or as the application. */
  async ruled(sql: string, user?: 'demo'): Promise<unknown> {
    const leader = (await this.cluster.leader()) ?? ''
    return user === undefined ? this.cluster.query(leader, sql) : this.ask(leader, sql)
  }

  /** Everything runs, and every client was answered often; readers are on replicas. */
  async begin(options: BeginOptions): Promise<Scene> {
    const { cluster } = this
    const resolver = options.isNamed ? await this.#resolver() : null
    const steer = await this.#steer(options, resolver)
    if (options.hasHook) this.hook.call(`http://${steer.host}:${steer.httpPort}`)
    this.undo(() => this.hook.silence())
    const port = await settled(steer, cluster.members.length - 1)
    if (this.mode === 'synchronous') await synchronous(cluster)
    const primary = cluster.members.find((member) => member.port === port)
    if (primary === undefined) throw new Error('nobody leads')
    const prober = new Prober(cluster)
    prober.start()
    this.#undo.defer(() => prober.stop())
    const load = this.#load('pgsteer', { write: steer, read: steer })
    const others = options.isCompared ? await this.#others() : new Map<string, ChaosLoad>()
    await this.#untilBusy(load, port)
    const shared = options.isShared ? await this.#shared(steer, load) : null
    const timeline = await this.#timeline(primary.name)
    const replicas = cluster.members.filter((member) => member !== primary)
    const { hasHook } = options
    const scene = { steer, load, others, shared, resolver, prober, primary, replicas, timeline }
    const nowMs = performance.now()
    return {
      ...scene,
      hasHook,
      site: this.siteOf(primary),
      struckMs: nowMs,
      keyMs: Number.POSITIVE_INFINITY,
      backMs: nowMs,
    }
  }

  /** Returns when somebody else leads and writes, and every client of pgsteer does again. */
  async succeeded(scene: Scene): Promise<void> {
    await this.successor(scene)
    await this.resumed(scene)
  }

  /** Returns when somebody else leads and writes. */
  async successor(scene: Scene): Promise<void> {
    const { cluster } = this
    await waitFor(
      'a successor that writes',
      async () => {
        const askedMs = performance.now()
        const leader = await cluster.leader()
        if (leader === scene.primary.name) scene.keyMs = askedMs
        if (leader === null || leader === scene.primary.name) return false
        return scene.prober.hasWritten(scene.struckMs, cluster.member(leader).port)
      },
      { withinMs: 120_000, everyMs: KEY_POLL_MS },
    )
  }

  /** Returns when somebody, the same member or another, writes, and every client of pgsteer does again. */
  async resumed(scene: Scene): Promise<void> {
    const nowMs = performance.now()
    await waitFor('direct writes', () => scene.prober.hasWritten(nowMs), { withinMs: 120_000 })
    scene.backMs = nowMs
    await waitFor('writes again', () => scene.load.hasResumed(nowMs), { withinMs: 60_000 })
    const isRead = (): boolean => scene.shared?.hasResumed(nowMs) ?? true
    await waitFor('shared reads again', isRead, { withinMs: 60_000 })
  }

  /** Returns when every client had so many more answers. */
  async advanced(scene: Scene, answers = 10): Promise<void> {
    const what = `${answers} more answers for every client`
    await waitFor(what, scene.load.advance(answers), { withinMs: 60_000 })
  }

  /** For as long as a fault has to last to be one: longer than a lease, for example. */
  async lasted(scene: Scene, ms: number): Promise<void> {
    await pause(Math.max(0, scene.struckMs + ms - performance.now()))
  }

  /** Ends the loads and counts; the first account is pgsteer's. */
  async accounts(scene: Scene, scenario: string): Promise<[Account, ...Account[]]> {
    const { primary, prober, struckMs, keyMs, backMs } = scene
    const others = [...scene.others]
    const abandoned = others.map(async ([, load]) => {
      // They may hang for as long as TCP does.
      const isBack = (): boolean => load.hasResumed(backMs)
      await waitFor('writes of another pooler', isBack, { withinMs: 60_000 }).catch(() => undefined)
      await load.abort()
    })
    await Promise.all([scene.load.stop(), scene.shared?.stop(), ...abandoned])
    const sharedReads = (await scene.shared?.shared()) ?? null
    const wrongAnswers = scene.shared?.wrong.length ?? null
    await prober.stop()
    const leader = (await this.cluster.leader().catch(() => null)) ?? primary.name
    const held = await this.#held(scene, leader)
    const zombie = leader === primary.name ? undefined : { port: primary.port, sinceMs: keyMs }
    const outage = prober.outage(zombie)
    const outageMs = outage.lastedMs
    const { stoppedMs } = this.hook
    const isAnnounced = scene.hasHook && stoppedMs !== null && stoppedMs > struckMs
    const handoverMs = isAnnounced ? outage.endedMs - stoppedMs : null
    const at = {
      scenario,
      port: primary.port,
      struckMs,
      outageMs,
      handoverMs,
      load: loadavg()[0] ?? 0,
    }
    return [
      { ...accountOf(scene.load, held, { ...at, pooler: 'pgsteer' }), sharedReads, wrongAnswers },
      ...others.map(([pooler, load]) => accountOf(load, held, { ...at, pooler })),
    ]
  }

  /** With a resolver it finds the members' roles by asking: etcd knows addresses only. */
  async #steer(options: BeginOptions, resolver: Resolver | null): Promise<Steer> {
    const { cluster, network } = this
    const members = cluster.members.map(({ name, host, port }) => {
      return { host: resolver?.nameOf(name) ?? host, port }
    })
    const steer = await startSteer(cluster, resolver === null ? 'etcd' : 'static', {
      members,
      place: resolver?.place ?? network.place('poolers'),
      pgsteer: {
        http_token_file: this.hook.tokenFile,
        ...options.pgsteer,
      },
      pgbouncer: options.pgbouncer,
      env: options.env,
    })
    this.#undo.defer(() => steer.stop())
    return steer
  }

  async #resolver(): Promise<Resolver> {
    const { cluster, network } = this
    const addresses = new Map(cluster.members.map(({ name, host }) => [name, host]))
    const resolver = await Resolver.start(network.place('poolers'), addresses)
    this.#undo.defer(() => resolver.stop())
    return resolver
  }

  #load(name: string, doors: ConstructorParameters<typeof ChaosLoad>[0]): ChaosLoad {
    this.#scenes += 1
    const load = new ChaosLoad(doors, `${name}-${this.#scenes}`)
    load.start()
    this.#undo.defer(() => load.abort())
    return load
  }

  async #shared(steer: Steer, load: ChaosLoad): Promise<SharedReads> {
    const shared = await SharedReads.start(steer, load)
    this.#undo.defer(() => shared.abort())
    return shared
  }

  async #others(): Promise<Map<string, ChaosLoad>> {
    const { cluster, network } = this
    const placeOf = (member: PatroniMember) => network.place(this.siteOf(member))
    const bouncers = await PgBouncers.start(cluster.members, placeOf)
    this.#undo.defer(() => bouncers.stop())
    const loads = new Map<string, ChaosLoad>()
    for (const [name, members] of [
      ['HAProxy', cluster.members],
      ['HAProxy, PgBouncer', bouncers.members],
    ] as const) {
      const proxy = await HaProxy.start(members, network.place('poolers'))
      this.#undo.defer(() => proxy.stop())
      const { host } = proxy
      const doors = {
        write: { host, port: proxy.primaryPort },
        read: { host, port: proxy.replicaPort },
      }
      const load = this.#load(name, doors)
      await waitFor(`${name} serves`, () => load.hasResumed(0), { withinMs: 60_000 })
      loads.set(name, load)
    }
    return loads
  }

  async #untilBusy(load: ChaosLoad, primaryPort: number): Promise<void> {
    const isBusy = load.advance(ANSWERS_BEFORE)
    await waitFor('a busy load', isBusy, { withinMs: 60_000 })
    await waitFor('readers on replicas', () => load.readersOn(primaryPort) === 0, {
      withinMs: 30_000,
    })
  }

  async #timeline(name: string): Promise<number> {
    const sql = 'select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) as timeline'
    const [row] = await this.cluster.query(name, sql)
    return Number.parseInt(String(row?.['timeline']), 16)
  }

  /** What the table holds, and the line of the old timeline in the history of the new one. */
  async #held(scene: Scene, leader: string): Promise<Held> {
    const sql = 'select id, count(*)::int as times from written group by 1'
    const rows = await this.ask(leader, sql)
    const times = new Map(rows.map((row) => [String(row['id']), Number(row['times'])]))
    const timeline = await this.#timeline(leader)
    // The same member goes on from where it was: it has left nothing behind.
    if (leader === scene.primary.name) return { times, forkLsn: null }
    const file = `pg_wal/${timeline.toString(16).toUpperCase().padStart(8, '0')}.history`
    const [row] = await this.cluster.query(leader, `select pg_read_file('${file}') as history`)
    const line = new RegExp(`^${scene.timeline}\\t([0-9A-F]+)/([0-9A-F]+)\\t`, 'm')
    const [, high, low] = line.exec(String(row?.['history'])) ?? []
    if (high === undefined || low === undefined) throw new Error(`no fork in ${file}`)
    return { times, forkLsn: (BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`) }
  }
}
