/**
 * Steps that several commands share: making what the folder lacks, bringing secrets to Docker, deploying a
 * stack, and taking away what no service uses any more. Each does nothing where nothing is to do.
 */
import { type Context, settingsOf } from './context.ts'
import { arrayOf, pick, textOf } from './docker.ts'
import { CLUSTER_LABEL, DIGEST_LABEL, type Stack, stackName } from './names.ts'
import { labelCommands, namesOfNodes, type SwarmNode } from './nodes.ts'
import { OperatorError } from './operator.ts'
import { type Rendered, render } from './render.ts'
import { digestOf, makeCertificates, makePasswords, type Secret, secretsOf } from './secrets.ts'
import { type Settings, withSettings } from './settings.ts'

/** Certificates and passwords of the current epochs, where the folder lacks them. */
export async function makeMissing(
  { folder, clock, output }: Context,
  settings: Settings,
  nodes: readonly SwarmNode[],
): Promise<void> {
  const nodeNames = namesOfNodes(nodes)
  const { made, lacking } = await makeCertificates(folder, settings, {
    nodeNames,
    nowMs: clock.wallMs(),
  })
  if (made.length > 0)
    output.step(`made ${made.length} certificates, valid for ${settings.certDays} days`)
  if (lacking.length > 0)
    output.warn(
      `certificates without a name that they need now: ${lacking.join(', ')}. Make new ones by \`rotate-certs\`.`,
    )
  const passwords = makePasswords(folder, settings)
  if (passwords.length > 0)
    output.step(`made ${passwords.length} passwords: ${passwords.join(', ')}`)
}

/** Labels of nodes as the settings say. */
export async function putLabels(
  { docker, output }: Context,
  settings: Settings,
  nodes: readonly SwarmNode[],
): Promise<void> {
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
export async function putSecrets(
  { docker, folder, output }: Context,
  settings: Settings,
): Promise<void> {
  const wanted = secretsOf(folder, settings)
  const present = await presentSecrets({ docker }, settings.cluster)
  const changed = wanted.filter(
    ({ name, text }) => (present.get(name) ?? digestOf(text)) !== digestOf(text),
  )
  if (changed.length > 0)
    throw new OperatorError(
      `these secrets have another content in Docker than in ${folder.path}: ${changed.map(({ name }) => name).join(', ')}`,
      'If the folder is right, count CERT_EPOCH or AUTH_EPOCH in cluster.env up and run `up` again. If it is an old copy of the folder, use the right one.',
    )
  const missing = wanted.filter(({ name }) => !present.has(name))
  if (missing.length > 0) output.step(`making ${missing.length} Docker secrets`)
  for (const secret of missing) await createSecret({ docker }, settings.cluster, secret)
}

async function createSecret(
  { docker }: Pick<Context, 'docker'>,
  cluster: string,
  { name, text }: Secret,
): Promise<void> {
  const labels = [`${CLUSTER_LABEL}=${cluster}`, `${DIGEST_LABEL}=${digestOf(text)}`]
  await docker.change(
    ['secret', 'create', ...labels.flatMap((label) => ['--label', label]), name, '-'],
    { input: text },
  )
}

/** Names of the cluster's secrets in Docker, and the digests in their labels. */
export async function presentSecrets(
  { docker }: Pick<Context, 'docker'>,
  cluster: string,
): Promise<Map<string, string>> {
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
    inspected.map((secret) => [
      textOf(pick(secret, 'Spec', 'Name')),
      textOf(pick(secret, 'Spec', 'Labels', DIGEST_LABEL)),
    ]),
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

/** `docker stack deploy` of what was rendered. */
export async function deployStack(
  { docker, output }: Context,
  settings: Settings,
  { stack, rendered }: { stack: Stack; rendered: Rendered },
): Promise<void> {
  const name = stackName(settings.cluster, stack)
  output.step(`deploying ${name}`)
  const args = [
    'stack',
    'deploy',
    '--detach=true',
    '--prune',
    '--compose-file',
    rendered.file,
    ...(settings.isLocalImages ? ['--resolve-image', 'never'] : ['--with-registry-auth']),
    name,
  ]
  await docker.change(args, { env: rendered.env })
}

/** Takes away secrets and configs that no service uses: of older epochs, older contents, removed members. */
export async function prune(
  { docker, folder, output }: Context,
  settings: Settings,
): Promise<void> {
  const used = await usedNames({ docker }, settings.cluster)
  const secrets = [...(await presentSecrets({ docker }, settings.cluster)).keys()]
  const wanted = new Set(secretsOf(folder, settings).map(({ name }) => name))
  const oldSecrets = secrets.filter((name) => !used.has(name) && !wanted.has(name))
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
  const names = await docker.lines([
    'network',
    'ls',
    '--filter',
    `name=${cluster}`,
    '--format',
    '{{.Name}}',
  ])
  return names.filter((name) => name.startsWith(`${cluster}-`) || name.startsWith(`${cluster}_`))
}

/** Changes values of cluster.env, and answers the settings that they make. */
export function changeSettings(
  context: Context,
  values: Readonly<Record<string, string>>,
): Settings {
  const { folder } = context
  folder.write(withSettings(folder.read('cluster.env') ?? '', values), 'cluster.env')
  for (const [name, value] of Object.entries(values))
    context.output.step(`cluster.env: ${name}=${value}`)
  return settingsOf(context)
}
