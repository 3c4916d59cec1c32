/**
 * What the real programs export, as `npm run record-metrics` wrote it down: each metric with all labels that it was
 * seen with. Prometheus' own series and the labels that it adds are here as well.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { METRICS } from '../../src/http/metrics.ts'
import { parseExposition } from './observed/exposition.ts'

const FOLDER = resolve(import.meta.dirname, 'metrics')
const CERTIFICATES = resolve(import.meta.dirname, '../../deploy/prometheus/certificates.prom')

/** Every target has these. */
const OF_TARGETS = ['job', 'instance']

/**
 * postgres_exporter 0.20 renamed what 0.17, which is recorded, has under the older name: with the same labels. Who
 * asks for the one has to ask for the other.
 */
export const RENAMED: ReadonlyMap<string, string> = new Map([
  ['pg_replication_slots_wal_status', 'pg_replication_slot_wal_status'],
])

/** Metric to its labels. */
export type Recorded = ReadonlyMap<string, ReadonlySet<string>>

export function recorded(): Recorded {
  const known = new Map<string, Set<string>>()
  const add = (name: string, labels: Iterable<string>): void => {
    known.set(name, new Set([...(known.get(name) ?? OF_TARGETS), ...labels]))
  }
  add('up', [])
  add('ALERTS', ['alertname', 'alertstate', 'severity'])
  for (const file of readdirSync(FOLDER))
    for (const { name, labels } of parseExposition(readFileSync(join(FOLDER, file), 'utf8'))
      .samples)
      add(name, labels.keys())
  // Of a setting that the recorded instances did not have (TLS), or an event that did not happen there.
  for (const { name, labels } of METRICS) if (!known.has(name)) add(name, labels)
  for (const [now, before] of RENAMED) add(now, known.get(before) ?? [])
  // Written by the tool, one line per certificate.
  for (const name of parseExposition(readFileSync(CERTIFICATES, 'utf8')).types.keys())
    add(name, ['certificate'])
  return known
}
