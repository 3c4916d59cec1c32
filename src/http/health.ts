/**
 * Whether this process can serve writes and reads, as a pure function of a snapshot. A probe of a
 * load balancer asks about this process; the cluster has probes of its own.
 */
import type { Snapshot } from '../admin/facts.ts'

export interface Ability {
  readonly can: boolean
  /** One sentence; '' when it can. */
  readonly reason: string
}

export interface Health {
  /** Takes clients and can do something for them. */
  readonly isReady: boolean
  /** Sentences that say why it is not ready; empty when it is. */
  readonly reasons: readonly string[]
  readonly write: Ability
  /** By a replica or the primary. */
  readonly read: Ability
  /** Reads by a replica, which takes none of the primary's strength. */
  readonly replica: Ability
  readonly primary: string | null
  readonly replicas: readonly string[]
}

/**
 * Ready means: a worker listens, nobody asked for a shutdown, and writes or reads are possible. A
 * failover with replicas left does not make it unready: writes wait here, and moving clients to
 * another instance would not shorten that.
 */
export function healthOf(snapshot: Snapshot): Health {
  const stopped = stoppedBecause(snapshot)
  const { topology } = snapshot
  const replicas = topology.members
    .filter((member) => member.role === 'replica' && member.eligible)
    .map((member) => member.name)
  const write = ability(stopped ?? noWriteBecause(snapshot))
  const replica = ability(stopped ?? noReplicaBecause(snapshot, replicas.length))
  const read = write.can || replica.can ? ability(null) : ability(write.reason)
  const reasons = [write, read].flatMap(({ can, reason }) => (can ? [] : [reason]))
  return {
    isReady: write.can || read.can,
    reasons: write.can || read.can ? [] : [...new Set(reasons)],
    write,
    read,
    replica,
    primary: topology.primary,
    replicas,
  }
}

function ability(reason: string | null): Ability {
  return { can: reason === null, reason: reason ?? '' }
}

function stoppedBecause({ state, facts }: Snapshot): string | null {
  if (state.shutdown !== null) return 'pgsteer is shutting down'
  if (state.isPaused) return 'paused by an operator (PAUSE), RESUME ends it'
  if (facts.workers.length === 0) return 'no worker process answers'
  if (facts.workers.every((worker) => worker.isShuttingDown)) return 'pgsteer is shutting down'
  if (facts.workers.every((worker) => worker.listeners.length === 0)) return 'no worker listens'
  return null
}

function noWriteBecause({ config, topology }: Snapshot): string | null {
  if (config.cluster === null) return null
  if (topology.standbyCluster) return 'this is a standby cluster, it takes no writes'
  return topology.primary === null ? `no primary: ${topology.missing}` : null
}

function noReplicaBecause({ config, topology }: Snapshot, eligible: number): string | null {
  if (config.cluster === null) return null
  if (eligible > 0) return null
  const reasons = topology.members
    .filter((member) => member.name !== topology.primary)
    .map((member) => `${member.name}: ${member.ineligibleReason ?? member.role}`)
  if (reasons.length === 0) return 'there is no replica'
  return `no replica may serve reads (${reasons.join(', ')})`
}
