import { expect, test } from 'vitest'
import { table } from '../../../src/demo/table.ts'

test('numbers are right-aligned, texts left-aligned, NULL and line breaks visible', () => {
  const rows = [
    ['1', 'one'],
    ['10', null],
    ['-2.5', 'a\nb'],
  ]
  expect(table(['n', 'text'], rows).split('\n')).toEqual([
    '   n | text',
    '-----+-----',
    '   1 | one',
    '  10 | NULL',
    '-2.5 | a\\nb',
  ])
})

test('a result without rows shows its columns', () => {
  expect(table(['id'], [])).toBe('id\n--')
})
