/**
 * Writes what `npm run test:swarm:full` recorded last into docs/deploy.md, between its markers, with the machine that
 * it ran on. It judges nothing itself: the reports are in .cache/reports, and say whether each part was whole.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { join, resolve } from 'node:path'
import type { Report } from '../test/swarm/record.ts'

const ROOT = resolve(import.meta.dirname, '..')
const PAGE = join(ROOT, 'docs/deploy.md')
const START = '<!-- swarm -->\n'
const END = '<!-- end of swarm -->'
const PARTS = {
  'swarm-full': 'With monitoring',
  'swarm-moves': 'Members and nodes that come and go',
}

type Counts = Readonly<Record<string, number>>

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Of all nodes' clients together: sums, and the longest stall. */
function clientsText(saw: Readonly<Record<string, Counts>>): string {
  const all = Object.values(saw)
  const sum = (field: string): number => all.reduce((total, one) => total + (one[field] ?? 0), 0)
  const longestMs = Math.max(...all.map((one) => one['writeStallMs'] ?? 0))
  const counts = ['lost', 'unknown', 'failed', 'readErrors'].map(
    (field) => `${sum(field)} ${field === 'readErrors' ? 'reads failed' : field}`,
  )
  return `${sum('acknowledged')} writes acknowledged, ${counts.join(', ')}; longest stall of a writer ${(longestMs / 1000).toFixed(1)} s`
}

function sawText(saw: unknown): string {
  if (Array.isArray(saw)) return saw.join(', ')
  if (!isRecord(saw)) return ''
  if (Object.values(saw).every((one) => isRecord(one) && 'acknowledged' in one))
    return clientsText(saw as Readonly<Record<string, Counts>>)
  if (Array.isArray(saw['members']))
    return [...saw['members'], ...((saw['etcd'] as unknown[] | undefined) ?? [])]
      .map((one) => (isRecord(one) ? `${String(one['name'])} on ${String(one['node'])}` : ''))
      .join(', ')
  return Object.entries(saw)
    .map(([key, value]) => `${String(value)} ${key}`)
    .join(', ')
}

function partOf([name, title]: [string, string]): string[] {
  const file = join(ROOT, '.cache/reports', `${name}.json`)
  if (!existsSync(file)) return []
  const { startedAt, seconds, isWhole, failed, steps } = JSON.parse(
    readFileSync(file, 'utf8'),
  ) as Report
  if (!isWhole) throw new Error(`${name} is no record of a whole run: ${failed.join('; ')}`)
  const rows = steps.map(({ step, seconds: took, load, saw, alerts }) =>
    [step, took, load, sawText(saw), (alerts ?? []).join(', ')].join(' | '),
  )
  return [
    `${title}, ${startedAt.slice(0, 16).replace('T', ' ')} UTC, ${Math.round(seconds / 60)} minutes:`,
    '',
    '| step | seconds | load | what was seen | alerts that fired meanwhile |',
    '|---|---|---|---|---|',
    ...rows.map((row) => `| ${row} |`),
    '',
  ]
}

const [cpu] = cpus()
const machine = `${cpus().length} x ${cpu?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}`
const text = readFileSync(PAGE, 'utf8')
const [before = '', rest = ''] = text.split(START)
const after = rest.slice(rest.indexOf(END))
if (after === '') throw new Error(`${PAGE} has no markers`)
const parts = Object.entries(PARTS).flatMap(partOf)
writeFileSync(PAGE, `${before}${START}\n${machine}.\n\n${parts.join('\n')}\n${after}`)
