/**
 * `.ci/run` against commands that only say what they counted: it adds up, and nothing that was left
 * out or went wrong without being counted passes.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, expect, test, vi } from 'vitest'

// A few dozen processes, on a machine that may be busy.
vi.setConfig({ testTimeout: 60_000 })

const folders: string[] = []
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true })
})

/** Runs it where `npm COMMAND` prints these lines and ends with this code; others pass in silence. */
function ci(said: Readonly<Record<string, readonly [lines: readonly string[], code?: number]>>) {
  const folder = mkdtempSync(join(tmpdir(), 'pgsteer-ci-'))
  folders.push(folder)
  for (const name of ['.ci', 'bin', 'test/long']) mkdirSync(join(folder, name), { recursive: true })
  copyFileSync(resolve(import.meta.dirname, '../.ci/run'), join(folder, '.ci/run'))
  writeFileSync(join(folder, 'test/long/some.test.ts'), '')
  const cases = Object.entries(said).map(
    ([command, [lines, code = 0]]) =>
      `"${command}") printf '%s\\n' ${lines.map((line) => `'${line}'`).join(' ')}; exit ${code};;`,
  )
  const npm = `#!/bin/sh\necho "$*" >> "${folder}/ran"\ncase "$*" in\n${cases.join('\n')}\nesac\n`
  writeFileSync(join(folder, 'bin/npm'), npm, { mode: 0o755 })
  const { status, stdout } = spawnSync('bash', [join(folder, '.ci/run')], {
    env: { ...process.env, PATH: `${folder}/bin:${process.env['PATH']}` },
    encoding: 'utf8',
  })
  const last = stdout.trimEnd().split('\n').at(-1) ?? ''
  const [, passed, failed] = /^(\d+) passed, (\d+) failed$/.exec(last) ?? []
  return { isGood: status === 0, passed: Number(passed), failed: Number(failed) }
}

/** Each command that counts nothing is one. */
const COMMANDS = ci({}).passed
const GOOD = ['0 not run', '5 passed, 0 failed'] as const

test('what passed is added up', () => {
  expect(COMMANDS).toBeGreaterThan(3)
  const counted = ci({ test: [GOOD], 'run test:long': [GOOD] })
  expect(counted).toEqual({ isGood: true, passed: COMMANDS + 4 + 4, failed: 0 })
})

test.each<[string, Parameters<typeof ci>[0], number, number]>([
  ['a test that fails', { test: [['5 passed, 2 failed'], 1] }, COMMANDS + 4, 2],
  ['what was not run', { test: [['3 not run', '5 passed, 0 failed']] }, COMMANDS + 4, 3],
  ['an exit code that nothing counted explains', { test: [GOOD, 1] }, COMMANDS + 4, 1],
  ['an end without a count', { 'run image': [['no engine'], 1] }, COMMANDS - 1, 1],
])('%s is a failure', (_, said, passed, failed) => {
  expect(ci(said)).toEqual({ isGood: false, passed, failed })
})
