import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { TEXT_BYTES_MAX } from '../../../src/routing/lexer.ts'
import { REASONS } from '../../../src/routing/route.ts'
import { HARMLESS_VOLATILE } from '../../../src/routing/words.ts'

const page = readFileSync(new URL('../../../docs/routing.md', import.meta.url), 'utf8')

/** The rows of the table of reasons. */
function documented(): string[][] {
  const block = page.split('<!-- reasons -->')[1]?.split('<!-- end -->')[0] ?? ''
  return [...block.matchAll(/^\| `(\w+)` \| (.+) \|$/gm)].map((row) => row.slice(1))
}

describe('docs/routing.md', () => {
  test('has every reason and no other, with its sentence', () => {
    expect(documented()).toEqual(REASONS.map(([reason, sentence]) => [reason, sentence]))
  })

  test('names every built-in function that is believed although VOLATILE', () => {
    const names = page.split('`pg_catalog` only:')[1]?.split('. pgsteer reads')[0] ?? ''
    expect([...names.matchAll(/`(\w+)`/g)].map((match) => match[1])).toEqual([...HARMLESS_VOLATILE])
  })

  test('states the bound of a text as it is', () => {
    expect(page).toContain('over 1 MiB')
    expect(TEXT_BYTES_MAX).toBe(1_048_576)
  })
})
