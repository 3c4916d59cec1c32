import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { PAGE, withTables } from '../../../scripts/docs-configuration.ts'
import { variableOf } from '../../../src/config/environment.ts'
import { KEY_SECTIONS, keysOf, SECTIONS, type SectionName } from '../../../src/config/keys.ts'
import { configFrom } from '../../support/config.ts'

const page = readFileSync(PAGE, 'utf8')
const sections = Object.keys(SECTIONS) as SectionName[]

/** The keys in the first column of the table of `section`. */
function documented(section: string): readonly string[] {
  const block = page.split(`<!-- keys: ${section} -->`)[1]?.split('<!-- end -->')[0] ?? ''
  return [...block.matchAll(/^\| `(\w+)` \|/gm)].map((match) => match[1] ?? '')
}

describe('docs/configuration.md', () => {
  test.each(sections)(
    'every key of [%s] is in its table, and every key there exists',
    (section) => {
      expect(documented(section)).toEqual(Object.keys(keysOf(section)))
    },
  )

  test('the tables are those that scripts/docs-configuration.ts makes', () => {
    expect(page).toBe(withTables(page))
  })

  test('every variable that is named exists', () => {
    const known = new Set(
      KEY_SECTIONS.flatMap((section) =>
        Object.keys(keysOf(section)).flatMap((key) => [
          variableOf(section, key),
          `${variableOf(section, key)}_FILE`,
        ]),
      ),
    )
    const foreign = new Set([
      'PGSTEER_SERVICE_HOST',
      'PGSTEER_PORT',
      'PGSTEER_CLUSTER_',
      'PGSTEER_',
    ])
    const named = [...page.matchAll(/\bPGSTEER_\w*/g)].map((match) => match[0])
    expect(named.length).toBeGreaterThan(4)
    expect(named.filter((name) => !known.has(name) && !foreign.has(name))).toEqual([])
  })

  test('every example loads', () => {
    const examples = [...page.matchAll(/```ini\n([\s\S]*?)```/g)].map((match) => match[1] ?? '')
    expect(examples).toHaveLength(3)
    for (const ini of examples) {
      const config = configFrom({ ini, files: { 'userlist.txt': '"a" "b"\n' } })
      expect(config.cluster).not.toBeNull()
      expect(config.databases.get('*')?.hosts).toEqual([])
    }
  })
})
