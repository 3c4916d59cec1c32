/**
 * What is wrong with a configuration, all of it at once: each problem with its place and what to do.
 */

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

/** Collects problems while the loader goes on to find the next. */
export class Problems {
  readonly #found: Problem[] = []

  add(
    place: { file: string; line: number | null },
    text: string,
    remedy: string | null = null,
  ): void {
    this.#found.push({ file: place.file, line: place.line, text, remedy })
  }

  get count(): number {
    return this.#found.length
  }

  /** Throws ConfigError if there is any problem. */
  throwIfAny(): void {
    if (this.#found.length > 0) throw new ConfigError(this.#found)
  }
}

/** A configuration that cannot be used. Nothing was changed. */
export class ConfigError extends Error {
  readonly problems: readonly Problem[]

  constructor(problems: readonly Problem[]) {
    super(problems.map(problemLine).join('\n'))
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
