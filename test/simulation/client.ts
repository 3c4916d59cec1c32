/**
 * A simulated application: it sends random statements, reads slowly, gives up, and judges every
 * answer by what it was told before. Its connection to the proxy is a simulated one.
 */
import type { Session } from '../../src/client/session.ts'
import { type Frame, frames, frontend, rowValues } from '../support/bytes.ts'
import { sqlstateOf } from './backend.ts'
import type { Chance } from './chance.ts'
import type { SimulationClock } from './clock.ts'
import type { Judge } from './judge.ts'
import type { Link, Peer } from './network.ts'
import {
  ANYTHING,
  isSatisfied,
  type Kind,
  type Lost,
  type Sight,
  verdictOf,
  type Word,
  wordInLost,
} from './oracle.ts'
import { ToClient, type WithServer } from './sight.ts'

interface Asked {
  readonly kind: Kind
  readonly ids: readonly string[]
  /** In its text: whether it was sent to a server can be told by it. */
  readonly mark: string
  readonly isExtended: boolean
  /** The text that it prepares under a name. */
  readonly prepares: string | null
  readonly path: string
  /** Answered writes and reads that this read must not be older than. */
  readonly floor: number
  /** What its answer has to be since a server was lost under it. */
  wanted: Word | null
}

interface Saying {
  readonly kind: Kind
  readonly ids: readonly string[]
  readonly bytes: Buffer
  readonly mark: string
  readonly isExtended?: boolean
  readonly prepares?: string | null
}

interface ClientIdentity {
  readonly name: string
  /** See SimulatedClient. */
  readonly isKept: boolean
  readonly isReader: boolean
}

interface ClientTools {
  readonly clock: SimulationClock
  readonly chance: Chance
  readonly judge: Judge
}

/** Errors that say nothing about what became of a write. */
const UNKNOWN = new Set(['08007', '08006', '57P01', '08P01'])

export class SimulatedClient implements Peer {
  readonly name: string
  /** Its server is its own as long as it lives: the pool is in session mode. */
  readonly isKept: boolean
  /** It hardly does anything but read. */
  readonly #isReader: boolean
  session: Session | null = null
  isEnded = false
  isStopped = false
  readonly asked: Asked[] = []
  readonly link: Link
  readonly told = new ToClient()
  readonly #judge: Judge
  readonly #tools: ClientTools
  #rest: Buffer = Buffer.alloc(0)
  #frames: Frame[] = []
  #answers = 0
  #serial = 0
  /** It waits for its answers, as long as that may take. */
  readonly #isPatient: boolean
  #status: 'I' | 'T' | 'E' = 'I'
  #isReadOnly = false
  #transaction: string[] = []
  #path = 'public'
  #pathBefore = 'public'
  readonly #prepared = new Set<string>()
  /** The transaction at hand was lost with its server; `unclear`: a message was sent in part. */
  #lost: Lost | 'unclear' = 'no'
  /** Writes before the savepoint; null: there is none. */
  #savepoint: number | null = null
  #end: { readonly sqlstate: string } | null = null

  constructor(identity: ClientIdentity, link: Link, tools: ClientTools) {
    this.name = identity.name
    this.#isReader = identity.isReader
    this.isKept = identity.isKept
    this.link = link
    this.#tools = tools
    this.#judge = tools.judge
    this.#isPatient = tools.chance.is(0.6)
    link.peer = this
    this.#next()
  }

  onBytes(bytes: Buffer): void {
    const read = frames(Buffer.concat([this.#rest, bytes]))
    this.#rest = Buffer.from(read.rest)
    for (const { type, body } of read.frames) {
      this.#frames.push({ type, body: Buffer.from(body) })
      if (type === 'G') this.#copyIn()
      if (type === 'Z') this.#answered(body.toString('latin1') as 'I' | 'T' | 'E')
    }
  }

  onClosed(): void {
    if (this.isEnded) return
    this.isEnded = true
    if (this.#isProvedAborted()) {
      for (const { ids, kind } of this.asked)
        if (kind === 'set' || kind === 'listen') continue
        else this.#judge.failed(ids, 'its session was lost (57P01)')
      this.#judge.failed(this.#transaction, 'its session was lost (57P01)')
      return
    }
    for (const { ids, kind } of this.asked) this.#judge.unknown(ids, kind)
    const commits = this.asked.some(({ kind }) => kind === 'commit')
    if (commits) this.#judge.unknown(this.#transaction, 'commit')
    else this.#judge.failed(this.#transaction, 'its client is gone')
  }

  /** Whether what it was told last, with its server, says that nothing of it happened. */
  #isProvedAborted(): boolean {
    if (this.#end === null) return false
    const error = this.#frames.findLast(({ type }) => type === 'E')
    const sqlstate = error === undefined ? '' : sqlstateOf(error.body)
    if (this.#rest.length === 0 && sqlstate !== this.#end.sqlstate)
      this.#judge.breach(`${this.name} is told ${sqlstate} at its end, not ${this.#end.sqlstate}`)
    return sqlstate === '57P01'
  }

  /** Its server is about to be lost: what must be said of everything that is under way? */
  loses(server: WithServer, sight: Pick<Sight, 'role' | 'isOurs' | 'isMemberGone'>): void {
    const { told } = this
    const answered = told.answers - this.#answers
    for (const one of this.asked.slice(0, answered)) one.wanted ??= ANYTHING
    const waiting = this.asked.slice(answered)
    const sent = waiting.filter(({ mark }) => server.hasSent(mark))
    if (sent.some(({ mark }) => server.wasSplit(mark))) {
      for (const one of sent) one.wanted = null
      this.#lost = 'unclear'
      return
    }
    const verdict = verdictOf(sent, { ...told.sight, ...sight, farewell: server.farewell })
    if (this.isKept || this.session?.pins.isPinned === true) {
      const sqlstate = verdict.isUnknown ? '08007' : '57P01'
      if (!told.isMidMessage && !server.isMidBatch) this.#end = { sqlstate }
      return
    }
    if (told.isMidMessage) return
    for (const [index, one] of sent.entries()) one.wanted = verdict.words[index] ?? null
    this.#lost = verdict.lost
    if (!server.isMidBatch) return
    const cut = waiting[sent.length - (sent.at(-1)?.kind === 'copy' ? 1 : 0)]
    if (cut !== undefined) cut.wanted = null
    this.#lost = 'unclear'
  }

  /** A server that it shared is about to be lost, and its turn had not come: it gets its answer. */
  losesPlace(server: WithServer): void {
    for (const one of this.asked) if (server.hasSent(one.mark)) one.wanted = 'repeat'
  }

  /** A server that its session kept, and did not use, is lost. */
  losesKept(): void {
    this.#end = { sqlstate: '57P01' }
  }

  /** It is told at once. */
  get mustBeClosed(): boolean {
    return this.#end !== null && this.session?.state !== 'closed'
  }

  /** Gives up, whatever is under way. */
  leave(): void {
    if (this.isEnded) return
    const held = this.asked.flatMap(({ ids }) => ids)
    this.link.events = { sending: () => {}, arriving: () => {}, closing: () => this.#leaving(held) }
    this.#end = null
    this.onClosed()
    this.link.end()
  }

  /** What the proxy had not sent by then must never run. */
  #leaving(held: readonly string[]): void {
    if (this.session?.state === 'waiting') this.#judge.withdrawn(held)
  }

  #next(): void {
    const { clock, chance } = this.#tools
    clock.after(chance.is(0.1) ? chance.between(0, 800) : chance.between(0, 40), () => {
      if (this.isEnded) return
      if (!this.isStopped) this.#act()
      this.#next()
    })
  }

  #act(): void {
    const { chance } = this.#tools
    const isFree = this.asked.length === 0
    const isPipelining =
      this.asked.length < 3 && this.asked.every(({ kind }) => kind === 'read' || kind === 'write')
    if (!isFree && !this.#isPatient && chance.is(0.03)) void this.session?.cancel()
    else if (chance.is(0.002)) this.leave()
    else if (this.#status !== 'I') {
      if (isFree) this.#inTransaction()
    } else if (isFree || (isPipelining && chance.is(0.2))) this.#outside(isFree)
  }

  #inTransaction(): void {
    const { chance } = this.#tools
    const kind =
      this.#status === 'E'
        ? chance.weighted({ commit: 3, rollback: 3, rollback_to: 1, read: 0.5 })
        : chance.weighted({ read: 3, write: 4, commit: 3, rollback: 0.5, savepoint: 0.3 })
    if (kind === 'read' || (kind === 'write' && !this.#isReadOnly)) this.#statement(kind)
    else if (kind === 'write') this.#statement('read')
    else this.#command(kind)
    // The rest of it at once, as drivers do that pipeline.
    if (this.#status !== 'T' || kind === 'commit' || kind === 'rollback' || !chance.is(0.15)) return
    if (chance.is(0.5)) this.#statement(this.#isReadOnly ? 'read' : 'write')
    this.#command(chance.is(0.85) ? 'commit' : 'rollback')
  }

  #command(kind: 'commit' | 'rollback' | 'savepoint' | 'rollback_to'): void {
    const { chance } = this.#tools
    const mark = this.#name('x')
    const text = `${COMMANDS[kind]} /* ${mark} */`
    const isExtended = chance.is(0.3)
    const bytes = isExtended ? unnamed(text) : frontend.query(text)
    this.#ask({ kind, ids: [], mark, bytes, isExtended })
  }

  #outside(isFree: boolean): void {
    const { chance } = this.#tools
    if (this.#isReader && !chance.is(0.02)) return this.#statement('read')
    const kind = isFree
      ? chance.weighted({
          read: 10,
          write: 8,
          begin: 4,
          set: 1,
          call: 0.6,
          copy: 0.6,
          listen: 0.05,
        })
      : chance.weighted({ read: 3, write: 2 })
    if (kind === 'read' || kind === 'write') return this.#statement(kind)
    if (kind === 'begin') return this.#begin()
    const mark = this.#name(kind === 'call' || kind === 'copy' ? 'w' : 'x')
    switch (kind) {
      case 'set': {
        const path = `s${chance.int(4)}`
        const bytes = frontend.query(`SET search_path TO ${path} /* ${mark} */`)
        return this.#ask({ kind, ids: [path], mark, bytes })
      }
      case 'listen':
        return this.#ask({
          kind,
          ids: [],
          mark,
          bytes: frontend.query(`LISTEN news /* ${mark} */`),
        })
      case 'call': {
        const ids = [mark, this.#name('w')]
        return this.#ask({ kind, ids, mark, bytes: frontend.query(`CALL put(${ids.join(', ')})`) })
      }
      case 'copy': {
        const bytes = frontend.query(`COPY t /* ${mark} */ FROM STDIN`)
        return this.#ask({ kind, ids: [mark], mark, bytes })
      }
    }
  }

  #begin(): void {
    const { chance } = this.#tools
    this.#pathBefore = this.#path
    this.#isReadOnly = chance.is(0.2)
    const text = this.#isReadOnly ? 'BEGIN READ ONLY' : 'BEGIN'
    this.#ask({ kind: 'begin', ids: [], mark: this.#name('x'), bytes: frontend.query(text) })
    if (this.#isReadOnly || !chance.is(0.15)) return
    this.#statement('write')
    if (chance.is(0.5)) this.#statement('write')
    this.#command('commit')
  }

  #statement(kind: 'read' | 'write'): void {
    const { chance } = this.#tools
    const id = this.#name(kind === 'read' ? 'n' : 'w')
    const said = { kind, ids: [id], mark: id }
    const text = this.#text(kind, chance.is(0.3))
    // What ends with its session is judged by its text: a read has no outcome there.
    const isTied = this.isKept || this.session?.pins.isPinned === true
    const isHidden = kind === 'write' && this.#status === 'I' && !isTied && chance.is(0.08)
    if (isHidden)
      this.#ask({ ...said, bytes: frontend.query(`SELECT * FROM hidden WHERE id = '${id}'`) })
    else if (chance.is(0.5))
      this.#ask({ ...said, bytes: frontend.query(text.replace('$1', `'${id}'`)) })
    else this.#ask({ ...said, ...this.#extended(text, id), isExtended: true })
  }

  #text(kind: 'read' | 'write', isOther: boolean): string {
    if (kind === 'read')
      return isOther ? 'SELECT n, s, p FROM u WHERE n = $1' : 'SELECT n, s, p FROM t WHERE n = $1'
    return isOther ? 'INSERT INTO u VALUES ($1)' : 'INSERT INTO t VALUES ($1)'
  }

  #extended(text: string, id: string): { bytes: Buffer; prepares: string | null } {
    const statement = this.#tools.chance.is(0.5)
      ? ''
      : `p${text.length}${/ (?:FROM|INTO) u/.test(text) ? 'u' : 't'}`
    const messages = [
      frontend.bind({ statement, values: [id] }),
      frontend.describe('P'),
      frontend.execute(),
      frontend.sync(),
    ]
    const isKnown = this.#prepared.has(text)
    if (statement === '') messages.unshift(frontend.parse('', text))
    else if (!isKnown)
      messages.unshift(frontend.close('S', statement), frontend.parse(statement, text))
    const prepares = statement === '' || isKnown ? null : text
    return { bytes: Buffer.concat(messages), prepares }
  }

  #ask({ bytes, ...said }: Saying): void {
    const { kind, ids } = said
    if (kind !== 'set') this.#judge.asked(ids, this.name)
    const floor = this.#judge.floorOf(this.name)
    const what = { isExtended: false, prepares: null, ...said }
    if (what.prepares !== null) this.#prepared.delete(what.prepares)
    this.asked.push({ ...what, path: this.#path, floor, wanted: null })
    this.link.send(bytes)
  }

  #copyIn(): void {
    const id = this.#name('w')
    const asked = this.asked[0]
    if (asked?.kind !== 'copy') return
    this.#judge.asked([id], this.name)
    this.asked[0] = { ...asked, ids: [...asked.ids, id] }
    this.link.send(Buffer.concat([frontend.copyData(`${id}\n`), frontend.copyDone()]))
  }

  #answered(status: 'I' | 'T' | 'E'): void {
    const answer = this.#frames
    this.#frames = []
    this.#answers += 1
    const asked = this.asked.shift()
    if (asked === undefined) {
      this.#judge.breach(`${this.name} got ReadyForQuery without having asked`)
      return
    }
    const error = answer.find(({ type }) => type === 'E')
    const sqlstate = error === undefined ? '' : sqlstateOf(error.body)
    const tags = answer
      .filter(({ type }) => type === 'C')
      .map(({ body }) => body.toString('latin1', 0, body.length - 1))
    if (sqlstate === '' && tags.length === 0)
      this.#judge.breach(`${this.name} got an answer without an end`)
    if (sqlstate === '26000') this.#judge.breach(`${this.name}: a prepared statement is gone`)
    const tag = tags.at(-1) ?? ''
    this.#compare(asked, sqlstate, tag)
    if (asked.kind === 'read' && sqlstate === '') this.#read(asked, answer)
    if (asked.prepares !== null && sqlstate === '') this.#prepared.add(asked.prepares)
    const wasOpen = this.#status !== 'I'
    this.#settle(asked, { sqlstate, tag, isOpen: wasOpen || status !== 'I' })
    this.#status = status
  }

  #compare({ kind, mark, wanted }: Asked, sqlstate: string, tag: string): void {
    const answer = tag === 'ROLLBACK' ? tag : 'done'
    const word = sqlstate === '' ? answer : sqlstate
    const ends = kind === 'commit' || kind === 'rollback'
    const lost = this.#lost
    let due = wanted
    if (wanted === null && (lost === 'told' || lost === 'untold')) {
      due = wordInLost(kind, lost)
      this.#lost = ends ? 'no' : 'told'
    } else if (wanted === null && ends) this.#lost = 'no'
    if (due === null || isSatisfied(word, due)) return
    this.#judge.breach(`${this.name}: ${kind} ${mark} is answered ${word}, not ${due}`)
  }

  #settle(
    asked: Asked,
    { sqlstate, tag, isOpen }: { sqlstate: string; tag: string; isOpen: boolean },
  ): void {
    const judge = this.#judge
    const isUnknown = UNKNOWN.has(sqlstate)
    switch (asked.kind) {
      case 'set':
        if (sqlstate === '') this.#path = asked.ids[0] ?? 'public'
        return
      case 'listen':
      case 'read':
      case 'begin':
        return
      case 'savepoint':
        if (sqlstate === '') this.#savepoint = this.#transaction.length
        return
      case 'rollback_to':
        if (sqlstate !== '' || this.#savepoint === null) return
        judge.failed(this.#transaction.splice(this.#savepoint), 'ROLLBACK TO')
        return
      case 'commit':
      case 'rollback':
        if (sqlstate !== '' && !isUnknown && asked.kind === 'commit')
          judge.failed(this.#transaction, sqlstate)
        else if (isUnknown) judge.unknown(this.#transaction, sqlstate)
        else if (tag === 'COMMIT') judge.acknowledged(this.#transaction, this.name)
        else judge.failed(this.#transaction, tag)
        if (tag !== 'COMMIT') this.#path = this.#pathBefore
        this.#transaction = []
        this.#savepoint = null
        return
      case 'write':
        if (isOpen && sqlstate === '') this.#transaction.push(...asked.ids)
        else if (sqlstate === '') judge.acknowledged(asked.ids, this.name)
        else if (isUnknown) judge.unknown(asked.ids, sqlstate)
        else judge.failed(asked.ids, sqlstate)
        return
      case 'call':
        if (sqlstate === '') judge.acknowledged(asked.ids, this.name)
        else if (sqlstate === '40001') judge.failed(asked.ids, sqlstate)
        else judge.unknown(asked.ids, sqlstate)
        return
      case 'copy':
        if (sqlstate === '') judge.acknowledged(asked.ids, this.name)
        else if (isUnknown || sqlstate === '57014') judge.unknown(asked.ids, sqlstate)
        else judge.failed(asked.ids, sqlstate)
    }
  }

  #read(asked: Asked, answer: readonly Frame[]): void {
    const row = answer.find(({ type }) => type === 'D')
    const [name, snapshot, path] = row === undefined ? [] : rowValues(row.body)
    if (name !== asked.ids[0])
      this.#judge.breach(`${this.name} asked ${asked.ids[0]} and got the answer of ${name}`)
    if (path !== asked.path)
      this.#judge.breach(`${this.name} reads under search_path ${path}, not ${asked.path}`)
    this.#judge.read(this.name, asked.floor, Number(snapshot))
  }

  #name(kind: 'w' | 'n' | 'x'): string {
    this.#serial += 1
    return `${this.name}${kind}${this.#serial}`
  }
}

const COMMANDS = {
  commit: 'COMMIT',
  rollback: 'ROLLBACK',
  savepoint: 'SAVEPOINT a',
  rollback_to: 'ROLLBACK TO SAVEPOINT a',
}

function unnamed(text: string): Buffer {
  const messages = [frontend.parse('', text), frontend.bind(), frontend.execute(), frontend.sync()]
  return Buffer.concat(messages)
}
