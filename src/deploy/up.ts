/**
 * `render` and `up`: from the folder's settings to running stacks. `up` may be run again at any time, and is
 * how every change of cluster.env gets into the cluster.
 */
import { type Context, settingsOf } from './context.ts'
import { checkEtcdNames } from './etcd.ts'
import { reportNodes } from './init.ts'
import { STACKS, type Stack, stackName } from './names.ts'
import { readNodes, type SwarmNode } from './nodes.ts'
import { OperatorError } from './operator.ts'
import { checkNetworks, type Resolved, resolve } from './resolved.ts'
import { checkFolder, rollOut } from './roll.ts'
import type { Settings } from './settings.ts'
import { changeSettings, makeMissing, prune, putLabels, putSecrets, renderWhole } from './steps.ts'
import { watchedFiles } from './watched.ts'

export interface UpOptions {
  /** Which stacks; none means the database's own, and those that run or have their settings. */
  readonly stacks: readonly string[]
  /** How long to wait for a cluster that is well; 0 does not wait. */
  readonly seconds: number
  /** Members together: for a cluster of which nothing works. */
  readonly isAtOnce?: boolean
  /** What runs was deployed from a later copy of the folder. */
  readonly isTakenOver?: boolean
  /** The node whose slots may go to another one. */
  readonly leaving?: string
}

export async function up(context: Context, options: UpOptions): Promise<void> {
  const { docker, output } = context
  const { seconds, isAtOnce = false, isTakenOver = false, leaving } = options
  const settings = settingsOf(context)
  const stacks = await stacksOf(context, settings, options.stacks)
  if (!isTakenOver) for (const stack of stacks) await checkFolder(context, settings, stack)
  const nodes = await readNodes(docker)
  reportNodes(context, nodes, settings)
  if (stacks.includes('stack')) await checkEtcdNames(context, settings)
  await makeMissing(context, settings, nodes)
  // Whatever can be wrong with files is found before the first change.
  const rendered = await renderStacks(context, settings, { stacks, nodes })
  for (const { next } of rendered) await checkNetworks(context, next)
  await putLabels(context, settings, { nodes, leaving })
  await putSecrets(context, settings)
  for (const { stack, next } of rendered)
    await rollOut(context, settings, { stack, next, nodes, seconds, isAtOnce })
  await prune(context, settings)
  if (!docker.isDryRun && seconds > 0) output.step(welcome(settings, nodes))
}

/** `upgrade`: other images in cluster.env, then as `up` does. */
export async function upgrade(
  context: Context,
  { images, seconds }: { images: Readonly<Record<string, string | undefined>>; seconds: number },
): Promise<void> {
  const given = Object.entries(images).flatMap(([name, image]): [string, string][] =>
    image === undefined ? [] : [[name, image]],
  )
  if (given.length > 0) changeSettings(context, Object.fromEntries(given))
  else context.output.step('no image given: bringing in what cluster.env says')
  await up(context, { stacks: [], seconds })
}

export async function renderOnly(context: Context, names: readonly string[]): Promise<void> {
  const settings = settingsOf(context)
  const nodes = await readNodes(context.docker)
  const stacks = await stacksOf(context, settings, names)
  for (const { file } of await renderStacks(context, settings, { stacks, nodes }))
    context.output.print(file)
}

/** Each stack as Docker reads it. */
async function renderStacks(
  context: Context,
  settings: Settings,
  { stacks, nodes }: { stacks: readonly Stack[]; nodes: readonly SwarmNode[] },
): Promise<{ stack: Stack; file: string; next: Resolved }[]> {
  const generated = watchedFiles(context.folder, settings, nodes)
  const rendered = stacks.map((stack) => renderWhole(context, settings, stack, generated))
  const found: { stack: Stack; file: string; next: Resolved }[] = []
  for (const [index, stack] of stacks.entries()) {
    const one = rendered[index]
    if (one !== undefined) found.push({ stack, file: one.file, next: await resolve(context, one) })
  }
  return found
}

/** Those that are named; else the database, what runs already, and monitoring where somebody is told of alerts. */
async function stacksOf(
  { docker, output }: Context,
  { cluster, env }: Settings,
  names: readonly string[],
): Promise<Stack[]> {
  const unknown = names.find((name) => !STACKS.some((stack) => stack === name))
  if (unknown !== undefined)
    throw new OperatorError(`there is no stack ${unknown}`, `There are ${STACKS.join(', ')}.`)
  if (names.length > 0) return STACKS.filter((stack) => names.includes(stack))
  const running = await docker.lines(['stack', 'ls', '--format', '{{.Name}}'])
  const hasReceivers = (env['ALERT_RECEIVERS_FILE'] ?? '') !== ''
  if (!hasReceivers)
    output.warn(
      'nobody is told of a failure: set ALERT_RECEIVERS_FILE in cluster.env (deploy/alertmanager/receivers.example.yml shows one) and run `up monitoring`',
    )
  return STACKS.filter(
    (stack) =>
      stack === 'stack' ||
      running.includes(stackName(cluster, stack)) ||
      (stack === 'monitoring' && hasReceivers),
  )
}

function welcome({ cluster, env, authEpoch }: Settings, nodes: readonly SwarmNode[]): string {
  const hosts = nodes.map(({ address }) => address).join(',')
  const port = env['PGSTEER_PORT'] ?? ''
  return [
    `${cluster} is up.`,
    `  psql "host=${hosts} port=${port} user=admin dbname=postgres sslmode=verify-full sslrootcert=ca/ca.crt"`,
    `  The password of admin is in secrets/${authEpoch}/admin_password, in the cluster's folder.`,
  ].join('\n')
}
