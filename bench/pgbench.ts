/**
 * One run of pgbench against one port, with the latency of every transaction.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { program } from '../test/support/debian.ts'
import { type Load, type LoadResult, percentile } from './load.ts'
import { type PgbenchScript, scriptOptions } from './scripts.ts'

const USER = 'demo'
/** Column of the per-transaction log. Source: pgbench manual, "Per-Transaction Logging". */
const TIME_COLUMN = 2
const SCRIPT_COLUMN = 3
const LOG_PREFIX = 'pgbench_log'
const SECONDS_MAX = 30

/**
 * Errors  Error with pgbench's own words when it fails or a client of it does.
 */
export async function runPgbench(
  load: Load & { readonly script: PgbenchScript },
): Promise<LoadResult> {
  const { shape, seconds, directory } = load
  const script = scriptOptions(load.script, directory)
  const connect = shape.isConnect === true ? ['-C'] : []
  const who = ['-n', ...script, ...connect, '-M', shape.mode]
  const many = [...who, '-c', String(shape.clients), '-j', '1']
  const log = ['-l', `--log-prefix=${join(directory, LOG_PREFIX)}`]
  for (let whole = seconds; ; whole *= 2) {
    const output = await pgbench(load.port, [...many, '-T', String(whole), ...log], load.isTls)
    if (/aborted/.test(output)) throw new Error(`clients of pgbench were aborted:\n${output}`)
    const tps = Number(/^tps = ([\d.]+)/m.exec(output)?.[1] ?? Number.NaN)
    const { times, transactions } = takeLog(directory)
    const connectMs = Number(/^initial connection time = ([\d.]+)/m.exec(output)?.[1] ?? 0)
    const p50Us = percentile(times, 0.5)
    const p99Us = percentile(times, 0.99)
    if (tps > 0 && times.length > 0) return { transactions, tps, p50Us, p99Us, connectMs }
    // All of it may have gone to the log-ins.
    if (whole > SECONDS_MAX) throw new Error(`pgbench measured nothing:\n${output}`)
  }
}

/** Fills the database with pgbench's tables. */
export async function initPgbench(port: number, scale: number): Promise<void> {
  await pgbench(port, ['-i', '-q', '-s', String(scale)])
}

async function pgbench(port: number, args: readonly string[], isTls = false): Promise<string> {
  const { file, args: first, env } = program('pgbench')
  const child = spawn(
    file,
    [...first, ...args, '-h', '127.0.0.1', '-p', String(port), '-U', USER, USER],
    {
      cwd: '/',
      env: {
        ...process.env,
        ...env,
        PGPASSWORD: USER,
        PGSSLMODE: isTls ? 'require' : 'disable',
        PGGSSENCMODE: 'disable',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  )
  let output = ''
  child.stdout.on('data', (text: Buffer) => {
    output += text.toString()
  })
  child.stderr.on('data', (text: Buffer) => {
    output += text.toString()
  })
  const [code]: unknown[] = await once(child, 'close')
  if (code !== 0) throw new Error(`pgbench ended with ${String(code)}:\n${output}`)
  return output
}

/** The latencies of the first script in microseconds, sorted, and how many there are of all. */
function takeLog(directory: string): { times: Float64Array; transactions: number } {
  const times: number[] = []
  let transactions = 0
  for (const name of readdirSync(directory)) {
    if (!name.startsWith(LOG_PREFIX)) continue
    const path = join(directory, name)
    for (const line of readFileSync(path, 'latin1').split('\n')) {
      if (line === '') continue
      const columns = line.split(' ', SCRIPT_COLUMN + 1)
      transactions += 1
      if (columns[SCRIPT_COLUMN] === '0') times.push(Number(columns[TIME_COLUMN]))
    }
    rmSync(path)
  }
  return { times: Float64Array.from(times).toSorted(), transactions }
}
