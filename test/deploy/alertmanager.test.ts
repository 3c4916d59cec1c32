/**
 * Where alerts go: amtool takes the configuration once the operator's receivers are in it and refuses it before,
 * every severity reaches its receiver, and what inhibits what are alerts that exist.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { judge } from './promtool.ts'

const DEPLOY = resolve(import.meta.dirname, '../../deploy')
const SHIPPED = readFileSync(join(DEPLOY, 'alertmanager/alertmanager.yml'), 'utf8')
const RECEIVERS = readFileSync(join(DEPLOY, 'alertmanager/receivers.example.yml'), 'utf8')
/** What Docker replaces by the operator's secret. */
const PLACE = /^\{\{ secret "alert_receivers" \}\}$/m

const folder = mkdtempSync(join(tmpdir(), 'pgsteer-alertmanager-'))
afterAll(() => rmSync(folder, { recursive: true }))
const raw = join(folder, 'raw.yml')
const rendered = join(folder, 'rendered.yml')
writeFileSync(raw, SHIPPED)
writeFileSync(rendered, SHIPPED.replace(PLACE, RECEIVERS))

const rules = readdirSync(join(DEPLOY, 'prometheus'))
  .filter((name) => name.endsWith('.rules.yml'))
  .flatMap((name) => {
    const { groups } = parse(readFileSync(join(DEPLOY, 'prometheus', name), 'utf8')) as {
      groups: { rules: { alert: string; labels: { severity: string } }[] }[]
    }
    return groups.flatMap((group) => group.rules)
  })

test('amtool accepts it with the receivers of the example', () => {
  const { status, output } = judge('amtool', ['check-config', rendered], folder)
  expect(status, output).toBe(0)
  expect(output).toContain('3 receivers')
})

test('without receivers it is refused, so that no alert is dropped in silence', () => {
  const { status } = judge('amtool', ['check-config', raw], folder)
  expect(status).not.toBe(0)
})

test.each([
  ['severity=critical', 'critical'],
  ['severity=warning', 'warning'],
  ['severity=info', 'warning'],
  ['severity=heartbeat', 'heartbeat'],
  ['severity=unheard_of', 'warning'],
])('an alert with %s goes to %s', (label, receiver) => {
  const parameters = ['config', 'routes', 'test', `--config.file=${rendered}`, label]
  const { status, output } = judge(
    'amtool',
    [...parameters, `--verify.receivers=${receiver}`],
    folder,
  )
  expect(status, output).toBe(0)
})

describe('inhibition', () => {
  const { inhibit_rules } = parse(readFileSync(rendered, 'utf8')) as {
    inhibit_rules: { source_matchers: string[]; target_matchers: string[]; equal: string[] }[]
  }

  test('names alerts that exist', () => {
    const names = new Set(rules.map(({ alert }) => alert))
    const named = inhibit_rules
      .flatMap(({ source_matchers, target_matchers }) => [...source_matchers, ...target_matchers])
      .flatMap((matcher) => /^alertname=~?"(.*)"$/.exec(matcher)?.[1]?.split('|') ?? [matcher])
    expect(named.length).toBeGreaterThan(12)
    expect(named.filter((name) => !names.has(name))).toEqual([])
  })

  test('is between alerts of the same cluster', () => {
    for (const { equal } of inhibit_rules) expect(equal).toContain('cluster')
  })
})
