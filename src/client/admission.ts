/**
 * How many clients are here, per database and user, and whether one more may come. It knows numbers
 * and names, no session.
 */
import { ProxyError } from '../base/errors.ts'
import type { Config } from '../config/config.ts'

export class Admission {
  readonly #config: () => Config
  readonly #byDatabase = new Map<string, number>()
  readonly #byUser = new Map<string, number>()

  constructor(config: () => Config) {
    this.#config = config
  }

  /**
   * Whether one more may come while there are `clients` in all.
   *
   * Errors  ProxyError `max_client_conn`, `max_db_client_connections`, `max_user_client_connections`.
   */
  check(clients: number, database: string, user: string): void {
    const { pgbouncer, databases, users } = this.#config()
    const databaseMax =
      databases.get(database)?.maxDbClientConnections ?? pgbouncer.maxDbClientConnections
    const userMax = users.get(user)?.maxUserClientConnections ?? pgbouncer.maxUserClientConnections
    if (clients >= this.share(pgbouncer.maxClientConn)) throw new ProxyError('max_client_conn')
    if ((this.#byDatabase.get(database) ?? 0) >= this.share(databaseMax))
      throw new ProxyError('max_db_client_connections')
    if ((this.#byUser.get(user) ?? 0) >= this.share(userMax))
      throw new ProxyError('max_user_client_connections')
  }

  came(database: string, user: string): void {
    count(this.#byDatabase, database, 1)
    count(this.#byUser, user, 1)
  }

  left(database: string, user: string): void {
    count(this.#byDatabase, database, -1)
    count(this.#byUser, user, -1)
  }

  /** This worker's part of a limit; 0 is no limit. */
  share(limit: number): number {
    return limit === 0
      ? Number.POSITIVE_INFINITY
      : Math.ceil(limit / this.#config().pgsteer.workers)
  }
}

function count(counts: Map<string, number>, key: string, change: number): void {
  const next = (counts.get(key) ?? 0) + change
  if (next > 0) counts.set(key, next)
  else counts.delete(key)
}
