/**
 * What every command of the tool works with, and where the project's deploy files are.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Clock } from '../base/clock.ts'
import type { Docker } from './docker.ts'
import type { Folder } from './folder.ts'
import { stackFiles } from './names.ts'
import { OperatorError, type Output } from './operator.ts'
import { parseSettings, type Settings } from './settings.ts'

/** Beside src/ and beside dist/: the package has both. */
export const DEPLOY = resolve(import.meta.dirname, '../../deploy')

export interface Context {
  readonly docker: Docker
  readonly output: Output
  readonly clock: Clock
  readonly folder: Folder
  /** The folder of the hand-written files. */
  readonly deploy: string
}

/** The settings as the folder has them now. Errors: OperatorError if there are none, or wrong ones. */
export function settingsOf({ folder, deploy }: Pick<Context, 'folder' | 'deploy'>): Settings {
  const text = folder.read('cluster.env')
  if (text === undefined)
    throw new OperatorError(
      `there is no ${folder.file('cluster.env')}`,
      'Run `init NAME` first, or name the folder with --dir.',
    )
  return parseSettings(text, stackVariables(deploy), folder.file('cluster.env'))
}

/** A variable of the pattern's slot stands for those of others. */
const SLOTS = [1, 2, 3, 4, 5, 6, 7, 8, 9]

/** Every variable that the stack files ask for: they may be set in cluster.env without being known here. */
export function stackVariables(deploy: string): Set<string> {
  const names = new Set<string>()
  for (const file of stackFiles) {
    const path = join(deploy, file)
    if (!existsSync(path)) continue
    for (const [, name = ''] of readFileSync(path, 'utf8').matchAll(/\$\{([A-Z][A-Z0-9_]*)/g))
      for (const slot of SLOTS) names.add(name.replace('3_', `${slot}_`))
  }
  return names
}
