import { fc, test as property } from '@fast-check/vitest'
import { describe, expect, it, test } from 'vitest'
import { parseCommand } from '../../../src/admin/parse.ts'
import { ProxyError } from '../../../src/base/errors.ts'

/** The error that `text` is refused with. */
function refusal(text: string): string {
  try {
    parseCommand(text)
  } catch (error) {
    if (error instanceof ProxyError) return error.code
    throw error
  }
  return 'accepted'
}

describe('one command per text, as PgBouncer reads it', () => {
  test.each([
    ['SHOW POOLS', { verb: 'show', view: 'pools' }],
    ['show stats_totals;', { verb: 'show', view: 'stats_totals' }],
    ['  Show\n\t"pools" ; ', { verb: 'show', view: 'pools' }],
    ['select version', { verb: 'show', view: 'version' }],
    ['SHOW CLUSTER', { verb: 'show', view: 'cluster' }],
    ['show help', { verb: 'help' }],
    ['SHOW timezone', { verb: 'faked_show', name: 'timezone' }],
    ['', { verb: 'empty' }],
    [' ; ', { verb: 'empty' }],
    ['RELOAD', { verb: 'reload' }],
    ['restart "Workers";', { verb: 'restart_workers' }],
    ['pause', { verb: 'pause', database: null }],
    ['PAUSE app', { verb: 'pause', database: 'app' }],
    ['PAUSE "My ""Db""";', { verb: 'pause', database: 'My "Db"' }],
    ['resume app', { verb: 'resume', database: 'app' }],
    ['disable', { verb: 'disable', database: null }],
    ['ENABLE app', { verb: 'enable', database: 'app' }],
    ['reconnect', { verb: 'reconnect', database: null }],
    ['kill app', { verb: 'kill', database: 'app' }],
    ['kill_client 42', { verb: 'kill_client', id: 42 }],
    ['kill_client x', { verb: 'kill_client', id: null }],
    ['kill_client', { verb: 'kill_client', id: null }],
    ['SHUTDOWN', { verb: 'shutdown', mode: 'immediate' }],
    ['shutdown WAIT_FOR_CLIENTS', { verb: 'shutdown', mode: 'wait_for_clients' }],
    ['wait_close', { verb: 'wait_close', database: null }],
    ['SET a = b', { verb: 'set', key: 'a', value: 'b' }],
    ['set a to "b c";', { verb: 'set', key: 'a', value: 'b c' }],
    ["set a='it''s; so'", { verb: 'set', key: 'a', value: "it's; so" }],
    ["set a = ''", { verb: 'set', key: 'a', value: '' }],
    ['SET extra_float_digits = 3', { verb: 'faked_set', name: 'extra_float_digits' }],
    ["SET TimeZone TO 'UTC'", { verb: 'faked_set', name: 'timezone' }],
    [
      'EXPLAIN ROUTE select 1; select 2',
      { verb: 'explain_route', database: null, sql: 'select 1; select 2' },
    ],
    [
      'explain route in "app" SELECT\n1',
      { verb: 'explain_route', database: 'app', sql: 'SELECT\n1' },
    ],
  ])('%j', (text, command) => {
    expect(parseCommand(text)).toEqual(command)
  })
})

describe('everything else is refused by name', () => {
  test.each([
    ['show', 'console_command'],
    ['show bla', 'console_command'],
    ['select 1', 'console_command'],
    ['begin', 'console_command'],
    ['show version; show version', 'console_command'],
    ['reload app', 'console_command'],
    ['shutdown now', 'console_command'],
    ['pause a b', 'console_command'],
    ['pause my-db', 'console_command'],
    ['set a', 'console_command'],
    ["set a = 'open", 'console_command'],
    ['averyveryverylongverb', 'console_arguments'],
    [`pause ${'d'.repeat(64)}`, 'console_arguments'],
    [`set a = '${'v'.repeat(9000)}'`, 'console_arguments'],
    ['set "" = 1', 'console_arguments'],
    ['explain route  ', 'console_arguments'],
    ['SUSPEND', 'console_removed'],
    ['show fds', 'console_removed'],
  ])('%j: %s', (text, code) => {
    expect(refusal(text)).toBe(code)
  })

  it('repeats what was asked in the words of PgBouncer', () => {
    expect(() => parseCommand('select 1')).toThrow("invalid command 'select 1', use SHOW HELP;")
  })

  it('takes time in proportion to the text, however the quotes are', () => {
    const started = performance.now()
    expect(refusal(`pause ${'""'.repeat(20_000)}x`)).toBe('console_command')
    expect(refusal(`set a = '${"''".repeat(20_000)}`)).toBe('console_command')
    expect(refusal(`explain route ${' '.repeat(40_000)}`)).toBe('console_arguments')
    expect(performance.now() - started).toBeLessThan(1000)
  })
})

const pieces = fc.constantFrom(
  'show ',
  'set ',
  'pause',
  'explain route ',
  'in ',
  '"',
  "'",
  ' ',
  ';',
  '=',
  'to',
  'a',
  '\0',
  'é',
)

property.prop([
  fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(pieces).map((some) => some.join('')),
  ),
])('no text makes it throw anything but an error for the client', (text) => {
  expect(refusal(text)).toMatch(/^(?:accepted|console_\w+)$/)
})

property.prop([
  fc
    .string({ minLength: 1, maxLength: 30, unit: 'grapheme' })
    .filter((name) => !name.includes('\0')),
])('a quoted name comes out as it went in', (name) => {
  const quoted = `"${name.replaceAll('"', '""')}"`
  if (Buffer.byteLength(name) > 63) return
  expect(parseCommand(`pause ${quoted}`)).toEqual({ verb: 'pause', database: name })
})
