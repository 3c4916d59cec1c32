/**
 * The docker command line and compose, for what needs no engine: the machine's own where they know
 * `docker stack config` and `docker compose`, else Debian 13's, which scripts/provision.mjs unpacked.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Program } from './debian.ts'

const UNPACKED = resolve(import.meta.dirname, '../../.cache/debian/docker')

/** `docker stack ...` */
export function dockerStack(): Program {
  if (isKnown('stack config')) return { file: 'docker', args: ['stack'], env: {} }
  return { file: unpacked('usr/bin/docker'), args: ['stack'], env: {} }
}

/** `docker compose ...` */
export function dockerCompose(): Program {
  if (isKnown('compose version')) return { file: 'docker', args: ['compose'], env: {} }
  return { file: unpacked('usr/libexec/docker/cli-plugins/docker-compose'), args: [], env: {} }
}

/** Docker shows the help of what is above a word that it does not know. */
function isKnown(words: string): boolean {
  const parameters = [...words.split(' '), '--help']
  const { status, stdout } = spawnSync('docker', parameters, { encoding: 'utf8' })
  // Without a docker there is neither.
  return status !== null && stdout.includes(`docker ${words}`)
}

function unpacked(path: string): string {
  const file = join(UNPACKED, path)
  if (!existsSync(file)) throw new Error(`there is no docker, 'npm test' provides it`)
  return file
}
