/**
 * Steps that several commands share: making what the folder lacks, bringing secrets to Docker, and
 * taking away what no service uses any more. Each does nothing where nothing is to do.
 */
import { type Context, stackVariables } from './context.ts'
import { arrayOf, isRecord, pick, textOf } from './json.ts'
import { CLUSTER_LABEL, DIGEST_LABEL, NETWORKS, networkName, type Stack } from './names.ts'
import { checkLabels, labelCommands, namesOfNodes, type SwarmNode } from './nodes.ts'
import { OperatorError } from './operator.ts'
import { type Rendered, render } from './render.ts'
import { digestOf, makeCertificates, makePasswords, type Secret, secretsOf } from './secrets.ts'
import { parseSettings, type Settings, withSettings } from './settings.ts'

/**
 * Certificates and passwords of the current epochs, where the folder lacks them. What Docker has a generation
 * of is not made anew: the folder has lost it, and the cluster would not know the new one.
 */
export async function makeMissing(
  context: Context,
  settings: Settings,
  nodes: readonly SwarmNode[],
): Promise<void> {
  const { folder, clock, output } = context
  const present = [...(await presentSecrets(context, settings.cluster)).keys()]
  const isKnown = (secret: string): boolean =>
    present.some((name) => name.replace(/_\d+$/, '') === `${settings.cluster}_${secret}`)
  const { made, lacking } = await makeCertificates(folder, settings, {
    nodeNames: namesOfNodes(nodes),
    nowMs: clock.wallMs(),
    isKnown,
  })
  if (made.length > 0)
    output.step(`made ${made.length} certificates, valid for ${settings.certDays} days`)
  if (lacking.length > 0)
    output.warn(
      `certificates without a name that they need now: ${lacking.join(', ')}. Make new ones by \`rotate-certs\`.`,
    )
  const passwords = makePasswords(folder, settings, isKnown)
  if (passwords.length > 0)
    output.step(`made ${passwords.length} passwords: ${passwords.join(', ')}`)
}

/** Labels of nodes as the settings say. `leaving`: the node whose slots may go to another one. */
export async function putLabels(
  { docker, folder, output }: Context,
  settings: Settings,
  { nodes, leaving }: { nodes: readonly SwarmNode[]; leaving: string | undefined },
): Promise<void> {
  const running = await docker.lines(['stack', 'ls', '--format', '{{.Name}}'])
  // Before the first `up` there is no data yet.
  const isEmpty = !running.includes(settings.cluster) && folder.list('deployed').length === 0
  checkLabels(
    nodes,
    settings,
    ({ id, hostname }) => isEmpty || id === leaving || hostname === leaving,
  )
  for (const command of labelCommands(nodes, settings)) {
    const hostname = nodes.find(({ id }) => id === command.at(-1))?.hostname ?? ''
    output.step(`labels of ${hostname}: ${command.slice(2, -1).join(' ')}`)
    await docker.change(command)
  }
}

/**
 * Makes the Docker secrets that are missing. One that is there with another content is an error, since
 * secrets cannot change and services may use it.
 */
export async function putSecrets(context: Context, settings: Settings): Promise<void> {
  const { folder, output } = context
  const present = await presentSecrets(context, settings.cluster)
  checkPassphrases(folder, present)
  const wanted = secretsOf(folder, settings)
  const changed = wanted.filter(({ name, text }) => {
    const digest = digestOf(text)
    return (present.get(name)?.[DIGEST_LABEL] ?? digest) !== digest
  })
  if (changed.length > 0)
    throw new OperatorError(
      `these secrets have another content in Docker than in ${folder.path}: ${changed.map(({ name }) => name).join(', ')}`,
      'If this is an old copy of the folder, use the latest one. If you changed what they are made of (keys of a repository, receivers of alerts, a token), count AUTH_EPOCH in cluster.env up, or CERT_EPOCH for certificates, and run `up` again.',
    )
  const missing = wanted.filter(({ name }) => !present.has(name))
  if (missing.length > 0) output.step(`making ${missing.length} Docker secrets`)
  for (const secret of missing) await createSecret(context, settings.cluster, secret)
}

/** On the secret that has them: a digest of each passphrase of the backups. */
const PASSPHRASE_LABEL = 'pgsteer.passphrase'

/** Without its passphrase no backup can be read: one that Docker knows is neither lost nor replaced. */
function checkPassphrases(folder: Context['folder'], present: Present): void {
  for (const [secret, labels] of present)
    for (const [label, digest] of Object.entries(labels)) {
      if (!label.startsWith(`${PASSPHRASE_LABEL}.`)) continue
      const number = label.slice(PASSPHRASE_LABEL.length + 1)
      const names = ['secrets', `backup_passphrase_${number}`]
      const text = folder.read(...names)
      if (text !== undefined && digestOf(text.trim()) === digest) continue
      throw new OperatorError(
        `${folder.file(...names)} is ${text === undefined ? 'missing' : 'not the one that backups were made with'}: with another passphrase none of them can be read`,
        `Bring it back from your latest copy of the folder. If there is none: the secret ${secret} has it, and a service that uses it shows it as repo${number}-cipher-pass (on the node of the repository: docker exec CONTAINER cat /etc/pgbackrest/conf.d/90-secrets.conf). Write it into that file.`,
      )
    }
}

async function createSecret(
  { docker, folder }: Pick<Context, 'docker' | 'folder'>,
  cluster: string,
  { name, text }: Secret,
): Promise<void> {
  const labels = [`${CLUSTER_LABEL}=${cluster}`, `${DIGEST_LABEL}=${digestOf(text)}`]
  if (isOfBackups(name)) labels.push(...passphraseLabels(folder))
  await docker.change(
    ['secret', 'create', ...labels.flatMap((label) => ['--label', label]), name, '-'],
    { input: text },
  )
}

const isOfBackups = (secret: string): boolean => /_pgbackrest_secrets_\d+$/.test(secret)

function passphraseLabels(folder: Context['folder']): string[] {
  return folder.list('secrets').flatMap((file) => {
    const number = /^backup_passphrase_(\d+)$/.exec(file)?.[1]
    if (number === undefined) return []
    const digest = digestOf(folder.read('secrets', file)?.trim() ?? '')
    return [`${PASSPHRASE_LABEL}.${number}=${digest}`]
  })
}

/** Labels by name. */
type Present = ReadonlyMap<string, Readonly<Record<string, string>>>

/** The cluster's secrets in Docker, and their labels. */
export async function presentSecrets(
  { docker }: Pick<Context, 'docker'>,
  cluster: string,
): Promise<Present> {
  const ids = await docker.lines([
    'secret',
    'ls',
    '-q',
    '--filter',
    `label=${CLUSTER_LABEL}=${cluster}`,
  ])
  if (ids.length === 0) return new Map()
  const inspected = await docker.inspect(['secret', 'inspect', ...ids])
  return new Map(
    inspected.map((secret) => {
      const labels = pick(secret, 'Spec', 'Labels')
      const texts = Object.entries(isRecord(labels) ? labels : {}).map(([key, value]) => [
        key,
        textOf(value),
      ])
      return [textOf(pick(secret, 'Spec', 'Name')), Object.fromEntries(texts)]
    }),
  )
}

/** The stack's files, rendered; an error names each variable that has no value. */
export function renderWhole(
  context: Context,
  settings: Settings,
  stack: Stack,
  generated: Readonly<Record<string, string>> = {},
): Rendered {
  const rendered = render(context, settings, stack, generated)
  const [first] = rendered.missing
  if (first === undefined) return rendered
  throw new OperatorError(
    `${context.folder.file('cluster.env')}: ${rendered.missing.join(', ')} not set, but ${stack}.yml needs ${rendered.missing.length === 1 ? 'it' : 'them'}`,
    `Add ${first}=... to the file; deploy/${stack}.yml says what it means.`,
  )
}

/**
 * Takes away secrets and configs that no service uses: of older epochs, older contents, removed members. Not
 * those with a passphrase of backups: who has lost it finds it there.
 */
export async function prune(
  { docker, folder, output }: Context,
  settings: Settings,
): Promise<void> {
  const used = await usedNames({ docker }, settings.cluster)
  const secrets = [...(await presentSecrets({ docker }, settings.cluster)).keys()]
  const wanted = new Set(secretsOf(folder, settings).map(({ name }) => name))
  const oldSecrets = secrets.filter(
    (name) => !used.has(name) && !wanted.has(name) && !isOfBackups(name),
  )
  const configs = await docker.lines([
    'config',
    'ls',
    '--format',
    '{{.Name}}',
    '--filter',
    `name=${settings.cluster}_`,
  ])
  const oldConfigs = configs.filter(
    (name) => !used.has(name) && name.startsWith(`${settings.cluster}_`),
  )
  for (const [kind, names] of [
    ['secret', oldSecrets],
    ['config', oldConfigs],
  ] as const) {
    if (names.length === 0) continue
    output.step(`removing ${names.length} unused ${kind}s`)
    await docker.change([kind, 'rm', ...names])
  }
}

/** Names of secrets and configs that the cluster's services have, or would go back to. */
async function usedNames(
  { docker }: Pick<Context, 'docker'>,
  cluster: string,
): Promise<Set<string>> {
  const ids = await docker.lines(['service', 'ls', '-q', '--filter', `name=${cluster}`])
  if (ids.length === 0) return new Set()
  const services = await docker.inspect(['service', 'inspect', ...ids])
  const names = services.flatMap((service) =>
    ['Spec', 'PreviousSpec'].flatMap((spec) => {
      const of = (kind: string, name: string): string[] =>
        arrayOf(pick(service, spec, 'TaskTemplate', 'ContainerSpec', kind)).map((one) =>
          textOf(pick(one, name)),
        )
      return of('Secrets', 'SecretName').concat(of('Configs', 'ConfigName'))
    }),
  )
  return new Set(names)
}

/** The cluster's networks that exist. */
export async function networksOf(
  { docker }: Pick<Context, 'docker'>,
  cluster: string,
): Promise<string[]> {
  // Not filtered by Docker: one of 20.10 then leaves out networks that the manager's own node takes no part in.
  const names = await docker.lines(['network', 'ls', '--format', '{{.Name}}'])
  const ours = new Set(NETWORKS.map((network) => networkName(cluster, network)))
  return names.filter((name) => ours.has(name))
}

/** The settings that these values would make. Errors: OperatorError for wrong ones. */
export function settingsWith(
  { folder, deploy }: Context,
  values: Readonly<Record<string, string>>,
): Settings {
  const text = withSettings(folder.read('cluster.env') ?? '', values)
  return parseSettings(text, stackVariables(deploy), folder.file('cluster.env'))
}

/** Changes values of cluster.env, and answers the settings that they make; wrong ones are not written. */
export function changeSettings(
  context: Context,
  values: Readonly<Record<string, string>>,
): Settings {
  const { folder } = context
  const settings = settingsWith(context, values)
  folder.write(withSettings(folder.read('cluster.env') ?? '', values), 'cluster.env')
  for (const [name, value] of Object.entries(values))
    context.output.step(`cluster.env: ${name}=${value}`)
  return settings
}
