/**
 * Where the backups go, as pgBackRest reads it: the text of the secret `pgbackrest_secrets` out of the
 * BACKUP_REPO<N>_* settings and the passphrases and keys in the cluster's folder. A passphrase is made once
 * and belongs to no epoch: with another one no earlier backup can be read.
 */
import { randomBytes } from 'node:crypto'
import type { Folder } from './folder.ts'
import { OperatorError } from './operator.ts'
import { REPOSITORY_SETTING, type Settings } from './settings.ts'

const PASSPHRASE_BYTES = 48
const COMMON = {
  'cipher-type': 'aes-256-cbc',
  'retention-full': '4',
  'retention-diff': '14',
  bundle: 'y',
  block: 'y',
}
/** What a type of repository cannot do without, and may not be in cluster.env. */
const KEYS: Readonly<Record<string, readonly string[]>> = {
  s3: ['s3-key', 's3-key-secret'],
  azure: ['azure-account', 'azure-key'],
  gcs: ['gcs-key'],
}

/** Errors: OperatorError that names the file of a key that is missing, or a setting of no repository. */
export function repositorySecrets(folder: Folder, settings: Settings): string {
  const count = Number(settings.env['BACKUP_REPOSITORIES'] ?? '1') || 1
  const given = new Map<number, Record<string, string>>()
  for (const [name, value] of Object.entries(settings.env)) {
    const [, number = '', option = ''] = REPOSITORY_SETTING.exec(name) ?? []
    if (number === '') continue
    if (Number(number) > count)
      throw new OperatorError(
        `${name} is set, and BACKUP_REPOSITORIES is ${count}`,
        `Set BACKUP_REPOSITORIES=${number}, or remove the line.`,
      )
    const options = given.get(Number(number)) ?? {}
    options[option.toLowerCase().replaceAll('_', '-')] = value
    given.set(Number(number), options)
  }
  const numbers = Array.from({ length: count }, (_, index) => index + 1)
  const lines = numbers.flatMap((number) =>
    linesOf(folder, settings, number, given.get(number) ?? {}),
  )
  return `[global]\n${lines.join('\n')}\n`
}

function linesOf(
  folder: Folder,
  { cluster }: Settings,
  number: number,
  given: Readonly<Record<string, string>>,
): string[] {
  const isLocal = given['type'] === undefined || given['type'] === 'posix'
  const path = isLocal ? `/var/lib/pgbackrest/repo${number}` : `/${cluster}`
  const keys = (KEYS[given['type'] ?? ''] ?? []).filter((key) => given[key] === undefined)
  const options = {
    path,
    ...COMMON,
    ...given,
    'cipher-pass': passphrase(folder, number),
    ...Object.fromEntries(keys.map((key) => [key, keyIn(folder, number, key)])),
  }
  return Object.entries(options).map(([option, value]) => `repo${number}-${option}=${value}`)
}

/** Made once, before the repository is deployed: another one opens nothing of what is there. */
function passphrase(folder: Folder, number: number): string {
  const name = `backup_passphrase_${number}`
  const known = folder.read('secrets', name)?.trim()
  if (known !== undefined && known !== '') return known
  if (number <= deployedCount(folder))
    throw new OperatorError(
      `${folder.file('secrets', name)} is missing, and the cluster has repository ${number} already`,
      'Bring it back from your copy of the folder: without it no backup can be read. In Docker it is in the secret that the service pgbackrest mounts as /etc/pgbackrest/conf.d/90-secrets.conf.',
    )
  const made = randomBytes(PASSPHRASE_BYTES).toString('base64url')
  folder.write(`${made}\n`, 'secrets', name)
  return made
}

/** How many repositories what was deployed from this folder has. */
function deployedCount(folder: Folder): number {
  const deployed = folder.read('deployed', 'stack.yml')
  if (deployed === undefined) return 0
  return Number(/BACKUP_REPOSITORIES: "?(\d)/.exec(deployed)?.[1] ?? 1)
}

function keyIn(folder: Folder, number: number, key: string): string {
  const name = `backup_repo${number}_${key.replaceAll('-', '_')}`
  const text = folder.read('secrets', name)?.trim()
  if (text !== undefined && text !== '') return text
  throw new OperatorError(
    `${folder.file('secrets', name)} is missing`,
    `Write repo${number}-${key} into it (mode 0600): keys do not belong in cluster.env.`,
  )
}
