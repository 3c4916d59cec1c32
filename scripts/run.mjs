/**
 * Runs one TypeScript file of the project on the pinned Node, after installing what is missing:
 *
 *   node scripts/run.mjs src/demo/main.ts [its parameters]
 *   node scripts/run.mjs --provision bench/main.ts     Debian's packages as well
 */
import { provision } from './provision.mjs'
import { environment, main, run, setUp } from './setup.mjs'

await main(async () => {
  const given = process.argv.slice(2)
  const needsDebian = given[0] === '--provision'
  const [file, ...parameters] = needsDebian ? given.slice(1) : given
  const node = await setUp()
  if (needsDebian) provision()
  return run(node, [file, ...parameters], { env: environment(node), ipc: true })
})
