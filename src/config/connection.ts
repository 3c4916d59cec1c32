/**
 * Connection strings, the values of [databases], [users] and [peers]: `key=value` pairs between
 * blanks, values in single quotes if need be, with '' for a quote. Unlike PgBouncer, where it is an
 * error, a `;` where the next key would begin starts a comment.
 *
 * Source: cstr_get_pair and the functions beside it in PgBouncer's src/loader.c.
 */
import { BadValue } from './kinds.ts'

/** The pairs in order, duplicates included. Throws BadValue; the message holds no value. */
export function readConnection(text: string): readonly (readonly [key: string, value: string])[] {
  const pairs: (readonly [string, string])[] = []
  let rest = skipBlanks(text)
  while (rest !== '' && !rest.startsWith(';')) {
    const head = /^([^= \t]+)[ \t]*=[ \t]*/.exec(rest)
    if (head === null) throw new BadValue(`syntax error: expected key=value ${after(pairs)}`)
    const [whole, name = ''] = head
    const [value, length] = readValue(rest.slice(whole.length), name)
    pairs.push([name, value])
    rest = skipBlanks(rest.slice(whole.length + length))
  }
  return pairs
}

function skipBlanks(text: string): string {
  return text.replace(/^[ \t]+/, '')
}

function after(pairs: readonly (readonly [string, string])[]): string {
  const last = pairs.at(-1)
  return last === undefined ? 'at the beginning' : `after ${last[0]}=`
}

/** The value at the start of `text`, and how many characters it takes there. */
function readValue(text: string, name: string): readonly [value: string, length: number] {
  const match = text.startsWith("'") ? /^'((?:[^']|'')*)'/.exec(text) : /^([^ \t]*)/.exec(text)
  if (match === null) throw new BadValue(`${name}= has no closing quote`)
  const [whole, inner = ''] = match
  if (inner === '') throw new BadValue(`${name}= has no value`)
  return [text.startsWith("'") ? inner.replaceAll("''", "'") : inner, whole.length]
}

/** Pairs as one connection string, quoted where they must be. */
export function writeConnection(pairs: readonly (readonly [string, string])[]): string {
  return pairs.map(([name, value]) => `${name}=${quote(value)}`).join(' ')
}

function quote(value: string): string {
  return /[\s']/.test(value) ? `'${value.replaceAll("'", "''")}'` : value
}
