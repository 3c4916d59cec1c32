/**
 * The settings of one PostgreSQL session as an immutable, interned value: equal settings are the
 * same object, so that comparing a session's with a server's is one pointer.
 *
 * An entry is the SQL that makes it so, because the text of a SET and the text of a reported value
 * have different grammars (search_path is a list in the one and a string in the other).
 */

export interface Settings {
  /** Parameter name in lower case to the statement that sets it. */
  readonly entries: ReadonlyMap<string, string>
}

const ROLE = 'role'
const AUTHORIZATION = 'session_authorization'
/** Interned values; beyond these the table is begun anew and equal values may meet twice. */
const INTERNED_MAX = 10_000
const INTERNED_CHARACTERS_MAX = 4_194_304

export const NO_SETTINGS: Settings = { entries: new Map() }
const interned = new Map<string, Settings>([['', NO_SETTINGS]])
let internedCharacters = 0

/** The one object for these entries. */
export function internSettings(entries: ReadonlyMap<string, string>): Settings {
  const names = [...entries.keys()].toSorted()
  const key = names.map((name) => `${name}\0${entries.get(name) ?? ''}`).join('\0\0')
  const known = interned.get(key)
  if (known !== undefined) return known
  internedCharacters += key.length
  if (interned.size >= INTERNED_MAX || internedCharacters > INTERNED_CHARACTERS_MAX) {
    interned.clear()
    interned.set('', NO_SETTINGS)
    internedCharacters = key.length
  }
  const settings = { entries: new Map(names.map((name) => [name, entries.get(name) ?? ''])) }
  interned.set(key, settings)
  return settings
}

export function withSetting(settings: Settings, name: string, sql: string): Settings {
  if (settings.entries.get(name) === sql) return settings
  return internSettings(new Map(settings.entries).set(name, sql))
}

export function withoutSetting(settings: Settings, name: string): Settings {
  if (!settings.entries.has(name)) return settings
  const entries = new Map(settings.entries)
  entries.delete(name)
  return internSettings(entries)
}

/** The statement for the text behind SET's `TO`. */
export function setStatement(name: string, value: string): string {
  if (name === ROLE) return `SET ROLE ${value}`
  if (name === AUTHORIZATION) return `SET SESSION AUTHORIZATION ${value}`
  if (name === 'timezone') return `SET TIME ZONE ${value}`
  return `SET ${quoteName(name)} TO ${value}`
}

/** The statement for a value as a startup packet or a ParameterStatus gives it. */
export function configStatement(name: string, value: string): string {
  return `SELECT pg_catalog.set_config(${quoteLiteral(name)}, ${quoteLiteral(value)}, false)`
}

/**
 * One Query text that turns a server's settings into those wanted, or '' when they are equal.
 * RESET ROLE and RESET SESSION AUTHORIZATION come first, since what follows may need their rights;
 * SET SESSION AUTHORIZATION and SET ROLE come last. Any change of the authorization makes
 * PostgreSQL forget the role, so that it is set again. Source: SetSessionUserId in miscinit.c.
 */
export function settingsChange(from: Settings, to: Settings): string {
  if (from === to) return ''
  const first: string[] = []
  const middle: string[] = []
  const last: string[] = []
  const losesRole = from.entries.get(AUTHORIZATION) !== to.entries.get(AUTHORIZATION)
  for (const name of [ROLE, AUTHORIZATION])
    if (from.entries.has(name) && from.entries.get(name) !== to.entries.get(name))
      first.push(resetStatement(name))
  for (const name of from.entries.keys())
    if (name !== ROLE && name !== AUTHORIZATION && !to.entries.has(name))
      middle.push(resetStatement(name))
  for (const [name, sql] of to.entries) {
    if (from.entries.get(name) === sql && !(name === ROLE && losesRole)) continue
    if (name === AUTHORIZATION) last.unshift(sql)
    else if (name === ROLE) last.push(sql)
    else middle.push(sql)
  }
  return [...first, ...middle, ...last].join('; ')
}

/** What PgBouncer carries itself from server to server. Source: varcache.c. */
const CARRIED_BY_POOLER = new Set([
  'application_name',
  'client_encoding',
  'datestyle',
  'standard_conforming_strings',
  'timezone',
])

export function isCarriedByPooler(name: string): boolean {
  return CARRIED_BY_POOLER.has(name)
}

/** The part that a pooler carries for us: it is set as anywhere else. */
export function pooledPart(settings: Settings): Settings {
  return internSettings(new Map([...settings.entries].filter(([name]) => isCarriedByPooler(name))))
}

/** The other part, as statements that hold until the end of the transaction they run in. */
export function localPart(settings: Settings): readonly string[] {
  return [...settings.entries]
    .filter(([name]) => !isCarriedByPooler(name))
    .toSorted(([one], [other]) => rank(one) - rank(other))
    .map(([, sql]) => localStatement(sql))
}

/** The role comes last, since what is set before may need other rights. */
function rank(name: string): number {
  return [AUTHORIZATION, ROLE].indexOf(name)
}

/** `sql` is a statement of an entry. */
export function localStatement(sql: string): string {
  return sql.startsWith('SET ')
    ? `SET LOCAL ${sql.slice('SET '.length)}`
    : sql.replace(/, false\)$/, ', true)')
}

function resetStatement(name: string): string {
  if (name === ROLE) return 'RESET ROLE'
  if (name === AUTHORIZATION) return 'RESET SESSION AUTHORIZATION'
  return `RESET ${quoteName(name)}`
}

/** `a.b` names a parameter of an extension: each part is quoted alone. */
function quoteName(name: string): string {
  return name
    .split('.')
    .map((part) => `"${part.replaceAll('"', '""')}"`)
    .join('.')
}

/** Works whatever standard_conforming_strings says. */
export function quoteLiteral(value: string): string {
  const quoted = value.replaceAll("'", "''")
  return value.includes('\\') ? `E'${quoted.replaceAll('\\', '\\\\')}'` : `'${quoted}'`
}
