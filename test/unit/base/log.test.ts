/** The log: one JSON object per line, and no secret whatever it is given. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createLog, type LogOptions } from '../../../src/base/log.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pgsteer-log-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

function written(level: LogOptions['level'], write: (log: ReturnType<typeof createLog>) => void) {
  const file = join(folder, 'made', 'log')
  write(createLog({ level, format: 'json', file }, { process: 'worker0' }))
  return readFileSync(file, 'utf8')
}

test.each(['password', 'secret', 'clientKey', 'token', 'proof'])(
  'a field named %s is hidden, also inside of others',
  (name) => {
    const text = written('info', (log) => {
      log.info({ [name]: 'hush', user: 'me' }, 'one')
      log.info({ target: { [name]: 'hush' } }, 'two')
      log.info({ pool: { target: { [name]: Buffer.from('hush') } } }, 'three')
      log.child({ [name]: 'hush' }).info('four')
    })
    expect(text).not.toMatch(/hush|104,117,115,104/)
    expect(text.match(/\[hidden\]/g)?.length).toBeGreaterThanOrEqual(4)
    expect(text).toContain('"user":"me"')
  },
)

test('one event is one line of JSON with the process that wrote it', () => {
  const text = written('info', (log) => {
    log.info({ reason: 'a\nb' }, 'client gone')
    log.error('told')
  })
  const lines = text.trim().split('\n')
  expect(lines).toHaveLength(2)
  expect(JSON.parse(lines[0] ?? '')).toMatchObject({
    process: 'worker0',
    msg: 'client gone',
    reason: 'a\nb',
  })
})

test('what is below the level is not written', () => {
  const text = written('error', (log) => {
    log.info('chatter')
    log.error('told')
  })
  expect(text).toContain('told')
  expect(text).not.toContain('chatter')
})
