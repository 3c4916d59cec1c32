/**
 * The alert rules that are shipped: promtool accepts them, each of them fires when it should and is
 * silent when nothing is wrong, and what they name exists.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { parse } from 'yaml'
import { METRICS } from '../../src/http/metrics.ts'
import { program } from '../support/debian.ts'

const RULES = resolve(import.meta.dirname, '../../deploy/prometheus/pgsteer.rules.yml')
const CASES = join(import.meta.dirname, 'pgsteer.rules.test.yml')

interface Rule {
  readonly alert: string
  readonly expr: string
  readonly labels: { readonly severity: string }
  readonly annotations: { readonly summary: string; readonly remedy: string }
}

interface Case {
  readonly alert_rule_test: readonly {
    readonly alertname: string
    readonly exp_alerts?: readonly object[]
  }[]
}

const { groups } = parse(readFileSync(RULES, 'utf8')) as { groups: { rules: Rule[] }[] }
const rules = groups.flatMap((group) => group.rules)
const { tests } = parse(readFileSync(CASES, 'utf8')) as { tests: Case[] }
const folder = mkdtempSync(join(tmpdir(), 'pgsteer-rules-'))
afterAll(() => rmSync(folder, { recursive: true }))

function promtool(...parameters: readonly string[]): { status: number | null; output: string } {
  const { file, args, env } = program('promtool')
  const options = { cwd: folder, env: { ...process.env, ...env }, encoding: 'utf8' } as const
  const { status, stdout, stderr } = spawnSync(file, [...args, ...parameters], options)
  return { status, output: `${stdout}${stderr}` }
}

test('promtool accepts the rules', () => {
  const { status, output } = promtool('check', 'rules', RULES)
  expect(status, output).toBe(0)
})

test('alerts fire when they should, and only then', () => {
  // promtool looks for the rules beside the cases.
  copyFileSync(RULES, join(folder, 'pgsteer.rules.yml'))
  copyFileSync(CASES, join(folder, 'cases.yml'))
  const { status, output } = promtool('test', 'rules', 'cases.yml')
  expect(status, output).toBe(0)
})

test('every alert is seen firing and seen silent', () => {
  const judged = tests.flatMap((one) => one.alert_rule_test)
  const names = rules.map(({ alert }) => alert).toSorted()
  const of = (fires: boolean): string[] => {
    const named = judged.filter((one) => (one.exp_alerts !== undefined) === fires)
    return [...new Set(named.map(({ alertname }) => alertname))].toSorted()
  }
  expect(of(true)).toEqual(names)
  expect(of(false)).toEqual(names)
})

test('every metric that a rule names is exported', () => {
  const known = new Set(METRICS.map(({ name }) => name))
  const named = rules.flatMap(({ expr }) => expr.match(/\b(?:pgsteer|pgbouncer)_\w+/g) ?? [])
  const unknown = named.filter((name) => !known.has(name.replace(/_(?:bucket|sum|count)$/, '')))
  expect(named.length).toBeGreaterThan(rules.length)
  expect(unknown).toEqual([])
})

test('every alert has a severity that is routed, a summary and a remedy', () => {
  for (const { alert, labels, annotations } of rules) {
    expect(['critical', 'warning', 'info'], alert).toContain(labels.severity)
    expect(annotations.summary, alert).toMatch(/\w{2,}.* .*\w/)
    expect(annotations.remedy, alert).toMatch(/\w{2,}.* .*\w/)
  }
})
