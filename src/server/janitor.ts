/**
 * Periodic maintenance of one pool's servers: what is idle too long, too old, too many, or stuck.
 * Runs about three times a second instead of timers per server.
 * Source  PgBouncer's pool_server_maint and check_pool_size in src/janitor.c.
 */
import { ProxyError } from '../base/errors.ts'
import type { PoolContext } from './context.ts'
import { shareOf } from './limits.ts'
import { freeSinceMs, type MemberPool } from './member-pool.ts'
import type { Pool } from './pool.ts'

export const JANITOR_PERIOD_MS = 333

export function sweepServers(pool: Pool, context: PoolContext): void {
  for (const member of pool.roster.members.values()) {
    sweepFree(pool, member, context)
    sweepStuck(pool, member, context)
    closeFast(pool, member, context)
    closeExcess(pool, member, context)
    keepMinimum(pool, member, context)
  }
}

/** Free servers that are too old or unused for too long end; others need a check before use. */
function sweepFree(pool: Pool, member: MemberPool, context: PoolContext): void {
  const { serverIdleTimeoutMs, serverCheckDelayMs, serverCheckQuery } = context.config.pgbouncer
  const { serverLifetimeMs, poolSize } = pool.config
  const life = { serverLifetimeMs, poolSize, nowMs: context.tickMs }
  const sizeMin = shareOf(pool.config.minPoolSize, context.config)
  const isKept = isHandingOver(member, context)
  for (const server of [...member.inState('used'), ...member.inState('idle')]) {
    const idleMs = context.tickMs - freeSinceMs(server, serverCheckDelayMs)
    const isUnused = serverIdleTimeoutMs > 0 && idleMs >= serverIdleTimeoutMs
    if (isKept) continue
    if (member.isLifeOver(server, life)) pool.fleet.close(server, 'lifetime')
    else if (isUnused && member.size > sizeMin) pool.fleet.close(server, 'idle')
    else if (server.state === 'idle' && idleMs >= serverCheckDelayMs && serverCheckQuery !== null)
      member.move(server, 'used', context.tickMs)
  }
}

/** The primary is about to hand over: what it has is kept, and nothing is added. */
function isHandingOver(member: MemberPool, { view }: PoolContext): boolean {
  return member.role === 'primary' && view.topology.switchover !== null
}

/** Our own statement, or a cancel, does not end. */
function sweepStuck(pool: Pool, member: MemberPool, context: PoolContext): void {
  const { serverConnectTimeoutMs, cancelWaitTimeoutMs } = context.config.pgbouncer
  for (const server of member.inState('tested'))
    if (context.tickMs - server.stateSinceMs >= serverConnectTimeoutMs)
      pool.fleet.close(server, 'timeout', new ProxyError('server_connect_timeout'))
  for (const server of member.inState('active_cancel'))
    if (context.tickMs - server.stateSinceMs >= cancelWaitTimeoutMs)
      pool.fleet.close(server, 'cancel')
}

/** server_fast_close: outdated servers of idle sessions in session mode do not wait for them. */
function closeFast(pool: Pool, member: MemberPool, context: PoolContext): void {
  if (!context.config.pgbouncer.serverFastClose || pool.config.poolMode !== 'session') return
  for (const server of member.inState('active'))
    if (server.isDoomed && server.isIdle && pool.fleet.replicationOf(server) === 'none')
      pool.fleet.close(server, 'changed', new ProxyError('database_changed'))
}

/** The pool was made smaller. */
function closeExcess(pool: Pool, member: MemberPool, context: PoolContext): void {
  const { poolSize, reservePoolSize } = pool.config
  if (poolSize === 0) return
  const sizeMax = shareOf(poolSize, context.config) + shareOf(reservePoolSize, context.config)
  for (const server of [...member.inState('used'), ...member.inState('idle')]) {
    if (member.size <= sizeMax) return
    pool.fleet.close(server, 'size')
  }
}

/** min_pool_size, as long as somebody is there to use it. */
function keepMinimum(pool: Pool, member: MemberPool, context: PoolContext): void {
  if (context.isLeaving || isHandingOver(member, context)) return
  const { minPoolSize, serverUser, user } = pool.config
  const isInUse = pool.clients > 0 || pool.isWaitedFor || serverUser !== user
  if (minPoolSize === 0 || !isInUse || pool.isPaused || !pool.roster.mayServe(member)) return
  const sizeMin = shareOf(minPoolSize, context.config)
  while (member.size < sizeMin) if (!pool.opener.open(member, 0)) return
}

/** Nobody has used the pool for long and it holds nothing: it can be forgotten. */
export function isForgettable(pool: Pool, context: PoolContext): boolean {
  if (pool.clients > 0 || pool.fleet.size > 0 || pool.isWaitedFor) return false
  for (const member of pool.roster.members.values()) if (member.size > 0) return false
  const { poolIdleTimeoutMs, autodbIdleTimeoutMs, serverLoginRetryMs } = context.config.pgbouncer
  const idleMs = context.tickMs - pool.lastUsedMs
  // Nobody could ever log in: a database or user that is not there leaves nothing behind.
  if (!pool.knowsWelcome && idleMs > serverLoginRetryMs) return true
  if (poolIdleTimeoutMs > 0 && idleMs >= poolIdleTimeoutMs) return true
  const isAutomatic = !context.config.databases.has(pool.database)
  return isAutomatic && autodbIdleTimeoutMs > 0 && idleMs >= autodbIdleTimeoutMs
}
