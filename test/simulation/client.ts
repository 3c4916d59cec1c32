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

type Kind = 'read' | 'write' | 'begin' | 'commit' | 'rollback' | 'set' | 'listen' | 'call' | 'copy'

interface Asked {
  readonly kind: Kind
  readonly ids: readonly string[]
  readonly path: string
  /** Answered writes and reads that this read must not be older than. */
  readonly floor: number
}

/** Errors that say nothing about what became of a write. */
const UNKNOWN = new Set(['08007', '08006', '57P01', '08P01'])

export class SimulatedClient implements Peer {
  readonly name: string
  session: Session | null = null
  isEnded = false
  isStopped = false
  readonly asked: Asked[] = []
  readonly link: Link
  readonly #judge: Judge
  readonly #tools: { readonly clock: SimulationClock; readonly chance: Chance }
  #rest: Buffer = Buffer.alloc(0)
  #frames: Frame[] = []
  #serial = 0
  #status: 'I' | 'T' | 'E' = 'I'
  #transaction: string[] = []
  #path = 'public'
  #pathBefore = 'public'
  #prepared = new Set<string>()

  constructor(
    name: string,
    link: Link,
    tools: { readonly clock: SimulationClock; readonly chance: Chance; readonly judge: Judge },
  ) {
    this.name = name
    this.link = link
    this.#tools = tools
    this.#judge = tools.judge
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
    for (const { ids, kind } of this.asked) this.#judge.unknown(ids, kind)
    const commits = this.asked.some(({ kind }) => kind === 'commit')
    if (commits) this.#judge.unknown(this.#transaction, 'commit')
    else this.#judge.failed(this.#transaction, 'its client is gone')
  }

  /** Gives up, whatever is under way. */
  leave(): void {
    if (this.isEnded) return
    const held = this.asked.flatMap(({ ids }) => ids)
    this.link.events = { sending: () => {}, arriving: () => {}, closing: () => this.#leaving(held) }
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
    if (!isFree && chance.is(0.03)) this.session?.cancel()
    else if (chance.is(0.002)) this.leave()
    else if (this.#status !== 'I') {
      if (isFree) this.#inTransaction()
    } else if (isFree || (isPipelining && chance.is(0.2))) this.#outside(isFree)
  }

  #inTransaction(): void {
    const { chance } = this.#tools
    const kind =
      this.#status === 'E'
        ? chance.of(['commit', 'rollback'] as const)
        : chance.weighted({ read: 3, write: 4, commit: 3, rollback: 0.5 })
    if (kind === 'commit' || kind === 'rollback')
      this.#ask(kind, [], frontend.query(kind.toUpperCase()))
    else this.#statement(kind)
  }

  #outside(isFree: boolean): void {
    const { chance } = this.#tools
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
    switch (kind) {
      case 'begin':
        this.#pathBefore = this.#path
        this.#ask('begin', [], frontend.query('BEGIN'))
        break
      case 'set': {
        const path = `s${chance.int(4)}`
        this.#ask('set', [path], frontend.query(`SET search_path TO ${path}`))
        break
      }
      case 'listen':
        this.#ask('listen', [], frontend.query('LISTEN news'))
        break
      case 'call': {
        const ids = [this.#name('w'), this.#name('w')]
        this.#ask('call', ids, frontend.query(`CALL put(${ids.join(', ')})`))
        break
      }
      case 'copy': {
        const ids = [this.#name('w')]
        this.#ask('copy', ids, frontend.query(`COPY t /* ${ids[0]} */ FROM STDIN`))
        break
      }
      case 'read':
      case 'write':
        this.#statement(kind)
    }
  }

  #statement(kind: 'read' | 'write'): void {
    const { chance } = this.#tools
    const id = this.#name(kind === 'read' ? 'n' : 'w')
    const text = this.#text(kind, chance.is(0.3))
    const isHidden = kind === 'write' && this.#status === 'I' && chance.is(0.08)
    if (isHidden) this.#ask(kind, [id], frontend.query(`SELECT * FROM hidden WHERE id = '${id}'`))
    else if (chance.is(0.5)) this.#ask(kind, [id], frontend.query(text.replace('$1', `'${id}'`)))
    else this.#ask(kind, [id], this.#extended(text, id))
  }

  #text(kind: 'read' | 'write', isOther: boolean): string {
    if (kind === 'read')
      return isOther ? 'SELECT n, s, p FROM u WHERE n = $1' : 'SELECT n, s, p FROM t WHERE n = $1'
    return isOther ? 'INSERT INTO u VALUES ($1)' : 'INSERT INTO t VALUES ($1)'
  }

  #extended(text: string, id: string): Buffer {
    const statement = this.#tools.chance.is(0.5) ? '' : `p${text.length}`
    const messages = [
      frontend.bind({ statement, values: [id] }),
      frontend.describe('P'),
      frontend.execute(),
      frontend.sync(),
    ]
    if (statement === '') messages.unshift(frontend.parse('', text))
    else if (!this.#prepared.has(text))
      messages.unshift(frontend.close('S', statement), frontend.parse(statement, text))
    return Buffer.concat(messages)
  }

  #ask(kind: Kind, ids: readonly string[], bytes: Buffer): void {
    if (kind !== 'set') this.#judge.asked(ids, this.name)
    this.asked.push({ kind, ids, path: this.#path, floor: this.#judge.floorOf(this.name) })
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
    if (asked.kind === 'read' && sqlstate === '') this.#read(asked, answer)
    const wasOpen = this.#status !== 'I'
    this.#settle(asked, { sqlstate, tag: tags.at(-1) ?? '', isOpen: wasOpen || status !== 'I' })
    this.#status = status
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
      case 'read':
      case 'listen':
      case 'begin':
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
        return
      case 'write':
        if (isOpen && sqlstate === '') this.#transaction.push(...asked.ids)
        else if (sqlstate === '') judge.acknowledged(asked.ids, this.name)
        else if (isUnknown) judge.unknown(asked.ids, sqlstate)
        else judge.failed(asked.ids, sqlstate)
        return
      case 'call':
        if (sqlstate === '') judge.acknowledged(asked.ids, this.name)
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

  #name(kind: 'w' | 'n'): string {
    this.#serial += 1
    return `${this.name}${kind}${this.#serial}`
  }
}
