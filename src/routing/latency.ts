// hot path
/**
 * How long statements usually take, so that a read is only sent behind one that is quick. Texts that
 * differ in their literals and comments alone have one shape, a number; what is learnt of a shape
 * lives in a table of fixed size, two places per shape, the less used one is given up for a new one.
 *
 *     shape   | check 16 bits | place 15 bits, of which the last tells two places apart |
 *
 * Two shapes of one number share what is learnt: it is advice, and who follows it must bear with a
 * statement that takes longer than ever before.
 */

/** Places in the table; a power of two. */
const PLACES = 32_768
/** The bits of a shape above are what a place knows it by. */
const CHECK_SHIFT = 15
/** Samples that make a latency known. */
const KNOWN_SAMPLES = 3
/** The weight of a sample: the first ones count alike, later ones an eighth. */
const WEIGHT_SAMPLES = 8
/** One sample counts as so many times what was learnt, and so much more, at most. */
const OUTLIER_FACTOR = 8
const OUTLIER_MS = 2
/** Counted so far, no further; the number behind says that it is barred. */
const SAMPLES_MAX = 254
const BARRED = 255

export class Latencies {
  /** Made with the first sample: most databases never need them. */
  #means = new Float32Array(0)
  #checks = new Uint16Array(0)
  /** 0: the place is free. */
  #samples = new Uint8Array(0)
  #size = 0

  /** How many shapes are known. */
  get size(): number {
    return this.#size
  }

  /** Milliseconds that it usually takes; Infinity for one that is not known yet, or barred. */
  expectedMs(shape: number): number {
    const place = this.#find(shape)
    if (place === -1) return Number.POSITIVE_INFINITY
    const samples = this.#samples[place] ?? 0
    if (samples < KNOWN_SAMPLES || samples === BARRED) return Number.POSITIVE_INFINITY
    return this.#means[place] ?? Number.POSITIVE_INFINITY
  }

  /** One that took `ms`. A few slow ones in a row make a shape slow, and more quick ones quick again. */
  observe(shape: number, ms: number): void {
    if (!(ms >= 0)) return
    const known = this.#find(shape)
    const place = known === -1 ? this.#enter(shape) : known
    const samples = this.#samples[place] ?? 0
    if (samples === BARRED) return
    const mean = this.#means[place] ?? 0
    const isKnown = samples >= KNOWN_SAMPLES
    const counted = isKnown ? Math.min(ms, OUTLIER_FACTOR * mean + OUTLIER_MS) : ms
    const weight = Math.min(samples + 1, WEIGHT_SAMPLES)
    this.#means[place] = mean + (counted - mean) / weight
    if (samples < SAMPLES_MAX) this.#samples[place] = samples + 1
  }

  /** It turned out to be a write: it is never quick, until all is forgotten. */
  bar(shape: number): void {
    const known = this.#find(shape)
    const place = known === -1 ? this.#enter(shape) : known
    this.#samples[place] = BARRED
  }

  isBarred(shape: number): boolean {
    const place = this.#find(shape)
    return place !== -1 && this.#samples[place] === BARRED
  }

  forget(): void {
    this.#samples.fill(0)
    this.#size = 0
  }

  /** Its place, or -1. */
  #find(shape: number): number {
    const place = shape & (PLACES - 1)
    if (this.#holds(place, shape)) return place
    return this.#holds(place ^ 1, shape) ? place ^ 1 : -1
  }

  #holds(place: number, shape: number): boolean {
    return this.#checks[place] === shape >>> CHECK_SHIFT && this.#samples[place] !== 0
  }

  /** A place for a shape that has none. */
  #enter(shape: number): number {
    if (this.#samples.length === 0) this.#make()
    const first = shape & (PLACES - 1)
    const other = first ^ 1
    const place = (this.#samples[other] ?? 0) < (this.#samples[first] ?? 0) ? other : first
    if (this.#samples[place] === 0) this.#size += 1
    this.#checks[place] = shape >>> CHECK_SHIFT
    this.#means[place] = 0
    this.#samples[place] = 0
    return place
  }

  #make(): void {
    this.#means = new Float32Array(PLACES)
    this.#checks = new Uint16Array(PLACES)
    this.#samples = new Uint8Array(PLACES)
  }
}

const QUOTE = 0x27
const DOLLAR = 0x24
const DASH = 0x2d
const SLASH = 0x2f
const STAR = 0x2a
const POINT = 0x2e
const BACKSLASH = 0x5c
const NEWLINE = 0x0a
const LOWER = 0x20
const E = 0x65
/** In place of a literal; no text holds it. */
const MARK = 0x01

const PLAIN = 0
const NAME = 1
const DIGIT = 2
/** May begin a literal or a comment. */
const START = 3
const KINDS = kindsOfBytes()

/** FNV-1a. */
const BASIS = 0x811c9dc5
const PRIME = 0x01000193

/**
 * The shape of the text in `bytes[start, end)`, without its zero byte: numbers and quoted strings
 * are all the same, comments are nothing.
 *
 * Returns an integer from 0 to 2^31 - 1.
 * Cost    one walk, allocates nothing.
 */
export function shapeOfBytes(bytes: Buffer, start: number, end: number): number {
  let hash = BASIS
  let isInName = false
  let before = 0
  for (let at = start; at < end; ) {
    const byte = bytes[at] ?? 0
    const kind = KINDS[byte] ?? PLAIN
    // A digit inside a name, or of a parameter's number, is one of its letters.
    if (kind === PLAIN || kind === NAME || (kind === DIGIT && isInName)) {
      hash = Math.imul(hash ^ byte, PRIME)
      isInName = kind !== PLAIN
      before = byte
      at += 1
      continue
    }
    const literal = endOfLiteral(bytes, at, end, (before | LOWER) === E)
    const comment = literal === at ? endOfComment(bytes, at, end) : at
    if (literal > at) hash = Math.imul(hash ^ MARK, PRIME)
    else if (comment === at) hash = Math.imul(hash ^ byte, PRIME)
    const isItself = literal === at && comment === at
    isInName = isItself && byte === DOLLAR
    before = 0
    at = isItself ? at + 1 : Math.max(literal, comment)
  }
  // The low bits choose the place: the high ones are folded in.
  return (hash ^ (hash >>> 15)) & 0x7fffffff
}

/** Longer texts are copied to be read. */
const ROOM = Buffer.allocUnsafeSlow(16_384)

/** The same of a text that is a latin1 string of its bytes. */
export function shapeOfText(text: string): number {
  if (text.length > ROOM.length) return shapeOfBytes(Buffer.from(text, 'latin1'), 0, text.length)
  return shapeOfBytes(ROOM, 0, ROOM.write(text, 'latin1'))
}

/** Behind the literal that begins at `at`; `at` where none does. */
function endOfLiteral(bytes: Buffer, at: number, end: number, hasEscapes: boolean): number {
  const byte = bytes[at] ?? 0
  if (byte === QUOTE) return endOfString(bytes, at, end, hasEscapes)
  if (byte === DOLLAR)
    return at + 1 < end && bytes[at + 1] === DOLLAR ? endOfDollars(bytes, at + 2, end) : at
  return KINDS[byte] === DIGIT ? endOfNumber(bytes, at, end) : at
}

/** Digits, the point, an exponent, and 0x1F and 1_000 as well. */
function endOfNumber(bytes: Buffer, start: number, end: number): number {
  let at = start + 1
  for (; at < end; at += 1) {
    const kind = KINDS[bytes[at] ?? 0]
    if (kind !== DIGIT && kind !== NAME && bytes[at] !== POINT) break
  }
  return at
}

/** Two quotes stand for one, and after an E a backslash takes the next byte along. */
function endOfString(bytes: Buffer, start: number, end: number, hasEscapes: boolean): number {
  for (let at = start + 1; at < end; at += 1) {
    const byte = bytes[at]
    if (byte === BACKSLASH && hasEscapes) at += 1
    if (byte !== QUOTE) continue
    if (at + 1 === end || bytes[at + 1] !== QUOTE) return at + 1
    at += 1
  }
  return end
}

function endOfDollars(bytes: Buffer, start: number, end: number): number {
  for (let at = start; at + 1 < end; at += 1)
    if (bytes[at] === DOLLAR && bytes[at + 1] === DOLLAR) return at + 2
  return end
}

/** Behind the comment that begins at `at`; `at` where none does. One inside another is not seen. */
function endOfComment(bytes: Buffer, start: number, end: number): number {
  if (start + 1 === end) return start
  const byte = bytes[start]
  if (byte === DASH && bytes[start + 1] === DASH) {
    let at = start
    while (at < end && bytes[at] !== NEWLINE) at += 1
    return at
  }
  if (byte !== SLASH || bytes[start + 1] !== STAR) return start
  for (let at = start + 2; at + 1 < end; at += 1)
    if (bytes[at] === STAR && bytes[at + 1] === SLASH) return at + 2
  return end
}

function kindsOfBytes(): Uint8Array {
  const kinds = new Uint8Array(256)
  for (let byte = 0; byte < 256; byte += 1) {
    const char = String.fromCharCode(byte)
    if (/[0-9]/.test(char)) kinds[byte] = DIGIT
    else if (/[A-Za-z_\x80-\xff]/.test(char)) kinds[byte] = NAME
    else if ("'$-/".includes(char)) kinds[byte] = START
  }
  return kinds
}
