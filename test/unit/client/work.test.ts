import { expect, test } from 'vitest'
import { NOT_UNDERSTOOD } from '../../../src/client/batch.ts'
import { isUnclean } from '../../../src/client/work.ts'
import { EMPTY_CATALOGUE } from '../../../src/routing/catalogue.ts'
import { classify } from '../../../src/routing/classify.ts'

function uncleanWhere(text: string): string {
  const classified = classify(text, EMPTY_CATALOGUE)
  return [true, false].map((isRouted) => (isUnclean(classified, isRouted) ? 'x' : '-')).join('')
}

test('what leaves a server unclean, routed and not', () => {
  expect(uncleanWhere('SELECT now()')).toBe('x-')
  expect(uncleanWhere('DO $$ BEGIN END $$')).toBe('xx')
  expect(uncleanWhere('CALL p()')).toBe('xx')
  expect(uncleanWhere('INSERT INTO t VALUES (1)')).toBe('--')
})

test('a text that nobody has read leaves it unclean everywhere', () => {
  expect(isUnclean(NOT_UNDERSTOOD, true)).toBe(true)
  expect(isUnclean(NOT_UNDERSTOOD, false)).toBe(true)
})
