/**
 * All pools of a worker: what they share (topology, limits, holds, bounds), what an operator does to
 * them, and the janitor. Opens no connection itself and talks to no client.
 */
import type { ServerSecret } from '../auth/secret.ts'
import type { Clock, Timer } from '../base/clock.ts'
import { ProxyError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import { EMPTY_TOPOLOGY, type Topology } from '../cluster/topology.ts'
import { type Config, poolConfig } from '../config/config.ts'
import type { Random } from './balance.ts'
import { Bounds } from './bounds.ts'
import type { ServerConnection } from './connection.ts'
import type { PoolContext } from './context.ts'
import type { PoolFacts, ServerFacts } from './facts.ts'
import { Inquests } from './inquest.ts'
import { isForgettable, JANITOR_PERIOD_MS, sweepServers } from './janitor.ts'
import { type FullReason, HoldLimits, Limits, type Slot } from './limits.ts'
import { freeSinceMs } from './member-pool.ts'
import { viewOf } from './placement.ts'
import { Pool } from './pool.ts'
import { poolFacts, serversFacts, writesRunning } from './pool-facts.ts'
import type { Cancel, Connect } from './target.ts'
import type { Bound } from './waiter.ts'

export interface PoolsDeps {
  readonly config: Config
  readonly clock: Clock
  readonly log: Log
  readonly connect: Connect
  readonly cancel: Cancel
  /** Some session waits for an LSN bound: members are to be probed faster. Told on change only. */
  readonly onBusy: (isBusy: boolean) => void
  /** A server was lost that nobody closed: its member may be gone. */
  readonly onServerLost?: (member: string) => void
  /** A server refused the secret of this user: a key learnt from a client is worth nothing. */
  readonly onSecretRefused?: (database: string, user: string, error: ProxyError) => void
  readonly random?: Random
}

export type ShutdownMode = 'wait_for_clients' | 'wait_for_servers' | 'immediate'

/** How often it is looked whether writes have ended, while somebody waits for that. */
const DRAIN_LOOK_MS = 10

interface Awaited {
  isReached(): boolean
  resolve(): void
}

export class Pools {
  readonly #deps: PoolsDeps
  readonly #pools = new Map<string, Pool>()
  readonly #shared: Shared
  readonly #timer: Timer
  readonly #paused = new Set<string>()
  readonly #disabled = new Set<string>()
  /** Pools that found no room at a member, in order. */
  readonly #starved = new Map<string, Set<Pool>>()
  #awaited: Awaited[] = []
  #isAllPaused = false
  #leaseTimer: Timer | null = null
  #isBusy = false
  #isServingRoom = false
  #serverId = 0

  constructor(deps: PoolsDeps) {
    this.#deps = deps
    this.#shared = this.#shareWithPools()
    this.#timer = deps.clock.every(JANITOR_PERIOD_MS, () => this.#sweep())
  }

  /**
   * The pool of a log-in. `secret` is what can log in to servers as this user; the newest one that
   * can do so is kept.
   *
   * Errors  ProxyError `no_such_database`, `database_disabled`.
   */
  pool(database: string, user: string, secret: ServerSecret): Pool {
    // Of entries that there are: `setConfig` forgets the others.
    const known = this.#pools.get(keyOf(database, user))
    const config = known?.config ?? poolConfig(this.#shared.config, database, user)
    if (config === undefined) throw new ProxyError('no_such_database', { database })
    if (this.#disabled.has(database)) throw new ProxyError('database_disabled', { database })
    if (known !== undefined) {
      known.learnSecret(secret)
      return known
    }
    const pool = new Pool(config, secret, this.#shared)
    this.#pools.set(keyOf(database, user), pool)
    return pool
  }

  /** The bound of what was answered at `sinceMs`, or null while no later sample is known. */
  boundFor(sinceMs: number): Bound | null {
    return this.#shared.bounds.boundFor(sinceMs)
  }

  get topology(): Topology {
    return this.#shared.view.topology
  }

  setTopology(topology: Topology): void {
    const before = this.#shared.view
    this.#shared.view = viewOf(topology, leaseGuardOf(this.#shared.config))
    this.#watchLease()
    this.#shared.bounds.push(topology)
    this.#shared.inquests.onTopology(topology)
    const isSame = shapeOf(before.topology) === shapeOf(topology)
    for (const pool of this.#pools.values()) {
      if (isSame) pool.onSamples()
      else pool.onTopology()
    }
    this.#refreshBusy()
  }

  /** RELOAD: sizes and limits hold at once; changed connection details end servers in good order. */
  setConfig(config: Config): void {
    const isTlsSame = tlsOf(this.#shared.config) === tlsOf(config)
    this.#shared.config = config
    this.#shared.view = viewOf(this.topology, leaseGuardOf(config))
    for (const [key, pool] of this.#pools) {
      const changed = poolConfig(config, pool.database, pool.user)
      if (changed === undefined) {
        this.#pools.delete(key)
        pool.isForgotten = true
        pool.refuseAll(new ProxyError('database_removed'))
        pool.destroyAll('changed', new ProxyError('database_removed'))
      } else {
        if (!isTlsSame) pool.doom('changed')
        pool.setConfig(changed)
      }
    }
  }

  facts(): { pools: PoolFacts[]; servers: ServerFacts[] } {
    const pools = [...this.#pools.values()]
    return {
      pools: pools.map((pool) => poolFacts(pool, this.#shared)),
      servers: pools.flatMap((pool) => serversFacts(pool, this.#deps.clock)),
    }
  }

  /** Sessions with a statement or a transaction under way on the primary. */
  get writesRunning(): number {
    let count = 0
    for (const pool of this.#pools.values()) count += writesRunning(pool)
    return count
  }

  /**
   * Resolves when nothing runs on the primary any more, or after `withinMs`, with how much still
   * does. It keeps nothing from starting: that is what `switchover.holds` is for.
   */
  writesEnded(withinMs: number): Promise<number> {
    const { clock } = this.#deps
    const untilMs = clock.nowMs() + withinMs
    const { promise, resolve } = Promise.withResolvers<number>()
    const look = (): void => {
      const count = this.writesRunning
      if (count === 0 || clock.nowMs() >= untilMs) resolve(count)
      else clock.after(Math.min(DRAIN_LOOK_MS, untilMs - clock.nowMs()), look)
    }
    look()
    return promise
  }

  // What an operator does. Without a database: all of them.

  isPaused(database: string): boolean {
    return this.#isAllPaused || (this.#paused.size > 0 && this.#paused.has(database))
  }

  isDisabled(database: string): boolean {
    return this.#disabled.has(database)
  }

  /** Resolves when no server is left: those at work end when their session gives them back. */
  pause(database?: string): Promise<void> {
    if (database === undefined) this.#isAllPaused = true
    else this.#paused.add(database)
    for (const pool of this.#of(database)) {
      pool.fleet.closeFree('paused')
      pool.onPause()
    }
    return this.#until(() => this.#of(database).every((pool) => pool.fleet.size === 0))
  }

  resume(database?: string): void {
    if (database === undefined) {
      this.#isAllPaused = false
      this.#paused.clear()
    } else {
      this.#paused.delete(database)
    }
    for (const pool of this.#of(database)) pool.onPause()
  }

  /** New log-ins are refused; sessions go on. */
  disable(database: string): void {
    this.#disabled.add(database)
  }

  enable(database: string): void {
    this.#disabled.delete(database)
  }

  /** Every server of now is closed as soon as nobody holds it. */
  reconnect(database?: string): void {
    for (const pool of this.#of(database)) pool.doom('doomed')
    this.advance(database)
  }

  /** Cuts all servers off, refuses who waits, and leaves the database paused. */
  kill(database?: string): void {
    if (database === undefined) this.#isAllPaused = true
    else this.#paused.add(database)
    const error = new ProxyError('admin_disconnect')
    for (const pool of this.#of(database)) {
      pool.refuseAll(error)
      pool.destroyAll('killed', error)
    }
  }

  /** Resolves when no server is left that RECONNECT or RELOAD doomed. */
  waitClose(database?: string): Promise<void> {
    return this.#until(() => this.#of(database).every((pool) => !pool.fleet.hasDoomed))
  }

  /** Another process takes new clients: what nobody here waits for is closed, now and later. */
  leave(): void {
    this.#shared.isLeaving = true
    for (const pool of this.#pools.values())
      if (pool.waiting.length === 0) pool.fleet.closeFree('shutdown')
  }

  /** Resolves when the mode's condition is met: at once, or when no server is left. */
  shutdown(mode: ShutdownMode): Promise<void> {
    if (mode === 'wait_for_clients') return Promise.resolve()
    const error = new ProxyError('server_shutting_down')
    this.#shared.stopping = error
    for (const pool of this.#pools.values()) {
      pool.refuseAll(error)
      if (mode === 'immediate') pool.destroyAll('shutdown', error)
      else pool.fleet.closeFree('shutdown')
    }
    if (mode === 'immediate') this.#timer.cancel()
    return this.#until(() => this.#of().every((pool) => pool.fleet.size === 0))
  }

  advance(database?: string): void {
    for (const pool of this.#of(database)) pool.advance()
  }

  #of(database?: string): Pool[] {
    const pools = [...this.#pools.values()]
    return database === undefined ? pools : pools.filter((pool) => pool.database === database)
  }

  #until(isReached: () => boolean): Promise<void> {
    if (isReached()) return Promise.resolve()
    return new Promise((resolve) => {
      this.#awaited.push({ isReached, resolve })
    })
  }

  #checkAwaited(): void {
    if (this.#awaited.length === 0) return
    const reached = this.#awaited.filter((awaited) => awaited.isReached())
    this.#awaited = this.#awaited.filter((awaited) => !reached.includes(awaited))
    for (const awaited of reached) awaited.resolve()
  }

  /** One turn of the janitor. */
  #sweep(): void {
    this.#shared.tickMs = this.#deps.clock.nowMs()
    // Every pool looks for room below, and says so again if there is none.
    this.#starved.clear()
    for (const [key, pool] of this.#pools) {
      sweepServers(pool, this.#shared)
      pool.sweepWaits(this.#shared.tickMs)
      if (!isForgettable(pool, this.#shared)) continue
      pool.isForgotten = true
      this.#pools.delete(key)
    }
    this.#refreshBusy()
    this.#checkAwaited()
  }

  /**
   * At the end of the lease what works on the primary is cut off, whether or not the control
   * process is there to say so.
   */
  #watchLease(): void {
    this.#leaseTimer?.cancel()
    this.#leaseTimer = null
    const { writableUntilMs } = this.#shared.view.topology
    if (writableUntilMs === null) return
    const leftMs = writableUntilMs - this.#deps.clock.nowMs()
    if (leftMs <= 0) this.#cutWrites()
    else this.#leaseTimer = this.#deps.clock.after(leftMs, () => this.#watchLease())
  }

  #cutWrites(): void {
    const error = new ProxyError('primary_lost', { reason: 'nobody vouches for it any more' })
    for (const pool of this.#pools.values()) pool.fleet.cutPrimary(error)
  }

  /** A server of any pool is left at the member. */
  #isLiving(member: string): boolean {
    for (const { roster } of this.#pools.values())
      if ((roster.members.get(member)?.serverCount ?? 0) > 0) return true
    return false
  }

  #refreshBusy(): void {
    this.#setBusy(this.#shared.bounds.isBusy(this.#shared.view.eligible, this.#deps.clock.nowMs()))
  }

  #setBusy(isBusy: boolean): void {
    if (isBusy === this.#isBusy) return
    this.#isBusy = isBusy
    this.#deps.onBusy(isBusy)
  }

  #makeRoom(pool: Pool, slot: Slot): boolean {
    let reason: FullReason | null = null
    if (this.#shared.limits.mayLogIn(slot.member, this.#shared.config)) {
      do reason = this.#shared.limits.full(slot, pool.config, this.#shared.config)
      while (reason !== null && this.#evict(pool, slot, reason))
      if (reason === null) return true
    }
    const starved = this.#starved.get(slot.member) ?? new Set<Pool>()
    this.#starved.set(slot.member, starved.add(pool))
    return false
  }

  /** Closes the server that was idle longest among those that the limit counts. */
  #evict(pool: Pool, slot: Slot, reason: FullReason): boolean {
    const { serverCheckDelayMs } = this.#shared.config.pgbouncer
    let oldest: { readonly server: ServerConnection; readonly pool: Pool } | null = null
    let oldestMs = Number.POSITIVE_INFINITY
    for (const other of this.#pools.values()) {
      const member = other.roster.members.get(slot.member)
      const server = member?.oldestFree
      if (other === pool || member === undefined || server === undefined) continue
      if (reason === 'max_db_connections' && member.slot.database !== slot.database) continue
      if (reason === 'max_user_connections' && member.slot.user !== slot.user) continue
      const sinceMs = freeSinceMs(server, serverCheckDelayMs)
      if (sinceMs >= oldestMs) continue
      oldestMs = sinceMs
      oldest = { server, pool: other }
    }
    if (oldest === null) return false
    const wasServing = this.#isServingRoom
    this.#isServingRoom = true
    oldest.pool.fleet.close(oldest.server, 'evicted')
    this.#isServingRoom = wasServing
    return true
  }

  /** Pools that found no room before look again: first the one where somebody waits for longest. */
  #onRoom(member: string): void {
    const starved = this.#starved.get(member)
    if (starved !== undefined && !this.#isServingRoom) {
      this.#starved.delete(member)
      this.#isServingRoom = true
      const pools = [...starved].toSorted((one, other) => one.waitingSince - other.waitingSince)
      for (const pool of pools) pool.advance()
      this.#isServingRoom = false
    }
    this.#checkAwaited()
  }

  #adopt(pool: Pool): boolean {
    const config = poolConfig(this.#shared.config, pool.database, pool.user)
    if (config === undefined) return false
    pool.isForgotten = false
    let key = keyOf(pool.database, pool.user)
    // Its place may be taken: then the sessions that kept it go on with a second one.
    while (this.#pools.has(key)) key += '\0'
    this.#pools.set(key, pool)
    pool.setConfig(config)
    return true
  }

  #shareWithPools(): Shared {
    return {
      clock: this.#deps.clock,
      log: this.#deps.log,
      random: this.#deps.random ?? Math.random,
      connect: this.#deps.connect,
      cancel: this.#deps.cancel,
      bounds: new Bounds(() => this.#setBusy(true)),
      limits: new Limits(),
      holds: new HoldLimits(),
      inquests: new Inquests({
        clock: this.#deps.clock,
        isLiving: (member) => this.#isLiving(member),
      }),
      primaryReads: 0,
      config: this.#deps.config,
      view: viewOf(EMPTY_TOPOLOGY, 0),
      tickMs: this.#deps.clock.nowMs(),
      stopping: null,
      isLeaving: false,
      nextServerId: () => {
        this.#serverId += 1
        return this.#serverId
      },
      isPaused: (database) => this.isPaused(database),
      isDisabled: (database) => this.isDisabled(database),
      makeRoom: (pool, slot) => this.#makeRoom(pool, slot),
      onRoom: (member) => this.#onRoom(member),
      adopt: (pool) => this.#adopt(pool),
      onServerLost: (member) => this.#deps.onServerLost?.(member),
      onSecretRefused: (database, user, error) =>
        this.#deps.onSecretRefused?.(database, user, error),
    }
  }
}

/** The context as its owner sees it. */
type Shared = { -readonly [Key in keyof PoolContext]: PoolContext[Key] }

/** Without a cluster there is no lease. */
function leaseGuardOf(config: Config): number {
  return config.cluster?.leaseGuardMs ?? 0
}

function keyOf(database: string, user: string): string {
  return `${database}\0${user}`
}

/** What decides where sessions go, without the samples. */
function shapeOf(topology: Topology): string {
  const { term, primary, standbyCluster, switchover, members } = topology
  const shapes = members.map(({ name, host, port, eligible, cutBeforeMs, weight, zone }) => [
    name,
    host,
    port,
    eligible,
    cutBeforeMs,
    weight,
    zone,
  ])
  return JSON.stringify([term, primary, standbyCluster, switchover, shapes])
}

/** How connections to servers are secured; a change makes the old ones outdated. */
function tlsOf(config: Config): string {
  return JSON.stringify(
    Object.entries(config.pgbouncer).filter(([key]) => key.startsWith('serverTls')),
  )
}
