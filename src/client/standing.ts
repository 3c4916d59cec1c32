/**
 * How a session stands, for those who list clients or send them away. It changes nothing in it: the session asks here
 * whether it is to end.
 */
import type { ProxyError } from '../base/errors.ts'
import { isHeldReason } from '../server/waiter.ts'
import type { ClientState } from './facts.ts'
import type { Parts } from './sending.ts'
import type { Session } from './session.ts'

export class Standing {
  /** Why it ends where it is between two transactions the next time. */
  farewell: ProxyError | null = null
  readonly #session: Session
  readonly #parts: Parts

  constructor(session: Session, parts: Parts) {
    this.#session = session
    this.#parts = parts
  }

  get clientState(): ClientState {
    const { state, waitReason } = this.#session
    if (state === 'waiting') return isHeldReason(waitReason) ? 'held' : 'waiting'
    if (state === 'closed') return 'closed'
    if (state === 'riding') return 'active'
    return this.#parts.lease.isEmpty ? 'idle' : 'active'
  }

  /** Between two transactions, with nothing under way of what came from the client. */
  get isBetween(): boolean {
    const { isOwed, state, transaction } = this.#session
    if (state === 'waiting' || state === 'settling' || isOwed) return false
    const { input, lease } = this.#parts
    const isRead = input.length === 0 && !input.isDropping && !lease.isMidBatch
    return isRead && transaction.state === 'idle'
  }

  /**
   * Ends the session behind its next answer, in the same piece: most clients send nothing between an answer and what
   * stands right behind it, and may have sent something when the end comes at any other time.
   */
  leave(error: ProxyError): void {
    this.farewell = error
    this.#session.channel.gather()
  }
}
