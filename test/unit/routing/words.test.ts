/** The lists of words against PostgreSQL's grammar. */
import { describe, expect, test } from 'vitest'
import { classify } from '../../../src/routing/classify.ts'
import {
  HARMLESS_VOLATILE,
  IS_NEVER_CALLED,
  IS_RARELY_CALLED,
  isServerName,
  SPECIAL_FUNCTIONS,
  WORD_FLAGS,
} from '../../../src/routing/words.ts'
import {
  CATALOGUE,
  catalogueWith,
  parse,
  provedBut,
  type Tree,
  USER_VOLATILE,
  violation,
} from './oracle.ts'

const WORDS = [...WORD_FLAGS]
const NEVER = WORDS.filter(([, flags]) => (flags & IS_NEVER_CALLED) !== 0).map(([word]) => word)
const RARELY = WORDS.filter(([, flags]) => (flags & IS_RARELY_CALLED) !== 0).map(([word]) => word)

/** True when PostgreSQL takes `word(...)` for a call of a function that a user may have made. */
function isCall(word: string): boolean {
  return ['', '1', '1, 2', 'a.b', '*', 'variadic a', 'x => 1'].some((values) => {
    const [tree] = parse(`select ${word}(${values})`) ?? []
    return tree !== undefined && names(tree).includes(word)
  })
}

/** The unqualified functions of a tree. */
function names(node: unknown): string[] {
  if (typeof node !== 'object' || node === null) return []
  return Object.entries(node as Tree).flatMap(([key, value]) => {
    const inner = names(value)
    if (key !== 'FuncCall') return inner
    const parts = (value as { funcname: { String: { sval: string } }[] }).funcname
    return parts.length === 1 ? [parts[0]?.String.sval ?? ''].concat(inner) : inner
  })
}

describe('a word before a parenthesis', () => {
  test.each(NEVER)('is never a call where the list says so: %s', (word) => {
    expect(isCall(word)).toBe(false)
  })

  test.each(RARELY)('is judged by the catalogue where it may be one: %s', (word) => {
    const { read } = classify(`select ${word}(1)`, catalogueWith([word]))
    expect(read && isCall(word)).toBe(false)
  })
})

describe('a function known to be harmless', () => {
  test('has no effect on the session and does not speak about one server', () => {
    const wrong = [...HARMLESS_VOLATILE].filter(
      (name) => SPECIAL_FUNCTIONS.has(name) || isServerName(name),
    )
    expect(wrong).toEqual([])
  })

  test('is not one when somebody made another of its name', () => {
    expect(CATALOGUE.isHarmless('random')).toBe(true)
    expect(catalogueWith(['random']).isHarmless('random')).toBe(false)
  })
})

const HEADS = [
  'select',
  'select 1',
  'select * from t',
  'select * from t where',
  'select * from t order by',
  'select distinct on (a)',
  'with a as (select',
  'values (1),',
]
const TAILS = ['into x', 'for update', 'audit(1)', ', audit(1)', '(audit(1))', '; delete from t']

test('no word hides what stands behind it, as a column, a label, a name or itself', () => {
  const isProved = provedBut(USER_VOLATILE)
  const places = [...WORD_FLAGS.keys(), 'as', 'join', 'left', 'is', 'both', 'escape'].flatMap(
    (word) => [word, `t.${word}`, `as ${word}`, `1 ${word}`, `(1) ${word}`],
  )
  const wrong: string[] = []
  for (const head of HEADS) {
    for (const place of places) {
      for (const tail of TAILS) {
        const text = `${head} ${place} ${tail}${head.startsWith('with') ? ') select 1' : ''}`
        if (!classify(text, CATALOGUE).read) continue
        const trees = parse(text)
        if (trees?.some((tree) => violation(tree, isProved) !== null) === true) wrong.push(text)
      }
    }
  }
  expect(wrong).toEqual([])
})

test('names about one server are told from names about the data', () => {
  const server = [
    'pg_locks',
    'pg_stat_activity',
    'pg_statio_all_tables',
    'pg_replication_slots',
    'pg_is_in_recovery',
    'txid_current',
  ]
  const data = [
    'pg_class',
    'pg_stats',
    'pg_statistic',
    'pg_proc',
    'pg_index',
    'pg_get_viewdef',
    'txid_snapshot_xmin',
    'locks',
  ]
  expect(server.filter((name) => !isServerName(name))).toEqual([])
  expect(data.filter(isServerName)).toEqual([])
})
