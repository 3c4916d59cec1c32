/**
 * A copy of the program that a test may upgrade or break while it runs, as an installation does. It is
 * inside of the repository, so that it finds the packages.
 */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const ROOT = resolve(import.meta.dirname, '../..')

export class Program {
  readonly directory: string

  constructor() {
    mkdirSync(join(ROOT, '.cache'), { recursive: true })
    this.directory = mkdtempSync(join(ROOT, '.cache', 'program-'))
    cpSync(join(ROOT, 'src'), join(this.directory, 'src'), { recursive: true })
    cpSync(join(ROOT, 'package.json'), join(this.directory, 'package.json'))
  }

  /** Installs another version of it, in place. */
  install(version: string): void {
    const file = join(this.directory, 'package.json')
    const content: object = JSON.parse(readFileSync(file, 'utf8'))
    writeFileSync(file, JSON.stringify({ ...content, version }))
  }

  /** One file of it becomes this. Without `text` it is as it was. */
  replace(file: string, text?: string): void {
    const at = join(this.directory, 'src', file)
    if (text === undefined) cpSync(join(ROOT, 'src', file), at)
    else writeFileSync(at, text)
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true })
  }
}
