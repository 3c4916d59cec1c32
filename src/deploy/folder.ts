/**
 * The cluster's folder on the operator's machine: settings, the authority's key, certificates, passwords,
 * and the files as they were last rendered. It is the only copy of the keys and has to be kept safe: mode
 * 0700, files 0600. Knows paths and modes, not what the contents mean.
 */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { OperatorError } from './operator.ts'

const PREFIX = 'cluster-'

export class Folder {
  readonly path: string
  /** In a dry run what is written stays here; null: it is written. */
  readonly #unwritten: Map<string, string> | null

  constructor(path: string, isDryRun: boolean) {
    this.path = resolve(path)
    this.#unwritten = isDryRun ? new Map() : null
  }

  file(...names: readonly string[]): string {
    return join(this.path, ...names)
  }

  /** The text, or undefined if there is no such file. */
  read(...names: readonly string[]): string | undefined {
    const file = this.file(...names)
    const unwritten = this.#unwritten?.get(file)
    if (unwritten !== undefined) return unwritten
    return existsSync(file) ? readFileSync(file, 'utf8') : undefined
  }

  /** Writes as a whole or not at all, readable by its owner only. Returns the file. */
  write(text: string, ...names: readonly string[]): string {
    const file = this.file(...names)
    if (this.#unwritten !== null) {
      this.#unwritten.set(file, text)
      return file
    }
    mkdirSync(this.path, { recursive: true, mode: 0o700 })
    chmodSync(this.path, 0o700)
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
    writeFileSync(`${file}.new`, text, { mode: 0o600 })
    renameSync(`${file}.new`, file)
    return file
  }

  /**
   * `use` gets the path of the file `names` with everything beside and below it that was written, in a dry
   * run too: there all of it is a copy that is gone afterwards.
   */
  async withWritten<T>(names: readonly string[], use: (file: string) => Promise<T>): Promise<T> {
    const file = this.file(...names)
    if (this.#unwritten === null) return await use(file)
    const copy = mkdtempSync(join(tmpdir(), 'pgsteer-dry-run-'))
    try {
      for (const [path, text] of this.#unwritten) {
        const beside = relative(dirname(file), path)
        if (beside.startsWith('..')) continue
        mkdirSync(dirname(join(copy, beside)), { recursive: true })
        writeFileSync(join(copy, beside), text, { mode: 0o600 })
      }
      return await use(join(copy, basename(file)))
    } finally {
      rmSync(copy, { recursive: true })
    }
  }

  remove(...names: readonly string[]): void {
    if (this.#unwritten === null) rmSync(this.file(...names), { recursive: true, force: true })
  }

  /** Names of what is in a folder below, sorted. */
  list(...names: readonly string[]): string[] {
    const folder = this.file(...names)
    const unwritten = [...(this.#unwritten?.keys() ?? [])].filter(
      (file) => dirname(file) === folder,
    )
    const written = existsSync(folder) ? readdirSync(folder) : []
    return [...new Set([...written, ...unwritten.map((file) => basename(file))])].toSorted()
  }
}

/**
 * The folder that is meant: the one given, that of PGSTEER_CLUSTER_DIR, that of the cluster's name, or the
 * only one below `cwd`. Errors: OperatorError when there is none or more than one.
 */
export function findFolder(
  given: { dir?: string | undefined; name?: string | undefined; isDryRun: boolean },
  env: NodeJS.ProcessEnv,
  cwd: string,
): Folder {
  const { isDryRun } = given
  const named = given.dir ?? env['PGSTEER_CLUSTER_DIR']
  if (named !== undefined && named !== '') return new Folder(resolve(cwd, named), isDryRun)
  if (given.name !== undefined) return new Folder(join(cwd, `${PREFIX}${given.name}`), isDryRun)
  const found = readdirSync(cwd).filter(
    (name) => name.startsWith(PREFIX) && existsSync(join(cwd, name, 'cluster.env')),
  )
  const [only] = found
  if (only !== undefined && found.length === 1) return new Folder(join(cwd, only), isDryRun)
  throw new OperatorError(
    found.length === 0
      ? `there is no folder of a cluster in ${cwd}`
      : `there are several clusters in ${cwd}: ${found.join(', ')}`,
    'Name it with --dir FOLDER or PGSTEER_CLUSTER_DIR. A new one is made by `init NAME`.',
  )
}
