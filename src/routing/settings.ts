/**
 * What routing must know about settings: which of them belong to a session, and which speak about
 * the server that answers. How a session carries its settings is not decided here.
 * Source: pg_settings.context of PostgreSQL 15 to 18.
 */

/** Settings of a transaction: a SET of them is a SET TRANSACTION, gone at its end. */
const TRANSACTION = new Set([
  'transaction_isolation',
  'transaction_read_only',
  'transaction_deferrable',
])

/** Differ between members, or between a primary and a replica. `pgsteer.lsn` is the primary's position. */
const SERVER = new Set(
  `all pgsteer.lsn in_hot_standby transaction_read_only archive_cleanup_command
  archive_command archive_library archive_mode archive_timeout cluster_name config_file data_directory
  external_pid_file hba_file hot_standby hot_standby_feedback ident_file listen_addresses
  log_directory log_filename max_standby_archive_delay max_standby_streaming_delay port
  primary_conninfo primary_slot_name promote_trigger_file recovery_end_command
  recovery_min_apply_delay recovery_prefetch recovery_target recovery_target_action
  recovery_target_inclusive recovery_target_lsn recovery_target_name recovery_target_time
  recovery_target_timeline recovery_target_xid restore_command shared_memory_size
  shared_memory_size_in_huge_pages synchronous_standby_names synchronized_standby_slots
  sync_replication_slots unix_socket_directories wal_receiver_create_temp_slot
  wal_receiver_status_interval wal_receiver_timeout wal_retrieve_retry_interval`.split(/\s+/),
)

/** Nobody can SET these in a session (contexts internal, postmaster, sighup, backend). */
const FIXED = new Set(
  `block_size data_checksums data_directory_mode debug_assertions in_hot_standby integer_datetimes
  huge_pages_status is_superuser lc_collate lc_ctype max_function_args max_identifier_length
  max_index_keys num_os_semaphores segment_size server_encoding server_version server_version_num
  shared_memory_size shared_memory_size_in_huge_pages ssl_library
  wal_block_size wal_segment_size ignore_system_indexes post_auth_delay max_connections
  shared_buffers wal_level max_wal_senders max_worker_processes max_locks_per_transaction
  max_prepared_transactions superuser_reserved_connections reserved_connections
  track_activity_query_size track_commit_timestamp shared_preload_libraries jit_provider
  autovacuum fsync full_page_writes ssl max_wal_size min_wal_size checkpoint_timeout
  log_timezone log_line_prefix log_destination`.split(/\s+/),
)

/** True for a setting of the transaction, which ends with it. */
export function isTransactionSetting(name: string): boolean {
  return TRANSACTION.has(name)
}

/** True when SHOW of `name` answers for one server: a split session asks the primary. */
export function isServerSetting(name: string): boolean {
  return SERVER.has(name)
}

/** True when a session may SET `name`, as far as its name tells; unknown names may. */
export function isSettable(name: string): boolean {
  return !FIXED.has(name) && (!SERVER.has(name) || TRANSACTION.has(name))
}
