/** What is told of a pool and its servers when somebody asks; read only, made when asked. */
import type { Clock } from '../base/clock.ts'
import type { ServerConnection } from './connection.ts'
import type { PoolContext } from './context.ts'
import type { PoolFacts, ServerFacts } from './facts.ts'
import { shareOf } from './limits.ts'
import type { Pool } from './pool.ts'
import type { Replication } from './target.ts'
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

export interface ServerFactsOptions {
  readonly clock: Clock
  readonly database: string
  readonly user: string
  readonly replication: Replication
}

export function serverFacts(server: ServerConnection, options: ServerFactsOptions): ServerFacts {
  const { identity, channel } = server
  const sinceBootMs = options.clock.wallMs() - options.clock.nowMs()
  return {
    id: server.id,
    database: options.database,
    user: options.user,
    member: identity.member,
    role: identity.role,
    state: server.state,
    address: channel.isUnix ? 'unix' : channel.remoteAddress,
    port: identity.port,
    localAddress: channel.localAddress,
    localPort: channel.localPort,
    connectedWallMs: sinceBootMs + server.openedMs,
    requestWallMs: sinceBootMs + (server.requestMs === 0 ? server.openedMs : server.requestMs),
    isDoomed: server.isDoomed,
    clientId: (server.holder as Partial<Waiter> | null)?.clientId ?? null,
    processId: server.processId,
    tls: tlsOf(server),
    applicationName: server.parameters.get('application_name') ?? '',
    preparedStatements: server.statements.size,
    replication: options.replication,
  }
}

/** As PgBouncer prints it: `TLSv1.3/TLS_AES_256_GCM_SHA384`. */
function tlsOf(server: ServerConnection): string {
  const { tls } = server.channel
  if (tls === null) return ''
  return `${tls.getProtocol() ?? 'TLS'}/${tls.getCipher().standardName}`
}
