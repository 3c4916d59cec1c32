/**
 * PostgreSQL's own parser as the judge of the classifier: whether a text may be called a read, how many
 * statements it has, what a SET means. Written from the rules of ARCHITECTURE 5 item 5, without the
 * classifier's tables.
 */
import { readFileSync } from 'node:fs'
import { loadModule, parseSync, scanSync } from 'libpg-query'
import { type Catalogue, catalogueOf } from '../../../src/routing/catalogue.ts'

await loadModule()

export type Tree = Readonly<Record<string, unknown>>

/** The bytes of a JavaScript string as the classifier gets them. */
export function bytesOf(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1')
}

/** The statements' trees, or null when the text does not parse. */
export function parse(text: string): Tree[] | null {
  try {
    const result = parseSync(text) as { stmts?: { stmt: Tree }[] }
    return (result.stmts ?? []).map(({ stmt }) => stmt)
  } catch (error) {
    return String(error).includes('Query cannot be empty') ? [] : null
  }
}

/** What makes a statement's tree no read; null when nothing does. */
export function violation(tree: Tree, isProved: (name: string) => boolean): string | null {
  const [kind, body] = Object.entries(tree)[0] as [string, Tree]
  switch (kind) {
    case 'VariableShowStmt':
      return null
    case 'SelectStmt':
      return inside(tree, isProved)
    case 'ExplainStmt':
      return queryViolation(body['query'], isProved)
    case 'CopyStmt':
      if (body['is_from'] === true) return 'COPY FROM'
      if (body['filename'] !== undefined || body['is_program'] === true) return 'COPY to a file'
      if (body['query'] === undefined) return inside(body['relation'], isProved)
      return queryViolation(body['query'], isProved)
    default:
      return kind
  }
}

function queryViolation(query: unknown, isProved: (name: string) => boolean): string | null {
  if (typeof query !== 'object' || query === null || !('SelectStmt' in query)) return 'no query'
  return inside(query, isProved)
}

function inside(node: unknown, isProved: (name: string) => boolean): string | null {
  if (typeof node !== 'object' || node === null) return null
  if (Array.isArray(node)) {
    for (const item of node) {
      const found = inside(item, isProved)
      if (found !== null) return found
    }
    return null
  }
  for (const [key, value] of Object.entries(node as Tree)) {
    if (key === 'intoClause') return 'INTO'
    if (key === 'lockingClause') return 'locking clause'
    if (key.endsWith('Stmt') && key !== 'SelectStmt') return key
    if (key === 'FuncCall') {
      const name = unproved(value as Tree, isProved)
      if (name !== null) return `function ${name}`
    }
    if (key === 'relname' && isAboutServer(String(value))) return `relation ${String(value)}`
    const found = inside(value, isProved)
    if (found !== null) return found
  }
  return null
}

/** Calls that the grammar itself makes out of special syntax are always pg_catalog's. */
function unproved(call: Tree, isProved: (name: string) => boolean): string | null {
  const names = (call['funcname'] as { String: { sval: string } }[]).map((part) => part.String.sval)
  if (call['funcformat'] === 'COERCE_SQL_SYNTAX' && names[0] === 'pg_catalog') return null
  const name = names.at(-1) ?? ''
  if (isAboutServer(name)) return name
  return isProved(name) ? null : name
}

function isAboutServer(name: string): boolean {
  return /^pg_(locks|prepared_xacts|settings|is_in_recovery|backend_pid)$|^pg_(stat_|statio_|replication_|last_|current_wal_)/.test(
    name,
  )
}

const proc = JSON.parse(
  readFileSync(new URL('corpus/pg-proc-15.json', import.meta.url), 'utf8'),
) as { volatileNames: string[]; stableOrImmutableNames: string[] }

/** PostgreSQL 15's functions with some of a user: volatile and of a keyword's name, and stable. */
export const USER_VOLATILE = ['audit', 'Audit', 'dblink', 'select', 'nextval2', 'ünproved']
export const CATALOGUE = catalogueWith(USER_VOLATILE)

export function catalogueWith(userVolatile: readonly string[]): Catalogue {
  return catalogueOf({
    database: 'test',
    serial: 1,
    volatileNames: [...proc.volatileNames, ...userVolatile],
    stableOrImmutableNames: [...proc.stableOrImmutableNames, 'my_stable'],
    userNames: [...userVolatile, 'my_stable'],
  })
}

const HARMLESS = new Set([
  'clock_timestamp',
  'timeofday',
  'random',
  'gen_random_uuid',
  'pg_sleep',
  'pg_sleep_for',
  'pg_sleep_until',
  'pg_partition_tree',
  'pg_partition_ancestors',
])

/** True for a word of PostgreSQL's grammar. */
function isKeyword(name: string): boolean {
  return scanSync(name).tokens.some(({ keywordName }) => keywordName !== 'NO_KEYWORD')
}

/**
 * The judge's own notion of a proved name. A keyword that names no function at all is proved too: no
 * row of that name is VOLATILE.
 */
export function provedBut(userVolatile: readonly string[]): (name: string) => boolean {
  const unprovedNames = new Set(userVolatile)
  const proved = new Set([...proc.stableOrImmutableNames, 'my_stable', ...HARMLESS])
  const known = new Set([...proved, ...proc.volatileNames, ...userVolatile])
  return (name) => {
    if (unprovedNames.has(name)) return false
    return proved.has(name) || (!known.has(name) && isKeyword(name))
  }
}

/** The statements of a corpus file: separated by empty lines. */
export function corpus(file: 'reads' | 'others' | 'orm'): string[] {
  const text = readFileSync(new URL(`corpus/${file}.sql`, import.meta.url), 'utf8')
  return text.split(/\n\n+/).map((statement) => statement.replace(/\n$/, ''))
}
