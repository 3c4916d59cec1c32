/**
 * PgBouncer's ini reader: sections, `key = value` to the end of the line, comments only at the start
 * of a line, `%include`. Knows no key; values stay text.
 *
 * Source: parse_ini_file in libusual's usual/cfparser.c, and PgBouncer's doc/config.md ("Generic
 * settings", "Include directive", "Section [databases]" for quoted names). Where that parser stops
 * at the first error, this one goes on to the next line.
 */
import { resolve } from 'node:path'
import { reasonOf } from '../base/errors.ts'
import { type Files, INI_BYTES_MAX } from './files.ts'
import { type Problems, quoted } from './problem.ts'

export interface Place {
  readonly file: string
  readonly line: number
}

export interface IniEntry extends Place {
  readonly section: string
  readonly key: string
  readonly value: string
}

export interface IniSection extends Place {
  readonly name: string
}

export interface Ini {
  /** In the order of the file, duplicates included. */
  readonly entries: readonly IniEntry[]
  /** Every section header. */
  readonly sections: readonly IniSection[]
}

/** As in libusual. */
const INCLUDE_DEPTH_MAX = 10
/** Bounds includes that include several files each. */
const INCLUDES_MAX = 1000

/** Reads `file` and what it includes. What is wrong goes to `problems`; never throws. */
export function readIni(file: string, files: Files, problems: Problems): Ini {
  const reader = new IniReader(files, problems)
  reader.readFile(file, null)
  return { entries: reader.entries, sections: reader.sections }
}

const INCLUDE = /^%include(?:[ \t]+(.*))?$/
const SECTION = /^\[([^\]]*)\](.*)$/s
const PLAIN_KEY = /^([\w.*-]+)[ \t]*=(.*)$/s
/** SQL's quoting for names with other characters. */
const QUOTED_KEY = /^"((?:[^"]|"")*)"[ \t]*=(.*)$/s

class IniReader {
  readonly entries: IniEntry[] = []
  readonly sections: IniSection[] = []
  readonly #files: Files
  readonly #problems: Problems
  /** The files that are being read, outermost first. */
  readonly #open: string[] = []
  #section: string | null = null
  #includes = 0

  constructor(files: Files, problems: Problems) {
    this.#files = files
    this.#problems = problems
  }

  /** `from` is the line that includes the file; null for the main file. */
  readFile(file: string, from: Place | null): void {
    const place = from ?? { file, line: null }
    let content: string
    try {
      content = this.#files.read(file, INI_BYTES_MAX)
    } catch (error) {
      this.#problems.add(place, `cannot read ${quoted(file)}: ${reasonOf(error)}`)
      return
    }
    this.#open.push(resolve(file))
    for (const [index, line] of content
      .replace(/^\uFEFF/, '')
      .split('\n')
      .entries()) {
      this.#readLine(trimBlanks(line), { file, line: index + 1 })
    }
    this.#open.pop()
  }

  #readLine(line: string, place: Place): void {
    if (line === '' || line.startsWith(';') || line.startsWith('#')) return
    if (line.includes('\0')) {
      this.#problems.add(place, 'the line holds a zero byte, this is not a text file')
      return
    }
    if (line.startsWith('%')) {
      this.#include(line, place)
      return
    }
    if (line.startsWith('[')) {
      this.#header(line, place)
      return
    }
    this.#keyValue(line, place)
  }

  #include(line: string, place: Place): void {
    const path = INCLUDE.exec(line)?.[1]?.trim()
    if (path === undefined || path === '') {
      this.#problems.add(place, `unknown directive ${quoted(line)}`, 'there is only %include FILE')
      return
    }
    const file = this.#files.locate(path)
    this.#includes += 1
    if (this.#open.includes(file)) {
      this.#problems.add(place, `${quoted(path)} includes itself`)
    } else if (this.#open.length >= INCLUDE_DEPTH_MAX) {
      this.#problems.add(place, `includes are nested more than ${INCLUDE_DEPTH_MAX} deep`)
    } else if (this.#includes > INCLUDES_MAX) {
      if (this.#includes === INCLUDES_MAX + 1) this.#problems.add(place, 'too many includes')
    } else {
      this.readFile(file, place)
    }
  }

  #header(line: string, place: Place): void {
    const match = SECTION.exec(line)
    if (match === null) {
      this.#problems.add(place, `section header ${quoted(line)} without a closing ]`)
      return
    }
    const [, name = '', rest = ''] = match
    this.#section = name
    this.sections.push({ ...place, name })
    // What follows the bracket is read like a line of its own.
    this.#readLine(trimBlanks(rest), place)
  }

  #keyValue(line: string, place: Place): void {
    const match = PLAIN_KEY.exec(line) ?? QUOTED_KEY.exec(line)
    if (match === null) {
      const shown = quoted(line.split('=')[0] ?? '')
      this.#problems.add(
        place,
        `syntax error at ${shown}`,
        'a line is `key = value`, or begins with ; or #',
      )
      return
    }
    const [, name = '', value = ''] = match
    const key = line.startsWith('"') ? name.replaceAll('""', '"') : name
    if (this.#section === null) {
      this.#problems.add(
        place,
        `${quoted(key)} stands before the first section`,
        'put it under [pgbouncer]',
      )
      return
    }
    this.entries.push({ ...place, section: this.#section, key, value: trimBlanks(value) })
  }
}

/** Without the blanks of C's isspace() at both ends; String.trim() takes more than those. */
function trimBlanks(text: string): string {
  let start = 0
  let end = text.length
  while (start < end && isBlank(text.charCodeAt(start))) start += 1
  while (end > start && isBlank(text.charCodeAt(end - 1))) end -= 1
  return text.slice(start, end)
}

function isBlank(code: number): boolean {
  return code === 0x20 || (code >= 0x09 && code <= 0x0d)
}
