/**
 * The servers of one pool at one member, in lists by state. State is membership: `move` is the only
 * way to change it, and SHOW POOLS counts the lists. Decides nothing.
 *
 *     openings ──► idle ──► active ──► idle       idle: oldest first, taken from the end
 *                   │  ▲
 *                used  tested
 */

import type { ProxyError } from '../base/errors.ts'
import { invariant } from '../base/invariant.ts'
import type { Queue } from '../base/queue.ts'
import type { Address } from '../net/dial.ts'
import { Bag } from './bag.ts'
import type { Carrier } from './boarding.ts'
import type { ServerConnection } from './connection.ts'
import type { MemberPoolFacts } from './facts.ts'
import type { Slot } from './limits.ts'
import type { Settings } from './settings.ts'
import { mayBecome, type ServerState } from './states.ts'
import type { Ticket } from './tickets.ts'

export type PoolRole = 'primary' | 'replica' | 'plain'

/** A log-in under way. */
export interface Opening {
  readonly sinceMs: number
  readonly role: PoolRole
  readonly term: number
}

/** The last log-in failed; none is tried before `retryAtMs`. */
export interface Failure {
  readonly error: ProxyError
  /** Trying again will not help: the server itself refuses this user or database. */
  readonly isFinal: boolean
  readonly retryAtMs: number
  /** In a row. */
  readonly count: number
}

/** Free servers looked at for one whose settings are equal already. */
const SETTINGS_LOOK_MAX = 16

export class MemberPool {
  readonly slot: Slot
  /** Several for a plain entry with a list of hosts. */
  addresses: readonly Address[]
  /** What the topology says now. */
  role: PoolRole
  /** Those who must be served by this member. */
  readonly waiters: Queue<Ticket>
  readonly openings = new Set<Opening>()
  /** Its active servers that several sessions share. */
  readonly carriers: Carrier[] = []
  failure: Failure | null = null
  /** The next entry of `addresses` to try. */
  addressIndex = 0
  lastLifetimeCloseMs = Number.NEGATIVE_INFINITY
  /** Servers under way that nobody counts on yet; a note of supply.ts to itself. */
  spare = 0
  /** The member left the topology or the configuration. */
  isGone = false
  readonly #idle: ServerConnection[] = []
  readonly #others = {
    used: new Set<ServerConnection>(),
    tested: new Set<ServerConnection>(),
    active: new Bag<ServerConnection>(),
    active_cancel: new Set<ServerConnection>(),
  }

  constructor(slot: Slot, role: PoolRole, options: MemberPoolOptions) {
    this.slot = slot
    this.role = role
    this.addresses = options.addresses
    this.waiters = options.waiters
  }

  get name(): string {
    return this.slot.member
  }

  /** Servers that exist. */
  get serverCount(): number {
    const { used, tested, active, active_cancel } = this.#others
    return this.#idle.length + used.size + tested.size + active.size + active_cancel.size
  }

  /** Servers and openings: what pool_size bounds. */
  get size(): number {
    return this.serverCount + this.openings.size
  }

  get idleCount(): number {
    return this.#idle.length
  }

  count(state: Exclude<ServerState, 'login' | 'idle' | 'closed'>): number {
    return this.#others[state].size
  }

  /** Sessions that it serves or that wait for it. */
  get outstanding(): number {
    return this.#others.active.size + this.waiters.length
  }

  servers(): readonly ServerConnection[] {
    const { used, tested, active, active_cancel } = this.#others
    return [...this.#idle, ...used, ...tested, ...active, ...active_cancel]
  }

  inState(state: Exclude<ServerState, 'login' | 'closed'>): readonly ServerConnection[] {
    return state === 'idle' ? [...this.#idle] : [...this.#others[state]]
  }

  /** The free server that was not used for longest. */
  get oldestFree(): ServerConnection | undefined {
    const [used] = this.#others.used
    return used ?? this.#idle[0]
  }

  /** The only place where a server's state changes. A server in state login is in no list yet. */
  move(server: ServerConnection, state: ServerState, nowMs: number): void {
    // The text is made only when it is wanted: this runs twice per query.
    if (!mayBecome(server.state, state))
      invariant(false, `a server moves from ${server.state} to ${state}`)
    this.#leave(server)
    server.state = state
    server.stateSinceMs = nowMs
    if (state === 'idle') this.#idle.push(server)
    else if (state === 'active') this.#others.active.add(server)
    else if (state !== 'closed' && state !== 'login') this.#others[state].add(server)
  }

  /**
   * A free server that `fits`, or null. Prefers one whose settings are the wanted object.
   *
   * `isRoundRobin`  the one unused longest instead of the last one used.
   */
  idleFor(
    settings: Settings,
    isRoundRobin: boolean,
    fits: (server: ServerConnection) => boolean,
  ): ServerConnection | null {
    const { length } = this.#idle
    let found: ServerConnection | null = null
    let looked = 0
    for (let step = 0; step < length && looked < SETTINGS_LOOK_MAX; step += 1) {
      const server = this.#idle[isRoundRobin ? step : length - 1 - step]
      if (server === undefined || !fits(server)) continue
      if (server.settings === settings) return server
      found ??= server
      looked += 1
    }
    return found
  }

  /** The last log-in failed, and it is too early for the next. */
  isFailing(nowMs: number): boolean {
    return this.failure !== null && nowMs < this.failure.retryAtMs
  }

  /**
   * Servers that were opened together do not end together: one per part of the lifetime. A lifetime
   * of 0 is one use.
   * Source  PgBouncer's life_over.
   */
  isLifeOver(server: ServerConnection, limits: LifeLimits): boolean {
    const { serverLifetimeMs, poolSize, nowMs } = limits
    const isNew = serverLifetimeMs === 0 && server.requestMs === 0
    if (isNew || nowMs - server.openedMs < serverLifetimeMs) return false
    const gapMs = poolSize > 0 ? serverLifetimeMs / poolSize : 0
    return nowMs - this.lastLifetimeCloseMs >= gapMs
  }

  facts(poolSize: number): MemberPoolFacts {
    let beingCanceled = 0
    for (const server of this.#others.active) if (server.cancelsUnderWay > 0) beingCanceled += 1
    return {
      member: this.name,
      role: this.role,
      active: this.#others.active.size,
      idle: this.#idle.length,
      used: this.#others.used.size,
      tested: this.#others.tested.size,
      login: this.openings.size,
      activeCancel: this.#others.active_cancel.size,
      beingCanceled,
      size: poolSize,
    }
  }

  #leave(server: ServerConnection): void {
    const { state } = server
    if (state === 'login') return
    if (state === 'idle') {
      // Usually it is the one used last.
      if (this.#idle.at(-1) === server) {
        this.#idle.pop()
        return
      }
      const index = this.#idle.lastIndexOf(server)
      invariant(index !== -1, 'an idle server is in the idle list')
      this.#idle.splice(index, 1)
      return
    }
    invariant(state !== 'closed', 'a closed server does not move')
    invariant(this.#others[state].delete(server), 'a server is in the list of its state')
  }
}

/** A used server was idle for `server_check_delay` before it became used. */
export function freeSinceMs(server: ServerConnection, serverCheckDelayMs: number): number {
  return server.stateSinceMs - (server.state === 'used' ? serverCheckDelayMs : 0)
}

export interface LifeLimits {
  readonly serverLifetimeMs: number
  readonly poolSize: number
  readonly nowMs: number
}

export interface MemberPoolOptions {
  readonly addresses: readonly Address[]
  readonly waiters: Queue<Ticket>
}
