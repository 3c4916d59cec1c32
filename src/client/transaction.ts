/**
 * The transaction of one session, as the client sees it.
 *
 *   idle      none is open
 *   deferred  BEGIN was answered by us and no server has seen it yet
 *   open      a server is inside it
 *   failed    a server is inside it and refuses everything up to its end
 *   lost      no server is inside it any more: we refuse everything up to its end
 *
 * It knows no socket and no pool: the session asks it what a statement means here.
 */
import { invariant } from '../base/invariant.ts'
import type { Classified, Statement } from '../routing/classify.ts'
import * as frame from '../wire/frame.ts'

export const TRANSACTION_STATES = ['idle', 'deferred', 'open', 'failed', 'lost'] as const

export type TransactionState = (typeof TRANSACTION_STATES)[number]

export const NEXT_TRANSACTION_STATES = {
  // Lost: with its BEGIN on the way.
  idle: ['idle', 'deferred', 'open', 'failed', 'lost'],
  deferred: ['idle', 'open', 'failed', 'lost'],
  open: ['idle', 'open', 'failed', 'lost'],
  failed: ['idle', 'open', 'failed', 'lost'],
  lost: ['idle'],
} as const satisfies Record<TransactionState, readonly TransactionState[]>

/** What the session answers itself, without a server. */
export type LocalAnswer =
  | {
      readonly kind: 'complete'
      readonly tag: string
      readonly status: number
      /** None is open, says a warning. */
      readonly isWarned?: true
    }
  /** AND CHAIN: the next transaction begins, by this text. */
  | {
      readonly kind: 'complete'
      readonly tag: string
      readonly status: number
      readonly begins: string
    }
  | { readonly kind: 'refuse' }
  /** The client has not been told yet, or asks for what is gone. `ends`: the transaction is over. */
  | { readonly kind: 'lost'; readonly ends: boolean }

export class Transaction {
  #state: TransactionState = 'idle'
  /** The BEGIN that was answered by us. */
  #deferred: Classified | null = null
  #deferredText = ''
  #isLossTold = false
  /** What said which kind of transaction it is, if that was sent; 'mixed' where that is not known. */
  #modes: Statement | 'mixed' | null = null
  /** It ended with its server, the client was told by an error, and has asked for nothing since. */
  #isEndNews = false
  /** BEGIN READ ONLY, or a session whose transactions are read only by default. */
  isReadOnly = false
  /** A statement that may have written was sent inside it. */
  hasWritten = false
  /** Monotonic; 0 when none is open. */
  startedMs = 0

  get state(): TransactionState {
    return this.#state
  }

  /** The status byte that the client was told last. */
  get status(): number {
    switch (this.#state) {
      case 'idle':
        return frame.STATUS_IDLE
      case 'deferred':
      case 'open':
        return frame.STATUS_OPEN
      case 'failed':
        return frame.STATUS_FAILED
      case 'lost':
        return this.#isLossTold ? frame.STATUS_FAILED : frame.STATUS_OPEN
    }
  }

  /** The BEGIN that has to go out before the next batch, or null. */
  get deferredText(): string | null {
    return this.#state === 'deferred' ? this.#deferredText : null
  }

  get deferredBegin(): Statement | null {
    return this.#state === 'deferred' ? (this.#deferred?.statements[0] ?? null) : null
  }

  /** The BEGIN with which it began, if that was answered by us. */
  get begun(): { readonly text: string; readonly classified: Classified } | null {
    return this.#deferred === null ? null : { text: this.#deferredText, classified: this.#deferred }
  }

  /** Lost, and the client has not been told. */
  get isLossUntold(): boolean {
    return this.#state === 'lost' && !this.#isLossTold
  }

  /** A bare BEGIN was answered by us. */
  defer(text: string, classified: Classified, nowMs: number): void {
    this.#move('deferred')
    this.#deferred = classified
    this.#deferredText = text
    this.isReadOnly = classified.statements[0]?.readOnly === true
    this.startedMs = nowMs
  }

  /** A statement is being sent that says what kind of transaction it is, or that nobody has read. */
  noteModes(statement: Statement): void {
    const isFirst = this.#state === 'idle' && this.#modes === null
    this.#modes = isFirst && statement.verb === 'begin' ? statement : 'mixed'
  }

  /** The server that was inside it is gone, or none could be had. `isTold`: the client knows. */
  lose(isTold: boolean, nowMs: number): void {
    if (this.#state === 'idle') this.startedMs = nowMs
    if (this.#state !== 'lost') this.#move('lost')
    this.#isLossTold = isTold
  }

  /** The server that was inside it is gone, and it is over: the client was told by an error. */
  endByLoss(nowMs: number): void {
    this.ready(frame.STATUS_IDLE, nowMs)
    this.#isEndNews = true
  }

  /** A ReadyForQuery of the server, or of ours; what it answers was asked at `askedMs`. */
  ready(status: number, askedMs: number): void {
    if (status === frame.STATUS_IDLE) {
      // Most statements are transactions of their own, and come from idle to idle.
      if (this.#state !== 'idle') this.#move('idle')
      this.#end()
      return
    }
    if (this.#state === 'idle') this.startedMs = askedMs
    const to = status === frame.STATUS_OPEN ? 'open' : 'failed'
    // Most statements of a transaction leave it as it is.
    if (this.#state !== to) this.#move(to)
  }

  /**
   * What becomes of a batch that holds this one statement while no server is inside the
   * transaction; null when a server has to answer.
   */
  localAnswer(statement: Statement): LocalAnswer | null {
    if (this.#state === 'idle') return this.#isEndNews ? idleAnswer(statement) : null
    if (this.#state === 'deferred') return deferredAnswer(statement)
    if (this.#state === 'lost') return this.#lostAnswer(statement)
    return null
  }

  /**
   * As PostgreSQL answers in a failed transaction, except that no savepoint is left to go back to. Who
   * has not been told yet and says COMMIT must not take the answer for a success.
   */
  #lostAnswer({ chain, verb }: Statement): LocalAnswer {
    const isEnd = verb === 'commit' || verb === 'rollback'
    const isAnswered = isEnd && (this.#isLossTold || verb === 'rollback')
    if (isAnswered && chain !== true)
      return { kind: 'complete', tag: 'ROLLBACK', status: frame.STATUS_IDLE }
    const begins = isAnswered ? this.#chainText : null
    if (begins !== null)
      return { kind: 'complete', tag: 'ROLLBACK', status: frame.STATUS_OPEN, begins }
    const isGone = chain === true || verb === 'rollback_to' || verb === 'release'
    if (this.#isLossTold && !isGone) return { kind: 'refuse' }
    return { kind: 'lost', ends: isEnd && chain !== true }
  }

  /** The BEGIN of another transaction of the same kind, or null where the kind is not known. */
  get #chainText(): string | null {
    if (this.#modes === 'mixed') return null
    if (this.#modes !== null) return beginLike(this.#modes)
    return this.#deferred === null ? null : this.#deferredText
  }

  #end(): void {
    this.#deferred = null
    this.#deferredText = ''
    this.isReadOnly = false
    this.hasWritten = false
    this.startedMs = 0
    this.#isLossTold = false
    this.#modes = null
    this.#isEndNews = false
  }

  #move(to: TransactionState): void {
    const allowed: readonly TransactionState[] = NEXT_TRANSACTION_STATES[this.#state]
    if (!allowed.includes(to)) invariant(false, `transaction ${this.#state} does not become ${to}`)
    this.#state = to
  }
}

/** Drivers roll back after an error, which is no reason to wait for a primary. */
function idleAnswer({ chain, verb }: Statement): LocalAnswer | null {
  if (verb !== 'rollback' || chain === true) return null
  return { kind: 'complete', tag: 'ROLLBACK', status: frame.STATUS_IDLE, isWarned: true }
}

/** An empty transaction never needs a server. */
function deferredAnswer(statement: Statement): LocalAnswer | null {
  if (statement.chain === true) return null
  if (statement.verb === 'commit')
    return { kind: 'complete', tag: 'COMMIT', status: frame.STATUS_IDLE }
  if (statement.verb === 'rollback')
    return { kind: 'complete', tag: 'ROLLBACK', status: frame.STATUS_IDLE }
  return null
}

const LEVELS = {
  read_committed: 'READ COMMITTED',
  repeatable_read: 'REPEATABLE READ',
  serializable: 'SERIALIZABLE',
} as const

/** Null where it might fail on a replica, or be DEFERRABLE, which a Statement does not tell. */
function beginLike({ isolation, readOnly }: Statement): string | null {
  if (readOnly === false || (readOnly === true && isolation === 'serializable')) return null
  const level = isolation === undefined ? '' : ` ISOLATION LEVEL ${LEVELS[isolation]}`
  return `BEGIN${level}${readOnly === true ? ' READ ONLY' : ''}`
}
