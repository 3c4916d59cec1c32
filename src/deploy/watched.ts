/**
 * What the tool tells the monitoring, as files of configs that it writes itself: where the nodes are, for Prometheus,
 * and when the cluster's certificates end, as a textfile of node-exporter. deploy/monitoring.yml mounts them.
 */
import type { Folder } from './folder.ts'
import type { SwarmNode } from './nodes.ts'
import { certificateEnds } from './secrets.ts'
import type { Settings } from './settings.ts'

const METRIC = 'pg_cluster_certificate_not_after_timestamp_seconds'
const EXPORTER_PORT = 9100

/** By their paths below deploy/. */
export function watchedFiles(
  folder: Folder,
  settings: Settings,
  nodes: readonly SwarmNode[],
): Readonly<Record<string, string>> {
  const targets = nodes.map(({ hostname, address }) => ({
    targets: [`${address}:${EXPORTER_PORT}`],
    labels: { instance: hostname },
  }))
  return {
    // JSON is YAML.
    'prometheus/nodes.yml': `${JSON.stringify(targets, null, 2)}\n`,
    'prometheus/certificates.prom': certificateText(certificateEnds(folder, settings)),
  }
}

/** One series for each name: of two authorities, while one replaces the other, the one that lasts longer. */
export function certificateText(
  ends: readonly { readonly name: string; readonly endsMs: number }[],
): string {
  const last = new Map<string, number>()
  for (const { name, endsMs } of ends) last.set(name, Math.max(endsMs, last.get(name) ?? endsMs))
  const lines = [...last].map(
    ([name, endsMs]) => `${METRIC}{certificate="${name}"} ${Math.floor(endsMs / 1000)}`,
  )
  return [
    `# HELP ${METRIC} When a certificate of the cluster ends.`,
    `# TYPE ${METRIC} gauge`,
    ...lines,
    '',
  ].join('\n')
}
