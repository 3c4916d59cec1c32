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
  const plain = options.shapes.filter((shape) => shape.kind === 'idle' || shape.isSplit !== true)
  const split = options.shapes.filter((shape) => !plain.includes(shape))
  const results: Results = { shapes: [], idle: [], verdicts: [] }
  // Replicas would take part of the machine from the others.
  if (plain.length > 0) await runOn(0, { ...options, shapes: plain }, results)
  if (split.length > 0) await runOn(2, { ...options, shapes: split }, results)
  const { verdicts } = results
  if (verdicts.length > 0) process.stdout.write(`${verdictTable(verdicts)}\n`)
  keep(options, { ...results, pgbouncer: pgbouncerVersion(options).text })
  return options.check && verdicts.some(({ isHeld }) => !isHeld) ? 1 : 0
}

interface Results {
  readonly shapes: ShapeResult[]
  readonly idle: IdleResult[]
  readonly verdicts: Verdict[]
}

/** Measures the shapes on a cluster of its own and adds what is found to `results`. */
async function runOn(replicas: number, options: Options, results: Results): Promise<void> {
  const cluster = await EmbeddedCluster.start({
    replicas,
    binaries: postgres15(),
    settings: POSTGRES,
    progress,
  })
  try {
    if (options.shapes.some(({ kind }) => kind === 'load')) {
      progress(`Filling pgbench's tables, scale ${options.scale}`)
      await initPgbench(cluster.primary.port, options.scale)
      const client = await cluster.connect(cluster.primary.name, 'demo')
      await client.query('CREATE UNLOGGED TABLE copied (line text)')
      await client.query('GRANT ALL ON copied TO demo')
      await client.query('CHECKPOINT')
      await client.end()
    }
    await runAll(options, { ...options, cluster }, results)
  } finally {
    await cluster.stop()
  }
}

async function runAll(options: Options, bench: Bench, results: Results): Promise<void> {
  const names = options.before === null ? options.contenders : [...options.contenders, 'before']
  for (const shape of options.shapes)
    if (shape.kind === 'idle') {
      const idle = await runIdle(bench, { names, clients: options.idleClients, progress })
      process.stdout.write(`${idleTable(idle)}\n`)
      results.idle.push(...idle)
      results.verdicts.push(...idleVerdicts(shape, idle))
    } else {
      const result = await runShape(shape, bench, { ...options, names, progress })
      process.stdout.write(`${shapeTable(result)}\n`)
      results.shapes.push(result)
      results.verdicts.push(...shapeVerdicts(result))
    }
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
