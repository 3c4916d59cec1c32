/**
 * What the sessions of one worker share, handed over at construction.
 */
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { Config } from '../config/config.ts'
import type { Channel } from '../net/channel.ts'
import type { Classified } from '../routing/classify.ts'
import type { Statements } from '../routing/statements.ts'
import type { Pool } from '../server/pool.ts'
import type { Pools } from '../server/pools.ts'
import type { PreparedRegistry } from '../server/prepared.ts'
import type { Settings } from '../server/settings.ts'
import type { Judge } from './batch.ts'
import type { Carriages } from './carriages.ts'
import type { ClientCounters } from './counters.ts'
import type { ForwardContext } from './forward.ts'
import type { Session } from './session.ts'
import type { Token } from './token.ts'

export interface SessionServices {
  readonly clock: Clock
  readonly log: Log
  readonly pools: Pools
  readonly registry: PreparedRegistry
  readonly counters: ClientCounters
  /** Servers that sessions share. */
  readonly carriages: Carriages
  /** The configuration in force. */
  config(): Config
  /** The classifications of one server database. */
  statements(database: string): Statements
  onSessionClosed(session: Session, reason: string): void
}

/** What a log-in gives to its session. */
export interface SessionSeed {
  readonly id: number
  readonly channel: Channel
  readonly user: string
  readonly database: string
  readonly pool: Pool
  /** What the startup packet asked for. */
  readonly baseline: Settings
  /** Its `pgsteer.min_lsn`. */
  readonly token?: Token | null
  /** The parameters that the client was told at its log-in. */
  readonly welcome: ReadonlyMap<string, string>
  readonly services: SessionServices
}

/** Judges by what is known of the database that the session's servers are connected to. */
export function judgeOf({ pool, services }: SessionSeed): Judge {
  let database = ''
  let statements: Statements | null = null
  const current = (): Statements => {
    const { serverDatabase } = pool.config
    if (statements !== null && serverDatabase === database) return statements
    database = serverDatabase
    statements = services.statements(database)
    return statements
  }
  return {
    classify: (text) => current().classify(text),
    judge: (bytes, start, end) => current().judge(bytes, start, end),
  }
}

/** What a session's forwarder works with. */
export function forwardContext(
  session: Session,
  onStatement: (classified: Classified) => void,
): ForwardContext {
  const { carried, classify, judge, meter, pins, prepared, services, transaction } = session
  const { disablePqexec, maxPacketSize, maxPreparedStatements } = services.config().pgbouncer
  return {
    prepared,
    settings: carried,
    transaction,
    pins,
    registry: services.registry,
    stats: meter.stats,
    preparedMax: maxPreparedStatements,
    frameBytesMax: maxPacketSize,
    isQueryAllowed: !disablePqexec,
    classify,
    judge,
    onStatement,
  }
}
