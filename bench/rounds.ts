/**
 * One shape of load, measured: warm-up, PgBouncer's best pool size, then rounds in which every
 * contender has its turn, so that what the machine does meanwhile falls on all of them.
 */
import { runPgbench } from './pgbench.ts'
import { type Bench, Contender, type PoolerSettings, pgbouncerVersion } from './poolers.ts'
import { type PgbenchShape, POOLS_TRIED } from './shapes.ts'

export interface Sample {
  readonly tps: number
  readonly p50Us: number
  readonly p99Us: number
  /** CPU time of the pooler's processes per transaction; null without a pooler. */
  readonly cpuUs: number | null
}

export interface ContenderResult {
  readonly name: string
  readonly poolSize: number
  readonly poolMode: string
  /** One per round; the same index is the same round for all contenders. */
  readonly samples: Sample[]
}

export interface ShapeResult {
  readonly shape: PgbenchShape
  readonly contenders: readonly ContenderResult[]
}

export interface Plan {
  readonly names: readonly string[]
  readonly rounds: number
  readonly seconds: number
  readonly warmSeconds: number
  readonly progress: (text: string) => void
}

/** The log-ins of many clients are part of it. */
const TRIAL_SECONDS = 4
const CLIENTS_MAX = 1000

export async function runShape(
  shape: PgbenchShape,
  bench: Bench,
  plan: Plan,
): Promise<ShapeResult> {
  const poolSize = shape.pool === 'tuned' ? await tunedPool(shape, bench, plan) : shape.pool
  const contenders: Contender[] = []
  try {
    for (const name of plan.names) {
      const settings = settingsFor(name, { shape, poolSize, bench })
      contenders.push(await Contender.start(name, bench, settings))
    }
    for (const contender of contenders) {
      plan.progress(`${shape.name}: warming up ${contender.name}`)
      await measure(shape, contender, { seconds: plan.warmSeconds, bench })
    }
    return { shape, contenders: await runRounds(shape, contenders, { bench, plan }) }
  } finally {
    await Promise.all(contenders.map((contender) => contender.stop()))
  }
}

async function runRounds(
  shape: PgbenchShape,
  contenders: readonly Contender[],
  run: { readonly bench: Bench; readonly plan: Plan },
): Promise<ContenderResult[]> {
  const { plan, bench } = run
  const results = contenders.map(({ name, settings }) => ({
    name,
    poolSize: settings.poolSize,
    poolMode: settings.poolMode,
    samples: new Array<Sample>(),
  }))
  for (let round = 0; round < plan.rounds; round += 1)
    // Nobody always follows the same one.
    for (let turn = 0; turn < contenders.length; turn += 1) {
      const index = (round + turn) % contenders.length
      const contender = contenders[index]
      if (contender === undefined) continue
      const sample = await measure(shape, contender, { seconds: plan.seconds, bench })
      results[index]?.samples.push(sample)
      plan.progress(`${shape.name}: round ${round + 1}, ${contender.name}: ${textOf(sample)}`)
    }
  return results
}

async function measure(
  shape: PgbenchShape,
  contender: Contender,
  run: { readonly seconds: number; readonly bench: Bench },
): Promise<Sample> {
  const beforeUs = contender.cpuUs
  const { directory } = run.bench.cluster
  const { port, isTls } = contender
  const load = await runPgbench({ port, isTls, seconds: run.seconds, shape, directory })
  const usedUs = contender.cpuUs - beforeUs
  return {
    tps: load.tps,
    p50Us: load.p50Us,
    p99Us: load.p99Us,
    cpuUs: contender.hasProcesses ? usedUs / load.transactions : null,
  }
}

/**
 * A PgBouncer that cannot carry prepared statements gets session mode with a server per client: the
 * least work that it can have.
 */
function settingsFor(
  name: string,
  given: { readonly shape: PgbenchShape; readonly poolSize: number; readonly bench: Bench },
): PoolerSettings {
  const { shape, poolSize, bench } = given
  const isSession =
    name === 'pgbouncer' && shape.mode === 'prepared' && !pgbouncerVersion(bench).hasPrepared
  return {
    poolMode: isSession ? 'session' : 'transaction',
    poolSize: isSession ? shape.clients : poolSize,
    authType: 'scram-sha-256',
    clientsMax: CLIENTS_MAX,
    isTls: shape.isTls === true,
    workers: shape.workers ?? 1,
  }
}

/** The pool size with which PgBouncer serves this shape quickest. */
async function tunedPool(shape: PgbenchShape, bench: Bench, plan: Plan): Promise<number> {
  const tried = shape.mode === 'prepared' ? { ...shape, mode: 'extended' as const } : shape
  let best = { poolSize: POOLS_TRIED[0] ?? 1, tps: 0 }
  for (const poolSize of POOLS_TRIED) {
    const settings = settingsFor('pgbouncer', { shape: tried, poolSize, bench })
    const contender = await Contender.start('pgbouncer', bench, settings)
    try {
      const { tps } = await measure(tried, contender, { seconds: TRIAL_SECONDS, bench })
      plan.progress(`${shape.name}: pgbouncer with ${poolSize} servers: ${tps.toFixed(0)} tps`)
      if (tps > best.tps) best = { poolSize, tps }
    } finally {
      await contender.stop()
    }
  }
  return best.poolSize
}

function textOf(sample: Sample): string {
  const cpu = sample.cpuUs === null ? '' : `, ${sample.cpuUs.toFixed(1)} us CPU`
  return `${sample.tps.toFixed(0)} tps${cpu}, p99 ${sample.p99Us.toFixed(0)} us`
}
