/**
 * What the pools ask of whoever opens connections: a member's address, who to log in as, and by
 * when. The pools never dial or prove anything themselves.
 */
import type { ServerSecret } from '../auth/secret.ts'
import type { PoolConfig } from '../config/config.ts'
import type { ServerConnection, ServerIdentity, ServerSeed } from './connection.ts'

export type Replication = 'none' | 'physical' | 'logical'

export interface ServerTarget {
  readonly identity: ServerIdentity
  readonly secret: ServerSecret
  /**
   * Startup parameters besides user and database: what the database's entry sets. They are the
   * session defaults that RESET brings back, so NO_SETTINGS means 'as at log-in'.
   */
  readonly parameters: ReadonlyMap<string, string>
  readonly replication: Replication
  /** From now; the promise must be settled by then. */
  readonly deadlineMs: number
}

/** A server that said ReadyForQuery; its channel has no receiver yet. */
export type OpenedServer = Pick<ServerSeed, 'channel' | 'parameters' | 'processId' | 'cancelSecret'>

/** Rejects with a ProxyError: `server_login_failed` carries what the server itself said. */
export type Connect = (target: ServerTarget) => Promise<OpenedServer>

/** Resolves when the cancel connection reached EOF; rejects when it did not by its deadline. */
export type Cancel = (server: ServerConnection) => Promise<void>

/** Whether servers opened under the one are as good under the other. */
export function sameServers(one: PoolConfig, other: PoolConfig): boolean {
  return serversOf(one) === serversOf(other)
}

function serversOf(config: PoolConfig): string {
  const { isRouted, hosts, port, serverDatabase, serverUser, serverPassword } = config
  const { connectQuery, settings } = config
  const address = [isRouted, hosts, port, serverDatabase, serverUser, serverPassword]
  return JSON.stringify([...address, connectQuery, [...settings]])
}
