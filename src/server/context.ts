/**
 * What all pools of a process share, as one pool sees it. Implemented by Pools.
 */
import type { Clock } from '../base/clock.ts'
import type { ProxyError } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { Config } from '../config/config.ts'
import type { Random } from './balance.ts'
import type { Bounds } from './bounds.ts'
import type { Inquests } from './inquest.ts'
import type { HoldLimits, Limits, Slot } from './limits.ts'
import type { TopologyView } from './placement.ts'
import type { Pool } from './pool.ts'
import type { Cancel, Connect } from './target.ts'

export interface PoolContext {
  readonly clock: Clock
  readonly log: Log
  readonly random: Random
  readonly connect: Connect
  readonly cancel: Cancel
  readonly config: Config
  readonly view: TopologyView
  readonly bounds: Bounds
  readonly limits: Limits
  readonly holds: HoldLimits
  readonly inquests: Inquests
  /** Reads that run on the primary, or wait for it, for want of a replica. */
  primaryReads: number
  /** Read once per turn of the janitor: good enough for the age of what is idle. */
  readonly tickMs: number
  nextServerId(): number
  isPaused(database: string): boolean
  isDisabled(database: string): boolean
  /** No session gets a server any more: the error to tell, or null. */
  readonly stopping: ProxyError | null
  /** Another process takes new clients: servers that nobody waits for are closed when they are free. */
  readonly isLeaving: boolean
  /**
   * Makes room for one more server of `pool`, by closing idle ones of other pools if need be.
   * Returns false when there is none; the pool is advanced when there may be again.
   */
  makeRoom(pool: Pool, slot: Slot): boolean
  /** A server or a log-in at the member ended. */
  onRoom(member: string): void
  /** A pool that was given up is in use again; false when its database is no more. */
  adopt(pool: Pool): boolean
  /** A server was lost that nobody closed: its member may be gone. */
  onServerLost(member: string): void
  /** A server refused the user's secret: a key learnt from the client is worth nothing. */
  onSecretRefused(database: string, user: string, error: ProxyError): void
}
