/**
 * What a session makes of the replies that its relay finds: effects of statements, errors that are
 * healed, the end of transactions. The bytes themselves pass by.
 */
import type { ServerConnection } from '../server/connection.ts'
import { isCarriedByPooler } from '../server/settings.ts'
import * as frame from '../wire/frame.ts'
import type { Entry } from '../wire/ledger.ts'
import type { Attempt } from './attempt.ts'
import { applyEffect } from './effects.ts'
import { isRemembered, isStalePlan, isWrite, type Refusal } from './healing.ts'
import { isFatal, type RelayOwner } from './relay.ts'
import type { Reported } from './reported.ts'
import type { Session } from './session.ts'
import { Work } from './work.ts'

/** Timeouts of the client's own, and messages that PostgreSQL does not take. */
const OWN_DOING: ReadonlySet<string> = new Set(['25P03', '25P04', '57P05', '08P01'])

export class Replies implements RelayOwner {
  readonly #session: Session
  readonly #attempt: Attempt
  readonly #reported: Reported
  /** An error came since the last ReadyForQuery: a transaction that ends now was rolled back. */
  #hasFailed = false
  /** What was reported since the transaction began, with the value that was told before. */
  #reports: Map<string, string> | null = null

  constructor(session: Session, attempt: Attempt, reported: Reported) {
    this.#session = session
    this.#attempt = attempt
    this.#reported = reported
  }

  send(bytes: Buffer): void {
    this.#session.send(bytes)
  }

  onComplete(entry: Entry, tag: string, server: ServerConnection): Buffer | null {
    if (!(entry.subject instanceof Work)) return null
    const statement = entry.subject.shift()
    return statement === undefined ? null : applyEffect(this.#session, { statement, tag, server })
  }

  onError(
    fields: Readonly<Record<string, string>>,
    isUnanswered: boolean,
    server: ServerConnection,
  ): boolean {
    const sqlstate = fields['C'] ?? ''
    const { role } = server.identity
    const isRiding = this.#session.state === 'riding'
    if (isUnanswered && this.#heals({ sqlstate, routine: fields['R'], role, isRiding })) return true
    this.#session.meter.failed(sqlstate)
    this.#hasFailed = true
    if (isFatal(fields)) this.#session.hasEndBeenTold = true
    return false
  }

  /** An error went out behind the last ReadyForQuery. */
  get hasFailed(): boolean {
    return this.#hasFailed
  }

  /** The server ends; what that means for its client is told when its connection is gone. */
  keepsEnd(fields: Readonly<Record<string, string>>, server: ServerConnection): boolean {
    if (OWN_DOING.has(fields['C'] ?? '')) return false
    server.isDoomed = true
    return true
  }

  mayRepeat(): boolean {
    return this.#attempt.isRetained && this.#session.transaction.state === 'idle'
  }

  /** The server is gone. */
  reset(): void {
    this.#hasFailed = false
    this.#reports = null
  }

  onReady(status: number, forward: boolean, server: ServerConnection): void {
    if (this.#attempt.isHealing) {
      this.#reports = null
      return
    }
    const { carried, meter, prepared, services, transaction } = this.#session
    const nowMs = services.clock.nowMs()
    this.#session.activeMs = nowMs
    if (forward) meter.answered(server.identity.role, server.ledger.length > 0, nowMs)
    const { startedMs } = transaction
    const hasFailed = this.#hasFailed
    this.#hasFailed = false
    transaction.ready(status, nowMs - meter.lastQueryMs)
    if (status !== frame.STATUS_IDLE) return
    this.#takeReports(server)
    if (hasFailed) carried.rollback()
    else carried.commit()
    prepared.endTransaction()
    meter.ended(startedMs, nowMs)
  }

  onReport(name: string, value: string, server: ServerConnection): boolean {
    // What a transaction set behind a pooler is reported as taken back at its end.
    if (name !== 'in_hot_standby' && (!server.isShared || isCarriedByPooler(name.toLowerCase()))) {
      this.#reports ??= new Map()
      if (!this.#reports.has(name)) this.#reports.set(name, this.#reported.value(name))
    }
    return this.#reported.pass(name, value)
  }

  /** At the end of a transaction: what SET LOCAL had set is back at what it was. */
  #takeReports(server: ServerConnection): void {
    const reports = this.#reports
    if (reports === null) return
    this.#reports = null
    for (const [name, before] of reports) {
      const value = server.parameters.get(name) ?? before
      if (value !== before) this.#session.carried.report(name, value, server.defaults.get(name))
    }
  }

  /** Keeps an error from the client when its batch may be sent once more. */
  #heals(refusal: Refusal): boolean {
    const { meter, pool, prepared, services, transaction } = this.#session
    if (transaction.state !== 'idle' || !this.#attempt.heals(refusal)) return false
    meter.healed(refusal.sqlstate)
    const statements = services.statements(pool.config.serverDatabase)
    if (refusal.isRiding === true && isWrite(refusal))
      statements.latencies.bar(this.#session.riding.shape)
    for (const text of this.#attempt.texts) {
      if (isRemembered(refusal)) statements.learnPrimaryOnly(text)
      if (isStalePlan(refusal.sqlstate, refusal.routine)) prepared.renew(text)
    }
    return true
  }
}
