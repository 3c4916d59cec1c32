/**
 * The JSON of /api/cluster and /api/pools: the snapshot in words that a page or a script can read.
 * Times are milliseconds, sizes bytes; log positions are text, as PostgreSQL writes them.
 */
import type { Snapshot } from '../admin/facts.ts'
import { formatLsn, missing, serversByMember } from '../admin/views/cluster.ts'
import { databaseSums, poolSums } from '../admin/views/pools.ts'
import { instanceNumber, peers } from '../admin/views/program.ts'
import { emptyStats } from '../client/facts.ts'
import type { Member } from '../cluster/topology.ts'
import type { MemberPoolFacts } from '../server/facts.ts'

export function clusterJson(snapshot: Snapshot): object {
  const { topology, cluster, facts } = snapshot
  const servers = serversByMember(snapshot)
  return {
    version: snapshot.version,
    wallMs: snapshot.wallMs,
    startedWallMs: snapshot.startedWallMs,
    isRouted: snapshot.config.cluster !== null,
    term: topology.term,
    serial: topology.serial,
    primary: topology.primary,
    missing: missing(snapshot),
    timeline: topology.timeline,
    systemIdentifier: topology.systemIdentifier,
    isPaused: topology.paused,
    isStandbyCluster: topology.standbyCluster,
    source: { kind: cluster.source, state: cluster.sourceState, error: cluster.sourceError },
    failoverState: cluster.failoverState,
    switchover: topology.switchover,
    hooks: topology.hooks,
    writableForMs:
      topology.writableUntilMs === null
        ? null
        : Math.round(topology.writableUntilMs - snapshot.nowMs),
    history: topology.history.map(({ timeline, lsn }) => ({ timeline, lsn: formatLsn(lsn) })),
    failovers: cluster.failovers,
    primarySinceWallMs: cluster.primarySinceWallMs,
    withoutPrimaryMs: cluster.withoutPrimaryMs,
    members: topology.members.map((member) =>
      memberJson(member, servers.get(member.name) ?? null, snapshot.nowMs),
    ),
    instance: instanceNumber(snapshot),
    instances: peers(snapshot).map((peer) => ({
      id: peer.id,
      host: peer.host,
      port: peer.port,
      version: peer.version,
      startedWallMs: peer.startedWallMs,
      isSelf: peer.id === instanceNumber(snapshot),
    })),
    workersWanted: snapshot.workersWanted,
    roll: snapshot.roll,
    workers: facts.workers.map((worker) => ({
      worker: worker.worker,
      state: snapshot.places.get(worker.worker) ?? 'serving',
      version: worker.version,
      clients: worker.clients,
      processId: worker.process.processId,
      startedWallMs: worker.startedWallMs,
      rssBytes: worker.process.rssBytes,
      topologyTerm: worker.topologyTerm,
      listeners: worker.listeners,
    })),
  }
}

function memberJson(member: Member, servers: MemberPoolFacts | null, nowMs: number): object {
  const { sample } = member
  return {
    name: member.name,
    host: member.host,
    port: member.port,
    role: member.role,
    state: member.state,
    isEligible: member.eligible,
    ineligibleReason: member.ineligibleReason,
    lagBytes: member.lagBytes,
    lagMs: member.lagMs,
    weight: member.weight,
    zone: member.zone,
    timeline: sample?.timeline ?? null,
    sampleAgeMs: sample === null ? null : Math.round(nowMs - sample.sentMs),
    writeLsn: formatLsn(sample?.writeLsn ?? null),
    replayLsn: formatLsn(sample?.replayLsn ?? null),
    servers,
  }
}

export function poolsJson(snapshot: Snapshot): object {
  const { clients } = snapshot.facts
  const databases = databaseSums(snapshot).map((limits) => ({
    limits,
    stats: clients.stats[limits.name] ?? emptyStats(),
  }))
  return {
    wallMs: snapshot.wallMs,
    isPaused: snapshot.state.isPaused,
    shutdown: snapshot.state.shutdown,
    clientsMax: snapshot.config.pgbouncer.maxClientConn,
    loginClients: clients.loginClients,
    pools: poolSums(snapshot),
    databases,
    routesByReason: clients.routesByReason,
    pinsByReason: clients.pinsByReason,
    errorsBySqlstate: clients.errorsBySqlstate,
  }
}
