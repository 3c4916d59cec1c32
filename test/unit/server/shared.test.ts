/** Settings on servers that are shared behind a pooler: what it carries, and what we make each time. */
import { expect, test } from 'vitest'
import {
  configStatement,
  localPart,
  localStatement,
  NO_SETTINGS,
  pooledPart,
  setStatement,
  withSetting,
} from '../../../src/server/settings.ts'

function settings(values: Readonly<Record<string, string>>) {
  return Object.entries(values).reduce(
    (all, [name, value]) => withSetting(all, name, setStatement(name, value)),
    NO_SETTINGS,
  )
}

test('what PgBouncer carries is set as anywhere else, the rest for one transaction', () => {
  const all = settings({ timezone: "'UTC'", search_path: 'a, b', datestyle: 'iso' })
  expect([...pooledPart(all).entries.keys()].toSorted()).toEqual(['datestyle', 'timezone'])
  expect(localPart(all)).toEqual(['SET LOCAL "search_path" TO a, b'])
})

test('nothing to make leaves equal settings equal', () => {
  expect(pooledPart(NO_SETTINGS)).toBe(NO_SETTINGS)
  expect(localPart(settings({ timezone: "'UTC'" }))).toEqual([])
})

test('the role comes last, after the session authorization', () => {
  const all = settings({ role: 'r', work_mem: '1', session_authorization: 's' })
  expect(localPart(all)).toEqual([
    'SET LOCAL "work_mem" TO 1',
    'SET LOCAL SESSION AUTHORIZATION s',
    'SET LOCAL ROLE r',
  ])
})

test('a value of the startup packet is local too, whatever it holds', () => {
  expect(localStatement(configStatement('a.b', "x', false)"))).toBe(
    "SELECT pg_catalog.set_config('a.b', 'x'', false)', true)",
  )
})
