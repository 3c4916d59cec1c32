/**
 * A session behind the loss of a server: what is under way is given up, taken back or repeated, as
 * loss.ts says. What the session does next is left to it.
 */
import type { ProxyError } from '../base/errors.ts'
import type { ServerConnection } from '../server/connection.ts'
import * as frame from '../wire/frame.ts'
import { noteAnswer } from './causal.ts'
import { endOf, mayOutlive, type Outcome, outcomeOf } from './loss.ts'
import type { Parts } from './sending.ts'
import type { Session } from './session.ts'

export type After =
  /** The server was not the session's any more. */
  | { readonly kind: 'nothing' }
  | { readonly kind: 'end'; readonly error: ProxyError }
  /** The batch is in the input again: a replica is wanted. */
  | { readonly kind: 'repeat' }
  | { readonly kind: 'told'; readonly replies: Buffer }

/** `isMoving`  the session was leaving the server for the primary. */
export interface LostServer {
  readonly error: ProxyError
  readonly server: ServerConnection
  readonly isMoving: boolean
}

export function afterLoss(session: Session, parts: Parts, lostServer: LostServer): After {
  const { lease, replies } = parts
  const { error, server } = lostServer
  const { errorCodes } = session.services.config().pgsteer
  const lost = (): Outcome =>
    outcomeOf(lease.loss(replies.hasFailed, session.transaction), errorCodes)
  if (lease.server !== server) {
    // One that was lost before anything was sent to it has been replaced already.
    if (!lease.lost(server)) return { kind: 'nothing' }
    // What is under way on another server of the session is cut off with it.
    const isUnknown = lease.server !== null && lost().isUnknown
    return { kind: 'end', error: endOf(session, error, isUnknown) }
  }
  const outcome = lost()
  const isCut = lease.relay.isClientMidMessage
  if (!isCut && mayOutlive(session, error)) return goOn(session, parts, { ...lostServer, outcome })
  lease.lost(server)
  session.hasEndBeenTold ||= isCut
  return { kind: 'end', error: endOf(session, error, outcome.isUnknown) }
}

interface Lost extends LostServer {
  readonly outcome: Outcome
}

function goOn(session: Session, parts: Parts, { error, isMoving, outcome, server }: Lost): After {
  const { attempt, input, lease, replies } = parts
  const { carried, meter, prepared, transaction } = session
  const { keptBack } = lease.relay
  const isFree = transaction.state === 'idle' && !lease.isMidBatch
  const repeated = isFree && lease.mayRepeat(error) ? attempt.takeBackLost() : null
  if (repeated === null && !isMoving) dropRest(parts, outcome)
  lease.lost(server)
  replies.reset()
  meter.queryStartedMs = 0
  carried.rollback()
  noteAnswer(session, server)
  if (isMoving) return { kind: 'repeat' }
  if (repeated === null) {
    attempt.end()
    return tell(session, outcome, keptBack)
  }
  prepared.rewind()
  input.unshift(repeated)
  session.avoidedMember = server.identity.member
  session.routeReason = 'repeated'
  meter.routed('repeated')
  return { kind: 'repeat' }
}

/** What still comes of messages that the lost server got in part is void. */
function dropRest({ input, lease }: Parts, { isRestVoid }: Outcome): void {
  const { passingBytes } = lease.forwarder
  if (passingBytes > 0) input.dropMessage(passingBytes)
  if (isRestVoid) input.dropToSync()
}

/** `keptBack`  what the server had said before its farewell, and its client did not get. */
function tell(
  { meter, prepared, services, transaction }: Session,
  outcome: Outcome,
  keptBack: Buffer,
): After {
  prepared.unmark()
  prepared.endTransaction()
  const nowMs = services.clock.nowMs()
  if (outcome.isOpen) transaction.lose(outcome.isTold, nowMs)
  else if (outcome.sqlstates.length > 0) transaction.endByLoss(nowMs)
  else transaction.ready(frame.STATUS_IDLE, nowMs)
  for (const sqlstate of outcome.sqlstates) meter.failed(sqlstate)
  return { kind: 'told', replies: Buffer.concat([keptBack, outcome.replies]) }
}
