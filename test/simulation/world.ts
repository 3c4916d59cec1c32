/**
 * The simulated world: one cluster, one or two instances of the proxy before it, and their clients, on a
 * clock and a network that are not there. `run` lets things go wrong for a while, heals everything,
 * and looks at the invariants after every step.
 */
import { configFrom } from '../support/config.ts'
import { Chance } from './chance.ts'
import { SimulatedClient } from './client.ts'
import { SimulationClock } from './clock.ts'
import { Cluster, type Member } from './cluster.ts'
import { misfortune } from './faults.ts'
import { memberName } from './invariants.ts'
import { Judge } from './judge.ts'
import { Link } from './network.ts'
import { SimulatedProxy, type Surroundings } from './proxy.ts'

const CHAOS_MS = 30_000
/** Hold, lease, log-ins and the slowest statement. */
const HEALING_MS = 75_000
/** How often the operator looks whether RECONNECT is asked for. */
const RECONNECT_MS = 7000
/** What is held though nothing is wrong has been found by then. */
const WELL_MS = 20_000
const LOOK_MS = 5000
const TRACE_MAX = 80
const CLIENTS = 8
/** The one in session mode. */
const KEPT = 7
/** So many have to wait for each other where reads are to share servers. */
const CLIENTS_SHARING = 20
const SHARED = 0x51_de
/** Everything that is under way in one moment is run before the next. */
const TURNS = 24

/** What kind of life it is. */
interface Shape {
  readonly proxies: number
  readonly source: 'etcd' | 'static'
  /** With the longer one the lease guard is in force. */
  readonly ttlMs: 6000 | 12_000
  readonly holdMsMax: number | null
  readonly hasHook: boolean
  readonly isSynchronous: boolean
  readonly isFailsafe: boolean
  /** `multiplex_reads = auto`, with fewer servers and more clients. */
  readonly isShared: boolean
}

export interface Outcome {
  readonly broken: string | null
  readonly trace: readonly string[]
  readonly counts: Judge['counts']
  readonly steps: number
  readonly isShared: boolean
  /** Reads that stood behind others on one server, and those of them that were sent elsewhere. */
  readonly rides: number
  readonly ridesMoved: number
}

export class SimulatedWorld {
  readonly clock = new SimulationClock()
  readonly chance: Chance
  readonly judge: Judge
  readonly cluster: Cluster
  readonly proxies: readonly SimulatedProxy[]
  readonly clients: SimulatedClient[] = []
  readonly shape: Shape
  readonly #trace: string[] = []
  #isStopping = false
  #steps = 0

  constructor(seed: number) {
    this.chance = new Chance(seed)
    // Of a chance of its own: what else happens in a life is not to depend on it.
    this.shape = { ...shapeOf(this.chance), isShared: new Chance(seed ^ SHARED).is(0.4) }
    // Two halves of a cluster that no DCS holds together are not what is looked for there.
    if (this.shape.isShared) this.shape = { ...this.shape, source: 'etcd' }
    this.judge = new Judge(this.shape.isShared)
    const { clock, chance, judge } = this
    const tools = { clock, chance, trace: (text: string) => this.trace(text) }
    this.cluster = new Cluster(tools, this.shape)
    this.cluster.isFailsafe = this.shape.isFailsafe
    const config = configFrom(iniOf(this.shape))
    const around: Surroundings = { ...tools, judge, cluster: this.cluster }
    const names = ['one', 'two'].slice(0, this.shape.proxies)
    this.proxies = names.map((name) => new SimulatedProxy(name, config, around))
    if (this.shape.hasHook) this.#hook()
  }

  trace(text: string): void {
    this.#trace.push(`${(this.clock.nowMs() / 1000).toFixed(3)} ${text}`)
    if (this.#trace.length > TRACE_MAX) this.#trace.shift()
  }

  async run(): Promise<Outcome> {
    try {
      for (const proxy of this.proxies) await proxy.start()
      this.clock.every(RECONNECT_MS, () => {
        for (const proxy of this.proxies) proxy.reconnectIfTold()
      })
      await this.#until(this.clock.nowMs() + 2000)
      const clients = this.shape.isShared ? CLIENTS_SHARING : CLIENTS
      for (let index = 0; index < clients; index += 1) this.#arrive(index)
      const endMs = this.clock.nowMs() + CHAOS_MS
      misfortune(this, endMs)
      await this.#until(endMs)
      this.#heal()
      const lastMs = this.clock.nowMs() + HEALING_MS
      await this.#until(this.clock.nowMs() + WELL_MS)
      while (this.clock.nowMs() < lastMs && !this.#isSettled())
        await this.#until(this.clock.nowMs() + LOOK_MS)
      this.#checkEnd()
    } catch (error) {
      this.judge.breach(error instanceof Error ? (error.stack ?? error.message) : String(error))
    }
    for (const proxy of this.proxies) await proxy.watcher.stop()
    return {
      broken: this.judge.broken,
      trace: [JSON.stringify(this.shape), ...this.#trace],
      counts: this.judge.counts,
      steps: this.#steps,
      isShared: this.shape.isShared,
      rides: sum(this.proxies.map(({ counters }) => counters.rides)),
      ridesMoved: sum(this.proxies.map(({ counters }) => counters.ridesMoved)),
    }
  }

  async #until(untilMs: number): Promise<void> {
    while (this.judge.broken === null && this.clock.step(untilMs)) {
      this.#steps += 1
      for (let turn = 0; turn < TURNS; turn += 1) await Promise.resolve()
      for (const proxy of this.proxies) proxy.check()
    }
  }

  #arrive(place: number): void {
    const id = this.clients.length + 1
    const proxy = this.proxies[place % this.proxies.length]
    if (proxy === undefined) return
    const { clock, chance, judge } = this
    const link = new Link({ clock, chance, latencyMs: 0.3, owner: proxy.name })
    const identity = { name: `c${id}`, isKept: place === KEPT, isReader: place > KEPT }
    const client = new SimulatedClient(identity, link, { clock, chance, judge })
    this.clients.push(client)
    client.isStopped = this.#isStopping
    proxy.accept(client, id, () => {
      if (!this.#isStopping) clock.after(chance.between(0, 500), () => this.#arrive(place))
    })
  }

  /** Patroni tells every instance before it stops a primary, and waits for all of them. */
  #hook(): void {
    this.cluster.hook = async (member) => {
      this.trace(`the hook of ${member.name} calls`)
      await Promise.all(this.proxies.map((proxy) => proxy.drain(member)))
    }
    this.cluster.onPlannedStop = (member) => this.#checkDrained(member)
  }

  /** A planned switchover ends no transaction that is shorter than switchover_drain_ms_max. */
  #checkDrained(member: Member): void {
    for (const proxy of this.proxies) {
      const { primary, switchover } = proxy.pools.topology
      const isHolding = primary !== null && memberName(primary) === member.name && switchover?.holds
      const isLong = [...proxy.sessions.keys()].some(
        ({ transaction }) => this.clock.nowMs() - transaction.startedMs > 4000,
      )
      if (isHolding === true && !isLong && proxy.pools.writesRunning > 0)
        this.judge.breach(`${proxy.name}: ${proxy.pools.writesRunning} still run at the stop`)
    }
  }

  #heal(): void {
    if (this.judge.broken !== null) return
    this.trace('everything is healed')
    this.#isStopping = true
    for (const client of this.clients) client.isStopped = true
    const { etcd } = this.cluster
    etcd.cutFrom.clear()
    etcd.setUp(true)
    this.cluster.setPause(false)
    for (const member of this.cluster.members) {
      member.isAgentFrozen = false
      member.isAgentCut = false
      member.isReplayPaused = false
      if (member.isFrozen) this.cluster.thaw(member, false)
      for (const { name } of this.proxies)
        if (member.cutFrom.has(name)) this.cluster.cut(member, name, false)
    }
  }

  #isSettled(): boolean {
    if (this.judge.broken !== null) return true
    const { primary } = this.cluster
    const isAnswered = this.clients.every(({ isEnded, asked }) => isEnded || asked.length === 0)
    const believed = this.proxies.every(
      ({ pools }) => memberName(pools.topology.primary ?? '') === primary?.name,
    )
    return isAnswered && primary !== undefined && believed
  }

  #checkEnd(): void {
    if (this.judge.broken !== null) return
    const { primary } = this.cluster
    if (primary === undefined) {
      this.judge.breach('the simulated cluster did not recover')
      return
    }
    for (const { name, pools } of this.proxies)
      if (memberName(pools.topology.primary ?? '') !== primary.name)
        this.judge.breach(
          `${name} believes in ${pools.topology.primary}, not in ${primary.name}: ${pools.topology.missing}`,
        )
    for (const client of this.clients)
      if (!client.isEnded && client.asked.length > 0)
        this.judge.breach(
          `${client.name} has no answer to ${JSON.stringify(client.asked)} in state ${client.session?.state}`,
        )
    const lost = this.judge.lost(primary.head)
    if (this.shape.isSynchronous && lost.length > 0)
      this.judge.breach(`lost though replicated: ${lost.join(', ')}`)
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((all, one) => all + one, 0)
}

function shapeOf(chance: Chance): Omit<Shape, 'isShared'> {
  return {
    proxies: chance.is(0.35) ? 2 : 1,
    source: chance.is(0.12) ? 'static' : 'etcd',
    ttlMs: chance.is(0.4) ? 12_000 : 6000,
    holdMsMax: chance.is(0.3) ? 5000 : null,
    hasHook: chance.is(0.5),
    isSynchronous: chance.is(0.5),
    isFailsafe: chance.is(0.3),
  }
}

function iniOf({ source, ttlMs, holdMsMax, isShared }: Shape): string {
  const hosts = 'hosts = pg1:5432, pg2:5432, pg3:5432'
  const etcd = `scope = demo\netcd_hosts = http://etcd1:2379, http://etcd2:2379\nttl_ms = ${ttlMs}`
  return `[databases]
kept = pool_mode=session pool_size=4
* =
[pgbouncer]
pool_mode = transaction
default_pool_size = ${isShared ? 1 : 2}
reserve_pool_size = ${isShared ? 0 : 1}
reserve_pool_timeout = 1
query_wait_timeout = 20
server_check_delay = 3
server_idle_timeout = 15
[cluster]
source = ${source}
${source === 'static' ? hosts : etcd}
[pgsteer]
hold_waiters_max = ${isShared ? 12 : 6}
multiplex_reads = ${isShared ? 'auto' : 'off'}
multiplex_behind_ms_max = 100
${holdMsMax === null ? '' : `failover_hold_ms_max = ${holdMsMax}`}
`
}
