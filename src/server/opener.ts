/**
 * Opens servers for one pool: under its size, its reserve and the members' limits, at a bounded
 * pace, and not again too soon after a failure. Proves that what was opened is what the topology
 * said; what becomes of it is the pool's business.
 */

import { type ErrorCode, ProxyError, reasonOf } from '../base/errors.ts'
import { invariant } from '../base/invariant.ts'
import type { PoolConfig } from '../config/config.ts'
import type { Address } from '../net/dial.ts'
import { ServerConnection, type ServerIdentity } from './connection.ts'
import type { PoolContext } from './context.ts'
import { type Slot, shareOf } from './limits.ts'
import type { MemberPool, Opening } from './member-pool.ts'
import type { PoolState } from './pool.ts'
import type { OpenedServer, Replication, ServerTarget } from './target.ts'

/** What the pool does about it. */
export interface OpenerOwner {
  makeRoom(slot: Slot): boolean
  onOpened(server: ServerConnection, member: MemberPool): void
  /** The failure is booked in `member.failure` already. */
  onFailed(member: MemberPool, error: ProxyError): void
  /** Returns whether its holder is told later. */
  onLost(server: ServerConnection, error: ProxyError): boolean
}

/** First pause after a failure that another try may mend, doubled up to server_login_retry. */
const RETRY_MS_MIN = 100
/** The longest pause between log-ins to a member of the cluster, which may come up at any moment. */
const RETRY_MS_MAX = 2000
/** Part of a pause that is left to chance: pools do not come back in the same moment. */
const JITTER = 0.5
/** During a planned switchover somebody who waited so long is not served by the servers there are. */
const DRAIN_PATIENCE_MS = 250
/** The server will say the same again: authentication, no such database, no right to connect. */
const FINAL_SQLSTATE = /^(?:28|3D|42|22|0A)/
const CANNOT_CONNECT_NOW = '57P03'
/** What we know of the user does not do at this server. */
const FINAL_CODES: ReadonlySet<ErrorCode> = new Set(['server_auth', 'server_keys_stale'])

export class Opener {
  opened = 0
  failures = 0
  readonly #context: PoolContext
  readonly #state: Readonly<PoolState>
  readonly #owner: OpenerOwner

  constructor(context: PoolContext, state: Readonly<PoolState>, owner: OpenerOwner) {
    this.#context = context
    this.#state = state
    this.#owner = owner
  }

  /**
   * Begins to open one server, unless a limit, the pace or an earlier failure forbids it.
   *
   * `waitedMs`  of the oldest session that needs it: decides over the reserve.
   */
  open(member: MemberPool, waitedMs: number): boolean {
    if (!this.mayOpen(member, waitedMs) || !this.#owner.makeRoom(member.slot)) return false
    const { role } = member
    const opening: Opening = {
      sinceMs: this.#context.clock.nowMs(),
      role,
      term: role === 'primary' ? this.#context.view.topology.term : 0,
    }
    const address = nextAddress(member, this.#state.config)
    const target = this.target(opening, member, address)
    member.openings.add(opening)
    this.#begin(member)
    this.#context.connect(target).then(
      (opened) => this.#onOpened(member, opening, { target, opened }),
      (error: unknown) => this.#onFailed(member, opening, asLoginError(error)),
    )
    return true
  }

  /** The pool's own side of it: size, reserve, and no failure just before. */
  mayOpen(member: MemberPool, waitedMs: number): boolean {
    if (member.isGone || !this.#isUnderSize(member, waitedMs)) return false
    if (member.role === 'primary' && this.#isHandingOver(member, waitedMs)) return false
    return !member.isFailing(this.#context.clock.nowMs())
  }

  /** What is asked of `connect` for one server at `address`. */
  target(
    opening: Pick<Opening, 'role' | 'term'>,
    member: MemberPool,
    address: Address,
  ): ServerTarget {
    const { config, secret } = this.#state
    const identity: ServerIdentity = {
      member: opening.role === 'plain' ? `${address.host}:${address.port}` : member.name,
      host: address.host,
      port: address.port,
      database: config.serverDatabase,
      user: config.serverUser,
      role: opening.role,
      term: opening.term,
    }
    const password = config.serverPassword
    return {
      identity,
      secret: password === null ? secret : { kind: 'plain', password },
      parameters: config.settings,
      replication: 'none' satisfies Replication,
      deadlineMs: this.#context.config.pgbouncer.serverConnectTimeoutMs,
    }
  }

  /** Makes the connection object; its channel delivers from here on. */
  adopt(target: ServerTarget, opened: OpenedServer): ServerConnection {
    const seed = {
      ...opened,
      id: this.#context.nextServerId(),
      identity: target.identity,
      openedMs: this.#context.clock.nowMs(),
    }
    this.opened += 1
    const server = new ServerConnection(seed, (lost, error) => this.#owner.onLost(lost, error))
    const { memberAddress } = this.#context.config.pgsteer
    server.isShared = target.identity.role !== 'plain' && memberAddress === 'proxy_url'
    return server
  }

  /**
   * A primary that is about to hand over gets no new servers, as long as those it has serve: the
   * first of a pool is opened, and more for who waits in vain, since one session may wait for
   * another one's write.
   */
  #isHandingOver(member: MemberPool, waitedMs: number): boolean {
    const { switchover } = this.#context.view.topology
    if (switchover === null) return false
    return switchover.holds || (member.size > 0 && waitedMs < DRAIN_PATIENCE_MS)
  }

  #isUnderSize(member: MemberPool, waitedMs: number): boolean {
    const { config } = this.#state
    const size = shareOf(config.poolSize, this.#context.config)
    if (size === 0 || member.size < size) return true
    const mayUseReserve = waitedMs >= config.reservePoolTimeoutMs && config.reservePoolSize > 0
    return (
      mayUseReserve && member.size < size + shareOf(config.reservePoolSize, this.#context.config)
    )
  }

  #onOpened(
    member: MemberPool,
    opening: Opening,
    result: { readonly target: ServerTarget; readonly opened: OpenedServer },
  ): void {
    const { target, opened } = result
    const unfit = this.#unfit(member, opening, opened)
    if (unfit !== null) {
      opened.channel.destroy(unfit)
      this.#onFailed(member, opening, unfit)
      return
    }
    member.openings.delete(opening)
    member.failure = null
    this.#context.limits.loginEnds(member.name)
    this.#owner.onOpened(this.adopt(target, opened), member)
    this.#context.onRoom(member.name)
  }

  /** Why what was opened is not what was wanted, or is not wanted any more. */
  #unfit(member: MemberPool, opening: Opening, opened: OpenedServer): ProxyError | null {
    const { view, config } = this.#context
    if (member.isGone || this.#context.stopping !== null || member.role !== opening.role)
      return this.#unfitError(member, 'it changed during the log-in')
    if (opening.role === 'plain') return null
    if (opening.role === 'primary' && opening.term !== view.topology.term)
      return this.#unfitError(member, 'the term ended during the log-in')
    const standby = opened.parameters.get('in_hot_standby')
    // Older servers do not say, and what a pooler in between says may be older than the failover.
    if (standby === undefined || config.pgsteer.memberAddress === 'proxy_url') return null
    const expected = opening.role === 'primary' ? 'off' : 'on'
    if (standby === expected) return null
    return this.#unfitError(member, `in_hot_standby is ${standby}`)
  }

  #unfitError(member: MemberPool, reason: string): ProxyError {
    return new ProxyError('member_unfit', { member: member.name, reason })
  }

  #onFailed(member: MemberPool, opening: Opening, error: ProxyError): void {
    const { config } = this.#state
    member.openings.delete(opening)
    this.#end(member)
    this.failures += 1
    member.failure = failureOf(member, error, {
      nowMs: this.#context.clock.nowMs(),
      retryMs: this.#context.config.pgbouncer.serverLoginRetryMs,
      chance: this.#context.random(),
    })
    if (config.loadBalanceHosts === 'disable') member.addressIndex += 1
    this.#context.log.warn(
      {
        code: error.code,
        sqlstate: error.sqlstate,
        database: config.database,
        user: config.user,
        member: member.name,
      },
      `server log-in failed: ${error.message}`,
    )
    if (error.sqlstate === '28P01')
      this.#context.onSecretRefused(config.database, config.user, error)
    this.#owner.onFailed(member, error)
    this.#context.onRoom(member.name)
  }

  #begin(member: MemberPool): void {
    this.#context.limits.take(member.slot)
    this.#context.limits.loginBegins(member.name)
  }

  #end(member: MemberPool): void {
    this.#context.limits.give(member.slot)
    this.#context.limits.loginEnds(member.name)
  }
}

/** Whether sessions that wait are told the server's own error: trying again will not help. */
export function refusesWaiters(member: MemberPool, error: ProxyError): boolean {
  if (member.role !== 'plain') return isFinal(error)
  if (FINAL_CODES.has(error.code)) return true
  return error.code === 'server_login_failed' && error.sqlstate !== CANNOT_CONNECT_NOW
}

function isFinal(error: ProxyError): boolean {
  if (FINAL_CODES.has(error.code)) return true
  return error.code === 'server_login_failed' && FINAL_SQLSTATE.test(error.sqlstate)
}

/**
 * A plain entry waits for server_login_retry, as in PgBouncer. A member of the cluster may come up
 * at any moment, so what may mend is tried again soon.
 */
function failureOf(
  member: MemberPool,
  error: ProxyError,
  times: { readonly nowMs: number; readonly retryMs: number; readonly chance: number },
): MemberPool['failure'] {
  const count = (member.failure?.count ?? 0) + 1
  const isFixed = member.role === 'plain' || isFinal(error)
  const soonMs = Math.min(RETRY_MS_MIN * 2 ** Math.min(count - 1, 20), RETRY_MS_MAX)
  const delayMs = isFixed
    ? times.retryMs
    : Math.min(times.retryMs, soonMs) * (1 - JITTER * times.chance)
  return { error, isFinal: isFinal(error), retryAtMs: times.nowMs + delayMs, count }
}

/** Round robin takes the next host each time; else the same until it fails. */
function nextAddress(member: MemberPool, config: PoolConfig): Address {
  const { addresses } = member
  const index = member.addressIndex % addresses.length
  if (config.loadBalanceHosts === 'round-robin') member.addressIndex = index + 1
  const address = addresses[index]
  invariant(address !== undefined, 'a member has an address')
  return address
}

function asLoginError(error: unknown): ProxyError {
  if (error instanceof ProxyError) return error
  return new ProxyError('server_connect', { reason: reasonOf(error) }, error)
}
