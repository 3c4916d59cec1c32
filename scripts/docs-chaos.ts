/**
 * Writes what the last `npm run test:chaos` counted into docs/failover.md, between its markers, with
 * the machine that it ran on. It measures nothing itself: the accounts are in .cache/reports.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { join, resolve } from 'node:path'

type Account = Readonly<Record<string, string | number>>

const ROOT = resolve(import.meta.dirname, '..')
const PAGE = join(ROOT, 'docs/failover.md')
const COUNTS =
  'acknowledged lost doubled unknown failed untrue dropped refused stale readErrors writeStallMs readStallMs outageMs'.split(
    ' ',
  )

const rows = ['synchronous', 'asynchronous'].flatMap((mode) => {
  const file = join(ROOT, '.cache/reports', `chaos-${mode}.json`)
  const accounts = JSON.parse(readFileSync(file, 'utf8')) as Account[]
  return accounts.map((account) =>
    ['scenario', 'mode', ...COUNTS].map((one) => (one === 'mode' ? mode : account[one])),
  )
})
const header = ['scenario', 'replication', ...COUNTS]
const table = [header, header.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`)
const [cpu] = cpus()
const machine = `${cpus().length} x ${cpu?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}`
const text = readFileSync(PAGE, 'utf8')
const [before = '', rest = ''] = text.split('<!-- chaos -->\n')
const after = rest.slice(rest.indexOf('<!-- end -->'))
const written = `${before}<!-- chaos -->\n\n${machine}.\n\n${table.join('\n')}\n\n${after}`
writeFileSync(PAGE, written)
