/** What a machine cannot run is named and counted at the end of `npm test`. */
import { readdirSync } from 'node:fs'
import { resolve } from 'node:path'
import { expect, test } from 'vitest'
import { execute } from '../support/exec.ts'

const ROOT = resolve(import.meta.dirname, '../..')

test('suites that need namespaces are named as not run where there are none', async () => {
  const node = { file: process.execPath, args: [resolve(ROOT, 'scripts/test.mjs')], env: {} }
  // Without a PATH there is nothing to make namespaces with. No file is of this name.
  const ran = await execute(node, ['long', 'nowhere'], { env: { PATH: '/nowhere' } })
  const names = readdirSync(resolve(ROOT, 'test/long')).filter((name) => /\.root\./.test(name))
  expect(names.length).toBeGreaterThan(0)
  const lines = ran.output.trimEnd().split('\n')
  expect(lines.slice(-names.length - 2).toSorted()).toEqual(
    [
      ...names.map((name) => `not run: test/long/${name}: needs root and network namespaces`),
      `${names.length} not run`,
      '0 passed, 0 failed',
    ].toSorted(),
  )
  expect(ran.code).toBe(1)
})
