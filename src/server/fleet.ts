/**
 * The servers that one pool owns, over all its members: where each is at home, how it ends, and why
 * it ended. Gives back what a server was counted under. Decides nothing.
 */
import { ProxyError } from '../base/errors.ts'
import type { ServerConnection } from './connection.ts'
import type { PoolContext } from './context.ts'
import type { MemberPool } from './member-pool.ts'
import type { Replication } from './target.ts'

/** Why a server was closed; a bounded set of words for the metrics. */
export type CloseReason =
  | 'cancel'
  | 'changed'
  | 'check'
  | 'clean'
  | 'discarded'
  | 'doomed'
  | 'evicted'
  | 'fenced'
  | 'idle'
  | 'killed'
  | 'lease'
  | 'lifetime'
  | 'lost'
  | 'member_gone'
  | 'not_idle'
  | 'paused'
  | 'promoted'
  | 'replication'
  | 'shutdown'
  | 'silent'
  | 'size'
  | 'timeout'

/** How long a server may take to close its side. */
const CLOSE_MS_MAX = 5000

export class Fleet {
  readonly closedByReason: Record<string, number> = {}
  readonly #context: PoolContext
  readonly #servers = new Set<ServerConnection>()
  readonly #replications = new Map<ServerConnection, Replication>()
  readonly #primaryReads = new Set<ServerConnection>()
  /** Closed in good order, until the peer has closed too; with the time. */
  readonly #closing = new Map<ServerConnection, number>()

  constructor(context: PoolContext) {
    this.#context = context
  }

  get size(): number {
    return this.#servers.size
  }

  servers(): IterableIterator<ServerConnection> {
    return this.#servers.values()
  }

  /** Undefined once it is closed. */
  homeOf(server: ServerConnection): MemberPool | undefined {
    return server.home ?? undefined
  }

  /** The server's slot is taken already. */
  add(server: ServerConnection, member: MemberPool, replication: Replication = 'none'): void {
    this.#servers.add(server)
    server.home = member
    if (replication !== 'none') this.#replications.set(server, replication)
  }

  replicationOf(server: ServerConnection): Replication {
    if (this.#replications.size === 0) return 'none'
    return this.#replications.get(server) ?? 'none'
  }

  /** Servers that are closed when they come back; replication never does. */
  get hasDoomed(): boolean {
    for (const server of this.#servers)
      if (server.isDoomed && !this.#replications.has(server)) return true
    return false
  }

  beginPrimaryRead(server: ServerConnection): void {
    this.#primaryReads.add(server)
    this.#context.primaryReads += 1
  }

  /** Returns whether it was one. */
  endPrimaryRead(server: ServerConnection): boolean {
    if (this.#primaryReads.size === 0 || !this.#primaryReads.delete(server)) return false
    this.#context.primaryReads -= 1
    return true
  }

  /** Ends a server for good. With an error it is cut off, without one it ends in good order. */
  close(server: ServerConnection, reason: CloseReason, error?: ProxyError): void {
    const member = server.home
    if (member === null) return
    this.#drop(server, member, reason)
    if (error !== undefined || !server.isIdle) {
      server.destroy(error ?? new ProxyError('server_lost'))
    } else {
      this.#closing.set(server, this.#context.tickMs)
      server.close()
    }
    this.#context.onRoom(member.name)
  }

  /** It is closed now if it is free, else when it comes back. */
  doom(server: ServerConnection, reason: CloseReason): void {
    server.isDoomed = true
    if (isFree(server)) this.close(server, reason)
  }

  /** What works goes on. */
  closeFree(reason: CloseReason): void {
    for (const server of this.#servers) if (isFree(server)) this.close(server, reason)
  }

  /** Cuts off what works on the primary; free servers stay for the case that it is vouched for again. */
  cutPrimary(error: ProxyError): void {
    for (const server of this.#servers)
      if (server.identity.role === 'primary' && !isFree(server)) this.close(server, 'lease', error)
  }

  /** Cuts off what was opened before the member went silent, or was started again. */
  cutBefore(member: MemberPool, beforeMs: number, error: ProxyError): void {
    for (const server of member.servers())
      if (server.openedMs < beforeMs) this.close(server, 'silent', error)
  }

  /** The connection ended without our doing; returns false when it was closed before. */
  lose(server: ServerConnection): boolean {
    this.#closing.delete(server)
    const member = server.home
    if (member === null) return false
    this.#drop(server, member, 'lost')
    this.#context.onRoom(member.name)
    return true
  }

  /** Cuts off those that do not close their side. */
  sweep(nowMs: number): void {
    for (const [server, sinceMs] of this.#closing) {
      if (nowMs - sinceMs < CLOSE_MS_MAX) continue
      this.#closing.delete(server)
      server.destroy(new ProxyError('server_lost'))
    }
  }

  #drop(server: ServerConnection, member: MemberPool, reason: CloseReason): void {
    const { tickMs, limits, log } = this.#context
    if (reason === 'lifetime') member.lastLifetimeCloseMs = tickMs
    member.move(server, 'closed', tickMs)
    this.#servers.delete(server)
    server.home = null
    this.#replications.delete(server)
    this.endPrimaryRead(server)
    limits.give(member.slot)
    this.closedByReason[reason] = (this.closedByReason[reason] ?? 0) + 1
    log.debug({ server: server.id, member: server.identity.member, reason }, 'server closed')
  }
}

function isFree(server: ServerConnection): boolean {
  return server.state === 'idle' || server.state === 'used'
}
