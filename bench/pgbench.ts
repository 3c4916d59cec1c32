/**
 * One run of pgbench against one port, with the latency of every transaction.
 *
 * pgbench's own time runs from before its clients log in, which takes seconds when they are many, so
 * that what the last log-ins of a port took is added.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { program } from '../test/support/debian.ts'
import { type PgbenchScript, scriptOptions } from './scripts.ts'
import type { Mode } from './shapes.ts'

export interface Load {
  readonly port: number
  readonly seconds: number
  readonly shape: {
    readonly script: PgbenchScript
    readonly mode: Mode
    readonly clients: number
    readonly isConnect?: true
  }
  readonly isTls: boolean
  /** Where the logs go for the time being. */
  readonly directory: string
}

export interface LoadResult {
  readonly transactions: number
  readonly tps: number
  readonly p50Us: number
  readonly p99Us: number
}

const USER = 'demo'
/** Column of the per-transaction log. Source: pgbench manual, "Per-Transaction Logging". */
const TIME_COLUMN = 2
const SCRIPT_COLUMN = 3
const LOG_PREFIX = 'pgbench_log'
/** Until it is known. */
const LOGIN_MS = 20
const LOGIN_MS_MAX = 320
/** Of each client, as the port's last run found it. */
const loginMsByPort = new Map<number, number>()

/**
 * Errors  Error with pgbench's own words when it fails or a client of it does.
 */
export async function runPgbench(load: Load): Promise<LoadResult> {
  const { shape, seconds, directory } = load
  const script = scriptOptions(shape.script, directory)
  const connect = shape.isConnect === true ? ['-C'] : []
  const who = [
    '-n',
    ...script,
    ...connect,
    '-M',
    shape.mode,
    '-c',
    String(shape.clients),
    '-j',
    '1',
  ]
  const log = ['-l', `--log-prefix=${join(directory, LOG_PREFIX)}`]
  for (let loginMs = loginMsByPort.get(load.port) ?? LOGIN_MS; ; loginMs *= 2) {
    const loginsMs = shape.isConnect === true ? 0 : loginMs * shape.clients
    const time = ['-T', String(seconds + Math.round(loginsMs / 1000))]
    const output = await pgbench(load.port, [...who, ...time, ...log], load.isTls)
    if (/aborted/.test(output)) throw new Error(`clients of pgbench were aborted:\n${output}`)
    const tps = Number(/^tps = ([\d.]+)/m.exec(output)?.[1] ?? Number.NaN)
    const foundMs = Number(/^initial connection time = ([\d.]+)/m.exec(output)?.[1] ?? 0)
    const { times, transactions } = takeLog(directory)
    if (tps > 0 && times.length > 0) {
      loginMsByPort.set(load.port, foundMs / shape.clients)
      return {
        transactions,
        tps,
        p50Us: percentile(times, 0.5),
        p99Us: percentile(times, 0.99),
      }
    }
    if (loginMs > LOGIN_MS_MAX) throw new Error(`pgbench measured nothing:\n${output}`)
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

export function percentile(sorted: Float64Array, part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN
}
