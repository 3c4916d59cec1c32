/**
 * Reads a configuration: the ini file and what it includes, the environment, the files it names.
 * Everything that is wrong is found before anything is thrown. Starts nothing, changes nothing.
 */
import { resolve } from 'node:path'
import { reasonOf } from '../base/errors.ts'
import { checkConfig } from './checks.ts'
import type { Config, DatabaseConfig, PeerConfig, UserConfig } from './config.ts'
import { readDatabase, readPeer, readUser } from './entries.ts'
import { readEnvironment, type Settings } from './environment.ts'
import { AUTH_BYTES_MAX, Files } from './files.ts'
import { type Ini, type IniEntry, readIni } from './ini.ts'
import { KEY_SECTIONS, type KeySection, keysOf, SECTIONS } from './keys.ts'
import { Problems, quoted } from './problem.ts'
import { readUserlist } from './userlist.ts'
import { addUnknownKey, type Reading, readSection } from './values.ts'

export interface Loaded {
  readonly config: Config
  /** Sentences for the operator; the configuration can be used all the same. */
  readonly warnings: readonly string[]
}

/** Reads `file` and `env`. Throws ConfigError with every problem found; throws nothing else. */
export function loadConfig(file: string, env: NodeJS.ProcessEnv): Loaded {
  const files = new Files(file)
  const problems = new Problems()
  const reading = { files, problems }
  const main = resolve(file)
  const ini = readIni(main, files, problems)
  checkSections(ini, problems)
  const settings = gather(ini, problems)
  readEnvironment(env, settings, files, problems)
  const sections = readSections(ini, settings, reading)
  const entries = readEntries(ini, sections, reading)
  const named = readNamedFiles(sections, reading)
  const config: Config = Object.freeze({ file: main, ...sections, ...entries, ...named })
  const hasDatabases = ini.sections.some((section) => section.name === 'databases')
  const odd = checkConfig({ config, settings, hasDatabases, problems })
  problems.throwIfAny()
  return { config, warnings: [...unbuilt(settings), ...odd] }
}

function isKeySection(name: string): name is KeySection {
  return (KEY_SECTIONS as readonly string[]).includes(name)
}

function checkSections(ini: Ini, problems: Problems): void {
  for (const section of ini.sections) {
    if (Object.hasOwn(SECTIONS, section.name)) continue
    const known = Object.keys(SECTIONS)
    const remedy = problems.didYouMean(section.name, known) ?? `known are ${known.join(', ')}`
    problems.add(section, `unknown section [${quoted(section.name).slice(1, -1)}]`, remedy)
  }
}

/** The single keys of the file; of duplicates the last. */
function gather(ini: Ini, problems: Problems): Settings {
  const settings: Settings = { pgbouncer: new Map(), cluster: new Map(), pgsteer: new Map() }
  for (const { section, key, value, file, line } of ini.entries) {
    if (!isKeySection(section)) continue
    if (Object.hasOwn(keysOf(section), key)) {
      settings[section].set(key, { text: value, place: { file, line } })
    } else {
      addUnknownKey(section, key, { file, line }, problems)
    }
  }
  return settings
}

type Sections = Pick<Config, 'pgbouncer' | 'cluster' | 'pgsteer'>

function readSections(ini: Ini, settings: Settings, reading: Reading): Sections {
  const hasCluster =
    settings.cluster.size > 0 || ini.sections.some((section) => section.name === 'cluster')
  return {
    pgbouncer: readSection('pgbouncer', settings.pgbouncer, reading),
    cluster: hasCluster ? readSection('cluster', settings.cluster, reading) : null,
    pgsteer: readSection('pgsteer', settings.pgsteer, reading),
  }
}

type Entries = Pick<Config, 'databases' | 'users' | 'peers'>

function readEntries(ini: Ini, sections: Sections, reading: Reading): Entries {
  const isRouted = sections.cluster !== null
  const fallback = { isRouted, unixSocketDir: sections.pgbouncer.unixSocketDir }
  const databases = new Map<string, DatabaseConfig>()
  const users = new Map<string, UserConfig>()
  const peers = new Map<number, PeerConfig>()
  for (const entry of ini.entries) {
    if (entry.section === 'databases') {
      keep(databases, entry.key, readDatabase(entry, fallback, reading))
    } else if (entry.section === 'users') {
      keep(users, entry.key, readUser(entry, reading))
    } else if (entry.section === 'peers') {
      const peer = readPeer(entry, reading)
      if (peer !== null) keep(peers, peer.id, peer)
    }
  }
  if (databases.size === 0 && isRouted) {
    keep(databases, '*', readDatabase(IMPLIED, fallback, reading))
  }
  return { databases, users, peers }
}

/** With a cluster and no databases at all, every database is routed. */
const IMPLIED: IniEntry = { section: 'databases', key: '*', value: '', file: 'default', line: 0 }

/** The last of two entries wins, and stands where it stands. */
function keep<Name, Value>(map: Map<Name, Value>, name: Name, value: Value | null): void {
  if (value === null) return
  map.delete(name)
  map.set(name, value)
}

type NamedFiles = Pick<Config, 'userlist' | 'hba' | 'ident' | 'httpToken'>

function readNamedFiles(sections: Sections, reading: Reading): NamedFiles {
  const { authFile, authHbaFile, authIdentFile, authType } = sections.pgbouncer
  const users = readNamed('auth_file', authFile, reading)
  const token = readNamed('http_token_file', sections.pgsteer.httpTokenFile, reading)
  return {
    userlist:
      authFile === null || users === null
        ? new Map()
        : readUserlist(authFile, users, reading.problems),
    hba: authType === 'hba' ? readNamed('auth_hba_file', authHbaFile, reading) : null,
    ident: readNamed('auth_ident_file', authIdentFile, reading),
    httpToken: token === null ? null : token.trim(),
  }
}

function readNamed(key: string, path: string | null, reading: Reading): string | null {
  if (path === null) return null
  try {
    return reading.files.read(path, AUTH_BYTES_MAX)
  } catch (error) {
    reading.problems.add({ file: path, line: null }, `cannot read ${key}: ${reasonOf(error)}`)
    return null
  }
}

/** One sentence that names every key that is set and does nothing yet. */
function unbuilt(settings: Settings): readonly string[] {
  const names = KEY_SECTIONS.flatMap((section) =>
    [...settings[section].keys()].filter((name) => keysOf(section)[name]?.built === false),
  )
  if (names.length === 0) return []
  return [`accepted, but without effect in this version: ${names.toSorted().join(', ')}`]
}
