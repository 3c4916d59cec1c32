/**
 * Patroni's keys as etcd holds them, kept current by whole reads and by watch events, and turned
 * into a `ClusterView`. Pure: it knows neither sockets nor time. It refuses what an old or foreign
 * member of etcd says; the guards are those of Patroni's StaleEtcdNodeGuard (patroni/dcs/etcd.py).
 */
import {
  isObject,
  parseDynamic,
  parseFailover,
  parseHistory,
  parseInitialize,
  parseJson,
  parseMember,
  parseObject,
} from './keys.ts'
import type { ClusterView, Leader, ViewMember } from './source.ts'

export interface StoredKey {
  readonly value: string
  readonly createRevision: bigint
  readonly modRevision: bigint
  /** The lease it hangs on; '0' for none. */
  readonly lease: string
}

/** What every answer of etcd says about itself. */
export interface Header {
  readonly clusterId: string
  readonly revision: bigint
  readonly raftTerm: bigint
}

/** All keys under the prefix at `header.revision`, by their name without the prefix. */
export interface Snapshot {
  readonly header: Header
  readonly keys: ReadonlyMap<string, StoredKey>
}

export interface KeyEvent {
  readonly name: string
  /** Null: deleted. */
  readonly key: StoredKey | null
  readonly modRevision: bigint
}

/** The newest state known, and the oldest answer that may still be believed. */
export interface Keyspace {
  readonly header: Header
  readonly keys: ReadonlyMap<string, StoredKey>
}

/**
 * Why an answer cannot be believed after `known`, or null when it can.
 *
 * `known` is what had been heard when the question was sent: an answer that merely was slower than
 * another one is older than what is known by now, and no lie.
 */
export function refusal(known: Header | null, header: Header): string | null {
  if (known === null) return null
  if (header.clusterId !== known.clusterId)
    return `answers for another cluster (id ${header.clusterId}, not ${known.clusterId})`
  if (header.raftTerm < known.raftTerm)
    return `is behind (raft term ${header.raftTerm}, not ${known.raftTerm})`
  if (header.revision < known.revision)
    return `is behind (revision ${header.revision}, not ${known.revision})`
  return null
}

/** Takes a whole read unless something newer is known. */
export function adopt(known: Keyspace | null, snapshot: Snapshot): Keyspace {
  if (known !== null && snapshot.header.revision < known.header.revision) return known
  return snapshot
}

/** Takes events of a watch in order; those that are not newer than what is known are dropped. */
export function applyEvents(
  known: Keyspace,
  header: Header,
  events: readonly KeyEvent[],
): Keyspace {
  const keys = new Map(known.keys)
  let revision = known.header.revision
  for (const event of events) {
    if (event.modRevision <= known.header.revision) continue
    if (event.key === null) keys.delete(event.name)
    else keys.set(event.name, event.key)
    if (event.modRevision > revision) revision = event.modRevision
  }
  const raftTerm = header.raftTerm > known.header.raftTerm ? header.raftTerm : known.header.raftTerm
  return { header: { ...known.header, revision, raftTerm }, keys }
}

/** Whether two states hold the same keys: any write of a key changes its modRevision. */
export function sameKeys(one: Keyspace, other: Keyspace): boolean {
  if (one.keys.size !== other.keys.size) return false
  for (const [name, key] of one.keys)
    if (other.keys.get(name)?.modRevision !== key.modRevision) return false
  return true
}

/** The lease of the leader key, or null. */
export function leaderLease(keyspace: Keyspace): string | null {
  const lease = keyspace.keys.get('leader')?.lease ?? '0'
  return lease === '0' ? null : lease
}

/** Reads the keys. `ttlMs` counts where `config` has no ttl, `prefix` only serves the sentences. */
export function viewOf(keyspace: Keyspace, prefix: string, ttlMs: number): ClusterView {
  const textAt = (name: string): string => keyspace.keys.get(name)?.value ?? ''
  const leader = leaderIn(keyspace)
  const dynamic = parseDynamic(parseObject(textAt('config')), ttlMs)
  return {
    leader,
    vacancy: leader === null ? vacancyOf(keyspace, prefix, dynamic.paused) : '',
    members: membersIn(keyspace),
    systemIdentifier: parseInitialize(textAt('initialize')),
    dynamic,
    history: parseHistory(parseJson(textAt('history'))),
    failover: parseFailover(textAt('failover')),
  }
}

function leaderIn({ header, keys }: Keyspace): Leader | null {
  const key = keys.get('leader')
  if (key === undefined || key.value === '') return null
  return { name: key.value, epoch: `${header.clusterId}/${key.createRevision}` }
}

function vacancyOf(keyspace: Keyspace, prefix: string, isPaused: boolean): string {
  if (keyspace.keys.size === 0) return `etcd has nothing under ${prefix}: is the scope right?`
  const initialize = keyspace.keys.get('initialize')
  if (initialize === undefined || initialize.value === '')
    return 'the cluster is not bootstrapped yet'
  if (isPaused) return 'nobody holds the leader key and Patroni is paused'
  return 'nobody holds the leader key'
}

function membersIn({ keys }: Keyspace): ViewMember[] {
  const members: ViewMember[] = []
  for (const [path, key] of keys) {
    const name = /^members\/([^/]+)$/.exec(path)?.[1]
    if (name !== undefined && isObject(parseJson(key.value)))
      members.push(parseMember(name, key.value))
  }
  return members.toSorted((one, other) => (one.name < other.name ? -1 : 1))
}
