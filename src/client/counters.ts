/**
 * What happened to the clients of one worker, as plain numbers that are read when somebody asks.
 * Key sets are bounded: what does not fit is counted under `other`.
 */
import { emptyHistogram, type HistogramCounts } from '../base/histogram.ts'
import { type DatabaseStats, emptyStats, type RoleHistogram } from './facts.ts'

type Role = 'primary' | 'replica' | 'plain'

const KEYS_MAX = 200
const OTHER = 'other'

/** Counts by a short word. */
export class WordCounts {
  readonly #counts = new Map<string, { count: number }>()
  /** The word counted last: usually it is the next one too. */
  #last = ''
  #lastCount = { count: 0 }

  add(word: string): void {
    if (word === this.#last) {
      this.#lastCount.count += 1
      return
    }
    const known = this.#counts.get(word)
    if (known !== undefined) {
      known.count += 1
      this.#last = word
      this.#lastCount = known
    } else if (this.#counts.size < KEYS_MAX || word === OTHER) this.#counts.set(word, { count: 1 })
    else this.add(OTHER)
  }

  facts(): Record<string, number> {
    return Object.fromEntries([...this.#counts].map(([word, { count }]) => [word, count]))
  }
}

export interface Durations {
  readonly queue: HistogramCounts
  readonly query: HistogramCounts
}

/** Durations by database and role. */
class RoleDurations {
  readonly #byKey = new Map<string, RoleHistogram>()

  histogram(database: string, role: Role): HistogramCounts {
    const key = `${role}\0${database}`
    const known = this.#byKey.get(key)
    if (known !== undefined) return known.histogram
    if (this.#byKey.size >= KEYS_MAX && database !== OTHER) return this.histogram(OTHER, role)
    const fresh = { database, role, histogram: emptyHistogram() }
    this.#byKey.set(key, fresh)
    return fresh.histogram
  }

  facts(): RoleHistogram[] {
    return [...this.#byKey.values()]
  }
}

export class ClientCounters {
  readonly routes = new WordCounts()
  readonly pins = new WordCounts()
  readonly errors = new WordCounts()
  readonly healed = new WordCounts()
  readonly disconnects = new WordCounts()
  readonly cancelRequests = new WordCounts()
  readonly queueTime = new RoleDurations()
  readonly queryTime = new RoleDurations()
  readonly #stats = new Map<string, DatabaseStats>()
  loginFailures = 0
  cancelsForwarded = 0
  /** Batches that rode behind others, that were moved elsewhere, and answers that nobody waited for. */
  rides = 0
  ridesMoved = 0
  ridesSwallowed = 0
  holdsStarted = 0
  holdsExpired = 0

  stats(database: string): DatabaseStats {
    const known = this.#stats.get(database)
    if (known !== undefined) return known
    const fresh = emptyStats()
    this.#stats.set(database, fresh)
    return fresh
  }

  statsFacts(): Record<string, DatabaseStats> {
    return Object.fromEntries(this.#stats)
  }

  /** The two that a session adds to, the same ones every time. */
  durations(database: string, role: Role): Durations {
    return {
      queue: this.queueTime.histogram(database, role),
      query: this.queryTime.histogram(database, role),
    }
  }
}
