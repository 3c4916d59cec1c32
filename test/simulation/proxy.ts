/**
 * One instance of the proxy in the simulated world: the real watcher with its probes and its source,
 * the real pools and sessions, whose outside is simulated. After every step it is asked whether it
 * keeps the invariants that can be seen in one instance.
 */
import { ProxyError } from '../../src/base/errors.ts'
import { createLog } from '../../src/base/log.ts'
import { Carriage } from '../../src/client/carriage.ts'
import { Carriages } from '../../src/client/carriages.ts'
import { ClientCounters } from '../../src/client/counters.ts'
import { Session } from '../../src/client/session.ts'
import type { Direct } from '../../src/cluster/direct.ts'
import type { Topology } from '../../src/cluster/topology.ts'
import { Watcher } from '../../src/cluster/watcher.ts'
import type { Config } from '../../src/config/config.ts'
import type { Channel } from '../../src/net/channel.ts'
import { Statements } from '../../src/routing/statements.ts'
import { ServerConnection } from '../../src/server/connection.ts'
import { Pools } from '../../src/server/pools.ts'
import { PreparedRegistry } from '../../src/server/prepared.ts'
import { NO_SETTINGS } from '../../src/server/settings.ts'
import type { OpenedServer, ServerTarget } from '../../src/server/target.ts'
import { Backend } from './backend.ts'
import type { Chance } from './chance.ts'
import type { SimulatedClient } from './client.ts'
import type { SimulationClock } from './clock.ts'
import type { Cluster, Member } from './cluster.ts'
import { Ear } from './etcd.ts'
import { Invariants } from './invariants.ts'
import type { Judge } from './judge.ts'
import { Link } from './network.ts'
import { answerRow } from './probes.ts'
import { WithServer } from './sight.ts'

const SUSPICION_MS = 2000
/** How long Patroni waits for its hook. */
const HOOK_MS_MAX = 6000

export interface Surroundings {
  readonly clock: SimulationClock
  readonly chance: Chance
  readonly judge: Judge
  readonly cluster: Cluster
  readonly trace: (text: string) => void
}

export class SimulatedProxy {
  readonly name: string
  readonly ear: Ear
  readonly pools: Pools
  readonly watcher: Watcher
  readonly config: Config
  readonly sessions = new Map<Session, SimulatedClient>()
  readonly #around: Surroundings
  readonly #invariants: Invariants
  readonly #log = createLog({ level: 'silent', format: 'json' })
  readonly #registry = new PreparedRegistry()
  readonly counters = new ClientCounters()
  readonly #carriages: Carriages
  readonly #statements = new Statements(1000)
  readonly #backends = new Map<unknown, Backend>()
  readonly #seen = new WeakMap<object, WithServer>()
  #primary: string | null = null
  #processId = 0
  #isBusy = false
  #suspectUntilMs = 0

  constructor(name: string, config: Config, around: Surroundings) {
    this.name = name
    this.ear = new Ear(name)
    this.config = config
    this.#around = around
    this.#carriages = new Carriages(around.clock, (run) => around.clock.after(0, run))
    this.pools = this.#newPools()
    this.watcher = this.#newWatcher()
    this.#invariants = new Invariants(this, around)
  }

  async start(): Promise<void> {
    const { clock } = this.#around
    await this.watcher.start()
    clock.every(333, () => {
      for (const session of this.sessions.keys()) session.checkTime(clock.nowMs())
      this.#setPace()
    })
  }

  check(): void {
    this.#invariants.check()
  }

  /** What the operator does when it is asked for. */
  reconnectIfTold(): void {
    if (!this.pools.topology.missing.includes('RECONNECT')) return
    this.#invariants.forget()
    this.watcher.forget()
  }

  /** What Patroni's hook is told when it calls `POST /api/drain`: nothing, late. */
  async drain(member: Member): Promise<void> {
    const { clock, chance } = this.#around
    const sleep = (ms: number): Promise<void> =>
      new Promise((resolve) => {
        clock.after(ms, resolve)
      })
    await sleep(chance.between(0, 10))
    const isReachable = member.isReachableFrom(this.name)
    if (!isReachable) return sleep(HOOK_MS_MAX)
    if (this.watcher.drain(member.name) !== 'holds') return
    // The workers know of it before they are asked what runs.
    await sleep(5)
    await this.pools.writesEnded(this.config.pgsteer.switchoverDrainMsMax)
  }

  accept(client: SimulatedClient, id: number, onClosed: () => void): void {
    const database = client.isKept ? 'kept' : 'app'
    const pool = this.pools.pool(database, 'alice', { kind: 'plain', password: 'x' })
    const { clock, trace } = this.#around
    const session = new Session({
      id,
      channel: client.link as unknown as Channel,
      user: 'alice',
      database,
      pool,
      baseline: NO_SETTINGS,
      welcome: new Map([
        ['standard_conforming_strings', 'on'],
        ['client_encoding', 'UTF8'],
      ]),
      services: {
        clock,
        log: this.#log,
        pools: this.pools,
        registry: this.#registry,
        counters: this.counters,
        carriages: this.#carriages,
        config: () => this.config,
        statements: () => this.#statements,
        onSessionClosed: (closed, reason) => {
          trace(`${client.name} is closed: ${reason}`)
          this.sessions.delete(closed)
          pool.leave()
          onClosed()
        },
      },
    })
    client.session = session
    client.link.events = {
      sending: (bytes) => this.#invariants.answering(session, client.told.take(bytes)),
      arriving: () => {},
      closing: () => {},
    }
    this.sessions.set(session, client)
    pool.join()
    session.begin()
  }

  #newPools(): Pools {
    const { clock, chance } = this.#around
    return new Pools({
      config: this.config,
      clock,
      log: this.#log,
      connect: (target) => this.#connect(target),
      cancel: (server) => this.#cancel(server),
      onBusy: (isBusy) => {
        this.#isBusy = isBusy
        this.#setPace()
      },
      onServerLost: () => {
        this.#suspectUntilMs = clock.nowMs() + SUSPICION_MS
        this.#setPace()
      },
      random: chance.next,
    })
  }

  #newWatcher(): Watcher {
    const { clock, cluster } = this.#around
    const { cluster: config, pgsteer } = this.config
    if (config === null) throw new Error('the simulation has a cluster')
    return new Watcher({
      cluster: config,
      limits: pgsteer,
      memberAddress: 'conn_url',
      clock,
      log: this.#log,
      publish: (topology) => this.#published(topology),
      outside: {
        openDirect: (address) => this.#probe(address.host),
        endpoint: (url) => cluster.etcd.endpoint(url, this.ear),
        rest: () => ({ json: (url) => this.#witness(url) }),
      },
    })
  }

  #setPace(): void {
    this.watcher.setBusy(this.#isBusy || this.#around.clock.nowMs() < this.#suspectUntilMs)
  }

  #published(topology: Topology): void {
    const { clock, chance, trace } = this.#around
    this.#invariants.published(topology)
    if (this.#primary !== topology.primary)
      trace(`${this.name}: term ${topology.term}, primary ${topology.primary} ${topology.missing}`)
    this.#primary = topology.primary
    clock.after(chance.between(0, 3), () => {
      if (topology.serial > this.pools.topology.serial) this.pools.setTopology(topology)
    })
  }

  // What it reaches outside.

  /** Most log-ins are quick. */
  #connect(target: ServerTarget): Promise<OpenedServer> {
    const { clock, chance, cluster } = this.#around
    const member = cluster.member(target.identity.host)
    return new Promise((resolve, reject) => {
      const timer = clock.after(target.deadlineMs, () =>
        reject(new ProxyError('server_connect_timeout')),
      )
      clock.after(chance.is(0.03) ? chance.between(0, 3000) : chance.between(0.5, 8), () => {
        if (member?.isReachableFrom(this.name) !== true) return
        timer.cancel()
        if (!member.isUp) reject(new ProxyError('server_connect', { reason: 'ECONNREFUSED' }))
        else resolve(this.#open(member, target))
      })
    })
  }

  #open(member: Member, { identity }: ServerTarget): OpenedServer {
    const { clock, chance, cluster, judge } = this.#around
    const link = new Link({ clock, chance, latencyMs: 0.2, owner: this.name })
    const place = (): string =>
      `${member.name} (${member.isInRecovery ? 'replica' : 'primary'}, connection of the ${identity.role} of ${this.name})`
    const backend = new Backend(member, link, {
      clock,
      chance,
      cluster,
      events: {
        executes: (id, { isReadOnly }) =>
          judge.executes(id, !member.isInRecovery && !isReadOnly, member.name),
        commits: (ids, record) => judge.commits(ids, record),
        snapshot: (record) => judge.snapshot(record, place()),
        breach: (what) => judge.breach(what),
      },
    })
    this.#backends.set(link, backend)
    const seen = new WithServer()
    this.#seen.set(link, seen)
    link.events = {
      sending: (bytes) => {
        this.#invariants.sending(serverOf(link)?.identity ?? identity, bytes)
        seen.sending(bytes)
      },
      arriving: (bytes) => {
        seen.arriving(bytes)
      },
      closing: () => this.#closing(link, seen),
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

  /** A session is about to be told that its server is gone. */
  #closing(link: Link, seen: WithServer): void {
    this.#backends.delete(link)
    const server = serverOf(link)
    const holder = server?.holder
    if (server === null) return
    if (holder instanceof Carriage) this.#closingShared(holder, seen, link.endedBy === 'proxy')
    if (!(holder instanceof Session)) return
    const client = this.sessions.get(holder)
    if (client === undefined) return
    const isOurs = link.endedBy === 'proxy'
    const isMemberGone = this.#isGone(server)
    if (holder.server !== server) this.#closingKept(holder, client)
    else if (holder.state === 'active')
      client.loses(seen, { role: server.identity.role, isOurs, isMemberGone })
  }

  /** What it did for the first may be told of; who stood behind it was not begun. */
  #closingShared(carriage: Carriage, seen: WithServer, isOurs: boolean): void {
    for (const [session, client] of this.sessions) {
      if (session.riding.carriage !== carriage) continue
      const { role } = carriage.server.identity
      const isMemberGone = this.#isGone(carriage.server)
      if (carriage.isFirst(session)) client.loses(seen, { role, isOurs, isMemberGone })
      else client.losesPlace(seen)
    }
  }

  /** Its session loses with it whatever is under way on another. */
  #closingKept(session: Session, client: SimulatedClient): void {
    const { server } = session
    const seen = server === null ? undefined : this.#seen.get(server.channel)
    if (server === null || seen === undefined || session.state !== 'active') client.losesKept()
    else client.loses(seen, { role: server.identity.role, isOurs: true, isMemberGone: false })
  }

  #isGone({ identity }: ServerConnection): boolean {
    return this.#around.cluster.member(identity.member)?.isUp !== true
  }

  #cancel(server: ServerConnection): Promise<void> {
    const { clock, chance, cluster } = this.#around
    const { holder } = server
    const name = this.#askerOf(holder)
    const member = cluster.member(server.identity.member)
    return new Promise((resolve, reject) => {
      const timer = clock.after(10_000, () => reject(new ProxyError('server_connect_timeout')))
      clock.after(chance.between(0, 30), () => {
        if (member?.isReachableFrom(this.name) !== true) return
        timer.cancel()
        const backend = this.#backends.get(server.channel)
        if (member.isUp) backend?.cancel(this.#isAwaited(holder, backend.runningFor) ? name : null)
        clock.after(chance.between(0, 5), resolve)
      })
    })
  }

  /** Whose statement a cancel request is for. */
  #askerOf(holder: unknown): string {
    if (holder instanceof Session) return `c${holder.clientId}`
    if (!(holder instanceof Carriage)) return ''
    const first = [...this.sessions.keys()].find((session) => holder.isFirst(session))
    return first === undefined ? '' : `c${first.clientId}`
  }

  /** Of what runs on a shared server for nobody anybody's may be cancelled. */
  #isAwaited(holder: unknown, client: string | null): boolean {
    if (!(holder instanceof Carriage)) return true
    return [...this.sessions.keys()].some(
      ({ clientId, riding }) => `c${clientId}` === client && riding.carriage === holder,
    )
  }

  #witness(url: string): Promise<unknown> {
    const { clock, chance, cluster } = this.#around
    const member = cluster.member(/\/\/(\w+):/.exec(url)?.[1] ?? null)
    return new Promise((resolve, reject) => {
      clock.after(chance.between(0, 5), () => {
        const isHere = member?.isReachableFrom(this.name) === true && !member.isAgentFrozen
        if (!isHere) reject(new Error('no answer'))
        else if (!cluster.isWitnessed(member)) reject(new Error('answered 503'))
        else resolve({ failsafe_mode_is_active: cluster.isVouchedFor(member) })
      })
    })
  }

  #probe(host: string): Direct {
    const { clock, chance, cluster } = this.#around
    const member = cluster.member(host)
    const failures: ((error: Error) => void)[] = []
    let isDropped = false
    const answer = <T>(make: () => T): Promise<T> =>
      new Promise((resolve, reject) => {
        clock.after(chance.between(0.2, chance.is(0.01) ? 900 : 5), () => {
          if (isDropped || member?.isReachableFrom(this.name) !== true) return
          if (member.isUp) resolve(make())
          else reject(Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' }))
        })
      })
    const lose = (): void => {
      if (isDropped || member?.isReachableFrom(this.name) !== true) return
      direct.lost ??= Object.assign(new Error('terminating connection'), { code: '57P01' })
      for (const fail of failures.splice(0)) fail(direct.lost)
    }
    member?.on('stopped', lose)
    const client = {
      connect: () => answer(() => undefined),
      query: () =>
        answer(() => ({ rows: [member === undefined ? {} : answerRow(member, chance)] })),
      once: (_event: string, fail: (error: Error) => void) => failures.push(fail),
    }
    const drop = (): void => {
      isDropped = true
      member?.off('stopped', lose)
    }
    const direct = { client, address: { host, port: 5432 }, lost: null, drop } as unknown as Direct
    return direct
  }
}

function serverOf(link: Link): ServerConnection | null {
  const { receiver } = link
  return receiver instanceof ServerConnection ? receiver : null
}
