/**
 * The files that a configuration names: where a relative path leads, and reading with a bound.
 *
 * A relative path is taken from the working directory, as PgBouncer does; if nothing is there, it is
 * taken from the folder of the main configuration file. So no file that works with PgBouncer
 * changes its meaning, and a configuration folder can be moved as a whole.
 */
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
} from 'node:fs'
import { homedir } from 'node:os'
import { dirname, resolve } from 'node:path'

/** Larger configuration files are refused; auth files and HBA files may have ten times as much. */
export const INI_BYTES_MAX = 4 * 1024 * 1024
export const AUTH_BYTES_MAX = 10 * INI_BYTES_MAX

export class Files {
  readonly #folder: string

  /** `main` is the path of the main configuration file. */
  constructor(main: string) {
    this.#folder = dirname(resolve(main))
  }

  /** The absolute path that `path` means. `~/` is the home folder, as in PgBouncer. */
  locate(path: string): string {
    const expanded = path.startsWith('~/') ? resolve(homedir(), path.slice(2)) : path
    const here = resolve(expanded)
    if (here === expanded || existsSync(here)) return here
    const beside = resolve(this.#folder, expanded)
    return existsSync(beside) ? beside : here
  }

  /** The text of a file. Throws an Error whose message says why it cannot be had. */
  read(path: string, bytesMax: number): string {
    try {
      return readBounded(path, bytesMax)
    } catch (error) {
      throw new Error(fileReason(error), { cause: error })
    }
  }

  /** Why the file cannot be read; null if it can. */
  unreadable(path: string): string | null {
    try {
      accessSync(path, constants.R_OK)
      return null
    } catch (error) {
      return fileReason(error)
    }
  }
}

function readBounded(path: string, bytesMax: number): string {
  const descriptor = openSync(path, 'r')
  try {
    const status = fstatSync(descriptor)
    if (status.isDirectory()) throw new Error('it is a folder')
    if (status.size > bytesMax) throw new Error(`it is larger than ${bytesMax} bytes`)
    return readFileSync(descriptor, 'utf8')
  } finally {
    closeSync(descriptor)
  }
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file',
  ENOTDIR: 'no such file',
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  EISDIR: 'it is a folder',
  ELOOP: 'too many symbolic links',
  ENAMETOOLONG: 'its name is too long',
}

function fileReason(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  return REASONS[code] ?? (error instanceof Error ? error.message : String(error))
}
