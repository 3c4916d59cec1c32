/**
 * One simulated server process of PostgreSQL: enough of the protocol and of SQL for the statements
 * that the clients of the simulation send, and for what the proxy adds to them. Statements name
 * themselves: `c3w17` is the 17th thing that client 3 does, a write; `c3n18` a read.
 */
import { backend, errorFields, type Frame, frames } from '../support/bytes.ts'
import type { Chance } from './chance.ts'
import type { SimulationClock } from './clock.ts'
import type { Cluster, Member } from './cluster.ts'
import type { Link, Peer } from './network.ts'
import { append, type WalRecord } from './wal.ts'

export interface BackendEvents {
  /** Something with this name begins to run. */
  executes(id: string, backend: Backend): void
  commits(ids: readonly string[], record: WalRecord, backend: Backend): void
  /** Gives a number under which the client's answer can be compared. */
  snapshot(record: WalRecord): number
  breach(what: string): void
}

export interface BackendTools {
  readonly clock: SimulationClock
  readonly chance: Chance
  readonly cluster: Cluster
  readonly events: BackendEvents
}

type Answer = { readonly bytes: Buffer; readonly isError: boolean }
const FAILED = /^(?:COMMIT|ROLLBACK|END)/
const NAMES = /c\d+[wn]\d+/g

export class Backend implements Peer {
  readonly member: Member
  readonly link: Link
  readonly #tools: BackendTools
  #rest: Buffer = Buffer.alloc(0)
  readonly #frames: Frame[] = []
  #isBusy = false
  #isEnded = false
  #isSkipping = false
  #status: 'I' | 'T' | 'E' = 'I'
  /** Written and not committed. */
  #pending: string[] = []
  /** As many had been written at the savepoint; null: there is none. */
  #savepoint: number | null = null
  /** What a procedure commits after its first part. */
  #later: readonly string[] = []
  /** default_transaction_read_only. */
  isReadOnly = false
  #path = 'public'
  #pathBefore: string | null = null
  #isListening = false
  #owner: string | null = null
  /** Whose statement runs. */
  runningFor: string | null = null
  #isCancelled = false
  #copying: string[] | null = null
  #wasStandby: boolean
  readonly #statements = new Map<string, string>()
  #portal = ''

  constructor(member: Member, link: Link, tools: BackendTools) {
    this.member = member
    this.link = link
    this.#tools = tools
    this.#wasStandby = member.isInRecovery
    member.backends.add(this)
    link.peer = this
  }

  onBytes(bytes: Buffer): void {
    const read = frames(Buffer.concat([this.#rest, bytes]))
    this.#rest = Buffer.from(read.rest)
    for (const { type, body } of read.frames) this.#frames.push({ type, body: Buffer.from(body) })
    this.goOn()
  }

  onClosed(): void {
    this.#end()
  }

  /** The machine goes on after it stood still. */
  goOn(): void {
    if (this.#isBusy || this.#isEnded || this.member.isFrozen) return
    const next = this.#frames.shift()
    if (next === undefined) return
    this.#isBusy = true
    const { clock, chance } = this.#tools
    const runs = next.type === 'Q' || next.type === 'E'
    const slowMs = chance.is(0.03) ? 400 : 6
    if (runs) this.runningFor = this.#clientOf(next)
    if (this.runningFor !== null) this.#fallIntoAmbush()
    clock.after(runs ? chance.between(0, slowMs) : 0, () => this.#perform(next))
  }

  #fallIntoAmbush(): void {
    const { ambush } = this.member
    if (ambush === null) return
    this.member.ambush = null
    const { clock, chance } = this.#tools
    clock.after(chance.between(0, 5), () => this.stop(ambush))
  }

  /**
   * A cancel request for what the session `client` ran when it was sent; null: for what nobody waits
   * for any more.
   */
  cancel(client: string | null): void {
    if (this.runningFor === null || this.#isEnded) return
    if (client !== null && this.runningFor !== client)
      this.#tools.events.breach(`a cancel of ${client} hits ${this.runningFor}`)
    this.#isCancelled = true
  }

  stop(how: 'fast' | 'crash' | 'kill'): void {
    if (this.#isEnded) return
    const { chance } = this.#tools
    const waits = this.#waiting !== null
    if (how === 'fast' && waits)
      this.link.send(
        backend.noticeResponse(
          '57P01',
          'canceling the wait for synchronous replication',
          'WARNING',
        ),
      )
    else if (how === 'fast')
      this.link.send(
        backend.errorResponse(
          '57P01',
          'terminating connection due to administrator command',
          'FATAL',
        ),
      )
    else if (how === 'crash' && chance.is(0.6))
      this.link.send(
        backend.noticeResponse('57P02', 'terminating connection because of crash', 'WARNING'),
      )
    this.#end()
    if (how !== 'fast' && chance.is(0.3)) this.link.reset()
    else this.link.end()
  }

  #end(): void {
    this.#isEnded = true
    this.#pending = []
    this.#waiting?.()
    this.#waiting = null
    this.member.backends.delete(this)
  }

  #perform(frame: Frame): void {
    if (this.#isEnded) return
    if (this.member.isFrozen) {
      this.#frames.unshift(frame)
      this.#isBusy = false
      return
    }
    if (frame.type === 'Q') this.#query(frame.body.toString('utf8', 0, frame.body.length - 1))
    else if (frame.type === 'S') this.#sync()
    else if (frame.type === 'X') this.#end()
    else if ('dcf'.includes(frame.type)) this.#copy(frame)
    else if (!this.#isSkipping) this.#extended(frame)
    else this.#done()
  }

  #done(): void {
    this.#isBusy = false
    this.runningFor = null
    this.#isCancelled = false
    this.goOn()
  }

  #query(sql: string): void {
    const parts: Buffer[] = []
    for (const statement of sql.split(';').map((one) => one.trim())) {
      if (statement === '') continue
      const { bytes, isError } = this.#execute(statement)
      parts.push(bytes)
      if (isError || this.#copying !== null) break
    }
    if (this.#copying !== null) {
      this.link.send(Buffer.concat(parts))
      this.#done()
    } else this.#finish(Buffer.concat(parts))
  }

  /** The end of a Query or of extended messages: what is no transaction of its own is committed. */
  #finish(answer: Buffer): void {
    if (this.#later.length > 0) {
      this.#goOnLater(answer)
      return
    }
    const ready = (): void => {
      if (this.#isEnded) return
      const report = this.#wasStandby && !this.member.isInRecovery
      if (report) this.#wasStandby = false
      const news = report ? backend.parameterStatus('in_hot_standby', 'off') : Buffer.alloc(0)
      if (this.#status === 'I' && !this.#isListening) this.#owner = null
      this.link.send(Buffer.concat([answer, news, backend.readyForQuery(this.#status)]))
      this.#done()
    }
    if (this.#status === 'I') this.#commit()
    this.#await(ready)
  }

  /** A procedure works on behind its first commit. */
  #goOnLater(answer: Buffer): void {
    const { clock, chance } = this.#tools
    clock.after(chance.between(0, 30), () => {
      if (this.#isEnded) return
      if (this.member.isFrozen) {
        this.#goOnLater(answer)
        return
      }
      this.#pending.push(...this.#later)
      this.#later = []
      this.#finish(answer)
    })
  }

  #commit(): void {
    const ids = this.#pending
    this.#pending = []
    if (ids.length === 0) return
    const { member } = this
    member.head = append(member.head, member.timeline, ids, 50 + this.#tools.chance.int(300))
    this.#committed = member.head
    this.#tools.events.commits(ids, member.head, this)
  }

  #committed: WalRecord | null = null
  #waiting: (() => void) | null = null

  /** Until the synchronous standby has what was committed. */
  #await(ready: () => void): void {
    const record = this.#committed
    this.#committed = null
    const { cluster } = this.#tools
    const isDone = (): boolean => record === null || cluster.isReplicated(this.member, record)
    if (isDone()) {
      ready()
      return
    }
    const look = (): void => {
      if (!isDone() || this.member.isFrozen) return
      this.#waiting?.()
      this.#waiting = null
      ready()
    }
    this.member.on('replicated', look)
    this.#waiting = () => this.member.off('replicated', look)
  }

  #sync(): void {
    this.#isSkipping = false
    this.#finish(Buffer.alloc(0))
  }

  #extended(frame: Frame): void {
    const texts = frame.body.toString('latin1').split('\0')
    let answer: Answer = { bytes: Buffer.alloc(0), isError: false }
    if (frame.type === 'P') {
      this.#statements.set(texts[0] ?? '', texts[1] ?? '')
      answer = { bytes: backend.parseComplete(), isError: false }
    } else if (frame.type === 'B') answer = this.#bind(texts, frame.body)
    else if (frame.type === 'E') answer = this.#execute(this.#portal)
    else if (frame.type === 'D') answer = { bytes: backend.noData(), isError: false }
    else if (frame.type === 'C') answer = this.#close(texts)
    else if (frame.type !== 'H') this.#tools.events.breach(`the server got ${frame.type}`)
    // What ends a transaction is answered when its commit is done.
    this.#await(() => {
      if (this.#isEnded) return
      this.link.send(answer.bytes)
      this.#isSkipping = answer.isError
      this.#done()
    })
  }

  #close(texts: readonly string[]): Answer {
    this.#statements.delete((texts[0] ?? '').slice(1))
    return { bytes: backend.closeComplete(), isError: false }
  }

  #bind(texts: readonly string[], body: Buffer): Answer {
    const sql = this.#statements.get(texts[1] ?? '')
    if (sql === undefined) return this.#error('26000', 'prepared statement does not exist')
    this.#portal = sql.replace('$1', body.toString('latin1').match(NAMES)?.at(-1) ?? '')
    return { bytes: backend.bindComplete(), isError: false }
  }

  #error(sqlstate: string, text: string): Answer {
    if (this.#status === 'I') this.#pending = []
    else this.#status = 'E'
    return { bytes: backend.errorResponse(sqlstate, text), isError: true }
  }

  #complete(tag: string, ...before: Buffer[]): Answer {
    return { bytes: Buffer.concat([...before, backend.commandComplete(tag)]), isError: false }
  }

  #execute(text: string): Answer {
    const sql = text.trim()
    const names = sql.match(NAMES) ?? []
    this.#checkOwner(names[0])
    for (const name of names) this.#tools.events.executes(name, this)
    if (this.#isCancelled && names.length > 0) {
      this.#isCancelled = false
      return this.#error('57014', 'canceling statement due to user request')
    }
    if (this.#status === 'E' && !FAILED.test(sql))
      return this.#error('25P02', 'current transaction is aborted')
    return this.#run(sql, names)
  }

  #run(sql: string, names: readonly string[]): Answer {
    const [verb = ''] = sql.split(/\s/)
    const { chance, events } = this.#tools
    switch (verb.toUpperCase()) {
      case 'BEGIN':
        this.#status = 'T'
        this.#pathBefore = this.#path
        return this.#complete('BEGIN')
      case 'COMMIT':
        return this.#endTransaction(this.#status !== 'E')
      case 'ROLLBACK':
        return sql.startsWith('ROLLBACK TO') ? this.#rollbackTo() : this.#endTransaction(false)
      case 'SAVEPOINT':
        this.#savepoint = this.#pending.length
        return this.#complete('SAVEPOINT')
      case 'SET':
        if (/default_transaction_read_only/.test(sql)) this.isReadOnly = true
        this.#path = /search_path"?\s+TO\s+(\w+)/i.exec(sql)?.[1] ?? this.#path
        return this.#complete('SET')
      case 'RESET':
      case 'DISCARD':
        if (/search_path|ALL/i.test(sql)) this.#path = 'public'
        if (/default_transaction_read_only|ALL/i.test(sql)) this.isReadOnly = false
        if (/DISCARD ALL/i.test(sql)) {
          this.#statements.clear()
          this.#isListening = false
        }
        return this.#complete(verb)
      case 'LISTEN':
        this.#isListening = true
        return this.#complete('LISTEN')
      case 'UNLISTEN':
        this.#isListening = false
        return this.#complete('UNLISTEN')
      case 'INSERT':
      case 'CALL':
      case 'COPY':
        return this.#write(verb.toUpperCase(), sql, names)
      default:
    }
    if (/FROM hidden/.test(sql)) return this.#write('HIDDEN', sql, names)
    if (names.length === 0) return this.#complete('SELECT 1')
    if (this.member.isInRecovery && chance.is(0.02))
      return this.#error('40001', 'canceling statement due to conflict with recovery')
    const snapshot = String(events.snapshot(this.member.visible))
    const row = backend.dataRow([names[0] ?? '', snapshot, this.#path])
    const rows = chance.is(0.03) ? Array.from({ length: 300 }, () => row) : [row]
    return this.#complete(
      `SELECT ${rows.length}`,
      backend.rowDescription([{ name: 'n' }, { name: 's' }, { name: 'p' }]),
      ...rows,
    )
  }

  #write(verb: string, sql: string, names: readonly string[]): Answer {
    if (this.member.isInRecovery || this.isReadOnly)
      return this.#error('25006', `cannot execute ${verb} in a read-only transaction`)
    if (this.#tools.chance.is(0.02)) return this.#error('23505', 'duplicate key')
    if (verb === 'CALL') {
      // Each is a transaction of its own.
      const [first = '', ...later] = names
      this.#pending.push(first)
      this.#commit()
      this.#later = later
      return this.#complete('CALL')
    }
    if (verb === 'COPY' && /FROM STDIN/.test(sql)) {
      this.#copying = [...names]
      return { bytes: backend.copyInResponse(1), isError: false }
    }
    this.#pending.push(...names)
    return this.#complete(verb === 'HIDDEN' ? 'SELECT 0' : 'INSERT 0 1')
  }

  #copy({ type, body }: Frame): void {
    const copying = this.#copying
    if (copying === null || type === 'd') {
      copying?.push(...(body.toString('latin1').match(NAMES) ?? []))
      this.#done()
      return
    }
    this.#copying = null
    if (type === 'f') {
      this.#finish(this.#error('57014', 'COPY from stdin failed').bytes)
      return
    }
    this.#pending.push(...copying)
    this.#finish(this.#complete(`COPY ${copying.length}`).bytes)
  }

  #rollbackTo(): Answer {
    if (this.#savepoint === null) return this.#error('3B001', 'savepoint does not exist')
    this.#pending.length = this.#savepoint
    this.#status = 'T'
    return this.#complete('ROLLBACK')
  }

  #endTransaction(commits: boolean): Answer {
    this.#status = 'I'
    this.#savepoint = null
    if (!commits) {
      this.#pending = []
      this.#path = this.#pathBefore ?? this.#path
    } else this.#commit()
    this.#pathBefore = null
    return this.#complete(commits ? 'COMMIT' : 'ROLLBACK')
  }

  /** State that one client left must not be met by another. */
  #checkOwner(name: string | undefined): void {
    const owner = name?.split(/[wn]/)[0]
    if (owner === undefined) return
    const isKept = this.#status !== 'I' || this.#isListening
    if (isKept && this.#owner !== null && this.#owner !== owner)
      this.#tools.events.breach(`${owner} meets what ${this.#owner} left on ${this.member.name}`)
    this.#owner = owner
  }

  #clientOf({ type, body }: Frame): string | null {
    const text = type === 'E' ? this.#portal : body.toString('latin1')
    return text.match(NAMES)?.[0]?.split(/[wn]/)[0] ?? null
  }
}

/** The SQLSTATE of an ErrorResponse. */
export function sqlstateOf(body: Buffer): string {
  return errorFields(body)['C'] ?? ''
}
