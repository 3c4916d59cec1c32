/**
 * For every alert of deploy/prometheus beside pgsteer's own (those have pgsteer.rules.test.yml): series that make
 * it fire, series in the same world that do not, and the labels that the alert then carries. Values are in
 * promtool's notation: `1x80` is 1, and then 80 times more; `0+5x80` grows by 5 at each step.
 */

export interface AlertCase {
  readonly fires: Readonly<Record<string, string>>
  readonly silent: Readonly<Record<string, string>>
  /** What it carries beside its name and severity. */
  readonly labels?: Readonly<Record<string, string>>
  /** When to look, from the first sample; 10m without it. */
  readonly at?: string
  /** Time between samples; 15s without it. */
  readonly every?: string
}

/** A name for each member, its metrics with the labels that they really have. */
const of = (name: string): string => `{scope="m",name="${name}",instance="${name}",job="patroni"}`
const at = (instance: string, more = ''): string => `{instance="${instance}",job="x"${more}}`
const up = (job: string, instance: string): string => `up{job="${job}",instance="${instance}"}`
const activity = (state: string): string =>
  `pg_stat_activity_max_tx_duration${at('a', `,datname="d",state="${state}"`)}`
const disk = (what: string): string =>
  `node_filesystem_${what}${at('h', ',fstype="ext4",mountpoint="/",device="/dev/vda"')}`
const backup = (what: string, more = ''): string => `pgbackrest_${what}{stanza="m"${more}}`
const DAY_S = 86_400

const CLUSTER: Readonly<Record<string, AlertCase>> = {
  ClusterNoPrimary: {
    fires: {
      [`patroni_primary${of('a')}`]: '1x8 0x80',
      [`patroni_primary${of('b')}`]: '0x80',
      [`patroni_standby_leader${of('b')}`]: '0x80',
    },
    silent: {
      [`patroni_primary${of('a')}`]: '0x80',
      [`patroni_primary${of('b')}`]: '1x38 0x80',
      [`patroni_standby_leader${of('a')}`]: '0x80',
    },
    labels: { scope: 'm' },
  },
  PatroniMetricsAbsent: { fires: {}, silent: { [`patroni_primary${of('a')}`]: '0x80' } },
  ClusterSeveralPrimaries: {
    fires: { [`patroni_primary${of('a')}`]: '1x80', [`patroni_primary${of('b')}`]: '1x80' },
    silent: { [`patroni_primary${of('a')}`]: '1x80', [`patroni_primary${of('b')}`]: '0x80' },
    labels: { scope: 'm' },
  },
  ClusterSeveralWritable: {
    fires: {
      [`pg_replication_is_replica${at('a')}`]: '0x80',
      [`pg_replication_is_replica${at('b')}`]: '0x80',
    },
    // The old primary's last scrape came after the new one's first.
    silent: {
      [`pg_replication_is_replica${at('a')}`]: '0x39 1x80',
      [`pg_replication_is_replica${at('b')}`]: '1x38 0x80',
    },
  },
  MemberDown: {
    fires: { [up('patroni', 'a')]: '0x80' },
    silent: { [up('patroni', 'a')]: '1x80', [`patroni_postgres_running${of('a')}`]: '1x80' },
    labels: { instance: 'a', job: 'patroni' },
  },
  ReplicaNotStreaming: {
    fires: {
      [`patroni_replica${of('a')}`]: '1x80',
      [`patroni_postgres_streaming${of('a')}`]: '0x80',
    },
    // A primary does not stream either.
    silent: {
      [`patroni_replica${of('a')}`]: '0x80',
      [`patroni_postgres_streaming${of('a')}`]: '0x80',
    },
    labels: { scope: 'm', name: 'a', instance: 'a', job: 'patroni' },
  },
  ReplicaOnOldTimeline: {
    fires: {
      [`patroni_postgres_timeline${of('a')}`]: '2x80',
      [`patroni_postgres_timeline${of('b')}`]: '1x80',
      [`patroni_postgres_running${of('b')}`]: '1x80',
    },
    // Down: timeline 0.
    silent: {
      [`patroni_postgres_timeline${of('a')}`]: '2x80',
      [`patroni_postgres_timeline${of('b')}`]: '0x80',
      [`patroni_postgres_running${of('b')}`]: '0x80',
    },
    labels: { scope: 'm', name: 'b', instance: 'b', job: 'patroni' },
  },
  ReplayPaused: {
    fires: { [`patroni_xlog_paused${of('a')}`]: '1x100' },
    silent: { [`patroni_xlog_paused${of('a')}`]: '0x60 1x40' },
    labels: { scope: 'm', name: 'a', instance: 'a', job: 'patroni' },
    at: '20m',
  },
  ClusterFailover: {
    fires: {
      [`patroni_postgres_timeline${of('a')}`]: '1x60 0x60',
      [`patroni_postgres_timeline${of('b')}`]: '1x70 2x60',
    },
    // A member that was away comes back to the same timeline.
    silent: {
      [`patroni_postgres_timeline${of('a')}`]: '2x60 0x10 2x60',
      [`patroni_postgres_timeline${of('b')}`]: '2x140',
    },
    labels: { scope: 'm' },
    at: '20m',
  },
  PatroniPaused: {
    fires: { [`patroni_is_paused${of('a')}`]: '1x80' },
    silent: { [`patroni_is_paused${of('a')}`]: '0x30 1x50' },
    labels: { scope: 'm' },
    at: '75m',
    every: '1m',
  },
  PatroniDcsUnreachable: {
    fires: { [`patroni_dcs_last_seen${of('a')}`]: '0x80' },
    silent: { [`patroni_dcs_last_seen${of('a')}`]: '0+15x80' },
    labels: { scope: 'm', name: 'a', instance: 'a', job: 'patroni' },
  },
  PatroniFailsafeActive: {
    fires: { [`patroni_failsafe_mode_is_active${of('a')}`]: '1x80' },
    silent: { [`patroni_failsafe_mode_is_active${of('a')}`]: '0x80' },
    labels: { scope: 'm' },
  },
  NoSynchronousStandby: {
    fires: {
      [`patroni_sync_standby${of('a')}`]: '0x80',
      [`patroni_quorum_standby${of('a')}`]: '0x80',
    },
    silent: {
      [`patroni_sync_standby${of('a')}`]: '0x80',
      [`patroni_quorum_standby${of('a')}`]: '0x80',
      [`patroni_sync_standby${of('b')}`]: '1x80',
      [`patroni_quorum_standby${of('b')}`]: '0x80',
    },
    labels: { scope: 'm' },
  },
  PatroniPendingRestart: {
    fires: { [`patroni_pending_restart${of('a')}`]: '1x30' },
    silent: { [`patroni_pending_restart${of('a')}`]: '0x10 1x20' },
    labels: { scope: 'm', name: 'a', instance: 'a', job: 'patroni' },
    at: '26h',
    every: '1h',
  },
  PgsteerDown: {
    fires: { [up('pgsteer', 'a')]: '0x80' },
    silent: { [up('pgsteer', 'a')]: '1x80' },
    labels: { instance: 'a', job: 'pgsteer' },
  },
  PgsteerInstancesMissing: {
    fires: {
      [up('pgsteer', 'a')]: '1x80',
      'pgsteer_instances{instance="a",job="pgsteer"}': '2x80',
    },
    silent: {
      [up('pgsteer', 'a')]: '1x80',
      [up('pgsteer', 'b')]: '1x80',
      'pgsteer_instances{instance="a",job="pgsteer"}': '2x80',
    },
  },
}

const POSTGRES: Readonly<Record<string, AlertCase>> = {
  PostgresDown: {
    fires: { [`pg_up${at('a')}`]: '0x80' },
    silent: { [`pg_up${at('a')}`]: '1x80' },
    labels: { instance: 'a', job: 'x' },
  },
  PostgresExporterDown: {
    fires: { [up('postgres', 'a')]: '0x80' },
    silent: { [up('postgres', 'a')]: '1x80' },
    labels: { instance: 'a', job: 'postgres' },
  },
  PostgresRestarted: {
    fires: { [`pg_postmaster_start_time_seconds${at('a')}`]: '1000x20 2000x60' },
    silent: { [`pg_postmaster_start_time_seconds${at('a')}`]: '1000x80' },
    labels: { instance: 'a', job: 'x' },
  },
  ReplicaLagsBytes: {
    fires: {
      [`pg_stat_replication_pg_wal_lsn_diff${at('a', ',application_name="b"')}`]: '70000000x80',
    },
    silent: {
      [`pg_stat_replication_pg_wal_lsn_diff${at('a', ',application_name="b"')}`]: '60000000x80',
    },
    labels: { application_name: 'b' },
  },
  ReplicaLagsSeconds: {
    fires: {
      [`pg_replication_lag_seconds${at('a')}`]: '31x80',
      [`pg_replication_is_replica${at('a')}`]: '1x80',
    },
    silent: {
      [`pg_replication_lag_seconds${at('a')}`]: '31x80',
      [`pg_replication_is_replica${at('a')}`]: '0x80',
    },
    labels: { instance: 'a', job: 'x' },
  },
  SlotWalLost: {
    fires: {
      [`pg_replication_slot_wal_status${at('a', ',slot_name="b",wal_status="lost"')}`]: '1x80',
    },
    silent: {
      [`pg_replication_slots_wal_status${at('a', ',slot_name="b",wal_status="reserved"')}`]: '1x80',
    },
    labels: { instance: 'a', job: 'x', slot_name: 'b', wal_status: 'lost' },
  },
  SlotHoldsWal: {
    fires: { [`pg_replication_slots_pg_wal_lsn_diff${at('a', ',slot_name="b"')}`]: '5e9x80' },
    silent: { [`pg_replication_slots_pg_wal_lsn_diff${at('a', ',slot_name="b"')}`]: '4e9x80' },
    labels: { instance: 'a', job: 'x', slot_name: 'b' },
    at: '15m',
  },
  WalGrows: {
    fires: { [`pg_wal_size_bytes${at('a')}`]: '18e9x80' },
    silent: { [`pg_wal_size_bytes${at('a')}`]: '16e9x80' },
    labels: { instance: 'a', job: 'x' },
    at: '18m',
  },
  ConnectionsHigh: {
    fires: {
      [`pg_stat_activity_count${at('a', ',state="idle"')}`]: '50x80',
      [`pg_stat_activity_count${at('a', ',state="active"')}`]: '31x80',
      [`pg_settings_max_connections${at('a', ',server="s"')}`]: '100x80',
    },
    silent: {
      [`pg_stat_activity_count${at('a', ',state="idle"')}`]: '79x80',
      [`pg_settings_max_connections${at('a', ',server="s"')}`]: '100x80',
    },
    labels: { instance: 'a' },
  },
  ConnectionsFull: {
    fires: {
      [`pg_stat_activity_count${at('a', ',state="idle"')}`]: '96x80',
      [`pg_settings_max_connections${at('a', ',server="s"')}`]: '100x80',
    },
    silent: {
      [`pg_stat_activity_count${at('a', ',state="idle"')}`]: '94x80',
      [`pg_settings_max_connections${at('a', ',server="s"')}`]: '100x80',
    },
    labels: { instance: 'a' },
  },
  WalArchiveFailing: {
    fires: {
      [`pg_stat_archiver_failed_count${at('a', ',server="s"')}`]: '0+1x80',
      [`pg_replication_is_replica${at('a')}`]: '0x80',
    },
    silent: {
      [`pg_stat_archiver_failed_count${at('a', ',server="s"')}`]: '7x80',
      [`pg_replication_is_replica${at('a')}`]: '0x80',
    },
    labels: { instance: 'a', job: 'x', server: 's' },
  },
  WalArchiveStale: {
    fires: {
      [`pg_stat_archiver_last_archive_age${at('a', ',server="s"')}`]: '1900x80',
      [`pg_replication_is_replica${at('a')}`]: '0x80',
    },
    silent: {
      [`pg_stat_archiver_last_archive_age${at('a', ',server="s"')}`]: '1900x80',
      [`pg_replication_is_replica${at('a')}`]: '1x80',
    },
    labels: { instance: 'a', job: 'x', server: 's' },
  },
  TransactionIdsRunOut: {
    fires: {
      [`pg_database_wraparound_age_datfrozenxid_seconds${at('a', ',datname="d"')}`]: '12e8x80',
    },
    silent: {
      [`pg_database_wraparound_age_datfrozenxid_seconds${at('a', ',datname="d"')}`]: '2e8x80',
    },
    labels: { instance: 'a' },
    at: '75m',
    every: '1m',
  },
  TransactionLong: {
    fires: { [activity('active')]: '3700x80' },
    silent: { [activity('active')]: '3500x80', [activity('idle')]: '9999x80' },
    labels: { instance: 'a', datname: 'd' },
  },
  TransactionIdle: {
    fires: { [activity('idle in transaction')]: '400x80' },
    silent: { [activity('active')]: '400x80', [activity('idle in transaction (aborted)')]: '9x80' },
    labels: { instance: 'a', datname: 'd' },
  },
  Deadlocks: {
    fires: { [`pg_stat_database_deadlocks${at('a', ',datname="d",datid="5"')}`]: '0+1x80' },
    silent: { [`pg_stat_database_deadlocks${at('a', ',datname="d",datid="5"')}`]: '9x80' },
    labels: { instance: 'a', job: 'x', datname: 'd', datid: '5' },
  },
  ReplicaCancelsQueries: {
    fires: { [`pg_stat_database_conflicts${at('a', ',datname="d",datid="5"')}`]: '0+5x80' },
    silent: { [`pg_stat_database_conflicts${at('a', ',datname="d",datid="5"')}`]: '0+1x80' },
    labels: { instance: 'a', job: 'x', datname: 'd', datid: '5' },
  },
}

const histogram = (name: string, slow: string): Record<string, string> => ({
  [`${name}_bucket${at('e', ',le="0.05"')}`]: slow,
  [`${name}_bucket${at('e', ',le="1"')}`]: '0+100x120',
  [`${name}_bucket${at('e', ',le="+Inf"')}`]: '0+100x120',
})

const ETCD: Readonly<Record<string, AlertCase>> = {
  EtcdNoQuorum: {
    fires: { [up('etcd', 'a')]: '1x80', [up('etcd', 'b')]: '0x80', [up('etcd', 'c')]: '0x80' },
    silent: { [up('etcd', 'a')]: '1x80', [up('etcd', 'b')]: '1x80', [up('etcd', 'c')]: '0x80' },
  },
  EtcdNoLeader: {
    fires: { [`etcd_server_has_leader${at('e')}`]: '0x80' },
    silent: { [`etcd_server_has_leader${at('e')}`]: '1x80' },
    labels: { instance: 'e', job: 'x' },
  },
  EtcdMemberDown: {
    fires: { [up('etcd', 'a')]: '0x80' },
    silent: { [up('etcd', 'a')]: '1x80' },
    labels: { instance: 'a', job: 'etcd' },
  },
  EtcdLeaderChanges: {
    fires: { [`etcd_server_leader_changes_seen_total${at('e')}`]: '0+1x80' },
    silent: { [`etcd_server_leader_changes_seen_total${at('e')}`]: '1x20 2x60' },
    labels: { instance: 'e', job: 'x' },
  },
  EtcdSlowDisk: {
    fires: histogram('etcd_disk_wal_fsync_duration_seconds', '0+90x120'),
    silent: histogram('etcd_disk_wal_fsync_duration_seconds', '0+100x120'),
    labels: { instance: 'e' },
    at: '20m',
  },
  EtcdSlowPeers: {
    fires: histogram('etcd_network_peer_round_trip_time_seconds', '0+90x120'),
    silent: histogram('etcd_network_peer_round_trip_time_seconds', '0+100x120'),
    labels: { instance: 'e' },
    at: '20m',
  },
  EtcdProposalsFail: {
    fires: { [`etcd_server_proposals_failed_total${at('e')}`]: '0+1x80' },
    silent: { [`etcd_server_proposals_failed_total${at('e')}`]: '0x10 3x70' },
    labels: { instance: 'e', job: 'x' },
  },
  EtcdQuota: {
    fires: {
      [`etcd_mvcc_db_total_size_in_bytes${at('e')}`]: '90x80',
      [`etcd_server_quota_backend_bytes${at('e')}`]: '100x80',
    },
    silent: {
      [`etcd_mvcc_db_total_size_in_bytes${at('e')}`]: '70x80',
      [`etcd_server_quota_backend_bytes${at('e')}`]: '100x80',
    },
    labels: { instance: 'e', job: 'x' },
    at: '15m',
  },
}

const FILESYSTEM = {
  instance: 'h',
  job: 'x',
  fstype: 'ext4',
  mountpoint: '/',
  device: '/dev/vda',
}

const HOSTS: Readonly<Record<string, AlertCase>> = {
  HostDown: {
    fires: { [up('hosts', 'h')]: '0x80' },
    silent: { [up('hosts', 'h')]: '1x80' },
    labels: { instance: 'h', job: 'hosts' },
  },
  HostMetricsAbsent: { fires: {}, silent: { [`node_uname_info${at('h')}`]: '1x80' } },
  HostRebooted: {
    fires: { [`node_boot_time_seconds${at('h')}`]: '1000x20 2000x60' },
    silent: { [`node_boot_time_seconds${at('h')}`]: '1000x80' },
    labels: { instance: 'h', job: 'x' },
  },
  DiskFilling: {
    fires: { [disk('avail_bytes')]: '14x80', [disk('size_bytes')]: '100x80' },
    silent: { [disk('avail_bytes')]: '16x80', [disk('size_bytes')]: '100x80' },
    labels: FILESYSTEM,
  },
  DiskFull: {
    fires: { [disk('avail_bytes')]: '4x80', [disk('size_bytes')]: '100x80' },
    silent: { [disk('avail_bytes')]: '14x80', [disk('size_bytes')]: '100x80' },
    labels: FILESYSTEM,
  },
  DiskFullSoon: {
    fires: { [disk('avail_bytes')]: '39-0.05x500', [disk('size_bytes')]: '100x500' },
    // Fast, but there is much left.
    silent: { [disk('avail_bytes')]: '90-0.1x500', [disk('size_bytes')]: '100x500' },
    labels: FILESYSTEM,
    at: '7h',
    every: '1m',
  },
  InodesLow: {
    fires: { [disk('files_free')]: '5x80', [disk('files')]: '100x80' },
    silent: { [disk('files_free')]: '50x80', [disk('files')]: '100x80' },
    labels: FILESYSTEM,
  },
  DiskReadOnly: {
    fires: { [disk('readonly')]: '1x80' },
    silent: { [disk('readonly')]: '0x80' },
    labels: FILESYSTEM,
  },
  DiskSaturated: {
    fires: { [`node_disk_io_time_seconds_total${at('h', ',device="vda"')}`]: '0+15x160' },
    silent: { [`node_disk_io_time_seconds_total${at('h', ',device="vda"')}`]: '0+10x160' },
    labels: { instance: 'h', job: 'x', device: 'vda' },
    at: '30m',
  },
  CpuSaturated: {
    fires: { [`node_cpu_seconds_total${at('h', ',mode="idle",cpu="0"')}`]: '0+1x120' },
    silent: { [`node_cpu_seconds_total${at('h', ',mode="idle",cpu="0"')}`]: '0+5x120' },
    labels: { instance: 'h' },
    at: '25m',
  },
  MemoryLow: {
    fires: {
      [`node_memory_MemAvailable_bytes${at('h')}`]: '7x80',
      [`node_memory_MemTotal_bytes${at('h')}`]: '100x80',
    },
    silent: {
      [`node_memory_MemAvailable_bytes${at('h')}`]: '9x80',
      [`node_memory_MemTotal_bytes${at('h')}`]: '100x80',
    },
    labels: { instance: 'h', job: 'x' },
    at: '15m',
  },
  OomKill: {
    fires: { [`node_vmstat_oom_kill${at('h')}`]: '3x20 4x60' },
    silent: { [`node_vmstat_oom_kill${at('h')}`]: '3x80' },
    labels: { instance: 'h', job: 'x' },
  },
  ClockWrong: {
    fires: {
      [`node_timex_sync_status${at('h')}`]: '0x80',
      [`node_timex_offset_seconds${at('h')}`]: '0x80',
    },
    silent: {
      [`node_timex_sync_status${at('h')}`]: '1x80',
      [`node_timex_offset_seconds${at('h')}`]: '-0.1x80',
    },
    labels: { instance: 'h', job: 'x' },
    at: '15m',
  },
  NetworkErrors: {
    fires: {
      [`node_network_receive_errs_total${at('h', ',device="eth0"')}`]: '0+200x80',
      [`node_network_transmit_errs_total${at('h', ',device="eth0"')}`]: '0x80',
    },
    silent: {
      [`node_network_receive_errs_total${at('h', ',device="eth0"')}`]: '0+10x80',
      [`node_network_transmit_errs_total${at('h', ',device="eth0"')}`]: '0+10x80',
    },
    labels: { instance: 'h', job: 'x', device: 'eth0' },
    at: '15m',
  },
}

const BACKUPS: Readonly<Record<string, AlertCase>> = {
  BackupTooOld: {
    fires: {
      [backup('backup_since_last_completion_seconds', ',backup_type="incr"')]: `${27 * 3600}x80`,
    },
    silent: {
      [backup('backup_since_last_completion_seconds', ',backup_type="incr"')]: `${25 * 3600}x80`,
      [backup('backup_since_last_completion_seconds', ',backup_type="full"')]: `${50 * 3600}x80`,
    },
    labels: { stanza: 'm' },
    at: '15m',
  },
  BackupFullTooOld: {
    fires: {
      [backup('backup_since_last_completion_seconds', ',backup_type="full"')]: `${9 * DAY_S}x80`,
    },
    silent: {
      [backup('backup_since_last_completion_seconds', ',backup_type="full"')]: `${7 * DAY_S}x80`,
    },
    labels: { stanza: 'm' },
    at: '75m',
    every: '1m',
  },
  BackupStanzaBroken: {
    fires: { [backup('stanza_status')]: '2x80' },
    silent: { [backup('stanza_status')]: '0x80' },
    labels: { stanza: 'm' },
    at: '18m',
  },
  BackupRepositoryBroken: {
    fires: { [backup('repo_status', ',repo_key="1"')]: '1x80' },
    silent: { [backup('repo_status', ',repo_key="1"')]: '0x80' },
    labels: { stanza: 'm', repo_key: '1' },
    at: '18m',
  },
  BackupDamaged: {
    fires: { [backup('backup_last_error_status', ',backup_type="full"')]: '1x80' },
    silent: { [backup('backup_last_error_status', ',backup_type="full"')]: '0x80' },
    labels: { stanza: 'm', backup_type: 'full' },
  },
  BackupWalMissing: {
    fires: { [backup('wal_archive_status', ',repo_key="1"')]: '0x80' },
    silent: { [backup('wal_archive_status', ',repo_key="1"')]: '1x80' },
    labels: { stanza: 'm', repo_key: '1' },
    at: '75m',
    every: '1m',
  },
  BackupMetricsAbsent: {
    fires: {},
    silent: { [backup('stanza_status')]: '0x80', [backup('exporter_status')]: '1x80' },
    at: '40m',
    every: '1m',
  },
  BackupRunFailed: {
    fires: { 'pg_backup_run_failures_total{stanza="m",type="full"}': '0x20 1x60' },
    silent: { 'pg_backup_run_failures_total{stanza="m",type="full"}': '1x80' },
    labels: { stanza: 'm', type: 'full' },
  },
  RestoreTestFailed: {
    fires: { 'pg_restore_test_failures_total{stanza="m"}': '0x20 1x60' },
    silent: { 'pg_restore_test_failures_total{stanza="m"}': '1x80' },
    labels: { stanza: 'm' },
  },
  RestoreTestTooOld: {
    fires: { 'pg_restore_test_last_success_timestamp_seconds{stanza="m"}': '0x220' },
    silent: { 'pg_restore_test_last_success_timestamp_seconds{stanza="m"}': `${2 * DAY_S}x220` },
    labels: { stanza: 'm' },
    at: '200h',
    every: '1h',
  },
}

const CERTIFICATE = 'pg_cluster_certificate_not_after_timestamp_seconds{certificate="etcd1"}'

const MONITORING: Readonly<Record<string, AlertCase>> = {
  AlertsFlow: { fires: {}, silent: {} },
  MonitoringTargetDown: {
    fires: { [up('repository', 'pgbackrest')]: '0x80' },
    silent: { [up('repository', 'pgbackrest')]: '1x80' },
    labels: { job: 'repository', instance: 'pgbackrest' },
  },
  AlertmanagerNotifiesNobody: {
    fires: { 'alertmanager_notifications_failed_total{integration="email"}': '0+1x80' },
    silent: { 'alertmanager_notifications_failed_total{integration="email"}': '1x80' },
    labels: { integration: 'email' },
  },
  PrometheusAlertsDropped: {
    fires: { 'prometheus_notifications_errors_total{alertmanager="a"}': '0+1x80' },
    silent: { 'prometheus_notifications_errors_total{alertmanager="a"}': '1x80' },
    labels: { alertmanager: 'a' },
  },
  PrometheusRuleFails: {
    fires: { 'prometheus_rule_evaluation_failures_total{rule_group="g"}': '0+1x80' },
    silent: { 'prometheus_rule_evaluation_failures_total{rule_group="g"}': '1x80' },
    labels: { rule_group: 'g' },
  },
  CertificatesUnknown: { fires: {}, silent: { [CERTIFICATE]: '9e9x80' }, at: '75m', every: '1m' },
  CertificateEnds: {
    fires: { [CERTIFICATE]: `${20 * DAY_S}x80` },
    silent: { [CERTIFICATE]: `${22 * DAY_S}x80` },
    labels: { certificate: 'etcd1' },
    at: '15m',
  },
  CertificateEnded: {
    fires: { [CERTIFICATE]: `${2 * DAY_S}x80` },
    silent: { [CERTIFICATE]: `${4 * DAY_S}x80` },
    labels: { certificate: 'etcd1' },
    at: '15m',
  },
}

/** By the name of the rule file. */
export const ALERT_CASES: Readonly<Record<string, Readonly<Record<string, AlertCase>>>> = {
  cluster: CLUSTER,
  postgres: POSTGRES,
  etcd: ETCD,
  hosts: HOSTS,
  backups: BACKUPS,
  monitoring: MONITORING,
}
