/**
 * Whether a server that ended without a word took its member along, or died of the statement that it
 * ran. PostgreSQL tells: when one of its processes crashes, the postmaster ends all others, and each
 * that is free says so first (a warning 57P02). So a free connection to the same member that ended
 * without a word shows that nothing had crashed: all of the member is gone, and the statement is not
 * to blame. One that was at work shows nothing: in the middle of a message it cannot warn.
 *
 * Who held the server is told only when that is known, or after a short wait. Decides nothing else.
 * Source  quickdie in postgres.c, socket_putmessage in pqcomm.c.
 */
import type { Clock, Timer } from '../base/clock.ts'
import { ProxyError } from '../base/errors.ts'
import type { Topology } from '../cluster/topology.ts'
import type { ServerConnection } from './connection.ts'

/** So long is waited for the word of others, and so far back it counts. */
const INQUEST_MS = 300
const NEVER = Number.NEGATIVE_INFINITY

export interface InquestDeps {
  readonly clock: Clock
  /** There are servers of this worker at the member. */
  readonly isLiving: (member: string) => boolean
}

interface Inquiry {
  readonly server: ServerConnection
  readonly error: ProxyError
  readonly lostMs: number
  readonly timer: Timer
}

/** When connections to one member ended last. */
interface Ends {
  /** Free, without a word. */
  silentMs: number
  /** With the word that another process had crashed. */
  crashedMs: number
}

export class Inquests {
  readonly #deps: InquestDeps
  readonly #open = new Set<Inquiry>()
  readonly #ends = new Map<string, Ends>()

  constructor(deps: InquestDeps) {
    this.#deps = deps
  }

  /** A server ended, and is counted under its member no more. */
  ended(server: ServerConnection, error: ProxyError): void {
    const { member } = server.identity
    const isSilent = server.holder === null && server.isIdle && error.code === 'server_lost'
    if (!isSilent && !server.hasSaidCrash) return this.#look(member)
    const nowMs = this.#deps.clock.nowMs()
    const ends = this.#ends.get(member) ?? { silentMs: NEVER, crashedMs: NEVER }
    this.#ends.set(member, ends)
    if (server.hasSaidCrash) ends.crashedMs = nowMs
    else ends.silentMs = nowMs
    this.#look(member)
  }

  /** The probe's connections are free ones too. */
  onTopology({ members }: Topology): void {
    for (const { name, silentEndMs = null } of members) {
      const ends = this.#ends.get(name)
      if (ends !== undefined && silentEndMs !== null)
        ends.silentMs = Math.max(ends.silentMs, silentEndMs)
      else if (silentEndMs !== null)
        this.#ends.set(name, { silentMs: silentEndMs, crashedMs: NEVER })
    }
    // A member that left the cluster is not asked about for longer than an inquiry takes.
    for (const name of this.#ends.keys())
      if (!members.some((member) => member.name === name) && !this.#isAsked(name))
        this.#ends.delete(name)
    for (const { server } of this.#open) this.#look(server.identity.member)
  }

  /** Its holder is to be told of this end as soon as it is known what it was. */
  begin(server: ServerConnection, error: ProxyError): void {
    const { clock } = this.#deps
    const inquiry: Inquiry = {
      server,
      error,
      lostMs: clock.nowMs(),
      timer: clock.after(INQUEST_MS, () => this.#close(inquiry, error)),
    }
    this.#open.add(inquiry)
    this.#look(server.identity.member)
  }

  #isAsked(member: string): boolean {
    for (const { server } of this.#open) if (server.identity.member === member) return true
    return false
  }

  #look(member: string): void {
    const ends = this.#ends.get(member)
    if (ends === undefined || this.#open.size === 0) return
    const isLiving = this.#deps.isLiving(member)
    for (const inquiry of this.#open) {
      if (inquiry.server.identity.member !== member) continue
      const sinceMs = inquiry.lostMs - INQUEST_MS
      if (ends.crashedMs > sinceMs) this.#close(inquiry, inquiry.error)
      else if (ends.silentMs > sinceMs && !isLiving)
        this.#close(inquiry, new ProxyError('member_silent', { member }, inquiry.error))
    }
  }

  #close(inquiry: Inquiry, error: ProxyError): void {
    if (!this.#open.delete(inquiry)) return
    inquiry.timer.cancel()
    inquiry.server.tellEnd(error)
  }
}
