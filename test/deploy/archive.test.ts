/** The node image's `archive` where the repository host cannot be reached: no name resolves to it here. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { execute } from '../support/exec.ts'

const ARCHIVE = resolve(import.meta.dirname, '../../deploy/images/node/pgbackrest-archive')
let folder = ''

/** pgBackRest that says what it was asked and fails, as the real one does without a repository. */
const STAND_IN = '#!/bin/sh\necho "$@"\nexit 82\n'

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'pgsteer-archive-'))
  writeFileSync(join(folder, 'pgbackrest'), STAND_IN)
  chmodSync(join(folder, 'pgbackrest'), 0o755)
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function archive(...args: readonly string[]) {
  return execute({ file: ARCHIVE, args: [], env: { PATH: `${folder}:/usr/bin:/bin` } }, args)
}

test('a file of WAL is not fetched, so that a promotion goes on', async () => {
  const { code, output } = await archive('get', '000000010000000000000002', 'pg_wal/RECOVERYXLOG')
  expect({ code, output }).toEqual({ code: 1, output: '' })
})

test('a push gives up soon, and still goes through pgBackRest, which keeps the disk from filling', async () => {
  const { code, output } = await archive('push', 'pg_wal/000000010000000000000001')
  expect({ code, output }).toEqual({
    code: 82,
    output: '--archive-timeout=2 archive-push pg_wal/000000010000000000000001\n',
  })
})

test('anything else is refused with a code that PostgreSQL does not take as fatal', async () => {
  const { code } = await archive('check')
  expect(code).toBe(2)
})
