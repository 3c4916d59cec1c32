/** One PostgreSQL server, by postgres_exporter 0.17 to 0.20 and Patroni. */
import type { Dashboard } from './grafana.ts'
import { curves, figure, states } from './panels.ts'

const OF = 'instance=~"$instance"'
const USER_DATABASES = `${OF},datname!~"template.*"`
const perSecond = (metric: string): string =>
  `sum by (instance) (rate(${metric}{${USER_DATABASES}}[$__rate_interval]))`

export const MEMBER: Dashboard = {
  name: 'member',
  title: 'PostgreSQL member',
  about: 'What a server does: connections, transactions, cache, locks, WAL and checkpoints.',
  instances: 'pg_up',
  rows: [
    {
      title: 'Now',
      panels: [
        figure(
          { title: 'Running since', unit: 'dateTimeFromNow', about: 'Start of the postmaster.' },
          [`1000 * max by (instance) (pg_postmaster_start_time_seconds{${OF}})`, '{{instance}}'],
          { width: 8 },
        ),
        figure(
          { title: 'Timeline', unit: 'short', about: 'Grows with every failover.' },
          [`max by (instance) (patroni_postgres_timeline{${OF}})`, '{{instance}}'],
          { width: 8 },
        ),
        figure(
          { title: 'Connections in use', unit: 'percentunit', about: 'Of max_connections.' },
          [
            `sum by (instance) (pg_stat_activity_count{${OF}}) / on (instance) pg_settings_max_connections{${OF}}`,
            '{{instance}}',
          ],
          { width: 8, limits: [0.7, 0.9] },
        ),
        states(
          { title: 'Role', unit: 'short', about: 'By Patroni.' },
          [`2 * patroni_primary{${OF}} + patroni_replica{${OF}}`, '{{name}}'],
          { '0': ['neither', 'red'], '1': ['replica', 'blue'], '2': ['primary', 'green'] },
        ),
        states(
          {
            title: 'Restart pending',
            unit: 'short',
            about: 'It runs with older parameters until then.',
          },
          [`patroni_pending_restart{${OF}}`, '{{name}}'],
          { '0': ['no', 'green'], '1': ['restart pending', 'orange'] },
        ),
      ],
    },
    {
      title: 'Work',
      panels: [
        curves(
          { title: 'Connections by state', unit: 'short', about: 'Of all databases.' },
          [[`sum by (instance, state) (pg_stat_activity_count{${OF}})`, '{{instance}} {{state}}']],
          { isStacked: true },
        ),
        curves(
          {
            title: 'Longest transaction',
            unit: 's',
            about: 'It holds vacuum back, and its server.',
          },
          [
            [
              `max by (instance, state) (pg_stat_activity_max_tx_duration{${OF},state=~"active|idle in transaction.*"})`,
              '{{instance}} {{state}}',
            ],
          ],
          { limits: [300, 3600] },
        ),
        curves(
          { title: 'Transactions per second', unit: 'ops', about: 'Committed and rolled back.' },
          [
            [perSecond('pg_stat_database_xact_commit'), '{{instance}} commit'],
            [perSecond('pg_stat_database_xact_rollback'), '{{instance}} rollback'],
          ],
        ),
        curves(
          { title: 'Rows written per second', unit: 'ops', about: 'Inserted, updated, deleted.' },
          [
            [perSecond('pg_stat_database_tup_inserted'), '{{instance}} inserted'],
            [perSecond('pg_stat_database_tup_updated'), '{{instance}} updated'],
            [perSecond('pg_stat_database_tup_deleted'), '{{instance}} deleted'],
          ],
        ),
        curves(
          {
            title: 'Read from the cache',
            unit: 'percentunit',
            about: 'Share of blocks found in shared_buffers.',
          },
          [
            [
              `${perSecond('pg_stat_database_blks_hit')} / (${perSecond('pg_stat_database_blks_hit')} + ${perSecond('pg_stat_database_blks_read')})`,
              '{{instance}}',
            ],
          ],
          { max: 1 },
        ),
        curves(
          {
            title: 'Temporary files',
            unit: 'Bps',
            about: 'Written by sorts and joins beyond work_mem.',
          },
          [[perSecond('pg_stat_database_temp_bytes'), '{{instance}}']],
        ),
        curves({ title: 'Locks', unit: 'short', about: 'Held and awaited, by mode.' }, [
          [`sum by (instance, mode) (pg_locks_count{${OF}}) > 0`, '{{instance}} {{mode}}'],
        ]),
        curves(
          {
            title: 'Deadlocks and cancelled queries',
            unit: 'short',
            about: 'In each interval; conflicts are on replicas.',
          },
          [
            [
              `sum by (instance) (increase(pg_stat_database_deadlocks{${OF}}[$__rate_interval]))`,
              '{{instance}} deadlocks',
            ],
            [
              `sum by (instance) (increase(pg_stat_database_conflicts{${OF}}[$__rate_interval]))`,
              '{{instance}} conflicts',
            ],
          ],
        ),
      ],
    },
    {
      title: 'Storage',
      panels: [
        curves({ title: 'Size of databases', unit: 'bytes', about: 'The same on every member.' }, [
          [`max by (datname) (pg_database_size_bytes{${USER_DATABASES}})`, '{{datname}}'],
        ]),
        curves(
          {
            title: 'WAL on the disk',
            unit: 'bytes',
            about: 'Grows when archiving fails or a slot holds it.',
          },
          [[`pg_wal_size_bytes{${OF}}`, '{{instance}}']],
        ),
        curves(
          {
            title: 'Checkpoints',
            unit: 'short',
            about:
              'In each interval. Requested ones: max_wal_size is too small for the load. PostgreSQL 17 and newer.',
          },
          [
            [
              `increase(pg_stat_checkpointer_num_timed_total{${OF}}[$__rate_interval])`,
              '{{instance}} by time',
            ],
            [
              `increase(pg_stat_checkpointer_num_requested_total{${OF}}[$__rate_interval])`,
              '{{instance}} requested',
            ],
          ],
        ),
        curves(
          {
            title: 'Oldest transaction id',
            unit: 'short',
            about: 'Transactions ago. At 2.1 billion the server stops; vacuum keeps it near 0.2.',
          },
          [
            [
              `max by (instance) (pg_database_wraparound_age_datfrozenxid_seconds{${OF}})`,
              '{{instance}}',
            ],
          ],
          { limits: [1_000_000_000, 1_800_000_000] },
        ),
      ],
    },
  ],
}
