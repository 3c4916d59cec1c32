/**
 * The batch that was routed last: what has to be remembered of it while a server works on it, and
 * its bytes as long as it may have to be sent once more.
 */
import type { Classified, Statement, Verb } from '../routing/classify.ts'
import * as frame from '../wire/frame.ts'
import type { BatchReader } from './batch.ts'
import { isHealable, type Refusal } from './healing.ts'
import type { SessionStatement } from './prepared.ts'
import { giveBack, kept } from './rooms.ts'

/** Servers that may be lost under one read before its client is told. */
const LOSSES_MAX = 3
const NO_TEXTS: readonly string[] = []

export class Attempt {
  bytes = 0
  endsReady = true
  isWhole = true
  /** What it is when it is one whole Query: it need not be judged again. */
  query: Classified | null = null
  /** It begins with a Parse of the unnamed statement that says what the one before it said. */
  again: SessionStatement | null = null
  /** Its error was kept from the client: it goes once more when the server is done with it. */
  isHealing = false
  /** It is proved to read, which a replica may leave to the primary. */
  #isRead = false
  /** It uses a statement prepared earlier, and may be sent again when that is stale. */
  #mayBeStale = false
  /** Its bytes are at the front of a room. */
  #retained: Buffer | null = null
  /** What it runs: usually one text. */
  #text: string | null = null
  #others: readonly string[] = NO_TEXTS
  /** Times that its server was lost. */
  #losses = 0

  begin(batch: BatchReader): void {
    this.bytes = batch.bytes
    this.endsReady = batch.endsReady
    this.isWhole = batch.isWhole
    this.#text = batch.texts[0] ?? null
    this.#others = batch.texts.length > 1 ? batch.texts.slice(1) : NO_TEXTS
    this.query = batch.kind === 'simple' && batch.isWhole ? (batch.classified[0] ?? null) : null
    this.again = batch.again
    this.isHealing = false
    this.#losses = 0
    this.#isRead = batch.classified.every(isRead)
    this.#mayBeStale = batch.usesNamed && batch.classified.every(mayComeTwice)
    this.#drop()
  }

  /** What it runs, as far as it is known. */
  get texts(): readonly string[] {
    if (this.#text !== null) return [this.#text, ...this.#others]
    if (this.query === null || this.#retained === null) return NO_TEXTS
    return [this.#retained.toString('latin1', frame.HEADER_BYTES, this.bytes - 1)]
  }

  /** It may have to be sent once more. */
  get isRetained(): boolean {
    return this.#retained !== null
  }

  /**
   * Keeps its bytes, which begin `input`, where it may be refused without having been executed:
   * whole batches outside a transaction that only read on a replica, or that run statements prepared
   * earlier. Once: who is refused again is told.
   */
  retain(input: Buffer, isReplica: boolean): boolean {
    const mayBeRefused = (isReplica && this.#isRead) || this.#mayBeStale
    if (!this.isWhole || !this.endsReady || !mayBeRefused) return false
    this.#drop()
    this.#retained = kept(input, this.bytes)
    return true
  }

  /** Whether an error of its server is kept from the client. */
  heals(refusal: Refusal): boolean {
    if (this.#retained === null || !isHealable(refusal)) return false
    this.isHealing = true
    return true
  }

  /** It runs something, and every statement of it is of this kind. */
  isOnly(kind: (statement: Statement) => boolean, classify: (text: string) => Classified): boolean {
    const { texts } = this
    return texts.length > 0 && texts.every((text) => classify(text).statements.every(kind))
  }

  /** Its bytes, to be sent once more elsewhere, or null when they may not. The server was lost. */
  takeBackLost(): Buffer | null {
    this.#losses += 1
    this.again = null
    const bytes = this.#isRead && this.#losses <= LOSSES_MAX ? this.#copy() : null
    this.#drop()
    return bytes
  }

  /** Its bytes, to be sent once more: nobody waits for the answer of the server that has them. */
  takeBackMoved(): Buffer {
    const bytes = this.#copy() ?? Buffer.alloc(0)
    this.again = null
    this.#drop()
    return bytes
  }

  /** Its bytes, to be sent once more; it is not kept any longer. */
  takeBack(): Buffer {
    const bytes = this.#copy() ?? Buffer.alloc(0)
    this.isHealing = false
    this.again = null
    this.#isRead = false
    this.#mayBeStale = false
    this.#drop()
    return bytes
  }

  #copy(): Buffer | null {
    return this.#retained === null ? null : Buffer.from(this.#retained.subarray(0, this.bytes))
  }

  #drop(): void {
    if (this.#retained !== null) giveBack(this.#retained)
    this.#retained = null
  }

  /** It was answered: a client that does nothing keeps nothing of it. */
  end(): void {
    this.isHealing = false
    this.#drop()
    this.#text = null
    this.#others = NO_TEXTS
    this.query = null
    this.again = null
  }
}

/** Their work is taken back by the error of a later statement, and they leave no transaction open. */
const MAY_COME_TWICE: ReadonlySet<Verb> = new Set<Verb>([
  'select',
  'values',
  'table',
  'show',
  'explain',
  'insert',
  'update',
  'delete',
  'merge',
])

function isRead({ read }: Classified): boolean {
  return read
}

function mayComeTwice({ statements }: Classified): boolean {
  return statements.every(({ verb, pins }) => pins === undefined && MAY_COME_TWICE.has(verb))
}
