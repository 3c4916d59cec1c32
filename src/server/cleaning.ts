/**
 * What a server must run before another session may have it, and what is true of it afterwards.
 * Decides only; upkeep.ts runs it.
 * Source  PgBouncer's release_server (server_reset_query); PostgreSQL's "DISCARD".
 */
import type { Config, PoolConfig } from '../config/config.ts'
import type { ServerConnection } from './connection.ts'
import { NO_SETTINGS } from './settings.ts'

/**
 * Undoes what a statement may do without showing it (DO, CALL, an unproved function). Roles come
 * first: RESET ALL does not touch them. Names are qualified, since search_path may be anything.
 */
export const CLEAN_SQL = [
  'RESET SESSION AUTHORIZATION',
  'RESET ROLE',
  'RESET ALL',
  'DISCARD TEMP',
  'DISCARD SEQUENCES',
  'SELECT pg_catalog.pg_advisory_unlock_all()',
  'UNLISTEN *',
].join('; ')

/** Fails while the server is in recovery. Qualified: search_path may be anything. */
export const PROMOTED_SQL =
  'SELECT 1 OPERATOR(pg_catalog./) (1 OPERATOR(pg_catalog.-) pg_catalog.pg_is_in_recovery()::pg_catalog.int4)'

/** The statement to run at release, or '' when the server is clean as it is. */
export function cleaningSql(server: ServerConnection, pool: PoolConfig, config: Config): string {
  const { serverResetQuery, serverResetQueryAlways } = config.pgbouncer
  const resets = pool.poolMode === 'session' || serverResetQueryAlways
  if (resets && serverResetQuery !== '') return serverResetQuery
  if (pool.serverClean === 'always') return CLEAN_SQL
  return pool.serverClean === 'auto' && server.isUnclean ? CLEAN_SQL : ''
}

/** Books what `sql`, which succeeded, did to the server. */
export function noteCleaned(server: ServerConnection, sql: string): void {
  const discardsAll = /\bdiscard\s+all\b/i.test(sql)
  if (discardsAll || /\b(?:deallocate|discard)\s+all\b/i.test(sql)) server.statements.clear()
  if (discardsAll || sql === CLEAN_SQL) {
    server.settings = NO_SETTINGS
    server.isUnclean = false
  }
}
