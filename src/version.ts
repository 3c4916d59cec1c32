/** The version of the program, out of its package file. */
import { readFileSync } from 'node:fs'

const file = new URL('../package.json', import.meta.url)

/** Of this process. */
export const VERSION: string = installedVersion()

/**
 * Of the program as it is on disk now: another one than this process runs, after an upgrade.
 *
 * Errors  Error when the package file cannot be read.
 */
export function installedVersion(): string {
  const content: unknown = JSON.parse(readFileSync(file, 'utf8'))
  return typeof content === 'object' && content !== null && 'version' in content
    ? String(content.version)
    : 'unknown'
}
