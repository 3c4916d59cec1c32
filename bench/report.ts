/**
 * From samples to what people read: medians, ratios of the same round, goals, tables in Markdown.
 */
import type { IdleResult } from './idle.ts'
import type { ContenderResult, Sample, ShapeResult } from './rounds.ts'
import type { Figure, Goal, IdleShape, LoadShape } from './shapes.ts'

const SUBJECT = 'pgsteer'

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
  readonly isAimed: boolean
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
}

/** Round by round, `one` divided by `other`; null where either has no such figure. */
export function ratio(
  one: ContenderResult,
  other: ContenderResult,
  figure: Figure | 'p50Us',
): Ratio | null {
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
  const { shape } = result
  const reference = result.contenders.find(({ name }) => name === shape.reference)
  const isTraced = result.contenders.some(({ syscalls }) => syscalls !== null)
  const others = `tps ratio | CPU ratio | p50 ratio | p99 ratio |${isTraced ? ' calls/tx |' : ''}`
  const lines = [
    `### ${shape.name}`,
    '',
    whatRuns(shape),
    '',
    `| | pool | tps | p50 us | p99 us | CPU us/tx | ${others}`,
    `|---|---|---|---|---|---|---|---|---|---|${isTraced ? '---|' : ''}`,
  ]
  for (const contender of result.contenders) {
    const values = [
      poolText(contender),
      number(contender.samples, 'tps', shape.script.startsWith('copy') ? 1 : 0),
      number(contender.samples, 'p50Us', 0),
      number(contender.samples, 'p99Us', 0),
      number(contender.samples, 'cpuUs', 1),
      ...(['tps', 'cpuUs', 'p50Us', 'p99Us'] as const).map((figure) =>
        ratioText(reference === undefined ? null : ratio(contender, reference, figure)),
      ),
      ...(isTraced ? [contender.syscalls?.all.toFixed(2) ?? ''] : []),
    ]
    lines.push(`| ${contender.name} | ${values.join(' | ')} |`)
  }
  return `${lines.join('\n')}\n`
}

const WHAT: Readonly<Record<LoadShape['script'], string>> = {
  '-S': 'pgbench -S',
  tpcb: 'pgbench -b tpcb-like',
  'rows-64k': 'pgbench, 64 rows of 1 KB',
  'rows-10m': 'pgbench, 10,000 rows of 1 KB',
  'slow-mix': 'pgbench -S, 1 % of the statements take 50 ms',
  split: 'pgbench, 90 % reads and 10 % updates, one primary and two replicas',
  'copy-to': 'psql, 10 MB by COPY TO',
  'copy-from': 'psql, 10 MB by COPY FROM STDIN',
}

function whatRuns(shape: LoadShape): string {
  const { clients, mode, script, workers } = shape
  const words = [
    `${WHAT[script]}${script.startsWith('copy') ? '' : `, -M ${mode}`}`,
    `${clients} clients`,
  ]
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
  return result.shape.goals.flatMap((goal) => {
    const subject = result.contenders.find(({ name }) => name === goal.subject)
    const to = goal.to ?? result.shape.reference
    const other = result.contenders.find(({ name }) => name === to)
    if (subject === undefined || other === undefined) return []
    const found = ratio(subject, other, goal.figure)
    if (found === null) return []
    const reaches = (bound: number): boolean =>
      goal.figure === 'tps' ? found.median >= bound : found.median <= bound
    return [
      {
        shape: result.shape.name,
        what: `${FIGURES[goal.figure]} of ${goal.subject} to ${to}`,
        held: boundText(goal, goal.held),
        aim: boundText(goal, goal.aim),
        found: ratioText(found),
        isHeld: reaches(goal.held),
        isAimed: reaches(goal.aim),
      },
    ]
  })
}

const FIGURES: Readonly<Record<Figure, string>> = {
  tps: 'throughput',
  cpuUs: 'CPU per transaction',
  p99Us: 'p99',
}

function boundText({ figure }: Goal, bound: number): string {
  return `${figure === 'tps' ? 'at least' : 'at most'} ${bound}`
}

export function idleVerdicts(shape: IdleShape, results: readonly IdleResult[]): Verdict[] {
  const [floor] = results
  const subject = results.find(({ name }) => name === SUBJECT)
  if (subject === undefined || floor === undefined) return []
  const above = subject.bytesPerClient - floor.bytesPerClient
  const most = `at most ${shape.bytesPerClientMax}`
  const isSmall = above <= shape.bytesPerClientMax
  const isAll = subject.held === subject.clients
  return [
    {
      shape: shape.name,
      what: 'clients held',
      held: String(subject.clients),
      aim: String(subject.clients),
      found: String(subject.held),
      isHeld: isAll,
      isAimed: isAll,
    },
    {
      shape: shape.name,
      what: "bytes per idle client above the runtime's own",
      held: most,
      aim: most,
      found: String(Math.round(above)),
      isHeld: isSmall,
      isAimed: isSmall,
    },
  ]
}

export function verdictTable(verdicts: readonly Verdict[]): string {
  const lines = [
    '### Goals',
    '',
    '| shape | what | held | aim | found (lowest-highest) | held | aim |',
    '|---|---|---|---|---|---|---|',
  ]
  for (const { shape, what, held, aim, found, isHeld, isAimed } of verdicts) {
    const ends = `${isHeld ? 'reached' : '**missed**'} | ${isAimed ? 'reached' : 'missed'}`
    lines.push(`| ${shape} | ${what} | ${held} | ${aim} | ${found} | ${ends} |`)
  }
  return `${lines.join('\n')}\n`
}

function poolText(contender: ContenderResult): string {
  if (['direct', 'haproxy', 'pgpool'].includes(contender.name)) return ''
  return `${contender.poolSize}${contender.poolMode === 'session' ? ', session mode' : ''}`
}

function number(samples: readonly Sample[], figure: Figure | 'p50Us', digits: number): string {
  const values = samples.map((sample) => sample[figure]).filter((value) => value !== null)
  return values.length === 0 ? '' : median(values).toFixed(digits)
}

function ratioText(found: Ratio | null): string {
  if (found === null) return ''
  return `${found.median.toFixed(2)} (${found.min.toFixed(2)}-${found.max.toFixed(2)})`
}
