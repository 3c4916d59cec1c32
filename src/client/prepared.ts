/**
 * The names one session has given to prepared statements and portals. A name exists from its
 * ParseComplete; because later messages of the same batch already use it, it is entered when its
 * Parse is sent and taken back when that Parse fails or is skipped.
 */
import { ProxyError } from '../base/errors.ts'
import type { Classified } from '../routing/classify.ts'
import type { PreparedRegistry, PreparedStatement } from '../server/prepared.ts'
import type { FrameReader } from '../wire/reader.ts'

/** Prepared statements that one session may have at a time. */
const NAMES_MAX = 10_000

export interface SessionStatement {
  readonly statement: PreparedStatement
  readonly classified: Classified
  /** Its Parse was not sent as it came: the body is not the client's. */
  readonly isRewritten?: boolean
}

type Undo = () => void

/** Things by name. The one without a name costs no map, and most sessions name nothing. */
class Names<Thing> {
  #unnamed: Thing | undefined
  #named: Map<string, Thing> | null = null

  get size(): number {
    return (this.#named?.size ?? 0) + (this.#unnamed === undefined ? 0 : 1)
  }

  get(name: string): Thing | undefined {
    return name === '' ? this.#unnamed : this.#named?.get(name)
  }

  has(name: string): boolean {
    return this.get(name) !== undefined
  }

  set(name: string, thing: Thing): void {
    if (name === '') {
      this.#unnamed = thing
      return
    }
    this.#named ??= new Map()
    this.#named.set(name, thing)
  }

  delete(name: string): void {
    if (name === '') this.#unnamed = undefined
    else this.#named?.delete(name)
  }

  clear(): void {
    this.#unnamed = undefined
    this.#named = null
  }

  *[Symbol.iterator](): IterableIterator<readonly [string, Thing]> {
    if (this.#unnamed !== undefined) yield ['', this.#unnamed]
    if (this.#named !== null) yield* this.#named
  }
}

export class SessionPrepared {
  readonly #registry: PreparedRegistry
  /** Statements, and what an Execute runs of the open transaction's portals. */
  readonly #statements = new Names<SessionStatement>()
  readonly #portals = new Names<Classified>()
  /** `rewind` may be asked for. */
  #isMarked = false
  /** How to take back what the batch in progress did, newest last. */
  readonly #undo: Undo[] = []
  /** Grows when everything is given up: nothing that was done before is taken back then. */
  #generation = 0

  constructor(registry: PreparedRegistry) {
    this.#registry = registry
  }

  get size(): number {
    return this.#statements.size
  }

  get(name: string): SessionStatement | undefined {
    return this.#statements.get(name)
  }

  /**
   * What has the name that a Parse gives, which is refused for it; null: the name may be given.
   *
   * Errors  ProxyError `prepared_names_max`.
   */
  takenBy(name: string): SessionStatement | null {
    const taken = this.#statements.get(name)
    if (taken === undefined && this.size >= NAMES_MAX)
      throw new ProxyError('prepared_names_max', { max: NAMES_MAX })
    return name === '' ? null : (taken ?? null)
  }

  /** The unnamed statement, if the rest of this Parse is what it was made of. */
  unnamedLike(parse: FrameReader): SessionStatement | null {
    const known = this.#statements.get('')
    if (known === undefined || known.isRewritten === true) return null
    return parse.restIs(known.statement.body) ? known : null
  }

  /**
   * Enters a name, replacing the one before it (only the unnamed statement may be replaced).
   * Returns how to take that back.
   */
  enter(name: string, entry: SessionStatement): Undo {
    const previous = this.#statements.get(name)
    this.#statements.set(name, entry)
    return this.#record(() => {
      if (this.#statements.get(name) !== entry) return
      if (previous === undefined) this.#statements.delete(name)
      else this.#statements.set(name, previous)
      this.#registry.drop(entry.statement)
      if (previous !== undefined) previous.statement.holders += 1
    }, previous)
  }

  /** Close of a statement. Returns how to take that back, or null when there was none. */
  remove(name: string): Undo | null {
    const entry = this.#statements.get(name)
    if (entry === undefined) return null
    this.#statements.delete(name)
    return this.#record(() => {
      if (this.#statements.has(name)) return
      this.#statements.set(name, entry)
      entry.statement.holders += 1
    }, entry)
  }

  /** Every name of this text stands for a freshly prepared statement from here on. */
  renew(text: string): void {
    for (const [name, entry] of this.#statements) {
      if (entry.statement.text !== text) continue
      const statement = this.#registry.renew(entry.statement)
      this.#registry.drop(entry.statement)
      this.#statements.set(name, { ...entry, statement })
    }
  }

  /** DEALLOCATE ALL, DISCARD ALL, or the end of the session. */
  clear(): void {
    for (const [, { statement }] of this.#statements) this.#registry.drop(statement)
    this.#statements.clear()
    this.#portals.clear()
    this.unmark()
    this.#generation += 1
  }

  bind(portal: string, classified: Classified): void {
    this.#portals.set(portal, classified)
  }

  portal(name: string): Classified | undefined {
    return this.#portals.get(name)
  }

  /** Portals end with their transaction. */
  endTransaction(): void {
    this.#portals.clear()
  }

  /** From here on `rewind` takes everything back: the batch may be sent once more elsewhere. */
  mark(): void {
    this.unmark()
    this.#isMarked = true
  }

  unmark(): void {
    this.#isMarked = false
    while (this.#undo.pop() !== undefined) {}
  }

  rewind(): void {
    for (const undo of this.#undo.toReversed()) undo()
    this.unmark()
  }

  #record(undo: Undo, dropped: SessionStatement | undefined): Undo {
    if (dropped !== undefined) this.#registry.drop(dropped.statement)
    const generation = this.#generation
    let isUndone = false
    const once = (): void => {
      if (isUndone || generation !== this.#generation) return
      isUndone = true
      undo()
    }
    if (this.#isMarked) this.#undo.push(once)
    return once
  }
}
