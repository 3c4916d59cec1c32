/**
 * What a statement that completed changes in its session. Called once per CommandComplete, in
 * order, with the statement that it ends.
 */
import type { Statement } from '../routing/classify.ts'
import type { ServerConnection } from '../server/connection.ts'
import { NO_SETTINGS } from '../server/settings.ts'
import { noticeResponse } from '../wire/messages.ts'
import type { Session } from './session.ts'

/** `tag` is the command tag: COMMIT of a failed transaction answers ROLLBACK. */
export function applyEffect(
  session: Session,
  statement: Statement,
  tag: string,
  server: ServerConnection,
): void {
  const { carried, prepared, pins } = session
  switch (statement.verb) {
    case 'commit':
    case 'prepare_transaction':
      if (tag === 'ROLLBACK') carried.rollback()
      else carried.commit()
      break
    case 'rollback':
      carried.rollback()
      break
    case 'savepoint':
      carried.savepoint(statement.name ?? '')
      break
    case 'rollback_to':
      carried.rollbackTo(statement.name ?? '')
      break
    case 'release':
      carried.release(statement.name ?? '')
      break
    case 'set':
      carried.set(statement.name ?? '', statement.value ?? 'DEFAULT')
      break
    case 'reset':
      carried.reset(statement.name ?? '')
      break
    case 'reset_all':
      carried.resetAll(false)
      break
    case 'deallocate':
      if (statement.name === undefined) {
        server.statements.clear()
        prepared.clear()
      }
      break
    case 'discard':
      discard(session, statement, server)
      break
    default:
  }
  for (const reason of pins.apply(statement)) {
    session.services.counters.pins.add(reason)
    if (session.pool.config.sessionState === 'warn')
      session.send(noticeResponse(`pgsteer: the session is tied to its server (${reason})`))
  }
}

function discard(session: Session, statement: Statement, server: ServerConnection): void {
  if (statement.name !== 'all') return
  session.carried.resetAll(true)
  session.prepared.clear()
  server.statements.clear()
  // The server is as at its log-in; what the session asked for at its own start is not there.
  server.settings = NO_SETTINGS
}
