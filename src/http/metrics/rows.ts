/**
 * What one metric is: a row of a table with a pure function from what was read to its series. The
 * tables are pgsteer.ts and exporter.ts; metrics.ts prints them.
 */
import type { Snapshot } from '../../admin/facts.ts'
import type { DatabaseSums, PoolSums } from '../../admin/views/pools.ts'
import type { HistogramCounts } from '../../base/histogram.ts'
import type { DatabaseStats, RoleHistogram } from '../../client/facts.ts'
import type { CertificateEnd } from '../certificates.ts'
import type { Health } from '../health.ts'

/** Read once per scrape, with the number of names bounded. */
export interface Reading {
  readonly snapshot: Snapshot
  readonly health: Health
  readonly certificates: readonly CertificateEnd[]
  readonly pools: readonly PoolSums[]
  readonly databases: readonly DatabaseSums[]
  /** The rows of SHOW LISTS. */
  readonly lists: ReadonlyMap<string, number>
  readonly stats: readonly (readonly [database: string, stats: DatabaseStats])[]
  readonly queueTime: readonly RoleHistogram[]
  readonly queryTime: readonly RoleHistogram[]
  /** Bounds the words of a label: what is too many becomes `other`. */
  words(counts: Readonly<Record<string, number>>): readonly Series[]
}

/** One line: label values in the order of the row's labels. */
export type Series = readonly [labels: readonly string[], value: number]
export type HistogramSeries = readonly [labels: readonly string[], counts: HistogramCounts]

interface RowBase {
  readonly name: string
  readonly help: string
  readonly labels: readonly string[]
}

export interface NumberRow extends RowBase {
  readonly type: 'counter' | 'gauge'
  read(reading: Reading): readonly Series[]
}

export interface HistogramRow extends RowBase {
  readonly type: 'histogram'
  read(reading: Reading): readonly HistogramSeries[]
}

export type MetricRow = NumberRow | HistogramRow

/** The labels of a row, as `'database user'`. */
type Labels = string

function labelsOf(labels: Labels): readonly string[] {
  return labels === '' ? [] : labels.split(' ')
}

export function gauge(
  name: string,
  labels: Labels,
  help: string,
  read: NumberRow['read'],
): NumberRow {
  return { name, type: 'gauge', help, labels: labelsOf(labels), read }
}

export function counter(
  name: string,
  labels: Labels,
  help: string,
  read: NumberRow['read'],
): NumberRow {
  return { name, type: 'counter', help, labels: labelsOf(labels), read }
}

export function histogram(
  name: string,
  labels: Labels,
  help: string,
  read: HistogramRow['read'],
): HistogramRow {
  return { name, type: 'histogram', help, labels: labelsOf(labels), read }
}

/** A metric without labels. */
export function single(value: number | null): readonly Series[] {
  return value === null ? [] : [[[], value]]
}

export function truth(isTrue: boolean): number {
  return isTrue ? 1 : 0
}
