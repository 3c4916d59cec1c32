/**
 * The metrics of our own, `pgsteer_*`, in base units. docs/metrics.md is tested against this table,
 * both ways.
 */
import type { ProcessFacts } from '../../admin/facts.ts'
import { serversByMember } from '../../admin/views/cluster.ts'
import type { PoolSums } from '../../admin/views/pools.ts'
import { instanceNumber, peers } from '../../admin/views/program.ts'
import type { Member } from '../../cluster/topology.ts'
import {
  counter,
  gauge,
  histogram,
  type MetricRow,
  type NumberRow,
  type Reading,
  type Series,
  single,
  truth,
} from './rows.ts'

const PROGRAM: readonly MetricRow[] = [
  gauge('pgsteer_build_info', 'version nodejs', 'The version that runs; always 1.', (reading) => [
    [[reading.snapshot.version, process.version], 1],
  ]),
  gauge(
    'pgsteer_start_time_seconds',
    '',
    'When the control process was started, in seconds since 1970.',
    ({ snapshot }) => single(snapshot.startedWallMs / 1000),
  ),
  gauge('pgsteer_ready', '', '1 if /readyz says ready.', ({ health }) =>
    single(truth(health.isReady)),
  ),
  gauge('pgsteer_writable', '', '1 if writes can be served now.', ({ health }) =>
    single(truth(health.write.can)),
  ),
  gauge('pgsteer_readable', '', '1 if reads can be served now.', ({ health }) =>
    single(truth(health.read.can)),
  ),
  gauge(
    'pgsteer_instance_number',
    '',
    "The number in this instance's cancel keys; 0 = none.",
    (reading) => single(instanceNumber(reading.snapshot)),
  ),
  gauge('pgsteer_instances', '', 'Instances known from [peers] or from etcd.', (reading) =>
    single(peers(reading.snapshot).length),
  ),
  gauge('pgsteer_paused', '', '1 while PAUSE without a database is in force.', ({ snapshot }) =>
    single(truth(snapshot.state.isPaused)),
  ),
  gauge('pgsteer_workers', '', 'Worker processes that answer.', ({ snapshot }) =>
    single(snapshot.facts.workers.length),
  ),
  gauge('pgsteer_workers_wanted', '', 'Worker processes that should run.', ({ snapshot }) =>
    single(snapshot.workersWanted),
  ),
  gauge(
    'pgsteer_workers_behind',
    '',
    'Worker processes that have not got the present term yet.',
    ({ snapshot: { facts, topology } }) =>
      single(facts.workers.filter((worker) => worker.topologyTerm < topology.term).length),
  ),
  counter(
    'pgsteer_config_reloads_total',
    'result',
    'Reloads of the configuration by result.',
    ({ snapshot: { state } }) => [
      [['applied'], state.reloads],
      [['failed'], state.reloadsFailed],
    ],
  ),
  gauge(
    'pgsteer_config_applied_timestamp_seconds',
    '',
    'When the configuration in force was applied, in seconds since 1970.',
    ({ snapshot }) => single(snapshot.state.reloadedWallMs / 1000),
  ),
  gauge(
    'pgsteer_tls_certificate_not_after_timestamp_seconds',
    'certificate',
    'When a certificate of the configuration ends, in seconds since 1970.',
    ({ certificates }) => certificates.map(({ key, notAfterS }) => [[key], notAfterS]),
  ),
  counter(
    'pgsteer_process_cpu_seconds_total',
    'process mode',
    'CPU time of a process of pgsteer.',
    (reading) =>
      eachProcess(reading, (facts) => [
        [['user'], facts.userCpuMs / 1000],
        [['system'], facts.systemCpuMs / 1000],
      ]),
  ),
  gauge(
    'pgsteer_process_resident_memory_bytes',
    'process',
    'Resident memory of a process of pgsteer.',
    (reading) => eachProcess(reading, (facts) => single(facts.rssBytes)),
  ),
  gauge(
    'pgsteer_process_heap_used_bytes',
    'process',
    'JavaScript heap in use of a process of pgsteer.',
    (reading) => eachProcess(reading, (facts) => single(facts.heapUsedBytes)),
  ),
  gauge(
    'pgsteer_process_external_memory_bytes',
    'process',
    'Buffers outside of the JavaScript heap of a process of pgsteer.',
    (reading) => eachProcess(reading, (facts) => single(facts.externalBytes)),
  ),
]

/** Without [cluster] there is nothing to say: no series, and no alert. */
const CLUSTER: readonly MetricRow[] = onlyRouted([
  gauge('pgsteer_cluster_has_primary', '', '1 if a primary is verified.', ({ snapshot }) =>
    single(truth(snapshot.topology.primary !== null)),
  ),
  gauge(
    'pgsteer_cluster_term',
    '',
    'Term of the topology: grows when the verified primary or a fence changes.',
    ({ snapshot }) => single(snapshot.topology.term),
  ),
  gauge('pgsteer_cluster_timeline', '', 'Timeline of the primary.', ({ snapshot }) =>
    single(snapshot.topology.timeline),
  ),
  gauge('pgsteer_cluster_paused', '', '1 while Patroni is in pause mode.', ({ snapshot }) =>
    single(truth(snapshot.topology.paused)),
  ),
  gauge('pgsteer_cluster_standby', '', '1 if this is a standby cluster.', ({ snapshot }) =>
    single(truth(snapshot.topology.standbyCluster)),
  ),
  counter(
    'pgsteer_cluster_failovers_total',
    '',
    'Changes of the verified primary from one member to another.',
    ({ snapshot }) => single(snapshot.cluster.failovers),
  ),
  counter(
    'pgsteer_cluster_without_primary_seconds_total',
    '',
    'Time without a verified primary.',
    ({ snapshot }) => single(snapshot.cluster.withoutPrimaryMs / 1000),
  ),
  gauge(
    'pgsteer_cluster_primary_since_timestamp_seconds',
    '',
    'When the present primary was verified, in seconds since 1970; absent while there is none.',
    ({ snapshot }) => single(seconds(snapshot.cluster.primarySinceWallMs)),
  ),
  gauge(
    'pgsteer_cluster_source_info',
    'source state',
    'Where the members come from, and in which state that is; always 1.',
    ({ snapshot: { cluster } }) =>
      cluster.source === null ? [] : [[[cluster.source, cluster.sourceState], 1]],
  ),
  gauge(
    'pgsteer_cluster_failover_state_info',
    'state',
    'What the belief in the primary rests on, by the states of docs/failover.md; always 1.',
    ({ snapshot: { cluster } }) =>
      cluster.failoverState === null ? [] : [[[cluster.failoverState], 1]],
  ),
  counter(
    'pgsteer_cluster_probes_failed_total',
    '',
    'Probes of members that got no answer in time.',
    ({ snapshot }) => single(snapshot.cluster.probesFailed),
  ),
])

const ROLES = ['primary', 'replica', 'unknown'] as const

const MEMBERS: readonly MetricRow[] = [
  gauge('pgsteer_member_role', 'member role', '1 for the role the member has.', (reading) =>
    eachMember(reading, (member) => ROLES.map((role) => [[role], truth(member.role === role)])),
  ),
  gauge('pgsteer_member_eligible', 'member', '1 if the member may serve reads.', (reading) =>
    eachMember(reading, (member) => single(truth(member.eligible))),
  ),
  gauge(
    'pgsteer_member_ineligible_info',
    'member reason',
    'Why the member may not serve reads; always 1.',
    (reading) =>
      eachMember(reading, ({ ineligibleReason: reason }) =>
        reason === null ? [] : [[[reason], 1]],
      ),
  ),
  gauge(
    'pgsteer_member_lag_bytes',
    'member',
    'Replay distance to the primary; absent while it is not known.',
    (reading) => eachMember(reading, (member) => single(member.lagBytes)),
  ),
  gauge(
    'pgsteer_member_lag_seconds',
    'member',
    'Age of what the member has replayed; absent while it is not known.',
    (reading) => eachMember(reading, (member) => single(seconds(member.lagMs))),
  ),
  gauge('pgsteer_member_timeline', 'member', 'Timeline of the member.', (reading) =>
    eachMember(reading, (member) => single(member.sample?.timeline ?? null)),
  ),
  gauge(
    'pgsteer_member_sample_age_seconds',
    'member',
    'Time since the newest answer of the member to a probe.',
    (reading) =>
      eachMember(reading, ({ sample }) =>
        single(sample === null ? null : (reading.snapshot.nowMs - sample.sentMs) / 1000),
      ),
  ),
  gauge('pgsteer_member_weight', 'member', 'Share of the reads of the member.', (reading) =>
    eachMember(reading, (member) => single(member.weight)),
  ),
  gauge(
    'pgsteer_member_servers',
    'member state',
    'Server connections to a member by state, over all pools.',
    ({ snapshot }) =>
      [...serversByMember(snapshot).values()].flatMap((servers) => [
        [[servers.member, 'active'], servers.active],
        [[servers.member, 'idle'], servers.idle],
        [[servers.member, 'used'], servers.used],
        [[servers.member, 'tested'], servers.tested],
        [[servers.member, 'login'], servers.login],
        [[servers.member, 'being_canceled'], servers.beingCanceled],
      ]),
  ),
]

const CLIENTS: readonly MetricRow[] = [
  gauge('pgsteer_clients_login', '', 'Clients that are logging in.', ({ snapshot }) =>
    single(snapshot.facts.clients.loginClients),
  ),
  gauge('pgsteer_clients_max', '', 'max_client_conn.', ({ snapshot }) =>
    single(snapshot.config.pgbouncer.maxClientConn),
  ),
  counter('pgsteer_client_logins_total', 'database', 'Clients that logged in.', (reading) =>
    eachDatabase(reading, 'clientLogins'),
  ),
  counter('pgsteer_client_login_failures_total', '', 'Log-ins that were refused.', (reading) =>
    single(reading.snapshot.facts.clients.loginFailures),
  ),
  counter(
    'pgsteer_client_disconnects_total',
    'reason',
    'Clients that went or were sent away, by reason.',
    (reading) => reading.words(reading.snapshot.facts.clients.disconnectsByReason),
  ),
  counter('pgsteer_cancels_forwarded_total', '', 'Cancel requests sent to a server.', (reading) =>
    single(reading.snapshot.facts.clients.cancelsForwarded),
  ),
  counter(
    'pgsteer_cancel_requests_total',
    'result',
    'Cancel requests that came in, by what became of them.',
    (reading) => reading.words(reading.snapshot.facts.clients.cancelRequestsByResult),
  ),
  counter(
    'pgsteer_errors_total',
    'sqlstate',
    'Errors that clients were told, those of servers as well, by SQLSTATE.',
    (reading) => reading.words(reading.snapshot.facts.clients.errorsBySqlstate),
  ),
]

const TRAFFIC: readonly MetricRow[] = [
  counter('pgsteer_queries_total', 'database', 'Queries answered.', (reading) =>
    eachDatabase(reading, 'queries'),
  ),
  counter('pgsteer_transactions_total', 'database', 'Transactions ended.', (reading) =>
    eachDatabase(reading, 'transactions'),
  ),
  counter('pgsteer_received_bytes_total', 'database', 'Bytes from clients.', (reading) =>
    eachDatabase(reading, 'bytesReceived'),
  ),
  counter('pgsteer_sent_bytes_total', 'database', 'Bytes to clients.', (reading) =>
    eachDatabase(reading, 'bytesSent'),
  ),
  histogram(
    'pgsteer_queue_duration_seconds',
    'database role',
    'Time a batch waited for a server, by the role of the server that answered.',
    ({ queueTime }) =>
      queueTime.map(({ database, role, histogram: counts }) => [[database, role], counts]),
  ),
  histogram(
    'pgsteer_query_duration_seconds',
    'database role',
    'Time from a batch sent to its answer, by the role of the server that answered.',
    ({ queryTime }) =>
      queryTime.map(({ database, role, histogram: counts }) => [[database, role], counts]),
  ),
  counter('pgsteer_routes_total', 'reason', 'Batches routed, by the reason.', (reading) =>
    reading.words(reading.snapshot.facts.clients.routesByReason),
  ),
  counter(
    'pgsteer_pins_total',
    'reason',
    'Sessions bound to their server because of state that cannot be carried, by reason.',
    (reading) => reading.words(reading.snapshot.facts.clients.pinsByReason),
  ),
  counter(
    'pgsteer_statements_healed_total',
    'sqlstate',
    'Statements that a replica refused and the primary then answered, by SQLSTATE.',
    (reading) => reading.words(reading.snapshot.facts.clients.healedBySqlstate),
  ),
  counter(
    'pgsteer_multiplexed_reads_total',
    '',
    'Reads sent on a server that other clients share (multiplex_reads).',
    ({ snapshot }) => single(snapshot.facts.clients.rides),
  ),
  counter(
    'pgsteer_multiplexed_moves_total',
    '',
    'Shared reads that were sent again on another server, from behind a late or lost one.',
    ({ snapshot }) => single(snapshot.facts.clients.ridesMoved),
  ),
  counter(
    'pgsteer_multiplexed_answers_dropped_total',
    '',
    'Answers to shared reads for which nobody waited any more.',
    ({ snapshot }) => single(snapshot.facts.clients.ridesSwallowed),
  ),
  gauge(
    'pgsteer_multiplexed_servers',
    '',
    'Servers that clients share for reads now.',
    ({ snapshot }) => single(snapshot.facts.clients.carriages),
  ),
  counter('pgsteer_holds_total', '', 'Batches that had to wait for a primary.', (reading) =>
    single(reading.snapshot.facts.clients.holdsStarted),
  ),
  counter(
    'pgsteer_holds_expired_total',
    '',
    'Batches whose wait for a primary ended with an error.',
    (reading) => single(reading.snapshot.facts.clients.holdsExpired),
  ),
]

const POOLS: readonly MetricRow[] = [
  gauge(
    'pgsteer_pool_clients',
    'database user state',
    'Clients of a pool: active (with a server or idle), waiting for a server, held without a primary.',
    (reading) =>
      eachPool(reading, (pool) => [
        [['active'], pool.clientsActive],
        [['waiting'], Math.max(0, pool.clientsWaiting - pool.held)],
        [['held'], pool.held],
      ]),
  ),
  gauge(
    'pgsteer_pool_servers',
    'database user state',
    'Server connections of a pool by state.',
    (reading) =>
      eachPool(reading, (pool) => [
        [['active'], pool.serversActive],
        [['idle'], pool.serversIdle],
        [['used'], pool.serversUsed],
        [['tested'], pool.serversTested],
        [['login'], pool.serversLogin],
        [['being_canceled'], pool.serversBeingCanceled],
      ]),
  ),
  gauge(
    'pgsteer_pool_oldest_wait_seconds',
    'database user',
    'Age of the oldest client that waits.',
    (reading) => eachPool(reading, (pool) => single(pool.oldestWaitMs / 1000)),
  ),
  gauge(
    'pgsteer_pool_waiting_clients',
    'database user reason',
    'Clients that wait, by what for: pool, paused, replica, primary, switchover or lease.',
    (reading) =>
      eachPool(reading, ({ waitReasons }) =>
        waitReasons.map(({ reason, clients }) => [[reason], clients]),
      ),
  ),
  gauge(
    'pgsteer_pool_waiting_oldest_seconds',
    'database user reason',
    'Age of the oldest client that waits for the same reason.',
    (reading) =>
      eachPool(reading, ({ waitReasons }) =>
        waitReasons.map(({ reason, oldestMs }) => [[reason], oldestMs / 1000]),
      ),
  ),
  gauge(
    'pgsteer_pool_held_bytes',
    'database user',
    'Bytes of statements that wait for a primary.',
    (reading) => eachPool(reading, (pool) => single(pool.heldBytes)),
  ),
  counter(
    'pgsteer_pool_servers_opened_total',
    'database user',
    'Server connections opened.',
    (reading) => eachPool(reading, (pool) => single(pool.serversOpened)),
  ),
  counter(
    'pgsteer_pool_server_login_failures_total',
    'database user',
    'Log-ins of ours that a server refused or did not answer.',
    (reading) => eachPool(reading, (pool) => single(pool.serverLoginFailures)),
  ),
  counter('pgsteer_servers_closed_total', 'reason', 'Server connections closed.', (reading) => {
    const sums = new Map<string, number>()
    for (const pool of reading.snapshot.facts.pools) {
      for (const [reason, count] of Object.entries(pool.serversClosed))
        sums.set(reason, (sums.get(reason) ?? 0) + count)
    }
    return reading.words(Object.fromEntries(sums))
  }),
]

export const PGSTEER_METRICS: readonly MetricRow[] = [
  ...PROGRAM,
  ...CLUSTER,
  ...MEMBERS,
  ...CLIENTS,
  ...TRAFFIC,
  ...POOLS,
]

function onlyRouted(rows: readonly NumberRow[]): MetricRow[] {
  return rows.map((row) => {
    const read: NumberRow['read'] = (reading) =>
      reading.snapshot.config.cluster === null ? [] : row.read(reading)
    return Object.assign({}, row, { read })
  })
}

function seconds(ms: number | null): number | null {
  return ms === null ? null : ms / 1000
}

function eachProcess(
  { snapshot }: Reading,
  read: (facts: ProcessFacts) => readonly Series[],
): Series[] {
  const processes = snapshot.facts.workers.map(
    ({ worker, process: facts }) => [`worker_${worker}`, facts] as const,
  )
  return [['control', snapshot.control] as const, ...processes].flatMap(([name, facts]) =>
    read(facts).map(([labels, value]) => [[name, ...labels], value] as const),
  )
}

function eachMember({ snapshot }: Reading, read: (member: Member) => readonly Series[]): Series[] {
  return snapshot.topology.members.flatMap((member) =>
    read(member).map(([labels, value]) => [[member.name, ...labels], value] as const),
  )
}

function eachPool({ pools }: Reading, read: (pool: PoolSums) => readonly Series[]): Series[] {
  return pools.flatMap((pool) =>
    read(pool).map(([labels, value]) => [[pool.database, pool.user, ...labels], value] as const),
  )
}

function eachDatabase(
  { stats }: Reading,
  field: 'clientLogins' | 'queries' | 'transactions' | 'bytesReceived' | 'bytesSent',
): Series[] {
  return stats.map(([database, sums]) => [[database], sums[field]])
}
