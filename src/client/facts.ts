/**
 * What a worker tells of its clients when asked: plain values that cross a process boundary and can
 * be added up. Counters follow SHOW STATS; times are microseconds there and milliseconds here.
 */
import type { HistogramCounts } from '../base/histogram.ts'

export type ClientState = 'login' | 'active' | 'idle' | 'waiting' | 'held' | 'closed'

export interface ClientFacts {
  readonly id: number
  readonly database: string
  readonly user: string
  readonly state: ClientState
  readonly address: string
  readonly port: number
  readonly localAddress: string
  readonly localPort: number
  /** Milliseconds since 1970. */
  readonly connectedWallMs: number
  readonly requestWallMs: number
  /** How long it has waited for a server by now, 0 when it does not wait. */
  readonly waitMs: number
  readonly closeNeeded: boolean
  readonly serverId: number | null
  readonly serverMember: string | null
  readonly tls: string
  readonly applicationName: string
  readonly preparedStatements: number
  readonly replication: 'none' | 'logical' | 'physical'
  /** Reason of the last route, of the pin, and of the wait; null when there is none. */
  readonly routeReason: string | null
  readonly pinReasons: readonly string[]
  readonly waitReason: string | null
  /** A cancel request of this client is waiting or on its way. */
  readonly cancels: number
}

/** Totals of one database since the start, as SHOW STATS_TOTALS counts them. */
export interface DatabaseStats {
  serverAssignments: number
  transactions: number
  queries: number
  bytesReceived: number
  bytesSent: number
  transactionMs: number
  queryMs: number
  waitMs: number
  clientParses: number
  serverParses: number
  binds: number
  clientLogins: number
}

export interface ClientsFacts {
  readonly clients: readonly ClientFacts[]
  /** Connections that have not logged in yet. */
  readonly loginClients: number
  readonly stats: Readonly<Record<string, DatabaseStats>>
  /** By database and role of the server that answered ('primary', 'replica', 'plain'). */
  readonly queueTime: readonly RoleHistogram[]
  readonly queryTime: readonly RoleHistogram[]
  /** Totals by reason, SQLSTATE or word; every key set is bounded. */
  readonly routesByReason: Readonly<Record<string, number>>
  readonly pinsByReason: Readonly<Record<string, number>>
  readonly errorsBySqlstate: Readonly<Record<string, number>>
  readonly healedBySqlstate: Readonly<Record<string, number>>
  readonly disconnectsByReason: Readonly<Record<string, number>>
  readonly loginFailures: number
  readonly cancelsForwarded: number
  /** Reads that shared a server, those of them that were moved to another, and answers dropped. */
  readonly rides: number
  readonly ridesMoved: number
  readonly ridesSwallowed: number
  /** Servers that are shared now. */
  readonly carriages: number
  /** Cancel requests that came in, by what became of them. */
  readonly cancelRequestsByResult: Readonly<Record<string, number>>
  readonly holdsStarted: number
  readonly holdsExpired: number
}

/** Cancel requests that are being passed on to one other instance. */
export interface PeerFacts {
  readonly id: number
  readonly underWay: number
}

export interface RoleHistogram {
  readonly database: string
  readonly role: 'primary' | 'replica' | 'plain'
  readonly histogram: HistogramCounts
}

export function emptyStats(): DatabaseStats {
  return {
    serverAssignments: 0,
    transactions: 0,
    queries: 0,
    bytesReceived: 0,
    bytesSent: 0,
    transactionMs: 0,
    queryMs: 0,
    waitMs: 0,
    clientParses: 0,
    serverParses: 0,
    binds: 0,
    clientLogins: 0,
  }
}
