/**
 * Where membership comes from. A source emits whole `ClusterView` values and nothing else: what it
 * says is a claim, and the watcher believes in a primary only when SQL agrees (failover.ts).
 */
import type { Address } from './address.ts'
import type { HistoryLine } from './topology.ts'

/** What the source knows of one member. */
export interface ViewMember {
  readonly name: string
  /** Where PostgreSQL itself listens, in the order in which to try; probes always go here. */
  readonly addresses: readonly Address[]
  /** The pooler in front of this member, if its `proxy_url` names one. */
  readonly proxy: Address | null
  /** Patroni's REST address without the path, `http://host:8008`. */
  readonly restUrl: string | null
  /** Patroni's word: running, starting, creating replica, ... Never believed, only shown. */
  readonly state: string
  readonly tags: Readonly<Record<string, string | number | boolean>>
}

export interface Leader {
  readonly name: string
  /**
   * Names one reign: etcd's cluster id and the leader key's create_revision, or a counter of the
   * source. Two views with the same name and epoch speak of the same uninterrupted reign.
   */
  readonly epoch: string
}

/** Patroni's dynamic configuration, as far as it changes what we believe. */
export interface DynamicConfig {
  readonly ttlMs: number
  readonly loopWaitMs: number
  readonly paused: boolean
  readonly standbyCluster: boolean
  readonly failsafeMode: boolean
  readonly synchronousMode: boolean
}

/** Patroni's defaults (docs/dynamic_configuration.rst). */
export const DEFAULT_DYNAMIC: DynamicConfig = {
  ttlMs: 30_000,
  loopWaitMs: 10_000,
  paused: false,
  standbyCluster: false,
  failsafeMode: false,
  synchronousMode: false,
}

/** A switchover or failover that was asked for. */
export interface FailoverRequest {
  readonly leader: string | null
  readonly candidate: string | null
  readonly scheduledAt: string | null
}

export interface ClusterView {
  /** Null: nobody leads; `vacancy` says how we know. */
  readonly leader: Leader | null
  readonly vacancy: string
  readonly members: readonly ViewMember[]
  /** The cluster's system identifier; null while unknown or while somebody bootstraps. */
  readonly systemIdentifier: string | null
  readonly dynamic: DynamicConfig
  readonly history: readonly HistoryLine[]
  readonly failover: FailoverRequest | null
}

export interface SourceEvents {
  /** A new whole view. Emitted again only when something in it differs. */
  view(view: ClusterView): void
  /**
   * The store answered a question that was sent at `sentMs`: the last view is still the truth. Not
   * before `leaseExpiresMs` can the leader's lease run out; null when that is not known.
   */
  contact(sentMs: number, leaseExpiresMs: number | null): void
  /** The store does not answer, or not sensibly; one clause for people. */
  trouble(reason: string): void
}

export interface Source {
  readonly kind: 'etcd' | 'patroni' | 'static'
  /** After this long without contact the source counts as gone. Infinity: it cannot go. */
  readonly blindMs: number
  start(): void
  stop(): Promise<void>
  /** Faster asking while there is no primary. */
  setBusy(busy: boolean): void
}
