/**
 * Connections for replication clients: one server per client, never reused, counted under the same
 * limits as the others.
 */
import { ProxyError } from '../base/errors.ts'
import type { ServerConnection } from './connection.ts'
import type { PoolContext } from './context.ts'
import type { MemberPool } from './member-pool.ts'
import type { Pool } from './pool.ts'
import type { Replication } from './target.ts'

export interface ReplicationRequest {
  readonly replication: Exclude<Replication, 'none'>
  /** 'replica' with route = replica. */
  readonly role: 'primary' | 'replica'
  /** The client's own startup parameters besides user, database and replication. */
  readonly parameters: ReadonlyMap<string, string>
}

interface ReplicationServer {
  readonly server: ServerConnection
  readonly member: MemberPool
}

/** The server holds a slot of the member's limits; who closes it gives that back. */
export async function openReplicationServer(
  pool: Pool,
  request: ReplicationRequest,
  context: PoolContext,
): Promise<ReplicationServer> {
  const member = memberFor(pool, request.role, context)
  const [address] = member.addresses
  if (address === undefined || !context.makeRoom(pool, member.slot))
    throw new ProxyError('replication_refused', { reason: 'the limits of servers are reached' })
  const { role } = member
  const term = role === 'primary' ? context.view.topology.term : 0
  const target = {
    ...pool.opener.target({ role, term }, member, address),
    parameters: request.parameters,
    replication: request.replication,
  }
  context.limits.take(member.slot)
  try {
    const opened = await context.connect(target)
    const isStale = role === 'primary' && term !== context.view.topology.term
    if (!isStale && !member.isGone) return { server: pool.opener.adopt(target, opened), member }
    opened.channel.destroy()
    throw new ProxyError('replication_refused', { reason: 'the cluster changed meanwhile' })
  } catch (error) {
    context.limits.give(member.slot)
    throw error
  }
}

function memberFor(pool: Pool, role: 'primary' | 'replica', context: PoolContext): MemberPool {
  const { roster } = pool
  const member =
    roster.plain ?? (role === 'replica' ? roster.draw(roster.view.eligible) : roster.primary)
  if (member !== undefined) return member
  const { missing } = context.view.topology
  const reason = role === 'replica' ? 'no replica is eligible' : missing
  throw new ProxyError('replication_refused', { reason })
}
