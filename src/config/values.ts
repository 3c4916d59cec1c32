/**
 * Text to values, by the table of keys: the sections [pgbouncer], [cluster] and [pgsteer], and the
 * pairs of an entry. What is wrong is collected, and the default stands in for it, so that the next
 * check finds something to check.
 */
import type { Setting } from './environment.ts'
import type { Files } from './files.ts'
import {
  type EntryValues,
  fieldOf,
  KEY_SECTIONS,
  type KeySection,
  keysOf,
  type SectionValues,
} from './keys.ts'
import { type AnyKey, BadValue } from './kinds.ts'
import { type Problems, quoted } from './problem.ts'

export interface Reading {
  readonly files: Files
  readonly problems: Problems
}

type Place = Setting['place']

const COMMENT_REMEDY = 'comments are allowed only at the start of a line'

/** The values of a section as a frozen object, fields named by keys.ts. */
export function readSection<Section extends KeySection>(
  section: Section,
  settings: ReadonlyMap<string, Setting>,
  reading: Reading,
): SectionValues[Section] {
  const values: Record<string, unknown> = {}
  for (const [name, key] of Object.entries(keysOf(section))) {
    const setting = settings.get(name)
    const read = setting === undefined ? undefined : readSetting(section, name, setting, reading)
    values[fieldOf(name, key)] = read === undefined ? defaultOf(key) : read.value
  }
  // Every key of the table was given the value that its row parses: what SectionValues says.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  return Object.freeze(values) as object as SectionValues[Section]
}

/** Undefined if the value is wrong, which `problems` then knows. */
function readSetting(
  section: KeySection,
  name: string,
  setting: Setting,
  reading: Reading,
): { value: unknown } | undefined {
  const key = keysOf(section)[name]
  if (key === undefined) return undefined
  const isFromFile = setting.place.line !== null
  try {
    const text = isFromFile && section !== 'pgbouncer' ? withoutComment(setting.text) : setting.text
    return { value: readValue(key, text, reading.files) }
  } catch (error) {
    if (!(error instanceof BadValue)) throw error
    const looksCommented = section === 'pgbouncer' && isFromFile && /\s[;#]/.test(setting.text)
    const remedy = looksCommented ? COMMENT_REMEDY : null
    reading.problems.add(setting.place, sentence(name, key, setting.text, error), remedy)
    return undefined
  }
}

function sentence(name: string, key: AnyKey, text: string, error: BadValue): string {
  return `${name}${key.secret ? '' : ` = ${quoted(text)}`}: ${error.message}`
}

/** Throws BadValue. Files become absolute paths that were readable. */
function readValue(key: AnyKey, text: string, files: Files): unknown {
  if (/[\0\r\n]/.test(text)) throw new BadValue('must be a single line')
  const value = key.parse(text)
  if (!key.file || typeof value !== 'string') return value
  const path = files.locate(value)
  const reason = files.unreadable(path)
  if (reason !== null) throw new BadValue(`cannot read ${quoted(path)}: ${reason}`)
  return path
}

export function defaultOf(key: AnyKey): unknown {
  return key.fallback === null ? null : key.parse(key.fallback)
}

/**
 * A value of [cluster] or [pgsteer] as written in the file: it may be in single quotes, with '' for
 * a quote, and may be followed by a blank, a `;` and a comment. Throws BadValue.
 */
export function withoutComment(text: string): string {
  if (text.startsWith("'")) {
    const match = /^'((?:[^']|'')*)'\s*(?:;.*)?$/.exec(text)
    if (match === null) throw new BadValue("begins with ' but has no closing one at its end")
    return (match[1] ?? '').replaceAll("''", "'")
  }
  const at = text.startsWith(';') ? 0 : text.search(/\s;/)
  return at < 0 ? text : text.slice(0, at).trimEnd()
}

/** The inverse of withoutComment. */
export function withQuotes(text: string): string {
  const isPlain = !/^['\s]|\s$|^;|\s;/.test(text)
  return isPlain ? text : `'${text.replaceAll("'", "''")}'`
}

export interface EntryText {
  /** As problems call it: `database "x"`. */
  readonly title: string
  readonly place: Place
  readonly pairs: readonly (readonly [key: string, value: string])[]
  readonly aliases?: ReadonlyMap<string, string>
}

/** The values of an entry as an object, null where the entry does not say; `port` has its default. */
export function readEntry<Section extends keyof EntryValues>(
  section: Section,
  entry: EntryText,
  reading: Reading,
): EntryValues[Section] {
  const table = keysOf(section)
  const values: Record<string, unknown> = {}
  for (const [name, key] of Object.entries(table)) values[fieldOf(name, key)] = defaultOf(key)
  for (const [written, text] of entry.pairs) {
    const name = entry.aliases?.get(written) ?? written
    const key = Object.hasOwn(table, name) ? table[name] : undefined
    if (key === undefined) {
      const remedy = reading.problems.didYouMean(written, Object.keys(table))
      reading.problems.add(entry.place, `${entry.title}: unknown key ${quoted(written)}`, remedy)
      continue
    }
    try {
      values[fieldOf(name, key)] = readValue(key, text, reading.files)
    } catch (error) {
      if (!(error instanceof BadValue)) throw error
      reading.problems.add(entry.place, `${entry.title}: ${sentence(written, key, text, error)}`)
    }
  }
  // As in readSection.
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion
  return values as object as EntryValues[Section]
}

/** Says that `[section] key` is unknown, and which key may have been meant. */
export function addUnknownKey(
  section: KeySection,
  name: string,
  place: Place,
  problems: Problems,
): void {
  const owner = KEY_SECTIONS.find((other) => Object.hasOwn(keysOf(other), name))
  const remedy =
    owner === undefined
      ? problems.didYouMean(name, Object.keys(keysOf(section)))
      : `it belongs to [${owner}]`
  problems.add(place, `unknown key ${quoted(name)} in [${section}]`, remedy)
}
