/** etcd by its own metrics (3.5 and newer): its quorum is the cluster's ability to have a primary. */
import type { Dashboard } from './grafana.ts'
import { curves, figure, quantiles, states } from './panels.ts'

const rate = (metric: string): string => `rate(${metric}[$__rate_interval])`

export const ETCD: Dashboard = {
  name: 'etcd',
  title: 'etcd',
  about: 'Quorum, leader, the time its disk and its peers take, and what is left of its quota.',
  rows: [
    {
      title: 'Quorum',
      panels: [
        figure(
          { title: 'Members that answer', unit: 'short', about: 'Two of three are a quorum.' },
          ['sum(up{job="etcd"})', 'members'],
          { limits: [3, 2], width: 6 },
        ),
        figure(
          { title: 'Leader', unit: 'short', about: 'The member that leads.' },
          ['etcd_server_is_leader == 1', '{{instance}}'],
          { width: 6, showsName: true },
        ),
        figure(
          { title: 'Leaders in the range', unit: 'short', about: 'Changes that a member saw.' },
          ['round(max(increase(etcd_server_leader_changes_seen_total[$__range])))', 'changes'],
          { limits: [1, 4], width: 6 },
        ),
        figure(
          {
            title: 'Of the quota',
            unit: 'percentunit',
            about: 'When it is full nothing can be written.',
          },
          ['max(etcd_mvcc_db_total_size_in_bytes / etcd_server_quota_backend_bytes)', 'used'],
          { limits: [0.6, 0.8], width: 6 },
        ),
        states(
          { title: 'Sees a leader', unit: 'short', about: 'A member that is cut off sees none.' },
          ['etcd_server_has_leader', '{{instance}}'],
          { '0': ['no leader', 'red'], '1': ['has a leader', 'green'] },
        ),
        curves(
          {
            title: 'Writes that failed, and those under way',
            unit: 'short',
            about: 'Pending ones pile up without a quorum.',
          },
          [
            [
              `increase(etcd_server_proposals_failed_total[$__rate_interval])`,
              '{{instance}} failed',
            ],
            ['etcd_server_proposals_pending', '{{instance}} pending'],
          ],
        ),
      ],
    },
    {
      title: 'Speed',
      panels: [
        curves(
          {
            title: 'To the disk (WAL)',
            unit: 's',
            about: 'The 99th of 100 should stay below 10 ms.',
          },
          quantiles('etcd_disk_wal_fsync_duration_seconds_bucket', 'instance').slice(0, 1),
          { limits: [0.01, 0.1] },
        ),
        curves(
          {
            title: 'To the disk (database)',
            unit: 's',
            about: 'The 99th of 100 should stay below 25 ms.',
          },
          quantiles('etcd_disk_backend_commit_duration_seconds_bucket', 'instance').slice(0, 1),
          { limits: [0.025, 0.25] },
        ),
        curves(
          {
            title: 'To the peers and back',
            unit: 's',
            about: 'The 99th of 100; the heartbeat is 100 ms.',
          },
          quantiles('etcd_network_peer_round_trip_time_seconds_bucket', 'instance').slice(0, 1),
        ),
        curves(
          { title: 'Writes', unit: 'ops', about: 'Applied; Patroni writes little, in every loop.' },
          [[rate('etcd_server_proposals_applied_total'), '{{instance}}']],
        ),
        curves(
          {
            title: 'Database',
            unit: 'bytes',
            about: 'On the disk, and in use; compaction frees, defrag gives back.',
          },
          [
            ['etcd_mvcc_db_total_size_in_bytes', '{{instance}} on disk'],
            ['etcd_mvcc_db_total_size_in_use_in_bytes', '{{instance}} in use'],
          ],
        ),
        curves({ title: 'Traffic with clients', unit: 'Bps', about: 'Patroni and pgsteer.' }, [
          [rate('etcd_network_client_grpc_received_bytes_total'), '{{instance}} received'],
          [rate('etcd_network_client_grpc_sent_bytes_total'), '{{instance}} sent'],
        ]),
      ],
    },
  ],
}
