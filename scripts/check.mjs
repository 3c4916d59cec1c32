/**
 * `npm run check`: everything that is quick, in the order in which it is cheapest to hear about it.
 * Run it before every push. `--without-tests` leaves the tests to whoever runs them all anyway.
 */
import { join } from 'node:path'
import { BIN, environment, main, run, say, setUp } from './setup.mjs'

/** @type {[name: string, program: string, parameters: string[]][]} */
const STEPS = [
  ['format', 'biome', ['ci', '--colors=off', '.']],
  ['lint', 'oxlint', []],
  ['types', 'tsc', []],
  ['dead code', 'knip', []],
  ['tests', 'vitest', ['run', '--project', 'unit', '--project', 'protocol']],
]

await main(async () => {
  const env = environment(await setUp())
  const failed = []
  const withoutTests = process.argv.includes('--without-tests')
  for (const [name, program, parameters] of STEPS) {
    if (withoutTests && program === 'vitest') continue
    const started = performance.now()
    const code = await run(join(BIN, program), parameters, { env })
    const seconds = ((performance.now() - started) / 1000).toFixed(1)
    say(`== ${name}: ${code === 0 ? 'ok' : 'FAILED'} (${seconds} s)`)
    if (code !== 0) failed.push(name)
  }
  if (failed.length > 0) say(`check failed: ${failed.join(', ')}`)
  return failed.length === 0 ? 0 : 1
})
