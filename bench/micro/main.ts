/**
 * Micro benchmarks of the hot path, without sockets:
 *
 *   npm run bench:micro                  nanoseconds of each case, by mitata
 *   npm run bench:micro -- WORD          of those whose name holds the word
 *   npm run bench:micro -- --check       compares with baseline.json; ends with 1 when one is worse
 *   npm run bench:micro -- --write       measures the baseline anew; with a word, of those that hold it
 *
 * `--check` takes a minute and is part of no test: it compares the ratio of each case to a
 * reference in the same process, and the bytes it allocates, never times.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { bench, do_not_optimize, run } from 'mitata'
import { CASES } from './cases.ts'
import { type Baseline, better, type Measured, middle, worse } from './judge.ts'

const BASELINE = new URL('baseline.json', import.meta.url)
const MEASURE = new URL('measure.ts', import.meta.url)
/** Compiled at the same turn each time, and nothing is collected while bytes are counted. */
const FLAGS = [
  '--predictable',
  '--expose-gc',
  '--min-semi-space-size=64',
  '--max-semi-space-size=64',
]
/** One that looks worse is measured again: what disturbs passes, what is worse stays. */
const ATTEMPTS_MAX = 4
/** The baseline is what is usual, and not what once was best. */
const WRITE_ATTEMPTS = 5

const [word = '', ofWord = ''] = process.argv.slice(2)
if (word === '--check') process.exitCode = check()
else if (word === '--write') write(ofWord)
else {
  for (const [name, make] of Object.entries(CASES)) {
    if (!name.includes(word)) continue
    const once = make()
    bench(name, () => do_not_optimize(once()))
  }
  await run()
}

function measure(name: string): Measured {
  const { error, status, stdout, stderr } = spawnSync(
    process.execPath,
    [...FLAGS, MEASURE.pathname, name],
    { encoding: 'utf8', timeout: 60_000 },
  )
  if (status !== 0) throw new Error(`${name}: ${error?.message ?? stderr}`)
  return JSON.parse(stdout) as Measured
}

function check(): number {
  const baseline = JSON.parse(readFileSync(BASELINE, 'utf8')) as Baseline
  const found: string[] = []
  for (const name of Object.keys(CASES)) {
    let best = measure(name)
    for (
      let attempt = 1;
      attempt < ATTEMPTS_MAX && worse(name, best, baseline).length > 0;
      attempt += 1
    )
      best = better(best, measure(name))
    print(name, best, baseline[name])
    found.push(...worse(name, best, baseline))
  }
  for (const sentence of found) process.stdout.write(`worse: ${sentence}\n`)
  process.stdout.write(`${Object.keys(CASES).length - found.length} good, ${found.length} worse\n`)
  return found.length === 0 ? 0 : 1
}

function write(part: string): void {
  const known = part === '' ? {} : (JSON.parse(readFileSync(BASELINE, 'utf8')) as Baseline)
  const baseline: Record<string, Measured> = { ...known }
  for (const name of Object.keys(CASES)) {
    if (!name.includes(part)) continue
    const { ratio, bytes } = middle(Array.from({ length: WRITE_ATTEMPTS }, () => measure(name)))
    baseline[name] = { ratio: Number(ratio.toPrecision(3)), bytes }
    print(name, baseline[name])
  }
  writeFileSync(BASELINE, `${JSON.stringify(baseline, null, 2)}\n`)
}

function print(name: string, { ratio, bytes }: Measured, known?: Measured): void {
  const before = known === undefined ? '' : ` (baseline ${known.ratio}, ${known.bytes} bytes)`
  process.stdout.write(`${name.padEnd(42)} ${ratio.toFixed(3)} x ${bytes} bytes${before}\n`)
}
