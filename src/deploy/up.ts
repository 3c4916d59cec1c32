/**
 * `render` and `up`: from the folder's settings to running stacks. `up` may be run again at any time, and is
 * how every change of cluster.env gets into the cluster.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type Context, settingsOf } from './context.ts'
import { reportNodes } from './init.ts'
import { STACKS, type Stack } from './names.ts'
import { readNodes, type SwarmNode } from './nodes.ts'
import { OperatorError } from './operator.ts'
import { rollOut } from './roll.ts'
import type { Settings } from './settings.ts'
import {
  changeSettings,
  deployStack,
  makeMissing,
  prune,
  putLabels,
  putSecrets,
  renderWhole,
} from './steps.ts'
import { watchedFiles } from './watched.ts'

export interface UpOptions {
  /** Which stacks; none means the database's own and, where its settings are there, monitoring. */
  readonly stacks: readonly string[]
  /** How long to wait for a cluster that is well; 0 does not wait. */
  readonly seconds: number
}

export async function up(context: Context, options: UpOptions): Promise<void> {
  const { docker, output } = context
  const settings = settingsOf(context)
  const stacks = stacksOf(context, settings, options.stacks)
  const nodes = await readNodes(docker)
  reportNodes(context, nodes, settings)
  await makeMissing(context, settings, nodes)
  // Whatever can be wrong with files is found before the first change.
  const rendered = renderStacks(context, settings, { stacks, nodes })
  await putLabels(context, settings, nodes)
  await putSecrets(context, settings)
  for (const one of rendered) {
    if (one.stack === 'stack')
      await rollOut(context, settings, { rendered: one.rendered, nodes, seconds: options.seconds })
    else await deployStack(context, settings, one)
  }
  await prune(context, settings)
  if (!docker.isDryRun && options.seconds > 0) output.step(welcome(settings, nodes))
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
  const rendered = renderStacks(context, settings, {
    stacks: stacksOf(context, settings, names),
    nodes,
  })
  for (const { rendered: one } of rendered) {
    await context.docker.read(['stack', 'config', '--compose-file', one.file], { env: one.env })
    context.output.print(one.file)
  }
}

function renderStacks(
  context: Context,
  settings: Settings,
  { stacks, nodes }: { stacks: readonly Stack[]; nodes: readonly SwarmNode[] },
) {
  const generated = watchedFiles(context.folder, settings, nodes)
  return stacks.map((stack) => ({
    stack,
    rendered: renderWhole(context, settings, stack, generated),
  }))
}

function stacksOf(
  { deploy, output }: Context,
  { env }: Settings,
  names: readonly string[],
): Stack[] {
  const unknown = names.find((name) => !STACKS.some((stack) => stack === name))
  if (unknown !== undefined)
    throw new OperatorError(`there is no stack ${unknown}`, `There are ${STACKS.join(', ')}.`)
  if (names.length > 0) return STACKS.filter((stack) => names.includes(stack))
  const hasMonitoring = existsSync(join(deploy, 'monitoring.yml'))
  if (hasMonitoring && (env['ALERT_RECEIVERS_FILE'] ?? '') === '') {
    output.warn(
      'nobody is told of a failure: set ALERT_RECEIVERS_FILE in cluster.env (deploy/alertmanager/receivers.example.yml shows one) and run `up monitoring`',
    )
    return ['stack']
  }
  return hasMonitoring ? ['stack', 'monitoring'] : ['stack']
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
