/**
 * Runs one TypeScript file of the project on the pinned Node, after installing what is missing:
 *
 *   node scripts/run.mjs src/demo/main.ts [its parameters]
 */
import { environment, main, run, setUp } from './setup.mjs'

await main(async () => {
  const [file, ...parameters] = process.argv.slice(2)
  const node = await setUp()
  return run(node, [file, ...parameters], { env: environment(node), ipc: true })
})
