/**
 * Programs that tests take from Debian 12: PostgreSQL 15, Patroni, etcd, PgBouncer, HAProxy, psql,
 * pgbench, promtool. They are installed, or scripts/provision.mjs unpacked them into the cache folder; this
 * finds them in either place and knows the environment that unpacked ones need.
 */
import { closeSync, existsSync, openSync, readdirSync, readSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Binaries } from '../../src/demo/binaries.ts'

/** What to spawn: `file` with `args` before one's own, and `env` added to the environment. */
export interface Program {
  readonly file: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
}

const UNPACKED = resolve(import.meta.dirname, '../../.cache/debian/root')
const ROOTS = ['/', UNPACKED]
const FOLDERS = ['usr/lib/postgresql/15/bin', 'usr/bin', 'usr/sbin', 'usr/local/bin', 'bin', 'sbin']

/**
 * Errors  Error that names the remedy when the program is nowhere.
 */
export function program(name: string): Program {
  const found = find(name)
  if (found === undefined) throw new Error(`${name} is not installed, 'npm test' provides it`)
  const { root, path } = found
  const env = root === UNPACKED ? unpackedEnvironment() : {}
  // Unpacked scripts name interpreters of /usr/bin, which may be unpacked as well.
  const interpreter = interpreterOf(path)
  if (interpreter === undefined || root !== UNPACKED) return { file: path, args: [], env }
  const by = find(interpreter)
  return { file: by?.path ?? `/usr/bin/${interpreter}`, args: [path], env }
}

/** PostgreSQL 15 for EmbeddedCluster.start({ binaries }). */
export function postgres15(): Binaries {
  const { file, env } = program('postgres')
  return { binDir: resolve(file, '..'), env, label: 'debian-15' }
}

/** Where Python finds Debian's modules (psycopg) when they are unpacked. */
export function python(): Program {
  const { file, args, env } = program('python3')
  return { file, args, env: { ...unpackedEnvironment(), ...env } }
}

function find(name: string): { root: string; path: string } | undefined {
  for (const root of ROOTS)
    for (const folder of FOLDERS) {
      const path = join(root, folder, name)
      if (existsSync(path)) return { root, path }
    }
  return undefined
}

function interpreterOf(path: string): string | undefined {
  const head = Buffer.alloc(80)
  const file = openSync(path, 'r')
  readSync(file, head)
  closeSync(file)
  const [line = ''] = head.toString('latin1').split('\n')
  return /^#!\s*(?:\/usr\/bin\/env\s+)?(?:\S*\/)?([\w.]+)/.exec(line)?.[1]
}

function unpackedEnvironment(): Record<string, string> {
  if (!existsSync(UNPACKED)) return {}
  const folders = ['usr/lib', 'lib'].map((folder) => join(UNPACKED, folder)).filter(existsSync)
  const ofMachine = folders.flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => name.endsWith('-linux-gnu'))
      .map((name) => join(folder, name)),
  )
  const path = FOLDERS.map((folder) => join(UNPACKED, folder)).join(':')
  return {
    LD_LIBRARY_PATH: [...folders, ...ofMachine].join(':'),
    PATH: `${process.env['PATH'] ?? ''}:${path}`,
    PYTHONPATH: [
      join(import.meta.dirname, 'python'),
      join(UNPACKED, 'usr/lib/python3/dist-packages'),
    ].join(':'),
    PERL5LIB: join(UNPACKED, 'usr/share/perl5'),
  }
}
