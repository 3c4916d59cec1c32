/**
 * What the console, the metrics and the HTTP API look at: the facts of every worker, and the
 * snapshot of the whole program that the control process makes of them. Plain values only; merging
 * is in merge.ts.
 */
import type { ClientFacts, ClientsFacts, DatabaseStats, PeerFacts } from '../client/facts.ts'
import type { FailoverState } from '../cluster/failover.ts'
import type { Instances } from '../cluster/instances.ts'
import type { Topology } from '../cluster/topology.ts'
import type { Config } from '../config/config.ts'
import type { PoolFacts, ServerFacts } from '../server/facts.ts'
import type { ShutdownMode } from '../server/pools.ts'

/** What an operating system and Node know of one process. */
export interface ProcessFacts {
  readonly processId: number
  readonly rssBytes: number
  readonly heapTotalBytes: number
  readonly heapUsedBytes: number
  readonly externalBytes: number
  readonly arrayBuffersBytes: number
  readonly userCpuMs: number
  readonly systemCpuMs: number
}

export interface ListenerFacts {
  /** An address, or the path of a Unix socket. */
  readonly address: string
  /** 0 for a Unix socket. */
  readonly port: number
}

/** Clients of one database and user, counted: what every view but SHOW CLIENTS needs. */
export interface ClientCounts {
  readonly database: string
  readonly user: string
  /** Logged in, with a server or idle. */
  readonly active: number
  /** In a queue, for a server or for the cluster. */
  readonly waiting: number
  readonly activeCancels: number
  readonly pinned: number
}

/**
 * How much a worker is asked for: `counts` leaves out the lists of clients and servers, which are
 * long, and everything else is the same.
 */
export type FactsDetail = 'counts' | 'all'

export interface WorkerFacts {
  /** From 0 to `workers`, of which one number is free but while workers are replaced. */
  readonly worker: number
  readonly startedWallMs: number
  readonly version: string
  readonly process: ProcessFacts
  readonly listeners: readonly ListenerFacts[]
  readonly counts: readonly ClientCounts[]
  /** `clients` of it is empty unless `all` was asked for. */
  readonly clients: ClientsFacts
  readonly pools: readonly PoolFacts[]
  /** Those that a cancel request was passed on to. */
  readonly peers: readonly PeerFacts[]
  /** Empty unless `all` was asked for. */
  readonly servers: readonly ServerFacts[]
  readonly dns: readonly DnsFacts[]
  /** The topology it works with: behind the control process's while a new one is on its way. */
  readonly topologyTerm: number
  readonly topologySerial: number
  readonly isPaused: boolean
  readonly isShuttingDown: boolean
}

/** All workers as one. Ids of clients and servers are unique over all of them. */
export interface Facts {
  readonly workers: readonly WorkerSummary[]
  readonly counts: readonly ClientCounts[]
  readonly clients: ClientsFacts
  readonly pools: readonly PoolFacts[]
  readonly peers: readonly PeerFacts[]
  readonly servers: readonly ServerFacts[]
}

export interface WorkerSummary {
  readonly worker: number
  readonly startedWallMs: number
  readonly version: string
  readonly clients: number
  readonly process: ProcessFacts
  readonly listeners: readonly ListenerFacts[]
  readonly topologyTerm: number
  readonly topologySerial: number
  readonly isPaused: boolean
  readonly isShuttingDown: boolean
}

/** Where a worker stands: its successor arrives before it leaves. */
export type WorkerPlace = 'arriving' | 'serving' | 'leaving'

/** The replacement of all workers that is under way, or the last one. */
export interface RollFacts {
  readonly isRunning: boolean
  /** Workers that have a successor. */
  readonly replaced: number
  /** What the last one ended of; null when nothing went wrong. */
  readonly failure: string | null
}

export const NO_ROLL: RollFacts = { isRunning: false, replaced: 0, failure: null }

/** Where the members come from and what happened to the cluster since the start. */
export interface ClusterFacts {
  /** Null without [cluster]. */
  readonly source: 'etcd' | 'patroni' | 'static' | null
  /** A short word: `connected`, `connecting`, `lost`, ... */
  readonly sourceState: string
  /** The last thing that went wrong with the source; '' when nothing did. */
  readonly sourceError: string
  /** Where the failover machine stands; null without [cluster]. */
  readonly failoverState: FailoverState | null
  /** Changes of the verified primary from one member to another. */
  readonly failovers: number
  /** When the present primary was verified; null while there is none. */
  readonly primarySinceWallMs: number | null
  /** Total time without a verified primary, in milliseconds. */
  readonly withoutPrimaryMs: number
  readonly probesFailed: number
}

/** What commands of the console have set; it outlives workers. */
export interface AdminState {
  readonly isPaused: boolean
  readonly shutdown: ShutdownMode | null
  readonly pausedDatabases: readonly string[]
  readonly disabledDatabases: readonly string[]
  readonly reloads: number
  readonly reloadsFailed: number
  /** When the present configuration was applied, milliseconds since 1970. */
  readonly reloadedWallMs: number
}

/** A name that was looked up, with what the resolver said last. */
export interface DnsFacts {
  readonly hostname: string
  readonly addresses: readonly string[]
}

/** Everything that the views, the metrics and the API read, taken at one moment. */
export interface Snapshot {
  readonly version: string
  readonly wallMs: number
  /** Monotonic, for the ages of samples. */
  readonly nowMs: number
  readonly startedWallMs: number
  readonly config: Config
  readonly topology: Topology
  readonly cluster: ClusterFacts
  readonly instances: Instances
  readonly state: AdminState
  readonly facts: Facts
  /** Workers that should run; `facts.workers` are those that answered. */
  readonly workersWanted: number
  /** By number, as the supervisor knows them. */
  readonly places: ReadonlyMap<number, WorkerPlace>
  readonly roll: RollFacts
  /** By database; from StatsWindow. */
  readonly averages: Readonly<Record<string, DatabaseStats>>
  readonly control: ProcessFacts
  /** Of all processes. */
  readonly dns: readonly DnsFacts[]
}

/** The process that calls it. */
export function processFacts(): ProcessFacts {
  const memory = process.memoryUsage()
  const cpu = process.cpuUsage()
  return {
    processId: process.pid,
    rssBytes: memory.rss,
    heapTotalBytes: memory.heapTotal,
    heapUsedBytes: memory.heapUsed,
    externalBytes: memory.external,
    arrayBuffersBytes: memory.arrayBuffers,
    userCpuMs: cpu.user / 1000,
    systemCpuMs: cpu.system / 1000,
  }
}

/** Counts clients by database and user; those that have not logged in are left out. */
export function countClients(clients: Iterable<ClientFacts>): ClientCounts[] {
  const counts = new Map<string, Mutable<ClientCounts>>()
  for (const client of clients) {
    if (client.state === 'login' || client.state === 'closed') continue
    const key = poolKey(client.database, client.user)
    let count = counts.get(key)
    if (count === undefined) {
      const { database, user } = client
      count = { database, user, active: 0, waiting: 0, activeCancels: 0, pinned: 0 }
      counts.set(key, count)
    }
    if (client.state === 'waiting' || client.state === 'held') count.waiting += 1
    else count.active += 1
    count.activeCancels += client.cancels
    if (client.pinReasons.length > 0) count.pinned += 1
  }
  return [...counts.values()]
}

/** One string for a database and a user, neither of which can hold a zero byte. */
export function poolKey(database: string, user: string): string {
  return `${database}\0${user}`
}

export type Mutable<T> = { -readonly [K in keyof T]: T[K] }
