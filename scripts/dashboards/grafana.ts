/**
 * Grafana's dashboard JSON from a short description: rows of panels, each with its queries. What every dashboard
 * here has in common is said once: the data source is a variable, nothing can be edited in the browser (the files
 * are the truth), panels have units, and the layout follows from widths.
 */

export interface Query {
  readonly expr: string
  /** `{{label}}` as Grafana has it. */
  readonly legend: string
}

export interface Panel {
  readonly title: string
  readonly kind: 'timeseries' | 'stat' | 'state-timeline' | 'table'
  /** One of Grafana's units: short, s, bytes, Bps, percentunit, ... */
  readonly unit: string
  readonly queries: readonly Query[]
  /** What a reader has to know to judge it. */
  readonly about: string
  /** Of 24; a quarter for numbers and half for curves when nothing is said. */
  readonly width?: number
  readonly max?: number
  readonly isStacked?: boolean
  /** From which value on it is orange, and red; descending when less is worse. */
  readonly limits?: readonly [orange: number, red: number]
  /** Words for values, with a colour. */
  readonly words?: Readonly<Record<string, readonly [text: string, colour: string]>>
  /** A number shows the legend of its series instead: which member is the primary. */
  readonly showsName?: boolean
}

export interface Row {
  readonly title: string
  readonly panels: readonly Panel[]
}

export interface Dashboard {
  /** Its file name, and uid `pgsteer-<name>`. */
  readonly name: string
  readonly title: string
  readonly about: string
  /** `$instance` chooses among the values of this query. */
  readonly instances?: string
  readonly rows: readonly Row[]
}

/** Of Grafana 11; newer ones migrate it when they load it. */
const SCHEMA_VERSION = 39
const DATASOURCE = { type: 'prometheus', uid: '${datasource}' }
const COLUMNS = 24
const HEIGHTS = { timeseries: 8, stat: 4, 'state-timeline': 7, table: 7 } as const

export function dashboardJson(dashboard: Dashboard): string {
  const json = {
    uid: `pgsteer-${dashboard.name}`,
    title: dashboard.title,
    description: dashboard.about,
    tags: ['pgsteer'],
    editable: false,
    graphTooltip: 1,
    schemaVersion: SCHEMA_VERSION,
    version: 1,
    refresh: '30s',
    time: { from: 'now-3h', to: 'now' },
    timezone: 'browser',
    links: [
      {
        type: 'dashboards',
        tags: ['pgsteer'],
        title: 'PostgreSQL',
        asDropdown: true,
        includeVars: false,
        keepTime: true,
      },
    ],
    annotations: { list: [failovers()] },
    templating: { list: variables(dashboard) },
    panels: placed(dashboard.rows),
  }
  return `${JSON.stringify(json, null, 2)}\n`
}

/** A line through every curve when the primary changed. */
function failovers(): object {
  return {
    name: 'Failovers',
    datasource: DATASOURCE,
    enable: true,
    iconColor: 'red',
    expr: 'sum(changes(patroni_primary[1m])) > 0',
    titleFormat: 'The primary changed',
    step: '15s',
  }
}

function variables({ instances }: Dashboard): object[] {
  const datasource = {
    name: 'datasource',
    label: 'Data source',
    type: 'datasource',
    query: 'prometheus',
    current: { text: 'Prometheus', value: 'prometheus' },
  }
  if (instances === undefined) return [datasource]
  return [
    datasource,
    {
      name: 'instance',
      label: 'Instance',
      type: 'query',
      datasource: DATASOURCE,
      query: { query: `label_values(${instances}, instance)`, refId: 'instance' },
      refresh: 2,
      sort: 1,
      multi: true,
      includeAll: true,
      allValue: '.+',
      current: { text: 'All', value: '$__all' },
    },
  ]
}

/** Panels from left to right, a new line where a row is full. */
function placed(rows: readonly Row[]): object[] {
  const panels: object[] = []
  let [id, x, y, tallest] = [0, 0, 0, 0]
  for (const row of rows) {
    id += 1
    y += tallest
    const gridPos = { h: 1, w: COLUMNS, x: 0, y }
    panels.push({ id, type: 'row', title: row.title, collapsed: false, panels: [], gridPos })
    y += 1
    ;[x, tallest] = [0, 0]
    for (const panel of row.panels) {
      const [w, h] = [panel.width ?? (panel.kind === 'stat' ? 4 : 12), HEIGHTS[panel.kind]]
      if (x + w > COLUMNS) {
        y += tallest
        ;[x, tallest] = [0, 0]
      }
      id += 1
      panels.push({ id, gridPos: { h, w, x, y }, ...panelJson(panel) })
      x += w
      tallest = Math.max(tallest, h)
    }
  }
  return panels
}

function panelJson(panel: Panel): object {
  return {
    type: panel.kind,
    title: panel.title,
    description: panel.about,
    datasource: DATASOURCE,
    targets: panel.queries.map((query, index) => ({
      refId: String.fromCodePoint('A'.charCodeAt(0) + index),
      datasource: DATASOURCE,
      expr: query.expr,
      legendFormat: query.legend,
      editorMode: 'code',
      // A number is of now: over a range it would also show who was the primary before.
      instant: panel.kind === 'stat' || panel.kind === 'table',
      range: panel.kind !== 'stat' && panel.kind !== 'table',
      format: panel.kind === 'table' ? 'table' : 'time_series',
    })),
    fieldConfig: { defaults: field(panel), overrides: [] },
    options: options(panel),
    ...(panel.kind === 'table' ? { transformations: TABLE_OF_LABELS } : {}),
  }
}

/** Of an instant answer: no time, and none of the labels that are the same in every row. */
const TABLE_OF_LABELS = [
  {
    id: 'organize',
    options: { excludeByName: { Time: true, __name__: true, job: true, alertstate: true } },
  },
]

function field(panel: Panel): object {
  const { unit, max, limits, words = {} } = panel
  const mappings = Object.entries(words).map(([value, [text, color]], index) => ({
    type: 'value',
    options: { [value]: { text, color, index } },
  }))
  return {
    unit,
    min: panel.kind === 'timeseries' ? 0 : undefined,
    ...(max === undefined ? {} : { max }),
    mappings,
    color: { mode: panel.kind === 'timeseries' ? 'palette-classic' : 'thresholds' },
    thresholds: { mode: 'absolute', steps: steps(limits) },
    custom: panel.kind === 'timeseries' ? curve(panel) : {},
  }
}

function steps(limits: Panel['limits']): object[] {
  if (limits === undefined) return [{ color: 'green', value: null }]
  const [orange, red] = limits
  const isLessWorse = red < orange
  return isLessWorse
    ? [
        { color: 'red', value: null },
        { color: 'orange', value: red },
        { color: 'green', value: orange },
      ]
    : [
        { color: 'green', value: null },
        { color: 'orange', value: orange },
        { color: 'red', value: red },
      ]
}

function curve({ isStacked = false, limits }: Panel): object {
  return {
    drawStyle: 'line',
    lineWidth: 1,
    fillOpacity: isStacked ? 40 : 8,
    showPoints: 'never',
    spanNulls: false,
    stacking: { mode: isStacked ? 'normal' : 'none', group: 'A' },
    thresholdsStyle: { mode: limits === undefined ? 'off' : 'dashed' },
  }
}

function options(panel: Panel): object {
  if (panel.kind === 'timeseries')
    return {
      legend: { displayMode: 'table', placement: 'right', calcs: ['lastNotNull', 'max'] },
      tooltip: { mode: 'multi', sort: 'desc' },
    }
  if (panel.kind === 'stat')
    return {
      reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
      textMode: panel.showsName === true ? 'name' : 'auto',
      colorMode: 'value',
      graphMode: 'none',
    }
  if (panel.kind === 'state-timeline')
    return { showValue: 'never', mergeValues: true, rowHeight: 0.8 }
  return { showHeader: true, cellHeight: 'sm' }
}
