/**
 * Session mode: the servers that a session keeps between its batches, at most one per role.
 */
import type { ServerConnection } from '../server/connection.ts'

type Role = 'primary' | 'replica' | 'plain'

function isFor(role: Role, wanted: 'primary' | 'any'): boolean {
  return wanted === 'any' || role === wanted
}

export class Parking {
  readonly #servers = new Map<Role, ServerConnection>()

  get isEmpty(): boolean {
    return this.#servers.size === 0
  }

  /** Returns the one of the same role that was here before, which is parked no longer. */
  put(server: ServerConnection): ServerConnection | null {
    const { role } = server.identity
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
    for (const [role, server] of this.#servers)
      if (role === 'plain' || (wanted === 'replica' ? mayRead(server) : isFor(role, wanted))) {
        this.#servers.delete(role)
        return server
      }
    return null
  }

  /** The replica's server, which is parked no longer, or null. */
  takeReplica(): ServerConnection | null {
    const server = this.#servers.get('replica') ?? null
    this.#servers.delete('replica')
    return server
  }

  /** It is gone. Returns whether it was parked. */
  remove(server: ServerConnection): boolean {
    const { role } = server.identity
    return this.#servers.get(role) === server && this.#servers.delete(role)
  }

  /** All of them, which are parked no longer. */
  clear(): ServerConnection[] {
    const servers = [...this.#servers.values()]
    this.#servers.clear()
    return servers
  }
}
