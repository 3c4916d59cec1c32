/**
 * What the session wants to know of a message when its reply comes: the statements whose success
 * changes the session, and how to take back what was entered when the message was sent.
 */
import type { Classified, Statement } from '../routing/classify.ts'
import type { Entry, EntryKind, Subject } from '../wire/ledger.ts'

/** The statements of one Query or Execute, taken one per CommandComplete. */
export class Work implements Subject {
  readonly #statements: readonly Statement[]
  #next = 0

  constructor(classified: Classified) {
    this.#statements = classified.statements
  }

  /** The statement that the next CommandComplete ends. */
  shift(): Statement | undefined {
    const statement = this.#statements[this.#next]
    this.#next += 1
    return statement
  }

  /** Nothing was entered ahead of the reply. */
  settle(): void {
    this.#next = this.#statements.length
  }
}

/** Something entered when the message was sent, and taken back when it did not succeed. */
export class Entered implements Subject {
  readonly #takeBack: () => void

  constructor(takeBack: () => void) {
    this.#takeBack = takeBack
  }

  settle(succeeded: boolean): void {
    if (!succeeded) this.#takeBack()
  }
}

/** Entries without a subject are the same object every time. */
export const FORWARD = entriesOf(true)
export const SWALLOW = entriesOf(false)

/** `stake`  what is lost with it, see stake.ts. */
export function forwardEntry(kind: EntryKind, subject: Subject | null, stake = 0): Entry {
  return { kind, forward: true, subject, reply: null, stake }
}

/** By stake. */
const QUERIES: (Entry | undefined)[] = []
const EXECUTES: (Entry | undefined)[] = []

/** A Query or an Execute whose success changes nothing in the session: one object per stake. */
export function plainEntry(kind: 'query' | 'execute', stake: number): Entry {
  const known = kind === 'query' ? QUERIES : EXECUTES
  return (known[stake] ??= forwardEntry(kind, null, stake))
}

export function swallowEntry(kind: EntryKind, subject: Subject): Entry {
  return { kind, forward: false, subject, reply: null, stake: 0 }
}

export function localEntry(reply: () => Buffer, subject: Subject | null, stake = 0): Entry {
  return { kind: 'local', forward: true, subject, reply, stake }
}

function entriesOf(forward: boolean): Readonly<Record<EntryKind, Entry>> {
  const entry = (kind: EntryKind): Entry => ({
    kind,
    forward,
    subject: null,
    reply: null,
    stake: 0,
  })
  return {
    query: entry('query'),
    function: entry('function'),
    parse: entry('parse'),
    bind: entry('bind'),
    describe_statement: entry('describe_statement'),
    describe: entry('describe'),
    execute: entry('execute'),
    close: entry('close'),
    sync: entry('sync'),
    local: entry('local'),
  }
}

/** May stand in a transaction on a replica that goes to the primary at its first write. */
export function staysOnReplica({ read, statements }: Classified): boolean {
  const ends = statements.every(({ verb }) => verb === 'commit' || verb === 'rollback')
  return read || ends
}

/**
 * DO, CALL, functions that are not proved and texts that nobody has read may leave anything behind.
 * Where nothing is routed no function is known, and an entry means what it means in PgBouncer.
 */
export function isUnclean({ statements }: Classified, isRouted: boolean): boolean {
  for (const { reason, unclean, verb } of statements) {
    const isHidden = verb === 'do' || verb === 'call' || reason === 'not_understood'
    if (isRouted ? unclean : isHidden) return true
  }
  return false
}

/** Only takes settings back. */
export function isTakingBack({ verb, name }: Statement): boolean {
  return verb === 'reset' || verb === 'reset_all' || (verb === 'discard' && name === 'all')
}
