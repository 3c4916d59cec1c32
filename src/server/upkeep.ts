/**
 * What one pool runs on servers that nobody holds: it cleans what comes back, checks what was unused
 * for long, greets what was opened, and has a promoted replica's servers prove it. Which statements
 * those are is cleaning.ts; what becomes of a server behind them is the pool's business.
 *
 * hot path: `clean`, for which a server that is clean as it is costs a few comparisons.
 */
import type { ProxyError } from '../base/errors.ts'
import { cleaningSql, noteCleaned, PROMOTED_SQL } from './cleaning.ts'
import type { ServerConnection } from './connection.ts'
import type { PoolContext } from './context.ts'
import type { CloseReason } from './fleet.ts'
import type { MemberPool } from './member-pool.ts'
import type { PoolState } from './pool.ts'

export interface UpkeepOwner {
  /** The server is fit for the next session. */
  onFit(server: ServerConnection, member: MemberPool): void
  onUnfit(server: ServerConnection, reason: CloseReason, error?: ProxyError): void
}

export class Upkeep {
  readonly #context: PoolContext
  readonly #state: Readonly<PoolState>
  readonly #owner: UpkeepOwner

  constructor(context: PoolContext, state: Readonly<PoolState>, owner: UpkeepOwner) {
    this.#context = context
    this.#state = state
    this.#owner = owner
  }

  /** A session is done with it. Returns false when it is clean as it is: the owner is not told. */
  clean(server: ServerConnection, member: MemberPool): boolean {
    const sql = cleaningSql(server, this.#state.config, this.#context.config)
    if (sql === '') return false
    member.move(server, 'tested', this.#context.tickMs)
    this.#run(server, member, { sql, reason: 'clean' })
    return true
  }

  /** It was not used for long. */
  check(server: ServerConnection, member: MemberPool): void {
    member.move(server, 'tested', this.#context.tickMs)
    this.#try(server, member, this.#context.config.pgbouncer.serverCheckQuery)
  }

  /** It was opened a moment ago, and is `tested`. */
  greet(server: ServerConnection, member: MemberPool): void {
    this.#try(server, member, this.#state.config.connectQuery)
  }

  /** A replica's servers serve on when it was promoted, once each of them has said so itself. */
  takeOver(server: ServerConnection, member: MemberPool): void {
    const { term } = this.#context.view.topology
    if (server.state !== 'tested') member.move(server, 'tested', this.#context.tickMs)
    server.run(PROMOTED_SQL, (error) => {
      if (server.state === 'closed') return
      const isSame = this.#context.view.topology.term === term && isPromoted(server, member)
      const isStandby = server.parameters.get('in_hot_standby') === 'on'
      if (error !== null || !isSame || isStandby || !server.isIdle) {
        this.#owner.onUnfit(server, 'promoted', error ?? undefined)
        return
      }
      server.becomePrimary(term)
      this.#owner.onFit(server, member)
    })
  }

  /** `sql` null: there is nothing to try. */
  #try(server: ServerConnection, member: MemberPool, sql: string | null): void {
    if (sql === null) this.#owner.onFit(server, member)
    else this.#run(server, member, { sql, reason: 'check' })
  }

  #run(
    server: ServerConnection,
    member: MemberPool,
    { sql, reason }: { readonly sql: string; readonly reason: 'check' | 'clean' },
  ): void {
    server.run(Buffer.from(sql).toString('latin1'), (error) => {
      if (server.state === 'closed') return
      if (error !== null || !server.isIdle) {
        this.#owner.onUnfit(server, reason, error ?? undefined)
        return
      }
      if (reason === 'clean') noteCleaned(server, sql)
      this.#owner.onFit(server, member)
    })
  }
}

/** It was opened to a replica, which is the primary now. */
export function isPromoted(server: ServerConnection, member: MemberPool): boolean {
  return server.identity.role === 'replica' && member.role === 'primary'
}
