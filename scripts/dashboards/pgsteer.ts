/** pgsteer by its own metrics: clients, pools, routing, failovers, errors, processes. */
import type { Dashboard } from './grafana.ts'
import { curves, figure, quantiles, states, table } from './panels.ts'

const OF = 'instance=~"$instance"'
const rate = (metric: string, by: string, more = ''): string =>
  `sum by (${by}) (rate(${metric}{${OF}${more}}[$__rate_interval]))`

export const PGSTEER: Dashboard = {
  name: 'pgsteer',
  title: 'pgsteer',
  about: 'The proxies: who waits for what, where statements go, and what clients are told.',
  instances: 'pgsteer_build_info',
  rows: [
    {
      title: 'Now',
      panels: [
        figure(
          { title: 'Can write', unit: 'short', about: 'Instances with a verified primary.' },
          [`sum(pgsteer_writable{${OF}})`, 'instances'],
          { limits: [1, 1] },
        ),
        figure(
          { title: 'Can read', unit: 'short', about: 'Instances with a server for reads.' },
          [`sum(pgsteer_readable{${OF}})`, 'instances'],
          { limits: [1, 1] },
        ),
        figure(
          { title: 'Clients', unit: 'short', about: 'Connected clients, also those that log in.' },
          [`sum(pgbouncer_used_clients{${OF}})`, 'clients'],
        ),
        figure(
          { title: 'Of max_client_conn', unit: 'percentunit', about: 'Of the fullest instance.' },
          [
            `max(pgbouncer_used_clients{${OF}} / on (instance, job) pgsteer_clients_max{${OF}})`,
            'used',
          ],
          { limits: [0.7, 0.85] },
        ),
        figure(
          {
            title: 'Longest wait',
            unit: 's',
            about: 'Age of the oldest client that waits, of all pools.',
          },
          [`max(pgsteer_pool_oldest_wait_seconds{${OF}})`, 'oldest'],
          { limits: [1, 5] },
        ),
        figure(
          {
            title: 'Failovers in the range',
            unit: 'short',
            about: 'Changes of the verified primary.',
          },
          [`round(max(increase(pgsteer_cluster_failovers_total{${OF}}[$__range])))`, 'changes'],
          { limits: [1, 3] },
        ),
        table(
          { title: 'Versions', unit: 'short', about: 'What each instance runs.' },
          `pgsteer_build_info{${OF}}`,
        ),
        states(
          {
            title: 'The primary, as each instance sees it',
            unit: 'short',
            about:
              'Instances must agree; while they do not, none of them sends writes to two members.',
          },
          [`pgsteer_member_role{${OF},role="primary"}`, '{{instance}} {{member}}'],
          { '0': ['not the primary', 'text'], '1': ['primary', 'green'] },
        ),
      ],
    },
    {
      title: 'Statements',
      panels: [
        curves(
          { title: 'Statements per second', unit: 'ops', about: 'Answered, by database.' },
          [[rate('pgsteer_queries_total', 'database'), '{{database}}']],
          { isStacked: true },
        ),
        curves(
          {
            title: 'Where they went',
            unit: 'ops',
            about: 'By the role of the server that answered; plain is not routed.',
          },
          [[rate('pgsteer_query_duration_seconds_count', 'role'), '{{role}}']],
          { isStacked: true },
        ),
        curves(
          { title: 'Time at the server', unit: 's', about: 'From a batch sent to its answer.' },
          quantiles(`pgsteer_query_duration_seconds_bucket{${OF}}`, 'role'),
        ),
        curves(
          { title: 'Time in the queue', unit: 's', about: 'A batch waited so long for a server.' },
          quantiles(`pgsteer_queue_duration_seconds_bucket{${OF}}`, 'role'),
        ),
        curves(
          {
            title: 'Why they went there',
            unit: 'ops',
            about: 'Batches by the reason of their route; docs/routing.md has them all.',
          },
          [[rate('pgsteer_routes_total', 'reason'), '{{reason}}']],
        ),
        curves({ title: 'Traffic', unit: 'Bps', about: 'Bytes from and to clients.' }, [
          [`sum(rate(pgsteer_received_bytes_total{${OF}}[$__rate_interval]))`, 'from clients'],
          [`sum(rate(pgsteer_sent_bytes_total{${OF}}[$__rate_interval]))`, 'to clients'],
        ]),
      ],
    },
    {
      title: 'Pools',
      panels: [
        curves(
          { title: 'Clients by state', unit: 'short', about: 'Held: without a primary.' },
          [[`sum by (state) (pgsteer_pool_clients{${OF}})`, '{{state}}']],
          { isStacked: true },
        ),
        curves(
          {
            title: 'Server connections by state',
            unit: 'short',
            about: 'Over all members and pools.',
          },
          [[`sum by (state) (pgsteer_pool_servers{${OF}})`, '{{state}}']],
          { isStacked: true },
        ),
        curves(
          {
            title: 'Waiting clients, by what for',
            unit: 'short',
            about: 'pool: more servers would help.',
          },
          [[`sum by (reason) (pgsteer_pool_waiting_clients{${OF}})`, '{{reason}}']],
        ),
        curves(
          {
            title: 'Server connections by member',
            unit: 'short',
            about: 'Reads are shared by weight and load.',
          },
          [[`sum by (member) (pgsteer_member_servers{${OF}})`, '{{member}}']],
        ),
        curves(
          {
            title: 'Connections opened and closed',
            unit: 'ops',
            about: 'Many of them: server_lifetime is short, or servers break.',
          },
          [
            [`sum(rate(pgsteer_pool_servers_opened_total{${OF}}[$__rate_interval]))`, 'opened'],
            [rate('pgsteer_servers_closed_total', 'reason'), 'closed: {{reason}}'],
          ],
        ),
        curves(
          {
            title: 'Clients that come and go',
            unit: 'ops',
            about: 'Log-ins, refused ones, and why clients went.',
          },
          [
            [`sum(rate(pgsteer_client_logins_total{${OF}}[$__rate_interval]))`, 'logged in'],
            [`sum(rate(pgsteer_client_login_failures_total{${OF}}[$__rate_interval]))`, 'refused'],
            [rate('pgsteer_client_disconnects_total', 'reason'), 'went: {{reason}}'],
          ],
        ),
      ],
    },
    {
      title: 'Failover',
      panels: [
        curves(
          {
            title: 'Held and expired',
            unit: 'ops',
            about:
              'Batches that had to wait for a primary, and those whose wait ended with an error.',
          },
          [
            [`sum(rate(pgsteer_holds_total{${OF}}[$__rate_interval]))`, 'held'],
            [`sum(rate(pgsteer_holds_expired_total{${OF}}[$__rate_interval]))`, 'expired'],
          ],
        ),
        curves(
          {
            title: 'Time without a primary',
            unit: 's',
            about: 'In each interval, as each instance saw it.',
          },
          [
            [
              `increase(pgsteer_cluster_without_primary_seconds_total{${OF}}[$__rate_interval])`,
              '{{instance}}',
            ],
          ],
        ),
        states(
          {
            title: 'Replicas that may serve reads',
            unit: 'short',
            about: 'Fresh, on the timeline, and near enough.',
          },
          [`min by (member) (pgsteer_member_eligible{${OF}})`, '{{member}}'],
          { '0': ['left out', 'orange'], '1': ['serves reads', 'green'] },
        ),
        table(
          {
            title: 'Why members are left out',
            unit: 'short',
            about: 'The primary is left out of reads as such.',
          },
          `count by (member, reason) (pgsteer_member_ineligible_info{${OF}})`,
        ),
        curves(
          { title: 'Behind, by time', unit: 's', about: 'Age of what a member has replayed.' },
          [[`max by (member) (pgsteer_member_lag_seconds{${OF}})`, '{{member}}']],
        ),
        curves(
          { title: 'Behind, by bytes', unit: 'bytes', about: 'Replay distance to the primary.' },
          [[`max by (member) (pgsteer_member_lag_bytes{${OF}})`, '{{member}}']],
        ),
      ],
    },
    {
      title: 'Errors and processes',
      panels: [
        curves(
          {
            title: 'Errors told to clients',
            unit: 'ops',
            about:
              'By SQLSTATE: those of servers, and those of pgsteer, which docs/errors.md explains.',
          },
          [[rate('pgsteer_errors_total', 'sqlstate'), '{{sqlstate}}']],
        ),
        curves(
          {
            title: 'Servers that refuse pgsteer',
            unit: 'ops',
            about: 'Its own log-ins that failed, by pool.',
          },
          [
            [
              rate('pgsteer_pool_server_login_failures_total', 'database, user'),
              '{{database}}/{{user}}',
            ],
          ],
        ),
        curves(
          {
            title: 'CPU',
            unit: 'percentunit',
            about: 'Of a core, by process; a worker at 1 is at its end.',
          },
          [
            [
              `sum by (instance, process) (rate(pgsteer_process_cpu_seconds_total{${OF}}[$__rate_interval]))`,
              '{{instance}} {{process}}',
            ],
          ],
        ),
        curves({ title: 'Memory', unit: 'bytes', about: 'Resident, by process.' }, [
          [`pgsteer_process_resident_memory_bytes{${OF}}`, '{{instance}} {{process}}'],
        ]),
      ],
    },
  ],
}
