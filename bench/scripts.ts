/**
 * Scripts for pgbench that it does not bring itself, with the weight that each has in its shape. The
 * first one is the one whose latencies count.
 */
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Script } from './shapes.ts'

interface Part {
  readonly sql: string
  readonly weight: number
}

const QUICK =
  '\\set aid random(1, 100000)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n'

export type PsqlScript = 'copy-to' | 'copy-from'
export type PgbenchScript = Exclude<Script, PsqlScript>

export function isPsqlScript(script: Script): script is PsqlScript {
  return script === 'copy-to' || script === 'copy-from'
}

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
    {
      sql:
        '\\set aid random(1, 100000)\n' +
        'UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;\n',
      weight: 1,
    },
  ],
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

const ROW_BYTES = 1000
const ROWS = 10_000

/** psql's command that copies 10 MB once; what it reads is written to `directory`. */
export function copyCommand(script: PsqlScript, directory: string): string {
  if (script === 'copy-to')
    return `\\copy (SELECT repeat('x', ${ROW_BYTES}) FROM generate_series(1, ${ROWS})) TO '/dev/null'`
  const file = join(directory, 'copied.txt')
  if (!existsSync(file)) writeFileSync(file, `${'x'.repeat(ROW_BYTES)}\n`.repeat(ROWS))
  // Parsed like any row, but the disk is not what is measured.
  return `\\copy copied FROM '${file}' WHERE false`
}
