/** One statement's tokens and what is needed to judge them, with the small steps all readers share. */
import type { Catalogue } from './catalogue.ts'
import type { Statement, StatementReason, Verb } from './classify.ts'
import { CLOSE, DOT, foldedAt, nameAt, OPEN, QUOTED, type Tokens, WORD } from './lexer.ts'

export interface Head {
  readonly tokens: Tokens
  readonly from: number
  /** One past the last token. */
  readonly to: number
  readonly catalogue: Catalogue
  /** Grows by the names of the functions called. */
  readonly functions: string[]
}

export const NOT_UNDERSTOOD: Statement = {
  verb: 'other',
  read: false,
  reason: 'not_understood',
  unclean: true,
}

/** A statement that is no read and calls nothing. */
export function plain(verb: Verb, reason: StatementReason = 'verb'): Statement {
  return { verb, read: false, reason, unclean: false }
}

/** The unquoted word at `at`, folded; '' where there is none. */
export function wordAt(head: Head, at: number): string {
  return at < head.to && head.tokens.kind[at] === WORD ? foldedAt(head.tokens, at) : ''
}

/** The token's kind, 0 past the end. */
export function kindAt(head: Head, at: number): number {
  return at < head.to ? (head.tokens.kind[at] ?? 0) : 0
}

/** The raw text of the tokens from `at` to the end of the statement. */
export function restOf(head: Head, at: number): string {
  return head.tokens.text.slice(head.tokens.start[at], head.tokens.end[head.to - 1])
}

/** How many of `words` stand at `at`, in this order and each optional. */
export function skipWords(head: Head, at: number, words: readonly string[]): number {
  let next = at
  for (const word of words) if (wordAt(head, next) === word) next += 1
  return next
}

/** The unqualified name whose last part stands last in `a.b.c` at `at`; `next` is the token behind it. */
export function qualifiedAt(head: Head, at: number): { name: string; next: number } | null {
  let next = at
  while (isNameAt(head, next) && kindAt(head, next + 1) === DOT) next += 2
  return isNameAt(head, next) ? { name: nameAt(head.tokens, next), next: next + 1 } : null
}

/** The name at `at` if it is the last token of the statement. */
export function onlyName(head: Head, at: number): string | null {
  return isNameAt(head, at) && at + 1 === head.to ? nameAt(head.tokens, at) : null
}

export function isNameAt(head: Head, at: number): boolean {
  const kind = kindAt(head, at)
  return kind === WORD || kind === QUOTED
}

/** The index behind the parenthesis that closes the one at `at`, -1 if none does. */
export function behindClose(head: Head, at: number): number {
  let depth = 0
  for (let next = at; next < head.to; next += 1) {
    const kind = head.tokens.kind[next]
    if (kind === OPEN) depth += 1
    else if (kind === CLOSE) depth -= 1
    if (depth === 0) return next + 1
  }
  return -1
}
