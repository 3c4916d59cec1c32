/** What the tests of the configuration share. */
import { ConfigError } from '../../../src/config/problem.ts'
import { type ConfigInput, load } from '../../support/config.ts'

/** The problems of a configuration as `line: text (remedy)`, without the folder of the file. */
export function problemsOf(input: ConfigInput | string): readonly string[] {
  try {
    load(input)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.problems.map(({ file, line, text, remedy }) => {
      const place = line === null ? (file.split('/').at(-1) ?? '') : String(line)
      return `${place}: ${text}${remedy === null ? '' : ` (${remedy})`}`
    })
  }
  return []
}

/** A configuration that loads, to which a test adds. */
export const MINIMAL = '[databases]\n* = host=127.0.0.1\n'
