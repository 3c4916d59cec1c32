/**
 * What single words mean to the classifier: SQL keywords that may stand before a parenthesis without
 * being a call, names that speak about the server itself, and functions whose effect outlives the
 * statement. Lists only; the rules that use them are in scan.ts and classify.ts.
 */

import type { Verb } from './classify.ts'

/** Before "(" never a call: reserved words and the column-name keywords (src/include/parser/kwlist.h). */
const NEVER_CALLED = `
  all analyse analyze and any array as asc asymmetric both case cast check collate column constraint
  create current_catalog current_date current_role current_time current_timestamp current_user default
  deferrable desc distinct do else end except false fetch for foreign from grant group having in
  initially intersect into lateral leading limit localtime localtimestamp not null offset on only or
  order placing primary references returning select session_user some symmetric table then to trailing
  true union unique user using variadic when where window with
  between bigint bit boolean char character coalesce dec decimal exists extract float greatest grouping
  inout int integer interval least national nchar none nullif numeric out position precision real row
  setof smallint time timestamp trim values varchar xmlattributes xmlconcat xmlelement xmlexists
  xmlforest xmlparse xmlpi xmlroot xmlserialize xmltable`

/** Before "(" a keyword, or a call where somebody has made a function of this name. */
const RARELY_CALLED = `
  absent by columns conflict content cube cycle document escape execute explain filter first format
  groups ilike inner insert is isnull join json json_array json_arrayagg json_exists json_object
  json_objectagg json_query json_scalar json_serialize json_table json_value key keys like local
  materialized merge_action natural nested next normalize notnull object of operator ordinality outer
  over overlaps partition passing path plan quotes range ref repeatable rollup rows second set sets share
  similar strip update value varying verbose within without wrapper xmlnamespaces zone`

const FLAG_NEVER = 1
const FLAG_RARELY = 2
const FLAG_MODIFIES = 4
const FLAG_INTO = 8
const FLAG_FOR = 16
const FLAG_MAIN = 32

export const IS_NEVER_CALLED = FLAG_NEVER
export const IS_RARELY_CALLED = FLAG_RARELY
/** INSERT, UPDATE, DELETE, MERGE: keywords that cannot be in the text of a read. */
export const IS_MODIFYING = FLAG_MODIFIES
export const IS_INTO = FLAG_INTO
export const IS_FOR = FLAG_FOR
/** May be the first word of what follows a WITH list. */
export const IS_MAIN = FLAG_MAIN

/** The verb of a query or data statement by its word. */
export const MAIN_VERBS: ReadonlyMap<string, Verb> = new Map<string, Verb>([
  ['select', 'select'],
  ['values', 'values'],
  ['table', 'table'],
  ['insert', 'insert'],
  ['update', 'update'],
  ['delete', 'delete'],
  ['merge', 'merge'],
])

/** Folded word to its flags. */
export const WORD_FLAGS: ReadonlyMap<string, number> = flags()

/** Relations and functions that speak about one server, not about the data. */
const SERVER_NAMES = new Set(
  words(`
  pg_locks pg_lock_status pg_prepared_xacts pg_prepared_xact pg_prepared_statements
  pg_prepared_statement pg_cursors pg_cursor pg_settings pg_show_all_settings pg_file_settings
  pg_hba_file_rules pg_ident_file_mappings pg_shmem_allocations pg_shmem_allocations_numa
  pg_backend_memory_contexts pg_get_backend_memory_contexts pg_get_shmem_allocations pg_config
  pg_aios pg_wait_events pg_dsm_registry_allocations
  pg_is_in_recovery pg_is_wal_replay_paused pg_get_wal_replay_pause_state pg_promote pg_backend_pid
  pg_postmaster_start_time pg_conf_load_time pg_jit_available pg_blocking_pids
  pg_safe_snapshot_blocking_pids pg_listening_channels pg_notification_queue_usage
  pg_walfile_name pg_walfile_name_offset pg_switch_wal pg_get_replication_slots
  pg_show_replication_origin_status pg_show_all_file_settings pg_rotate_logfile pg_reload_conf
  pg_cancel_backend pg_terminate_backend pg_log_backend_memory_contexts pg_read_file
  pg_read_binary_file pg_current_logfile pg_get_wal_resource_managers
  pg_export_snapshot txid_current txid_current_if_assigned txid_status pg_current_xact_id
  pg_current_xact_id_if_assigned pg_xact_status pg_last_committed_xact pg_xact_commit_timestamp
  pg_xact_commit_timestamp_origin`),
)

const SERVER_PREFIXES = [
  'pg_stat_',
  'pg_statio_',
  'pg_replication_',
  'pg_wal_',
  'pg_last_',
  'pg_current_wal_',
  'pg_control_',
  'pg_ls_',
  'pg_backup_',
  'pg_logical_',
  'pg_buffercache',
  'pg_visibility',
]

/** True for a relation or function whose answer differs from member to member by its nature. */
export function isServerName(name: string): boolean {
  if (!name.startsWith('pg_')) return name.startsWith('txid_') && SERVER_NAMES.has(name)
  return SERVER_NAMES.has(name) || SERVER_PREFIXES.some((prefix) => name.startsWith(prefix))
}

/**
 * Functions of pg_catalog that are VOLATILE only because their value changes: they write nothing,
 * leave nothing in the session, and a standby runs them. Deliberately not here: setseed (changes the
 * session), pg_relation_size and its kin (wrong for unlogged relations on a standby), query_to_xml,
 * ts_stat and ts_rewrite (run a text), lo_get (large objects), pg_stat_* (about one server).
 */
export const HARMLESS_VOLATILE: ReadonlySet<string> = new Set(
  words(`
  clock_timestamp timeofday random random_normal gen_random_uuid uuidv4 uuidv7
  pg_sleep pg_sleep_for pg_sleep_until pg_partition_tree pg_partition_ancestors
  pg_collation_actual_version pg_database_collation_actual_version`),
)

/** Of widespread extensions (uuid-ossp, pgcrypto): no proved reads, but they leave nothing behind. */
export const CLEAN_VOLATILE: ReadonlySet<string> = new Set(
  words(`
  uuid_generate_v1 uuid_generate_v1mc uuid_generate_v4 gen_random_bytes gen_salt
  pgp_sym_encrypt pgp_sym_encrypt_bytea pgp_pub_encrypt pgp_pub_encrypt_bytea`),
)

/** Functions with an effect on the session, told apart by what they do to a pin. */
export type SpecialFunction =
  | 'lock'
  | 'xact_lock'
  | 'unlock'
  | 'unlock_all'
  | 'set_config'
  | 'sequence_value'
  | 'current_setting'

export const SPECIAL_FUNCTIONS: ReadonlyMap<string, SpecialFunction> = new Map([
  ['pg_advisory_lock', 'lock'],
  ['pg_advisory_lock_shared', 'lock'],
  ['pg_try_advisory_lock', 'lock'],
  ['pg_try_advisory_lock_shared', 'lock'],
  ['pg_advisory_xact_lock', 'xact_lock'],
  ['pg_advisory_xact_lock_shared', 'xact_lock'],
  ['pg_try_advisory_xact_lock', 'xact_lock'],
  ['pg_try_advisory_xact_lock_shared', 'xact_lock'],
  ['pg_advisory_unlock', 'unlock'],
  ['pg_advisory_unlock_shared', 'unlock'],
  ['pg_advisory_unlock_all', 'unlock_all'],
  ['set_config', 'set_config'],
  ['currval', 'sequence_value'],
  ['lastval', 'sequence_value'],
  ['current_setting', 'current_setting'],
])

function words(list: string): string[] {
  return list.trim().split(/\s+/)
}

function flags(): Map<string, number> {
  const table = new Map<string, number>()
  const add = (list: string, flag: number) => {
    for (const name of words(list)) table.set(name, (table.get(name) ?? 0) | flag)
  }
  add(NEVER_CALLED, FLAG_NEVER)
  add(RARELY_CALLED, FLAG_RARELY)
  add('insert update delete merge', FLAG_MODIFIES)
  add('select values table insert update delete merge', FLAG_MAIN)
  add('into', FLAG_INTO)
  add('for', FLAG_FOR)
  return table
}
