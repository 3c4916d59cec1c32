/**
 * The unit of routing: one Query, one FunctionCall, or extended messages up to Sync or Flush.
 * Reading a batch changes nothing: it finds where it ends and what it would run. A batch that does
 * not fit under `batch_bytes_max` is cut; it goes to the primary and the rest streams behind it.
 *
 * hot path: one reader for the whole worker, its result is valid until the next `read`.
 */
import { ProxyError } from '../base/errors.ts'
import type { Config } from '../config/config.ts'
import type { Classified } from '../routing/classify.ts'
import type { Judged } from '../routing/patterns.ts'
import * as frame from '../wire/frame.ts'
import { FrameReader } from '../wire/reader.ts'
import type { SessionPrepared, SessionStatement } from './prepared.ts'
import { isPlainSelect, PLAIN_SELECT } from './quick.ts'

export type BatchKind = 'simple' | 'function' | 'extended' | 'terminate'

/** What a text is called that nobody has read: it may do anything. */
export const NOT_UNDERSTOOD: Classified = {
  statements: [{ verb: 'other', read: false, reason: 'not_understood', unclean: true }],
  read: false,
  reason: 'not_understood',
  hint: null,
  functions: [],
}

export interface BatchLimits {
  readonly batchBytesMax: number
  readonly frameBytesMax: number
  /** False: texts are not placed, only what they leave in the session matters. */
  readonly isRouted: boolean
}

export function limitsOf({ pgbouncer, pgsteer }: Config, isRouted: boolean): BatchLimits {
  const { batchBytesMax } = pgsteer
  return { batchBytesMax, frameBytesMax: pgbouncer.maxPacketSize, isRouted }
}

/** What judges texts. */
export interface Judge {
  /** The text of a Parse. */
  readonly classify: (text: string) => Classified
  /** The body of a Query; null: it is broken. */
  readonly judge: (bytes: Buffer, start: number, end: number) => Judged | null
}

export class BatchReader {
  kind: BatchKind = 'extended'
  /** Bytes of the input that the batch takes. */
  bytes: number = 0
  /** False: cut at the limit, more of it follows. */
  isWhole = true
  /** It ends with Sync, a Query or a FunctionCall: a ReadyForQuery answers it. */
  endsReady = false
  /** It uses a named statement that was prepared earlier. */
  usesNamed = false
  /** Messages of the batch that run something. */
  executes = 0
  /** It closes something, or takes part of the rows. */
  isOdd = false
  /** Portals that it opens. */
  binds = 0
  /** Up to its first Execute, where what stands before concerns that one statement alone; else 0. */
  firstBytes = 0
  /** It begins with a Parse of the unnamed statement that says what the one before it said. */
  again: SessionStatement | null = null
  readonly classified: Classified[] = []
  /** Without that of a Query of which no string was made. */
  readonly texts: string[] = []
  readonly #reader = new FrameReader()
  #isRouted = true
  /** The unnamed statement is parsed in this very batch. */
  #parsesUnnamed = false
  /** Named statements parsed in this very batch. */
  readonly #parsed = new Set<string>()

  /**
   * Reads the next batch at the start of `input`. Returns false when more bytes are needed.
   *
   * Errors  ProxyError for a message that no client may send.
   */
  read(input: Buffer, prepared: SessionPrepared, judge: Judge, limits: BatchLimits): boolean {
    this.#reset()
    this.#isRouted = limits.isRouted
    let offset = 0
    while (input.length - offset >= frame.HEADER_BYTES) {
      const bytes = checkedFrameBytes(input, offset, limits.frameBytesMax)
      const type = input[offset] ?? 0
      if (offset > 0 && (type === frame.QUERY || type === frame.FUNCTION_CALL)) break
      if (offset + bytes > input.length) {
        if (input.length < limits.batchBytesMax) return false
        this.#cut(type, offset)
        return true
      }
      this.#reader.begin(input, offset + frame.HEADER_BYTES, offset + bytes)
      const isEnd = this.#message(type, prepared, judge)
      offset += bytes
      this.bytes = offset
      if (type === frame.EXECUTE && this.executes === 1) this.#noteFirst()
      if (isEnd) return true
      if (offset >= limits.batchBytesMax) {
        this.#cut(0, offset)
        return true
      }
    }
    // A Query behind messages that were never synced ends the batch before it.
    return this.bytes > 0 && input.length - this.bytes >= frame.HEADER_BYTES
  }

  #reset(): void {
    this.kind = 'extended'
    this.bytes = 0
    this.isWhole = true
    this.endsReady = false
    this.executes = 0
    this.isOdd = false
    this.binds = 0
    this.firstBytes = 0
    this.usesNamed = false
    this.again = null
    // `length = 0` would give their room up, and make it anew for each batch.
    while (this.classified.pop() !== undefined) {}
    while (this.texts.pop() !== undefined) {}
    this.#parsesUnnamed = false
    if (this.#parsed.size > 0) this.#parsed.clear()
  }

  #noteFirst(): void {
    if (this.binds === 1 && this.classified.length === 1) this.firstBytes = this.bytes
  }

  #cut(type: number, offset: number): void {
    if (offset === 0 && type === frame.QUERY) this.kind = 'simple'
    if (offset === 0 && type === frame.FUNCTION_CALL) this.kind = 'function'
    this.isWhole = false
    this.classified.push(NOT_UNDERSTOOD)
  }

  /** Returns true when the message ends the batch. */
  #message(type: number, prepared: SessionPrepared, judge: Judge): boolean {
    switch (type) {
      case frame.QUERY:
        this.#query(judge)
        return true
      case frame.PARSE:
        this.#parse(prepared, judge)
        return false
      case frame.BIND:
        this.binds += 1
        this.#reader.cstring()
        this.#uses(this.#reader.cstring(), prepared, judge)
        return false
      case frame.DESCRIBE:
        if (this.#reader.byte() === 0x53) this.#uses(this.#reader.cstring(), prepared, judge)
        return false
      case frame.EXECUTE:
        this.#execute(prepared)
        return false
      case frame.CLOSE:
        this.isOdd = true
        return false
      case frame.SYNC:
        this.endsReady = true
        return true
      case frame.FLUSH:
        return true
      case frame.FUNCTION_CALL:
        this.kind = 'function'
        this.endsReady = true
        this.executes += 1
        this.classified.push(NOT_UNDERSTOOD)
        return true
      case frame.TERMINATE:
        this.kind = 'terminate'
        return true
      default:
        throw new ProxyError('unknown_message')
    }
  }

  #query({ judge }: Judge): void {
    this.kind = 'simple'
    this.endsReady = true
    this.executes += 1
    if (!this.#isRouted && this.#reader.rest(isPlainSelect)) {
      this.classified.push(PLAIN_SELECT)
      return
    }
    const judged = this.#reader.rest(judge)
    if (judged === null) throw new ProxyError('broken_message', { message: 'Query' })
    if (judged.text !== null) this.texts.push(judged.text)
    this.classified.push(judged.classified)
  }

  #parse(prepared: SessionPrepared, { classify }: Judge): void {
    const name = this.#reader.cstring()
    const like = name === '' ? prepared.unnamedLike(this.#reader) : null
    const text = like === null ? this.#reader.cstring() : like.statement.text
    if (this.#reader.isBroken) throw new ProxyError('broken_message', { message: 'Parse' })
    const classified = classify(text)
    // A Parse at the front is the first to say what the batch runs.
    const isFront = this.bytes === 0
    this.again = isFront && like?.classified === classified ? like : this.again
    this.texts.push(text)
    this.classified.push(classified)
    if (name === '') this.#parsesUnnamed = true
    else this.#parsed.add(name)
  }

  /** What is known of a text may have changed since its Parse: it is asked again. */
  #uses(name: string, prepared: SessionPrepared, { classify }: Judge): void {
    if (this.#reader.isBroken) throw new ProxyError('broken_message', { message: 'Bind' })
    if (name === '' ? this.#parsesUnnamed : this.#parsed.has(name)) return
    const known = prepared.get(name)
    if (name !== '') this.usesNamed = true
    if (known === undefined) {
      this.classified.push(NOT_UNDERSTOOD)
      return
    }
    this.texts.push(known.statement.text)
    this.classified.push(classify(known.statement.text))
  }

  #execute(prepared: SessionPrepared): void {
    this.executes += 1
    const portal = this.#reader.cstring()
    if (this.#reader.int16() !== 0 || this.#reader.int16() !== 0) this.isOdd = true
    if (this.classified.length === 0)
      this.classified.push(prepared.portal(portal) ?? NOT_UNDERSTOOD)
  }
}

/**
 * Copy messages outside COPY are dropped, as PostgreSQL does; so is a Flush, and a Sync is answered:
 * nothing stands before them that a server knows of. Returns the bytes to drop.
 */
export function strayBytes(input: Buffer): number {
  if (!isStray(input[0] ?? 0)) return 0
  return input.length < frame.HEADER_BYTES
    ? 0
    : checkedFrameBytes(input, 0, Number.POSITIVE_INFINITY)
}

/** What a session that owes nothing and holds no server may be sent, and no server has to see. */
function isStray(type: number): boolean {
  switch (type) {
    case frame.COPY_DATA:
    case frame.COPY_DONE:
    case frame.COPY_FAIL:
    case frame.FLUSH:
    case frame.SYNC:
      return true
    default:
      return false
  }
}

/**
 * Errors  ProxyError `broken_message` or `frame_bytes_max` for a length word no message may have.
 */
export function checkedFrameBytes(input: Buffer, offset: number, bytesMax: number): number {
  const bytes = frame.frameBytes(input, offset)
  if (bytes < frame.HEADER_BYTES)
    throw new ProxyError('bad_header', { bytes: hexOf(input, offset) })
  if (bytes > bytesMax) throw new ProxyError('frame_bytes_max', { bytes, max: bytesMax })
  return bytes
}

function hexOf(input: Buffer, offset: number): string {
  return input.toString('hex', offset, offset + frame.HEADER_BYTES)
}
