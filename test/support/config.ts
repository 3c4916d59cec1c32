/**
 * Configurations for tests, from ini text: written to a folder of its own, which is removed again,
 * and loaded as the program loads it.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Config } from '../../src/config/config.ts'
import { type Loaded, loadConfig } from '../../src/config/load.ts'

export interface ConfigInput {
  /** The main file. */
  readonly ini: string
  /** More files beside it, by name. */
  readonly files?: Readonly<Record<string, string>>
  readonly env?: NodeJS.ProcessEnv
}

/** The configuration that `ini` describes, and the warnings. Throws ConfigError. */
export function load(input: ConfigInput | string): Loaded {
  const { ini, files = {}, env = {} } = typeof input === 'string' ? { ini: input } : input
  const folder = mkdtempSync(join(tmpdir(), 'pgsteer-config-'))
  try {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)
    const main = join(folder, 'pgsteer.ini')
    writeFileSync(main, ini)
    return loadConfig(main, env)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

const known = new Map<string, Config>()

/** The configuration alone. The same text gives the same object: it is frozen. */
export function configFrom(input: ConfigInput | string): Config {
  if (typeof input !== 'string') return load(input).config
  const config = known.get(input) ?? load(input).config
  known.set(input, config)
  return config
}
