/**
 * The dashboards as files that Grafana is provisioned with: they are what scripts/dashboards says, obey the rules
 * of provisioned dashboards, and are mounted where the provider looks for them.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { DASHBOARDS } from '../../scripts/dashboards/all.ts'
import { dashboardJson } from '../../scripts/dashboards/grafana.ts'
import { FOLDER } from '../../scripts/dashboards.ts'

const DEPLOY = resolve(import.meta.dirname, '../../deploy')
/** What Docker takes as a config. */
const CONFIG_BYTES_MAX = 1_000_000
const COLUMNS = 24

interface Place {
  readonly x: number
  readonly y: number
  readonly w: number
  readonly h: number
}

interface PanelJson {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly description?: string
  readonly gridPos: Place
  readonly datasource?: { readonly uid: string }
  readonly targets?: readonly {
    readonly expr: string
    readonly datasource: { readonly uid: string }
  }[]
  readonly fieldConfig?: { readonly defaults: { readonly unit?: string } }
}

interface DashboardJson {
  readonly uid: string
  readonly title: string
  readonly editable: boolean
  readonly schemaVersion: number
  readonly templating: {
    readonly list: readonly { readonly name: string; readonly type: string }[]
  }
  readonly panels: readonly PanelJson[]
}

const files = readdirSync(FOLDER)
const all = files.map(
  (file) => [file, JSON.parse(readFileSync(join(FOLDER, file), 'utf8')) as DashboardJson] as const,
)

function yaml(path: string): unknown {
  return parse(readFileSync(join(DEPLOY, path), 'utf8'), { merge: true })
}

test('the files are those that scripts/dashboards.ts writes', () => {
  expect(files.toSorted()).toEqual(DASHBOARDS.map(({ name }) => `${name}.json`).toSorted())
  for (const dashboard of DASHBOARDS)
    expect(readFileSync(join(FOLDER, `${dashboard.name}.json`), 'utf8'), dashboard.name).toBe(
      dashboardJson(dashboard),
    )
})

test('uids and titles are unique', () => {
  expect(new Set(all.map(([, { uid }]) => uid)).size).toBe(files.length)
  expect(new Set(all.map(([, { title }]) => title)).size).toBe(files.length)
})

describe.each(all)('%s', (file, dashboard) => {
  const panels = dashboard.panels.filter(({ type }) => type !== 'row')

  test('is a file that is provisioned, not an export', () => {
    expect(dashboard).not.toHaveProperty('__inputs')
    expect(dashboard).not.toHaveProperty('id')
    expect(dashboard.editable).toBe(false)
    expect(dashboard.schemaVersion).toBe(39)
    expect(readFileSync(join(FOLDER, file)).length).toBeLessThan(CONFIG_BYTES_MAX)
  })

  test('its data source is a variable, in every panel and query', () => {
    expect(dashboard.templating.list[0]).toMatchObject({ name: 'datasource', type: 'datasource' })
    const used = panels.flatMap(({ datasource, targets = [] }) => [
      datasource?.uid,
      ...targets.map((target) => target.datasource.uid),
    ])
    expect(new Set(used)).toEqual(new Set(['${datasource}']))
  })

  test('every panel has a unit, a title of its own, and says what it shows', () => {
    for (const { title, description, fieldConfig } of panels) {
      expect(fieldConfig?.defaults.unit, title).toMatch(/\w/)
      expect(description, title).toMatch(/\w.*\.$/)
    }
    expect(new Set(panels.map(({ title }) => title)).size).toBe(panels.length)
    expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length)
  })

  test('rates are over the interval that fits the zoom', () => {
    const ranges = panels.flatMap(({ targets = [] }) =>
      targets.flatMap(({ expr }) => expr.match(/\[[^\]]*\]/g) ?? []),
    )
    expect(ranges.filter((range) => !/^\[\$__(?:rate_interval|range)\]$/.test(range))).toEqual([])
  })

  test('its variables exist', () => {
    const names = new Set(dashboard.templating.list.map(({ name }) => `$${name}`))
    const own = new Set(['$__rate_interval', '$__range'])
    const used = panels.flatMap(({ targets = [] }) =>
      targets.flatMap(({ expr }) => expr.match(/\$\w+/g) ?? []),
    )
    expect(used.filter((name) => !names.has(name) && !own.has(name))).toEqual([])
  })

  test('panels lie beside each other and not on each other', () => {
    const places = dashboard.panels.map(({ gridPos }) => gridPos)
    for (const [index, one] of places.entries()) {
      expect(one.x + one.w).toBeLessThanOrEqual(COLUMNS)
      expect(places.slice(index + 1).filter((other) => overlaps(one, other))).toEqual([])
    }
  })
})

function overlaps(a: Place, b: Place): boolean {
  return a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h
}

interface Mount {
  readonly source: string
  readonly target: string
}

interface Stack {
  readonly services: Readonly<
    Record<string, { readonly configs?: readonly Mount[]; readonly environment?: object }>
  >
  readonly configs: Readonly<Record<string, { readonly file: string }>>
}

describe('what Grafana is started with', () => {
  const stack = yaml('monitoring.yml') as Stack
  const mounts = stack.services['grafana']?.configs ?? []
  const { providers } = yaml('grafana/provider.yml') as {
    providers: { options: { path: string } }[]
  }
  const { datasources } = yaml('grafana/datasource.yml') as {
    datasources: { uid: string; url: string; editable: boolean }[]
  }

  test('every dashboard is mounted where the provider looks, and one of them is the first page', () => {
    const path = providers[0]?.options.path ?? ''
    const mounted = mounts.filter(({ target }) => target.startsWith(`${path}/`))
    expect(mounted.map(({ target }) => basename(target)).toSorted()).toEqual(files.toSorted())
    for (const { source, target } of mounted)
      expect(basename(stack.configs[source]?.file ?? '')).toBe(basename(target))
    const { environment } = stack.services['grafana'] ?? {}
    const home = (environment as Record<string, string>)[
      'GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH'
    ]
    expect(mounted.map(({ target }) => target)).toContain(home)
  })

  test('the data source has the uid that the dashboards start with, and cannot be changed', () => {
    expect(datasources).toMatchObject([
      { uid: 'prometheus', url: 'http://prometheus:9090', editable: false },
    ])
  })
})
