/** The classifier against PostgreSQL's parser, over the corpus and over what mutation makes of it. */
import { fc } from '@fast-check/vitest'
import { scanSync } from 'libpg-query'
import { describe, expect, test } from 'vitest'
import type { Catalogue } from '../../../src/routing/catalogue.ts'
import { type Classified, classify } from '../../../src/routing/classify.ts'
import { WORD_FLAGS } from '../../../src/routing/words.ts'
import {
  bytesOf,
  CATALOGUE,
  catalogueWith,
  corpus,
  parse,
  provedBut,
  USER_VOLATILE,
  violation,
} from './oracle.ts'

const READS = corpus('reads')
const OTHERS = corpus('others')
const ORM = corpus('orm')
const ALL = [...READS, ...OTHERS, ...ORM]

/** Reads to a parser: the first calls functions that do not exist, a split session asks the primary. */
const NOT_RECOGNISED = [
  'select a.over(1), b.join(2)',
  'select txid_current(), pg_current_xact_id()',
  "select current_setting('transaction_read_only')",
  'show transaction_read_only',
  'show in_hot_standby',
  'show all',
]

/** More with PGSTEER_FUZZ_RUNS and a longer --testTimeout. */
const RUNS = Number(process.env['PGSTEER_FUZZ_RUNS'] ?? 3000)

/** A catalogue and the judge's notion of what is proved in it. */
interface World {
  readonly catalogue: Catalogue
  readonly isProved: (name: string) => boolean
}

const PLAIN: World = { catalogue: CATALOGUE, isProved: provedBut(USER_VOLATILE) }

/** What is wrong with calling `text` a read; null when nothing is. */
function wrong(text: string, { catalogue, isProved }: World = PLAIN): string | null {
  const classified = classify(bytesOf(text), catalogue)
  if (!classified.read) return null
  const trees = parse(text)
  if (trees === null) return null
  if (trees.length !== statements(classified)) {
    return `${statements(classified)} statements, PostgreSQL sees ${trees.length}`
  }
  for (const tree of trees) {
    const found = violation(tree, isProved)
    if (found !== null) return found
  }
  return null
}

function statements(classified: Classified): number {
  return classified.statements.filter((statement) => statement.verb !== 'empty').length
}

describe('the corpus', () => {
  test('holds hundreds of statements that PostgreSQL parses', () => {
    const broken = ALL.filter((text) => parse(text) === null)
    expect(broken).toEqual([])
    expect(ALL.length).toBeGreaterThan(350)
  })

  test('is split as PostgreSQL splits it', () => {
    const other = ALL.filter(
      (text) => statements(classify(bytesOf(text), CATALOGUE)) !== parse(text)?.length,
    )
    expect(other).toEqual([])
  })

  test('is called a read only where the tree is one', () => {
    expect(ALL.map((text) => [text, wrong(text)]).filter(([, what]) => what !== null)).toEqual([])
  })

  test('of other statements holds none that is called a read', () => {
    expect(OTHERS.filter((text) => classify(bytesOf(text), CATALOGUE).read)).toEqual([])
  })

  test('is recognised: every read of it that PostgreSQL sees, but for the few named here', () => {
    const isProved = provedBut(USER_VOLATILE)
    const reads = ALL.filter((text) => {
      const trees = parse(text)
      return (
        trees !== null &&
        trees.length > 0 &&
        trees.every((tree) => violation(tree, isProved) === null)
      )
    })
    const missed = reads.filter((text) => !classify(bytesOf(text), CATALOGUE).read)
    expect(missed).toEqual(NOT_RECOGNISED)
    expect(reads.length).toBeGreaterThan(150)
  })
})

/** Short names of the corpus and keywords that may be function names, all of them made volatile. */
const HOSTILE_NAMES = [
  ...'a b c d e f g h i j k l m n o p q r s t u v w x y z'.split(' '),
  ...'over filter by join columns value set sets first next like ilike is overlaps inner outer'.split(
    ' ',
  ),
  ...'natural cross full conflict operator materialized recursive ordinality rows range groups'.split(
    ' ',
  ),
  ...'zone within path passing json json_object json_value key cube rollup second varying'.split(
    ' ',
  ),
  ...'repeatable escape document content strip normalize lateral tablesample bernoulli as'.split(
    ' ',
  ),
  ...'"X" revenue c_orders lower upper count now text audit Audit'.split(' '),
]

const HOSTILE: World = {
  catalogue: catalogueWith(HOSTILE_NAMES),
  isProved: provedBut(HOSTILE_NAMES),
}

describe('a mutated corpus', () => {
  test('is never called a read wrongly: splices of two statements', () => {
    const cut = fc.tuple(fc.constantFrom(...ALL), fc.nat(), fc.constantFrom(...ALL), fc.nat())
    fc.assert(
      fc.property(cut, fc.boolean(), ([left, i, right, j], isHostile) => {
        const text = left.slice(0, i % (left.length + 1)) + right.slice(j % (right.length + 1))
        expect(wrong(text, isHostile ? HOSTILE : PLAIN)).toBeNull()
      }),
      { numRuns: RUNS },
    )
  })

  test('is never called a read wrongly: tokens put in, left out, doubled and moved', () => {
    const edit = fc.record({
      text: fc.constantFrom(...READS, ...ORM),
      edits: fc.array(
        fc.record({
          at: fc.nat(),
          size: fc.nat(3),
          token: fc.oneof(fc.constantFrom(...TOKENS), fc.constantFrom(...WORDS)),
        }),
        { minLength: 1, maxLength: 4 },
      ),
    })
    fc.assert(
      fc.property(edit, fc.boolean(), ({ text, edits }, isHostile) => {
        const words = tokensOf(text)
        for (const { at, size, token } of edits) words.splice(at % (words.length + 1), size, token)
        expect(wrong(words.join(' '), isHostile ? HOSTILE : PLAIN)).toBeNull()
      }),
      { numRuns: RUNS },
    )
  })

  test('is judged the same in other case and with comments between its tokens', () => {
    const trivia = fc.constantFrom(
      ' ',
      '\n',
      '\t',
      '/**/',
      '/* \' " $$ */',
      '/* /* ; */ */',
      '--x\n',
      "--'\n",
      ' /*pgsteer: x*/ ',
    )
    fc.assert(
      fc.property(
        fc.constantFrom(...READS, ...OTHERS),
        fc.array(trivia, { minLength: 1 }),
        fc.nat(),
        (text, gaps, seed) => {
          const words = tokensOf(text)
          const changed = words
            .map(
              (word, index) =>
                ((seed >> (index % 30)) & 1 ? otherCase(word) : word) +
                (gaps[index % gaps.length] ?? ' '),
            )
            .join('')
          if (parse(changed) === null) return
          const before = classify(bytesOf(text), CATALOGUE)
          const after = classify(bytesOf(changed), CATALOGUE)
          expect([after.read, after.reason]).toEqual([before.read, before.reason])
        },
      ),
      { numRuns: RUNS },
    )
  })

  test('is never called a read wrongly: quotes, comments and constants in any order', () => {
    const pieces = fc.array(fc.constantFrom(...PIECES), { maxLength: 14 })
    fc.assert(
      fc.property(pieces, (parts) => {
        expect(wrong(`select ${parts.join('')}`)).toBeNull()
      }),
      { numRuns: RUNS * 2 },
    )
  })

  test('never makes the classifier throw', () => {
    const bytes = fc.string({
      unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)),
    })
    fc.assert(
      fc.property(
        fc.oneof(
          bytes,
          fc.array(fc.constantFrom(...TOKENS, ...PIECES)).map((parts) => parts.join(' ')),
        ),
        (text) => {
          expect(classify(text, CATALOGUE).statements.length).toBeGreaterThan(0)
        },
      ),
      { numRuns: RUNS },
    )
  })
})

/** The text's tokens by PostgreSQL's scanner; words of one character class stay apart. */
function tokensOf(text: string): string[] {
  const bytes = Buffer.from(text, 'utf8')
  const { tokens } = scanSync(text)
  return tokens
    .filter(({ tokenName }) => tokenName !== 'SQL_COMMENT' && tokenName !== 'C_COMMENT')
    .map(({ start, end }) => bytes.subarray(start, end).toString('utf8'))
}

function otherCase(word: string): string {
  return /^[a-z_]+$/i.test(word) ? word.toUpperCase() : word
}

/** Every word the classifier knows, as a column, as a label and by itself. */
const WORDS = [...WORD_FLAGS.keys(), 'join', 'into', 'for'].flatMap((word) => [
  word,
  `t.${word}`,
  `as ${word}`,
  `"${word}"`,
])

const TOKENS = [
  ...'( ) , ; . :: * = + - [ ] $1 1 a t x "X" audit "audit" lower now count'.split(' '),
  ...'audit(1) audit(a) audit() nextval(1) "audit"(1) s.audit(1) over(a) by(1) join(1) x(a) g(x)'.split(
    ' ',
  ),
  ...'select values table with recursive as not materialized into temp for update share no key'.split(
    ' ',
  ),
  ...'insert delete merge from where on using distinct all order by group having limit offset'.split(
    ' ',
  ),
  ...'union join left lateral natural cross operator(pg_catalog.+) operator ( case when then else end'.split(
    ' ',
  ),
  ...'over partition filter within ordinality tablesample cast collate for at time zone'.split(' '),
  ...'between like escape in any row exists array explain analyze copy to stdout stdin show'.split(
    ' ',
  ),
  "'x'",
  "E'\\''",
  '$$',
  '$a$x$a$',
  "U&'x'",
  '--\n',
  '/*',
  '*/',
  'delete from t',
  'insert into t values (1)',
]

const PIECES = [
  "'",
  "''",
  '"',
  '""',
  '$$',
  '$a$',
  '$a',
  '$',
  '$1',
  'E',
  'e',
  "E'",
  "e'",
  "U&'",
  'U&"',
  "B'",
  "x'",
  "n'",
  '\\',
  "\\'",
  '\n',
  ' ',
  ' ',
  '--',
  '/*',
  '*/',
  '/',
  '*',
  '-',
  '+',
  '1',
  '1e',
  '1.',
  '.5',
  '0x',
  '1_',
  'a',
  'é',
  '; delete from t',
  'delete from t',
  'audit(1)',
  'audit',
  '(',
  ')',
  ',',
  ';',
  ' from t',
  ' for update',
  ':',
  '::',
  '=',
  '<',
  '?',
  '@',
  '\r',
  '\f',
  '\v',
  '\u00a0',
  '\u3000',
  '[',
  ']',
  '{',
  '~',
  '`',
  '#',
  '!',
  '%',
  '^',
  '|',
  '&',
]
