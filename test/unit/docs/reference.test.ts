import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { explained, PAGES, withErrors, withTables } from '../../../scripts/docs-reference.ts'
import { HELP, VIEWS } from '../../../src/admin/views.ts'
import { ERRORS } from '../../../src/base/errors.ts'
import { METRICS } from '../../../src/http/metrics.ts'

const metrics = readFileSync(PAGES.metrics, 'utf8')
const console = readFileSync(PAGES.console, 'utf8')
const errors = readFileSync(PAGES.errors, 'utf8')

describe('docs/metrics.md', () => {
  test('every metric is in its tables, and every metric there exists', () => {
    const documented = [...metrics.matchAll(/^\| `(\w+)` \| (\w+) \|/gm)].map((match) => match[1])
    expect(documented).toEqual(METRICS.map(({ name }) => name))
  })

  test('the tables are those that scripts/docs-reference.ts makes', () => {
    expect(metrics).toBe(withTables(metrics))
  })

  test('every metric that an expression names exists', () => {
    const known = new Set(METRICS.map(({ name }) => name))
    const named = [...metrics.matchAll(/\b(?:pgsteer|pgbouncer)_[a-z_]+\b/g)].map(
      (match) => match[0],
    )
    const unknown = named.filter((name) => !known.has(name.replace(/_(?:bucket|sum|count)$/, '')))
    expect(unknown.filter((name) => name !== 'pgbouncer_exporter')).toEqual([
      'pgbouncer_stats_queries_total',
    ])
  })
})

describe('docs/console.md', () => {
  test('every view has its section, and every section is a view', () => {
    const documented = [...console.matchAll(/^### SHOW (\w+)$/gm)].map((match) =>
      (match[1] ?? '').toLowerCase(),
    )
    expect(documented.toSorted()).toEqual([...VIEWS.keys()].toSorted())
  })

  test('every view that SHOW HELP names exists, and the other way round', () => {
    const lines = HELP.split('\n').filter((line) => line.includes('SHOW'))
    const named = lines.flatMap((line) => line.trim().replace('SHOW ', '').toLowerCase().split('|'))
    expect(named.filter((name) => name !== 'help').toSorted()).toEqual([...VIEWS.keys()].toSorted())
  })

  test('the columns are those of the code', () => {
    expect(console).toBe(withTables(console))
    const tables = [...console.matchAll(/<!-- view: (\w+) -->\n`/g)].map((match) => match[1] ?? '')
    expect(tables.toSorted()).toEqual([...VIEWS.keys(), 'explain_route'].toSorted())
  })
})

describe('docs/errors.md', () => {
  test('every error is explained, and every error there exists', () => {
    expect([...explained(errors).keys()].toSorted()).toEqual(Object.keys(ERRORS).toSorted())
  })

  test('every error there is one that the program can tell', () => {
    const src = join(import.meta.dirname, '../../../src')
    const files = globSync('**/*.ts', { cwd: src }).filter(
      (name) => !name.startsWith('base/errors/'),
    )
    const code = files.map((name) => readFileSync(join(src, name), 'utf8')).join('\n')
    expect(Object.keys(ERRORS).filter((name) => !code.includes(`'${name}'`))).toEqual([])
  })

  test('every meaning is a sentence', () => {
    for (const meaning of explained(errors).values()) expect(meaning).toMatch(/^.{12,}[.?]$/)
  })

  test('severity, codes and text are those of the code', () => {
    expect(errors).toBe(withErrors(errors))
  })
})
