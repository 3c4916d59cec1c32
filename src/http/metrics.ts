/**
 * /metrics: the tables of metrics/ printed by prom-client, as Prometheus text or OpenMetrics. Every
 * scrape reads one snapshot and keeps nothing but the names that have series: the numbers live
 * where the events happen.
 */
import {
  Counter,
  Gauge,
  Histogram,
  type OpenMetricsContentType,
  type PrometheusContentType,
  Registry,
} from 'prom-client'
import type { Snapshot } from '../admin/facts.ts'
import { poolKey } from '../admin/facts.ts'
import { databaseSums, lists, poolSums } from '../admin/views/pools.ts'
import { DURATION_BOUNDS_S, type HistogramCounts } from '../base/histogram.ts'
import { Certificates } from './certificates.ts'
import { healthOf } from './health.ts'
import { EXPORTER_METRICS } from './metrics/exporter.ts'
import {
  Admitted,
  DATABASES_MAX,
  limitDatabases,
  limitHistograms,
  limitPools,
  limitStats,
  limitWords,
  POOLS_MAX,
} from './metrics/limit.ts'
import { PGSTEER_METRICS } from './metrics/pgsteer.ts'
import type { HistogramRow, MetricRow, NumberRow, Reading } from './metrics/rows.ts'

export const METRICS: readonly MetricRow[] = [...PGSTEER_METRICS, ...EXPORTER_METRICS]

export interface Printed {
  readonly contentType: string
  readonly body: string
}

type AnyRegistry = Registry<PrometheusContentType | OpenMetricsContentType>

export class Metrics {
  readonly #databases = new Admitted(DATABASES_MAX)
  readonly #pools = new Admitted(POOLS_MAX)
  readonly #certificates = new Certificates()

  /** `accept` is the header of the request: OpenMetrics for those who ask for it. */
  async print(snapshot: Snapshot, accept: string): Promise<Printed> {
    const registry = new Registry<PrometheusContentType | OpenMetricsContentType>()
    if (accept.includes('application/openmetrics-text'))
      registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE)
    const reading = this.#read(snapshot)
    for (const row of METRICS) {
      if (row.type === 'histogram') addHistogramRow(row, reading, registry)
      else addNumbers(row, reading, registry)
    }
    return { contentType: registry.contentType, body: await registry.metrics() }
  }

  #read(snapshot: Snapshot): Reading {
    const { stats, queueTime, queryTime } = snapshot.facts.clients
    const sums = databaseSums(snapshot)
    const databases = this.#databases.update([
      ...sums.map(({ name }) => name),
      ...Object.keys(stats),
    ])
    const pools = poolSums(snapshot)
    const kept = this.#pools.update(pools.map(({ database, user }) => poolKey(database, user)))
    return {
      snapshot,
      health: healthOf(snapshot),
      certificates: this.#certificates.of(snapshot.config),
      pools: limitPools(pools, ({ database, user }) => kept.has(poolKey(database, user))),
      databases: limitDatabases(sums, databases),
      lists: new Map(lists(snapshot)),
      stats: limitStats(stats, databases),
      queueTime: limitHistograms(queueTime, databases),
      queryTime: limitHistograms(queryTime, databases),
      words: limitWords,
    }
  }
}

function addNumbers(row: NumberRow, reading: Reading, registry: AnyRegistry): void {
  const { name, help, labels } = row
  const options = { name, help, labelNames: [...labels], registers: [registry] }
  const series = row.read(reading)
  const metric = row.type === 'counter' ? new Counter(options) : new Gauge(options)
  // prom-client begins with 0 where there are no labels; what is not known has no series.
  if (series.length === 0) metric.remove({})
  for (const [values, value] of series) metric.inc(named(labels, values), value)
}

/** prom-client can only observe; what it prints is replaced by the counts we have. */
function addHistogramRow(row: HistogramRow, reading: Reading, registry: AnyRegistry): void {
  const { name, help, labels } = row
  const metric = new Histogram({
    name,
    help,
    labelNames: [...labels],
    buckets: [...DURATION_BOUNDS_S],
    registers: [registry],
  })
  const values = row
    .read(reading)
    .flatMap(([labelValues, counts]) => lines(name, named(labels, labelValues), counts))
  const get = (): Promise<object> => Promise.resolve({ name, help, type: 'histogram', values })
  Object.assign(metric, { get, getForPromString: get })
}

interface Line {
  readonly metricName: string
  readonly labels: Record<string, string>
  readonly value: number
}

/** Buckets are cumulative in the text and not in the counts. */
function lines(name: string, labels: Record<string, string>, counts: HistogramCounts): Line[] {
  let sum = 0
  const buckets = [...DURATION_BOUNDS_S, '+Inf'].map((bound, index) => {
    sum += counts.buckets[index] ?? 0
    return { metricName: `${name}_bucket`, labels: { ...labels, le: String(bound) }, value: sum }
  })
  return [
    ...buckets,
    { metricName: `${name}_sum`, labels, value: counts.sumS },
    { metricName: `${name}_count`, labels, value: counts.count },
  ]
}

function named(labels: readonly string[], values: readonly string[]): Record<string, string> {
  return Object.fromEntries(labels.map((label, index) => [label, values[index] ?? '']))
}
