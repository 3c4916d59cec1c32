/**
 * A watcher under test that remembers everything it publishes, and the configuration it runs with.
 */
import { systemClock } from '../../src/base/clock.ts'
import { createLog } from '../../src/base/log.ts'
import type { Topology } from '../../src/cluster/topology.ts'
import { Watcher, type WatcherDeps } from '../../src/cluster/watcher.ts'
import type { ClusterConfig } from '../../src/config/config.ts'
import { PROBE, SCOPE } from '../support/patroni.ts'
import { waitFor } from '../support/wait.ts'

interface Seen {
  readonly atMs: number
  readonly topology: Topology
}

/** A watcher, and everything it published. */
export class Recorder {
  readonly watcher: Watcher
  readonly seen: Seen[] = []

  constructor(cluster: ClusterConfig, deps: Partial<WatcherDeps> = {}) {
    this.watcher = new Watcher({
      cluster,
      limits: { replicaLagBytesMax: 16_777_216, replicaLagMsMax: 10_000 },
      memberAddress: 'conn_url',
      clock: systemClock,
      log: createLog({ level: 'silent', format: 'json' }),
      publish: (topology) => this.seen.push({ atMs: performance.now(), topology }),
      ...deps,
    })
  }

  get topology(): Topology {
    const last = this.seen.at(-1)
    if (last === undefined) throw new Error('nothing was published')
    return last.topology
  }

  /** Waits until the newest value fits. Returns when that was. */
  async until(what: string, fits: (topology: Topology) => boolean, withinMs = 60_000) {
    const from = Math.max(0, this.seen.length - 1)
    return waitFor(what, () => this.seen.slice(from).find((one) => fits(one.topology)), {
      withinMs,
      everyMs: 5,
    }).catch((error: unknown) => {
      const { primary, missing } = this.topology
      const facts = JSON.stringify(this.watcher.facts())
      throw new Error(`${what}: primary ${primary}, missing '${missing}', ${facts}`, {
        cause: error,
      })
    })
  }

  /** Waits for a primary and `replicas` that may serve reads. */
  async settled(replicas: number): Promise<Topology> {
    const seen = await this.until(
      `a primary and ${replicas} fit replicas`,
      ({ primary, members }) =>
        primary !== null && members.filter((member) => member.eligible).length === replicas,
    )
    return seen.topology
  }

  /** What was missing, for as long as no primary was named since then. */
  missedSince(index: number): string[] {
    return this.seen.slice(index).flatMap(({ topology }) => topology.missing || [])
  }

  /** Every primary that was named since then, in order, without repetition; null where none was. */
  namedSince(index: number): (string | null)[] {
    const names = this.seen.slice(index).map((one) => one.topology.primary)
    return names.filter((name, place) => place === 0 || name !== names[place - 1])
  }
}

/** What of a cluster the sources ask for. */
interface Places {
  readonly etcdHosts?: readonly string[]
  readonly members?: readonly { port: number; restUrl?: string }[]
}

export function clusterConfig(
  { etcdHosts = [], members = [] }: Places,
  changes: Partial<ClusterConfig> = {},
): ClusterConfig {
  return {
    source: 'etcd',
    scope: SCOPE,
    group: null,
    namespace: '/service/',
    etcdHosts,
    etcdUser: null,
    etcdPassword: null,
    etcdTlsCaFile: null,
    etcdTlsCertFile: null,
    etcdTlsKeyFile: null,
    etcdTimeoutMs: 1000,
    patroniUrls: members.flatMap((member) => member.restUrl ?? []),
    patroniIntervalMs: 1000,
    patroniTimeoutMs: 1500,
    patroniTlsCaFile: null,
    patroniTlsCertFile: null,
    patroniTlsKeyFile: null,
    hosts: members.map((member) => ({ host: '127.0.0.1', port: member.port })),
    ttlMs: 30_000,
    memberWeights: new Map(),
    memberZones: new Map(),
    probeUser: PROBE.user,
    probePassword: PROBE.password,
    probeDatabase: 'postgres',
    probeIntervalMs: 500,
    probeBusyIntervalMs: 20,
    probeTimeoutMs: 1500,
    probeTlsSslmode: 'prefer',
    failstaticNeeds: 'patroni',
    leaseGuardMs: 3000,
    ...changes,
  }
}
