/** How a server's settings are turned into a session's, in the order that rights ask for. */
import { describe, expect, test } from 'vitest'
import {
  configStatement,
  internSettings,
  NO_SETTINGS,
  quoteLiteral,
  type Settings,
  setStatement,
  settingsChange,
  withoutSetting,
  withSetting,
} from '../../../src/server/settings.ts'

function settings(values: Readonly<Record<string, string>>): Settings {
  const entries = Object.entries(values).map(
    ([name, value]) => [name, setStatement(name, value)] as const,
  )
  return internSettings(new Map(entries))
}

describe('one settings value', () => {
  test('is the same object however it came about', () => {
    const one = settings({ work_mem: '1', search_path: 'a' })
    const other = withSetting(
      settings({ search_path: 'a' }),
      'work_mem',
      setStatement('work_mem', '1'),
    )
    expect(other).toBe(one)
    expect(withoutSetting(withoutSetting(other, 'work_mem'), 'search_path')).toBe(NO_SETTINGS)
    expect(withoutSetting(one, 'nothing')).toBe(one)
  })
})

describe('the change from one to another', () => {
  test('of equal ones is nothing', () => {
    expect(settingsChange(settings({ a: '1' }), settings({ a: '1' }))).toBe('')
  })

  test('resets what is not wanted, sets what differs, leaves the rest', () => {
    const change = settingsChange(
      settings({ a: '1', b: '2', c: '3' }),
      settings({ a: '1', b: '9' }),
    )
    expect(change).toBe('RESET "c"; SET "b" TO 9')
  })

  test('takes roles back first and gives them last, since the rest may need their rights', () => {
    const change = settingsChange(
      settings({ role: 'one', session_authorization: 'me', work_mem: '1' }),
      settings({ role: 'two', session_authorization: 'you', search_path: 'p' }),
    )
    expect(change.split('; ')).toEqual([
      'RESET ROLE',
      'RESET SESSION AUTHORIZATION',
      'RESET "work_mem"',
      'SET "search_path" TO p',
      'SET SESSION AUTHORIZATION you',
      'SET ROLE two',
    ])
  })

  test.each([
    [{ role: 'bob', session_authorization: 'me' }, { role: 'bob' }],
    [{ role: 'bob' }, { role: 'bob', session_authorization: 'me' }],
  ])('another session authorization forgets the role, which is set again: %j to %j', (from, to) => {
    const statements = settingsChange(settings(from), settings(to)).split('; ')
    expect(statements.at(-1)).toBe('SET ROLE bob')
  })
})

describe('texts', () => {
  test('of names are quoted part by part', () => {
    expect(setStatement('my.own"', "'x'")).toBe(`SET "my"."own""" TO 'x'`)
  })

  test('of values say the same under both standard_conforming_strings', () => {
    expect(quoteLiteral("it's")).toBe("'it''s'")
    expect(quoteLiteral("a\\'b")).toBe("E'a\\\\''b'")
    expect(configStatement('x', 'y')).toBe("SELECT pg_catalog.set_config('x', 'y', false)")
  })
})
