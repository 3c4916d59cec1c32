/**
 * Scripts for pgbench that it does not bring itself, with the weight that each has in its shape. The
 * first one is the one whose latencies count.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Script } from './shapes.ts'

interface Part {
  readonly sql: string
  readonly weight: number
}

export type CopyScript = 'copy-out' | 'copy-in'
export type PgbenchScript = Exclude<Script, CopyScript>

const ACCOUNT = '\\set aid random(1, 100000)\n'
const QUICK = `${ACCOUNT}SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n`
const WRITE = `${ACCOUNT}UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;\n`

const PARTS: Readonly<Record<Exclude<PgbenchScript, '-S' | 'tpcb'>, readonly Part[]>> = {
  'rows-64k': [{ sql: "SELECT repeat('x', 1000) FROM generate_series(1, 64);\n", weight: 1 }],
  'rows-10m': [{ sql: "SELECT repeat('x', 1000) FROM generate_series(1, 10000);\n", weight: 1 }],
  // One in a hundred takes 50 ms.
  'slow-mix': [
    { sql: QUICK, weight: 99 },
    { sql: 'SELECT pg_sleep(0.05);\n', weight: 1 },
  ],
  split: [
    { sql: QUICK, weight: 9 },
    { sql: WRITE, weight: 1 },
  ],
}

export function isCopy(script: Script): script is CopyScript {
  return script === 'copy-out' || script === 'copy-in'
}

/** pgbench's options for a script; files are written to `directory`. */
export function scriptOptions(script: PgbenchScript, directory: string): string[] {
  if (script === '-S') return ['-S']
  if (script === 'tpcb') return ['-b', 'tpcb-like']
  return PARTS[script].flatMap(({ sql, weight }, index) => {
    const file = join(directory, `${script}-${index}.sql`)
    writeFileSync(file, sql)
    return ['-f', `${file}@${weight}`]
  })
}
