/**
 * Connections for replication clients: one server per client, never reused, counted under the same
 * limits as the others.
 */
import { ProxyError } from '../base/errors.ts'
import type { ServerConnection } from './connection.ts'
import type { PoolContext } from './context.ts'
import type { MemberPool } from './member-pool.ts'
import type { Opener } from './opener.ts'
import type { Pool } from './pool.ts'
import type { Replication } from './target.ts'

export interface ReplicationRequest {
  readonly replication: Exclude<Replication, 'none'>
  /** 'replica' with route = replica. */
  readonly role: 'primary' | 'replica'
  /** The client's own startup parameters besides user, database and replication. */
  readonly parameters: ReadonlyMap<string, string>
}

interface ReplicationOptions {
  readonly request: ReplicationRequest
  readonly member: MemberPool
  readonly context: PoolContext
  readonly opener: Opener
}

/** The server holds a slot of the member's limits; who closes it gives that back. */
export async function openReplicationServer(
  pool: Pool,
  options: ReplicationOptions,
): Promise<ServerConnection> {
  const { member, context, opener, request } = options
  if (!context.makeRoom(pool, member.slot))
    throw new ProxyError('replication_refused', { reason: 'the limits of servers are reached' })
  const { role } = member
  const term = role === 'primary' ? context.view.topology.term : 0
  const [address] = member.addresses
  if (address === undefined)
    throw new ProxyError('replication_refused', { reason: 'the member has no address' })
  const target = {
    ...opener.target({ role, term }, member, address),
    parameters: request.parameters,
    replication: request.replication,
  }
  context.limits.take(member.slot)
  try {
    const opened = await context.connect(target)
    const isStale = role === 'primary' && term !== context.view.topology.term
    if (!isStale && !member.isGone) return opener.adopt(target, opened)
    const reason = 'the cluster changed during the log-in'
    opened.channel.destroy()
    throw new ProxyError('replication_refused', { reason })
  } catch (error) {
    context.limits.give(member.slot)
    throw error
  }
}
