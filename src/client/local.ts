/**
 * Answers that need no server: the replies to a whole batch, message by message, as a server would
 * have sent them.
 */
import { ProxyError } from '../base/errors.ts'
import { firstStatement } from '../routing/classify.ts'
import { unnamedStatement } from '../server/prepared.ts'
import * as frame from '../wire/frame.ts'
import {
  BIND_COMPLETE_FRAME,
  CLOSE_COMPLETE_FRAME,
  commandComplete,
  dataRow,
  type ErrorCodes,
  errorResponse,
  fixed,
  NO_DATA_FRAME,
  PARSE_COMPLETE_FRAME,
  readyForQuery,
  report,
  rowDescription,
} from '../wire/messages.ts'
import { FrameReader } from '../wire/reader.ts'
import type { Completion } from './decide.ts'
import type { Parts } from './sending.ts'
import type { Session } from './session.ts'
import { changeToken } from './token.ts'

const STATEMENT = 0x53
export const NO_PARAMETERS = fixed(frame.PARAMETER_DESCRIPTION, Buffer.alloc(2))

/** Source  EndTransactionBlock and UserAbortTransactionBlock in xact.c. */
const NO_TRANSACTION = report(frame.NOTICE_RESPONSE, {
  S: 'WARNING',
  V: 'WARNING',
  C: '25P01',
  M: 'there is no transaction in progress',
})

/** OID of text. */
const TEXT = 25

/**
 * The batch at the front of the input, or its first statement, is answered as a server would have
 * done. Returns the replies, or why it is refused.
 */
export function completeNext(
  session: Session,
  { attempt, input }: Pick<Parts, 'attempt' | 'input'>,
  completion: Completion,
): Buffer | ProxyError {
  if (attempt.query !== null && isBare(completion)) {
    input.take(attempt.bytes)
    return completeBare(session, completion)
  }
  const batch = input.bytes.subarray(0, completion.bytes ?? attempt.bytes)
  const refusal = enterNames(session, batch)
  if (refusal !== null) return refusal
  const replies = completeBatch(session, batch, completion)
  input.take(batch.length)
  if (completion.isFirst === true) input.unshift(withoutFirst(batch))
  return replies
}

/** Nothing but a tag and a status: what most transactions begin with. */
function isBare({ begins, bytes, change, isFirst, isWarned, row }: Completion): boolean {
  const isWhole = isFirst !== true && bytes === undefined && begins === undefined
  return isWhole && row === undefined && change === undefined && isWarned !== true
}

/** By tag and status; the tags of ours are few. */
const BARE_REPLIES = new Map<string, Map<number, Buffer>>()

/** One whole Query. */
function completeBare(session: Session, { status, tag }: Completion): Buffer {
  session.meter.answeredLocally(status === frame.STATUS_IDLE)
  if (status === frame.STATUS_IDLE) endTransaction(session, tag)
  const replies = BARE_REPLIES.get(tag) ?? new Map<number, Buffer>()
  const reply = replies.get(status) ?? Buffer.concat([commandComplete(tag), readyForQuery(status)])
  BARE_REPLIES.set(tag, replies.set(status, reply))
  return reply
}

/** The batch at the front of the input is dropped. Returns the error for its client. */
export function refuseNext(
  session: Session,
  { attempt, input }: Pick<Parts, 'attempt' | 'input'>,
  error: ProxyError,
): Buffer {
  const { services, transaction } = session
  noteRefusal(session, error)
  if (transaction.state === 'deferred' || transaction.state === 'lost')
    transaction.lose(true, services.clock.nowMs())
  const isReady = input.dropBatch(attempt)
  return refuseBatch(error, services.config().pgsteer.errorCodes, transaction.status, isReady)
}

/**
 * A batch of one statement, of one row at most, succeeded: what it changes in the session, and the
 * replies.
 *
 * `status`  the transaction status that its ReadyForQuery tells.
 */
function completeBatch(session: Session, batch: Buffer, completion: Completion): Buffer {
  const { begins, change, isFirst, isWarned, row, status, tag } = completion
  session.meter.answeredLocally(status === frame.STATUS_IDLE)
  if (change !== undefined) changeToken(session, change)
  if (status === frame.STATUS_IDLE || begins !== undefined) endTransaction(session, tag)
  if (begins !== undefined) beginNext(session, begins)
  if (isFirst === true) return commandComplete(tag)
  const replies: Buffer[] = isWarned === true ? [NO_TRANSACTION] : []
  const described =
    row === undefined ? NO_DATA_FRAME : rowDescription([{ name: row.name, type: TEXT }])
  const rows = row === undefined ? [] : [dataRow([row.value])]
  for (const { type, subject } of messagesOf(batch))
    switch (type) {
      case frame.QUERY:
        if (row !== undefined) replies.push(described)
        replies.push(...rows, commandComplete(tag), readyForQuery(status))
        break
      case frame.PARSE:
        replies.push(PARSE_COMPLETE_FRAME)
        break
      case frame.BIND:
        replies.push(BIND_COMPLETE_FRAME)
        break
      case frame.DESCRIBE:
        if (subject === STATEMENT) replies.push(NO_PARAMETERS)
        replies.push(described)
        break
      case frame.EXECUTE:
        replies.push(...rows, commandComplete(tag))
        break
      case frame.CLOSE:
        replies.push(CLOSE_COMPLETE_FRAME)
        break
      case frame.SYNC:
        replies.push(readyForQuery(status))
        break
      default:
    }
  return Buffer.concat(replies)
}

function endTransaction({ carried, services, transaction }: Session, tag: string): void {
  transaction.ready(frame.STATUS_IDLE, services.clock.nowMs())
  if (tag === 'ROLLBACK') carried.rollback()
  else carried.commit()
}

function beginNext({ classify, services, transaction }: Session, text: string): void {
  transaction.defer(text, classify(text), services.clock.nowMs())
}

/**
 * A Query without its first statement, which was answered: spaces stand in its place, so that what
 * PostgreSQL says of a position in the text holds.
 */
function withoutFirst(batch: Buffer): Buffer {
  const text = batch.toString('latin1', frame.HEADER_BYTES, batch.length - 1)
  const { start, end } = firstStatement(text)
  return Buffer.from(batch).fill(0x20, frame.HEADER_BYTES + start, frame.HEADER_BYTES + end)
}

/**
 * Takes over the names that a batch gives and gives up, as if a server had seen it. Returns why it
 * may not, and has changed nothing then: of a batch that is refused nobody answers a part.
 */
function enterNames(session: Session, batch: Buffer): ProxyError | null {
  const { carried, classify, prepared, services } = session
  const reader = new FrameReader()
  const undo: (() => void)[] = []
  let offset = 0
  for (; batch.length - offset >= frame.HEADER_BYTES; offset += frame.frameBytes(batch, offset)) {
    const type = batch[offset] ?? 0
    const end = offset + frame.frameBytes(batch, offset)
    reader.begin(batch, offset + frame.HEADER_BYTES, end)
    if (type === frame.CLOSE && reader.byte() === STATEMENT) {
      const restore = prepared.remove(reader.cstring())
      if (restore !== null) undo.push(restore)
    }
    if (type !== frame.PARSE) continue
    const name = reader.cstring()
    if (prepared.takenBy(name) !== null) {
      for (const restore of undo.toReversed()) restore()
      return new ProxyError('prepared_exists', { name: latin1ToUtf8(name) })
    }
    const body = Buffer.from(batch.subarray(reader.offset, end))
    const text = reader.cstring()
    const statement =
      name === ''
        ? unnamedStatement(text, body)
        : services.registry.hold(text, body, carried.current)
    undo.push(prepared.enter(name, { statement, classified: classify(text) }))
  }
  return null
}

function latin1ToUtf8(text: string): string {
  return Buffer.from(text, 'latin1').toString()
}

/** A batch was refused. Without a Sync of its own no ReadyForQuery is due yet. */
export function refuseBatch(
  error: ProxyError,
  codes: ErrorCodes,
  status: number,
  endsReady: boolean,
): Buffer {
  const reply = errorResponse(error, codes)
  return endsReady ? Buffer.concat([reply, readyForQuery(status)]) : reply
}

/** An error of ours goes to the client: it is counted and logged. */
export function noteRefusal(session: Session, error: ProxyError): void {
  const { clientId: client, database, meter, services, user } = session
  const { level } = error.row
  meter.refused(error)
  if (level !== null && services.config().pgbouncer.logPoolerErrors)
    services.log[level]({ client, database, user, code: error.code }, error.message)
}

function* messagesOf(batch: Buffer): IterableIterator<{ type: number; subject: number }> {
  let offset = 0
  while (batch.length - offset >= frame.HEADER_BYTES) {
    yield { type: batch[offset] ?? 0, subject: batch[offset + frame.HEADER_BYTES] ?? 0 }
    offset += frame.frameBytes(batch, offset)
  }
}
