/**
 * `npm run bench`: pgbench through pgsteer, through PgBouncer and direct, in interleaved rounds on
 * one real PostgreSQL; prints medians and ratios and writes every sample to bench/results/. The
 * method is in bench/README.md.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { reasonOf } from '../src/base/errors.ts'
import { EmbeddedCluster } from '../src/demo/cluster.ts'
import { postgres15, program } from '../test/support/debian.ts'
import { type IdleResult, runIdle } from './idle.ts'
import { machine } from './machine.ts'
import { type Options, readOptions, USAGE } from './options.ts'
import { initPgbench } from './pgbench.ts'
import { type Bench, pgbouncerVersion } from './poolers.ts'
import {
  idleTable,
  idleVerdicts,
  shapeTable,
  shapeVerdicts,
  type Verdict,
  verdictTable,
} from './report.ts'
import { runShape, type ShapeResult } from './rounds.ts'

const RESULTS = join(import.meta.dirname, 'results')
/** The pooler is measured, not the disk; the same for all contenders. */
const POSTGRES = {
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
  program('pgbench')
  const cluster = await EmbeddedCluster.start({
    replicas: 0,
    binaries: postgres15(),
    settings: POSTGRES,
    progress,
  })
  try {
    if (options.shapes.some(({ kind }) => kind === 'pgbench')) {
      progress(`Filling pgbench's tables, scale ${options.scale}`)
      await initPgbench(cluster.primary.port, options.scale)
      await cluster.primary.query('CHECKPOINT')
    }
    return await runAll(options, { ...options, cluster })
  } finally {
    await cluster.stop()
  }
}

async function runAll(options: Options, bench: Bench): Promise<number> {
  const names = options.before === null ? options.contenders : [...options.contenders, 'before']
  const shapes: ShapeResult[] = []
  let idle: IdleResult[] = []
  const verdicts: Verdict[] = []
  for (const shape of options.shapes)
    if (shape.kind === 'idle') {
      idle = await runIdle(bench, { names, clients: options.idleClients, progress })
      process.stdout.write(`${idleTable(idle)}\n`)
      verdicts.push(...idleVerdicts(shape, idle))
    } else {
      const result = await runShape(shape, bench, { ...options, names, progress })
      process.stdout.write(`${shapeTable(result)}\n`)
      shapes.push(result)
      verdicts.push(...shapeVerdicts(result))
    }
  if (verdicts.length > 0) process.stdout.write(`${verdictTable(verdicts)}\n`)
  keep(options, { shapes, idle, verdicts, pgbouncer: pgbouncerVersion(bench).text })
  return options.check && verdicts.some(({ isHeld }) => !isHeld) ? 1 : 0
}

function keep(
  options: Options,
  results: {
    readonly shapes: readonly ShapeResult[]
    readonly idle: readonly IdleResult[]
    readonly verdicts: readonly Verdict[]
    readonly pgbouncer: string
  },
): void {
  const at = new Date().toISOString()
  const { rounds, seconds, warmSeconds, scale } = options
  const command = ['npm run bench --', ...process.argv.slice(2)].join(' ')
  const { shapes, idle, verdicts } = results
  const on = { ...machine(), pgbouncer: results.pgbouncer }
  const run = { at, command, machine: on, rounds, seconds, warmSeconds, scale }
  const json = { ...run, verdicts, shapes, idle }
  const name = options.isSummary ? 'summary.json' : `${at.replaceAll(':', '-')}.json`
  mkdirSync(RESULTS, { recursive: true })
  writeFileSync(join(RESULTS, name), `${JSON.stringify(json, null, 2)}\n`)
  progress(`Every sample is in bench/results/${name}`)
}

try {
  process.exitCode = await main()
} catch (error) {
  process.stderr.write(`${reasonOf(error)}\n`)
  process.exitCode = 1
}
