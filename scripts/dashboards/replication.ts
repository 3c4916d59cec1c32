/** Who follows whom, how far behind, and what is kept for those who are away. */
import type { Dashboard } from './grafana.ts'
import { curves, states, table } from './panels.ts'

export const REPLICATION: Dashboard = {
  name: 'replication',
  title: 'Replication',
  about: 'Lag as the primary, the replicas and pgsteer see it; slots; timelines; WAL.',
  rows: [
    {
      title: 'Behind',
      panels: [
        curves(
          { title: 'By bytes, as the primary sees it', unit: 'bytes', about: 'Not replayed yet.' },
          [
            [
              'max by (application_name) (pg_stat_replication_pg_wal_lsn_diff)',
              '{{application_name}}',
            ],
          ],
        ),
        curves(
          {
            title: 'By time, as the replica sees it',
            unit: 's',
            about: 'Since the commit of what was replayed last, if there is more to replay.',
          },
          [['pg_replication_lag_seconds and pg_replication_is_replica == 1', '{{instance}}']],
          { limits: [10, 30] },
        ),
        curves(
          {
            title: 'By bytes, as pgsteer judges it',
            unit: 'bytes',
            about: 'What decides whether it gets reads.',
          },
          [['max by (member) (pgsteer_member_lag_bytes)', '{{member}}']],
        ),
        curves(
          {
            title: 'Received and not replayed',
            unit: 'bytes',
            about: 'A long query stops the replay, not the stream.',
          },
          [
            [
              '(patroni_xlog_received_location - patroni_xlog_replayed_location) and patroni_replica == 1',
              '{{name}}',
            ],
          ],
        ),
      ],
    },
    {
      title: 'Who follows',
      panels: [
        states(
          {
            title: 'Streaming',
            unit: 'short',
            about: 'Replicas that stream; the primary does not.',
          },
          ['patroni_postgres_streaming + 2 * patroni_primary', '{{name}}'],
          { '0': ['does not stream', 'red'], '1': ['streams', 'green'], '2': ['primary', 'blue'] },
        ),
        states(
          { title: 'Synchronous', unit: 'short', about: 'Has every acknowledged commit.' },
          ['patroni_sync_standby + patroni_quorum_standby', '{{name}}'],
          { '0': ['no', 'text'], '1': ['synchronous', 'green'] },
        ),
        curves({ title: 'Timeline', unit: 'short', about: 'One that stays behind has diverged.' }, [
          ['patroni_postgres_timeline', '{{name}}'],
        ]),
        table(
          {
            title: 'Connections of replicas',
            unit: 'bytes',
            about: 'With the WAL that each still has to replay.',
          },
          'max by (application_name, client_addr, state) (pg_stat_replication_pg_wal_lsn_diff)',
        ),
      ],
    },
    {
      title: 'What is kept',
      panels: [
        curves(
          { title: 'WAL kept by slots', unit: 'bytes', about: 'Capped by max_slot_wal_keep_size.' },
          [
            [
              'max by (instance, slot_name) (pg_replication_slots_pg_wal_lsn_diff)',
              '{{instance}}: {{slot_name}}',
            ],
          ],
        ),
        states(
          {
            title: 'Slots in use',
            unit: 'short',
            about:
              'On the primary: one that nobody reads keeps WAL. Patroni keeps slots on replicas too, which nobody reads.',
          },
          [
            'max by (instance, slot_name) (pg_replication_slots_active) and on (instance) pg_replication_is_replica == 0',
            '{{instance}}: {{slot_name}}',
          ],
          { '0': ['nobody reads', 'orange'], '1': ['in use', 'green'] },
        ),
        table(
          {
            title: 'State of the slots',
            unit: 'short',
            about: 'unreserved and lost: the replica has to be made anew.',
          },
          'max by (instance, slot_name, wal_status) (pg_replication_slots_wal_status or pg_replication_slot_wal_status)',
        ),
        curves({ title: 'WAL written', unit: 'Bps', about: 'By the primary.' }, [
          ['rate(patroni_xlog_location[$__rate_interval]) and patroni_primary == 1', '{{name}}'],
        ]),
      ],
    },
  ],
}
