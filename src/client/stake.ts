/**
 * What is at stake while a statement is on its way: the few facts that decide what its client is
 * told when its server is lost before it answered. Small integers, so that a message in flight
 * carries them without an object of its own. Pure; the table that reads them is loss.ts.
 */
import type { Classified, Statement, Verb } from '../routing/classify.ts'

/** It may change the database. */
export const WRITES = 1
/** It reads; by PostgreSQL it may still do more than its text shows. */
export const READS = 2
/** Outside a transaction it may commit before it ends. */
export const PARTS = 4
/** DO, CALL, or a text that nobody has read: it may end a transaction. */
export const HIDDEN = 8
/** It commits, or decides over a prepared transaction. */
export const ENDS = 16
/** A transaction is open behind it. */
export const OPENS = 32
/** None is open behind it. */
export const CLOSES = 64
/** One COMMIT or ROLLBACK, and nothing else. */
export const LONE = 128
/** Several statements. */
export const MANY = 256
/** A whole Query that we answer ourselves, in its turn. */
export const OWN = 512

const CONTROL = OPENS | CLOSES
const WORK = WRITES | READS | PARTS | HIDDEN
const UNREAD = WRITES | PARTS | HIDDEN

const BY_VERB: Readonly<Partial<Record<Verb, number>>> = {
  begin: OPENS,
  commit: ENDS | CLOSES,
  rollback: CLOSES,
  prepare_transaction: ENDS | CLOSES,
  commit_prepared: ENDS,
  rollback_prepared: ENDS,
  do: UNREAD,
  call: UNREAD,
  create: WRITES | PARTS,
  drop: WRITES | PARTS,
  alter: WRITES | PARTS,
  other: WRITES | PARTS,
  // They change the session, and that is put right elsewhere.
  savepoint: 0,
  rollback_to: 0,
  release: 0,
  set: 0,
  set_local: 0,
  set_transaction: 0,
  reset: 0,
  reset_all: 0,
  discard: 0,
  deallocate: 0,
  prepare: 0,
  close: 0,
  listen: 0,
  unlisten: 0,
  load: 0,
  empty: 0,
}

/** What is at stake with a whole Query or Execute. */
export function stakeOf({ read, statements }: Classified): number {
  if (read) return statements.length === 1 ? READS : READS | MANY
  let stake = statements.length > 1 ? MANY : 0
  for (const statement of statements) stake = behind(stake, stakeOfOne(statement))
  const [first] = statements
  const isEnd = first?.verb === 'commit' || first?.verb === 'rollback'
  return statements.length === 1 && isEnd && first.chain !== true ? stake | LONE : stake
}

function stakeOfOne({ chain, read, reason, verb }: Statement): number {
  if (read) return READS
  if (reason === 'not_understood') return UNREAD
  const stake = BY_VERB[verb] ?? WRITES
  return chain === true ? (stake & ~CONTROL) | OPENS : stake
}

/** What is at stake when `next` follows on `stake`, neither of them answered. */
export function behind(stake: number, next: number): number {
  return (next & CONTROL) === 0 ? stake | next : (stake & ~CONTROL) | next
}

/** What is left at stake of the messages before a Sync when the last of them was answered. */
export function settled(stake: number, answered: number): number {
  const control = answered & CONTROL
  return control === 0 ? stake | (answered & WORK) : control
}
