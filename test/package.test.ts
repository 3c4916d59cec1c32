/**
 * What has to hold of package.json and its lockfile so that `npm ci` works anywhere and gives everybody
 * the same.
 */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { expect, test } from 'vitest'

interface Entry {
  readonly version?: string
  readonly resolved?: string
  readonly optional?: boolean
  readonly integrity?: string
  readonly hasInstallScript?: boolean
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

const read = (name: string): unknown =>
  JSON.parse(readFileSync(resolve(import.meta.dirname, '..', name), 'utf8'))
const project = read('package.json') as {
  dependencies: Record<string, string>
  devDependencies: Record<string, string>
  allowScripts: Record<string, boolean>
}
const { packages } = read('package-lock.json') as { packages: Record<string, Entry> }

test('every dependency is pinned to one version, the one that the lockfile has', () => {
  const wanted = { ...project.dependencies, ...project.devDependencies }
  for (const [name, version] of Object.entries(wanted))
    expect([name, packages[`node_modules/${name}`]?.version]).toEqual([name, version])
})

test('the lockfile names no registry, and has a checksum for all that is not optional', () => {
  const entries = Object.entries(packages).filter(([path]) => path !== '')
  expect(entries.filter(([, entry]) => entry.resolved !== undefined)).toEqual([])
  const unchecked = entries.filter(
    ([, { optional, integrity }]) => optional !== true && integrity === undefined,
  )
  expect(unchecked).toEqual([])
})

test('the lockfile holds the packages of every platform, else npm ci refuses it (npm run relock)', () => {
  const missing = Object.entries(packages).flatMap(([path, entry]) =>
    Object.keys(entry.optionalDependencies ?? {}).filter(
      (name) =>
        packages[`node_modules/${name}`] === undefined &&
        packages[`${path}/node_modules/${name}`] === undefined,
    ),
  )
  expect(missing).toEqual([])
})

test('every install script is allowed or denied by name', () => {
  const undecided = Object.entries(packages)
    .filter(([, entry]) => entry.hasInstallScript === true)
    .map(([path]) => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length))
    .filter((name) => project.allowScripts[name] === undefined)
  // Platforms that the demonstration does not run on, or that npm does not run scripts for.
  expect(undecided.filter((name) => !/(?:windows|-arm|-ia32|-ppc64)/.test(name))).toEqual([])
})
