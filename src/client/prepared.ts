/**
 * The names one session has given to prepared statements and portals. A name exists from its
 * ParseComplete; because later messages of the same batch already use it, it is entered when its
 * Parse is sent and taken back when that Parse fails or is skipped.
 */
import type { Classified } from '../routing/classify.ts'
import type { PreparedRegistry, PreparedStatement } from '../server/prepared.ts'

export interface SessionStatement {
  readonly statement: PreparedStatement
  readonly classified: Classified
}

type Undo = () => void

export class SessionPrepared {
  readonly #registry: PreparedRegistry
  readonly #named = new Map<string, SessionStatement>()
  /** Portals of the open transaction: what an Execute runs. */
  readonly #portals = new Map<string, Classified>()
  /** How to take back what the batch in progress did, newest last; null when nobody will ask. */
  #undo: Undo[] | null = null
  /** Grows when everything is given up: nothing that was done before is taken back then. */
  #generation = 0

  constructor(registry: PreparedRegistry) {
    this.#registry = registry
  }

  get size(): number {
    return this.#named.size
  }

  get(name: string): SessionStatement | undefined {
    return this.#named.get(name)
  }

  /**
   * Enters a name, replacing the one before it (only the unnamed statement may be replaced).
   * Returns how to take that back.
   */
  enter(name: string, entry: SessionStatement): Undo {
    const previous = this.#named.get(name)
    this.#named.set(name, entry)
    return this.#record(() => {
      if (this.#named.get(name) !== entry) return
      if (previous === undefined) this.#named.delete(name)
      else this.#named.set(name, previous)
      this.#registry.drop(entry.statement)
      if (previous !== undefined) previous.statement.holders += 1
    }, previous)
  }

  /** Close of a statement. Returns how to take that back, or null when there was none. */
  remove(name: string): Undo | null {
    const entry = this.#named.get(name)
    if (entry === undefined) return null
    this.#named.delete(name)
    return this.#record(() => {
      if (this.#named.has(name)) return
      this.#named.set(name, entry)
      entry.statement.holders += 1
    }, entry)
  }

  /** Every name of this text stands for a freshly prepared statement from here on. */
  renew(text: string): void {
    for (const [name, entry] of this.#named) {
      if (entry.statement.text !== text) continue
      const statement = this.#registry.renew(entry.statement)
      this.#registry.drop(entry.statement)
      this.#named.set(name, { statement, classified: entry.classified })
    }
  }

  /** DEALLOCATE ALL, DISCARD ALL, or the end of the session. */
  clear(): void {
    for (const { statement } of this.#named.values()) this.#registry.drop(statement)
    this.#named.clear()
    this.#portals.clear()
    this.#undo = null
    this.#generation += 1
  }

  bind(portal: string, classified: Classified): void {
    this.#portals.set(portal, classified)
  }

  portal(name: string): Classified | undefined {
    return this.#portals.get(name)
  }

  /** Portals end with their transaction. */
  endTransaction(): void {
    if (this.#portals.size > 0) this.#portals.clear()
  }

  /** From here on `rewind` takes everything back: the batch may be sent once more elsewhere. */
  mark(): void {
    this.#undo = []
  }

  unmark(): void {
    this.#undo = null
  }

  rewind(): void {
    for (const undo of this.#undo?.toReversed() ?? []) undo()
    this.#undo = null
  }

  #record(undo: Undo, dropped: SessionStatement | undefined): Undo {
    if (dropped !== undefined) this.#registry.drop(dropped.statement)
    const generation = this.#generation
    let isUndone = false
    const once = (): void => {
      if (isUndone || generation !== this.#generation) return
      isUndone = true
      undo()
    }
    this.#undo?.push(once)
    return once
  }
}
