/**
 * Adds up the facts of several workers. Pure: totals add, gauges add, the longest wait wins,
 * histograms add bucket by bucket, and ids become unique over all workers.
 */
import { addHistogram, emptyHistogram } from '../base/histogram.ts'
import {
  type ClientsFacts,
  type DatabaseStats,
  emptyStats,
  type PeerFacts,
  type RoleHistogram,
} from '../client/facts.ts'
import type { MemberPoolFacts, PoolFacts, ServerFacts, WaitReasonFacts } from '../server/facts.ts'
import {
  type ClientCounts,
  type DnsFacts,
  type Facts,
  type Mutable,
  poolKey,
  type WorkerFacts,
  type WorkerSummary,
} from './facts.ts'

/**
 * All workers as one.
 *
 * `workersMax` is the number of workers that may ever answer, the same in every call, since ids are
 * made from it; `retired` are the totals of workers that are gone (`Retired`), so that counters
 * never go back when one is restarted.
 */
export function mergeFacts(
  workers: readonly WorkerFacts[],
  workersMax: number,
  retired: ClientsFacts | null = null,
): Facts {
  const clients = workers.map((worker) => withIds(worker, workersMax))
  return {
    workers: workers.map(summary),
    counts: mergeCounts(workers.flatMap((worker) => worker.counts)),
    clients: mergeClients(retired === null ? clients : [...clients, retired]),
    pools: mergePools(workers.flatMap((worker) => worker.pools)),
    peers: mergePeers(workers.flatMap((worker) => worker.peers)),
    servers: workers.flatMap((worker) => serversOf(worker, workersMax)),
  }
}

/** With one worker an id stays as it is. */
export function globalId(id: number, worker: number, workersMax: number): number {
  return id * workersMax + worker
}

/** The worker and its own id behind an id that a view shows. */
export function localId(id: number, workersMax: number): { worker: number; id: number } {
  return { worker: id % workersMax, id: Math.floor(id / workersMax) }
}

/**
 * Keeps the totals of workers that ended, so that no counter goes back: `add` each with the last
 * facts that are known of it.
 */
export class Retired {
  #clients: ClientsFacts | null = null

  get clients(): ClientsFacts | null {
    return this.#clients
  }

  add(worker: WorkerFacts): void {
    this.#clients = this.with([worker])
  }

  /**
   * The totals together with those of workers that live and did not answer this time: `absent` are
   * the last facts that are known of them.
   */
  with(absent: readonly WorkerFacts[]): ClientsFacts | null {
    const totals = absent.map(totalsOf)
    if (this.#clients !== null) totals.push(this.#clients)
    return totals.length === 0 ? null : mergeClients(totals)
  }
}

function totalsOf({ clients }: WorkerFacts): ClientsFacts {
  return { ...clients, clients: [], loginClients: 0 }
}

function summary(facts: WorkerFacts): WorkerSummary {
  const { worker, startedWallMs, version, process, listeners } = facts
  const { topologyTerm, topologySerial, isPaused, isShuttingDown } = facts
  return {
    worker,
    startedWallMs,
    version,
    clients: facts.counts.reduce((sum, { active, waiting }) => sum + active + waiting, 0),
    process,
    listeners,
    topologyTerm,
    topologySerial,
    isPaused,
    isShuttingDown,
  }
}

/** Every name once; processes ask the same resolver, so whichever was told last says the same. */
export function mergeNames(dns: readonly DnsFacts[]): DnsFacts[] {
  return [...new Map(dns.map((one) => [one.hostname, one])).values()]
}

function withIds({ worker, clients }: WorkerFacts, workersMax: number): ClientsFacts {
  return {
    ...clients,
    clients: clients.clients.map((client) => ({
      ...client,
      id: globalId(client.id, worker, workersMax),
      serverId: client.serverId === null ? null : globalId(client.serverId, worker, workersMax),
    })),
  }
}

function serversOf({ worker, servers }: WorkerFacts, workersMax: number): ServerFacts[] {
  return servers.map((server) => ({
    ...server,
    id: globalId(server.id, worker, workersMax),
    clientId: server.clientId === null ? null : globalId(server.clientId, worker, workersMax),
  }))
}

function mergeClients(all: readonly ClientsFacts[]): ClientsFacts {
  const sum = (pick: (facts: ClientsFacts) => number): number =>
    all.reduce((total, facts) => total + pick(facts), 0)
  const words = (pick: (facts: ClientsFacts) => Readonly<Record<string, number>>) =>
    mergeWords(all.map(pick))
  return {
    clients: all.flatMap((facts) => facts.clients),
    loginClients: sum((facts) => facts.loginClients),
    stats: mergeStats(all.map((facts) => facts.stats)),
    queueTime: mergeHistograms(all.flatMap((facts) => facts.queueTime)),
    queryTime: mergeHistograms(all.flatMap((facts) => facts.queryTime)),
    routesByReason: words((facts) => facts.routesByReason),
    pinsByReason: words((facts) => facts.pinsByReason),
    errorsBySqlstate: words((facts) => facts.errorsBySqlstate),
    healedBySqlstate: words((facts) => facts.healedBySqlstate),
    disconnectsByReason: words((facts) => facts.disconnectsByReason),
    loginFailures: sum((facts) => facts.loginFailures),
    cancelsForwarded: sum((facts) => facts.cancelsForwarded),
    rides: sum((facts) => facts.rides),
    ridesMoved: sum((facts) => facts.ridesMoved),
    ridesSwallowed: sum((facts) => facts.ridesSwallowed),
    carriages: sum((facts) => facts.carriages),
    cancelRequestsByResult: words((facts) => facts.cancelRequestsByResult),
    holdsStarted: sum((facts) => facts.holdsStarted),
    holdsExpired: sum((facts) => facts.holdsExpired),
  }
}

/** Adds counts by word. */
export function mergeWords(
  all: readonly Readonly<Record<string, number>>[],
): Record<string, number> {
  const sums = new Map<string, number>()
  for (const words of all) {
    for (const [word, count] of Object.entries(words)) sums.set(word, (sums.get(word) ?? 0) + count)
  }
  return Object.fromEntries(sums)
}

type StatsByDatabase = Readonly<Record<string, DatabaseStats>>

function mergeStats(all: readonly StatsByDatabase[]): Record<string, DatabaseStats> {
  const sums = new Map<string, DatabaseStats>()
  for (const stats of all) {
    for (const [database, one] of Object.entries(stats)) {
      const sum = sums.get(database)
      sums.set(database, sum === undefined ? { ...one } : addStats(sum, one))
    }
  }
  return Object.fromEntries(sums)
}

export function addStats(one: DatabaseStats, other: DatabaseStats): DatabaseStats {
  return combineStats(one, other, (a, b) => a + b)
}

/** Field by field. */
export function combineStats(
  one: DatabaseStats,
  other: DatabaseStats,
  combine: (one: number, other: number) => number,
): DatabaseStats {
  const result = emptyStats()
  for (const field of STATS_FIELDS) result[field] = combine(one[field], other[field])
  return result
}

export const STATS_FIELDS = [
  'serverAssignments',
  'transactions',
  'queries',
  'bytesReceived',
  'bytesSent',
  'transactionMs',
  'queryMs',
  'waitMs',
  'clientParses',
  'serverParses',
  'binds',
  'clientLogins',
] as const satisfies readonly (keyof DatabaseStats)[]

function mergeHistograms(all: readonly RoleHistogram[]): RoleHistogram[] {
  const sums = new Map<string, RoleHistogram>()
  for (const { database, role, histogram } of all) {
    const key = poolKey(database, role)
    let sum = sums.get(key)
    if (sum === undefined) {
      sum = { database, role, histogram: emptyHistogram() }
      sums.set(key, sum)
    }
    addHistogram(sum.histogram, histogram)
  }
  return [...sums.values()]
}

function mergeCounts(all: readonly ClientCounts[]): ClientCounts[] {
  const sums = new Map<string, Mutable<ClientCounts>>()
  for (const count of all) {
    const key = poolKey(count.database, count.user)
    const sum = sums.get(key)
    if (sum === undefined) {
      sums.set(key, { ...count })
    } else {
      sum.active += count.active
      sum.waiting += count.waiting
      sum.activeCancels += count.activeCancels
      sum.pinned += count.pinned
    }
  }
  return [...sums.values()]
}

function mergePeers(all: readonly PeerFacts[]): PeerFacts[] {
  const groups = Map.groupBy(all, ({ id }) => id)
  return [...groups].map(([id, facts]) => ({
    id,
    underWay: facts.reduce((sum, { underWay }) => sum + underWay, 0),
  }))
}

function mergePools(all: readonly PoolFacts[]): PoolFacts[] {
  const groups = Map.groupBy(all, (pool) => poolKey(pool.database, pool.user))
  return [...groups.values()]
    .map((pools) => pools.reduce(addPool))
    .toSorted((a, b) => compare(a.database, b.database) || compare(a.user, b.user))
}

function addPool(one: PoolFacts, other: PoolFacts): PoolFacts {
  return {
    ...one,
    poolSize: one.poolSize + other.poolSize,
    isPaused: one.isPaused || other.isPaused,
    isDisabled: one.isDisabled || other.isDisabled,
    members: mergeMembers([...one.members, ...other.members]),
    waits: {
      waiting: one.waits.waiting + other.waits.waiting,
      held: one.waits.held + other.waits.held,
      heldBytes: one.waits.heldBytes + other.waits.heldBytes,
      oldestWaitMs: Math.max(one.waits.oldestWaitMs, other.waits.oldestWaitMs),
      reasons: mergeReasons([...one.waits.reasons, ...other.waits.reasons]),
    },
    serversOpened: one.serversOpened + other.serversOpened,
    serversClosed: mergeWords([one.serversClosed, other.serversClosed]),
    loginFailures: one.loginFailures + other.loginFailures,
  }
}

/** Those of several pools or workers who wait for the same thing. */
export function mergeReasons(all: readonly WaitReasonFacts[]): WaitReasonFacts[] {
  const groups = Map.groupBy(all, ({ reason }) => reason)
  return [...groups.values()].map((group) =>
    group.reduce((one, other) => ({
      reason: one.reason,
      clients: one.clients + other.clients,
      bytes: one.bytes + other.bytes,
      oldestMs: Math.max(one.oldestMs, other.oldestMs),
    })),
  )
}

function mergeMembers(all: readonly MemberPoolFacts[]): MemberPoolFacts[] {
  const groups = Map.groupBy(all, (member) => member.member)
  return [...groups.values()].map((members) => members.reduce(addMember))
}

/** The role is that of the last that was asked: for a moment workers may disagree. */
export function addMember(one: MemberPoolFacts, other: MemberPoolFacts): MemberPoolFacts {
  return {
    member: other.member,
    role: other.role,
    active: one.active + other.active,
    idle: one.idle + other.idle,
    used: one.used + other.used,
    tested: one.tested + other.tested,
    login: one.login + other.login,
    activeCancel: one.activeCancel + other.activeCancel,
    beingCanceled: one.beingCanceled + other.beingCanceled,
    size: one.size + other.size,
  }
}

/** Orders by code units, the same everywhere. */
export function compare(one: string, other: string): number {
  if (one === other) return 0
  return one < other ? -1 : 1
}
