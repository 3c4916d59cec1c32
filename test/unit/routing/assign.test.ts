/** SET, RESET and SHOW against PostgreSQL's parser: what a session replays must mean the same. */
import { describe, expect, test } from 'vitest'
import { classify, type Statement } from '../../../src/routing/classify.ts'
import { bytesOf, CATALOGUE, corpus, parse, type Tree } from './oracle.ts'

const SETTINGS = corpus('others').filter(
  (text) => /^(set|reset) /i.test(text) && !text.includes(';'),
)

function only(text: string): Statement {
  const [statement] = classify(bytesOf(text), CATALOGUE).statements
  if (statement === undefined) throw new Error('no statement')
  return statement
}

const POSITIONS = new Set(['location', 'is_local', 'jumble_args'])

/** The tree without positions; names of settings and words of xmloption mean the same in any case. */
function meaning(text: string): Tree {
  const [tree] = parse(text) ?? []
  const body = tree?.['VariableSetStmt'] as Tree | undefined
  if (body === undefined) throw new Error(`no SET: ${text}`)
  const name = ((body['name'] as string | undefined) ?? '').toLowerCase()
  const json = JSON.stringify(body, (key, value: unknown) =>
    POSITIONS.has(key) ? undefined : value,
  )
  return { ...(JSON.parse(name === 'xmloption' ? json.toLowerCase() : json) as Tree), name }
}

describe('a setting that a session carries', () => {
  const carried = SETTINGS.filter((text) => {
    const statement = only(text)
    return statement.value !== undefined && !text.includes('characteristics')
  })

  test.each(carried)('means the same when it is said again: %s', (text) => {
    const { name, value } = only(text)
    expect(meaning(`SET ${name} TO ${value}`)).toEqual(meaning(text))
  })

  test('is most of what the corpus sets', () => {
    expect(carried.length).toBeGreaterThan(20)
  })

  test.each(SETTINGS)('is LOCAL exactly where PostgreSQL says so: %s', (text) => {
    const [tree] = parse(text) ?? []
    const body = tree?.['VariableSetStmt'] as Tree | undefined
    if (body === undefined || String(body['name']) === 'TRANSACTION') return
    expect(only(text).verb === 'set_local').toBe(body['is_local'] === true)
  })

  test.each([
    ['set time zone local', 'timezone'],
    ['set time zone default', 'timezone'],
    ['set names', 'client_encoding'],
    ['set names default', 'client_encoding'],
    ['set search_path to default', 'search_path'],
    ['set session authorization default', 'session_authorization'],
    ['reset time zone', 'timezone'],
    ['reset session authorization', 'session_authorization'],
    ['reset role', 'role'],
    ['reset "Work_Mem"', 'work_mem'],
  ])('is reset by: %s', (text, name) => {
    expect(only(text)).toMatchObject({ verb: 'reset', name })
  })

  test.each([
    [
      'set session characteristics as transaction isolation level repeatable read',
      'default_transaction_isolation',
      "'repeatable read'",
    ],
    [
      'set session characteristics as transaction isolation level /* x */ read committed',
      'default_transaction_isolation',
      "'read committed'",
    ],
    ['set session characteristics as transaction read only', 'default_transaction_read_only', 'on'],
    [
      'set session characteristics as transaction read write',
      'default_transaction_read_only',
      'off',
    ],
    [
      'set session characteristics as transaction not deferrable',
      'default_transaction_deferrable',
      'off',
    ],
  ])('may be a characteristic: %s', (text, name, value) => {
    expect(only(text)).toMatchObject({ verb: 'set', name, value })
  })

  test.each([
    "set time zone interval '-08:00' hour to minute",
    'set session characteristics as transaction isolation level serializable, read only',
  ])('pins where it cannot be said as one SET: %s', (text) => {
    expect(only(text)).toMatchObject({ verb: 'other', pins: ['set_config'] })
  })

  test.each([
    ['set transaction_read_only = on', { readOnly: true }],
    ["set transaction_isolation to 'repeatable read'", { isolation: 'repeatable_read' }],
    [
      'set transaction read only, isolation level serializable',
      { readOnly: true, isolation: 'serializable' },
    ],
    ['set local transaction read write', { readOnly: false }],
  ])('is none of the session but of the transaction: %s', (text, fields) => {
    expect(only(text)).toMatchObject({ verb: 'set_transaction', ...fields })
  })

  test.each([
    'set',
    'set x',
    'set x to',
    'set x from current',
    'set x to (1)',
    'set x to f(1)',
    'set x to 1 2',
    'set x to default, 1',
    'set x to 1,',
    'set session',
    'set time zone',
    'set role a b',
    'set x to -a',
    'set transaction',
    'reset',
    'reset x y',
    'reset transaction_isolation',
    'show',
    'show x y',
    'show a.',
    'set x => 1',
    'set x to $1',
  ])('is not guessed: %s', (text) => {
    expect(only(text).reason).toBe('not_understood')
  })
})
