// hot path
/**
 * Judgements of texts that differ in their constants alone: `... WHERE id = 5` says of itself what
 * `... WHERE id = 6` says. Numbers and strings are cut out of the bytes of a text, what is left is its
 * pattern, and a pattern that is known is judged already: no string is made of such a text, and none is
 * kept. It is compared byte by byte, a number of it only finds it.
 *
 *     UPDATE t SET a = a + 17, b = 'x' WHERE id = 5   the text
 *     UPDATE t SET a = a + #, b = $ WHERE id = #      its pattern
 *
 * It cuts out less than it could: what the lexer may cut in another way (comments, E'', $$, 1e5, 0x1F)
 * has no pattern, and a text without one is judged as a whole.
 * Source  lexer.ts, of which each token is either left in the pattern or cut out whole.
 */
import type { Classified, Verb } from './classify.ts'

/** A text that was judged. */
export interface Judged {
  readonly classified: Classified
  /** Null: other texts have the same judgement, and nobody has made a string of this one. */
  readonly text: string | null
}

interface Pattern extends Judged {
  readonly hash: number
  readonly bytes: Buffer
}

/** Longer texts have none. */
const BYTES_MAX = 2048
/** A power of two; each pattern may take one of two. */
const PLACES = 1024
/** FNV-1a. */
const BASIS = 0x811c9dc5
const PRIME = 0x01000193

/** In place of a number and of a string; no text with a pattern holds them. */
const NUMBER = 0x01
const STRING = 0x02

const PLAIN = 0
const NAME = 1
const DIGIT = 2
/** Has a meaning of its own, with the byte behind it. */
const START = 3
const NEVER = 4
const KINDS = kindsOfBytes()

const QUOTE = 0x27
const DOUBLE_QUOTE = 0x22
const DOLLAR = 0x24
const DASH = 0x2d
const SLASH = 0x2f
const STAR = 0x2a
const POINT = 0x2e

/** The pattern of the text that was read last. */
const room = Buffer.allocUnsafeSlow(BYTES_MAX)
let length = 0
let hash = 0
let constants = 0

/** What they say does not depend on the constants in them. */
const ALIKE: ReadonlySet<Verb> = new Set<Verb>([
  'select',
  'values',
  'table',
  'insert',
  'update',
  'delete',
  'merge',
])
/** Its constant says what it shows. */
const SHOWS_BY_NAME = /current_setting/i

export class Patterns {
  readonly #places: (Pattern | null)[] = Array.from({ length: PLACES }, () => null)
  /** What was looked for there last, in vain. */
  readonly #missed = new Int32Array(PLACES)
  #size = 0

  /** How many are known. */
  get size(): number {
    return this.#size
  }

  /**
   * What is known of the text in `bytes[start, end)`, behind which its zero byte stands; null: nothing,
   * or it has no pattern.
   *
   * Cost    one walk, and another over the pattern; allocates nothing.
   */
  find(bytes: Buffer, start: number, end: number): Judged | null {
    if (!read(bytes, start, end)) return null
    const place = hash & (PLACES - 1)
    const one = this.#places[place] ?? null
    if (one !== null && isRead(one)) return one
    const other = this.#places[place ^ 1] ?? null
    return other !== null && isRead(other) ? other : null
  }

  /**
   * Keeps the judgement of a text whose pattern was looked for before and not found: a pattern that
   * comes once costs its walk alone. `isSure`: without that condition.
   */
  learn(text: string, classified: Classified, isSure = false): void {
    if (text.length > BYTES_MAX) return
    const end = ROOM.write(text, 'latin1')
    ROOM[end] = 0
    if (!read(ROOM, 0, end)) return
    const place = hash & (PLACES - 1)
    const isAgain = this.#missed[place] === hash
    this.#missed[place] = hash
    if (!isAgain && !isSure) return
    if (constants > 0 && !(classified.statements.every(isAlike) && !SHOWS_BY_NAME.test(text)))
      return
    const pattern = {
      classified,
      text: constants === 0 ? text : null,
      hash,
      bytes: Buffer.from(room.subarray(0, length)),
    }
    this.#put(pattern, place)
  }

  forget(): void {
    this.#places.fill(null)
    this.#missed.fill(0)
    this.#size = 0
  }

  #put(pattern: Pattern, first: number): void {
    const one = this.#places[first] ?? null
    const other = this.#places[first ^ 1] ?? null
    let place = first
    if (other !== null && isRead(other)) place = first ^ 1
    else if (one !== null && !isRead(one) && other === null) place = first ^ 1
    if ((this.#places[place] ?? null) === null) this.#size += 1
    this.#places[place] = pattern
  }
}

/** Texts are copied to be read, and end as they do in a message. */
const ROOM = Buffer.allocUnsafeSlow(BYTES_MAX + 1)

function isAlike({ verb }: { readonly verb: Verb }): boolean {
  return ALIKE.has(verb)
}

/** It is the pattern that was read last. */
function isRead(pattern: Pattern): boolean {
  const { bytes } = pattern
  if (pattern.hash !== hash || bytes.length !== length) return false
  for (let at = 0; at < bytes.length; at += 1) if (bytes[at] !== room[at]) return false
  return true
}

/** Reads the pattern of `bytes[start, end)`. Returns false where there is none. */
function read(bytes: Buffer, start: number, end: number): boolean {
  if (end - start > BYTES_MAX) return false
  let to = 0
  let sum = BASIS
  let count = 0
  for (let at = start; at < end; ) {
    const byte = bytes[at] ?? 0
    const kind = KINDS[byte] ?? NEVER
    if (kind === PLAIN) {
      room[to] = byte
      to += 1
      sum = Math.imul(sum ^ byte, PRIME)
      at += 1
      continue
    }
    const next = kind === DIGIT ? endOfNumber(bytes, at, end) : endOfPart(bytes, at, end)
    if (next === -1) return false
    if (kind === DIGIT || byte === QUOTE) {
      const mark = kind === DIGIT ? NUMBER : STRING
      room[to] = mark
      to += 1
      sum = Math.imul(sum ^ mark, PRIME)
      count += 1
      at = next
    } else
      for (; at < next; at += 1) {
        const part = bytes[at] ?? 0
        room[to] = part
        to += 1
        sum = Math.imul(sum ^ part, PRIME)
      }
  }
  length = to
  hash = sum ^ (sum >>> 15)
  constants = count
  return true
}

/** Behind what begins at `at` and is no number; -1 where the lexer may see something else. */
function endOfPart(bytes: Buffer, at: number, end: number): number {
  const byte = bytes[at] ?? 0
  switch (byte) {
    case QUOTE:
      return endOfString(bytes, at, end)
    case DOUBLE_QUOTE:
      return endOfQuoted(bytes, at, end)
    case DOLLAR:
      return endOfParameter(bytes, at, end)
    case DASH:
      return bytes[at + 1] === DASH ? -1 : at + 1
    case SLASH:
      return bytes[at + 1] === STAR ? -1 : at + 1
    case POINT:
      return KINDS[bytes[at + 1] ?? 0] === DIGIT ? -1 : at + 1
    default:
      return KINDS[byte] === NAME ? endOfName(bytes, at, end) : -1
  }
}

function endOfName(bytes: Buffer, start: number, end: number): number {
  let at = start + 1
  while (at < end && isNamePart(bytes[at] ?? 0)) at += 1
  return at < end && isQuote(bytes[at]) ? -1 : at
}

/** Digits, and a point with digits behind it; nothing that may belong to the number follows. */
function endOfNumber(bytes: Buffer, start: number, end: number): number {
  let at = endOfDigits(bytes, start, end)
  if (at < end && bytes[at] === POINT) {
    const point = at
    at = endOfDigits(bytes, at + 1, end)
    if (at === point + 1) return -1
  }
  return at < end && (isNamePart(bytes[at] ?? 0) || bytes[at] === POINT) ? -1 : at
}

function endOfDigits(bytes: Buffer, start: number, end: number): number {
  let at = start
  while (at < end && KINDS[bytes[at] ?? 0] === DIGIT) at += 1
  return at
}

/** Two quotes stand for one. */
function endOfString(bytes: Buffer, start: number, end: number): number {
  for (let at = start + 1; at < end; at += 1) {
    const byte = bytes[at]
    if (byte === 0) return -1
    if (byte !== QUOTE) continue
    if (at + 1 === end || bytes[at + 1] !== QUOTE) return at + 1
    at += 1
  }
  return -1
}

function endOfQuoted(bytes: Buffer, start: number, end: number): number {
  for (let at = start + 1; at < end; at += 1) {
    const byte = bytes[at] ?? 0
    if (byte === NUMBER || byte === STRING || byte === 0) return -1
    if (byte === DOUBLE_QUOTE) return at + 1
  }
  return -1
}

/** `$1`; any other dollar outside a name begins a string. */
function endOfParameter(bytes: Buffer, start: number, end: number): number {
  const at = endOfDigits(bytes, start + 1, end)
  const isAlone = at === end || !isNamePart(bytes[at] ?? 0)
  return at > start + 1 && isAlone && bytes[at] !== POINT ? at : -1
}

function isNamePart(byte: number): boolean {
  const kind = KINDS[byte]
  return kind === NAME || kind === DIGIT || byte === DOLLAR
}

function isQuote(byte: number | undefined): boolean {
  return byte === QUOTE || byte === DOUBLE_QUOTE
}

function kindsOfBytes(): Uint8Array {
  const kinds = new Uint8Array(256)
  for (let byte = 0; byte < 256; byte += 1) {
    const char = String.fromCharCode(byte)
    if (byte === 0 || byte === NUMBER || byte === STRING) kinds[byte] = NEVER
    else if (/[0-9]/.test(char)) kinds[byte] = DIGIT
    else if (/[A-Za-z_\x80-\xff]/.test(char)) kinds[byte] = NAME
    else if ('\'"$-/.'.includes(char)) kinds[byte] = START
  }
  return kinds
}
