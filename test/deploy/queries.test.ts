/**
 * Every query of every alert and of every panel is PromQL, and asks only for metrics and labels that the real
 * programs export: an alert on a name that nobody has never fires, and a panel on it stays empty.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { DASHBOARDS } from '../../scripts/dashboards/all.ts'
import { asked, expanded } from './promql.ts'
import { RENAMED, recorded } from './recorded.ts'

const RULES = resolve(import.meta.dirname, '../../deploy/prometheus')
const known = recorded()

interface Queried {
  readonly where: string
  readonly expr: string
  /** Labels that are named in a legend. */
  readonly shown: readonly string[]
}

const ofRules: readonly Queried[] = readdirSync(RULES)
  .filter((name) => name.endsWith('.rules.yml'))
  .flatMap((file) => {
    const { groups } = parse(readFileSync(join(RULES, file), 'utf8')) as {
      groups: { rules: { alert: string; expr: string }[] }[]
    }
    const rules = groups.flatMap((group) => group.rules)
    return rules.map(({ alert, expr }) => ({ where: `${file} ${alert}`, expr, shown: [] }))
  })

const ofDashboards: readonly Queried[] = DASHBOARDS.flatMap(({ name, rows }) =>
  rows
    .flatMap(({ panels }) => panels)
    .flatMap(({ title, queries }) =>
      queries.map(({ expr, legend }) => ({
        where: `${name}: ${title}`,
        expr: expanded(expr),
        shown: [...legend.matchAll(/\{\{(\w+)\}\}/g)].map((match) => match[1] ?? ''),
      })),
    ),
)

const ofPrometheus = {
  where: 'a failover',
  expr: 'sum(changes(patroni_primary[1m])) > 0',
  shown: [],
}

/** What is wrong with a query, in words. */
function faults({ expr, shown }: Queried): string[] {
  const { selectors, labels } = asked(expr)
  const metrics = selectors.map(({ metric }) => metric)
  const all = new Set(metrics.flatMap((metric) => [...(known.get(metric) ?? [])]))
  const renamed = [...RENAMED].filter((pair) => pair.some((name) => metrics.includes(name)))
  return [
    ...metrics.filter((metric) => !known.has(metric)).map((metric) => `nobody exports ${metric}`),
    ...selectors.flatMap(({ metric, matchers }) =>
      matchers
        .filter(([label]) => known.get(metric)?.has(label) === false)
        .map(([label]) => `${metric} has no label ${label}`),
    ),
    ...[...labels, ...shown]
      .filter((label) => !all.has(label))
      .map((label) => `none of its metrics has the label ${label}`),
    ...renamed
      .filter((pair) => !pair.every((name) => metrics.includes(name)))
      .map(([now, before]) => `asks for only one of ${now} and ${before}`),
  ]
}

describe.each([
  ['alerts', ofRules],
  ['dashboards', [...ofDashboards, ofPrometheus]],
])('%s', (_, queried) => {
  test('every query is PromQL about metrics and labels that were recorded', () => {
    expect(queried.length).toBeGreaterThan(60)
    const wrong = queried.flatMap((one) => faults(one).map((fault) => `${one.where}: ${fault}`))
    expect(wrong).toEqual([])
  })
})

describe('the check itself', () => {
  test.each([
    ['up{zone="a"}', 'up has no label zone'],
    ['sum by (zone) (up)', 'none of its metrics has the label zone'],
    ['patroni_master == 1', 'nobody exports patroni_master'],
    [
      'pg_replication_slot_wal_status == 1',
      'asks for only one of pg_replication_slots_wal_status and pg_replication_slot_wal_status',
    ],
  ])('%s is refused', (expr, fault) => {
    expect(faults({ where: '', expr, shown: [] })).toEqual([fault])
  })

  test('a query that does not parse is refused', () => {
    expect(() => faults({ where: '', expr: 'rate(up[5m]', shown: [] })).toThrow(/wrong at/)
  })
})
