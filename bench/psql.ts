/**
 * COPY through psql, which pgbench cannot do: each client is a psql that gets its next command when
 * the last one is done, until the time is up.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { program } from '../test/support/debian.ts'
import { type LoadResult, percentile } from './pgbench.ts'
import { copyCommand, type PsqlScript } from './scripts.ts'

export interface CopyLoad {
  readonly port: number
  readonly seconds: number
  readonly script: PsqlScript
  readonly clients: number
  readonly directory: string
}

const USER = 'demo'
const US_PER_MS = 1000

/** Errors  Error with psql's own words when one of them fails. */
export async function runPsql(load: CopyLoad): Promise<LoadResult> {
  const command = copyCommand(load.script, load.directory)
  const startedMs = performance.now()
  const endMs = startedMs + load.seconds * 1000
  const found = await Promise.all(
    Array.from({ length: load.clients }, () => copies(load.port, command, endMs)),
  )
  const tookMs = performance.now() - startedMs
  const times = Float64Array.from(found.flat()).toSorted()
  if (times.length === 0) throw new Error('psql copied nothing')
  return {
    transactions: times.length,
    tps: (times.length * 1000) / tookMs,
    p50Us: percentile(times, 0.5),
    p99Us: percentile(times, 0.99),
  }
}

/** What each copy of one client took, in microseconds. */
async function copies(port: number, command: string, endMs: number): Promise<number[]> {
  const { file, args, env } = program('psql')
  const where = `host=127.0.0.1 port=${port} user=${USER} dbname=${USER} sslmode=disable gssencmode=disable`
  const child = spawn(file, [...args, '-X', '-q', '-v', 'ON_ERROR_STOP=1', where], {
    cwd: '/',
    env: { ...process.env, ...env, PGPASSWORD: USER, LC_ALL: 'C' },
    stdio: 'pipe',
  })
  const times: number[] = []
  let errors = ''
  let line = ''
  child.stderr.on('data', (text: Buffer) => {
    errors += text.toString()
  })
  child.stdin.on('error', () => undefined)
  child.stdout.on('data', (text: Buffer) => {
    line += text.toString()
    if (!line.endsWith('\n')) return
    const took = Number(/^Time: ([\d.]+) ms/m.exec(line)?.[1] ?? Number.NaN)
    line = ''
    if (Number.isNaN(took)) return
    times.push(took * US_PER_MS)
    if (performance.now() < endMs) child.stdin.write(`${command}\n`)
    else child.stdin.end()
  })
  child.stdin.write(`\\timing on\n${command}\n`)
  const [code]: unknown[] = await once(child, 'close')
  if (code !== 0) throw new Error(`psql ended with ${String(code)}:\n${errors}`)
  return times
}
