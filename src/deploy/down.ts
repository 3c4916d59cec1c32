/**
 * `down`: takes the cluster away. Services and networks always; volumes and secrets only when they are asked
 * for by name of the cluster, since nothing brings them back.
 */
import { type Context, settingsOf } from './context.ts'
import { CLUSTER_LABEL, NODE_LABELS, STACKS, stackName } from './names.ts'
import { readNodes } from './nodes.ts'
import { OperatorError } from './operator.ts'
import type { Settings } from './settings.ts'
import { changeSettings, networksOf, presentSecrets } from './steps.ts'
import { untilNothingLacks } from './until.ts'
import { removeVolumes, volumesOf } from './volumes.ts'

export interface DownOptions {
  readonly hasVolumes: boolean
  readonly hasSecrets: boolean
  /** The cluster's name once more, asked for where something cannot be brought back. */
  readonly confirmation: string | undefined
}

const GONE_MS_MAX = 300_000

export async function down(context: Context, options: DownOptions): Promise<void> {
  const { docker, output } = context
  const settings = settingsOf(context)
  const { cluster } = settings
  if ((options.hasVolumes || options.hasSecrets) && options.confirmation !== cluster)
    throw new OperatorError(
      'data or keys would be gone for good',
      `Say it by --yes-remove=${cluster}. Backups in the repository's volume go with the volumes.`,
    )
  const volumes = options.hasVolumes ? volumesOf(context, settings) : []
  if (options.hasVolumes && volumes.length === 0)
    throw new OperatorError(
      `${context.folder.file('rendered', 'stack.yml')} is missing, so it is not known which volumes there are`,
      'Run `render` first, which writes it.',
    )
  const present = new Set(await docker.lines(['stack', 'ls', '--format', '{{.Name}}']))
  const stacks = STACKS.map((stack) => stackName(cluster, stack))
    .filter((name) => present.has(name))
    .toReversed()
  await removeJobs(context, cluster)
  for (const name of stacks) {
    output.step(`removing ${name}`)
    await docker.change(['stack', 'rm', name])
  }
  await waitUntilGone(context, cluster)
  const keeping = volumes.length > 0 ? await removeVolumes(context, settings, { volumes }) : []
  if (options.hasSecrets) await removeSecrets(context, cluster)
  await removeConfigs(context, cluster)
  if (options.hasVolumes) {
    await removeLabels(context, cluster)
    forgetEtcd(context, settings)
  }
  output.step(leftOver(settings, options, keeping))
}

/** A job that a broken connection left behind holds the networks. */
async function removeJobs({ docker, output }: Context, cluster: string): Promise<void> {
  const names = await docker.lines([
    'service',
    'ls',
    '--filter',
    `label=${CLUSTER_LABEL}=${cluster}`,
    '--format',
    '{{.Name}}',
  ])
  if (names.length === 0) return
  output.step(`removing jobs: ${names.join(', ')}`)
  await docker.change(['service', 'rm', ...names])
}

/** Services end, then networks go; until then neither another `up` nor the removal of volumes works. */
async function waitUntilGone(context: Context, cluster: string): Promise<void> {
  const { docker, output } = context
  let told = ''
  await untilNothingLacks(context, GONE_MS_MAX, async () => {
    const label = `label=com.docker.stack.namespace=${cluster}`
    const services = await docker.lines([
      'service',
      'ls',
      '--filter',
      label,
      '--format',
      '{{.Name}}',
    ])
    const networks = await networksOf(context, cluster)
    const left = [...services, ...networks]
    if (left.length === 0) return undefined
    const text = `waiting for ${left.length} services and networks to go`
    if (text !== told) output.step(text)
    told = text
    // `docker stack rm` leaves a network that somebody had for a moment longer.
    if (services.length === 0)
      for (const name of networks) await docker.tryChange(['network', 'rm', name])
    return new OperatorError(
      `these are still there: ${left.join(', ')}`,
      'A container outside of the cluster may use a network: `docker network inspect` names it. Run `down` again.',
    )
  })
}

async function removeSecrets(context: Context, cluster: string): Promise<void> {
  const names = [...(await presentSecrets(context, cluster)).keys()]
  if (names.length === 0) return
  context.output.step(`removing ${names.length} secrets`)
  await context.docker.change(['secret', 'rm', ...names])
}

async function removeConfigs({ docker, output }: Context, cluster: string): Promise<void> {
  const found = await docker.lines([
    'config',
    'ls',
    '--filter',
    `name=${cluster}_`,
    '--format',
    '{{.Name}}',
  ])
  const names = found.filter((name) => name.startsWith(`${cluster}_`))
  if (names.length === 0) return
  output.step(`removing ${names.length} configs`)
  await docker.change(['config', 'rm', ...names])
}

/** Not those of another cluster. */
async function removeLabels({ docker, output }: Context, cluster: string): Promise<void> {
  const ours: readonly string[] = Object.values(NODE_LABELS)
  for (const { id, hostname, labels } of await readNodes(docker)) {
    if ((labels[NODE_LABELS.cluster] ?? cluster) !== cluster) continue
    const present = Object.keys(labels).filter((label) => ours.includes(label))
    if (present.length === 0) continue
    output.step(`removing labels of ${hostname}`)
    await docker.change([
      'node',
      'update',
      ...present.flatMap((label) => ['--label-rm', label]),
      id,
    ])
  }
}

/** With its data gone, etcd begins anew: no member joins those of before. */
function forgetEtcd(context: Context, { env }: Settings): void {
  const joined = Object.keys(env).filter((name) => /^ETCD\d+_STATE$/.test(name))
  if (joined.length > 0)
    changeSettings(context, Object.fromEntries(joined.map((name) => [name, 'new'])))
}

/** `keeping`: nodes that were down, so that nothing on them could be removed. */
function leftOver(
  { cluster }: Settings,
  { hasVolumes, hasSecrets }: DownOptions,
  keeping: readonly string[],
): string {
  const left = [
    ...(hasVolumes ? [] : ['the volumes with all data (--volumes)']),
    ...(keeping.length === 0 ? [] : [`the volumes on ${keeping.join(', ')}, which did not answer`]),
    ...(hasSecrets ? [] : [`the secrets (label ${CLUSTER_LABEL}=${cluster}; --secrets)`]),
  ]
  if (left.length === 0)
    return `${cluster} is gone. The folder with its keys is still there: it is yours to remove.`
  const kept = `${cluster} does not run any more. Left are ${left.join(' and ')}`
  return hasVolumes ? `${kept}.` : `${kept}; \`up\` starts it again with them.`
}
