/**
 * A PostgreSQL that does what a few statements say, for tests without servers: it answers every message
 * as the manual's "Message Flow" tells, and keeps a journal of what it committed and where in its
 * answers that was. Written from the manual and postgres.c, independent of src/.
 *
 * Statements are told apart by their first words. What is written has a number in parentheses, which the
 * journal keeps. `rows 3x20` in a comment is how many rows of how many bytes a SELECT or COPY TO has.
 */
import { backend, type Frame, frames } from './bytes.ts'

interface Failure {
  readonly sqlstate: string
  readonly text: string
}

const FAILED: Failure = { sqlstate: '25P02', text: 'current transaction is aborted' }
const PROTOCOL: Failure = { sqlstate: '08P01', text: 'unexpected message' }

export class ScriptedPostgres {
  /** Everything it said. */
  readonly said: Buffer[] = []
  saidBytes = 0
  /** Where each of its messages ends. */
  readonly ends: number[] = []
  /** Numbers of what was committed, and where in `said` the message is that tells it. */
  readonly committedAt = new Map<number, number>()
  readonly unknown: string[] = []
  #rest: Buffer = Buffer.alloc(0)
  #block: 'none' | 'open' | 'failed' = 'none'
  #pending: number[] = []
  #isSkipping = false
  #copying: { readonly id: number; readonly isExtended: boolean } | null = null
  readonly #statements = new Map<string, string>()
  readonly #portals = new Map<string, string>()

  /** Bytes of a message that is not whole. */
  get restBytes(): number {
    return this.#rest.length
  }

  get isOpen(): boolean {
    return this.#block !== 'none'
  }

  /** Takes what a client wrote; returns what it says to that. */
  feed(bytes: Buffer): Buffer {
    const from = this.said.length
    const read = frames(Buffer.concat([this.#rest, bytes]))
    this.#rest = read.rest
    for (const frame of read.frames) this.#message(frame)
    return Buffer.concat(this.said.slice(from))
  }

  #say(...messages: readonly Buffer[]): void {
    for (const bytes of messages) {
      this.said.push(bytes)
      this.saidBytes += bytes.length
      this.ends.push(this.saidBytes)
    }
  }

  #message({ type, body }: Frame): void {
    if (this.#copying !== null) return this.#copy(this.#copying, type)
    if (this.#isSkipping && type !== 'S' && type !== 'X') return
    const words = body.toString('latin1').split('\0')
    const [first = '', second = ''] = words
    switch (type) {
      case 'Q':
        return this.#query(first)
      case 'P':
        if (this.#block === 'failed' && !isEnd(second)) return this.#fail(FAILED, true)
        this.#statements.set(first, second)
        return this.#say(backend.parseComplete())
      case 'B':
        return this.#bind(first, second)
      case 'D':
        return this.#describe(first.slice(0, 1), first.slice(1))
      case 'E':
        return this.#execute(first)
      case 'C':
        if (first.startsWith('S')) this.#statements.delete(first.slice(1))
        return this.#say(backend.closeComplete())
      case 'S':
        return this.#sync()
      case 'F':
        this.#pending.push(body.readInt32BE(0))
        if (this.#block === 'none') this.#commit()
        return this.#say(backend.functionCallResponse('1'), this.#ready())
      case 'H':
      case 'X':
      case 'd':
      case 'c':
      case 'f':
        return
      default:
        this.unknown.push(type)
    }
  }

  #query(text: string): void {
    const texts = text.split(';').filter((each) => bare(each) !== '')
    if (texts.length === 0) this.#say(backend.emptyQueryResponse())
    for (const [index, each] of texts.entries()) {
      const failure = this.#run(each, false, index === texts.length - 1)
      if (failure !== null) {
        this.#fail(failure, false)
        break
      }
      if (this.#copying !== null) return
    }
    this.#say(this.#ready())
  }

  #bind(portal: string, name: string): void {
    const text = this.#statements.get(name)
    if (text === undefined) return this.#fail({ sqlstate: '26000', text: `no ${name}` }, true)
    if (this.#block === 'failed' && !isEnd(text)) return this.#fail(FAILED, true)
    this.#portals.set(portal, text)
    this.#say(backend.bindComplete())
  }

  #describe(kind: string, name: string): void {
    const text = (kind === 'S' ? this.#statements : this.#portals).get(name)
    if (text === undefined) return this.#fail({ sqlstate: '26000', text: `no ${name}` }, true)
    if (kind === 'S') this.#say(backend.parameterDescription([]))
    this.#say(hasRows(text) ? backend.rowDescription([{ name: 'a' }]) : backend.noData())
  }

  #execute(portal: string): void {
    const text = this.#portals.get(portal)
    if (text === undefined) return this.#fail({ sqlstate: '34000', text: `no ${portal}` }, true)
    const failure = this.#run(text, true, false)
    if (failure !== null) this.#fail(failure, true)
  }

  #sync(): void {
    this.#isSkipping = false
    if (this.#block === 'none') this.#commit()
    this.#say(this.#ready())
  }

  /** COPY FROM STDIN ignores Flush and Sync, and nothing else but copy messages is legal in it. */
  #copy({ id, isExtended }: { id: number; isExtended: boolean }, type: string): void {
    if (type === 'd' || type === 'H' || type === 'S') return
    this.#copying = null
    if (type === 'c') {
      this.#pending.push(id)
      if (!isExtended && this.#block === 'none') this.#commit()
      this.#say(backend.commandComplete('COPY 1'))
    } else {
      this.#fail(type === 'f' ? { sqlstate: '57014', text: 'COPY failed' } : PROTOCOL, isExtended)
    }
    if (!isExtended) this.#say(this.#ready())
  }

  #fail({ sqlstate, text }: Failure, isExtended: boolean): void {
    this.#isSkipping = isExtended
    if (this.#block === 'none') this.#pending = []
    else this.#block = 'failed'
    this.#say(backend.errorResponse(sqlstate, text))
  }

  #commit(): void {
    for (const id of this.#pending) this.committedAt.set(id, this.saidBytes)
    this.#pending = []
  }

  #ready(): Buffer {
    if (this.#block === 'none') return backend.readyForQuery('I')
    return backend.readyForQuery(this.#block === 'open' ? 'T' : 'E')
  }

  /** `isLast`: the last statement of a Query, which ends what is open around it unless BEGIN opened it. */
  #run(text: string, isExtended: boolean, isLast: boolean): Failure | null {
    const sql = bare(text)
    if (this.#block === 'failed' && !isEnd(text)) return FAILED
    const id = Number(/\((\d+)\)/.exec(sql)?.[1] ?? 0)
    if (isEnd(text)) return this.#end(sql)
    if (sql === 'SELECT 1/0') return { sqlstate: '22012', text: 'division by zero' }
    if (sql.startsWith('COPY') && sql.includes('STDIN')) {
      this.#copying = { id, isExtended }
      this.#say(backend.copyInResponse(1))
      return null
    }
    if (hasRows(text)) this.#rows(text, isExtended)
    else if (sql.startsWith('COPY')) this.#copyOut(text)
    else if (sql.startsWith('BEGIN')) this.#block = 'open'
    else if (id > 0) this.#pending.push(id)
    if (!isExtended && isLast && this.#block === 'none') this.#commit()
    this.#say(backend.commandComplete(tagOf(sql)))
    return null
  }

  #end(sql: string): null {
    const isCommit = !sql.startsWith('ROLLBACK') && this.#block !== 'failed'
    if (sql.startsWith('ROLLBACK TO')) {
      if (this.#block === 'failed') this.#block = 'open'
      this.#say(backend.commandComplete('ROLLBACK'))
      return null
    }
    if (isCommit) this.#commit()
    else this.#pending = []
    this.#block = sql.endsWith('AND CHAIN') ? 'open' : 'none'
    const tag = sql.startsWith('PREPARE') ? 'PREPARE TRANSACTION' : 'COMMIT'
    this.#say(backend.commandComplete(isCommit ? tag : 'ROLLBACK'))
    return null
  }

  #rows(text: string, isExtended: boolean): void {
    const [count, bytes] = shapeOf(text)
    if (!isExtended) this.#say(backend.rowDescription([{ name: 'a' }]))
    for (let row = 0; row < count; row += 1) this.#say(backend.dataRow(['x'.repeat(bytes)]))
  }

  #copyOut(text: string): void {
    const [count, bytes] = shapeOf(text)
    this.#say(backend.copyOutResponse(1))
    for (let row = 0; row < count; row += 1) this.#say(backend.copyData(`${'x'.repeat(bytes)}\n`))
    this.#say(backend.copyDone())
  }
}

/** Without comments and spaces around. */
function bare(text: string): string {
  return text.replaceAll(/\/\*.*?\*\//g, '').trim()
}

function isEnd(text: string): boolean {
  return /^(COMMIT|END|ROLLBACK|PREPARE TRANSACTION)(?! PREPARED)/.test(bare(text))
}

function hasRows(text: string): boolean {
  return bare(text).startsWith('SELECT') && bare(text) !== 'SELECT 1/0'
}

function shapeOf(text: string): readonly [number, number] {
  const shape = /rows (\d+)x(\d+)/.exec(text)
  return [Number(shape?.[1] ?? 1), Number(shape?.[2] ?? 1)]
}

function tagOf(sql: string): string {
  const [verb = ''] = sql.split(' ')
  if (verb === 'INSERT') return 'INSERT 0 1'
  if (verb === 'SELECT' || verb === 'COPY') return `${verb} 1`
  return sql.startsWith('COMMIT PREPARED') ? 'COMMIT PREPARED' : verb
}
