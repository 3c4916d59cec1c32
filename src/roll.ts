/**
 * The replacement of all workers, one after the other: each gets a successor, and leaves when that
 * serves. The order and what ends it are here; processes are the supervisor's. A successor that does
 * not come to serve ends it, with all others as they were.
 */
import { NO_ROLL, type RollFacts } from './admin/facts.ts'
import { reasonOf } from './base/errors.ts'

export interface RollDeps {
  /** Numbers of the workers that are there, whatever they do. */
  taken(): readonly number[]
  /** A worker that has ended meanwhile is started again anyway. */
  isThere(worker: number): boolean
  /** Resolves when the successor serves; rejects with why it does not, and is gone then. */
  succeed(worker: number, successor: number): Promise<void>
  /** Lets a worker finish what it has; resolves when it is gone. */
  dismiss(worker: number): Promise<void>
  onChange(facts: RollFacts): void
}

export interface Begun {
  /** Settles when the first successor serves, or does not. */
  readonly first: Promise<void>
  /** Whether all of them were replaced. Never rejects. */
  readonly end: Promise<boolean>
}

export class Roll {
  readonly #deps: RollDeps
  #facts: RollFacts = NO_ROLL
  #stoppedBecause: string | null = null

  constructor(deps: RollDeps) {
    this.#deps = deps
  }

  get facts(): RollFacts {
    return this.#facts
  }

  /** Errors  Error when one is under way, or after `stop`. */
  begin(): Begun {
    if (this.#stoppedBecause !== null) throw new Error(this.#stoppedBecause)
    if (this.#facts.isRunning) throw new Error('the workers are being replaced already')
    this.#note({ isRunning: true, replaced: 0, failure: null })
    const { promise: first, resolve, reject } = Promise.withResolvers<void>()
    const end = this.#replaceAll(this.#deps.taken(), resolve).then(
      () => this.#end(null),
      (error: unknown) => {
        reject(error)
        return this.#end(reasonOf(error))
      },
    )
    return { first, end }
  }

  /** No further worker is replaced, now or later. */
  stop(reason: string): void {
    this.#stoppedBecause = reason
  }

  async #replaceAll(workers: readonly number[], onFirst: () => void): Promise<void> {
    for (const worker of workers) {
      if (this.#stoppedBecause !== null) throw new Error(this.#stoppedBecause)
      if (!this.#deps.isThere(worker)) continue
      await this.#deps.succeed(worker, freeNumber(this.#deps.taken()))
      this.#note({ ...this.#facts, replaced: this.#facts.replaced + 1 })
      onFirst()
      await this.#deps.dismiss(worker)
    }
    onFirst()
  }

  #end(failure: string | null): boolean {
    this.#note({ ...this.#facts, isRunning: false, failure })
    return failure === null
  }

  #note(facts: RollFacts): void {
    this.#facts = facts
    this.#deps.onChange(facts)
  }
}

/** The lowest number from 0 that nobody has. */
export function freeNumber(taken: readonly number[]): number {
  let number = 0
  while (taken.includes(number)) number += 1
  return number
}

/**
 * Whether workers of version `installed` may serve under a supervisor of version `running`: what
 * the processes say to each other changes with the minor version only.
 */
export function mayFollow(running: string, installed: string): boolean {
  return seriesOf(running) === seriesOf(installed)
}

function seriesOf(version: string): string {
  return version.split('.').slice(0, 2).join('.')
}
