/**
 * Session mode: the servers that a session keeps between its batches, at most one per role.
 */
import type { ServerConnection } from '../server/connection.ts'

type Role = 'primary' | 'replica' | 'plain'

function isFor(role: Role, wanted: 'primary' | 'any'): boolean {
  return wanted === 'any' || role === wanted
}

export class Parking {
  /** Null: none is parked, as always outside session mode. */
  #servers: Map<Role, ServerConnection> | null = null

  get isEmpty(): boolean {
    return this.#servers === null
  }

  /** Returns the one of the same role that was here before, which is parked no longer. */
  put(server: ServerConnection): ServerConnection | null {
    const { role } = server.identity
    this.#servers ??= new Map()
    const before = this.#servers.get(role) ?? null
    this.#servers.set(role, server)
    return before
  }

  /**
   * The server that may do this work, or null.
   *
   * `mayRead`  whether a member's server may answer the read at hand: a replica may be too old, and
   *            the primary is asked where there is none.
   */
  take(
    wanted: 'primary' | 'replica' | 'any',
    mayRead: (server: ServerConnection) => boolean,
  ): ServerConnection | null {
    if (this.#servers === null) return null
    for (const [role, server] of this.#servers)
      if (role === 'plain' || (wanted === 'replica' ? mayRead(server) : isFor(role, wanted))) {
        this.#delete(role)
        return server
      }
    return null
  }

  /** The replica's server, which is parked no longer, or null. */
  takeReplica(): ServerConnection | null {
    const server = this.#servers?.get('replica') ?? null
    this.#delete('replica')
    return server
  }

  /** It is gone. Returns whether it was parked. */
  remove(server: ServerConnection): boolean {
    const { role } = server.identity
    if (this.#servers?.get(role) !== server) return false
    this.#delete(role)
    return true
  }

  /** All of them, which are parked no longer. */
  clear(): ServerConnection[] {
    const servers = [...(this.#servers?.values() ?? [])]
    this.#servers = null
    return servers
  }

  #delete(role: Role): void {
    this.#servers?.delete(role)
    if (this.#servers?.size === 0) this.#servers = null
  }
}
