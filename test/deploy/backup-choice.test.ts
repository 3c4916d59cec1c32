/** Which backup a moment is restored from, and which one a replica may be made of: the node image's own rules. */
import { execFileSync } from 'node:child_process'
import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import { python } from '../support/debian.ts'

const NODE = resolve(import.meta.dirname, '../../deploy/images/node')

/** Three backups of one day: the last of a time line that a restore left at 0/9000000. */
const SETUP = `
import json, sys
sys.path.insert(0, ${JSON.stringify(NODE)})
sys.dont_write_bytecode = True
from backup import programs as p
def one(label, stop, line, lsn):
    return p._backup({'label': label, 'type': 'full', 'database': {'repo-key': 1}, 'info': {'size': 1},
        'timestamp': {'start': stop - 10, 'stop': stop}, 'lsn': {'stop': lsn},
        'archive': {'start': '%08X00000000000000AA' % line, 'stop': '%08X00000000000000AA' % line}})
all = [one('first', 1000, 1, '0/5000000'), one('second', 2000, 1, '0/A000000'), one('third', 3000, 2, '1/10')]
`

function evaluate(expression: string): unknown {
  const { file, args, env } = python()
  const program = `${SETUP}\nprint(json.dumps(${expression}))`
  const said = execFileSync(file, [...args, '-c', program], {
    env: { ...process.env, ...env },
    stdio: 'pipe',
  })
  return JSON.parse(said.toString())
}

const label = (moment: number): string => `(p.backup_for(all, ${moment}))`

const followed = (line: number, ended: string): string =>
  `[p.is_followed(one, ${line}, ${ended}) for one in all]`

const seconds = (text: string): string => `p.parse_moment(${JSON.stringify(text)}).timestamp()`

test('a moment is restored from the newest backup that had ended by then', () => {
  const labels = [999, 1000, 1999, 2500, 9000].map(
    (moment) => `getattr(${label(moment)}, 'label', None)`,
  )
  expect(evaluate(`[${labels.join(', ')}]`)).toEqual([null, 'first', 'first', 'second', 'third'])
})

test('a replica is made of a backup only if the primary came by its end', () => {
  const history = "p.parse_history('1\\t0/9000000\\tbefore 2026-11-23 14:05:00+00\\n\\n')"
  // The primary is on time line 2, which left 1 at 0/9000000: the second backup is of what was left.
  expect(evaluate(followed(2, history))).toEqual([true, false, true])
  expect(evaluate(followed(1, '{}'))).toEqual([true, true, false])
  expect(evaluate(followed(3, '{2: p.parse_lsn("2/0"), 1: p.parse_lsn("0/9000000")}'))).toEqual([
    true,
    false,
    true,
  ])
})

test('a place before a fork is on the time line that was left there', () => {
  const ended = '{1: p.parse_lsn("0/9000000"), 2: p.parse_lsn("0/A000000")}'
  const places = ['0/8FFFFFF', '0/9000000', '0/9FFFFFF', '0/A000000']
  const lines = places.map((place) => `p.line_at(p.parse_lsn("${place}"), 3, ${ended})`)
  expect(evaluate(`[${lines.join(', ')}]`)).toEqual([1, 2, 2, 3])
  expect(evaluate('p.line_at(7, 1, {})')).toBe(1)
})

test('a moment has a time zone', () => {
  const texts = ['2026-11-23T14:05:00Z', '2026-11-23 11:05:00-03', '2026-11-23 14:05:00+00:00']
  const [first, ...others] = evaluate(`[${texts.map(seconds).join(', ')}]`) as number[]
  expect(others).toEqual([first, first])
  expect(() => evaluate(seconds('2026-11-23 14:05:00'))).toThrow(/it has no time zone/)
})
