/**
 * The places of waiting sessions: one ticket per session, in one queue at a time, numbered in order
 * of arrival so that the oldest of several queues can be found.
 */
import { invariant } from '../base/invariant.ts'
import { Queue } from '../base/queue.ts'
import type { Waiter } from './waiter.ts'

export interface Ticket {
  readonly waiter: Waiter
  /** Grows with every arrival. */
  readonly sequence: number
  readonly sinceMs: number
  /** It wants the primary and nobody else. */
  readonly isWrite: boolean
  /** It may share a server with others. */
  readonly mayRide: boolean
  /** Waits for a server since then: its arrival, or the end of its hold. */
  queuedSinceMs: number
  /** Waits for a primary since then, however often the topology changes; null: it does not. */
  heldSinceMs: number | null
  /** What it was counted with against `hold_waiters_max` and `hold_bytes_max`; null: it is not. */
  heldBytes: number | null
  /** Counted against `primary_reads_max`: a read that waits for the primary. */
  isPrimaryRead: boolean
  isNotified: boolean
  queue: Queue<Ticket> | null
}

export class Tickets {
  readonly #tickets = new Map<Waiter, Ticket>()
  #sequence = 0
  /** Of those that want the primary. */
  writes = 0
  /** Of those that may share a server. */
  riders = 0

  /** The oldest. */
  get first(): Ticket | undefined {
    const [first] = this.#tickets.values()
    return first
  }

  get length(): number {
    return this.#tickets.size
  }

  /** In order of arrival. */
  all(): readonly Ticket[] {
    return [...this.#tickets.values()]
  }

  of(waiter: Waiter): Ticket | undefined {
    return this.#tickets.get(waiter)
  }

  add(waiter: Waiter, nowMs: number): Ticket {
    invariant(!this.#tickets.has(waiter), 'a session waits in one place')
    this.#sequence += 1
    const ticket: Ticket = {
      waiter,
      sequence: this.#sequence,
      sinceMs: nowMs,
      isWrite: waiter.wantsRole === 'primary',
      mayRide: waiter.mayRide === true,
      queuedSinceMs: nowMs,
      heldSinceMs: null,
      heldBytes: null,
      isPrimaryRead: false,
      isNotified: false,
      queue: null,
    }
    this.#tickets.set(waiter, ticket)
    if (ticket.isWrite) this.writes += 1
    if (ticket.mayRide) this.riders += 1
    return ticket
  }

  /** Takes the ticket out of its queue and forgets it. */
  drop(ticket: Ticket): void {
    this.leave(ticket)
    invariant(this.#tickets.delete(ticket.waiter), 'a ticket is dropped once')
    if (ticket.isWrite) this.writes -= 1
    if (ticket.mayRide) this.riders -= 1
  }

  leave(ticket: Ticket): void {
    if (ticket.queue === null) return
    invariant(ticket.queue.remove(ticket), 'a ticket is in its queue')
    ticket.queue = null
  }

  /** Joins the end of `queue`; the ticket is in none. */
  join(ticket: Ticket, queue: Queue<Ticket>): void {
    invariant(ticket.queue === null, 'a ticket is in one queue')
    invariant(queue.push(ticket), 'a queue has room for every ticket of its pool')
    ticket.queue = queue
  }
}

/** A queue that a pool's own bound (`waiters_max`) keeps from growing for ever. */
export function ticketQueue(): Queue<Ticket> {
  return new Queue<Ticket>(Number.MAX_SAFE_INTEGER)
}
