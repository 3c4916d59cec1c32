/**
 * For every alert of deploy/prometheus beside pgsteer's own (those have pgsteer.rules.test.yml): series that make
 * it fire, series in the same world that do not, and the labels that the alert then carries. Values are in
 * promtool's notation: `1x80` is 1, and then 80 times more; `0+5x80` grows by 5 at each step.
 */

import { BACKUPS, ETCD, HOSTS, MONITORING } from './alert-cases-around.ts'
import { type AlertCase, activity, at, of, up } from './alert-series.ts'

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
      [up('pgsteer', 'b')]: '1x12 stale',
      'pgsteer_instances{instance="a",job="pgsteer"}': '1x80',
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
      [`pg_stat_archiver_failed_count${at('a', ',server="s"')}`]: '0 7x80',
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

/** By the name of the rule file. */
export const ALERT_CASES: Readonly<Record<string, Readonly<Record<string, AlertCase>>>> = {
  cluster: CLUSTER,
  postgres: POSTGRES,
  etcd: ETCD,
  hosts: HOSTS,
  backups: BACKUPS,
  monitoring: MONITORING,
}
