/**
 * The states of a session and the only moves between them; session.ts says what they mean.
 */

export const SESSION_STATES = ['idle', 'waiting', 'riding', 'settling', 'active', 'closed'] as const
export type SessionState = (typeof SESSION_STATES)[number]

export const NEXT_SESSION_STATES = {
  idle: ['waiting', 'settling', 'active', 'closed'],
  waiting: ['riding', 'settling', 'active', 'idle', 'closed'],
  riding: ['idle', 'closed'],
  settling: ['active', 'idle', 'closed'],
  active: ['idle', 'waiting', 'settling', 'closed'],
  closed: [],
} as const satisfies Record<SessionState, readonly SessionState[]>

/** Whether the table has this move. Those that every query makes are not looked up. */
export function mayBecome(from: SessionState, to: SessionState): boolean {
  if (from === 'idle' && to === 'waiting') return true
  if (from === 'waiting' && to === 'active') return true
  if (from === 'active' && to === 'idle') return true
  const nexts: readonly SessionState[] = NEXT_SESSION_STATES[from]
  return nexts.includes(to)
}
