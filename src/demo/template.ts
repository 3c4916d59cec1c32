/**
 * An initialised, cleanly stopped data directory to copy members from. Made once per version of the
 * programs and kept in a cache folder, because initdb takes longer than everything else together.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  accessSync,
  chownSync,
  constants,
  existsSync,
  mkdirSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Account, Binaries } from './binaries.ts'
import { copyTree } from './tree.ts'

/**
 * Everybody's password is the name: the cluster listens on the loopback interface only. What initdb
 * trusts is replaced by each member's own pg_hba.conf before it starts.
 */
const SETUP = [
  "ALTER ROLE postgres PASSWORD 'postgres'",
  "CREATE ROLE replicator LOGIN REPLICATION PASSWORD 'replicator'",
  "CREATE ROLE pgsteer LOGIN PASSWORD 'pgsteer'",
  'GRANT pg_monitor TO pgsteer',
  "CREATE ROLE demo LOGIN PASSWORD 'demo'",
  'CREATE DATABASE demo OWNER demo',
]

const INITDB = [
  '-U',
  'postgres',
  '-E',
  'UTF8',
  '--locale=C',
  '--data-checksums',
  '--no-sync',
  '-A',
  'trust',
]

const STEP_MS_MAX = 120_000

export interface TemplateOptions {
  readonly binaries: Binaries
  readonly account: Account | undefined
  /** For what is made and not kept. */
  readonly workDir: string
  /** True makes a new one that is not kept: a cluster with a system identifier of its own. */
  readonly isFresh: boolean
  readonly progress: (text: string) => void
}

/** Returns the directory of the template; it belongs to whoever asked and must not be started. */
export async function template(options: TemplateOptions): Promise<string> {
  const cache = options.isFresh ? undefined : cacheDirectory()
  const key = createHash('sha256')
    .update(JSON.stringify([SETUP, INITDB]))
    .digest('hex')
    .slice(0, 12)
  const kept = cache === undefined ? undefined : join(cache, `${options.binaries.label}-${key}`)
  if (kept !== undefined && existsSync(kept)) return kept
  options.progress('Making a database cluster (once)')
  const made = await initialise(options)
  if (kept === undefined) return made
  const unfinished = `${kept}.${process.pid}`
  copyTree(made, unfinished, { account: undefined })
  try {
    renameSync(unfinished, kept)
  } catch {
    // Somebody else was quicker and made the same.
    rmSync(unfinished, { recursive: true, force: true })
  }
  return existsSync(kept) ? kept : made
}

async function initialise(options: TemplateOptions): Promise<string> {
  const { binaries, account, workDir } = options
  const directory = join(workDir, 'template')
  mkdirSync(directory, { mode: 0o700 })
  if (account !== undefined) chownSync(directory, account.uid, account.gid)
  await step(options, join(binaries.binDir, 'initdb'), ['-D', directory, ...INITDB], '')
  const sql = `${SETUP.join('\n')}\n`
  const single = [
    '--single',
    '-D',
    directory,
    '-F',
    '-c',
    'password_encryption=scram-sha-256',
    'postgres',
  ]
  await step(options, join(binaries.binDir, 'postgres'), single, sql)
  return directory
}

/** Runs one program to its end with `input` on its standard input. */
async function step(
  options: TemplateOptions,
  program: string,
  parameters: string[],
  input: string,
): Promise<void> {
  const child = spawn(program, parameters, {
    ...options.account,
    cwd: '/',
    env: { ...process.env, ...options.binaries.env, LC_ALL: 'C' },
    stdio: ['pipe', 'pipe', 'pipe'],
    signal: AbortSignal.timeout(STEP_MS_MAX),
  })
  let output = ''
  const keep = (text: Buffer): void => {
    output = (output + text.toString()).slice(-4000)
  }
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  child.stdin.on('error', () => undefined)
  child.stdin.end(input)
  const [code]: unknown[] = await once(child, 'close')
  if (code !== 0 || /\b(ERROR|FATAL|PANIC):/.test(output))
    throw new Error(`${program} failed:\n${output}`)
}

/** The checkout's `.cache`, else the user's; undefined when neither can be written. */
function cacheDirectory(): string | undefined {
  const candidates = [
    resolve(import.meta.dirname, '../../.cache'),
    join(homedir(), '.cache/pgsteer'),
  ]
  for (const candidate of candidates) {
    try {
      mkdirSync(candidate, { recursive: true })
      accessSync(candidate, constants.W_OK)
      return candidate
    } catch {
      // Not ours to write: the next one.
    }
  }
  return undefined
}
