/**
 * SHOW MEMBERS, SHOW CLUSTER and EXPLAIN ROUTE: what PgBouncer does not know. Their columns are
 * ours; new ones are added at the end.
 */
import type { Member } from '../../cluster/topology.ts'
import type { MemberPoolFacts } from '../../server/facts.ts'
import type { Snapshot } from '../facts.ts'
import { addMember } from '../merge.ts'
import { columns, type Row, row, timestamp } from '../table.ts'

export const MEMBERS = columns(`
  member addr port:int4 role state timeline:int4 lag_bytes:int8 lag_ms:int8 eligible:bool reason
  weight:int4 zone sample_age_ms:int8 write_lsn replay_lsn sv_active:int4 sv_idle:int4 sv_used:int4
  sv_tested:int4 sv_login:int4`)

/** The members of the cluster, then the hosts of databases that are not routed. */
export function showMembers(snapshot: Snapshot): Row[] {
  const servers = serversByMember(snapshot)
  const routed = snapshot.topology.members.map((member) => {
    const mine = servers.get(member.name)
    servers.delete(member.name)
    return memberRow(member, mine, snapshot.nowMs)
  })
  const plain = [...servers.values()].map((mine) =>
    row(
      mine.member,
      mine.member,
      null,
      mine.role,
      'configured',
      ...NOT_OBSERVED,
      ...serverCounts(mine),
    ),
  )
  return [...routed, ...plain]
}

/** From timeline to replay_lsn: hosts that are not routed are not probed. */
const NOT_OBSERVED = Array.from({ length: 10 }, () => null)

/** Servers of each member, over all pools. */
export function serversByMember({ facts }: Snapshot): Map<string, MemberPoolFacts> {
  const sums = new Map<string, MemberPoolFacts>()
  for (const pool of facts.pools) {
    for (const member of pool.members) {
      const sum = sums.get(member.member)
      sums.set(member.member, sum === undefined ? member : addMember(sum, member))
    }
  }
  return sums
}

function memberRow(member: Member, servers: MemberPoolFacts | undefined, nowMs: number): Row {
  const { sample } = member
  return row(
    member.name,
    member.host,
    member.port,
    member.role,
    member.state,
    sample?.timeline ?? null,
    member.lagBytes,
    member.lagMs,
    member.eligible,
    member.ineligibleReason,
    member.weight,
    member.zone,
    sample === null ? null : nowMs - sample.sentMs,
    formatLsn(sample?.writeLsn ?? null),
    formatLsn(sample?.replayLsn ?? null),
    ...serverCounts(servers),
  )
}

function serverCounts(servers: MemberPoolFacts | undefined): number[] {
  if (servers === undefined) return [0, 0, 0, 0, 0]
  return [servers.active, servers.idle, servers.used, servers.tested, servers.login]
}

/** `16/B374D848`, PostgreSQL's form. */
export function formatLsn(lsn: bigint | null): string | null {
  if (lsn === null) return null
  const low = (lsn & 0xffff_ffffn).toString(16).toUpperCase()
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${low}`
}

export const CLUSTER = columns(`
  term:int8 serial:int8 primary missing source source_state source_error timeline:int4
  system_identifier paused:bool standby_cluster:bool failovers:int8 primary_since
  without_primary_ms:int8 workers:int4 workers_behind:int4 failover_state`)

/** One row. `missing` says what keeps a primary from being believed in, and is empty else. */
export function showCluster(snapshot: Snapshot): Row[] {
  const { topology, cluster, facts } = snapshot
  const isRouted = snapshot.config.cluster !== null
  const since = cluster.primarySinceWallMs
  return [
    row(
      topology.term,
      topology.serial,
      topology.primary,
      missing(snapshot),
      isRouted ? cluster.source : null,
      isRouted ? cluster.sourceState : '',
      cluster.sourceError,
      topology.timeline,
      topology.systemIdentifier,
      topology.paused,
      topology.standbyCluster,
      cluster.failovers,
      since === null ? null : timestamp(since),
      cluster.withoutPrimaryMs,
      facts.workers.length,
      facts.workers.filter((worker) => worker.topologyTerm < topology.term).length,
      cluster.failoverState,
    ),
  ]
}

/** What keeps a primary from being believed in; '' when nothing does. */
export function missing({ config, topology }: Snapshot): string {
  if (config.cluster === null) return 'there is no [cluster] section, nothing is routed'
  return topology.primary === null ? topology.missing : ''
}

export const ROUTE = columns('route reason members detail')

/** Where a batch would go and why, as the control process answers it. */
export interface RouteExplanation {
  /** `primary`, `replica` or `any`. */
  readonly route: string
  /** The short stable word that goes to metrics and SHOW CLIENTS. */
  readonly reason: string
  /** Members that may serve it now. */
  readonly members: readonly string[]
  /** One sentence for people: which function, which relation, which clause. */
  readonly detail: string
}

export function showRoute(explanations: readonly RouteExplanation[]): Row[] {
  return explanations.map(({ route, reason, members, detail }) =>
    row(route, reason, members.join(','), detail),
  )
}
