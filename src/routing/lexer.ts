// hot path
/**
 * Cuts SQL text into tokens as PostgreSQL's own scanner does, as far as routing must tell them apart:
 * words, quoted names, constants, parentheses, and single operator characters. It decodes nothing and
 * keeps only offsets. Text that PostgreSQL versions cut differently, or that only an exotic rule
 * explains (U&"names", a continued E'' constant, 1E'..'), is refused, and refused means "not
 * understood". Rules: src/backend/parser/scan.l, with standard_conforming_strings on.
 */

export const WORD = 1
export const QUOTED = 2
export const STRING = 3
export const NUMBER = 4
export const PARAM = 5
export const OPERATOR = 6
export const OPEN = 7
export const CLOSE = 8
export const COMMA = 9
export const SEMICOLON = 10
export const DOT = 11
export const BRACKET = 12
export const COLON = 13
export const TYPECAST = 14

/** A text above this is not looked at. */
export const TEXT_BYTES_MAX = 1_048_576
const TOKENS_MIN = 1024
const TOKENS_KEPT_MAX = 65_536
/** How many tokens past the end a reader may look at. */
const LOOKAHEAD = 8

/** Offsets of one text's tokens. There is one, filled again by every `lex`: read it before the next. */
export interface Tokens {
  text: string
  count: number
  kind: Uint8Array
  start: Int32Array
  end: Int32Array
  /** Of a WORD: `hashOf` its folded text. */
  hash: Int32Array
  /** What a leading comment `pgsteer: primary` or `pgsteer: replica` asks for. */
  hint: 'primary' | 'replica' | null
  /** Index of the last E'' constant, -1 for none: what follows it may be its continuation. */
  escaped: number
}

const tokens: Tokens = {
  text: '',
  count: 0,
  kind: new Uint8Array(TOKENS_MIN),
  start: new Int32Array(TOKENS_MIN),
  end: new Int32Array(TOKENS_MIN),
  hash: new Int32Array(TOKENS_MIN),
  hint: null,
  escaped: -1,
}

/** Character classes that are not themselves a token kind. */
const SPACE = 20
const QUOTE = 21
const DOLLAR = 22
const DASH = 23
const SLASH = 24
const DIGIT = 25
const CLASS = classes()
/** 1 for letters, digits, `_` and `$`. */
const IS_WORD_PART = wordParts()

/**
 * Cuts `text` (bytes as latin1) into tokens.
 *
 * Returns the shared token list, or null when the text is not understood: unterminated, over
 * TEXT_BYTES_MAX, a NUL or a character no token may start with.
 * Cost    linear in the text; allocates only when the list grows.
 */
export function lex(text: string): Tokens | null {
  begin(text)
  const { length } = text
  if (length > TEXT_BYTES_MAX) return null
  let at = 0
  while (at >= 0 && at < length) at = step(text, at)
  if (at < 0) return null
  terminate()
  return tokens
}

/** The token's text, folded as PostgreSQL folds an unquoted name (ASCII letters only). */
export function foldedAt(list: Tokens, index: number): string {
  return fold(list.text.slice(list.start[index], list.end[index]))
}

/** The name a WORD or QUOTED token stands for. */
export function nameAt(list: Tokens, index: number): string {
  if (list.kind[index] !== QUOTED) return foldedAt(list, index)
  const start = (list.start[index] ?? 0) + 1
  const inner = list.text.slice(start, (list.end[index] ?? 0) - 1)
  return inner.includes('"') ? inner.replaceAll('""', '"') : inner
}

/** A number for a word in any case: equal words have equal numbers, others mostly not. */
export function hashOf(name: string): number {
  let hash = name.charCodeAt(0) | 32
  for (let at = 1; at < name.length; at += 1) {
    hash = (Math.imul(hash, 31) + (name.charCodeAt(at) | 32)) | 0
  }
  return hash
}

/** ASCII letters in lower case; other bytes stay, because their folding depends on the encoding. */
export function fold(text: string): string {
  let hasUpper = false
  let isAscii = true
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at)
    if (code >= 65 && code <= 90) hasUpper = true
    else if (code >= 128) isAscii = false
  }
  if (!hasUpper) return text
  return isAscii ? text.toLowerCase() : text.replace(/[A-Z]+/g, (upper) => upper.toLowerCase())
}

function step(text: string, at: number): number {
  const code = text.charCodeAt(at)
  const kind = code < 128 ? (CLASS[code] ?? 0) : WORD
  switch (kind) {
    case SPACE:
      return at + 1
    case WORD:
      return word(text, at)
    case DIGIT:
      return number(text, at)
    case QUOTE:
      return tokens.escaped >= 0 && tokens.escaped === tokens.count - 1 ? -1 : string(text, at, at)
    case QUOTED:
      return quoted(text, at)
    case DOLLAR:
      return dollar(text, at)
    case DASH:
      if (text.charCodeAt(at + 1) === 45) return lineComment(text, at)
      return push(OPERATOR, at, at + 1)
    case SLASH:
      if (text.charCodeAt(at + 1) === 42) return blockComment(text, at)
      return push(OPERATOR, at, at + 1)
    case DOT:
      if (isDigit(text.charCodeAt(at + 1))) return number(text, at)
      return push(DOT, at, at + 1)
    case COLON:
      if (text.charCodeAt(at + 1) === 58) return push(TYPECAST, at, at + 2)
      return push(COLON, at, at + 1)
    case 0:
      return -1
    default:
      return push(kind, at, at + 1)
  }
}

function word(text: string, at: number): number {
  const { length } = text
  let hash = text.charCodeAt(at) | 32
  let end = at + 1
  while (end < length) {
    const code = text.charCodeAt(end)
    if (code < 128 && IS_WORD_PART[code] === 0) break
    hash = (Math.imul(hash, 31) + (code | 32)) | 0
    end += 1
  }
  if (end - at > 1) return pushWord(at, end, hash)
  const next = text.charCodeAt(end)
  const letter = text.charCodeAt(at) | 32
  if (next === 39) {
    if (letter === 101) return escapeString(text, at, end)
    if (letter === 98 || letter === 120 || letter === 110) return string(text, at, end)
  }
  if (letter === 117 && next === 38) {
    const after = text.charCodeAt(end + 1)
    if (after === 34) return -1
    if (after === 39) return string(text, at, end + 1)
  }
  return pushWord(at, end, hash)
}

function pushWord(start: number, end: number, hash: number): number {
  push(WORD, start, end)
  tokens.hash[tokens.count - 1] = hash
  return end
}

/** A constant whose opening quote is at `open`; a doubled quote is part of it. */
function string(text: string, start: number, open: number): number {
  let end = text.indexOf("'", open + 1)
  while (end >= 0 && text.charCodeAt(end + 1) === 39) end = text.indexOf("'", end + 2)
  return end < 0 ? -1 : push(STRING, start, end + 1)
}

function escapeString(text: string, start: number, open: number): number {
  let at = open + 1
  while (at < text.length) {
    const code = text.charCodeAt(at)
    if (code === 92) at += 2
    else if (code !== 39) at += 1
    else if (text.charCodeAt(at + 1) === 39) at += 2
    else {
      tokens.escaped = tokens.count
      return push(STRING, start, at + 1)
    }
  }
  return -1
}

function quoted(text: string, at: number): number {
  let end = text.indexOf('"', at + 1)
  while (end >= 0 && text.charCodeAt(end + 1) === 34) end = text.indexOf('"', end + 2)
  return end <= at + 1 ? -1 : push(QUOTED, at, end + 1)
}

/** `$1`, or a constant between `$tag$` and `$tag$`. */
function dollar(text: string, at: number): number {
  let end = at + 1
  if (isDigit(text.charCodeAt(end))) {
    while (isDigit(text.charCodeAt(end))) end += 1
    return isWordStart(text.charCodeAt(end)) ? -1 : push(PARAM, at, end)
  }
  if (isWordStart(text.charCodeAt(end))) {
    while (isWordPart(text.charCodeAt(end)) && text.charCodeAt(end) !== 36) end += 1
  }
  if (text.charCodeAt(end) !== 36) return -1
  const close = text.indexOf(text.slice(at, end + 1), end + 1)
  return close < 0 ? -1 : push(STRING, at, close + end + 1 - at)
}

/** A letter right behind a number starts a new token for some versions and is an error for others. */
function number(text: string, at: number): number {
  let end = at
  const base = text.charCodeAt(at) === 48 ? text.charCodeAt(at + 1) | 32 : 0
  if (base === 120 || base === 111 || base === 98) {
    end = at + 2
    while (isHex(text.charCodeAt(end))) end += 1
    return end === at + 2 || isWordStart(text.charCodeAt(end)) ? -1 : push(NUMBER, at, end)
  }
  end = digits(text, end)
  if (text.charCodeAt(end) === 46 && text.charCodeAt(end + 1) !== 46) end = digits(text, end + 1)
  if ((text.charCodeAt(end) | 32) === 101) {
    const sign = text.charCodeAt(end + 1)
    const first = sign === 43 || sign === 45 ? end + 2 : end + 1
    if (isDigit(text.charCodeAt(first))) end = digits(text, first)
  }
  return isWordStart(text.charCodeAt(end)) ? -1 : push(NUMBER, at, end)
}

function digits(text: string, at: number): number {
  let end = at
  while (isDigit(text.charCodeAt(end)) || text.charCodeAt(end) === 95) end += 1
  return end
}

function lineComment(text: string, at: number): number {
  let end = at + 2
  while (end < text.length && text.charCodeAt(end) !== 10 && text.charCodeAt(end) !== 13) end += 1
  return end
}

/** Block comments nest. */
function blockComment(text: string, at: number): number {
  let depth = 1
  let end = at + 2
  while (end < text.length) {
    const code = text.charCodeAt(end)
    const next = text.charCodeAt(end + 1)
    if (code === 42 && next === 47) {
      depth -= 1
      end += 2
      if (depth === 0) {
        if (tokens.count === 0) tokens.hint ??= hintOf(text.slice(at + 2, end - 2))
        return end
      }
    } else if (code === 47 && next === 42) {
      depth += 1
      end += 2
    } else end += 1
  }
  return -1
}

function hintOf(comment: string): 'primary' | 'replica' | null {
  if (comment.length > 200) return null
  const match = /^\s*pgsteer:\s*(primary|replica)\s*$/i.exec(comment)
  if (match === null) return null
  return match[1]?.toLowerCase() === 'primary' ? 'primary' : 'replica'
}

function begin(text: string): void {
  if (tokens.kind.length > TOKENS_KEPT_MAX) resize(TOKENS_MIN, 0)
  tokens.text = text
  tokens.count = 0
  tokens.hint = null
  tokens.escaped = -1
}

/** Puts zero kinds behind the last token, so that a look ahead finds nothing of an earlier text. */
function terminate(): void {
  const { count } = tokens
  if (count + LOOKAHEAD > tokens.kind.length) resize(count * 2 + LOOKAHEAD, count)
  tokens.kind.fill(0, count, count + LOOKAHEAD)
}

/** Adds a token and returns where the next one starts. */
function push(kind: number, start: number, end: number): number {
  const index = tokens.count
  if (index === tokens.kind.length) resize(index * 2, index)
  tokens.kind[index] = kind
  tokens.start[index] = start
  tokens.end[index] = end
  tokens.count = index + 1
  return end
}

function resize(size: number, kept: number): void {
  const kind = new Uint8Array(size)
  const start = new Int32Array(size)
  const end = new Int32Array(size)
  const hash = new Int32Array(size)
  kind.set(tokens.kind.subarray(0, kept))
  start.set(tokens.start.subarray(0, kept))
  end.set(tokens.end.subarray(0, kept))
  hash.set(tokens.hash.subarray(0, kept))
  tokens.kind = kind
  tokens.start = start
  tokens.end = end
  tokens.hash = hash
}

function isDigit(code: number): boolean {
  return code >= 48 && code <= 57
}

function isHex(code: number): boolean {
  const lower = code | 32
  return isDigit(code) || (lower >= 97 && lower <= 102) || code === 95
}

function isWordStart(code: number): boolean {
  return code >= 128 || (code < 128 && CLASS[code] === WORD)
}

function isWordPart(code: number): boolean {
  return code >= 128 || (code < 128 && IS_WORD_PART[code] === 1)
}

function wordParts(): Uint8Array {
  return CLASS.map((kind, code) => (kind === WORD || kind === DIGIT || code === 36 ? 1 : 0))
}

function classes(): Uint8Array {
  const table = new Uint8Array(128)
  const set = (characters: string, kind: number) => {
    for (const character of characters) table[character.charCodeAt(0)] = kind
  }
  set('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_', WORD)
  set('0123456789', DIGIT)
  set(' \t\n\r\f\v', SPACE)
  set('~!@#^&|`?+*%<>=', OPERATOR)
  set("'", QUOTE)
  set('"', QUOTED)
  set('$', DOLLAR)
  set('-', DASH)
  set('/', SLASH)
  set('(', OPEN)
  set(')', CLOSE)
  set(',', COMMA)
  set(';', SEMICOLON)
  set('.', DOT)
  set('[]', BRACKET)
  set(':', COLON)
  return table
}
