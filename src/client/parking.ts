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
   * `mayServe`  whether a member's server may do it: a replica may be too old for the read at hand,
   *             and the primary is asked where there is none.
   * `isJudged`  the primary's work is judged too: its client asks for a position.
   */
  take(
    wanted: 'primary' | 'replica' | 'any',
    mayServe: (server: ServerConnection) => boolean,
    isJudged: boolean,
  ): ServerConnection | null {
    if (this.#servers === null) return null
    const isFit = (role: Role, server: ServerConnection): boolean =>
      wanted === 'replica'
        ? mayServe(server)
        : isFor(role, wanted) && (wanted === 'any' || !isJudged || mayServe(server))
    // Of one that was cut off its session learns in a moment.
    for (const [role, server] of this.#servers)
      if (server.state !== 'closed' && (role === 'plain' || isFit(role, server))) {
        this.#delete(role)
        return server
      }
    return null
  }

  /** The server of this role, whatever it may do, which is parked no longer, or null. */
  takeOut(role: 'primary' | 'replica'): ServerConnection | null {
    const server = this.#servers?.get(role) ?? null
    if (server?.state === 'closed') return null
    this.#delete(role)
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
