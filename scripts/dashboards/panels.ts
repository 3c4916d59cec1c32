/** Short forms of the panels that most dashboards are made of. */
import type { Panel, Query } from './grafana.ts'

type Pair = readonly [expr: string, legend: string]
type More = Partial<Omit<Panel, 'kind' | 'title' | 'unit' | 'about' | 'queries'>>

export interface Said {
  readonly title: string
  readonly unit: string
  readonly about: string
}

export function curves(said: Said, pairs: readonly Pair[], more: More = {}): Panel {
  return { kind: 'timeseries', ...said, queries: queries(pairs), ...more }
}

export function figure(said: Said, pair: Pair, more: More = {}): Panel {
  return { kind: 'stat', ...said, queries: queries([pair]), ...more }
}

export function states(said: Said, pair: Pair, words: NonNullable<Panel['words']>): Panel {
  return { kind: 'state-timeline', ...said, queries: queries([pair]), words }
}

export function table(said: Said, expr: string, more: More = {}): Panel {
  return { kind: 'table', ...said, queries: [{ expr, legend: '' }], ...more }
}

function queries(pairs: readonly Pair[]): Query[] {
  return pairs.map(([expr, legend]) => ({ expr, legend }))
}

/** One of a hundred, of twenty, and of two takes longer than this. */
export function quantiles(histogram: string, by: string): Pair[] {
  return [0.99, 0.95, 0.5].map((quantile) => [
    `histogram_quantile(${quantile}, sum by (${by}, le) (rate(${histogram}[$__rate_interval])))`,
    `{{${by}}} p${quantile * 100}`,
  ])
}
