/**
 * What a statement that completed changes in its session. Called once per CommandComplete, in
 * order, with the statement that it ends.
 */
import type { Classified, Statement, Verb } from '../routing/classify.ts'
import type { ServerConnection } from '../server/connection.ts'
import { noticeResponse } from '../wire/messages.ts'
import type { Session } from './session.ts'

interface Completed {
  readonly statement: Statement
  /** The command tag: COMMIT of a failed transaction answers ROLLBACK. */
  readonly tag: string
  readonly server: ServerConnection
}

type Effect = (session: Session, completed: Completed) => void

const commit: Effect = ({ carried }, { tag }) => {
  if (tag === 'ROLLBACK') carried.rollback()
  else carried.commit()
}

const EFFECTS: ReadonlyMap<Verb, Effect> = new Map<Verb, Effect>([
  ['commit', commit],
  ['prepare_transaction', commit],
  ['rollback', ({ carried }) => carried.rollback()],
  ['savepoint', ({ carried }, { statement }) => carried.savepoint(statement.name ?? '')],
  ['rollback_to', ({ carried }, { statement }) => carried.rollbackTo(statement.name ?? '')],
  ['release', ({ carried }, { statement }) => carried.release(statement.name ?? '')],
  [
    'set',
    ({ carried }, { statement }) => carried.set(statement.name ?? '', statement.value ?? 'DEFAULT'),
  ],
  [
    'set_local',
    ({ carried }, { statement }) => carried.setLocal(statement.name ?? '', statement.value),
  ],
  ['reset', ({ carried }, { statement }) => carried.reset(statement.name ?? '')],
  ['reset_all', ({ carried }) => carried.resetAll(false)],
  ['deallocate', deallocate],
  ['discard', discard],
])

/**
 * One SELECT that is proved to read, and leaves, names and gives back nothing: what most batches are
 * made of. No statement is answered, refused or changed for it, and none is noted.
 */
export function isOrdinary({ statements }: Classified): boolean {
  const statement = statements[0]
  return (
    statement !== undefined &&
    statement.verb === 'select' &&
    statement.read &&
    !statement.unclean &&
    statement.name === undefined &&
    statements.length === 1 &&
    !isEffective(statement)
  )
}

/**
 * One INSERT, UPDATE or DELETE that leaves, names and gives back nothing that the session has to know
 * of: all that is to be noted is that it writes.
 */
export function isPlainWrite({ statements }: Classified): boolean {
  const statement = statements[0]
  if (statement === undefined || statements.length !== 1) return false
  const { name, reason, unclean, verb } = statement
  const isWrite = verb === 'update' || verb === 'insert' || verb === 'delete'
  const isPlain = isWrite && reason === 'verb' && !unclean && name === undefined
  return isPlain && !isEffective(statement)
}

/** Whether any of its statements changes the session when it succeeds. */
export function hasEffects({ statements }: Classified): boolean {
  for (const statement of statements) if (isEffective(statement)) return true
  return false
}

function isEffective(statement: Statement): boolean {
  return (
    // The usual one is not looked up.
    (statement.verb !== 'select' && EFFECTS.has(statement.verb)) ||
    statement.pins !== undefined ||
    statement.unpins !== undefined ||
    statement.names !== undefined ||
    statement.advisoryUnlock === true
  )
}

/** Returns what the client is told about it, or null. */
export function applyEffect(session: Session, completed: Completed): Buffer | null {
  EFFECTS.get(completed.statement.verb)?.(session, completed)
  const notices: Buffer[] = []
  for (const reason of session.pins.apply(completed.statement)) {
    session.services.counters.pins.add(reason)
    if (session.pool.config.sessionState === 'warn')
      notices.push(noticeResponse(`pgsteer: the session is tied to its server (${reason})`))
  }
  return notices.length === 0 ? null : Buffer.concat(notices)
}

/**
 * DEALLOCATE reached the server. ALL: nothing is prepared there any more, by anybody. A name of the
 * protocol level was sent as its name there (forward.ts); any other was made by PREPARE.
 */
function deallocate({ prepared, pins }: Session, { statement, server }: Completed): void {
  const { name } = statement
  if (name === undefined) {
    server.statements.clear()
    prepared.clear()
    return
  }
  const own = prepared.get(name)
  if (own === undefined) {
    pins.lower('sql_prepare')
    return
  }
  server.statements.remove(own.statement)
  prepared.remove(name)
}

function discard(session: Session, { statement, server }: Completed): void {
  if (statement.name !== 'all') return
  session.carried.resetAll(true)
  session.prepared.clear()
  server.statements.clear()
}
