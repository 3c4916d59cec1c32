/** The version of the program, out of its package file. */
import { readFileSync } from 'node:fs'

const file = new URL('../package.json', import.meta.url)
const content: unknown = JSON.parse(readFileSync(file, 'utf8'))

export const VERSION: string =
  typeof content === 'object' && content !== null && 'version' in content
    ? String(content.version)
    : 'unknown'
