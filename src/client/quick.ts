/**
 * A look at a Query that only passes: where nothing is routed, a SELECT without parentheses calls no
 * function, so that nothing of it has to be judged. What it says yes to is a read that leaves nothing
 * behind, locks no rows and asks nothing about its server. It says yes to less than it could.
 *
 * hot path: one walk over the bytes, no string is made of them.
 */
import type { Classified } from '../routing/classify.ts'

/** What such a text is called. */
export const PLAIN_SELECT: Classified = {
  statements: [{ verb: 'select', read: true, reason: 'select', unclean: false }],
  read: true,
  reason: 'select',
  hint: null,
  functions: [],
}

const SELECT = Buffer.from('select')
const BYTES_MAX = 4096
const LOWER = 0x20
const SPACE = 0x20
const OPEN = 0x28
const SEMICOLON = 0x3b
const N = 0x6e
const T = 0x74
const O = 0x6f
const I = 0x69
const F = 0x66
const R = 0x72
const P = 0x70
const G = 0x67
const A = 0x61
const Z = 0x7a
const ZERO = 0x30
const NINE = 0x39
const DOLLAR = 0x24
const UNDERSCORE = 0x5f
const NOT_ASCII = 0x80

/**
 * Whether the body of a Query is one SELECT that leaves nothing behind: it begins with the word and
 * a space, and holds no parenthesis, no semicolon but a last one, nowhere the letters of INTO, not
 * the word FOR (of a locking clause), and no name with `pg_` in it.
 *
 * Shape   `bytes[start, end)` with the zero byte at its end.
 */
export function isPlainSelect(bytes: Buffer, start: number, end: number): boolean {
  const last = end - 1
  if (last - start > BYTES_MAX || bytes[last] !== 0 || !startsWithSelect(bytes, start, last))
    return false
  for (let at = start + SELECT.length; at < last; at += 1) {
    const byte = bytes[at] ?? 0
    if (byte === OPEN || byte === 0) return false
    if (byte === SEMICOLON && at !== last - 1) return false
    if ((byte | LOWER) === O && (isInto(bytes, at) || isFor(bytes, at))) return false
    if (byte === UNDERSCORE && isCatalogue(bytes, at)) return false
  }
  return true
}

function startsWithSelect(bytes: Buffer, start: number, last: number): boolean {
  if (last - start <= SELECT.length || bytes[start + SELECT.length] !== SPACE) return false
  for (let at = 0; at < SELECT.length; at += 1)
    if (((bytes[start + at] ?? 0) | LOWER) !== SELECT[at]) return false
  return true
}

/** The letters before an O are I, N and T. */
function isInto(bytes: Buffer, at: number): boolean {
  return (
    ((bytes[at - 1] ?? 0) | LOWER) === T &&
    ((bytes[at - 2] ?? 0) | LOWER) === N &&
    ((bytes[at - 3] ?? 0) | LOWER) === I
  )
}

/** The letters around an O are F and R, and the word is not part of a longer one. */
function isFor(bytes: Buffer, at: number): boolean {
  return (
    ((bytes[at + 1] ?? 0) | LOWER) === R &&
    ((bytes[at - 1] ?? 0) | LOWER) === F &&
    // Older servers read `1for update` as two words.
    !isWithin(bytes[at - 2] ?? 0, false) &&
    !isWithin(bytes[at + 2] ?? 0, true)
  )
}

/** The letters before an underscore are P and G. */
function isCatalogue(bytes: Buffer, at: number): boolean {
  return ((bytes[at - 1] ?? 0) | LOWER) === G && ((bytes[at - 2] ?? 0) | LOWER) === P
}

/** A byte of a name; a digit before a word may be the end of a number. */
function isWithin(byte: number, mayBeDigit: boolean): boolean {
  const lower = byte | LOWER
  if (lower >= A && lower <= Z) return true
  if (byte >= ZERO && byte <= NINE) return mayBeDigit
  return byte === UNDERSCORE || byte === DOLLAR || byte >= NOT_ASCII
}
