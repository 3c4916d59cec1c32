/**
 * A look at a Query that only passes: where nothing is routed, a SELECT without parentheses calls no
 * function, so that nothing of it has to be judged. It says yes to less than it could.
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

/**
 * Whether the body of a Query is one SELECT that leaves nothing behind: it begins with the word and
 * a space, and holds no parenthesis, no semicolon but a last one, and nowhere the letters of INTO.
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
    if ((byte | LOWER) === O && isInto(bytes, at)) return false
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
