/**
 * What workers say of themselves when the control process asks, and their totals over time: a worker
 * that does not answer, or was replaced, counts with what it said last, so that no total goes back.
 */
import { StatsWindow } from './admin/averages.ts'
import type { Facts, FactsDetail, WorkerFacts } from './admin/facts.ts'
import { mergeFacts, Retired } from './admin/merge.ts'
import type { Clock } from './base/clock.ts'
import type { Link } from './link.ts'

/** A worker that does not answer in this time is left out of what is shown. */
export const FACTS_MS = 2000

export class Reports {
  /** Averages between two turns of the statistics. */
  readonly window: StatsWindow
  readonly #link: Link
  readonly #retired = new Retired()
  readonly #last = new Map<number, WorkerFacts>()
  /** Numbers whose worker has said its last. */
  readonly #ended = new Set<number>()

  constructor(link: Link, clock: Clock) {
    this.#link = link
    this.window = new StatsWindow(clock)
  }

  /** Another process has taken this worker's place. */
  replaced(worker: number): void {
    const previous = this.#last.get(worker)
    if (previous !== undefined) this.#retired.add(previous)
    this.#last.delete(worker)
    this.#ended.delete(worker)
  }

  /** A worker ends and says its last: it counts with that from here on. */
  retire(facts: WorkerFacts): void {
    this.#retired.add(facts)
    this.#last.delete(facts.worker)
    this.#ended.add(facts.worker)
  }

  /** Of those that answer in time. */
  async ask(workers: readonly number[], detail: FactsDetail): Promise<WorkerFacts[]> {
    const asked = workers.map(async (worker) => {
      try {
        const facts = await this.#link.ask(worker, 'facts', { detail }, FACTS_MS)
        if (this.#ended.has(worker)) return null
        this.#last.set(worker, facts)
        return facts
      } catch {
        // A worker that is gone or stuck is missing in what is shown, and that is seen there.
        return null
      }
    })
    return (await Promise.all(asked)).filter((facts) => facts !== null)
  }

  /** All of it together; `slots` numbers that workers may have. */
  merge(answered: readonly WorkerFacts[], slots: number): Facts {
    const present = new Set(answered.map(({ worker }) => worker))
    const absent = [...this.#last.values()].filter(({ worker }) => !present.has(worker))
    return mergeFacts(answered, slots, this.#retired.with(absent))
  }
}
