/**
 * The alert rules that are shipped: promtool accepts them, each of them fires when it should and is
 * silent when nothing is wrong, and carries the labels that its words name. That what they ask exists is shown by
 * queries.test.ts.
 */
import {
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { parse, stringify } from 'yaml'
import { ALERT_CASES } from './alert-cases.ts'
import type { AlertCase } from './alert-series.ts'
import { judge } from './promtool.ts'

const RULES = resolve(import.meta.dirname, '../../deploy/prometheus')
const PGSTEER_CASES = join(import.meta.dirname, 'pgsteer.rules.test.yml')
const SEVERITIES = ['critical', 'warning', 'info', 'heartbeat']

interface Rule {
  readonly alert: string
  readonly expr: string
  readonly labels: { readonly severity: string }
  readonly annotations: {
    readonly summary: string
    readonly remedy: string
    readonly runbook?: string
  }
}

interface Case {
  readonly alert_rule_test: readonly {
    readonly alertname: string
    readonly exp_alerts?: readonly object[]
  }[]
}

const files = readdirSync(RULES).filter((name) => name.endsWith('.rules.yml'))
const folder = mkdtempSync(join(tmpdir(), 'pgsteer-rules-'))
afterAll(() => rmSync(folder, { recursive: true }))
// promtool looks for the rules beside the cases.
for (const file of files) copyFileSync(join(RULES, file), join(folder, file))

function rulesOf(file: string): readonly Rule[] {
  const { groups } = parse(readFileSync(join(RULES, file), 'utf8')) as {
    groups: { rules: Rule[] }[]
  }
  return groups.flatMap((group) => group.rules)
}

test('promtool accepts the rules', () => {
  const { status, output } = judge('promtool', ['check', 'rules', ...files], folder)
  expect(status, output).toBe(0)
})

test('the alerts about pgsteer fire when they should, and only then', () => {
  copyFileSync(PGSTEER_CASES, join(folder, 'cases.yml'))
  const { status, output } = judge('promtool', ['test', 'rules', 'cases.yml'], folder)
  expect(status, output).toBe(0)
})

test('every alert about pgsteer is seen firing and seen silent', () => {
  const { tests } = parse(readFileSync(PGSTEER_CASES, 'utf8')) as { tests: Case[] }
  const judged = tests.flatMap((one) => one.alert_rule_test)
  const names = rulesOf('pgsteer.rules.yml').map(({ alert }) => alert)
  const of = (fires: boolean): string[] => {
    const named = judged.filter((one) => (one.exp_alerts !== undefined) === fires)
    return [...new Set(named.map(({ alertname }) => alertname))].toSorted()
  }
  expect(of(true)).toEqual(names.toSorted())
  expect(of(false)).toEqual(names.toSorted())
})

/** What promtool is to find of one alert: with its labels, or nothing. */
function caseFor(rule: Rule, one: AlertCase, fires: boolean): object {
  const labels = { alertname: rule.alert, alertstate: 'firing', ...rule.labels, ...one.labels }
  const written = Object.entries(labels).map(([name, value]) => `${name}="${value}"`)
  const found = [{ labels: `ALERTS{${written.join(',')}}`, value: 1 }]
  const series = fires ? one.fires : one.silent
  return {
    name: `${rule.alert} ${fires ? 'fires' : 'is silent'}`,
    interval: one.every ?? '15s',
    input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
    promql_expr_test: [
      {
        expr: `ALERTS{alertname="${rule.alert}",alertstate="firing"}`,
        eval_time: one.at ?? '10m',
        exp_samples: fires ? found : [],
      },
    ],
  }
}

describe.each(Object.entries(ALERT_CASES))('%s', (name, cases) => {
  const file = `${name}.rules.yml`
  const rules = rulesOf(file)

  test('every alert has a case', () => {
    expect(Object.keys(cases).toSorted()).toEqual(rules.map(({ alert }) => alert).toSorted())
  })

  test('each alert fires when it should with its labels, and only then', () => {
    // Each rule in a file of its own: promtool judges all rules of a file at every step of every test.
    const written = rules.flatMap((rule) => {
      const one = cases[rule.alert]
      if (one === undefined) return []
      const [own, judging] = [`${rule.alert}.rules.yml`, `${rule.alert}.test.yml`]
      writeFileSync(join(folder, own), stringify({ groups: [{ name, rules: [rule] }] }))
      const firing = caseFor(rule, one, true)
      // One alert fires for ever, by intent.
      const isEternal = rule.labels.severity === 'heartbeat'
      const tests = isEternal ? [firing] : [firing, caseFor(rule, one, false)]
      // As often as there are samples: a day of fifteen seconds would take minutes.
      const evaluation_interval = one.every ?? '15s'
      writeFileSync(
        join(folder, judging),
        stringify({ rule_files: [own], evaluation_interval, tests }),
      )
      return [judging]
    })
    const { status, output } = judge('promtool', ['test', 'rules', ...written], folder)
    expect(status, output).toBe(0)
  })

  test('the words name only labels that the alert carries', () => {
    for (const { alert, annotations } of rules) {
      const words = Object.values(annotations).join(' ')
      const named = [...words.matchAll(/\$labels\.(\w+)/g)].map((match) => match[1])
      const carried = Object.keys(cases[alert]?.labels ?? {})
      expect(
        named.filter((label) => !carried.includes(label ?? '')),
        alert,
      ).toEqual([])
    }
  })
})

test.each(files)(
  '%s: every alert has a severity that is routed, a summary and a remedy',
  (file) => {
    for (const { alert, labels, annotations } of rulesOf(file)) {
      expect(SEVERITIES, alert).toContain(labels.severity)
      expect(annotations.summary, alert).toMatch(/\w{2,}.* .*\w/)
      expect(annotations.remedy, alert).toMatch(/\w{2,}.* .*\w/)
    }
  },
)

test('no two alerts have the same name', () => {
  const names = files.flatMap((file) => rulesOf(file).map(({ alert }) => alert))
  expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([])
})

test('a runbook is a heading of the deploy page', () => {
  const page = readFileSync(resolve(import.meta.dirname, '../../docs/deploy.md'), 'utf8')
  const headings = [...page.matchAll(/^#+ (.*)$/gm)].map((match) => match[1] ?? '')
  const anchors = new Set(headings.map((text) => `docs/deploy.md#${slug(text)}`))
  const named = files.flatMap(rulesOf).flatMap(({ annotations }) => annotations.runbook ?? [])
  expect(named.length).toBeGreaterThan(30)
  expect(named.filter((one) => !anchors.has(one))).toEqual([])
})

/** As GitHub makes anchors. */
function slug(heading: string): string {
  const words = heading.toLowerCase().replaceAll(/[^\w -]/g, '')
  return words.replaceAll(' ', '-')
}
