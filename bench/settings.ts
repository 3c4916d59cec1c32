/**
 * What all contenders of a shape have in common, and what they stand in front of.
 */
import type { EmbeddedCluster } from '../src/demo/cluster.ts'

export interface PoolerSettings {
  readonly poolSize: number
  readonly poolMode: 'transaction' | 'session'
  readonly authType: 'scram-sha-256' | 'trust'
  readonly clientsMax: number
  /** Clients log in with TLS. */
  readonly isTls: boolean
  /** Processes that serve clients; the pool is that of all of them. */
  readonly workers: number
  /** Reads go to replicas, where a pooler can do that. */
  readonly isSplit: boolean
}

export interface Bench {
  readonly cluster: EmbeddedCluster
  /** Another PgBouncer than the newest of Debian. */
  readonly pgbouncer: string | null
  /** Another checkout of pgsteer. */
  readonly before: string | null
  readonly nodeOptions: string
}
