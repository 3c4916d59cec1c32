/**
 * The cluster as the data plane sees it: one immutable value, replaced whole. The control plane
 * makes it, workers only read it. `term` grows only when the verified primary or a fence changes;
 * `serial` grows with every sample. It crosses process boundaries by structured clone.
 */

export type MemberRole = 'primary' | 'replica' | 'unknown'

/** One answer of a member to the probe. Times are the monotonic clock of the machine. */
export interface Sample {
  readonly sentMs: number
  readonly receivedMs: number
  readonly inRecovery: boolean
  readonly systemIdentifier: string
  readonly timeline: number
  /** `pg_current_wal_lsn()`, primary only. */
  readonly writeLsn: bigint | null
  /** `pg_current_wal_insert_lsn()`, primary only: the bound that read-your-writes needs. */
  readonly insertLsn: bigint | null
  readonly replayLsn: bigint | null
  readonly receiveLsn: bigint | null
  /** Changes when the postmaster was started again: what is replayed may have gone back. */
  readonly started?: string
}

export interface Member {
  readonly name: string
  readonly host: string
  readonly port: number
  readonly role: MemberRole
  /** Patroni's word for it: running, starting, creating replica, ... */
  readonly state: string
  /** The newest sample, kept when probes fail; its age is `now - sentMs`. */
  readonly sample: Sample | null
  /** Null when unknown: no answer is not lag 0. */
  readonly lagBytes: number | null
  readonly lagMs: number | null
  /** May serve reads under the thresholds; `ineligibleReason` is a short stable word, else null. */
  readonly eligible: boolean
  readonly ineligibleReason: string | null
  /**
   * Monotonic: connections made before this moment are dead or hang, and are to be destroyed: the
   * member was silent for two deadlines of the probe, or was started again. Null: none are.
   */
  readonly cutBeforeMs: number | null
  /**
   * Monotonic: since then it does not answer, when a connection of ours ended that was idle, without
   * a word: it was not a crash, of which PostgreSQL would have warned. Null or absent: not known.
   */
  readonly silentEndMs?: number | null
  readonly weight: number
  readonly zone: string | null
  readonly tags: Readonly<Record<string, string | number | boolean>>
}

/** Where a timeline ended: what lies beyond `lsn` on it is not part of the next one. */
export interface HistoryLine {
  readonly timeline: number
  readonly lsn: bigint
}

/** The primary is about to hand over, as planned. */
export interface Switchover {
  /** Null: Patroni chooses. */
  readonly candidate: string | null
  /** New write transactions wait for the new primary; until then pools only drain. */
  readonly holds: boolean
}

/**
 * Members whose Patroni announced its stop over `POST /api/drain` (true), or handed over without
 * (false), the last time.
 */
export type Hooks = Readonly<Record<string, boolean>>

export interface Topology {
  readonly term: number
  readonly serial: number
  /** Name of the verified primary; null means: hold writes. */
  readonly primary: string | null
  /** When `primary` is null: one sentence that says what is missing. */
  readonly missing: string
  readonly systemIdentifier: string | null
  readonly timeline: number | null
  readonly standbyCluster: boolean
  readonly paused: boolean
  readonly switchover: Switchover | null
  readonly hooks: Hooks
  /**
   * Monotonic: from this moment on nobody vouches for the primary, and what it still acknowledges
   * may be lost. Null: no such limit is known.
   */
  readonly writableUntilMs: number | null
  /** Of the timelines before the current one, oldest first, as far as the source tells. */
  readonly history: readonly HistoryLine[]
  readonly members: readonly Member[]
}

export const EMPTY_TOPOLOGY: Topology = {
  term: 0,
  serial: 0,
  primary: null,
  missing: 'the cluster has not been seen yet',
  systemIdentifier: null,
  timeline: null,
  standbyCluster: false,
  paused: false,
  switchover: null,
  hooks: {},
  writableUntilMs: null,
  history: [],
  members: [],
}

export function memberOf(topology: Topology, name: string): Member | undefined {
  return topology.members.find((member) => member.name === name)
}
