import { fc, test as property } from '@fast-check/vitest'
import { describe, expect, test } from 'vitest'
import { isPlainSelect } from '../../../src/client/quick.ts'
import { EMPTY_CATALOGUE } from '../../../src/routing/catalogue.ts'
import { classify } from '../../../src/routing/classify.ts'

/**
 * Why a select is not for a server that others share. The classifier is wary of the word UPDATE
 * anywhere, which can only be a name where there are no parentheses.
 */
const NOT_FOR_OTHERS = ['locking_clause', 'into', 'unproved_function', 'server_relation']

function isPlain(text: string): boolean {
  const bytes = Buffer.from(`xx${text}\0`, 'latin1')
  return isPlainSelect(bytes, 2, bytes.length)
}

describe('a plain select', () => {
  test.each([
    'SELECT abalance FROM pgbench_accounts WHERE aid = 5;',
    'select 1',
    "SeLeCt 'a' || b FROM t -- that is all",
    'SELECT format, platform, x_for, for_y, for1, $for, éfor FROM forms',
    'SELECT bid FROM pgbench_branches',
  ])('is %s', (text) => expect(isPlain(text)).toBe(true))

  test.each([
    'select now()',
    'select 1; drop table t',
    'select 1;;',
    'select * into temp x from t',
    'SELECT * INTO x FROM t',
    'selected 1',
    'select',
    'insert into t values (1)',
    'SELECT a FROM t FOR UPDATE',
    'SELECT a FROM t for share',
    'SELECT 1for update',
    'SELECT a FROM t/**/FoR/**/KEY SHARE',
    'SELECT a FROM "t"FOR NO KEY UPDATE',
    'SELECT pid FROM pg_locks',
    'SELECT pid FROM PG_STAT_ACTIVITY',
    'SELECT pid FROM "pg_locks"',
    'begin',
    `select ${'x'.repeat(5000)}`,
  ])('is not %s', (text) => expect(isPlain(text)).toBe(false))

  test('is not what holds a zero byte or does not end with one', () => {
    expect(isPlain('select 1\0 ')).toBe(false)
    expect(isPlainSelect(Buffer.from('select 1'), 0, 8)).toBe(false)
  })

  const word = fc.constantFrom(
    'a',
    'into',
    'INTO',
    ',',
    "'x'",
    '(',
    ')',
    ';',
    '--',
    '/*',
    '*/',
    '"i"',
    '$$',
    'for',
    'for update',
    '1for share',
    'pg_locks',
    'update',
    'temp',
    '1',
    '\n',
  )
  property.prop([fc.array(word, { maxLength: 12 })])(
    'is a read that leaves nothing behind, says the classifier',
    (words) => {
      const text = `select ${words.join(' ')}`
      if (!isPlain(text)) return
      const { statements } = classify(text, EMPTY_CATALOGUE)
      for (const statement of statements) {
        expect(['select', 'other', 'empty']).toContain(statement.verb)
        expect(statement.pins).toBeUndefined()
        expect(NOT_FOR_OTHERS).not.toContain(statement.reason)
      }
      expect(statements.length).toBeLessThanOrEqual(1)
    },
  )
})
