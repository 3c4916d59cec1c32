/**
 * What a worker tells of its servers and pools when asked: plain values that cross a process
 * boundary and can be added up. Names follow SHOW POOLS; all durations are milliseconds.
 */
import type { ServerState } from './states.ts'
import type { WaitReason } from './waiter.ts'

export interface ServerFacts {
  readonly id: number
  readonly database: string
  readonly user: string
  readonly member: string
  readonly role: 'primary' | 'replica' | 'plain'
  readonly state: ServerState
  readonly address: string
  readonly port: number
  readonly localAddress: string
  readonly localPort: number
  /** Milliseconds since 1970. */
  readonly connectedWallMs: number
  readonly requestWallMs: number
  readonly isDoomed: boolean
  /** Id of the client that holds it, or null. */
  readonly clientId: number | null
  /** Reads of clients that share it, on their way now; null: nobody shares it. */
  readonly riders: number | null
  readonly processId: number
  /** Protocol version and cipher as SHOW SERVERS prints them, or ''. */
  readonly tls: string
  readonly applicationName: string
  readonly preparedStatements: number
  readonly replication: 'none' | 'logical' | 'physical'
}

/** One pool of one member: the lengths of its lists. */
export interface MemberPoolFacts {
  readonly member: string
  readonly role: 'primary' | 'replica' | 'plain'
  readonly active: number
  readonly idle: number
  readonly used: number
  readonly tested: number
  readonly login: number
  readonly activeCancel: number
  readonly beingCanceled: number
  readonly size: number
}

/** Why clients of a pool wait: for a server to come free, or for the cluster. */
export interface WaitFacts {
  readonly waiting: number
  readonly held: number
  readonly heldBytes: number
  readonly oldestWaitMs: number
  readonly reasons: readonly WaitReasonFacts[]
}

/** Those who wait for the same thing. */
export interface WaitReasonFacts {
  readonly reason: WaitReason
  readonly clients: number
  /** Of what they sent so far. */
  readonly bytes: number
  readonly oldestMs: number
}

export interface PoolFacts {
  readonly database: string
  readonly user: string
  readonly poolMode: 'session' | 'transaction' | 'statement'
  readonly poolSize: number
  readonly isRouted: boolean
  readonly isPaused: boolean
  readonly isDisabled: boolean
  readonly loadBalanceHosts: string
  readonly members: readonly MemberPoolFacts[]
  readonly waits: WaitFacts
  /** Totals since the start: servers opened, and closed by reason (a bounded set of words). */
  readonly serversOpened: number
  readonly serversClosed: Readonly<Record<string, number>>
  readonly loginFailures: number
}
