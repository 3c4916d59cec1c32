/**
 * Runs one TypeScript file of the project on the pinned Node, after installing what is missing:
 *
 *   node scripts/run.mjs src/demo/main.ts [its parameters]
 *   node scripts/run.mjs --provision bench/failover/main.ts   Debian's packages as well
 *   node scripts/run.mjs --bench bench/main.ts         and those that only benchmarks need
 *   node scripts/run.mjs --here FILE                   in the caller's folder instead of the project's
 */
import { provision, provisionBench } from './provision.mjs'
import { environment, main, run, setUp } from './setup.mjs'

await main(async () => {
  const given = process.argv.slice(2)
  const needsBench = given[0] === '--bench'
  const needsDebian = needsBench || given[0] === '--provision'
  const isHere = given[0] === '--here'
  const [file, ...parameters] = needsDebian || isHere ? given.slice(1) : given
  const node = await setUp()
  if (needsDebian) provision()
  if (needsBench) provisionBench()
  return run(node, [file, ...parameters], {
    env: environment(node),
    ipc: true,
    cwd: isHere ? process.cwd() : undefined,
  })
})
