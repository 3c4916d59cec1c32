/**
 * From samples to what people read: medians, ratios of the same round, goals, tables in Markdown.
 */
import type { IdleResult } from './idle.ts'
import type { ContenderResult, Sample, ShapeResult } from './rounds.ts'
import type { IdleShape, PgbenchShape } from './shapes.ts'

/** Whom everybody is compared with. */
const REFERENCE = 'pgbouncer'
const SUBJECT = 'pgsteer'

export interface Ratio {
  readonly median: number
  readonly min: number
  readonly max: number
}

export interface Verdict {
  readonly shape: string
  readonly what: string
  readonly found: string
  readonly isHeld: boolean
}

type Figure = 'tps' | 'cpuUs' | 'p50Us' | 'p99Us'

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
}

/** Round by round, `one` divided by `other`; null where either has no such figure. */
export function ratio(one: ContenderResult, other: ContenderResult, figure: Figure): Ratio | null {
  const quotients: number[] = []
  for (const [round, sample] of one.samples.entries()) {
    const mine = sample[figure]
    const theirs = other.samples[round]?.[figure]
    if (mine === null || theirs === null || theirs === undefined) return null
    quotients.push(mine / theirs)
  }
  return { median: median(quotients), min: Math.min(...quotients), max: Math.max(...quotients) }
}

export function shapeTable(result: ShapeResult): string {
  const reference = result.contenders.find(({ name }) => name === REFERENCE)
  const { shape } = result
  const lines = [
    `### ${shape.name}`,
    '',
    whatRuns(shape),
    '',
    '| | pool | tps | p50 us | p99 us | CPU us/tx | tps ratio | CPU ratio | p50 ratio | p99 ratio |',
    '|---|---|---|---|---|---|---|---|---|---|',
  ]
  for (const contender of result.contenders) {
    const values = [
      poolText(contender),
      number(contender.samples, 'tps', 0),
      number(contender.samples, 'p50Us', 0),
      number(contender.samples, 'p99Us', 0),
      number(contender.samples, 'cpuUs', 1),
      ...(['tps', 'cpuUs', 'p50Us', 'p99Us'] as const).map((figure) =>
        ratioText(reference === undefined ? null : ratio(contender, reference, figure)),
      ),
    ]
    lines.push(`| ${contender.name} | ${values.join(' | ')} |`)
  }
  return `${lines.join('\n')}\n`
}

function whatRuns(shape: PgbenchShape): string {
  const { clients, mode, script, workers } = shape
  const words = [`${script === '-S' ? 'pgbench -S' : script} -M ${mode}`, `${clients} clients`]
  if (shape.isConnect === true) words.push('a connection per transaction')
  if (shape.isTls === true) words.push('TLS to the pooler')
  if (workers !== undefined) words.push(`${workers} processes that serve clients`)
  return words.join(', ')
}

export function idleTable(results: readonly IdleResult[]): string {
  const lines = [
    '### idle',
    '',
    '| | clients | held | bytes per client | above bare node | seconds to connect |',
    '|---|---|---|---|---|---|',
  ]
  const [floor] = results
  for (const result of results) {
    const above = result.bytesPerClient - (floor?.bytesPerClient ?? 0)
    const values = [
      result.clients,
      result.held,
      Math.round(result.bytesPerClient),
      result === floor ? '' : Math.round(above),
      (result.connectMs / 1000).toFixed(1),
    ]
    lines.push(`| ${result.name} | ${values.join(' | ')} |`)
  }
  return `${lines.join('\n')}\n`
}

export function shapeVerdicts(result: ShapeResult): Verdict[] {
  const { goal, name: shape } = result.shape
  const reference = result.contenders.find(({ name }) => name === REFERENCE)
  const subject = result.contenders.find(({ name }) => name === SUBJECT)
  if (goal === null || reference === undefined || subject === undefined) return []
  const throughput = ratio(subject, reference, 'tps')
  const cpu = ratio(subject, reference, 'cpuUs')
  if (throughput === null || cpu === null) return []
  return [
    {
      shape,
      what: `throughput at least ${goal.throughput} of PgBouncer's`,
      found: ratioText(throughput),
      isHeld: throughput.median >= goal.throughput,
    },
    {
      shape,
      what: `CPU per transaction at most ${goal.cpu} of PgBouncer's`,
      found: ratioText(cpu),
      isHeld: cpu.median <= goal.cpu,
    },
  ]
}

export function idleVerdicts(shape: IdleShape, results: readonly IdleResult[]): Verdict[] {
  const [floor] = results
  const subject = results.find(({ name }) => name === SUBJECT)
  if (subject === undefined || floor === undefined) return []
  const above = subject.bytesPerClient - floor.bytesPerClient
  return [
    {
      shape: shape.name,
      what: `${subject.clients} idle clients held`,
      found: String(subject.held),
      isHeld: subject.held === subject.clients,
    },
    {
      shape: shape.name,
      what: `at most ${shape.bytesPerClientMax} bytes per idle client above the runtime's own`,
      found: String(Math.round(above)),
      isHeld: above <= shape.bytesPerClientMax,
    },
  ]
}

export function verdictTable(verdicts: readonly Verdict[]): string {
  const lines = ['### Goals', '', '| shape | goal | found | |', '|---|---|---|---|']
  for (const { shape, what, found, isHeld } of verdicts)
    lines.push(`| ${shape} | ${what} | ${found} | ${isHeld ? 'held' : '**missed**'} |`)
  return `${lines.join('\n')}\n`
}

function poolText(contender: ContenderResult): string {
  if (contender.name === 'direct') return ''
  return `${contender.poolSize}${contender.poolMode === 'session' ? ', session mode' : ''}`
}

function number(samples: readonly Sample[], figure: Figure, digits: number): string {
  const values = samples.map((sample) => sample[figure]).filter((value) => value !== null)
  return values.length === 0 ? '' : median(values).toFixed(digits)
}

function ratioText(found: Ratio | null): string {
  if (found === null) return ''
  return `${found.median.toFixed(2)} (${found.min.toFixed(2)}-${found.max.toFixed(2)})`
}
