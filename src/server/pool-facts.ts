/** What is told of a pool and its servers when somebody asks; read only, made when asked. */
import type { Clock } from '../base/clock.ts'
import type { Carrier } from './boarding.ts'
import type { ServerConnection } from './connection.ts'
import type { PoolContext } from './context.ts'
import type { PoolFacts, ServerFacts } from './facts.ts'
import { shareOf } from './limits.ts'
import type { Pool } from './pool.ts'
import type { Waiter } from './waiter.ts'

export function poolFacts(pool: Pool, context: PoolContext): PoolFacts {
  const { config } = pool
  const poolSize = shareOf(config.poolSize, context.config)
  return {
    database: pool.database,
    user: pool.user,
    poolMode: config.poolMode,
    poolSize,
    isRouted: config.isRouted,
    isPaused: pool.isPaused,
    isDisabled: context.isDisabled(pool.database),
    loadBalanceHosts: config.loadBalanceHosts,
    members: [...pool.roster.members.values()].map((member) => member.facts(poolSize)),
    waits: pool.waiting.facts(context.clock.nowMs()),
    serversOpened: pool.opener.opened,
    serversClosed: { ...pool.fleet.closedByReason },
    loginFailures: pool.opener.failures,
  }
}

/** Sessions with a statement or a transaction under way on the primary; replication is not counted. */
export function writesRunning(pool: Pool): number {
  let count = 0
  for (const server of pool.fleet.servers()) {
    if (server.identity.role !== 'primary' || server.state !== 'active') continue
    const holder = server.holder as Partial<Waiter> | null
    if (holder?.worksOn?.(server) === true) count += 1
  }
  return count
}

export function serversFacts(pool: Pool, clock: Clock): ServerFacts[] {
  const bootWallMs = clock.wallMs() - clock.nowMs()
  return [...pool.fleet.servers()].map((server) => serverFacts(server, pool, bootWallMs))
}

/** `bootWallMs`: the wall clock when the monotonic one was 0. */
function serverFacts(server: ServerConnection, pool: Pool, bootWallMs: number): ServerFacts {
  const { identity, channel } = server
  return {
    id: server.id,
    database: pool.database,
    user: pool.user,
    member: identity.member,
    role: identity.role,
    state: server.state,
    address: channel.isUnix ? 'unix' : channel.remoteAddress,
    port: identity.port,
    localAddress: channel.localAddress,
    localPort: channel.localPort,
    connectedWallMs: bootWallMs + server.openedMs,
    requestWallMs: bootWallMs + (server.requestMs === 0 ? server.openedMs : server.requestMs),
    isDoomed: server.isDoomed,
    clientId: (server.holder as Partial<Waiter> | null)?.clientId ?? null,
    riders: (server.holder as Partial<Carrier> | null)?.count ?? null,
    processId: server.processId,
    tls: tlsOf(server),
    applicationName: server.parameters.get('application_name') ?? '',
    preparedStatements: server.statements.size,
    replication: pool.fleet.replicationOf(server),
  }
}

/** As PgBouncer prints it: `TLSv1.3/TLS_AES_256_GCM_SHA384`. */
function tlsOf(server: ServerConnection): string {
  const { tls } = server.channel
  if (tls === null) return ''
  return `${tls.getProtocol() ?? 'TLS'}/${tls.getCipher().standardName}`
}
