/**
 * Every state of a server connection and the only moves between them. A state is a list of its
 * pool: SHOW POOLS counts the lists.
 *
 *   login           connecting and logging in                    sv_login
 *   idle            free, known to be clean                      sv_idle
 *   used            free, idle for longer than server_check_delay sv_used
 *   tested          running our own check, reset or clean query  sv_tested
 *   active          held by a session                            sv_active
 *   active_cancel   released while a cancel request for it is on its way  sv_being_canceled
 */
export const SERVER_STATES = [
  'login',
  'idle',
  'used',
  'tested',
  'active',
  'active_cancel',
  'closed',
] as const

export type ServerState = (typeof SERVER_STATES)[number]

export const NEXT_SERVER_STATES = {
  login: ['idle', 'active', 'tested', 'closed'],
  idle: ['active', 'used', 'tested', 'closed'],
  used: ['active', 'tested', 'closed'],
  tested: ['idle', 'active', 'closed'],
  active: ['idle', 'tested', 'active_cancel', 'closed'],
  active_cancel: ['idle', 'tested', 'closed'],
  closed: [],
} as const satisfies Record<ServerState, readonly ServerState[]>

/** Whether the table has this move. The two that every query makes are not looked up. */
export function mayBecome(from: ServerState, to: ServerState): boolean {
  if (from === 'idle' && to === 'active') return true
  if (from === 'active' && to === 'idle') return true
  const nexts: readonly ServerState[] = NEXT_SERVER_STATES[from]
  return nexts.includes(to)
}
