/**
 * Which errors mean that a batch was not executed and may be sent once more, whole (ARCHITECTURE 5,
 * self-healing): a replica that refuses or does not know yet, and a prepared statement whose table
 * has changed. Pure.
 */

/** Writes in disguise, unlogged tables, serializable sessions, recovery conflicts, DDL not replayed. */
const REFUSED_BY_REPLICA: ReadonlySet<string> = new Set([
  '25006',
  '0A000',
  '40001',
  '40P01',
  '42P01',
  '42703',
  '42883',
  '42704',
  '3F000',
])
const READ_ONLY = '25006'
/**
 * A write in disguise; and a statement whose name is not as it was believed to be, since a message of
 * somebody else that was to make it or to close it was skipped.
 */
const REFUSED_BY_CARRIAGE: ReadonlySet<string> = new Set([READ_ONLY, '26000', '42P05'])
/** What the text itself does: it will be refused every time. */
const REMEMBERED: ReadonlySet<string> = new Set(['25006', '0A000'])
/** "cached plan must not change result type". Source: RevalidateCachedQuery in plancache.c. */
const STALE_PLAN_ROUTINE = 'RevalidateCachedQuery'

export interface Refusal {
  readonly sqlstate: string
  /** The C function that raised it, field R; not translated. */
  readonly routine: string | undefined
  readonly role: 'primary' | 'replica' | 'plain'
  /** It came on a server that others share, whose transactions are read-only. */
  readonly isRiding?: boolean
}

export function isHealable({ sqlstate, routine, role, isRiding }: Refusal): boolean {
  if (isRiding === true && REFUSED_BY_CARRIAGE.has(sqlstate)) return true
  return (role === 'replica' && REFUSED_BY_REPLICA.has(sqlstate)) || isStalePlan(sqlstate, routine)
}

/** It is a write in disguise, which no read-only transaction runs. */
export function isWrite({ sqlstate }: Refusal): boolean {
  return sqlstate === READ_ONLY
}

export function isRemembered({ sqlstate, role, routine, isRiding }: Refusal): boolean {
  if (isRiding === true && sqlstate === READ_ONLY) return true
  return role === 'replica' && REMEMBERED.has(sqlstate) && !isStalePlan(sqlstate, routine)
}

export function isStalePlan(sqlstate: string, routine: string | undefined): boolean {
  return sqlstate === '0A000' && routine === STALE_PLAN_ROUTINE
}
