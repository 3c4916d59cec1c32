/** Cases of the alerts about what is around the database servers; alert-cases.ts says how to read them. */
import { type AlertCase, at, backup, DAY_S, disk, up } from './alert-series.ts'

const histogram = (name: string, slow: string): Record<string, string> => ({
  [`${name}_bucket${at('e', ',le="0.05"')}`]: slow,
  [`${name}_bucket${at('e', ',le="1"')}`]: '0+100x120',
  [`${name}_bucket${at('e', ',le="+Inf"')}`]: '0+100x120',
})

export const ETCD: Readonly<Record<string, AlertCase>> = {
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

export const HOSTS: Readonly<Record<string, AlertCase>> = {
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
    silent: {
      // Fast, but there is much left.
      [disk('avail_bytes')]: '90-0.1x500',
      [disk('size_bytes')]: '100x500',
      // A new machine that is given its images and data.
      [disk('avail_bytes', 'new')]: '_x350 39-0.3x69',
      [disk('size_bytes', 'new')]: '100x500',
      // Much was written at once, hours ago.
      [disk('avail_bytes', 'grown')]: '39x200 12x300',
      [disk('size_bytes', 'grown')]: '100x500',
    },
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

export const BACKUPS: Readonly<Record<string, AlertCase>> = {
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

export const MONITORING: Readonly<Record<string, AlertCase>> = {
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
    // Before Alertmanager was there.
    silent: { 'prometheus_notifications_errors_total{alertmanager="a"}': '0 5x80' },
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
    fires: { [CERTIFICATE]: `${6 * DAY_S}x80` },
    silent: { [CERTIFICATE]: `${8 * DAY_S}x80` },
    labels: { certificate: 'etcd1' },
    at: '15m',
  },
}
