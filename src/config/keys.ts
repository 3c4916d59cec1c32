/**
 * The table of every configuration key, by section, and the types that follow from it: a key
 * `query_wait_timeout` of kind seconds is the field `queryWaitTimeoutMs`, in milliseconds. What
 * depends on several keys at once is not here (checks.ts), nor what an entry falls back to
 * (config.ts). docs/configuration.md is tested against this table, both ways.
 */

import { CLUSTER_KEYS } from './keys/cluster.ts'
import { DATABASE_KEYS, PEER_KEYS, USER_KEYS } from './keys/entries.ts'
import { PGBOUNCER_KEYS } from './keys/pgbouncer.ts'
import { PGSTEER_KEYS } from './keys/pgsteer.ts'
import type { AnyKey, Key, KeyTable, Unit } from './kinds.ts'

type Camel<Name extends string> = Name extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<Camel<Tail>>}`
  : Name

/** The field that holds a key's value. */
export type FieldOf<Name extends string, K> = K extends { readonly unit: 'seconds' }
  ? `${Camel<Name>}Ms`
  : Camel<Name>

/** Null where the key has neither a value nor a default. */
type ValueOf<K> = K extends Key<infer Value, Unit> ? Value : never

/** A section whose keys all have values; `Unset` names those that may have none. */
type SectionOf<Table, Unset extends keyof Table> = {
  readonly [Name in keyof Table & string as FieldOf<Name, Table[Name]>]: Name extends Unset
    ? ValueOf<Table[Name]> | null
    : ValueOf<Table[Name]>
}

/** An entry of [databases], [users] or [peers]: null = not set here. */
export type EntryOf<Table> = {
  readonly [Name in keyof Table & string as FieldOf<Name, Table[Name]>]: ValueOf<Table[Name]> | null
}

export type PgbouncerConfig = SectionOf<typeof PGBOUNCER_KEYS, never>
export type ClusterConfig = SectionOf<typeof CLUSTER_KEYS, 'group'>
export type PgsteerConfig = SectionOf<typeof PGSTEER_KEYS, 'failover_hold_ms_max'>
export type DatabaseEntry = EntryOf<typeof DATABASE_KEYS>
export type UserEntry = EntryOf<typeof USER_KEYS>
export type PeerEntry = EntryOf<typeof PEER_KEYS>

/** What each section of single keys becomes. */
export interface SectionValues {
  readonly pgbouncer: PgbouncerConfig
  readonly cluster: ClusterConfig
  readonly pgsteer: PgsteerConfig
}

/** What an entry of each section of entries becomes. */
export interface EntryValues {
  readonly databases: DatabaseEntry
  readonly users: UserEntry
  readonly peers: PeerEntry
}

/** The database name of the console; it cannot be an entry of [databases]. */
export const ADMIN_DATABASE = 'pgbouncer'

export const SECTIONS = {
  pgbouncer: PGBOUNCER_KEYS,
  databases: DATABASE_KEYS,
  users: USER_KEYS,
  peers: PEER_KEYS,
  cluster: CLUSTER_KEYS,
  pgsteer: PGSTEER_KEYS,
} as const satisfies Record<string, KeyTable>

export type SectionName = keyof typeof SECTIONS

/** Sections of single keys; the others hold entries with a name. */
export const KEY_SECTIONS = ['pgbouncer', 'cluster', 'pgsteer'] as const
export type KeySection = (typeof KEY_SECTIONS)[number]

/** The same table without its literal types, for code that walks over it. */
export function keysOf(section: SectionName): KeyTable {
  return SECTIONS[section]
}

/** The name of the field that holds the key's value: `pool_mode` is `poolMode`. */
export function fieldOf(name: string, key: AnyKey): string {
  const camel = name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
  return key.unit === 'seconds' ? `${camel}Ms` : camel
}

/** A value of a section or entry, by the name of its key. */
export function valueOf(values: object, name: string, key: AnyKey): unknown {
  return Reflect.get(values, fieldOf(name, key))
}
