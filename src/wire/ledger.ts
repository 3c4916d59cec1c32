/**
 * The ledger of replies owed: what a server still has to answer, in order, and what becomes of each
 * answer. A server that owes nothing and said ReadyForQuery 'I' is free.
 *
 *     head                                             tail
 *     | Parse swallow | Bind forward | Execute forward | Sync forward |
 *
 * An entry is pushed when its message is sent and taken when its reply is whole. An entry of kind
 * 'local' has no message: it is a reply of our own (ParseComplete for a Parse that this server has
 * seen already) that must come out at its place in the order.
 *
 * hot path: entries are small objects made per message of the extended protocol and per Query,
 * never per reply or row.
 * Source  postgres.c, PostgresMain: `ignore_till_sync` and `doing_extended_query_message`.
 */
import { invariant } from '../base/invariant.ts'
import * as frame from './frame.ts'

export type EntryKind =
  | 'query'
  | 'function'
  | 'parse'
  | 'bind'
  | 'describe_statement'
  | 'describe'
  | 'execute'
  | 'close'
  | 'sync'
  | 'local'

export interface Entry {
  readonly kind: EntryKind
  /** False: the answer is ours, the client never sees it. */
  readonly forward: boolean
  /** What the owner of the entry wants back when it is answered or skipped. */
  readonly subject: Subject | null
  /** Kind 'local': makes the reply when its turn comes. */
  readonly reply: (() => Buffer) | null
  /** Notices that come before its answer are kept from the client: they are about our wording. */
  readonly isQuiet?: true
  /** What its owner wants to know of it when it is never answered: bits of the owner's own. */
  readonly stake?: number
}

/** The owner's side of an entry; called by the owner, never by the ledger. */
export interface Subject {
  /** The reply came: `succeeded` is false when it was an error or was skipped because of one. */
  settle(succeeded: boolean): void
}

/** A ledger that was longer than this gives its room back when it is empty. */
const ROOM_MAX = 64
/** So much room before the head is used again also when it never is. */
const GONE_MAX = 1024

export class Ledger {
  /** Those before the head and behind the tail are gone: their room is used again. */
  readonly #entries: (Entry | undefined)[] = []
  #head = 0
  #tail = 0
  /** An error came in the extended protocol: the server ignores everything up to the next Sync. */
  #skipping = false

  get length(): number {
    return this.#tail - this.#head
  }

  get head(): Entry | undefined {
    return this.#entries[this.#head]
  }

  get isSkipping(): boolean {
    return this.#skipping
  }

  /**
   * Books a message that is being sent.
   *
   * While the server skips to a Sync, a message other than Sync will not be answered: it is settled
   * as failed at once and not booked.
   */
  push(entry: Entry): void {
    if (this.#skipping) {
      if (entry.kind !== 'sync') {
        entry.subject?.settle(false)
        return
      }
      this.#skipping = false
    }
    // A store that may be behind the end is slower, and this one is made for every message.
    if (this.#tail === this.#entries.length) this.#entries.push(entry)
    else this.#entries[this.#tail] = entry
    this.#tail += 1
  }

  /** Takes the head off; its reply is whole. */
  take(): Entry {
    const entry = this.#entries[this.#head]
    invariant(entry !== undefined, 'a reply is owed when one comes')
    this.#entries[this.#head] = undefined
    this.#head += 1
    if (this.#head === this.#tail) this.#restart()
    else if (this.#head >= GONE_MAX && this.#head > this.#tail >> 1) this.#compact()
    return entry
  }

  /** What is owed moves to the front: at most as much as was taken since the last time. */
  #compact(): void {
    this.#entries.copyWithin(0, this.#head, this.#tail)
    this.#tail -= this.#head
    this.#head = 0
    this.#entries.length = this.#tail
  }

  /** Room that it takes, used or not. */
  get room(): number {
    return this.#entries.length
  }

  /** Empty: the next entry is the first again. */
  #restart(): void {
    if (this.#tail > ROOM_MAX) this.#entries.length = 0
    this.#head = 0
    this.#tail = 0
  }

  /**
   * An ErrorResponse came. A Query or FunctionCall still owes its ReadyForQuery and stays; in the
   * extended protocol everything before the next Sync is dropped and settled as failed.
   *
   * Returns whether the error belongs to the client (false: to a message that we injected).
   */
  fail(): boolean {
    const head = this.head
    invariant(head !== undefined, 'an error answers something')
    if (endsUnit(head.kind)) return head.forward
    while (this.head !== undefined && this.head.kind !== 'sync') this.take().subject?.settle(false)
    if (this.head === undefined) this.#skipping = true
    return true
  }

  /** The server began COPY FROM STDIN: the Syncs that follow at once will not be answered. */
  dropSyncs(): void {
    while (this.#entries[this.#head + 1]?.kind === 'sync') {
      this.#entries.splice(this.#head + 1, 1)
      this.#tail -= 1
    }
  }

  /** What was booked last was not sent: it is settled as failed until `length` are left. */
  takeBack(length: number): void {
    while (this.length > length) {
      this.#tail -= 1
      const entry = this.#entries[this.#tail]
      this.#entries[this.#tail] = undefined
      entry?.subject?.settle(false)
    }
  }

  /** Settles everything as failed: the server is gone. */
  abandon(): void {
    while (this.length > 0) this.take().subject?.settle(false)
    this.#skipping = false
  }

  *[Symbol.iterator](): IterableIterator<Entry> {
    for (let index = this.#head; index < this.#tail; index += 1) {
      const entry = this.#entries[index]
      if (entry !== undefined) yield entry
    }
  }
}

/** A ReadyForQuery ends the answer to it. */
function endsUnit(kind: EntryKind): boolean {
  return kind === 'query' || kind === 'function' || kind === 'sync'
}

/** Whether a server message of `type` is the whole reply to an entry of `kind`. */
export function completes(kind: EntryKind, type: number): boolean {
  switch (type) {
    case frame.READY_FOR_QUERY:
      return endsUnit(kind)
    case frame.PARSE_COMPLETE:
      return kind === 'parse'
    case frame.BIND_COMPLETE:
      return kind === 'bind'
    case frame.CLOSE_COMPLETE:
      return kind === 'close'
    case frame.ROW_DESCRIPTION:
    case frame.NO_DATA:
      return kind === 'describe' || kind === 'describe_statement'
    case frame.COMMAND_COMPLETE:
    case frame.EMPTY_QUERY:
    case frame.PORTAL_SUSPENDED:
      return kind === 'execute'
    default:
      return false
  }
}
