/**
 * Writes the tables of docs/configuration.md from the table of keys (src/config/keys.ts), between
 * the comments that name them; the words around them are written by hand.
 *
 *   node scripts/docs-configuration.ts
 *
 * test/unit/docs/configuration.test.ts fails when this was forgotten.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { keysOf, SECTIONS, type SectionName } from '../src/config/keys.ts'
import type { AnyKey } from '../src/config/kinds.ts'

export const PAGE = join(import.meta.dirname, '..', 'docs', 'configuration.md')

const BLOCK = /<!-- keys: (\w+) -->[\s\S]*?<!-- end -->/g

/** The page with every table made anew. Throws if it names a section that does not exist. */
export function withTables(page: string): string {
  return page.replace(BLOCK, (_, name: string) => {
    const section = (Object.keys(SECTIONS) as SectionName[]).find((one) => one === name)
    if (section === undefined) throw new Error(`docs/configuration.md: no section ${name}`)
    return `<!-- keys: ${name} -->\n${table(section)}\n<!-- end -->`
  })
}

function table(section: SectionName): string {
  const isEntry = section === 'databases' || section === 'users' || section === 'peers'
  const head = isEntry
    ? '| key | kind | default | meaning |\n|---|---|---|---|'
    : '| key | kind | default | change | meaning |\n|---|---|---|---|---|'
  const rows = Object.entries(keysOf(section)).map(([name, key]) => {
    const change = isEntry ? [] : [key.live ? 'RELOAD' : 'restart']
    const cells = [`\`${name}\``, key.kind, defaultCell(key), ...change, meaning(key)]
    return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  })
  return `${head}\n${rows.join('\n')}`
}

function defaultCell(key: AnyKey): string {
  if (key.fallback === null) return '-'
  return key.fallback === '' ? 'empty' : `\`${key.fallback}\``
}

function meaning(key: AnyKey): string {
  return key.built ? key.doc : `${key.doc} *Accepted, without effect in this version.*`
}

if (import.meta.main) writeFileSync(PAGE, withTables(readFileSync(PAGE, 'utf8')))
