/**
 * Bounds the number of series: the first names that were seen keep a series of their own for as
 * long as they exist, what comes later is summed up under `other`. So a flood of names costs
 * Prometheus a fixed amount, and no series changes its meaning from scrape to scrape.
 */
import { addStats, mergeReasons, mergeWords } from '../../admin/merge.ts'
import type { DatabaseSums, PoolSums } from '../../admin/views/pools.ts'
import { addHistogram, emptyHistogram } from '../../base/histogram.ts'
import type { DatabaseStats, RoleHistogram } from '../../client/facts.ts'

export const DATABASES_MAX = 200
export const POOLS_MAX = 500
/** Values of one label that holds reasons or SQLSTATEs. */
export const WORDS_MAX = 100
export const OTHER = 'other'

/** The names that have a series of their own. */
export class Admitted {
  readonly #max: number
  #names: ReadonlySet<string> = new Set()

  constructor(max: number) {
    this.#max = max
  }

  /** Takes what there is now; names that are gone make room. */
  update(present: Iterable<string>): ReadonlySet<string> {
    const all = new Set(present)
    const names = new Set([...this.#names].filter((name) => all.has(name)))
    for (const name of all) {
      if (names.size >= this.#max) break
      names.add(name)
    }
    this.#names = names
    return names
  }
}

export function limitStats(
  stats: Readonly<Record<string, DatabaseStats>>,
  admitted: ReadonlySet<string>,
): [string, DatabaseStats][] {
  const sums = new Map<string, DatabaseStats>()
  for (const [database, one] of Object.entries(stats)) {
    const name = admitted.has(database) ? database : OTHER
    const sum = sums.get(name)
    sums.set(name, sum === undefined ? one : addStats(sum, one))
  }
  return [...sums]
}

export function limitHistograms(
  all: readonly RoleHistogram[],
  admitted: ReadonlySet<string>,
): RoleHistogram[] {
  const sums = new Map<string, RoleHistogram>()
  for (const { database, role, histogram } of all) {
    const name = admitted.has(database) ? database : OTHER
    const key = `${name}\0${role}`
    const sum = sums.get(key) ?? { database: name, role, histogram: emptyHistogram() }
    addHistogram(sum.histogram, histogram)
    sums.set(key, sum)
  }
  return [...sums.values()]
}

export function limitWords(
  counts: Readonly<Record<string, number>>,
): readonly (readonly [labels: readonly string[], value: number])[] {
  const words = Object.keys(counts).toSorted()
  const kept = new Set(words.slice(0, WORDS_MAX))
  const limited = mergeWords(
    words.map((word) => ({ [kept.has(word) ? word : OTHER]: counts[word] ?? 0 })),
  )
  return Object.entries(limited).map(([word, count]) => [[word], count])
}

export function limitPools(
  pools: readonly PoolSums[],
  isKept: (pool: PoolSums) => boolean,
): PoolSums[] {
  const [first, ...rest] = pools.filter((pool) => !isKept(pool))
  const kept = pools.filter(isKept)
  if (first === undefined) return kept
  const other = { ...first, database: OTHER, user: OTHER }
  return [...kept, rest.reduce(addPoolSums, other)]
}

function addPoolSums(one: PoolSums, other: PoolSums): PoolSums {
  return {
    ...one,
    clientsActive: one.clientsActive + other.clientsActive,
    clientsWaiting: one.clientsWaiting + other.clientsWaiting,
    clientsActiveCancel: one.clientsActiveCancel + other.clientsActiveCancel,
    serversActive: one.serversActive + other.serversActive,
    serversActiveCancel: one.serversActiveCancel + other.serversActiveCancel,
    serversBeingCanceled: one.serversBeingCanceled + other.serversBeingCanceled,
    serversIdle: one.serversIdle + other.serversIdle,
    serversUsed: one.serversUsed + other.serversUsed,
    serversTested: one.serversTested + other.serversTested,
    serversLogin: one.serversLogin + other.serversLogin,
    serversOpened: one.serversOpened + other.serversOpened,
    serverLoginFailures: one.serverLoginFailures + other.serverLoginFailures,
    held: one.held + other.held,
    heldBytes: one.heldBytes + other.heldBytes,
    oldestWaitMs: Math.max(one.oldestWaitMs, other.oldestWaitMs),
    waitReasons: mergeReasons([...one.waitReasons, ...other.waitReasons]),
  }
}

export function limitDatabases(
  databases: readonly DatabaseSums[],
  admitted: ReadonlySet<string>,
): DatabaseSums[] {
  const kept = databases.filter(({ name }) => admitted.has(name))
  const [first, ...rest] = databases.filter(({ name }) => !admitted.has(name))
  if (first === undefined) return kept
  const other: DatabaseSums = {
    ...first,
    name: OTHER,
    host: '',
    port: 0,
    database: OTHER,
    forceUser: '',
    poolMode: '',
  }
  return [...kept, rest.reduce(addDatabaseSums, other)]
}

/** Sizes and limits add up; paused and disabled say whether any of them is. */
function addDatabaseSums(one: DatabaseSums, other: DatabaseSums): DatabaseSums {
  return {
    ...one,
    poolSize: one.poolSize + other.poolSize,
    reservePoolSize: one.reservePoolSize + other.reservePoolSize,
    connectionsMax: one.connectionsMax + other.connectionsMax,
    connections: one.connections + other.connections,
    isPaused: one.isPaused || other.isPaused,
    isDisabled: one.isDisabled || other.isDisabled,
  }
}
