/** What the tests of the configuration share. */
import { ConfigError } from '../../../src/config/problem.ts'
import { type ConfigInput, load } from '../../support/config.ts'

/** The ConfigError that loading ends with. Throws if it ends with none. */
export function errorOf(input: ConfigInput | string): ConfigError {
  try {
    load(input)
  } catch (error) {
    if (error instanceof ConfigError) return error
    throw error
  }
  throw new Error('the configuration loads')
}

/** The problems of a configuration as `line: text (remedy)`, without the folder of the file. */
export function problemsOf(input: ConfigInput | string): readonly string[] {
  return errorOf(input).problems.map(({ file, line, text, remedy }) => {
    const place = line === null ? (file.split('/').at(-1) ?? '') : String(line)
    return `${place}: ${text}${remedy === null ? '' : ` (${remedy})`}`
  })
}

/** A configuration that loads, to which a test adds. */
export const MINIMAL = '[databases]\n* = host=127.0.0.1\n'
