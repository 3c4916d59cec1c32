/**
 * One shape of load, measured: warm-up, PgBouncer's best pool size, then rounds in which every
 * contender has its turn, so that what the machine does meanwhile falls on all of them.
 */
import { type LoadResult, runPgbench } from './pgbench.ts'
import { type Bench, Contender, type PoolerSettings, pgbouncerVersion } from './poolers.ts'
import { runPsql } from './psql.ts'
import { isPsqlScript } from './scripts.ts'
import { type LoadShape, POOLS_TRIED } from './shapes.ts'
import { countSyscalls, type Syscalls } from './syscalls.ts'

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
  /** Per transaction, of one more run of which nothing else counts; null when none was asked for. */
  readonly syscalls: Syscalls | null
}

export interface ShapeResult {
  readonly shape: LoadShape
  readonly contenders: readonly ContenderResult[]
}

export interface Plan {
  readonly names: readonly string[]
  readonly rounds: number
  readonly seconds: number
  readonly warmSeconds: number
  readonly isTraced: boolean
  readonly progress: (text: string) => void
}

const TRIAL_SECONDS = 2
const TRACE_SECONDS = 2
/** From so many clients on, poolers do not ask for passwords: a run would be log-ins for a good part. */
const TRUSTED_FROM = 64
const CLIENTS_MAX = 1000

export async function runShape(shape: LoadShape, bench: Bench, plan: Plan): Promise<ShapeResult> {
  const poolSize = shape.pool === 'tuned' ? await tunedPool(shape, bench, plan) : shape.pool
  const contenders: Contender[] = []
  try {
    for (const name of plan.names.filter((one) => shape.contenders.includes(one))) {
      const settings = settingsFor(name, { shape, poolSize, bench })
      contenders.push(await Contender.start(name, bench, settings))
    }
    for (const contender of contenders) {
      plan.progress(`${shape.name}: warming up ${contender.name}`)
      await measure(shape, contender, { seconds: plan.warmSeconds, bench })
    }
    const results = await runRounds(shape, contenders, { bench, plan })
    if (!plan.isTraced) return { shape, contenders: results }
    return { shape, contenders: await traced(shape, contenders, { bench, results }) }
  } finally {
    await Promise.all(contenders.map((contender) => contender.stop()))
  }
}

async function runRounds(
  shape: LoadShape,
  contenders: readonly Contender[],
  run: { readonly bench: Bench; readonly plan: Plan },
): Promise<ContenderResult[]> {
  const { plan, bench } = run
  const results = contenders.map(({ name, settings }) => ({
    name,
    poolSize: settings.poolSize,
    poolMode: settings.poolMode,
    samples: new Array<Sample>(),
    syscalls: null,
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

/** The same results with system calls counted. */
async function traced(
  shape: LoadShape,
  contenders: readonly Contender[],
  run: { readonly bench: Bench; readonly results: readonly ContenderResult[] },
): Promise<ContenderResult[]> {
  const found: ContenderResult[] = []
  for (const [index, result] of run.results.entries()) {
    const contender = contenders[index]
    const syscalls =
      contender?.hasProcesses === true
        ? await countSyscalls(contender.pids, run.bench.cluster.directory, async () => {
            const load = await runLoad(shape, contender, { ...run, seconds: TRACE_SECONDS })
            return load.transactions
          })
        : null
    found.push({ ...result, syscalls })
  }
  return found
}

async function measure(
  shape: LoadShape,
  contender: Contender,
  run: { readonly seconds: number; readonly bench: Bench },
): Promise<Sample> {
  const beforeUs = contender.cpuUs
  const load = await runLoad(shape, contender, run)
  const usedUs = contender.cpuUs - beforeUs
  return {
    tps: load.tps,
    p50Us: load.p50Us,
    p99Us: load.p99Us,
    cpuUs: contender.hasProcesses ? usedUs / load.transactions : null,
  }
}

function runLoad(
  shape: LoadShape,
  { port, isTls }: Contender,
  { seconds, bench }: { readonly seconds: number; readonly bench: Bench },
): Promise<LoadResult> {
  const { script, clients } = shape
  const { directory } = bench.cluster
  if (isPsqlScript(script)) return runPsql({ port, seconds, script, clients, directory })
  return runPgbench({ port, isTls, seconds, shape: { ...shape, script }, directory })
}

/**
 * A PgBouncer that cannot carry prepared statements gets session mode with a server per client: the
 * least work that it can have.
 */
function settingsFor(
  name: string,
  given: { readonly shape: LoadShape; readonly poolSize: number; readonly bench: Bench },
): PoolerSettings {
  const { shape, poolSize, bench } = given
  const isSession =
    name === 'pgbouncer' && shape.mode === 'prepared' && !pgbouncerVersion(bench).hasPrepared
  return {
    poolMode: isSession ? 'session' : 'transaction',
    poolSize: isSession ? shape.clients : poolSize,
    authType: shape.clients < TRUSTED_FROM ? 'scram-sha-256' : 'trust',
    clientsMax: CLIENTS_MAX,
    isTls: shape.isTls === true,
    workers: shape.workers ?? 1,
    isSplit: shape.isSplit === true,
  }
}

/** The pool size with which PgBouncer serves this shape quickest. */
async function tunedPool(shape: LoadShape, bench: Bench, plan: Plan): Promise<number> {
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
