/** What somebody looks at first: is it well, who is the primary, and what happened. */
import type { Dashboard } from './grafana.ts'

const ROLES = {
  '0': ['neither', 'red'],
  '1': ['replica', 'blue'],
  '2': ['primary', 'green'],
} as const

export const CLUSTER: Dashboard = {
  name: 'cluster',
  title: 'Cluster overview',
  about: 'The whole cluster at a glance: members, pgsteer, etcd, backups, hosts and what fires.',
  rows: [
    {
      title: 'Now',
      panels: [
        {
          title: 'Primary',
          kind: 'stat',
          unit: 'short',
          about:
            'The member that holds the leader key, by its own word. None or two of them is an alert.',
          queries: [{ expr: 'patroni_primary == 1', legend: '{{name}}' }],
          showsName: true,
        },
        {
          title: 'Members running',
          kind: 'stat',
          unit: 'short',
          about: 'Members whose PostgreSQL runs.',
          queries: [{ expr: 'sum(patroni_postgres_running)', legend: 'members' }],
          limits: [3, 2],
        },
        {
          title: 'Synchronous standbys',
          kind: 'stat',
          unit: 'short',
          about:
            'Replicas that have every acknowledged commit. With none, a lost node may lose some.',
          queries: [
            { expr: 'sum(patroni_sync_standby) + sum(patroni_quorum_standby)', legend: 'standbys' },
          ],
          limits: [1, 1],
        },
        {
          title: 'etcd members',
          kind: 'stat',
          unit: 'short',
          about: 'Those that answer; two of three are a quorum.',
          queries: [{ expr: 'sum(up{job="etcd"})', legend: 'members' }],
          limits: [3, 2],
        },
        {
          title: 'pgsteer instances',
          kind: 'stat',
          unit: 'short',
          about: 'Instances that can serve writes now.',
          queries: [{ expr: 'sum(pgsteer_writable)', legend: 'can write' }],
          limits: [1, 1],
        },
        {
          title: 'Alerts',
          kind: 'stat',
          unit: 'short',
          about: 'Alerts that fire, without the heartbeat that always does.',
          queries: [
            {
              expr: 'count(ALERTS{alertstate="firing",severity=~"critical|warning"}) or vector(0)',
              legend: 'firing',
            },
          ],
          limits: [1, 3],
        },
        {
          title: 'Roles',
          kind: 'state-timeline',
          unit: 'short',
          about: 'Who was what, by Patroni. A switchover is two colours that change places.',
          queries: [{ expr: '2 * patroni_primary + patroni_replica', legend: '{{name}}' }],
          words: ROLES,
        },
        {
          title: 'What fires',
          kind: 'table',
          unit: 'short',
          about:
            'Each alert with its labels; what to do is in the notification and in docs/alerts.md.',
          queries: [
            {
              expr: 'ALERTS{alertstate="firing",severity!="heartbeat"}',
              legend: '',
            },
          ],
        },
      ],
    },
    {
      title: 'Load',
      panels: [
        {
          title: 'Statements per second',
          kind: 'timeseries',
          unit: 'ops',
          about: 'Answered through pgsteer, by the role of the server that answered.',
          queries: [
            {
              expr: 'sum by (role) (rate(pgsteer_query_duration_seconds_count[$__rate_interval]))',
              legend: '{{role}}',
            },
          ],
          isStacked: true,
        },
        {
          title: 'Time of a statement, 99 of 100',
          kind: 'timeseries',
          unit: 's',
          about: 'From a batch sent to a server to its answer.',
          queries: [
            {
              expr: 'histogram_quantile(0.99, sum by (role, le) (rate(pgsteer_query_duration_seconds_bucket[$__rate_interval])))',
              legend: '{{role}}',
            },
          ],
        },
        {
          title: 'Clients',
          kind: 'timeseries',
          unit: 'short',
          about:
            'Of all instances: with a server or idle, waiting for a server, held without a primary.',
          queries: [{ expr: 'sum by (state) (pgsteer_pool_clients)', legend: '{{state}}' }],
          isStacked: true,
        },
        {
          title: 'Statements held without a primary',
          kind: 'timeseries',
          unit: 'ops',
          about:
            'Those that waited through a switchover, and those whose wait ended with an error.',
          queries: [
            { expr: 'sum(rate(pgsteer_holds_total[$__rate_interval]))', legend: 'held' },
            { expr: 'sum(rate(pgsteer_holds_expired_total[$__rate_interval]))', legend: 'expired' },
          ],
        },
      ],
    },
    {
      title: 'Data',
      panels: [
        {
          title: 'Replicas behind',
          kind: 'timeseries',
          unit: 'bytes',
          about: 'WAL that the primary wrote and a replica has not replayed.',
          queries: [
            {
              expr: 'max by (application_name) (pg_stat_replication_pg_wal_lsn_diff)',
              legend: '{{application_name}}',
            },
          ],
        },
        {
          title: 'WAL written',
          kind: 'timeseries',
          unit: 'Bps',
          about: 'By the primary. Archiving, replication and disks must keep up with it.',
          queries: [
            {
              expr: 'sum by (name) (rate(patroni_xlog_location[$__rate_interval])) and sum by (name) (patroni_primary) == 1',
              legend: '{{name}}',
            },
          ],
        },
        {
          title: 'Newest backup',
          kind: 'stat',
          unit: 's',
          about: 'Age of the newest backup of any type.',
          queries: [
            {
              expr: 'min by (stanza) (pgbackrest_backup_since_last_completion_seconds{backup_type="incr"})',
              legend: '{{stanza}}',
            },
          ],
          limits: [93_600, 172_800],
        },
        {
          title: 'Last good restore test',
          kind: 'stat',
          unit: 's',
          about: 'Since a backup was restored and looked at with success.',
          queries: [
            {
              expr: 'time() - max by (stanza) (pg_restore_test_last_success_timestamp_seconds)',
              legend: '{{stanza}}',
            },
          ],
          limits: [691_200, 1_209_600],
        },
        {
          title: 'First certificate ends in',
          kind: 'stat',
          unit: 's',
          about: 'Of those that pgsteer uses and of those that the tool issued.',
          queries: [
            {
              expr: 'min(pgsteer_tls_certificate_not_after_timestamp_seconds or pg_cluster_certificate_not_after_timestamp_seconds) - time()',
              legend: 'first',
            },
          ],
          limits: [1_814_400, 259_200],
        },
        {
          title: 'Least space on a disk',
          kind: 'stat',
          unit: 'percentunit',
          about: 'What is free of the fullest file system of all hosts.',
          queries: [
            {
              expr: 'min(node_filesystem_avail_bytes{fstype!~"tmpfs|overlay|squashfs|ramfs|fuse.*|nfs.*"} / node_filesystem_size_bytes)',
              legend: 'free',
            },
          ],
          limits: [0.15, 0.05],
        },
      ],
    },
  ],
}
