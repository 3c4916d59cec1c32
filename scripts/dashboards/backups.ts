/** What is in the repository, whether it keeps up, and whether it can be restored. */
import type { Dashboard } from './grafana.ts'
import { curves, figure, states, table } from './panels.ts'

const TYPES = 'max by (stanza, backup_type)'

export const BACKUPS: Dashboard = {
  name: 'backups',
  title: 'Backups',
  about: 'pgBackRest by its exporter, the schedule and the restore test by the repository host.',
  rows: [
    {
      title: 'Now',
      panels: [
        figure(
          { title: 'Newest backup', unit: 's', about: 'Age of the newest one of any type.' },
          [
            'min by (stanza) (pgbackrest_backup_since_last_completion_seconds{backup_type="incr"})',
            '{{stanza}}',
          ],
          { limits: [93_600, 172_800], width: 6 },
        ),
        figure(
          { title: 'Newest full backup', unit: 's', about: 'The others need it.' },
          [
            'min by (stanza) (pgbackrest_backup_since_last_completion_seconds{backup_type="full"})',
            '{{stanza}}',
          ],
          { limits: [691_200, 1_209_600], width: 6 },
        ),
        figure(
          {
            title: 'Last good restore test',
            unit: 's',
            about: 'A backup that was never restored is a hope.',
          },
          [
            'time() - max by (stanza) (pg_restore_test_last_success_timestamp_seconds)',
            '{{stanza}}',
          ],
          { limits: [691_200, 1_209_600], width: 6 },
        ),
        figure(
          {
            title: 'Last WAL archived',
            unit: 's',
            about: 'Ago, by the primary. What came after is lost with the site.',
          },
          [
            'pg_stat_archiver_last_archive_age and on (instance) pg_replication_is_replica == 0',
            '{{instance}}',
          ],
          { limits: [900, 1800], width: 6 },
        ),
        states(
          { title: 'In order', unit: 'short', about: 'Stanza and repositories, by pgBackRest.' },
          [
            'max by (stanza) (pgbackrest_stanza_status) + on (stanza) group_right max by (stanza, repo_key) (pgbackrest_repo_status)',
            '{{stanza}} repository {{repo_key}}',
          ],
          { '0': ['in order', 'green'], '1': ['broken', 'red'], '2': ['no backup', 'orange'] },
        ),
        table(
          {
            title: 'Backups in the repositories',
            unit: 'bytes',
            about: 'With the size of the database then.',
          },
          'max by (stanza, repo_key, backup_name, backup_type) (pgbackrest_backup_size_bytes)',
        ),
      ],
    },
    {
      title: 'Size and time',
      panels: [
        curves(
          {
            title: 'Size in the repository',
            unit: 'bytes',
            about: 'Of the newest backup of each type, compressed.',
          },
          [[`${TYPES} (pgbackrest_backup_last_repo_delta_bytes)`, '{{stanza}} {{backup_type}}']],
        ),
        curves(
          { title: 'Size of what is backed up', unit: 'bytes', about: 'The database as it was.' },
          [[`${TYPES} (pgbackrest_backup_last_size_bytes)`, '{{stanza}} {{backup_type}}']],
        ),
        curves({ title: 'Duration', unit: 's', about: 'Of the newest backup of each type.' }, [
          [`${TYPES} (pgbackrest_backup_last_duration_seconds)`, '{{stanza}} {{backup_type}}'],
        ]),
        curves(
          {
            title: 'Age',
            unit: 's',
            about:
              'Falls to zero at each backup; a line that only grows is a schedule that stands still.',
          },
          [
            [
              `min by (stanza, backup_type) (pgbackrest_backup_since_last_completion_seconds)`,
              '{{stanza}} {{backup_type}}',
            ],
          ],
        ),
      ],
    },
    {
      title: 'WAL',
      panels: [
        curves(
          { title: 'Archived', unit: 'ops', about: 'WAL segments a second, by the primary.' },
          [['rate(pg_stat_archiver_archived_count[$__rate_interval])', '{{instance}}']],
        ),
        curves(
          {
            title: 'Failures of archiving',
            unit: 'short',
            about: 'In each interval. It is tried again; meanwhile the disk fills.',
          },
          [['increase(pg_stat_archiver_failed_count[$__rate_interval])', '{{instance}}']],
        ),
      ],
    },
  ],
}
