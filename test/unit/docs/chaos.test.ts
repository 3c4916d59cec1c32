/**
 * The record of the chaos suite in docs/failover.md: which fault is shown by what, and what a row of
 * its tables must hold wherever it was made.
 */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { stallMsMaxOf } from '../../chaos/account.ts'
import { FURTHER } from '../../chaos/further.ts'
import { MORE } from '../../chaos/more.ts'
import { SHORT } from '../../chaos/scenarios.ts'
import { SHARED, SHARING } from '../../chaos/shared.ts'

const ROOT = resolve(import.meta.dirname, '../../..')
const page = readFileSync(resolve(ROOT, 'docs/failover.md'), 'utf8')
const SCENARIOS = [...SHORT, ...MORE, ...FURTHER, ...SHARED]
const FAULTS = 44
/** The machine was its own: what the suite itself makes of it, on two cores. */
const QUIET = 4
/** Of rows that do not tell it. */
const LOAD_UNTOLD = 40
/** Two probes without an answer and the interval between them decide; then three seconds to be told. */
const HUNG_MS = 2 * 1500 + 250 + 3000
const NODE_LOSSES = new Set([
  'node killed',
  'node cut off',
  'node frozen',
  'node of primary and etcd leader killed',
  'node killed, replicas behind',
])
const NOTHING = ['doubled', 'untrue', 'dropped', 'refused', 'stale']

type Row = Readonly<Record<string, string>>

function between(mark: string): string {
  return page.split(`<!-- ${mark} -->`)[1]?.split('<!-- end -->')[0] ?? ''
}

function cells(line: string): string[] {
  return line.slice(2, -2).split(' | ')
}

/** The table that stands behind that line. */
function table(mode: string): Row[] {
  const block = between('chaos').split(`${mode} replication:`)[1]?.split('\n\n')[1] ?? ''
  const [head = '', , ...lines] = block.trim().split('\n')
  const names = cells(head)
  return lines.map((line) => {
    const values = cells(line)
    return Object.fromEntries(names.map((name, index) => [name, values[index] ?? '']))
  })
}

const ROWS = ['Synchronous', 'Asynchronous'].flatMap((mode) =>
  table(mode)
    .filter(({ through }) => through === 'pgsteer')
    .map((row): [string, Row] => [`${row['scenario']}, ${mode.toLowerCase()}`, { ...row, mode }]),
)

/** What the row is about, whoever shares servers meanwhile. */
function faultOf(row: Row): string {
  return row['scenario']?.replace(SHARING, '') ?? ''
}

describe('the list of faults', () => {
  const faults = between('faults')
    .split('\n')
    .filter((line) => /^\| \d/.test(line))
    .map(cells)

  test('has every one of them, once', () => {
    const numbers = Array.from({ length: FAULTS }, (_, index) => String(index + 1))
    expect(faults.map(([number]) => number)).toEqual(numbers)
  })

  test.each(faults)('%s, %s: what shows it is there', (_number, _fault, shownBy = '') => {
    const scenarios = [...shownBy.matchAll(/\*([^*]+)\*/g)].map((match) => match[1])
    const tests = [...shownBy.matchAll(/`([^`]+)` "([^"]+)"/g)]
    expect(scenarios.length + tests.length).toBeGreaterThan(0)
    const names = SCENARIOS.map(({ name }) => name)
    for (const scenario of scenarios) expect(names).toContain(scenario)
    for (const [, file = '', title = ''] of tests)
      expect(readFileSync(resolve(ROOT, file), 'utf8')).toContain(title)
  })
})

test.each(['Synchronous', 'Asynchronous'])('the table of %s replication has rows', (mode) => {
  expect(table(mode).length).toBeGreaterThan(0)
})

test('the table of synchronous replication has what shared servers cost in a failover', () => {
  const scenarios = table('Synchronous').map(({ scenario }) => scenario)
  expect(scenarios).toEqual(expect.arrayContaining(SHARED.map(({ name }) => name)))
})

describe.each(ROWS)('the record of %s', (_title, row) => {
  const of = (column: string): number => Number(row[column])

  test('holds what no fault may cost', () => {
    expect(NOTHING.map((column) => [column, of(column)])).toEqual(
      NOTHING.map((column) => [column, 0]),
    )
    if (row['mode'] === 'Synchronous') expect(of('lost')).toBe(0)
    else expect(of('lost')).toBeLessThanOrEqual(of('beyond fork'))
  })

  test('fails nothing where nothing may fail', () => {
    const { costs } = SCENARIOS.find(({ name }) => name === row['scenario']) ?? {}
    if (costs === 'nothing' || row['scenario'] === 'etcd without quorum, failsafe mode')
      expect(of('unknown') + of('failed') + of('read errors')).toBe(0)
  })

  test('has reads that shared servers, where it says so, and no answer of another client', () => {
    if (row['scenario']?.endsWith(SHARING) !== true) return
    expect(of('shared reads')).toBeGreaterThan(0)
    expect(of('wrong answers')).toBe(0)
  })

  test('leaves nobody hanging on a node that is frozen', () => {
    if (faultOf(row) === 'node frozen') expect(of('told after ms')).toBeLessThan(HUNG_MS)
  })

  test('stalls nobody for longer than was promised', () => {
    const scenario = SCENARIOS.find(({ name }) => name === row['scenario'])
    const load = Number(row['load'] || LOAD_UNTOLD)
    const at = { outageMs: of('outage ms'), handoverMs: of('handover ms'), load }
    const extraMs = scenario?.extraStallMs ?? 0
    expect(of('write stall ms')).toBeLessThanOrEqual(stallMsMaxOf(at) + extraMs)
    if (load > QUIET) return
    if (faultOf(row) === 'planned switchover, hook')
      expect(of('write stall ms')).toBeLessThanOrEqual(of('handover ms') + 300)
    if (NODE_LOSSES.has(faultOf(row)))
      expect(of('write stall ms')).toBeLessThanOrEqual(of('outage ms') + 500)
  })
})
