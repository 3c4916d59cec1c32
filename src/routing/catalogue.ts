/**
 * Which function names of one database are proved harmless to read with. The control plane runs
 * CATALOGUE_QUERY, sends the plain CatalogueFacts to every worker, and `catalogueOf` makes the value
 * the classifier asks. It knows names only: a call is judged by its name whatever its arguments are.
 */
import { HARMLESS_VOLATILE } from './words.ts'

export interface Catalogue {
  readonly database: string
  /** Grows with every refresh that changed something; 0 for the empty one. */
  readonly serial: number
  /** True when no function of this name, in any schema, can do more than read. */
  isHarmless(name: string): boolean
  /** True when a function of this name may exist, in any schema. */
  exists(name: string): boolean
  /** True when functions of this name exist in pg_catalog and nowhere else. */
  isBuiltin(name: string): boolean
}

/** The plain value that travels between processes. */
export interface CatalogueFacts {
  readonly database: string
  readonly serial: number
  /** Names with at least one VOLATILE function or procedure, in any schema. */
  readonly volatileNames: readonly string[]
  /** Names of which no function is VOLATILE. */
  readonly stableOrImmutableNames: readonly string[]
  /** Names that exist in a schema other than pg_catalog. */
  readonly userNames: readonly string[]
}

/** Before the first refresh: every function is unproved. */
export const EMPTY_CATALOGUE: Catalogue = {
  database: '',
  serial: 0,
  isHarmless: () => false,
  exists: () => true,
  isBuiltin: () => false,
}

/**
 * One row per function name: name text, is_volatile bool, is_user bool. Any role may run it, on any
 * member.
 */
export const CATALOGUE_QUERY = `
select p.proname::text as name,
       bool_or(p.provolatile = 'v') as is_volatile,
       bool_or(n.nspname <> 'pg_catalog') as is_user
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
 group by p.proname
 order by p.proname`

/** A row of CATALOGUE_QUERY. */
export interface CatalogueRow {
  readonly name: string
  readonly is_volatile: boolean
  readonly is_user: boolean
}

/** Sorts the rows of CATALOGUE_QUERY into facts. */
export function factsOf(
  database: string,
  serial: number,
  rows: readonly CatalogueRow[],
): CatalogueFacts {
  return {
    database,
    serial,
    volatileNames: rows.filter((row) => row.is_volatile).map((row) => row.name),
    stableOrImmutableNames: rows.filter((row) => !row.is_volatile).map((row) => row.name),
    userNames: rows.filter((row) => row.is_user).map((row) => row.name),
  }
}

/** A name is harmless when none of its functions is VOLATILE, or it is a known built-in and only that. */
export function catalogueOf(facts: CatalogueFacts): Catalogue {
  const user = new Set(facts.userNames)
  const volatile = new Set(facts.volatileNames)
  const harmless = new Set(facts.stableOrImmutableNames)
  for (const name of volatile) harmless.delete(name)
  for (const name of HARMLESS_VOLATILE) {
    if (volatile.has(name) && !user.has(name)) harmless.add(name)
  }
  return {
    database: facts.database,
    serial: facts.serial,
    isHarmless: (name) => harmless.has(name),
    exists: (name) => harmless.has(name) || volatile.has(name),
    isBuiltin: (name) => (harmless.has(name) || volatile.has(name)) && !user.has(name),
  }
}
