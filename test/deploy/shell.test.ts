/** Every shell script of the repository, in whichever folder and with whichever name, is clean for shellcheck. */
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { program } from '../support/debian.ts'

const ROOT = resolve(import.meta.dirname, '../..')
/** Where scripts are; what is fetched or built is not ours. */
const FOLDERS = ['.ci', 'bench', 'deploy', 'scripts', 'test']

const scripts = FOLDERS.flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name)),
)
  .filter(isScript)
  .toSorted()

/** A script that is sourced has no first line of its own, but its name or a shellcheck line says so. */
function isScript(file: string): boolean {
  const head = readFileSync(file).subarray(0, 200).toString('latin1')
  return (
    file.endsWith('.sh') ||
    /^#!\s*\S*\b(?:env\s+)?(?:ba|da)?sh\b/.test(head) ||
    /^#\s*shellcheck shell=/m.test(head)
  )
}

function shellcheck(input: { files: readonly string[] } | { text: string }): string {
  const { file, args, env } = program('shellcheck')
  const isText = 'text' in input
  // Sourced files lie at their place in the image, not here: 1091 is "not following".
  const words = ['--exclude=SC1091', '--format=gcc', ...(isText ? ['-'] : input.files)]
  const { status, stdout, stderr } = spawnSync(file, [...args, ...words], {
    cwd: ROOT,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    ...(isText ? { input: input.text } : {}),
  })
  return status === 0 ? '' : `${stdout}${stderr}`
}

test('shellcheck finds nothing in the scripts', () => {
  expect(scripts.length).toBeGreaterThan(4)
  expect(shellcheck({ files: scripts })).toBe('')
})

test('shellcheck sees a fault', () => {
  expect(shellcheck({ text: '#!/bin/sh\nrm -rf $1/*\n' })).toMatch(/SC2086/)
})

test('scripts that are started as programs are executable', () => {
  const started = scripts.filter((file) => readFileSync(file, 'latin1').startsWith('#!'))
  expect(started.filter((file) => (statSync(file).mode & 0o111) === 0)).toEqual([])
})
