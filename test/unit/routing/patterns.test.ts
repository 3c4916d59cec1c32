/** Texts that differ in their constants alone are judged once, and never otherwise than by themselves. */
import { fc, test as property } from '@fast-check/vitest'
import { describe, expect, test } from 'vitest'
import { classify } from '../../../src/routing/classify.ts'
import { type Judged, Patterns } from '../../../src/routing/patterns.ts'
import { Statements } from '../../../src/routing/statements.ts'
import { bytesOf, CATALOGUE, corpus } from './oracle.ts'

function known(): Statements {
  const statements = new Statements(100)
  statements.setCatalogue(CATALOGUE)
  return statements
}

/** In the middle of other bytes, as in a message. */
function judge(statements: Statements, text: string): Judged | null {
  const bytes = Buffer.from(`Q1234${text}\0Z`, 'latin1')
  return statements.judge(bytes, 5, bytes.length - 1)
}

/** A pattern is kept at its second sight. */
function learn(statements: Statements, text: string): void {
  judge(statements, text)
  judge(statements, text)
}

/** Whether the second text is judged by what is known of the first. */
function isOne(first: string, second: string): boolean {
  const statements = known()
  learn(statements, first)
  return judge(statements, second)?.text === null
}

describe('texts of one pattern', () => {
  test.each([
    ['UPDATE t SET a = a + 17 WHERE id = 5', 'UPDATE t SET a = a + 4 WHERE id = 123456'],
    ["SELECT * FROM t WHERE n = 'x'", "SELECT * FROM t WHERE n = 'it''s (--) \"all\" /* $$ '"],
    ['insert into t values (1, 2.5, lower($1))', 'insert into t values (77, 0.25, lower($1))'],
    ['select "a1" from "t 1" where x = -1;', 'select "a1" from "t 1" where x = -99;'],
    ['select a1 from t2 where x=1', 'select a1 from t2 where x=2'],
    [
      "select count(*) from t where b between '1' and 2",
      "select count(*) from t where b between '' and 3",
    ],
    ['delete from t where a = 1; select 2', 'delete from t where a = 3; select 4'],
  ])('%s: %s', (first, second) => expect(isOne(first, second)).toBe(true))

  test('are judged by the very same value', () => {
    const statements = known()
    learn(statements, 'select a from t where b = 1')
    const found = judge(statements, 'select a from t where b = 2')
    expect(judge(statements, 'select a from t where b = 3')?.classified).toBe(found?.classified)
    expect(found?.classified).toEqual(classify('select a from t where b = 2', CATALOGUE))
  })

  test('keep the text when it has no constants', () => {
    const statements = known()
    learn(statements, 'BEGIN ISOLATION LEVEL SERIALIZABLE')
    const found = judge(statements, 'BEGIN ISOLATION LEVEL SERIALIZABLE')
    expect(found?.text).toBe('BEGIN ISOLATION LEVEL SERIALIZABLE')
    expect(judge(statements, 'BEGIN ISOLATION LEVEL SERIALIZABLE')).toBe(found)
  })
})

describe('texts are judged each by itself', () => {
  test.each([
    ['the constant is what is set', 'SET work_mem = 100', 'SET work_mem = 200'],
    [
      'the constant says which setting is shown',
      "select current_setting('a')",
      "select current_setting('in_hot_standby')",
    ],
    [
      'the constant is an option',
      'explain (analyze 0) delete from t',
      'explain (analyze 1) delete from t',
    ],
    ['a name ends in a digit', 'select a1 from t', 'select a2 from t'],
    ['a quoted name holds digits', 'select "1" from t', 'select "2" from t'],
    ['a parameter has a number', 'select $1', 'select $2'],
    [
      'a number and a string are not alike',
      'select f from t where a = 1',
      "select f from t where a = '1'",
    ],
    ['one has a comment', 'select 1 -- 1', 'select 2 -- 1'],
    ['one has a comment of the other kind', 'select /* 1 */ 1', 'select /* 2 */ 1'],
    ['the string has escapes', "select E'1'", "select E'2'"],
    ['the string has dollars', 'select $$1$$', 'select $$2$$'],
    ['the number has an exponent', 'select 1e5', 'select 2e5'],
    ['the number is a hexadecimal one', 'select 0x1', 'select 0x2'],
    ['the number ends with its point', 'select 1. ', 'select 2. '],
    ['the number begins with its point', 'select .1', 'select .2'],
    ['a letter stands behind the number', 'select 1a', 'select 2a'],
    ['a string does not end', "select 1, 'a", "select 2, 'a"],
    ['they are long', `select 1, '${'x'.repeat(3000)}'`, `select 2, '${'x'.repeat(3000)}'`],
  ])('%s', (_why, first, second) => expect(isOne(first, second)).toBe(false))

  test('though the number of their patterns is the same', () => {
    const statements = known()
    learn(statements, 'select a from rmraf')
    const other = judge(statements, 'delete from aabqchb')
    expect(other?.classified).toMatchObject({ read: false, reason: 'verb' })
  })

  test('when they came once', () => {
    const statements = known()
    judge(statements, 'select a from t where b = 1')
    expect(judge(statements, 'select a from t where b = 2')?.text).not.toBe(null)
    expect(judge(statements, 'select a from t where b = 3')?.text).toBe(null)
  })

  test('when the catalogue is another one', () => {
    const statements = known()
    learn(statements, 'select lower(a) from t where b = 1')
    expect(judge(statements, 'select lower(a) from t where b = 2')?.classified.read).toBe(true)
    statements.setCatalogue({ ...CATALOGUE, serial: CATALOGUE.serial + 1, isHarmless: () => false })
    expect(judge(statements, 'select lower(a) from t where b = 2')?.classified.read).toBe(false)
  })
})

describe('what a replica refused', () => {
  test('goes to the primary with all that are like it', () => {
    const statements = known()
    learn(statements, 'select a from v where b = 1')
    statements.learnPrimaryOnly('select a from v where b = 2')
    for (const text of ['select a from v where b = 1', 'select a from v where b = 3'])
      expect(judge(statements, text)?.classified).toMatchObject({ read: false, reason: 'learnt' })
    expect(judge(statements, 'select a from w where b = 1')?.classified.read).toBe(true)
  })

  test('is refused once, also when its pattern was forgotten in between', () => {
    const statements = known()
    statements.learnPrimaryOnly('select a from v where b = 1')
    for (let column = 0; column < 20_000; column += 1)
      learn(statements, `select c${column} from v where b = 1`)
    learn(statements, 'select a from v where b = 2')
    statements.learnPrimaryOnly('select a from v where b = 1')
    expect(judge(statements, 'select a from v where b = 1')?.classified.read).toBe(false)
  })
})

test('a Query without a zero byte has no text, and one with several has what stands before the first', () => {
  const statements = known()
  expect(statements.judge(Buffer.from('select 1'), 0, 8)).toBe(null)
  expect(statements.judge(Buffer.from('select 1\0'), 0, 8)).toBe(null)
  const several = Buffer.from('select 1\0; drop table t\0')
  expect(statements.judge(several, 0, several.length)?.text).toBe('select 1')
})

test('patterns are bounded in number', () => {
  const patterns = new Patterns()
  const classified = classify('select 1', CATALOGUE)
  for (let column = 0; column < 10_000; column += 1)
    patterns.learn(`select c${column}`, classified, true)
  expect(patterns.size).toBeGreaterThan(500)
  expect(patterns.size).toBeLessThanOrEqual(1024)
})

/** The same word in both texts. */
function either(words: readonly string[]): fc.Arbitrary<readonly [string, string]> {
  return fc.constantFrom(...words).map((word) => [word, word])
}

describe('no text is judged otherwise than by itself', () => {
  const CONSTANTS = [
    '0',
    '7',
    '1234567',
    '1.5',
    "''",
    "'x'",
    "'it''s'",
    "'in_hot_standby'",
    "'\"'",
    "'--'",
    "'$$'",
  ]
  const ODD = [
    'E',
    'U&',
    '.',
    '..',
    '1.',
    '.5',
    '1e5',
    '0x1f',
    '1_0',
    '$1',
    '$a$',
    "'",
    '"',
    '"1"',
    '--',
    '/*',
    '*/',
    '\\',
    '\n',
    '1a',
    '\u00e9',
    '\x01',
    '\x02',
  ]
  const WORDS = [
    'select',
    'update t set a =',
    'insert into',
    'with x as (delete from t)',
    'into',
    'for update',
    'current_setting(',
    'set_config(',
    'now(',
    'explain',
    '(analyze',
    'set',
    ')',
    '(',
    ',',
    ';',
    '-',
    '+',
    '=',
    '::int',
    '[',
    ']',
    ':',
    'true',
    'limit',
    ' ',
  ]
  const constant = fc.tuple(fc.constantFrom(...CONSTANTS), fc.constantFrom(...CONSTANTS))
  const odd = fc.tuple(fc.constantFrom(...ODD), fc.constantFrom(...ODD, ...CONSTANTS))
  const part = fc.oneof(
    { arbitrary: constant, weight: 4 },
    { arbitrary: either(WORDS), weight: 6 },
    { arbitrary: either(ODD), weight: 1 },
    { arbitrary: odd, weight: 1 },
  )

  property.prop([fc.array(part, { maxLength: 14 }), fc.constantFrom('', ' ')], { numRuns: 3000 })(
    'whatever came before it with other constants',
    (parts, between) => {
      const first = bytesOf(parts.map(([one]) => one).join(between))
      const second = bytesOf(parts.map(([, other]) => other).join(between))
      const statements = known()
      learn(statements, first)
      if (second.includes('\0')) return
      expect(judge(statements, second)?.classified).toEqual(classify(second, CATALOGUE))
      expect(judge(statements, first)?.classified).toEqual(classify(first, CATALOGUE))
    },
  )

  test('in the corpus, with every constant replaced by every other', () => {
    const statements = known()
    let alike = 0
    for (const text of [...corpus('reads'), ...corpus('others'), ...corpus('orm')].map(bytesOf)) {
      learn(statements, text)
      for (const other of CONSTANTS) {
        const changed = text.replaceAll(/'(?:[^']|'')*'|\b\d+(?:\.\d+)?\b/g, () => other)
        const judged = judge(statements, changed)
        if (judged?.text === null) alike += 1
        expect(judged?.classified).toEqual(classify(changed, CATALOGUE))
      }
    }
    expect(alike).toBeGreaterThan(200)
  })
})
