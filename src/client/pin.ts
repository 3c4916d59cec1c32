/**
 * What ties a session to its server: state that PostgreSQL keeps per connection and that cannot be
 * carried to another one. Each reason ends by its own statement.
 */
import type { PinReason, Statement } from '../routing/classify.ts'

/**
 * Fails when the session holds advisory locks: texts cannot tell how many a statement took
 * (`SELECT pg_advisory_lock(id) FROM jobs`), so PostgreSQL is asked when they seem to be gone.
 */
export const NO_ADVISORY_LOCKS = `SELECT 1 / (CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_locks
  WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid()) THEN 0 ELSE 1 END)`

export class Pins {
  /** How many things of a kind there are, as far as texts tell. */
  readonly #reasons = new Map<PinReason, number>()
  /** Temporary tables, views and sequences by name. */
  readonly #temporary = new Set<string>()

  get isPinned(): boolean {
    return this.#reasons.size > 0
  }

  get reasons(): readonly PinReason[] {
    return [...this.#reasons.keys()]
  }

  has(reason: PinReason): boolean {
    return this.#reasons.has(reason)
  }

  /** As many advisory locks were given back as were taken, by the texts: see NO_ADVISORY_LOCKS. */
  get isProofDue(): boolean {
    return this.#reasons.size > 0 && this.#reasons.get('advisory_lock') === 0
  }

  /** PostgreSQL said whether advisory locks are left. Those that are end with all of them only. */
  proved(areLocksLeft: boolean): void {
    if (areLocksLeft) this.#reasons.set('advisory_lock', Number.POSITIVE_INFINITY)
    else this.#reasons.delete('advisory_lock')
  }

  /** Takes in what a statement that succeeded leaves behind. Returns the reasons that are new. */
  apply(statement: Statement): readonly PinReason[] {
    const fresh: PinReason[] = []
    for (const reason of statement.pins ?? []) {
      if (!this.#reasons.has(reason)) fresh.push(reason)
      this.#reasons.set(reason, (this.#reasons.get(reason) ?? 0) + 1)
      if (reason === 'temp_table') this.#temporary.add(statement.name ?? '')
    }
    if (statement.verb === 'drop') this.#drop(statement.names ?? [])
    if (statement.advisoryUnlock === true) this.lower('advisory_lock')
    for (const reason of statement.unpins ?? []) {
      if (reason === 'all') this.clear()
      else this.#reasons.delete(reason)
      if (reason === 'temp_table') this.#temporary.clear()
    }
    return fresh
  }

  clear(): void {
    this.#reasons.clear()
    this.#temporary.clear()
  }

  /** One thing fewer ties the session for this reason. */
  lower(reason: PinReason): void {
    const count = this.#reasons.get(reason)
    if (count === undefined) return
    if (count > 1) this.#reasons.set(reason, count - 1)
    else if (reason === 'advisory_lock') this.#reasons.set(reason, 0)
    else this.#reasons.delete(reason)
  }

  #drop(names: readonly string[]): void {
    for (const name of names) this.#temporary.delete(name)
    if (this.#temporary.size === 0) this.#reasons.delete('temp_table')
  }
}
