/**
 * The whole proxy in a simulated world: the real watcher with its probes and its etcd source, the
 * real pools and sessions, on a clock, a network and a cluster that are not there. `run` lets things
 * go wrong for a while, heals everything, and looks at the invariants after every step.
 */

import { ProxyError } from '../../src/base/errors.ts'
import { createLog } from '../../src/base/log.ts'
import { ClientCounters } from '../../src/client/counters.ts'
import { Session } from '../../src/client/session.ts'
import type { Direct } from '../../src/cluster/direct.ts'
import type { Topology } from '../../src/cluster/topology.ts'
import { Watcher } from '../../src/cluster/watcher.ts'
import type { Config } from '../../src/config/config.ts'
import type { Channel } from '../../src/net/channel.ts'
import { Statements } from '../../src/routing/statements.ts'
import type { ServerConnection } from '../../src/server/connection.ts'
import type { Pool } from '../../src/server/pool.ts'
import { Pools } from '../../src/server/pools.ts'
import { PreparedRegistry } from '../../src/server/prepared.ts'
import { NO_SETTINGS } from '../../src/server/settings.ts'
import type { OpenedServer, ServerTarget } from '../../src/server/target.ts'
import { configFrom } from '../support/config.ts'
import { Backend } from './backend.ts'
import { Chance } from './chance.ts'
import { SimulatedClient } from './client.ts'
import { SimulationClock } from './clock.ts'
import { Cluster, type Member, SYSTEM_IDENTIFIER } from './cluster.ts'
import { misfortune } from './faults.ts'
import { Judge } from './judge.ts'
import { Link } from './network.ts'

const CHAOS_MS = 30_000
/** Hold, lease, log-ins and the slowest statement. */
const HEALING_MS = 60_000
const TRACE_MAX = 60
const CLIENTS = 8
const HOLD_WAITERS_MAX = 6
const SUSPICION_MS = 2000
const INI = `[databases]
* =
[pgbouncer]
pool_mode = transaction
default_pool_size = 2
reserve_pool_size = 1
reserve_pool_timeout = 1
query_wait_timeout = 20
server_check_delay = 3
server_idle_timeout = 15
[cluster]
source = etcd
scope = demo
etcd_hosts = http://etcd1:2379, http://etcd2:2379
ttl_ms = 6000
[pgsteer]
hold_waiters_max = ${HOLD_WAITERS_MAX}
`

export interface Outcome {
  readonly broken: string | null
  readonly trace: readonly string[]
  readonly counts: Judge['counts']
  readonly steps: number
}

export class SimulatedWorld {
  readonly clock = new SimulationClock()
  readonly chance: Chance
  readonly judge = new Judge()
  readonly cluster: Cluster
  readonly clients: SimulatedClient[] = []
  readonly pools: Pools
  readonly #config: Config = configFrom(INI)
  readonly #log = createLog({ level: 'silent', format: 'json' })
  readonly #watcher: Watcher
  readonly #registry = new PreparedRegistry()
  readonly #counters = new ClientCounters()
  readonly #statements = new Statements(1000)
  readonly #sessions = new Set<Session>()
  readonly #trace: string[] = []
  readonly #isSynchronous: boolean
  #topology: Topology | null = null
  #isStopping = false
  #processId = 0
  #isBusy = false
  #suspectUntilMs = 0
  #steps = 0

  constructor(seed: number) {
    this.chance = new Chance(seed)
    this.#isSynchronous = this.chance.is(0.5)
    const tools = {
      clock: this.clock,
      chance: this.chance,
      trace: (text: string) => this.trace(text),
    }
    this.cluster = new Cluster(tools, this.#isSynchronous)
    this.cluster.isFailsafe = this.chance.is(0.3)
    this.pools = this.#newPools()
    this.#watcher = this.#newWatcher()
  }

  trace(text: string): void {
    this.#trace.push(`${(this.clock.nowMs() / 1000).toFixed(3)} ${text}`)
    if (this.#trace.length > TRACE_MAX) this.#trace.shift()
  }

  async run(): Promise<Outcome> {
    try {
      await this.#watcher.start()
      this.clock.every(333, () => {
        for (const session of this.#sessions) session.checkTime(this.clock.nowMs())
        this.#setPace()
      })
      await this.#until(this.clock.nowMs() + 2000)
      for (let index = 0; index < CLIENTS; index += 1) this.#arrive()
      const endMs = this.clock.nowMs() + CHAOS_MS
      misfortune(this, endMs)
      await this.#until(endMs)
      this.#heal()
      await this.#until(this.clock.nowMs() + HEALING_MS)
      this.#checkEnd()
    } catch (error) {
      this.judge.breach(error instanceof Error ? (error.stack ?? error.message) : String(error))
    }
    await this.#watcher.stop()
    return {
      broken: this.judge.broken,
      trace: this.#trace,
      counts: this.judge.counts,
      steps: this.#steps,
    }
  }

  async #until(untilMs: number): Promise<void> {
    while (this.judge.broken === null && this.clock.step(untilMs)) {
      this.#steps += 1
      for (let turn = 0; turn < 24; turn += 1) await Promise.resolve()
      this.#check()
    }
  }

  // The proxy.

  #newPools(): Pools {
    return new Pools({
      config: this.#config,
      clock: this.clock,
      log: this.#log,
      connect: (target) => this.#connect(target),
      cancel: (server) => this.#cancel(server),
      onBusy: (isBusy) => {
        this.#isBusy = isBusy
        this.#setPace()
      },
      onServerLost: () => {
        this.#suspectUntilMs = this.clock.nowMs() + SUSPICION_MS
        this.#setPace()
      },
      random: this.chance.next,
    })
  }

  #newWatcher(): Watcher {
    const { cluster } = this.#config
    if (cluster === null) throw new Error('the simulation has a cluster')
    return new Watcher({
      cluster,
      limits: this.#config.pgsteer,
      memberAddress: 'conn_url',
      clock: this.clock,
      log: this.#log,
      publish: (topology) => this.#published(topology),
      outside: {
        openDirect: (address) => this.#probe(address.host),
        endpoint: (url) => this.cluster.etcd.endpoint(url),
        rest: () => ({
          json: (url) => this.#witness(url),
        }),
      },
    })
  }

  #setPace(): void {
    this.#watcher.setBusy(this.#isBusy || this.clock.nowMs() < this.#suspectUntilMs)
  }

  #published(topology: Topology): void {
    const before = this.#topology
    this.#topology = topology
    if (before !== null) this.#compare(before, topology)
    if (before?.primary !== topology.primary)
      this.trace(`topology: term ${topology.term}, primary ${topology.primary} ${topology.missing}`)
    this.clock.after(this.chance.between(0, 3), () => {
      if (topology.serial > this.pools.topology.serial) this.pools.setTopology(topology)
    })
  }

  #compare(before: Topology, now: Topology): void {
    if (now.term < before.term || now.serial <= before.serial)
      this.judge.breach('term and serial of the topology only grow')
    const isOther =
      before.primary !== null && now.primary !== null && before.primary !== now.primary
    if (isOther && now.term === before.term) this.judge.breach('another primary in the same term')
    if ((now.timeline ?? 0) < (before.timeline ?? 0)) this.judge.breach('the timeline goes back')
  }

  #arrive(): void {
    const pool = this.pools.pool('app', 'alice', { kind: 'plain', password: 'x' })
    const link = this.#link(0.3)
    const name = `c${this.clients.length + 1}`
    const client = new SimulatedClient(name, link, {
      clock: this.clock,
      chance: this.chance,
      judge: this.judge,
    })
    this.clients.push(client)
    const session = new Session({
      id: this.clients.length,
      channel: link as unknown as Channel,
      user: 'alice',
      database: 'app',
      pool,
      baseline: NO_SETTINGS,
      welcome: new Map([
        ['standard_conforming_strings', 'on'],
        ['client_encoding', 'UTF8'],
      ]),
      services: {
        clock: this.clock,
        log: this.#log,
        pools: this.pools,
        registry: this.#registry,
        counters: this.#counters,
        config: () => this.#config,
        statements: () => this.#statements,
        onSessionClosed: (closed, reason) => {
          this.trace(`${name} is closed: ${reason}`)
          this.#sessions.delete(closed)
          pool.leave()
          if (!this.#isStopping) this.clock.after(this.chance.between(0, 500), () => this.#arrive())
        },
      },
    })
    client.session = session
    client.isStopped = this.#isStopping
    this.#sessions.add(session)
    pool.join()
    session.begin()
  }

  // What the proxy reaches outside.

  #link(latencyMs: number): Link {
    return new Link({ clock: this.clock, chance: this.chance, latencyMs })
  }

  #connect(target: ServerTarget): Promise<OpenedServer> {
    const { clock, chance, cluster } = this
    const member = cluster.member(target.identity.host)
    return new Promise((resolve, reject) => {
      const timer = clock.after(target.deadlineMs, () =>
        reject(new ProxyError('server_connect_timeout')),
      )
      clock.after(chance.between(0.5, 8), () => {
        if (member === undefined || !member.isReachable) return
        timer.cancel()
        if (!member.isUp) reject(new ProxyError('server_connect', { reason: 'ECONNREFUSED' }))
        else resolve(this.#open(member, target))
      })
    })
  }

  #open(member: Member, { identity }: ServerTarget): OpenedServer {
    const link = this.#link(0.2)
    const backend = new Backend(member, link, {
      clock: this.clock,
      chance: this.chance,
      cluster: this.cluster,
      events: {
        executes: (id) => this.judge.executes(id, !member.isInRecovery, member.name),
        commits: (ids, record) => this.judge.commits(ids, record),
        snapshot: (record) =>
          this.judge.snapshot(
            record,
            `${member.name} (${member.isInRecovery ? 'replica' : 'primary'}, connection of the ${identity.role}, ${this.clock.nowMs()})`,
          ),
        breach: (what) => this.judge.breach(what),
      },
    })
    this.#backends.set(link, backend)
    link.events = {
      sending: (bytes) => this.#sending(identity, bytes),
      arriving: () => {},
      closing: () => {},
    }
    this.#processId += 1
    return {
      channel: link,
      parameters: new Map([
        ['in_hot_standby', member.isInRecovery ? 'on' : 'off'],
        ['default_transaction_read_only', 'off'],
      ]),
      processId: this.#processId,
      cancelSecret: Buffer.alloc(4),
    }
  }

  readonly #backends = new Map<unknown, Backend>()

  /** Nothing but a farewell goes to a primary's server of an older term. */
  #sending(identity: ServerConnection['identity'], bytes: Buffer): void {
    if (bytes[0] === 0x58 || identity.role !== 'primary') return
    const { term } = this.pools.topology
    if (identity.term !== term)
      this.judge.breach(`bytes for ${identity.member} of term ${identity.term} in term ${term}`)
  }

  #cancel(server: ServerConnection): Promise<void> {
    const { clock, chance } = this
    const holder = server.holder
    const name = holder instanceof Session ? `c${holder.clientId}` : ''
    const member = this.cluster.member(server.identity.member)
    return new Promise((resolve, reject) => {
      const timer = clock.after(10_000, () => reject(new ProxyError('server_connect_timeout')))
      clock.after(chance.between(0, 30), () => {
        if (member?.isReachable !== true) return
        timer.cancel()
        if (member.isUp) this.#backends.get(server.channel)?.cancel(name)
        clock.after(chance.between(0, 5), resolve)
      })
    })
  }

  #witness(url: string): Promise<unknown> {
    const member = this.cluster.member(/\/\/(\w+):/.exec(url)?.[1] ?? null)
    return new Promise((resolve, reject) => {
      this.clock.after(this.chance.between(0, 5), () => {
        const isHere = member?.isReachable === true && !member.isAgentFrozen
        if (!isHere) reject(new Error('no answer'))
        else if (!this.#isWitnessed(member)) reject(new Error('answered 503'))
        else resolve({ failsafe_mode_is_active: this.cluster.isVouchedFor(member) })
      })
    })
  }

  #isWitnessed(member: Member): boolean {
    const { etcd, isFailsafe } = this.cluster
    if (this.cluster.isVouchedFor(member)) return true
    const isLeading = member.isUp && !member.isInRecovery && etcd.leader === member.name
    return isLeading && (etcd.isUp || isFailsafe || member.blindSinceMs === null)
  }

  #probe(host: string): Direct {
    const member = this.cluster.member(host)
    const failures: ((error: Error) => void)[] = []
    let isDropped = false
    const answer = <T>(make: () => T): Promise<T> =>
      new Promise((resolve, reject) => {
        this.clock.after(this.chance.between(0.2, this.chance.is(0.01) ? 900 : 5), () => {
          if (isDropped || member?.isReachable !== true) return
          if (member.isUp) resolve(make())
          else reject(Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' }))
        })
      })
    const lose = (): void => {
      if (isDropped || member?.isReachable !== true) return
      direct.lost ??= Object.assign(new Error('terminating connection'), { code: '57P01' })
      for (const fail of failures.splice(0)) fail(direct.lost)
    }
    member?.on('stopped', lose)
    const client = {
      connect: () => answer(() => undefined),
      query: () => answer(() => ({ rows: [member === undefined ? {} : this.#row(member)] })),
      once: (_event: string, fail: (error: Error) => void) => failures.push(fail),
    }
    const drop = (): void => {
      isDropped = true
      member?.off('stopped', lose)
    }
    const direct = { client, address: { host, port: 5432 }, lost: null, drop } as unknown as Direct
    return direct
  }

  #row(member: Member): Record<string, string | null> {
    const { isInRecovery, head, replayed } = member
    const written = this.chance.is(0.3) ? (head.parent ?? head) : head
    const file = member.timeline.toString(16).padStart(8, '0').padEnd(24, '0')
    return {
      in_recovery: isInRecovery ? 't' : 'f',
      system_identifier: SYSTEM_IDENTIFIER,
      wal_file: isInRecovery ? null : file,
      write_lsn: isInRecovery ? null : lsnText(written.lsn),
      insert_lsn: isInRecovery ? null : lsnText(head.lsn),
      replay_lsn: isInRecovery ? lsnText(replayed.lsn) : null,
      receive_lsn: isInRecovery ? lsnText(head.lsn) : null,
      received_tli: isInRecovery ? String(head.timeline) : null,
      receiver_status: isInRecovery ? 'streaming' : null,
      control_tli: isInRecovery ? String(replayed.timeline) : null,
      started: String(member.startedMs),
    }
  }

  // Invariants.

  #check(): void {
    for (const session of this.#sessions) {
      const { server } = session
      if (server !== null && server.holder !== session)
        this.judge.breach('a session holds a server that is not its own')
    }
    const [pool] = this.#sessions
    if (pool !== undefined) this.#checkPool(pool.pool)
  }

  #checkPool(pool: Pool): void {
    const states = ['idle', 'used', 'tested', 'active', 'active_cancel'] as const
    const listed: ServerConnection[] = []
    const holders = new Set<unknown>()
    for (const home of pool.roster.members.values())
      for (const state of states)
        for (const server of home.inState(state)) {
          listed.push(server)
          if (server.state !== state)
            this.judge.breach(`a server in state ${server.state} is listed as ${state}`)
          if (server.holder !== null && holders.has(server.holder))
            this.judge.breach('a session holds two servers')
          if (server.holder !== null) holders.add(server.holder)
          if (state !== 'active' && server.holder !== null)
            this.judge.breach(`a server in state ${state} is held`)
          if (state === 'idle' && !server.isIdle) this.judge.breach('an idle server owes something')
        }
    if (new Set(listed).size !== listed.length) this.judge.breach('a server is in two lists')
    const held = pool.waiting.heldPrimary.length
    if (held > HOLD_WAITERS_MAX) this.judge.breach(`${held} sessions are held`)
  }

  #heal(): void {
    this.trace('everything is healed')
    this.#isStopping = true
    for (const client of this.clients) client.isStopped = true
    this.cluster.etcd.isReachable = true
    this.cluster.etcd.setUp(true)
    this.cluster.setPause(false)
    for (const member of this.cluster.members) {
      member.isAgentFrozen = false
      member.isAgentCut = false
      member.isReplayPaused = false
      if (member.isFrozen) this.cluster.thaw(member, false)
      if (member.isCut) this.cluster.cut(member, false)
    }
  }

  #checkEnd(): void {
    if (this.judge.broken !== null) return
    const { primary } = this.cluster
    if (primary === undefined) {
      this.judge.breach('the simulated cluster did not recover')
      return
    }
    if (this.pools.topology.primary !== primary.name)
      this.judge.breach(
        `the proxy believes in ${this.pools.topology.primary}, not in ${primary.name}: ${this.pools.topology.missing}`,
      )
    for (const client of this.clients)
      if (!client.isEnded && client.asked.length > 0)
        this.judge.breach(
          `${client.name} has no answer to ${JSON.stringify(client.asked)} in state ${client.session?.state}`,
        )
    const lost = this.judge.lost(primary.head)
    if (this.#isSynchronous && lost.length > 0)
      this.judge.breach(`lost though replicated: ${lost.join(', ')}`)
  }
}

function lsnText(lsn: bigint): string {
  return `${(lsn >> 32n).toString(16)}/${(lsn & 0xff_ff_ff_ffn).toString(16)}`
}
