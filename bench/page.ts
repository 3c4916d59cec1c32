/**
 * docs/performance.md and its pictures, made from the kept results (bench/results/summary.json and
 * soak.json) and from what people wrote about them (bench/notes.md: a section for each shape, named
 * as it is, and some that belong to no shape). Measures nothing.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { type Bar, bars } from './plots.ts'
import {
  markdown,
  ratio,
  ratioText,
  referenceOf,
  subjectsOf,
  table,
  verdicts,
  verdictTable,
} from './report.ts'
import type { ShapeResult } from './rounds.ts'
import type { Figure } from './shapes.ts'
import type { Growth } from './soak/samples.ts'
import { isLoad, RESULTS, readSummary, type Summary } from './summary.ts'

const DOCS = resolve(import.meta.dirname, '../docs')
const NOTES = join(import.meta.dirname, 'notes.md')
const MIB = 2 ** 20
const PICTURES: readonly (readonly [figure: Figure, file: string, title: string])[] = [
  ['tps', 'performance-throughput.svg', "Throughput, divided by PgBouncer's (more is better)"],
  ['cpuUs', 'performance-cpu.svg', "CPU per transaction, divided by PgBouncer's (less is better)"],
  ['p99Us', 'performance-p99.svg', "p99, divided by PgBouncer's (less is better)"],
]

interface SoakRecord {
  readonly at: string
  readonly command: string
  readonly answered: number
  readonly wrong: number
  readonly errors: Readonly<Record<string, number>>
  readonly growth: readonly Growth[]
  readonly failoversS: readonly number[]
}

/** Errors  Error when nothing was kept yet. */
export function writePage(): void {
  const summary = readSummary()
  if (summary === null) throw new Error('there is no bench/results/summary.json: see --summary')
  const notes = readNotes()
  const loads = summary.results.filter(isLoad)
  mkdirSync(join(DOCS, 'pictures'), { recursive: true })
  for (const [figure, file, title] of PICTURES)
    writeFileSync(join(DOCS, 'pictures', file), `${bars(title, barsOf(loads, figure))}\n`)
  const parts = [
    opening(summary),
    '## Goals\n',
    verdictTable(summary.results.flatMap(verdicts)),
    notes.get('goals') ?? '',
    '## Where pgsteer loses\n',
    losses(loads),
    notes.get('losses') ?? '',
    ...PICTURES.map(([, file, title]) => `![${title}](pictures/${file})\n`),
    '## Every shape\n',
    ...summary.results.flatMap((result) => [table(result), notes.get(result.shape.name) ?? '']),
    soakPart(),
    notes.get('soak') ?? '',
    notes.get('costs') ?? '',
  ]
  const text = parts.filter((part) => part !== '').join('\n')
  writeFileSync(join(DOCS, 'performance.md'), text)
}

function opening({ at, command, machine }: Summary): string {
  const { cpus, model, kernel, node, pgbouncer } = machine
  return `# Performance

This page is made by \`npm run bench -- --summary\` from \`bench/results/summary.json\`, which has every
sample; comments are those of \`bench/notes.md\`. How it is measured: [bench/README.md](../bench/README.md).

Contenders of a shape take turns in the same rounds, and a ratio is that of one round: tables have the
median of the rounds, and the lowest and the highest in parentheses. CPU is that of all processes of a
pooler, \`calls\` its system calls, both per transaction; MiB is its resident memory after the rounds.
\`multiplexed\` is pgsteer with \`multiplex_reads = auto\`, \`pgsteer\` with \`off\`.

Measured ${at.slice(0, 10)} on ${cpus} x ${model}, Linux ${kernel}, with everything on the same machine: pgbench,
poolers, PostgreSQL 15. Node ${node}, ${pgbouncer}. Last command: \`${command}\`.
`
}

function barsOf(loads: readonly ShapeResult[], figure: Figure): Bar[] {
  return loads.flatMap((result) =>
    subjectsOf(result).flatMap((subject) => {
      const found = ratio(subject, referenceOf(result), figure)
      if (found === null) return []
      const isBetter = figure === 'tps' ? found.median >= 1 : found.median <= 1
      return { name: barName(result, subject.name), ratio: found, isBetter }
    }),
  )
}

function barName(result: ShapeResult, subject: string): string {
  const against = referenceOf(result)?.name
  const words = [result.shape.name]
  if (subject !== 'pgsteer') words.push(subject)
  if (against !== 'pgbouncer') words.push(`to ${against}`)
  return words.join(', ')
}

function losses(loads: readonly ShapeResult[]): string {
  const rows = loads.flatMap((result) =>
    subjectsOf(result).flatMap((subject) => {
      const reference = referenceOf(result)
      const found = PICTURES.map(([figure]) => ({
        figure,
        ratio: ratio(subject, reference, figure),
      }))
      const isLost = found.some(
        ({ figure, ratio: one }) =>
          one !== null && (figure === 'tps' ? one.median < 1 : one.median > 1),
      )
      if (!isLost) return []
      const texts = found.map((one) => ratioText(one.ratio))
      return [[result.shape.name, subject.name, reference?.name ?? '', ...texts]]
    }),
  )
  const header = ['shape', 'who', 'against', 'throughput', 'CPU per transaction', 'p99']
  return `Shapes in which at least one of the three is worse than the peer's:\n\n${markdown(header, rows)}`
}

function soakPart(): string {
  const file = join(RESULTS, 'soak.json')
  if (!existsSync(file)) return ''
  // Written by bench/soak/main.ts.
  const soak = JSON.parse(readFileSync(file, 'utf8')) as SoakRecord
  const rows = soak.growth.map(({ process, what, earlyBytes, lateBytes }) => [
    process,
    what.replace('Bytes', ''),
    mib(earlyBytes),
    mib(lateBytes),
  ])
  const failed = Object.values(soak.errors).reduce((sum, count) => sum + count, 0)
  const header = ['process', 'memory', 'second quarter, MiB', 'last quarter, MiB']
  return `## An hour of mixed load with failovers

\`${soak.command}\`, ${soak.at.slice(0, 10)}: ${soak.answered} answers, ${soak.wrong} of them somebody else's, ${failed} failed;
the primary was killed ${soak.failoversS.length} times. The least that each process had in the second quarter of the time, and
in the last:

${markdown(header, rows)}
![Memory over the time](pictures/soak.svg)
`
}

function mib(bytes: number): string {
  return (bytes / MIB).toFixed(1)
}

/** By the heading of each section; the headings `goals`, `losses`, `soak` and `costs` belong to no shape. */
function readNotes(): Map<string, string> {
  const notes = new Map<string, string>()
  if (!existsSync(NOTES)) return notes
  for (const section of readFileSync(NOTES, 'utf8').split(/^## /m).slice(1)) {
    const [name = '', ...lines] = section.split('\n')
    notes.set(name.trim(), `${lines.join('\n').trim()}\n`)
  }
  return notes
}
