/**
 * Copying whole directories, also of a running server: what vanishes while it is copied is left
 * out, as base backups do. Keeps modes and links, gives every copy to one account.
 */
import {
  chmodSync,
  copyFileSync,
  lchownSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  statSync,
  symlinkSync,
} from 'node:fs'
import { join } from 'node:path'

export interface CopyOptions {
  /** Owner of the copies; undefined leaves them to us. */
  readonly account: { readonly uid: number; readonly gid: number } | undefined
  /** True for an entry to leave out, by its path below the source. */
  readonly skip?: (path: string) => boolean
}

export function copyTree(source: string, target: string, options: CopyOptions): void {
  copyDirectory({ source, target, options }, '')
}

interface Copy {
  readonly source: string
  readonly target: string
  readonly options: CopyOptions
}

function copyDirectory(copy: Copy, path: string): void {
  const from = join(copy.source, path)
  const to = join(copy.target, path)
  mkdirSync(to, { recursive: true })
  for (const entry of readdirSync(from, { withFileTypes: true })) {
    const inner = join(path, entry.name)
    if (copy.options.skip?.(inner) === true) continue
    if (entry.isDirectory()) copyDirectory(copy, inner)
    else if (entry.isSymbolicLink())
      symlinkSync(readlinkSync(join(from, entry.name)), join(to, entry.name))
    else if (entry.isFile()) copyIfThere(join(from, entry.name), join(to, entry.name))
    else continue
    own(join(to, entry.name), copy.options)
  }
  chmodSync(to, statSync(from).mode & 0o7777)
  own(to, copy.options)
}

function copyIfThere(from: string, to: string): void {
  try {
    copyFileSync(from, to)
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
  }
}

function own(path: string, { account }: CopyOptions): void {
  if (account === undefined) return
  try {
    lchownSync(path, account.uid, account.gid)
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
  }
}

/** True for the system error of that name. */
export function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
