/**
 * One shape of load, measured: warm-up, PgBouncer's best pool size, then rounds in which every
 * contender has its turn, so that what the machine does meanwhile falls on all of them.
 */
import { runCopy } from './copy.ts'
import type { LoadResult } from './load.ts'
import { runPgbench } from './pgbench.ts'
import { pgbouncerVersion } from './pgbouncer.ts'
import { Contender } from './poolers.ts'
import { isCopy } from './scripts.ts'
import type { Bench, PoolerSettings } from './settings.ts'
import { type LoadShape, POOLS_TRIED } from './shapes.ts'
import { countSyscalls } from './syscalls.ts'

export interface Sample {
  readonly tps: number
  readonly p50Us: number
  readonly p99Us: number
  /** CPU time of the pooler's processes per transaction; null without a pooler. */
  readonly cpuUs: number | null
  /** The same of each of its processes, by name. */
  readonly cpuUsBy: Readonly<Record<string, number>>
}

export interface ContenderResult {
  readonly name: string
  readonly poolSize: number
  readonly poolMode: string
  /** One per round; the same index is the same round for all contenders. */
  readonly samples: readonly Sample[]
  /** Of all its processes after the rounds; null without a pooler. */
  readonly residentBytes: number | null
  /** Per transaction, by name, in a run of its own; null without a pooler or a perf that counts. */
  readonly syscalls: Readonly<Record<string, number>> | null
}

export interface ShapeResult {
  readonly shape: LoadShape
  readonly at: string
  readonly rounds: number
  readonly seconds: number
  readonly contenders: readonly ContenderResult[]
}

export interface Plan {
  readonly rounds: number
  readonly seconds: number
  readonly warmSeconds: number
  readonly progress: (text: string) => void
}

interface Run {
  readonly shape: LoadShape
  readonly bench: Bench
  readonly plan: Plan
}

/** A log-in to PostgreSQL itself, with its proof of a password, before it was measured. */
const LOGIN_MS = 20
const TRIAL_SECONDS = 2
const SYSCALL_SECONDS = 1
const CLIENTS_MAX = 1000

/** `names`: contenders of this shape that take part. */
export async function runShape(run: Run, names: readonly string[]): Promise<ShapeResult> {
  const { shape, plan } = run
  const poolSize = shape.pool === 'tuned' ? await tunedPool(run) : shape.pool
  const contenders: Contender[] = []
  try {
    for (const name of names)
      contenders.push(await Contender.start(name, run.bench, settingsFor(name, poolSize, run)))
    for (const contender of contenders) {
      plan.progress(`${shape.name}: warming up ${contender.name}`)
      await measure(run, contender, plan.warmSeconds)
    }
    const at = new Date().toISOString()
    const results = await runRounds(run, contenders)
    return { shape, at, rounds: plan.rounds, seconds: plan.seconds, contenders: results }
  } finally {
    await Promise.all(contenders.map((contender) => contender.stop()))
  }
}

async function runRounds(run: Run, contenders: readonly Contender[]): Promise<ContenderResult[]> {
  const { plan, shape } = run
  const samples = contenders.map((): Sample[] => [])
  for (let round = 0; round < plan.rounds; round += 1)
    // Nobody always follows the same one.
    for (let turn = 0; turn < contenders.length; turn += 1) {
      const index = (round + turn) % contenders.length
      const contender = contenders[index]
      if (contender === undefined) continue
      const sample = await measure(run, contender, plan.seconds)
      samples[index]?.push(sample)
      plan.progress(`${shape.name}: round ${round + 1}, ${contender.name}: ${textOf(sample)}`)
    }
  const results: ContenderResult[] = []
  for (const [index, contender] of contenders.entries()) {
    const { name, settings, hasProcesses } = contender
    const residentBytes = hasProcesses ? contender.residentBytes : null
    const syscalls = hasProcesses ? await syscallsOf(run, contender) : null
    const { poolSize, poolMode } = settings
    const mine = samples[index] ?? []
    results.push({ name, poolSize, poolMode, samples: mine, residentBytes, syscalls })
  }
  return results
}

async function measure(run: Run, contender: Contender, seconds: number): Promise<Sample> {
  const before = contender.cpuUs
  const { transactions, tps, p50Us, p99Us } = await drive(run, contender, seconds)
  const cpuUsBy: Record<string, number> = {}
  let usedUs = 0
  for (const [name, us] of Object.entries(contender.cpuUs)) {
    const mine = us - (before[name] ?? 0)
    usedUs += mine
    cpuUsBy[name] = mine / transactions
  }
  const cpuUs = contender.hasProcesses ? usedUs / transactions : null
  return { tps, p50Us, p99Us, cpuUs, cpuUsBy }
}

/**
 * pgbench's time begins before its clients connect, which takes seconds where hundreds of them
 * prove a password: what that took last is added.
 */
async function drive(run: Run, contender: Contender, seconds: number): Promise<LoadResult> {
  const { shape, bench } = run
  const { port, isTls } = contender
  const connectMs = contender.connectMs ?? (contender.hasProcesses ? 0 : shape.clients * LOGIN_MS)
  const whole = seconds + Math.round(connectMs / 1000)
  const { directory } = bench.cluster
  const load = { port, isTls, seconds: whole, shape, directory }
  const { script } = shape
  const result = await (isCopy(script)
    ? runCopy({ ...load, script })
    : runPgbench({ ...load, script }))
  contender.connectMs = result.connectMs
  return result
}

async function syscallsOf(run: Run, contender: Contender): Promise<Record<string, number> | null> {
  let transactions = Number.NaN
  const counts = await countSyscalls(contender.pids, async () => {
    transactions = (await drive(run, contender, SYSCALL_SECONDS)).transactions
  })
  if (counts === null) return null
  const each = Object.entries(counts).map(([name, count]) => [name, count / transactions])
  return Object.fromEntries(each)
}

/**
 * A PgBouncer that cannot carry prepared statements gets session mode with a server per client: the
 * least work that it can have. Log-ins are measured by shapes of their own; elsewhere clients have
 * none, so that pgbench's time is not spent on it.
 */
function settingsFor(name: string, poolSize: number, { shape, bench }: Run): PoolerSettings {
  const isSession =
    name.startsWith('pgbouncer') &&
    shape.mode === 'prepared' &&
    !pgbouncerVersion(bench.pgbouncer).hasPrepared
  return {
    poolMode: isSession ? 'session' : 'transaction',
    poolSize: isSession ? shape.clients : poolSize,
    authType: shape.isConnect === true ? 'scram-sha-256' : 'trust',
    // Pgpool-II forks a process for each.
    clientsMax: name === 'pgpool' ? shape.clients + 4 : CLIENTS_MAX,
    isTls: shape.isTls === true,
    workers: shape.workers ?? 1,
    isSplit: shape.replicas !== undefined,
  }
}

/** The pool size with which PgBouncer serves this shape quickest. */
async function tunedPool(run: Run): Promise<number> {
  const { shape, bench, plan } = run
  let best = { poolSize: POOLS_TRIED[0] ?? 1, tps: 0 }
  for (const poolSize of POOLS_TRIED) {
    const settings = settingsFor('pgbouncer', poolSize, run)
    const contender = await Contender.start('pgbouncer', bench, settings)
    try {
      const { tps } = await measure(run, contender, TRIAL_SECONDS)
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
