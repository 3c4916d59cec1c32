/**
 * Which PgBouncer is measured: the file that was given, else the newest that Debian has, which
 * scripts/provision.mjs unpacked, else the installed one.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { type Program, program } from '../test/support/debian.ts'

const UNPACKED =
  process.getuid?.() === 0
    ? '/var/cache/pgsteer/pgbouncer'
    : resolve(import.meta.dirname, '../.cache/debian/pgbouncer')

/** `given` is the file, or null. */
export function pgbouncerProgram(given: string | null): Program {
  if (given !== null) return { file: given, args: [], env: {} }
  return unpacked() ?? program('pgbouncer')
}

/** It learnt prepared statements in transaction mode in 1.21. */
export function pgbouncerVersion(given: string | null): { text: string; hasPrepared: boolean } {
  const { file, args, env } = pgbouncerProgram(given)
  const options = { encoding: 'utf8', env: { ...process.env, ...env } } as const
  const text = execFileSync(file, [...args, '-V'], options)
  const [, major = '0', minor = '0'] = /(\d+)\.(\d+)/.exec(text) ?? []
  const hasPrepared = Number(major) > 1 || Number(minor) >= 21
  return { text: text.split('\n')[0] ?? '', hasPrepared }
}

/** Started by the loader of its own C library. */
function unpacked(): Program | undefined {
  const parent = join(UNPACKED, 'usr/lib')
  if (!existsSync(parent)) return undefined
  const folder = readdirSync(parent).find((name) => name.endsWith('-linux-gnu'))
  if (folder === undefined) return undefined
  const libraries = join(parent, folder)
  const loader = readdirSync(libraries).find((name) => name.startsWith('ld-linux'))
  if (loader === undefined) return undefined
  const args = ['--library-path', libraries, join(UNPACKED, 'usr/sbin/pgbouncer')]
  return { file: join(libraries, loader), args, env: {} }
}
