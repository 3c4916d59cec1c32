/**
 * What is wrong with a configuration, all of it at once: each problem with its place and what to do.
 */
import { nearest } from './nearest.ts'

export interface Problem {
  /** Path of the file, or `environment`. */
  readonly file: string
  /** From 1; null where the problem has no line. */
  readonly line: number | null
  /** What is wrong, without secrets. */
  readonly text: string
  /** What to do about it, or null where the text says it all. */
  readonly remedy: string | null
}

/** Beyond these, problems are only counted. */
const PROBLEMS_MAX = 100

/** Collects problems while the loader goes on to find the next. */
export class Problems {
  readonly #found: Problem[] = []
  #more = 0

  add(
    place: { file: string; line: number | null },
    text: string,
    remedy: string | null = null,
  ): void {
    if (this.#found.length >= PROBLEMS_MAX) this.#more += 1
    else this.#found.push({ file: place.file, line: place.line, text, remedy })
  }

  /** A remedy that names the known word that `word` may stand for, or null. */
  didYouMean(word: string, known: Iterable<string>): string | null {
    if (this.#found.length >= PROBLEMS_MAX) return null
    const near = nearest(word, known)
    return near === null ? null : `did you mean ${near}?`
  }

  /** Throws ConfigError if there is any problem. */
  throwIfAny(): void {
    if (this.#found.length > 0) throw new ConfigError(this.#found, this.#more)
  }
}

/** A configuration that cannot be used. Nothing was changed. */
export class ConfigError extends Error {
  /** The first of them, at most 100. */
  readonly problems: readonly Problem[]

  /** `more` is the number of problems beyond those that are listed. */
  constructor(problems: readonly Problem[], more = 0) {
    const lines = problems.map(problemLine)
    if (more > 0) lines.push(`and ${more} more problems`)
    super(lines.join('\n'))
    this.name = 'ConfigError'
    this.problems = problems
  }
}

/** One problem as people read it: `pgsteer.ini:3: what is wrong (what to do)`. */
export function problemLine(problem: Problem): string {
  const place = problem.line === null ? problem.file : `${problem.file}:${problem.line}`
  return `${place}: ${problem.text}${problem.remedy === null ? '' : ` (${problem.remedy})`}`
}

/** What may be said of input that is echoed in a message: printable and short. */
export function quoted(text: string): string {
  const shown = text.length > 60 ? `${text.slice(0, 60)}...` : text
  return `"${shown.replace(/[\p{Cc}\p{Cf}]/gu, '?')}"`
}
