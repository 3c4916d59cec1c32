/**
 * Tells a statement that ends from one that goes on, for the shell. Knows quotes, dollar quotes and
 * comments; does not care whether what it reads is SQL.
 */

const SPAN =
  /--[^\n]*(?:\n|$)|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$([A-Za-z_]\w*)?\$[\s\S]*?\$\1\$|\/\*/y

/** True when a semicolon outside of quotes and comments is followed by nothing but blanks and comments. */
export function isComplete(text: string): boolean {
  let at = 0
  let isEnded = false
  while (at < text.length) {
    const next = spanEnd(text, at)
    if (next === undefined) return false
    if (next > at + 1 && !text.startsWith('--', at) && !text.startsWith('/*', at)) isEnded = false
    else if (next === at + 1) isEnded = endsAfter(text.charAt(at), isEnded)
    at = next
  }
  return isEnded
}

function endsAfter(character: string, isEnded: boolean): boolean {
  if (character === ';') return true
  return isEnded && /\s/.test(character)
}

/** Where the quote, comment or character at `at` ends; undefined if it does not. */
function spanEnd(text: string, at: number): number | undefined {
  SPAN.lastIndex = at
  const span = SPAN.exec(text)
  if (span?.[0] === '/*') return commentEnd(text, at)
  if (span !== null) return at + span[0].length
  return /['"]/.test(text.charAt(at)) || /^\$(?:[A-Za-z_]\w*)?\$/.test(text.slice(at, at + 64))
    ? undefined
    : at + 1
}

/** PostgreSQL's comments nest. */
function commentEnd(text: string, start: number): number | undefined {
  let depth = 0
  for (let at = start; at < text.length - 1; at += 1) {
    const pair = text.slice(at, at + 2)
    if (pair === '/*') depth += 1
    else if (pair === '*/') depth -= 1
    else continue
    at += 1
    if (depth === 0) return at + 1
  }
  return undefined
}
