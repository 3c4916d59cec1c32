/**
 * What ties a session to its server: state that PostgreSQL keeps per connection and that cannot be
 * carried to another one. Each reason ends by its own statement.
 */
import type { PinReason, Statement } from '../routing/classify.ts'

export class Pins {
  readonly #reasons = new Map<PinReason, number>()

  get isPinned(): boolean {
    return this.#reasons.size > 0
  }

  get reasons(): readonly PinReason[] {
    return [...this.#reasons.keys()]
  }

  has(reason: PinReason): boolean {
    return this.#reasons.has(reason)
  }

  /** Takes in what a statement that succeeded leaves behind. Returns the reasons that are new. */
  apply(statement: Statement): readonly PinReason[] {
    const fresh: PinReason[] = []
    for (const reason of statement.pins ?? []) {
      if (!this.#reasons.has(reason)) fresh.push(reason)
      this.#reasons.set(reason, (this.#reasons.get(reason) ?? 0) + 1)
    }
    if (statement.advisoryUnlock === true) this.lower('advisory_lock')
    for (const reason of statement.unpins ?? []) {
      if (reason === 'all') this.#reasons.clear()
      else if (reason === 'temp_table' && statement.verb === 'drop') this.lower(reason)
      else this.#reasons.delete(reason)
    }
    return fresh
  }

  clear(): void {
    this.#reasons.clear()
  }

  /** One thing fewer ties the session for this reason. */
  lower(reason: PinReason): void {
    const count = this.#reasons.get(reason)
    if (count === undefined) return
    if (count > 1) this.#reasons.set(reason, count - 1)
    else this.#reasons.delete(reason)
  }
}
