/**
 * Makes the source that the configuration asks for.
 */
import type { Clock } from '../base/clock.ts'
import { unreachable } from '../base/invariant.ts'
import type { Log } from '../base/log.ts'
import type { ClusterConfig } from '../config/config.ts'
import { EtcdSource } from './etcd.ts'
import type { Outside } from './outside.ts'
import { PatroniSource } from './patroni.ts'
import type { Source, SourceEvents } from './source.ts'
import { StaticSource } from './static.ts'

export function newSource(
  cluster: ClusterConfig,
  events: SourceEvents,
  tools: { clock: Clock; log: Log; outside?: Outside },
): Source {
  switch (cluster.source) {
    case 'etcd':
      return new EtcdSource(cluster, events, tools)
    case 'patroni':
      return new PatroniSource(cluster, events, tools)
    case 'static':
      return new StaticSource(cluster.hosts, cluster.ttlMs, events)
    default:
      return unreachable(cluster.source)
  }
}

/** Two configurations with the same key have the same source. */
export function sourceKey(cluster: ClusterConfig): string {
  const { source, scope, group, namespace, etcdHosts, patroniUrls, hosts } = cluster
  const secrets = [cluster.etcdUser, cluster.etcdPassword, cluster.etcdTlsCaFile]
  return JSON.stringify([source, scope, group, namespace, etcdHosts, patroniUrls, hosts, secrets])
}
