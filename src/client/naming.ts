/**
 * What prepared statements are called on one server: their names there, what the server still lacks
 * of them, and the room for them. What has to go out for that goes in front of the message at hand.
 *
 * hot path: nothing is sent, booked or made for a statement that the server has.
 */
import type { Classified } from '../routing/classify.ts'
import type { ServerConnection } from '../server/connection.ts'
import {
  NO_NAME,
  type PreparedStatement,
  STATEMENT_PREFIX,
  UNKNOWN_STATEMENT,
} from '../server/prepared.ts'
import { closeStatement } from '../wire/messages.ts'
import type { DatabaseStats } from './facts.ts'
import { outgoing } from './outgoing.ts'
import type { SessionPrepared, SessionStatement } from './prepared.ts'
import { Entered, forwardEntry, swallowEntry } from './work.ts'

export interface NamingContext {
  readonly prepared: SessionPrepared
  readonly stats: DatabaseStats
  readonly preparedMax: number
}

export class Naming {
  readonly #context: NamingContext

  constructor(context: NamingContext) {
    this.#context = context
  }

  /** The statement of ours that a lone DEALLOCATE names, or null. */
  deallocated({ statements }: Classified): PreparedStatement | null {
    const [statement] = statements
    if (statement?.verb !== 'deallocate' || statements.length !== 1) return null
    const name = statement.name ?? ''
    return name === '' ? null : (this.#context.prepared.get(name)?.statement ?? null)
  }

  /** The body of a Parse that deallocates it under the name that it has on the server. */
  deallocateBody(own: PreparedStatement, server: ServerConnection): Buffer {
    this.ensure(own, server)
    return Buffer.from(`DEALLOCATE "${own.name}"\0\0\0`, 'latin1')
  }

  /** Its Parse is on the way. `takeBack`  the client said it; else it is ours, and swallowed. */
  enterOnServer(
    statement: PreparedStatement,
    server: ServerConnection,
    takeBack?: () => void,
  ): void {
    this.#context.stats.serverParses += 1
    server.statements.add(statement)
    const subject = new Entered(() => {
      server.statements.remove(statement)
      takeBack?.()
    })
    server.ledger.push(
      takeBack === undefined ? swallowEntry('parse', subject) : forwardEntry('parse', subject),
    )
  }

  /** One more statement will be named there. */
  makeRoom(server: ServerConnection): void {
    const least = server.statements.leastUsed(this.#context.preparedMax)
    if (least === undefined) return
    server.statements.remove(least)
    outgoing.bytes(closeStatement(least.name))
    const takeBack = (): void => {
      server.statements.add(least)
      // What went out behind the Close took the statement for gone: its name is not sure any more.
      server.isDoomed = true
    }
    server.ledger.push(swallowEntry('close', new Entered(takeBack)))
  }

  /** The server has the named statement after this, if the batch does not fail before. */
  ensure(statement: PreparedStatement, server: ServerConnection): void {
    if (server.isShared) return this.ensureUnnamed(statement, server)
    if (server.statements.has(statement)) return
    this.makeRoom(server)
    outgoing.bytes(statement.parseFrame)
    this.enterOnServer(statement, server)
  }

  /** The same, without a name. */
  ensureUnnamed(statement: PreparedStatement, server: ServerConnection): void {
    if (server.statements.unnamed === statement) return
    outgoing.bytes(statement.parseUnnamedFrame)
    server.statements.unnamed = statement
    server.ledger.push(
      swallowEntry(
        'parse',
        new Entered(() => {
          server.statements.unnamed = UNKNOWN_STATEMENT
        }),
      ),
    )
  }

  /** The session has no unnamed statement: that of another session must not be found. */
  #forgetUnnamed(server: ServerConnection): void {
    const { unnamed } = server.statements
    // Behind a pooler it may be another server of others now.
    if (unnamed === null && !server.isShared) return
    server.statements.unnamed = null
    outgoing.bytes(closeStatement(''))
    const takeBack = (): void => {
      server.statements.unnamed ??= unnamed
    }
    server.ledger.push(swallowEntry('close', new Entered(takeBack)))
  }

  /**
   * What the server calls the statement that the client names, as it stands in messages; it has it
   * after this. Null: the name goes as it came. The names of other sessions' statements are not to
   * be found.
   */
  nameOnServer(
    name: string,
    entry: SessionStatement | undefined,
    server: ServerConnection,
  ): Buffer | null {
    if (entry === undefined) {
      if (name === '') this.#forgetUnnamed(server)
      return name.startsWith(STATEMENT_PREFIX) ? Buffer.from(`${name}?\0`, 'latin1') : null
    }
    if (name === '') {
      this.ensureUnnamed(entry.statement, server)
      return null
    }
    this.ensure(entry.statement, server)
    return server.isShared ? NO_NAME : entry.statement.nameBytes
  }
}
