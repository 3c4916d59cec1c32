/**
 * `npm run bench`: load through pgsteer, through its peers and direct, in interleaved rounds on real
 * PostgreSQL; prints medians and ratios and writes every sample to bench/results/. The method is in
 * bench/README.md.
 */
import { reasonOf } from '../src/base/errors.ts'
import { EmbeddedCluster } from '../src/demo/cluster.ts'
import { postgres15, program } from '../test/support/debian.ts'
import { runIdle } from './idle.ts'
import { machine } from './machine.ts'
import { type Options, readOptions, USAGE } from './options.ts'
import { writePage } from './page.ts'
import { initPgbench } from './pgbench.ts'
import { pgbouncerVersion } from './pgbouncer.ts'
import { table, type Verdict, verdicts, verdictTable } from './report.ts'
import { runShape } from './rounds.ts'
import type { Bench } from './settings.ts'
import type { Shape } from './shapes.ts'
import { keep, type Result } from './summary.ts'

/** The pooler is measured, not the disk; the same for all contenders. */
const POSTGRES = {
  // Clients that come without a pooler, beside the pools of all poolers that wait for their turn.
  max_connections: '1000',
  shared_buffers: '512MB',
  synchronous_commit: 'off',
  max_wal_size: '8GB',
  checkpoint_timeout: '1h',
  autovacuum: 'off',
}

function progress(text: string): void {
  process.stderr.write(`${text}\n`)
}

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2))
  if (options === null) {
    process.stdout.write(USAGE)
    return 0
  }
  if (options.isPage) {
    writePage()
    return 0
  }
  program('pgbench')
  const found: Verdict[] = []
  let failures = 0
  for (const replicas of new Set(options.shapes.map(replicasOf))) {
    const shapes = options.shapes.filter((shape) => replicasOf(shape) === replicas)
    const cluster = await startCluster(options, replicas)
    try {
      const bench = { ...options, cluster }
      for (const shape of shapes) {
        const result = await runOne(shape, bench, options)
        if (result === null) failures += 1
        else found.push(...verdicts(result))
      }
    } finally {
      await cluster.stop()
    }
  }
  if (found.length > 0) process.stdout.write(`${verdictTable(found)}\n`)
  if (options.isSummary) writePage()
  return failures > 0 || (options.check && found.some(({ isHeld }) => !isHeld)) ? 1 : 0
}

function replicasOf(shape: Shape): number {
  return shape.kind === 'load' ? (shape.replicas ?? 0) : 0
}

async function startCluster(options: Options, replicas: number): Promise<EmbeddedCluster> {
  const binaries = postgres15()
  const cluster = await EmbeddedCluster.start({ replicas, binaries, settings: POSTGRES, progress })
  try {
    progress(`Filling pgbench's tables, scale ${options.scale}`)
    await initPgbench(cluster.primary.port, options.scale)
    const owner = await cluster.primary.connect('demo', 'demo')
    await owner.query('CREATE TABLE bench_sink (line text)')
    await owner.end()
    await cluster.primary.query('CHECKPOINT')
    await cluster.caughtUp()
    return cluster
  } catch (error) {
    await cluster.stop()
    throw error
  }
}

/** Null when it failed: the others are measured all the same. */
async function runOne(shape: Shape, bench: Bench, options: Options): Promise<Result | null> {
  try {
    const result = await measured(shape, bench, options)
    process.stdout.write(`${table(result)}\n`)
    const at = new Date().toISOString()
    const command = ['npm run bench --', ...process.argv.slice(2)].join(' ').trim()
    const on = { ...machine(), pgbouncer: pgbouncerVersion(options.pgbouncer).text }
    const file = keep({ at, command, machine: on, results: [result] }, options.isSummary)
    progress(`Every sample is in ${file}`)
    return result
  } catch (error) {
    progress(`${shape.name} failed: ${reasonOf(error)}`)
    return null
  }
}

async function measured(shape: Shape, bench: Bench, options: Options): Promise<Result> {
  const wanted = (name: string): boolean => options.contenders.includes(name)
  const before = options.before === null ? [] : ['before']
  if (shape.kind === 'load') {
    const names = [...shape.contenders.filter(wanted), ...before]
    return runShape({ shape, bench, plan: { ...options, progress } }, names)
  }
  const names = [...['pgbouncer', 'pgsteer'].filter(wanted), ...before]
  const clients = shape.isTls ? options.idleTlsClients : options.idleClients
  const contenders = await runIdle(bench, { names, clients, isTls: shape.isTls, progress })
  return { shape, at: new Date().toISOString(), contenders }
}

try {
  process.exitCode = await main()
} catch (error) {
  process.stderr.write(`${reasonOf(error)}\n`)
  process.exitCode = 1
}
