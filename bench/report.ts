/**
 * From samples to what people read: medians, ratios of the same round, goals, tables in Markdown.
 */
import type { ContenderResult, Sample, ShapeResult } from './rounds.ts'
import type { Figure, Goal, LoadShape } from './shapes.ts'
import { type IdleRecord, isLoad, type Result } from './summary.ts'

const SUBJECT = 'pgsteer'
const MIB = 2 ** 20
const WORDS: Readonly<Record<Figure, string>> = {
  tps: 'throughput',
  cpuUs: 'CPU per transaction',
  p50Us: 'p50',
  p99Us: 'p99',
}

export interface Ratio {
  readonly median: number
  readonly min: number
  readonly max: number
}

export interface Verdict {
  readonly shape: string
  readonly what: string
  readonly held: string
  readonly aim: string
  readonly found: string
  readonly isHeld: boolean
  readonly isAimReached: boolean
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
}

/** Round by round, `one` divided by `other`; null where either has no such figure. */
export function ratio(
  one: ContenderResult | undefined,
  other: ContenderResult | undefined,
  figure: Figure,
): Ratio | null {
  if (one === undefined || other === undefined) return null
  const quotients: number[] = []
  for (const [round, sample] of one.samples.entries()) {
    const mine = sample[figure]
    const theirs = other.samples[round]?.[figure]
    if (mine === null || theirs === null || theirs === undefined) return null
    quotients.push(mine / theirs)
  }
  return { median: median(quotients), min: Math.min(...quotients), max: Math.max(...quotients) }
}

/** With whom the others of a shape are compared: PgBouncer, or Pgpool-II where it cannot take part. */
export function referenceOf(result: ShapeResult): ContenderResult | undefined {
  return contender(result, 'pgbouncer') ?? contender(result, 'pgpool')
}

/** pgsteer, with and without multiplexed reads, as far as they took part. */
export function subjectsOf(result: ShapeResult): ContenderResult[] {
  return result.contenders.filter(({ name }) => name === SUBJECT || name === 'multiplexed')
}

function contender(result: ShapeResult, wanted: string): ContenderResult | undefined {
  return result.contenders.find(({ name }) => name === wanted)
}

export function table(result: Result): string {
  return isLoad(result) ? loadTable(result) : idleTable(result)
}

function loadTable(result: ShapeResult): string {
  const reference = referenceOf(result)
  const head = ['', 'pool', 'tps', 'p50 us', 'p99 us', 'CPU us/tx', 'calls/tx', 'MiB']
  const ratios: readonly Figure[] = ['tps', 'cpuUs', 'p99Us']
  const rows = result.contenders.map((one) => [
    one.name,
    poolText(one),
    number(one.samples, 'tps', 0),
    number(one.samples, 'p50Us', 0),
    number(one.samples, 'p99Us', 0),
    number(one.samples, 'cpuUs', 1),
    one.syscalls?.['all']?.toFixed(1) ?? '',
    one.residentBytes === null ? '' : (one.residentBytes / MIB).toFixed(0),
    ...ratios.map((figure) => ratioText(ratio(one, reference, figure))),
  ])
  const header = [...head, 'tps ratio', 'CPU ratio', 'p99 ratio']
  return `### ${result.shape.name}\n\n${whatRuns(result.shape)}\n\n${markdown(header, rows)}`
}

function whatRuns(shape: LoadShape): string {
  const { clients, mode, script, workers, replicas } = shape
  const words = [`${script === '-S' ? 'pgbench -S' : script}, ${mode} protocol`]
  words.push(clients === 1 ? 'one client' : `${clients} clients`)
  if (shape.isConnect === true) words.push('a connection per transaction')
  if (shape.isTls === true) words.push('TLS to the pooler')
  if (workers !== undefined) words.push(`${workers} processes that serve clients`)
  if (replicas !== undefined) words.push(`one primary and ${replicas} replicas`)
  return words.join(', ')
}

/** The first one is the floor. */
function idleTable({ shape, contenders }: IdleRecord): string {
  const [floor] = contenders
  const rows = contenders.map((result) => [
    result.name,
    result.clients,
    result.held,
    Math.round(result.bytesPerClient),
    result === floor ? '' : Math.round(aboveFloor(result, contenders)),
    (result.connectMs / 1000).toFixed(1),
  ])
  const header = ['', 'clients', 'held', 'bytes per client', 'above bare node', 's to connect']
  const what = shape.isTls ? 'Clients with TLS that do nothing' : 'Clients that do nothing'
  return `### ${shape.name}\n\n${what}\n\n${markdown(header, rows)}`
}

function aboveFloor(
  result: { readonly bytesPerClient: number },
  all: readonly { readonly bytesPerClient: number }[],
): number {
  return result.bytesPerClient - (all[0]?.bytesPerClient ?? 0)
}

export function verdicts(result: Result): Verdict[] {
  if (!isLoad(result)) return idleVerdicts(result)
  return result.shape.goals.flatMap((goal) => {
    const found = ratio(contender(result, goal.subject), contender(result, goal.of), goal.figure)
    if (found === null) return []
    const isMore = goal.figure === 'tps'
    const reaches = (bound: number): boolean =>
      isMore ? found.median >= bound : found.median <= bound
    return {
      shape: result.shape.name,
      what: `${WORDS[goal.figure]} of ${goal.subject} to ${goal.of} ${isMore ? 'at least' : 'at most'}`,
      held: heldText(goal),
      aim: String(goal.aim),
      found: ratioText(found),
      isHeld: goal.held === null || reaches(goal.held),
      isAimReached: reaches(goal.aim),
    }
  })
}

function heldText({ held }: Goal): string {
  return held === null ? '' : String(held)
}

function idleVerdicts({ shape, contenders }: IdleRecord): Verdict[] {
  const max = shape.bytesPerClientMax
  const subject = contenders.find(({ name }) => name === SUBJECT)
  if (subject === undefined || max === null) return []
  const above = aboveFloor(subject, contenders)
  const verdict = (what: string, bound: number, found: number, isHeld: boolean): Verdict => ({
    shape: shape.name,
    what,
    held: String(bound),
    aim: String(bound),
    found: String(Math.round(found)),
    isHeld,
    isAimReached: isHeld,
  })
  const { clients, held } = subject
  return [
    verdict('clients held', clients, held, held === clients),
    verdict('bytes per client at most, above bare node', max, above, above <= max),
  ]
}

export function verdictTable(all: readonly Verdict[]): string {
  const rows = all.map((one) => [one.shape, one.what, one.held, one.aim, one.found, outcome(one)])
  return markdown(['shape', 'what', 'held', 'aim', 'found', ''], rows)
}

function outcome({ isAimReached, isHeld, held }: Verdict): string {
  if (isAimReached) return 'aim reached'
  if (!isHeld) return '**missed**'
  return held === '' ? 'aim not reached' : 'held'
}

type Cells = readonly (string | number)[]

function line(cells: Cells): string {
  return `| ${cells.join(' | ')} |`
}

export function markdown(header: readonly string[], rows: readonly Cells[]): string {
  return `${[line(header), line(header.map(() => '---')), ...rows.map(line)].join('\n')}\n`
}

function poolText(one: ContenderResult): string {
  if (one.name === 'direct' || one.name === 'haproxy' || one.name === 'pgpool') return ''
  return `${one.poolSize}${one.poolMode === 'session' ? ', session mode' : ''}`
}

function number(samples: readonly Sample[], figure: Figure, digits: number): string {
  const values = samples.map((sample) => sample[figure]).filter((value) => value !== null)
  return values.length === 0 ? '' : median(values).toFixed(digits)
}

export function ratioText(found: Ratio | null): string {
  if (found === null) return ''
  return `${found.median.toFixed(2)} (${found.min.toFixed(2)}-${found.max.toFixed(2)})`
}
