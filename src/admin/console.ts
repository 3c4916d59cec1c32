/**
 * The console's side of one connection: the protocol, in the worker that accepted the client. It
 * takes messages apart, answers in order, and hands the text of a command to `execute`, which asks
 * the control process. Simple and extended protocol; no log-in, no SQL, no facts.
 *
 *     bytes -> input -> advance(): one message at a time, none while a command is under way
 *
 * The client is read on while a command waits (PAUSE may take minutes), so that its end is
 * noticed; what it sends meanwhile is bounded by INPUT_BYTES_MAX.
 */
import type { Clock, Timer } from '../base/clock.ts'
import { ProxyError } from '../base/errors.ts'
import type { ClientFacts } from '../client/facts.ts'
import { ADMIN_DATABASE } from '../config/keys.ts'
import * as frame from '../wire/frame.ts'
import * as messages from '../wire/messages.ts'
import {
  type ConsoleError,
  type ConsoleResult,
  type ConsoleRole,
  consoleError,
} from './commands.ts'
import { columnsOf, parseCommand } from './parse.ts'
import { Portals } from './portals.ts'
import { describeColumns, encodeRow } from './values.ts'
import { PGBOUNCER_VERSION } from './views/program.ts'

/** What the session needs of a channel (net/channel has it). */
export interface ConsoleChannel {
  write(bytes: Buffer): boolean
  pause(): void
  resume(): void
  close(): void
  destroy(error?: Error): void
}

export interface ConsoleOptions {
  readonly channel: ConsoleChannel
  readonly role: ConsoleRole
  readonly codes: messages.ErrorCodes
  readonly clock: Clock
  /** Runs a command in the control process. A rejection is answered as `console_failed`. */
  readonly execute: (sql: string, role: ConsoleRole) => Promise<ConsoleResult>
  /** Called once, when the connection is gone. */
  readonly onClosed: (error: Error | null) => void
  /** Who it is, for SHOW CLIENTS; without it the session is not listed. */
  readonly identity?: ConsoleIdentity
}

/** What SHOW CLIENTS tells of a console client that does not change. */
export type ConsoleIdentity = Pick<
  ClientFacts,
  | 'id'
  | 'user'
  | 'address'
  | 'port'
  | 'localAddress'
  | 'localPort'
  | 'connectedWallMs'
  | 'tls'
  | 'applicationName'
>

/** What a console client is told after its log-in; PgBouncer's own values. */
export const CONSOLE_PARAMETERS: ReadonlyMap<string, string> = new Map([
  ['server_version', `${PGBOUNCER_VERSION}/bouncer`],
  ['client_encoding', 'UTF8'],
  ['server_encoding', 'UTF8'],
  ['DateStyle', 'ISO'],
  ['TimeZone', 'GMT'],
  ['standard_conforming_strings', 'on'],
  ['is_superuser', 'on'],
])

/** No command is near this long; EXPLAIN ROUTE of a big statement is the longest. */
export const MESSAGE_BYTES_MAX = 64 * 1024
/** What may arrive while a command is under way; then the client is not read any more. */
export const INPUT_BYTES_MAX = 2 * MESSAGE_BYTES_MAX
/** Rows that are sent in one write. */
const ROWS_PER_WRITE = 200
const EMPTY = Buffer.alloc(0)

/** How long a client may take to close its side once it was told the end. */
const CLOSE_MS_MAX = 5000

interface Running {
  readonly sql: string
  readonly isSimple: boolean
  isVoid: boolean
}

export class ConsoleSession {
  readonly #options: ConsoleOptions
  readonly #portals = new Portals()
  #input: Buffer = EMPTY
  /** The command that is under way; a cancel or the end of the client makes its answer void. */
  #running: Running | null = null
  #isReading = true
  #isDrained = true
  /** After an error of the extended protocol: everything up to Sync is dropped. */
  #isSkipping = false
  #isClosed = false
  #deadline: Timer | null = null
  #requestWallMs: number

  constructor(options: ConsoleOptions) {
    this.#options = options
    this.#requestWallMs = options.clock.wallMs()
  }

  /** As a row of SHOW CLIENTS; null for a session without an identity. */
  facts(): ClientFacts | null {
    const { identity } = this.#options
    if (identity === undefined) return null
    return {
      ...identity,
      database: ADMIN_DATABASE,
      state: this.#running === null ? 'idle' : 'active',
      requestWallMs: this.#requestWallMs,
      waitMs: 0,
      closeNeeded: false,
      serverId: null,
      serverMember: null,
      preparedStatements: this.#portals.statements,
      replication: 'none',
      routeReason: null,
      pinReasons: [],
      waitReason: null,
      cancels: 0,
    }
  }

  onBytes(chunk: Buffer): void {
    if (this.#isClosed) return
    this.#input =
      this.#input.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#input, chunk])
    this.#advance()
  }

  onDrain(): void {
    this.#isDrained = true
    this.#advance()
  }

  onClosed(error: Error | null): void {
    this.#end()
    this.#deadline?.cancel()
    this.#options.onClosed(error)
  }

  /**
   * A cancel request of this client. A command that waits is answered 57014; a PAUSE is taken back,
   * as PgBouncer does.
   */
  cancel(): void {
    const running = this.#running
    if (running === null || this.#isClosed) return
    running.isVoid = true
    this.#running = null
    this.#undo(running.sql)
    this.#fail(new ProxyError('cancelled'))
    if (running.isSimple) this.#send(messages.READY_IDLE)
    else this.#isSkipping = true
    this.#advance()
  }

  /** Ends the session for a reason that the client is told. */
  end(error: ProxyError): void {
    if (this.#isClosed) return
    this.#send(messages.errorResponse(error, this.#options.codes))
    this.#hangUp()
  }

  /** Handles messages until one has to be waited for. */
  #advance(): void {
    while (!this.#isClosed && this.#running === null && this.#isDrained) {
      const size = this.#nextBytes()
      if (size === 0) break
      const message = this.#input.subarray(0, size)
      this.#input = this.#input.subarray(size)
      this.#onMessage(message[0] ?? 0, message.subarray(frame.HEADER_BYTES))
    }
    this.#flow()
  }

  /** The size of the first message if all of it is there, else 0. */
  #nextBytes(): number {
    if (this.#input.length < frame.HEADER_BYTES) return 0
    const bytes = frame.frameBytes(this.#input, 0)
    if (bytes < frame.HEADER_BYTES) {
      const header = this.#input.toString('hex', 0, frame.HEADER_BYTES)
      this.end(new ProxyError('bad_header', { bytes: header }))
      return 0
    }
    if (bytes > MESSAGE_BYTES_MAX) {
      this.end(new ProxyError('console_bytes_max', { bytes, max: MESSAGE_BYTES_MAX }))
      return 0
    }
    return this.#input.length < bytes ? 0 : bytes
  }

  #flow(): void {
    const isWanted = this.#input.length < INPUT_BYTES_MAX
    if (this.#isClosed || isWanted === this.#isReading) return
    this.#isReading = isWanted
    if (isWanted) this.#options.channel.resume()
    else this.#options.channel.pause()
  }

  #onMessage(type: number, body: Buffer): void {
    if (type === frame.TERMINATE) {
      this.#hangUp()
    } else if (type === frame.SYNC) {
      this.#isSkipping = false
      this.#portals.endTransaction()
      this.#send(messages.READY_IDLE)
    } else if (type === frame.QUERY) {
      this.#isSkipping = false
      this.#portals.endTransaction()
      this.#simple(body)
    } else if (!this.#isSkipping) {
      this.#guard(() => this.#extended(type, body))
    }
  }

  /** An error of the extended protocol is sent, and everything dropped up to Sync. */
  #guard(handle: () => void): void {
    try {
      handle()
    } catch (error) {
      if (error instanceof ProxyError && error.row.severity === 'FATAL') {
        this.end(error)
        return
      }
      this.#isSkipping = true
      this.#fail(error)
    }
  }

  #simple(body: Buffer): void {
    const end = body.indexOf(0)
    if (end === -1 || end !== body.length - 1) {
      this.end(new ProxyError('broken_message', { message: 'Query' }))
      return
    }
    this.#run(body.toString('utf8', 0, end), true, (result) => {
      if (result.kind === 'rows') {
        this.#send(messages.rowDescription(describeColumns(result.columns)))
        this.#sendRows(result.columns, result.rows, [])
      }
      this.#finish(result)
      this.#send(messages.READY_IDLE)
    })
  }

  #extended(type: number, body: Buffer): void {
    switch (type) {
      case frame.PARSE:
        this.#portals.parse(body, parseCommand)
        this.#send(messages.PARSE_COMPLETE_FRAME)
        break
      case frame.BIND:
        this.#portals.bind(body)
        this.#send(messages.BIND_COMPLETE_FRAME)
        break
      case frame.CLOSE:
        this.#portals.close(body)
        this.#send(messages.CLOSE_COMPLETE_FRAME)
        break
      case frame.DESCRIBE:
        this.#describe(body)
        break
      case frame.EXECUTE:
        this.#execute(body)
        break
      case frame.FLUSH:
      case frame.COPY_DATA:
      case frame.COPY_DONE:
      case frame.COPY_FAIL:
        // Nothing is held back that Flush could push, and stray copy messages are dropped, as
        // PostgreSQL does when a COPY has failed.
        break
      case frame.FUNCTION_CALL:
        this.#fail(new ProxyError('console_function_call'))
        this.#send(messages.READY_IDLE)
        break
      default:
        throw new ProxyError('unknown_message')
    }
  }

  #describe(body: Buffer): void {
    const { isStatement, command, formats } = this.#portals.describe(body)
    // ParameterDescription of no parameters.
    if (isStatement) this.#send(messages.fixed(frame.PARAMETER_DESCRIPTION, Buffer.alloc(2)))
    const columns = columnsOf(command)
    if (columns === null) this.#send(messages.NO_DATA_FRAME)
    else this.#send(messages.rowDescription(describeColumns(columns), formats))
  }

  #execute(body: Buffer): void {
    const { portal, rowsMax } = this.#portals.execute(body)
    if (portal.result !== null) {
      this.#fetch(portal.result, portal, rowsMax)
      return
    }
    this.#run(portal.statement.sql, false, (result) => {
      portal.result = result
      this.#fetch(result, portal, rowsMax)
    })
  }

  /** Sends the next rows of a portal, all of them if `rowsMax` is 0. */
  #fetch(
    result: ConsoleResult,
    portal: { sent: number; readonly formats: readonly number[] },
    rowsMax: number,
  ): void {
    if (result.kind !== 'rows') {
      this.#finish(result)
      if (result.kind === 'error') this.#isSkipping = true
      return
    }
    const end = rowsMax > 0 ? Math.min(portal.sent + rowsMax, result.rows.length) : undefined
    this.#sendRows(result.columns, result.rows.slice(portal.sent, end), portal.formats)
    portal.sent = end ?? result.rows.length
    if (portal.sent < result.rows.length) this.#send(messages.fixed(frame.PORTAL_SUSPENDED))
    else this.#finish(result)
  }

  #run(sql: string, isSimple: boolean, answer: (result: ConsoleResult) => void): void {
    const running: Running = { sql, isSimple, isVoid: false }
    this.#running = running
    this.#requestWallMs = this.#options.clock.wallMs()
    const settle = (result: ConsoleResult): void => {
      if (running.isVoid || this.#isClosed) return
      this.#running = null
      answer(result)
      this.#advance()
    }
    const { execute, role, codes } = this.#options
    execute(sql, role).then(settle, (error: unknown) =>
      settle({ kind: 'error', error: consoleError(error, codes) }),
    )
  }

  #sendRows(
    columns: Parameters<typeof encodeRow>[1],
    rows: readonly (readonly (string | null)[])[],
    formats: readonly number[],
  ): void {
    for (let start = 0; start < rows.length; start += ROWS_PER_WRITE) {
      const some = rows.slice(start, start + ROWS_PER_WRITE)
      this.#send(
        Buffer.concat(some.map((cells) => messages.dataRow(encodeRow(cells, columns, formats)))),
      )
    }
  }

  /** Everything of an answer behind its rows, but ReadyForQuery. */
  #finish(result: ConsoleResult): void {
    switch (result.kind) {
      case 'empty':
        this.#send(messages.EMPTY_QUERY_FRAME)
        break
      case 'rows':
        this.#send(messages.commandComplete(result.tag))
        break
      case 'done':
        for (const { message, detail } of result.notices)
          this.#send(messages.noticeResponse(message, detail ?? undefined))
        this.#send(messages.commandComplete(result.tag))
        break
      case 'error':
        this.#sendError(result.error)
        break
      default:
        break
    }
  }

  #fail(error: unknown): void {
    this.#sendError(consoleError(error, this.#options.codes))
  }

  #sendError({ sqlstate, message, detail }: ConsoleError): void {
    const fields = { S: 'ERROR', V: 'ERROR', C: sqlstate, M: message }
    this.#send(
      messages.report(frame.ERROR_RESPONSE, detail === null ? fields : { ...fields, D: detail }),
    )
  }

  #send(bytes: Buffer): void {
    if (!this.#options.channel.write(bytes)) this.#isDrained = false
  }

  /** PAUSE without an answer must not stay: nobody would know of it. */
  #undo(sql: string): void {
    const command = parseCommand(sql)
    if (command.verb !== 'pause') return
    const { execute, role } = this.#options
    const name = command.database
    const target = name === null ? '' : ` "${name.replaceAll('"', '""')}"`
    execute(`RESUME${target}`, role).catch(() => {
      // The control process is gone, and with it what it paused.
    })
  }

  #hangUp(): void {
    const { channel, clock } = this.#options
    this.#end()
    channel.close()
    this.#deadline = clock.after(CLOSE_MS_MAX, () => channel.destroy())
  }

  #end(): void {
    this.#isClosed = true
    this.#input = EMPTY
    if (this.#running !== null) this.#running.isVoid = true
    this.#running = null
    this.#portals.clear()
  }
}
