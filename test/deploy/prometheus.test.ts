/**
 * What Prometheus is started with: promtool accepts it, it has the jobs that rules and dashboards speak of, and
 * every rule file is mounted where it looks. That its targets are services it can reach is for stacks.test.ts.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { DASHBOARDS } from '../../scripts/dashboards/all.ts'
import { parseExposition } from './observed/exposition.ts'
import { asked, expanded } from './promql.ts'
import { judge } from './promtool.ts'

const DEPLOY = resolve(import.meta.dirname, '../../deploy')
const FOLDER = join(DEPLOY, 'prometheus')

interface Mount {
  readonly source: string
  readonly target: string
}

const yaml = (path: string): unknown =>
  parse(readFileSync(join(DEPLOY, path), 'utf8'), { merge: true })
const config = yaml('prometheus/prometheus.yml') as {
  readonly rule_files: readonly string[]
  readonly scrape_configs: readonly { readonly job_name: string }[]
}
const stack = yaml('monitoring.yml') as {
  readonly services: Readonly<Record<string, { readonly configs?: readonly Mount[] }>>
  readonly configs: Readonly<Record<string, { readonly file: string }>>
}
const jobs = config.scrape_configs.map(({ job_name }) => job_name)
const ruleFiles = readdirSync(FOLDER).filter((name) => name.endsWith('.rules.yml'))

test('promtool accepts the configuration', () => {
  const file = join(FOLDER, 'prometheus.yml')
  const { status, output } = judge('promtool', ['check', 'config', '--syntax-only', file], FOLDER)
  expect(status, output).toBe(0)
})

test('every rule file is mounted where Prometheus looks for rules', () => {
  const mounted = (stack.services['prometheus']?.configs ?? []).filter(({ target }) =>
    target.startsWith('/etc/prometheus/rules/'),
  )
  expect(config.rule_files).toEqual(['/etc/prometheus/rules/*.rules.yml'])
  expect(mounted.map(({ target }) => basename(target)).toSorted()).toEqual(ruleFiles.toSorted())
  for (const { source, target } of mounted)
    expect(basename(stack.configs[source]?.file ?? '')).toBe(basename(target))
})

test('there is a job for every program whose metrics were recorded, and for no other but Grafana', () => {
  const recorded = readdirSync(join(import.meta.dirname, 'metrics')).map((file) =>
    basename(file, '.prom'),
  )
  expect(jobs.toSorted()).toEqual([...recorded, 'grafana'].toSorted())
})

test('rules and dashboards speak of jobs that there are', () => {
  const ofRules = ruleFiles.flatMap((file) => {
    const { groups } = yaml(`prometheus/${file}`) as { groups: { rules: { expr: string }[] }[] }
    return groups.flatMap(({ rules }) => rules.map(({ expr }) => expr))
  })
  const ofPanels = DASHBOARDS.flatMap(({ rows }) => rows)
    .flatMap(({ panels }) => panels)
    .flatMap(({ queries }) => queries.map(({ expr }) => expanded(expr)))
  const named = [...ofRules, ...ofPanels]
    .flatMap((expr) => asked(expr).selectors)
    .flatMap(({ matchers }) => matchers.filter(([label]) => label === 'job'))
    .flatMap(([, , value]) => value.split('|'))
  expect(named.length).toBeGreaterThan(8)
  expect(named.filter((job) => !jobs.includes(job))).toEqual([])
})

test('what the tool fills in is valid as it is shipped', () => {
  expect(yaml('prometheus/nodes.yml')).toEqual([])
  const { types } = parseExposition(readFileSync(join(FOLDER, 'certificates.prom'), 'utf8'))
  expect([...types.values()]).toEqual(['gauge'])
})
