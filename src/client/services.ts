/**
 * What the sessions of one worker share, handed over at construction.
 */
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { Config } from '../config/config.ts'
import type { Statements } from '../routing/statements.ts'
import type { Pools } from '../server/pools.ts'
import type { PreparedRegistry } from '../server/prepared.ts'
import type { ClientCounters } from './counters.ts'
import type { Session } from './session.ts'

export interface SessionServices {
  readonly clock: Clock
  readonly log: Log
  readonly pools: Pools
  readonly registry: PreparedRegistry
  readonly counters: ClientCounters
  /** The configuration in force. */
  config(): Config
  /** The classifications of one server database. */
  statements(database: string): Statements
  onSessionClosed(session: Session, reason: string): void
}
