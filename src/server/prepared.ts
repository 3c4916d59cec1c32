/**
 * Protocol-level prepared statements. The registry holds each statement once per worker, keyed by
 * what parse analysis depends on; each server remembers which of them it has parsed, least recently
 * used first.
 */
import type { Entry } from '../wire/ledger.ts'
import { parse } from '../wire/messages.ts'
import type { Settings } from './settings.ts'

/** The settings that decide what a text means when it is parsed. */
const ANALYSIS_SETTINGS = [
  'search_path',
  'role',
  'session_authorization',
  'standard_conforming_strings',
  'client_encoding',
]

/** Every statement's name on the servers begins with this. */
export const STATEMENT_PREFIX = 'PGSTEER_'

/** The name of the unnamed statement, in messages. */
export const NO_NAME = Buffer.alloc(1)

/** One text with its parameter types; its frames are made when a server lacks it. */
export class PreparedStatement {
  /** Its name on every server; '' for an unnamed one. */
  readonly name: string
  /** The name as it stands in messages, with its zero byte. */
  readonly nameBytes: Buffer
  /** Latin1 string of the bytes. */
  readonly text: string
  /** Its place in the registry; '' for an unnamed one, which has none. */
  readonly key: string
  /** What follows the name in its Parse. */
  readonly body: Buffer
  /** Sessions that hold a name for it. */
  holders = 1
  #parseFrame: Buffer | null = null
  #parseUnnamedFrame: Buffer | null = null

  constructor(parts: { name: string; text: string; key: string; body: Buffer }) {
    this.name = parts.name
    this.nameBytes = parts.name === '' ? NO_NAME : Buffer.from(`${parts.name}\0`, 'latin1')
    this.text = parts.text
    this.key = parts.key
    this.body = parts.body
  }

  /** The Parse frame under its server name. */
  get parseFrame(): Buffer {
    this.#parseFrame ??= parse(this.name, this.body)
    return this.#parseFrame
  }

  /** The Parse frame of the unnamed statement. */
  get parseUnnamedFrame(): Buffer {
    this.#parseUnnamedFrame ??= parse('', this.body)
    return this.#parseUnnamedFrame
  }
}

/** The unnamed statement of one session: nobody else ever has it. */
export function unnamedStatement(text: string, body: Buffer): PreparedStatement {
  return new PreparedStatement({ name: '', text, key: '', body })
}

/** Whatever the server has without a name, if anything: a Parse or a Query before was skipped. */
export const UNKNOWN_STATEMENT = unnamedStatement('', Buffer.alloc(0))

export class PreparedRegistry {
  readonly #statements = new Map<string, PreparedStatement>()
  #serial = 0

  get size(): number {
    return this.#statements.size
  }

  /**
   * The statement for a Parse; one more session holds it.
   *
   * `body`  what follows the name in the Parse message: text, zero byte, parameter types.
   */
  hold(text: string, body: Buffer, settings: Settings): PreparedStatement {
    const key = keyOf(body, settings)
    const known = this.#statements.get(key)
    if (known === undefined) return this.#create(text, key, body)
    known.holders += 1
    return known
  }

  /**
   * The same statement under a new name: what servers have prepared under the old one does not fit
   * the tables any more ("cached plan must not change result type").
   */
  renew(statement: PreparedStatement): PreparedStatement {
    if (statement.name === '') return unnamedStatement(statement.text, statement.body)
    const known = this.#statements.get(statement.key)
    if (known !== undefined && known !== statement) {
      known.holders += 1
      return known
    }
    return this.#create(statement.text, statement.key, statement.body)
  }

  #create(text: string, key: string, body: Buffer): PreparedStatement {
    this.#serial += 1
    const name = `${STATEMENT_PREFIX}${this.#serial}`
    const statement = new PreparedStatement({ name, text, key, body })
    this.#statements.set(key, statement)
    return statement
  }

  /** A session gave its name up. The last one takes the statement out of the registry. */
  drop(statement: PreparedStatement): void {
    statement.holders -= 1
    if (statement.holders > 0 || this.#statements.get(statement.key) !== statement) return
    this.#statements.delete(statement.key)
  }
}

function keyOf(body: Buffer, settings: Settings): string {
  let key = body.toString('latin1')
  for (const name of ANALYSIS_SETTINGS) key += `\0${settings.entries.get(name) ?? ''}`
  return key
}

/** What one server has parsed. */
export class ServerStatements {
  /** By name, in order of use: the first is the one to give up. */
  readonly #named = new Map<string, PreparedStatement>()
  /** The last of them. */
  #latest: PreparedStatement | null = null
  /** Null: it has none. */
  unnamed: PreparedStatement | null = null
  /** What is owed for a Parse of the unnamed statement that says what the one before it said. */
  readonly unnamedAgain: Entry = {
    kind: 'parse',
    forward: true,
    subject: {
      settle: (succeeded) => {
        if (!succeeded) this.unnamed = UNKNOWN_STATEMENT
      },
    },
    reply: null,
    stake: 0,
  }

  get size(): number {
    return this.#named.size
  }

  /** Whether the server has it; asking counts as use. */
  has(statement: PreparedStatement): boolean {
    if (statement === this.#latest) return true
    if (!this.#named.delete(statement.name)) return false
    this.add(statement)
    return true
  }

  add(statement: PreparedStatement): void {
    this.#named.set(statement.name, statement)
    this.#latest = statement
  }

  remove(statement: PreparedStatement): void {
    this.#named.delete(statement.name)
    this.#latest = null
  }

  /** The one to give up so that `statementsMax` holds, or undefined. */
  leastUsed(statementsMax: number): PreparedStatement | undefined {
    if (this.#named.size < statementsMax) return undefined
    const [first] = this.#named.values()
    return first
  }

  clear(): void {
    this.#named.clear()
    this.#latest = null
    this.unnamed = UNKNOWN_STATEMENT
  }
}
