/**
 * When it matters to a session what its server died of: the server ended without a word under a read
 * that would be sent once more, had the read not possibly been what crashed it.
 */
import type { LostServer } from './aftermath.ts'
import { mayOutlive } from './loss.ts'
import type { Parts } from './sending.ts'
import type { Session } from './session.ts'

/** A read under which one server was lost already is not given the benefit a second time. */
export function isDoubted(
  session: Session,
  { attempt, lease }: Parts,
  { error, server }: LostServer,
): boolean {
  if (lease.server !== server || session.transaction.state !== 'idle') return false
  if (lease.isMidBatch || !attempt.isRetained || session.avoidedMember !== null) return false
  return lease.isDoubted(error) && mayOutlive(session, error)
}
