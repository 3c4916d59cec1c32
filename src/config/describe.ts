/**
 * The configuration in force as text: as an ini file that could be loaded again, and as the rows of
 * SHOW CONFIG. Secrets never appear.
 */
import type { Config } from './config.ts'
import { writeConnection } from './connection.ts'
import { KEY_SECTIONS, type KeySection, keysOf, type SectionName, valueOf } from './keys.ts'
import type { AnyKey } from './kinds.ts'
import { withQuotes } from './values.ts'

/** What stands in the place of every secret. */
export const HIDDEN = '********'

export interface DescribeOptions {
  /** Also keys that have their default; those without a value become comments. */
  readonly showDefaults: boolean
}

/** The effective configuration as ini text, sections in a fixed order. */
export function describeConfig(config: Config, options: DescribeOptions): string {
  const blocks = [
    entryBlock('databases', namedEntries(config.databases), options),
    entryBlock('users', namedEntries(config.users), options),
    entryBlock('peers', namedEntries(config.peers), options),
    keyBlock('pgbouncer', config.pgbouncer, options),
    config.cluster === null ? '' : keyBlock('cluster', config.cluster, options),
    keyBlock('pgsteer', config.pgsteer, options),
  ]
  return `${blocks.filter((block) => block !== '').join('\n\n')}\n`
}

function keyBlock(section: KeySection, values: object, options: DescribeOptions): string {
  const lines = [`[${section}]`]
  for (const [name, key] of Object.entries(keysOf(section))) {
    const shown = shownValue(key, valueOf(values, name, key))
    if (shown === null) {
      if (options.showDefaults) lines.push(`;${name} =`)
    } else if (options.showDefaults || shown !== shownDefault(key)) {
      const written = section === 'pgbouncer' ? shown : withQuotes(shown)
      lines.push(`${name} = ${written}`.trimEnd())
    }
  }
  return lines.join('\n')
}

/** A value as it is written; null where there is none. */
export function shownValue(key: AnyKey, value: unknown): string | null {
  if (value === null) return key.fallback === null ? null : key.format(value)
  return key.secret ? HIDDEN : key.format(value)
}

function shownDefault(key: AnyKey): string | null {
  return key.fallback === null ? null : key.format(key.parse(key.fallback))
}

type NamedEntry = readonly [name: string, values: object]

function namedEntries(entries: ReadonlyMap<string | number, object>): readonly NamedEntry[] {
  return [...entries].map(([name, values]) => [String(name), values])
}

function entryBlock(
  section: SectionName,
  entries: readonly NamedEntry[],
  options: DescribeOptions,
): string {
  if (entries.length === 0) return section === 'databases' ? '[databases]' : ''
  const lines = entries.map(([name, values]) => {
    const pairs = Object.entries(keysOf(section)).flatMap(([keyName, key]) => {
      const shown = shownPair(keyName, key, values)
      const isSilent = shown === null || (shown === shownDefault(key) && !options.showDefaults)
      return isSilent ? [] : [[keyName, shown] as const]
    })
    return `${entryName(name)} = ${writeConnection(pairs)}`.trimEnd()
  })
  return [`[${section}]`, ...lines].join('\n')
}

function shownPair(name: string, key: AnyKey, values: object): string | null {
  // The list of hosts is the one field that is not named like its key.
  const hosts: unknown = name === 'host' ? Reflect.get(values, 'hosts') : undefined
  if (Array.isArray(hosts)) return hosts.length === 0 ? null : hosts.join(',')
  const value = valueOf(values, name, key)
  return value === null ? null : shownValue(key, value)
}

function entryName(name: string): string {
  return /^[\w.*-]+$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`
}

export interface ConfigRow {
  readonly key: string
  readonly value: string | null
  readonly default: string | null
  readonly changeable: 'yes' | 'no'
}

/**
 * The rows of SHOW CONFIG: PgBouncer's keys in its order, then those of [pgsteer], then those of
 * [cluster] as `cluster_<key>`.
 */
export function configRows(config: Config): readonly ConfigRow[] {
  const cluster = config.cluster === null ? [] : sectionRows('cluster', config.cluster)
  return [
    ...sectionRows('pgbouncer', { ...config.pgbouncer, conffile: config.file }),
    ...sectionRows('pgsteer', config.pgsteer),
    ...cluster,
  ]
}

function sectionRows(section: KeySection, values: object): readonly ConfigRow[] {
  return Object.entries(keysOf(section)).map(([name, key]) => ({
    key: settingName(section, name),
    value: shownValue(key, valueOf(values, name, key)),
    default: key.fallback,
    changeable: key.live ? 'yes' : 'no',
  }))
}

/** A key's name where all sections share one list: that of [cluster] has its section in front. */
export function settingName(section: KeySection, name: string): string {
  return section === 'cluster' ? `cluster_${name}` : name
}

/** The section and key that a name of settingName() stands for. */
export function settingOf(name: string): { section: KeySection; name: string; key: AnyKey } | null {
  for (const section of KEY_SECTIONS) {
    const prefix = settingName(section, '')
    const bare = name.startsWith(prefix) ? name.slice(prefix.length) : null
    const key =
      bare !== null && Object.hasOwn(keysOf(section), bare) ? keysOf(section)[bare] : undefined
    if (bare !== null && key !== undefined) return { section, name: bare, key }
  }
  return null
}
