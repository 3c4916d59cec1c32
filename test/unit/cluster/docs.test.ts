import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { INELIGIBLE_REASONS, LAG_RETURN_FACTOR } from '../../../src/cluster/eligibility.ts'
import { FAILOVER_ROWS, FAILOVER_STATES } from '../../../src/cluster/failover.ts'

const PAGE = readFileSync(resolve(import.meta.dirname, '../../../docs/failover.md'), 'utf8')

function section(name: string): string {
  const match = new RegExp(`<!-- ${name} -->\n(.*?)<!-- end -->`, 's').exec(PAGE)
  return match?.[1] ?? `no section ${name}`
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [head, head.map(() => '---'), ...rows]
  return `\n${lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n')}\n\n`
}

describe('docs/failover.md', () => {
  test('lists the states of the machine', () => {
    const rows = Object.entries(FAILOVER_STATES).map(([state, text]) => [`\`${state}\``, text])
    expect(section('states')).toBe(table(['state', 'meaning'], rows))
  })

  test('prints the table of the machine', () => {
    const rows = FAILOVER_ROWS.map((row) => [
      row.from,
      row.when,
      row.to === row.from ? 'stay' : row.to,
      row.effect === 'none' ? '' : row.effect,
      row.because,
    ])
    expect(section('moves')).toBe(table(['from', 'when', 'to', 'effect', 'because'], rows))
  })

  test('lists every reason for which a member gets no reads', () => {
    const rows = Object.entries(INELIGIBLE_REASONS).map(([reason, text]) => [`\`${reason}\``, text])
    expect(section('reasons')).toBe(table(['reason', 'meaning'], rows))
  })

  test('names the factor of the hysteresis', () => {
    expect(PAGE).toContain(`below ${LAG_RETURN_FACTOR} of the limit`)
  })
})
