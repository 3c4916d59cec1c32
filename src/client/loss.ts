/**
 * What a client gets when a replica goes away while it works for it: an error for the statement in
 * flight, and its connection stays. Nothing was written there, so it may be run again. A transaction
 * that was open there is lost: it is refused until the client ends it.
 */
import { ProxyError } from '../base/errors.ts'
import type { ServerConnection } from '../server/connection.ts'
import * as frame from '../wire/frame.ts'
import { type ErrorCodes, errorResponse, readyForQuery } from '../wire/messages.ts'
import type { Lease } from './lease.ts'
import type { Session } from './session.ts'

/** Whether a session may go on without this server, if nothing is half sent when it goes. */
export function mayOutlive(session: Session, server: ServerConnection): boolean {
  const isReplica = server.identity.role === 'replica'
  return isReplica && session.pool.config.poolMode !== 'session' && !session.pins.isPinned
}

/** Whether the session goes on without the server that it holds. */
export function outlives(session: Session, lease: Lease, server: ServerConnection): boolean {
  return lease.server === server && mayOutlive(session, server) && !lease.isMidBatch
}

/**
 * The replies still owed. Each Sync and Query gets its own; the first says what happened, those
 * behind it that their transaction is over.
 *
 * `status`  what ReadyForQuery tells from here on.
 */
export function lossReplies(owed: number, status: number, codes: ErrorCodes): Buffer {
  const replies: Buffer[] = []
  for (let reply = 0; reply < owed; reply += 1) {
    const isLost = reply > 0 && status !== frame.STATUS_IDLE
    const error = new ProxyError(isLost ? 'transaction_lost' : 'replica_lost')
    replies.push(errorResponse(error, codes), readyForQuery(status))
  }
  return Buffer.concat(replies)
}
