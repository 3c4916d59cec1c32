/**
 * What the session's own settings say to the router. Worked out once per settings value, which is
 * shared by all sessions that have it.
 */
import type { RouteMode } from '../config/config.ts'
import type { Isolation } from '../routing/classify.ts'
import type { Settings } from '../server/settings.ts'

export interface SettingValues {
  readonly route: RouteMode | null
  readonly defaultReadOnly: boolean | null
  readonly standardStrings: boolean | null
  readonly asciiSafeEncoding: boolean | null
  /** default_transaction_isolation. */
  readonly isolation: Isolation | null
}

/** Encodings in which a byte under 0x80 may be part of a character. Source: pg_wchar.h. */
const UNSAFE_ENCODINGS = new Set([
  'sjis',
  'shiftjis',
  'mskanji',
  'win932',
  'windows932',
  'big5',
  'win950',
  'windows950',
  'gbk',
  'win936',
  'windows936',
  'uhc',
  'win949',
  'windows949',
  'gb18030',
  'johab',
  'shiftjis2004',
])
const ROUTES: readonly RouteMode[] = ['split', 'primary', 'replica']

const known = new WeakMap<Settings, SettingValues>()

export function valuesOf(settings: Settings): SettingValues {
  const cached = known.get(settings)
  if (cached !== undefined) return cached
  const route = valueOf(settings, 'pgsteer.route')
  const values: SettingValues = {
    route: ROUTES.find((mode) => mode === route) ?? null,
    defaultReadOnly: truth(valueOf(settings, 'default_transaction_read_only')),
    standardStrings: truth(valueOf(settings, 'standard_conforming_strings')),
    isolation: isolationOf(valueOf(settings, 'default_transaction_isolation')),
    asciiSafeEncoding: safe(valueOf(settings, 'client_encoding')),
  }
  known.set(settings, values)
  return values
}

export function isAsciiSafe(encoding: string): boolean {
  return !UNSAFE_ENCODINGS.has(encoding.toLowerCase().replaceAll(/[^a-z0-9]/g, ''))
}

export function isOn(value: string): boolean {
  return ['on', 'true', 'yes', '1', 't', 'tr', 'tru', 'y', 'ye'].includes(value.toLowerCase())
}

/** The value in the statement that sets it, without its quotes, in lower case. */
function valueOf(settings: Settings, name: string): string | null {
  const sql = settings.entries.get(name)
  if (sql === undefined) return null
  const match =
    /^SELECT .*,\s*E?'(.*)', false\)$/s.exec(sql) ?? /^SET .*? TO\s+'?(.*?)'?\s*$/s.exec(sql)
  return match?.[1]?.trim().toLowerCase() ?? null
}

function truth(value: string | null): boolean | null {
  return value === null ? null : isOn(value)
}

function isolationOf(value: string | null): Isolation | null {
  if (value === 'serializable') return 'serializable'
  if (value === 'repeatable read') return 'repeatable_read'
  return value === null ? null : 'read_committed'
}

function safe(value: string | null): boolean | null {
  return value === null ? null : isAsciiSafe(value)
}
