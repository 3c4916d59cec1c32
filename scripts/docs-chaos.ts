/**
 * Writes what `npm run test:chaos` counted last into docs/failover.md, between its markers, with
 * the machine that it ran on. It measures nothing itself: the accounts are in .cache/reports.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { join, resolve } from 'node:path'

type Account = Readonly<Record<string, string | number | null>>

const ROOT = resolve(import.meta.dirname, '..')
const PAGE = join(ROOT, 'docs/failover.md')
const MODES = ['synchronous', 'asynchronous']
const POOLERS = ['pgsteer', 'HAProxy', 'HAProxy, PgBouncer']
/** Field of an account, and what its column is called; the page has their meaning. */
const COLUMNS = {
  acknowledged: 'acknowledged',
  lost: 'lost',
  beyondFork: 'beyond fork',
  doubled: 'doubled',
  unknown: 'unknown',
  failed: 'failed',
  untrue: 'untrue',
  dropped: 'dropped',
  refused: 'refused',
  stale: 'stale',
  readErrors: 'read errors',
  writeStallMs: 'write stall ms',
  readStallMs: 'read stall ms',
  hungMs: 'told after ms',
  outageMs: 'outage ms',
  handoverMs: 'handover ms',
  load: 'load',
  sharedReads: 'shared reads',
  wrongAnswers: 'wrong answers',
}

function accountsOf(mode: string): Account[] {
  const file = join(ROOT, '.cache/reports', `chaos-${mode}.json`)
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Account[]) : []
}

/** Scenarios in the same order in every table, poolers of one below each other. */
function ordered(accounts: readonly Account[]): Account[] {
  const all = MODES.flatMap(accountsOf).map(({ scenario }) => scenario)
  const rank = ({ scenario, pooler }: Account): number =>
    all.indexOf(scenario ?? null) * POOLERS.length + POOLERS.indexOf(String(pooler))
  return accounts.toSorted((one, two) => rank(one) - rank(two))
}

function tableOf(mode: string): string {
  const header = ['scenario', 'through', ...Object.values(COLUMNS)]
  const rows = ordered(accountsOf(mode)).map((account) =>
    ['scenario', 'pooler', ...Object.keys(COLUMNS)].map((field) => account[field] ?? ''),
  )
  const lines = [header, header.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`)
  return `${mode[0]?.toUpperCase()}${mode.slice(1)} replication:\n\n${lines.join('\n')}`
}

const [cpu] = cpus()
const machine = `${cpus().length} x ${cpu?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}`
const text = readFileSync(PAGE, 'utf8')
const [before = '', rest = ''] = text.split('<!-- chaos -->\n')
const after = rest.slice(rest.indexOf('<!-- end -->'))
const tables = MODES.map(tableOf).join('\n\n')
writeFileSync(PAGE, `${before}<!-- chaos -->\n\n${machine}.\n\n${tables}\n\n${after}`)
