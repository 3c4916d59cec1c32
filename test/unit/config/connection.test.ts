import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readConnection, writeConnection } from '../../../src/config/connection.ts'
import { BadValue } from '../../../src/config/kinds.ts'

describe('connection strings', () => {
  test('pairs are separated by blanks, also around the equals sign', () => {
    expect(readConnection('host=10.1.2.3  port = 5432\tuser= joe')).toEqual([
      ['host', '10.1.2.3'],
      ['port', '5432'],
      ['user', 'joe'],
    ])
  })

  test('a quote in a quoted value is written twice', () => {
    expect(readConnection("password='a''b' connect_query='select 1; select 2'")).toEqual([
      ['password', "a'b"],
      ['connect_query', 'select 1; select 2'],
    ])
  })

  test('the empty string has no pairs', () => {
    expect(readConnection('')).toEqual([])
  })

  test('a semicolon where a key would begin starts a comment', () => {
    expect(readConnection('; routed over the cluster')).toEqual([])
    expect(readConnection('host=a;b ; as in PgBouncer')).toEqual([['host', 'a;b']])
  })

  test.each([
    ['host', 'syntax error: expected key=value at the beginning'],
    ['=x', 'syntax error: expected key=value at the beginning'],
    ['host=a port', 'syntax error: expected key=value after host='],
    ["host=a password='geheim", 'password= has no closing quote'],
    ['host=', 'host= has no value'],
    ["host=''", 'host= has no value'],
  ])('%s is refused', (text, message) => {
    expect(() => readConnection(text)).toThrow(new BadValue(message))
  })

  test('what is written is read back', () => {
    const name = fc.stringMatching(/^[a-z_]{1,10}$/)
    const value = fc.string({ minLength: 1 }).filter((text) => !/[\r\n\0]/.test(text))
    fc.assert(
      fc.property(fc.array(fc.tuple(name, value)), (pairs) => {
        expect(readConnection(writeConnection(pairs))).toEqual(pairs)
      }),
    )
  })
})
