/**
 * What differs between two configurations, which of it can be applied to a running process, and the
 * configuration that results. Also a single key changed from the console (SET).
 */
import { isDeepStrictEqual } from 'node:util'
import { checkConfig } from './checks.ts'
import type { Config } from './config.ts'
import { settingName, settingOf } from './describe.ts'
import { fieldOf, KEY_SECTIONS, type KeySection, keysOf, valueOf } from './keys.ts'
import { type AnyKey, BadValue } from './kinds.ts'
import { ConfigError, Problems, quoted } from './problem.ts'

export interface Changes {
  /** What a RELOAD applies: keys (`pool_mode`, `cluster_probe_user`) and entries (`databases.x`). */
  readonly live: readonly string[]
  /** What takes effect at the next start only. */
  readonly restart: readonly string[]
}

/** The names of what differs. */
export function compareConfigs(before: Config, after: Config): Changes {
  const live: string[] = []
  const restart: string[] = []
  for (const section of KEY_SECTIONS) {
    const [old, now] = [before[section], after[section]]
    if (old === null || now === null) {
      if (old !== now) restart.push(section)
      continue
    }
    for (const name of changedKeys(section, old, now)) {
      const isLive = keysOf(section)[name]?.live === true
      ;(isLive ? live : restart).push(settingName(section, name))
    }
  }
  const entries = [
    ...changedEntries('databases', before.databases, after.databases),
    ...changedEntries('users', before.users, after.users),
    ...changedEntries('peers', before.peers, after.peers),
  ]
  // An entry without host= means something else with a cluster than without.
  const isSameKind = (before.cluster === null) === (after.cluster === null)
  for (const name of entries)
    (isSameKind || !name.startsWith('databases.') ? live : restart).push(name)
  live.push(...changedFiles(before, after).filter((name) => !live.includes(name)))
  return { live, restart }
}

function changedKeys(section: KeySection, old: object, now: object): readonly string[] {
  return Object.entries(keysOf(section))
    .filter(([name, key]) => !isDeepStrictEqual(valueOf(old, name, key), valueOf(now, name, key)))
    .map(([name]) => name)
}

function changedEntries<Name>(
  section: string,
  old: ReadonlyMap<Name, object>,
  now: ReadonlyMap<Name, object>,
): readonly string[] {
  const names = new Set([...old.keys(), ...now.keys()])
  return [...names]
    .filter((name) => !isDeepStrictEqual(old.get(name), now.get(name)))
    .map((name) => `${section}.${String(name)}`)
}

/** Files with other contents under the same name. */
function changedFiles(before: Config, after: Config): readonly string[] {
  const names: string[] = []
  if (!isDeepStrictEqual(before.userlist, after.userlist)) names.push('auth_file')
  if (before.hba !== after.hba) names.push('auth_hba_file')
  if (before.ident !== after.ident) names.push('auth_ident_file')
  if (before.httpToken !== after.httpToken) names.push('http_token_file')
  return names
}

/** What is in force after a RELOAD: `after`, but what needs a restart is still as in `before`. */
export function mergeConfigs(before: Config, after: Config): Config {
  const isSameKind = (before.cluster === null) === (after.cluster === null)
  return Object.freeze({
    ...after,
    databases: isSameKind ? after.databases : before.databases,
    pgbouncer: mergeSection('pgbouncer', before.pgbouncer, after.pgbouncer),
    pgsteer: mergeSection('pgsteer', before.pgsteer, after.pgsteer),
    cluster:
      before.cluster === null || after.cluster === null
        ? before.cluster
        : mergeSection('cluster', before.cluster, after.cluster),
  })
}

function mergeSection<Values extends object>(
  section: KeySection,
  before: Values,
  after: Values,
): Values {
  const kept = Object.entries(keysOf(section))
    .filter(([, key]) => !key.live)
    .map(([name, key]) => [fieldOf(name, key), valueOf(before, name, key)] as const)
  return Object.freeze({ ...after, ...Object.fromEntries(kept) })
}

/**
 * `config` with one key changed, as the console's SET does it; `name` as in SHOW CONFIG. Throws
 * ConfigError if there is no such key, if it cannot be changed while running, or if the result
 * would not load.
 */
export function changeSetting(config: Config, name: string, text: string): Config {
  const target = settingOf(name)
  const place = { file: 'SET', line: null }
  const problems = new Problems()
  if (target === null || (target.section === 'cluster' && config.cluster === null)) {
    const names = KEY_SECTIONS.flatMap((section) =>
      Object.keys(keysOf(section)).map((key) => settingName(section, key)),
    )
    const remedy = problems.didYouMean(name, names)
    throw new ConfigError([{ ...place, text: `unknown key ${quoted(name)}`, remedy }])
  }
  const { key, section } = target
  if (!key.live) problems.add(place, `${name} can only be changed by a restart`)
  if (key.file) problems.add(place, `${name} names a file`, 'set it in the file and RELOAD')
  const value = parseText(key, text, (reason) => {
    problems.add(place, `${name}${key.secret ? '' : ` = ${quoted(text)}`}: ${reason}`)
  })
  problems.throwIfAny()
  const values = Object.freeze({ ...config[section], [fieldOf(target.name, key)]: value })
  const changed: Config = Object.freeze({ ...config, [section]: values })
  const settings = { pgbouncer: new Map(), cluster: new Map(), pgsteer: new Map() }
  checkConfig({ config: changed, settings, hasDatabases: true, problems })
  problems.throwIfAny()
  return changed
}

/** The value, or what `onWrong` was told is wrong with it. */
function parseText(key: AnyKey, text: string, onWrong: (reason: string) => void): unknown {
  try {
    return key.parse(text)
  } catch (error) {
    if (!(error instanceof BadValue)) throw error
    onWrong(error.message)
    return null
  }
}
