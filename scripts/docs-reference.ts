/**
 * Writes the tables of docs/metrics.md and docs/console.md from the code, between the comments that
 * name them; the words around them are written by hand. Also the parts of docs/errors.md that are
 * in the table of errors; the meaning of each error is written by hand and kept.
 *
 *   node scripts/docs-reference.ts
 *
 * The tests in test/unit/docs fail when this was forgotten.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROUTE } from '../src/admin/views/cluster.ts'
import { VIEWS } from '../src/admin/views.ts'
import { ERRORS } from '../src/base/errors.ts'
import { EXPORTER_METRICS } from '../src/http/metrics/exporter.ts'
import { PGSTEER_METRICS } from '../src/http/metrics/pgsteer.ts'

const DOCS = join(import.meta.dirname, '..', 'docs')
export const PAGES = {
  metrics: join(DOCS, 'metrics.md'),
  console: join(DOCS, 'console.md'),
  errors: join(DOCS, 'errors.md'),
} as const

const BLOCK = /<!-- (metrics|view): (\w+) -->[\s\S]*?<!-- end -->/g

/** The page of metrics or of the console with every table made anew. */
export function withTables(page: string): string {
  return page.replace(BLOCK, (_, kind: string, name: string) => {
    const table = kind === 'metrics' ? metricsTable(name) : viewTable(name)
    return `<!-- ${kind}: ${name} -->\n${table}\n<!-- end -->`
  })
}

function metricsTable(name: string): string {
  const rows = name === 'pgsteer' ? PGSTEER_METRICS : EXPORTER_METRICS
  const lines = rows.map(
    ({ name: metric, type, labels, help }) =>
      `| \`${metric}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(', ')} | ${help} |`,
  )
  return ['| metric | type | labels | meaning |', '|---|---|---|---|', ...lines].join('\n')
}

function viewTable(name: string): string {
  const columns = name === 'explain_route' ? ROUTE : VIEWS.get(name)?.columns
  if (columns === undefined) throw new Error(`docs/console.md: no view ${name}`)
  return columns.map((column) => `\`${column.name}\` ${column.type}`).join(', ')
}

const ERROR_ROW = /^\| `(\w+)` \|(?:[^|\n]*\|){3}[^\n]*?\| ([^|\n]*) \|$/gm

/** The errors that the page explains, with the meaning of each. */
export function explained(page: string): ReadonlyMap<string, string> {
  return new Map(
    [...page.matchAll(ERROR_ROW)].map(([, code = '', meaning = '']) => [code, meaning]),
  )
}

/** The page with everything in its rows but the meaning made anew. */
export function withErrors(page: string): string {
  return page.replace(ERROR_ROW, (line, code: string, meaning: string) => {
    const row = Object.entries(ERRORS).find(([one]) => one === code)?.[1]
    if (row === undefined) return line
    const sqlstate = row.sqlstate.startsWith('{') ? "the server's" : row.sqlstate
    const pgbouncer = row.pgbouncer ?? '-'
    const cells = [`\`${code}\``, row.severity, sqlstate, pgbouncer, row.message, meaning]
    return `| ${cells.join(' | ')} |`
  })
}

if (import.meta.main) {
  for (const page of [PAGES.metrics, PAGES.console])
    writeFileSync(page, withTables(readFileSync(page, 'utf8')))
  writeFileSync(PAGES.errors, withErrors(readFileSync(PAGES.errors, 'utf8')))
}
