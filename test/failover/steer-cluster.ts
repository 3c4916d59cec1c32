/**
 * A Patroni cluster with an application's role, database and table in it, and pgsteer in front of
 * it as an operator would configure it for each source.
 */
import type { ClientConfig } from 'pg'
import { Client } from 'pg'
import { PatroniCluster, type PatroniOptions, PROBE, SCOPE } from '../support/patroni.ts'
import { type Servers, Steer, type SteerOptions } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

export const USER = 'demo'
export const DATABASE = 'demo'

/**
 * What writers fill. Nothing in it is unique, so that a statement that ran twice shows; the server
 * itself notes where a row was written, and where its WAL was then.
 */
const TABLE = `create table written (
  id text not null, port int default inet_server_port(), at timestamptz default clock_timestamp(),
  lsn pg_lsn default pg_current_wal_insert_lsn())`

/** Starts the cluster and returns when the application's table is on all members. */
export async function startCluster(options: PatroniOptions): Promise<PatroniCluster> {
  const cluster = await PatroniCluster.start(options)
  try {
    await furnish(cluster)
    return cluster
  } catch (error) {
    await cluster.stop()
    throw error
  }
}

/** The application's role, database and table, on all members. */
export async function furnish(cluster: PatroniCluster): Promise<void> {
  const leader = (await cluster.leader()) ?? ''
  await cluster.query(leader, `create role ${USER} login password '${USER}'`)
  await cluster.query(leader, `create database ${DATABASE} owner ${USER}`)
  await ask(cluster, leader, TABLE)
  for (const { name } of cluster.members)
    await waitFor(`the table on ${name}`, () => ask(cluster, name, 'table written limit 0'), {
      withinMs: 30_000,
    })
}

/** One statement on one member as the application, without pgsteer in between. */
export async function ask(
  cluster: PatroniCluster,
  name: string,
  sql: string,
  options: ClientConfig = {},
): Promise<Record<string, unknown>[]> {
  const { host, port } = cluster.member(name)
  const client = new Client({
    host,
    port,
    user: USER,
    password: USER,
    database: DATABASE,
    connectionTimeoutMillis: 2000,
    query_timeout: 10_000,
    ...options,
  })
  client.on('error', () => undefined)
  try {
    await client.connect()
    return (await client.query<Record<string, unknown>>(sql)).rows
  } finally {
    await client.end().catch(() => undefined)
  }
}

/** [cluster] for each source. */
function keysOf(cluster: PatroniCluster, source: string): Record<string, string> {
  const etcdHosts = cluster.etcdHosts.join(', ')
  const patroniUrls = cluster.members.map((member) => member.restUrl).join(', ')
  const common = { source, probe_user: PROBE.user, probe_password: PROBE.password }
  if (source === 'etcd') return { ...common, scope: SCOPE, etcd_hosts: etcdHosts }
  if (source === 'patroni') return { ...common, patroni_urls: patroniUrls }
  return { ...common, ttl_ms: '20000' }
}

/** pgsteer in front of all members; `members`: where a static source finds them, if not there. */
export function startSteer(
  cluster: PatroniCluster,
  source: 'etcd' | 'patroni' | 'static',
  { members = cluster.members, ...options }: SteerOptions & Partial<NonNullable<Servers>> = {},
): Promise<Steer> {
  const keys = { ...keysOf(cluster, source), probe_interval_ms: 250, ...options.cluster }
  return Steer.start({ members }, { ...options, cluster: keys })
}

/** What of /api/cluster tests look at. */
export interface Sight {
  readonly term: number
  readonly primary: string | null
  readonly missing: string
  readonly withoutPrimaryMs: number
  readonly switchover: { readonly candidate: string | null; readonly holds: boolean } | null
  readonly hooks: Readonly<Record<string, boolean>>
  readonly source: { readonly state: string }
  readonly members: readonly {
    readonly name: string
    readonly port: number
    readonly isEligible: boolean
    readonly ineligibleReason: string | null
  }[]
}

/** The cluster as pgsteer sees it now. */
export async function sight(steer: Steer): Promise<Sight> {
  const url = `http://${steer.host}:${steer.httpPort}/api/cluster`
  const response = await fetch(url, { signal: AbortSignal.timeout(5000) })
  return (await response.json()) as Sight
}

/** Waits until pgsteer has a primary and so many replicas that may serve reads; returns its port. */
export function settled(steer: Steer, replicas: number): Promise<number> {
  const what = `a primary and ${replicas} fit replicas`
  return waitFor(
    what,
    async () => {
      const { primary, members } = await sight(steer)
      const fit = members.filter((member) => member.isEligible)
      if (fit.length !== replicas) return undefined
      return members.find((member) => member.name === primary)?.port
    },
    { withinMs: 90_000, everyMs: 100 },
  )
}

/** Waits until Patroni has a synchronous standby: without one it neither switches nor fails over. */
export async function synchronous(cluster: PatroniCluster): Promise<void> {
  const [any] = cluster.members
  await waitFor(
    'a synchronous standby',
    async () => {
      const response = await fetch(`${any?.restUrl}/cluster`, { signal: AbortSignal.timeout(2000) })
      const { members } = (await response.json()) as { members: { role: string }[] }
      return members.some(({ role }) => /^(?:sync|quorum)_standby$/.test(role))
    },
    { withinMs: 90_000, everyMs: 100 },
  )
}
