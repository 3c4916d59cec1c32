/**
 * Session mode: the servers that a session keeps between its batches, at most one per role.
 */
import type { ServerConnection } from '../server/connection.ts'

type Role = 'primary' | 'replica' | 'plain'

export class Parking {
  readonly #servers = new Map<Role, ServerConnection>()

  get isEmpty(): boolean {
    return this.#servers.size === 0
  }

  put(server: ServerConnection): void {
    this.#servers.set(server.identity.role, server)
  }

  /** The server that may do this work, or null. */
  take(wanted: 'primary' | 'replica' | 'any'): ServerConnection | null {
    for (const [role, server] of this.#servers)
      if (role === wanted || role === 'plain' || wanted === 'any') {
        this.#servers.delete(role)
        return server
      }
    return null
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
