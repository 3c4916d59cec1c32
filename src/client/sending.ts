/**
 * What of a session's input goes to the server that it holds, and how far: in an open transaction all
 * of it, on a replica one batch at a time. It decides; the forwarder sends.
 *
 * hot path.
 */
import * as frame from '../wire/frame.ts'
import type { Attempt } from './attempt.ts'
import { BatchReader, limitsOf } from './batch.ts'
import { mayLeaveReplica } from './decide.ts'
import type { Input } from './input.ts'
import type { Lease } from './lease.ts'
import type { Replies } from './replies.ts'
import type { Reported } from './reported.ts'
import type { Session } from './session.ts'
import { staysOnReplica } from './work.ts'

/** What only the session has. */
export interface Parts {
  readonly attempt: Attempt
  readonly input: Input
  readonly lease: Lease
  readonly replies: Replies
  readonly reported: Reported
}

/** `leaves`: what comes next is not for the replica whose transaction is open. */
export type Sent = 'some' | 'nothing' | 'leaves' | 'terminated'

/** Read synchronously by one session at a time: its result is valid until the next `readNext`. */
export const reader = new BatchReader()

/** Reads the batch at the front of the input. Returns false when it is not there yet. */
export function readNext(session: Session, input: Input): boolean {
  const limits = limitsOf(session.services.config(), session.pool.config.isRouted)
  return reader.read(input.bytes, session.prepared, session, limits)
}

export class Sending {
  readonly #session: Session
  readonly #parts: Parts

  constructor(session: Session, parts: Parts) {
    this.#session = session
    this.#parts = parts
  }

  /** The batch that was routed. */
  first(): Sent {
    const { attempt, input } = this.#parts
    return this.#send(this.#isAlone() && attempt.isWhole ? attempt.bytes : input.length)
  }

  /** What came behind it. */
  next(): Sent {
    const { attempt, input, lease } = this.#parts
    const { forwarder, isOwed } = lease
    const isOpen = this.#session.transaction.status !== frame.STATUS_IDLE || forwarder.isUnsynced
    const isBusy = isOwed && !forwarder.isCopyIn
    if (!isOpen && isBusy && attempt.isWhole && this.#isAlone()) return 'nothing'
    if (
      mayLeaveReplica(this.#session, lease) &&
      readNext(this.#session, input) &&
      !reader.classified.every(staysOnReplica)
    )
      return 'leaves'
    if (this.#isOneByOne && !forwarder.isCopyIn) return this.#sendOne(isBusy)
    return this.#send(input.length)
  }

  /**
   * On a replica one batch at a time, so that the next may be routed by itself; behind a pooler, so
   * that its settings are made first.
   */
  #isAlone(): boolean {
    const { attempt, lease } = this.#parts
    return lease.role === 'replica' || attempt.isRetained || lease.isShared
  }

  /** Behind a pooler, and on a replica, which serves only what was routed to it. */
  get #isOneByOne(): boolean {
    const { lease } = this.#parts
    return lease.isShared || lease.role === 'replica'
  }

  /** In an open transaction: what follows its end is not part of it, and is routed by itself. */
  #sendOne(isBusy: boolean): Sent {
    const { input, lease } = this.#parts
    const { forwarder } = lease
    if (forwarder.isMidMessage || forwarder.isUnsynced) return this.#send(input.length)
    if (isBusy || !readNext(this.#session, input)) return 'nothing'
    return this.#send(reader.isWhole ? reader.bytes : input.length)
  }

  #send(bytesMax: number): Sent {
    const { input, lease } = this.#parts
    this.#session.meter.sent()
    const taken = lease.send(input.bytes, bytesMax)
    input.take(taken)
    if (lease.forwarder.isTerminated) return 'terminated'
    return taken > 0 ? 'some' : 'nothing'
  }
}
