/**
 * Proves that the linter sees what it is there for: a file of seeded faults has to be reported, line by
 * line. A linter that fell back to rules without types would pass over the worst of them in silence.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'

const ROOT = resolve(import.meta.dirname, '..')
const CACHE = join(ROOT, '.cache')

interface Report {
  readonly diagnostics: readonly {
    readonly code: string
    readonly labels: readonly { readonly span: { readonly line: number } }[]
  }[]
}

/** Lints one file under the project's rules, in a folder where the project's compiler settings hold. */
function lint(source: string): Report {
  mkdirSync(CACHE, { recursive: true })
  const folder = mkdtempSync(join(CACHE, 'lint-'))
  try {
    const settings = { extends: '../../tsconfig.json', include: ['*.ts'] }
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(settings))
    writeFileSync(join(folder, 'seeds.ts'), source)
    const { stdout } = spawnSync(
      join(ROOT, 'node_modules/.bin/oxlint'),
      ['--config', join(ROOT, '.oxlintrc.json'), '--no-ignore', '--format', 'json', 'seeds.ts'],
      { cwd: folder, encoding: 'utf8' },
    )
    return JSON.parse(stdout) as Report
  } finally {
    rmSync(folder, { recursive: true })
  }
}

test('every seeded fault is reported by its rule, on its line', () => {
  const source = readFileSync(join(ROOT, 'test/seeds/promises.ts.txt'), 'utf8')
  const reported = new Set(
    lint(source).diagnostics.flatMap(({ code, labels }) => {
      const rule = /\(([\w-]+)\)/.exec(code)?.[1] ?? code
      return labels.map(({ span }) => `${span.line} ${rule}`)
    }),
  )
  const seeded = source.split('\n').flatMap((line, index) => {
    const rule = /\/\/ ([\w-]+)$/.exec(line)?.[1]
    return rule === undefined ? [] : [`${index + 1} ${rule}`]
  })
  expect(seeded.length).toBeGreaterThan(10)
  expect(seeded.filter((one) => !reported.has(one))).toEqual([])
})
