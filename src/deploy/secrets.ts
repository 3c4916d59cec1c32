/**
 * Every secret of a cluster in one table: the certificates of an epoch and the passwords of an epoch. Makes
 * what is missing in the folder, and tells which Docker secrets have to exist. Nothing is made twice: what
 * is in the folder stays.
 */
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import {
  type Certified,
  certificatesOf,
  endsAtMs,
  isIssued,
  issue,
  type Leaf,
  makeAuthority,
} from './certificates.ts'
import type { Folder } from './folder.ts'
import { etcdNames, secretName } from './names.ts'
import { OperatorError } from './operator.ts'
import { repositorySecrets } from './repository.ts'
import type { Settings } from './settings.ts'

/** A Docker secret as it has to be. */
export interface Secret {
  /** With cluster and epoch. */
  readonly name: string
  readonly text: string
}

/** 24 bytes: 192 bits, in letters that need no quoting anywhere. */
const PASSWORD_BYTES = 24
export const makePassword = (): string => randomBytes(PASSWORD_BYTES).toString('base64url')

/** Names and addresses that mean 'this container'. */
const HERE = ['localhost', '127.0.0.1'] as const
/** A service's own name, and the one that stands for all of its tasks. */
const service = (...names: readonly string[]): string[] =>
  names.flatMap((name) => [name, `tasks.${name}`])

/** The certificates, by their files' names. `nodeNames`: hostnames and addresses of the nodes. */
export function leavesOf(settings: Settings, nodeNames: readonly string[]): Record<string, Leaf> {
  const etcd = etcdNames(settings).map((name): [string, Leaf] => [
    name,
    { commonName: null, names: [...service(name), ...HERE] },
  ])
  // The agent beside a member serves with the member's certificate.
  const members = settings.members.map(({ slot }): [string, Leaf] => [
    `patroni${slot}`,
    {
      commonName: `patroni${slot}`,
      names: [...service(`patroni${slot}`, `agent${slot}`), ...HERE],
    },
  ])
  const front = [...service('pgsteer'), ...HERE, ...settings.publicNames, ...nodeNames]
  return {
    ...Object.fromEntries([...etcd, ...members]),
    pgsteer: { commonName: 'pgsteer', names: [...new Set(front)] },
    pgbackrest: { commonName: 'pgbackrest', names: [...service('pgbackrest'), ...HERE] },
    admin: { commonName: 'admin', names: ['admin'] },
    monitoring: {
      commonName: 'monitoring',
      names: ['monitoring', ...service('prometheus', 'grafana', 'alertmanager')],
    },
    // Not pgsteer's: with that one its container could speak to the members.
    pgadmin: {
      commonName: 'pgadmin',
      names: [...new Set([...service('pgadmin'), ...HERE, ...settings.publicNames, ...nodeNames])],
    },
  }
}

/** How each password's file is made, by the secret's name. */
const PASSWORDS: Readonly<Record<string, (of: (name: string) => string) => string>> = {
  pgsteer_password: makePassword,
  metrics_password: makePassword,
  admin_password: makePassword,
  pgsteer_token: makePassword,
  grafana_password: makePassword,
  pgadmin_password: makePassword,
  pgsteer_userlist: (of) => `"pgsteer" "${of('pgsteer_password')}"\n`,
  patroni_auth: patroniAuth,
}

/** Patroni reads it as its last file of configuration. */
function patroniAuth(): string {
  const roles: readonly (readonly string[])[] = [
    ['superuser', 'postgres'],
    ['replication', 'replicator'],
    ['rewind', 'rewind'],
  ]
  const lines = roles.map(
    ([name, username]) => `    ${name}: {username: ${username}, password: "${makePassword()}"}\n`,
  )
  return `postgresql:\n  authentication:\n${lines.join('')}`
}

/** Whether Docker has a secret of this name, of any epoch. */
type IsKnown = (secret: string) => boolean
const NONE_KNOWN: IsKnown = () => false

/** Refuses to make what is lost. */
function checkUnknown(folder: Folder, isLost: boolean, file: readonly string[]): void {
  if (isLost)
    throw new OperatorError(
      `${folder.file(...file)} is missing, and the cluster in Docker was made with one`,
      'A new one would be trusted by nothing that runs. Use the latest copy of the folder. Where nothing of the cluster is to be kept: `down --secrets`, then `init` with another --dir.',
    )
}

/** The authority of the cluster; made if there never was one. */
async function authorityIn(
  folder: Folder,
  cluster: string,
  { nowMs, isKnown }: { nowMs: number; isKnown: IsKnown },
): Promise<Certified> {
  const [certificate, key] = [folder.read('ca', 'ca.crt'), folder.read('ca', 'ca.key')]
  if (certificate !== undefined && key !== undefined) return { certificate, key }
  if (certificate !== undefined || key !== undefined)
    throw new OperatorError(
      `${folder.file('ca')} has only one of ca.crt and ca.key`,
      'Bring the missing one back from where you keep the CA key, or begin a new authority with `rotate-certs --new-ca`.',
    )
  checkUnknown(folder, isKnown('ca_crt') || folder.list('certificates').length > 0, [
    'ca',
    'ca.key',
  ])
  const made = await makeAuthority(cluster, nowMs)
  folder.write(made.key, 'ca', 'ca.key')
  folder.write(made.certificate, 'ca', 'ca.crt')
  return made
}

/**
 * Makes the certificates of the current epoch that are missing. Those that are there but lack a name are
 * reported, not replaced: a Docker secret cannot change, so that takes an epoch (`rotate-certs`).
 */
export async function makeCertificates(
  folder: Folder,
  settings: Settings,
  {
    nodeNames,
    nowMs,
    isKnown = NONE_KNOWN,
  }: { nodeNames: readonly string[]; nowMs: number; isKnown?: IsKnown },
): Promise<{ made: string[]; lacking: string[] }> {
  const authority = await authorityIn(folder, settings.cluster, { nowMs, isKnown })
  const epoch = ['certificates', String(settings.certEpoch)]
  if (folder.read(...epoch, 'ca.crt') === undefined)
    folder.write(authority.certificate, ...epoch, 'ca.crt')
  const bundle = folder.read(...epoch, 'ca.crt') ?? authority.certificate
  const made: string[] = []
  const lacking: string[] = []
  for (const [name, leaf] of Object.entries(leavesOf(settings, nodeNames))) {
    const present = folder.read(...epoch, `${name}.crt`)
    if (present !== undefined) {
      if (!isIssued(present, leaf, bundle)) lacking.push(name)
      continue
    }
    const { certificate, key } = await issue(authority, leaf, { nowMs, days: settings.certDays })
    folder.write(key, ...epoch, `${name}.key`)
    folder.write(certificate, ...epoch, `${name}.crt`)
    made.push(name)
  }
  return { made, lacking }
}

/** PostgreSQL has these since its first start, and nothing changes them there: another one would be a log-in that fails. */
const OF_ROLES: ReadonlySet<string> = new Set([
  'patroni_auth',
  'pgsteer_password',
  'pgsteer_userlist',
  'metrics_password',
])

/**
 * Makes the passwords of the current epoch that are missing; returns their names. An epoch begins with the
 * passwords of the newest one before it, so that one of them can be changed alone, but for those of roles.
 */
export function makePasswords(
  folder: Folder,
  { authEpoch }: Settings,
  isKnown: IsKnown = NONE_KNOWN,
): string[] {
  const read = (name: string, epoch = authEpoch): string | undefined =>
    folder.read('secrets', String(epoch), name)
  const epochs = folder
    .list('secrets')
    .filter((name) => /^\d+$/.test(name) && Number(name) < authEpoch)
    .map(Number)
    .toSorted((a, b) => b - a)
  const made: string[] = []
  for (const [name, make] of Object.entries(PASSWORDS)) {
    const epoch = epochs.find((one) => read(name, one) !== undefined)
    const earlier = epoch === undefined ? undefined : read(name, epoch)
    const present = read(name)
    if (present !== undefined && OF_ROLES.has(name) && isKnown(name))
      checkEarlier(folder, { name, present, earlier, authEpoch })
    if (present !== undefined) continue
    checkUnknown(folder, earlier === undefined && isKnown(name), [
      'secrets',
      String(authEpoch),
      name,
    ])
    folder.write(earlier ?? make((other) => read(other) ?? ''), 'secrets', String(authEpoch), name)
    if (earlier === undefined) made.push(name)
  }
  return made
}

function checkEarlier(
  folder: Folder,
  {
    name,
    present,
    earlier,
    authEpoch,
  }: { name: string; present: string; earlier: string | undefined; authEpoch: number },
): void {
  if ((earlier ?? present) === present) return
  throw new OperatorError(
    `${folder.file('secrets', String(authEpoch), name)} has another password than the epoch before, and PostgreSQL still has that one`,
    'The passwords of the roles postgres, replicator, rewind, pgsteer and metrics stay what they are while the cluster lives (docs/deploy.md, Security): remove this file, and `up` takes the earlier one.',
  )
}

/** The Docker secrets that the current epochs need, out of the folder. */
export function secretsOf(folder: Folder, settings: Settings): Secret[] {
  const { cluster, certEpoch, authEpoch } = settings
  const one = (secret: string, epoch: number, ...file: readonly string[]): Secret => {
    const text = folder.read(...file)
    if (text === undefined)
      throw new OperatorError(
        `${folder.file(...file)} is missing`,
        'Bring it back from your copy of the folder; `init` makes new ones where nothing is deployed yet.',
      )
    return { name: secretName(cluster, secret, epoch), text }
  }
  const certificates = Object.keys(leavesOf(settings, [])).flatMap((name) =>
    ['crt', 'key'].map((kind) =>
      one(`${name}_${kind}`, certEpoch, 'certificates', String(certEpoch), `${name}.${kind}`),
    ),
  )
  const passwords = Object.keys(PASSWORDS).map((name) =>
    one(name, authEpoch, 'secrets', String(authEpoch), name),
  )
  const authority = one('ca_crt', certEpoch, 'certificates', String(certEpoch), 'ca.crt')
  // Follows from settings and from passphrases that no epoch changes.
  const repository = {
    name: secretName(cluster, 'pgbackrest_secrets', authEpoch),
    text: repositorySecrets(folder, settings),
  }
  return [authority, ...certificates, ...passwords, repository, ...givenSecrets(folder, settings)]
}

/** Files that the operator writes himself: the setting that names the file, and the secret. */
const GIVEN: readonly (readonly [setting: string, secret: string])[] = [
  ['ALERT_RECEIVERS_FILE', 'alert_receivers'],
]

function givenSecrets(folder: Folder, { cluster, authEpoch, env }: Settings): Secret[] {
  return GIVEN.flatMap(([setting, secret]) => {
    const file = env[setting] ?? ''
    if (file === '') return []
    const path = resolve(folder.path, file)
    if (!existsSync(path))
      throw new OperatorError(
        `${setting}: there is no ${path}`,
        'Correct the setting in cluster.env, or write the file; a relative name starts at the folder of the cluster.',
      )
    return [{ name: secretName(cluster, secret, authEpoch), text: readFileSync(path, 'utf8') }]
  })
}

/** Enough of a hash to tell that a text is another, too little to find it. */
const DIGEST_LENGTH = 12

export function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, DIGEST_LENGTH)
}

/** When the certificates of the current epoch end: name, and milliseconds since 1970. */
export function certificateEnds(
  folder: Folder,
  settings: Settings,
): { name: string; endsMs: number }[] {
  const epoch = ['certificates', String(settings.certEpoch)]
  const leaves = folder
    .list(...epoch)
    .filter((name) => name.endsWith('.crt') && name !== 'ca.crt')
    .map((name) => ({
      name: name.slice(0, -'.crt'.length),
      endsMs: endsAtMs(folder.read(...epoch, name) ?? ''),
    }))
  const authorities = certificatesOf(folder.read(...epoch, 'ca.crt') ?? '').map((pem) => ({
    name: 'ca',
    endsMs: endsAtMs(pem),
  }))
  return [...authorities, ...leaves]
}
