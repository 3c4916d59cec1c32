/**
 * A session behind the loss of a server: what is under way is given up, taken back or repeated, as
 * loss.ts says. What the session does next is left to it.
 */
import type { ProxyError } from '../base/errors.ts'
import type { ServerConnection } from '../server/connection.ts'
import * as frame from '../wire/frame.ts'
import type { Attempt } from './attempt.ts'
import { noteAnswer } from './causal.ts'
import type { Input } from './input.ts'
import type { Lease } from './lease.ts'
import { endOf, mayOutlive, type Outcome, outcomeOf } from './loss.ts'
import type { Replies } from './replies.ts'
import type { Session } from './session.ts'

/** What only the session has. */
export interface Parts {
  readonly attempt: Attempt
  readonly input: Input
  readonly lease: Lease
  readonly replies: Replies
  /** It was leaving the server for the primary. */
  readonly isMoving: boolean
}

export type After =
  /** The server was not the session's any more. */
  | { readonly kind: 'nothing' }
  | { readonly kind: 'end'; readonly error: ProxyError }
  /** The batch is in the input again: a replica is wanted. */
  | { readonly kind: 'repeat' }
  | { readonly kind: 'told'; readonly replies: Buffer }

export function afterLoss(
  session: Session,
  parts: Parts,
  error: ProxyError,
  server: ServerConnection,
): After {
  const { lease, replies } = parts
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
  if (!isCut && mayOutlive(session, error)) return goOn(session, parts, { error, server, outcome })
  lease.lost(server)
  session.hasEndBeenTold ||= isCut
  return { kind: 'end', error: endOf(session, error, outcome.isUnknown) }
}

interface Lost {
  readonly error: ProxyError
  readonly server: ServerConnection
  readonly outcome: Outcome
}

function goOn(session: Session, parts: Parts, { error, server, outcome }: Lost): After {
  const { attempt, input, isMoving, lease, replies } = parts
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
