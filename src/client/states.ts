/**
 * The states of a session and the only moves between them; session.ts says what they mean.
 */

export const SESSION_STATES = ['idle', 'waiting', 'settling', 'active', 'closed'] as const
export type SessionState = (typeof SESSION_STATES)[number]

export const NEXT_SESSION_STATES = {
  idle: ['waiting', 'settling', 'active', 'closed'],
  waiting: ['settling', 'active', 'idle', 'closed'],
  settling: ['active', 'idle', 'closed'],
  active: ['idle', 'waiting', 'settling', 'closed'],
  closed: [],
} as const satisfies Record<SessionState, readonly SessionState[]>
