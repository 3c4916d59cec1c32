/**
 * A session behind the loss of a server: what is under way is given up, taken back or repeated, as
 * loss.ts says. What the session does next is left to it.
 */
import type { ProxyError } from '../base/errors.ts'
import type { ServerConnection } from '../server/connection.ts'
import * as frame from '../wire/frame.ts'
import { completes, type Entry } from '../wire/ledger.ts'
import { noteAnswer } from './causal.ts'
import { endOf, type Loss, mayOutlive, type Outcome, outcomeOf } from './loss.ts'
import type { Relay } from './relay.ts'
import type { Parts } from './sending.ts'
import type { Session } from './session.ts'
import { READS } from './stake.ts'
import { plainEntry } from './work.ts'

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

/** The server that it shared with others. `isHead`  it was its turn. */
export interface LostRide {
  readonly error: ProxyError
  readonly server: ServerConnection
  readonly relay: Relay
  readonly isHead: boolean
}

/**
 * A read on a server with read-only transactions. What stood behind the first was not begun, or ran
 * for nobody: it may always go once more.
 */
export function afterRide(session: Session, parts: Parts, ride: LostRide): After {
  const { error, isHead, relay, server } = ride
  const isCut = isHead && relay.isClientMidMessage
  session.hasEndBeenTold ||= isCut
  if (isCut || !mayOutlive(session, error))
    return { kind: 'end', error: endOf(session, error, false) }
  const mayRepeat = !isHead || (!relay.hasAnswered && !mayBeItsDoing(relay, error))
  const bytes = mayRepeat ? parts.attempt.takeBackLost() : null
  const outcome = outcomeOf(lossOfRide(parts, ride), session.services.config().pgsteer.errorCodes)
  parts.replies.reset()
  session.carried.rollback()
  if (bytes !== null) return repeat(session, parts, { bytes, server })
  parts.attempt.end()
  return tell(session, outcome, isHead ? relay.unsent : NOTHING)
}

/** Behind the first nothing was answered, and its entries stand behind others. */
function lossOfRide({ replies }: Parts, { isHead, relay, server }: LostRide): Loss {
  return {
    owed: isHead ? firstUnit(server.owedAtEnd) : [LONE_READ],
    answeredStake: isHead ? relay.answeredStake : 0,
    completes: isHead ? relay.completes : 0,
    hasFailed: isHead && replies.hasFailed,
    isUnsynced: false,
    isOpen: false,
    isFailed: false,
    isReplica: true,
    isAborted: relay.lastWord === 'shutdown',
  }
}

const NOTHING = Buffer.alloc(0)
const LONE_READ = plainEntry('query', READS)

/** Up to what a ReadyForQuery would have answered. */
function firstUnit(owed: readonly Entry[]): readonly Entry[] {
  const end = owed.findIndex(({ kind }) => completes(kind, frame.READY_FOR_QUERY))
  return end === -1 ? owed : owed.slice(0, end + 1)
}

/** What it was doing may have crashed it. */
function mayBeItsDoing({ lastWord }: Relay, { code }: ProxyError): boolean {
  return lastWord === 'crashed' || (lastWord === 'none' && code === 'server_lost')
}

interface Lost extends LostServer {
  readonly outcome: Outcome
}

function goOn(session: Session, parts: Parts, { error, isMoving, outcome, server }: Lost): After {
  const { attempt, lease, replies } = parts
  const { carried, meter, transaction } = session
  const { unsent } = lease.relay
  const isFree = transaction.state === 'idle' && !lease.isMidBatch
  const repeated = isFree && lease.mayRepeat(error) ? attempt.takeBackLost() : null
  if (repeated === null && !isMoving) dropRest(parts, outcome)
  lease.lost(server)
  replies.reset()
  carried.rollback()
  noteAnswer(session, server)
  if (isMoving) {
    meter.gaveUp()
    return { kind: 'repeat' }
  }
  if (repeated === null) {
    attempt.end()
    return tell(session, outcome, unsent)
  }
  return repeat(session, parts, { bytes: repeated, server })
}

function repeat(
  session: Session,
  { input }: Parts,
  again: { readonly bytes: Buffer; readonly server: ServerConnection },
): After {
  session.prepared.rewind()
  input.unshift(again.bytes)
  session.avoidedMember = again.server.identity.member
  session.routeReason = 'repeated'
  session.meter.again('repeated')
  return { kind: 'repeat' }
}

/** What still comes of messages that the lost server got in part is void. */
function dropRest({ input, lease }: Parts, { isRestVoid }: Outcome): void {
  const { passingBytes } = lease.forwarder
  if (passingBytes > 0) input.dropMessage(passingBytes)
  if (isRestVoid) input.dropToSync()
}

/** `unsent`  what of the answer its client did not get yet. */
function tell(
  { meter, prepared, services, transaction }: Session,
  outcome: Outcome,
  unsent: Buffer,
): After {
  meter.gaveUp()
  prepared.unmark()
  prepared.endTransaction()
  const nowMs = services.clock.nowMs()
  if (outcome.isOpen) transaction.lose(outcome.isTold, nowMs)
  else if (outcome.sqlstates.length > 0) transaction.endByLoss(nowMs)
  else transaction.ready(frame.STATUS_IDLE, nowMs)
  for (const sqlstate of outcome.sqlstates) meter.failed(sqlstate)
  return { kind: 'told', replies: Buffer.concat([unsent, outcome.replies]) }
}
