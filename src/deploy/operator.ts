/**
 * What the operator of a cluster is told: progress, results, and failures that say what to do next.
 * Knows nothing of clusters or of Docker.
 */

/** A failure that the operator can act on: what is wrong, and the remedy. */
export class OperatorError extends Error {
  readonly remedy: string

  constructor(message: string, remedy: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'OperatorError'
    this.remedy = remedy
  }
}

/** Where a command's words go. Progress and warnings are apart from results, so that `--json` can be piped. */
export interface Output {
  /** What is being done now. */
  step(text: string): void
  /** What deserves a look but stops nothing. */
  warn(text: string): void
  /** The result that was asked for. */
  print(text: string): void
}

/** Progress on the error channel, results on the output channel. */
export const terminal: Output = {
  step: (text) => {
    process.stderr.write(`${text}\n`)
  },
  warn: (text) => {
    process.stderr.write(`warning: ${text}\n`)
  },
  print: (text) => {
    process.stdout.write(text.endsWith('\n') ? text : `${text}\n`)
  },
}

/** `rows` as columns of equal width, the first row being the heading. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? '').length)),
  )
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd()
  return rows.map(line).join('\n')
}
