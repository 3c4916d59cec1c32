/**
 * The named entries of [databases], [users] and [peers], from their connection strings.
 */
import type { DatabaseConfig, PeerConfig, UserConfig } from './config.ts'
import { readConnection } from './connection.ts'
import type { IniEntry } from './ini.ts'
import { DATABASE_ALIASES } from './keys/entries.ts'
import { ADMIN_DATABASE } from './keys.ts'
import { BadValue, splitList } from './kinds.ts'
import { quoted } from './problem.ts'
import { type EntryText, type Reading, readEntry } from './values.ts'

const PEER_ID_MAX = 16_383

/** Where entries without `host=` lead. */
export interface Fallback {
  /** With [cluster] they are routed. */
  readonly isRouted: boolean
  readonly unixSocketDir: string | null
}

/** An entry of [databases], or null if it has problems that leave nothing to use. */
export function readDatabase(
  entry: IniEntry,
  fallback: Fallback,
  reading: Reading,
): DatabaseConfig | null {
  const { key: name } = entry
  const text = entryText('database', entry, reading)
  if (name === ADMIN_DATABASE) {
    const remedy = 'it is the name of the console'
    reading.problems.add(entry, `database name ${quoted(name)} is reserved`, remedy)
    return null
  }
  if (text === null) return null
  const aliased = { ...text, aliases: DATABASE_ALIASES }
  const read = readEntry('databases', aliased, reading)
  const { host, port, loadBalanceHosts, ...rest } = read
  const hosts = host === null ? [] : [...splitList(host)]
  if (read.authDbname === ADMIN_DATABASE) {
    reading.problems.add(entry, `${text.title}: auth_dbname cannot be the console`)
  }
  if (host !== null && hosts.length === 0) {
    reading.problems.add(entry, `${text.title}: host= names no host`)
  }
  if (hosts.length === 0 && !fallback.isRouted) {
    const remedy = 'set host=, or unix_socket_dir, or a [cluster]'
    if (fallback.unixSocketDir === null)
      reading.problems.add(entry, `${text.title} leads nowhere`, remedy)
    else hosts.push(fallback.unixSocketDir)
  }
  return Object.freeze({
    ...rest,
    name,
    hosts: Object.freeze(hosts),
    port: port ?? 5432,
    loadBalanceHosts: loadBalanceHosts ?? 'round-robin',
  })
}

/** An entry of [users], or null. */
export function readUser(entry: IniEntry, reading: Reading): UserConfig | null {
  const text = entryText('user', entry, reading)
  if (text === null) return null
  const values = readEntry('users', text, reading)
  return Object.freeze({ ...values, name: entry.key })
}

/** An entry of [peers], or null. */
export function readPeer(entry: IniEntry, reading: Reading): PeerConfig | null {
  const text = entryText('peer', entry, reading)
  const id = /^\d{1,5}$/.test(entry.key) ? Number(entry.key) : 0
  if (id < 1 || id > PEER_ID_MAX) {
    const remedy = `peers are numbered from 1 to ${PEER_ID_MAX}`
    reading.problems.add(entry, `${quoted(entry.key)} is not the number of a peer`, remedy)
    return null
  }
  if (text === null) return null
  const values = readEntry('peers', text, reading)
  if (values.host === null) {
    reading.problems.add(entry, `${text.title} has no host=`)
    return null
  }
  const { host, port, poolSize } = values
  return Object.freeze({ id, host, port: port ?? 6432, poolSize, tls: null })
}

function entryText(what: string, entry: IniEntry, reading: Reading): EntryText | null {
  const title = `${what} ${quoted(entry.key)}`
  try {
    return { title, place: entry, pairs: readConnection(entry.value) }
  } catch (error) {
    if (!(error instanceof BadValue)) throw error
    reading.problems.add(entry, `${title}: ${error.message}`)
    return null
  }
}
