/**
 * `init`: looks at the Swarm, chooses nodes, writes the cluster's folder, and makes labels, certificates,
 * passwords and Docker secrets. May be run again at any time: it keeps what is there and adds what lacks.
 */
import { type Context, settingsOf, stackVariables } from './context.ts'
import { checkHosts } from './hosts.ts'
import { nodeProblems, readNodes, type SwarmNode } from './nodes.ts'
import { OperatorError } from './operator.ts'
import {
  entriesOf,
  parseSettings,
  REQUIRED,
  type Settings,
  settingsText,
  withSettings,
} from './settings.ts'
import { makeMissing, putLabels, putSecrets } from './steps.ts'

export interface InitOptions {
  readonly name: string | undefined
  /** KEY=value, as the operator gave them. */
  readonly set: readonly string[]
  /** Ask every node's kernel, by a job of the node image. */
  readonly isChecked: boolean
}

const MEMBERS = 3
const ETCD_MEMBERS = 3

export async function init(context: Context, options: InitOptions): Promise<void> {
  const { docker, output } = context
  const nodes = await readNodes(docker)
  output.step(
    `the Swarm has ${nodes.length} nodes: ${nodes.map(({ hostname }) => hostname).join(', ')}`,
  )
  const settings = writeSettings(context, options, nodes)
  reportNodes(context, nodes, settings)
  await putLabels(context, settings, { nodes, leaving: undefined })
  await makeMissing(context, settings, nodes)
  await putSecrets(context, settings)
  if (options.isChecked) await checkHosts(context, settings, nodes)
  output.step(
    `${context.folder.path} holds the cluster's keys and passwords: keep a copy of it in a safe place.\n` +
      'Next: look at cluster.env, then `up`.',
  )
}

/** Warns, and stops at what would not work. */
export function reportNodes(
  { output }: Context,
  nodes: readonly SwarmNode[],
  settings: Settings,
): void {
  for (const warning of nodeProblems(nodes, settings).warnings) output.warn(warning)
  checkNodes(nodes, settings)
}

/** Errors: OperatorError with what would not work on these nodes. */
export function checkNodes(nodes: readonly SwarmNode[], settings: Settings): void {
  const [first, ...others] = nodeProblems(nodes, settings).errors
  if (first === undefined) return
  throw new OperatorError(
    `the nodes are not ready: ${first}`,
    [...others, 'Then run the command again.'].join('\n'),
  )
}

function writeSettings(
  context: Context,
  options: InitOptions,
  nodes: readonly SwarmNode[],
): Settings {
  const { folder, deploy, output } = context
  const file = folder.file('cluster.env')
  const present = folder.read('cluster.env')
  const given = Object.fromEntries(options.set.map(entryOf))
  const text = present === undefined ? newText(options, nodes, given) : withSettings(present, given)
  checkName(options, text, file)
  // Wrong settings are never written.
  parseSettings(text, stackVariables(deploy), file)
  if (text !== present) {
    folder.write(text, 'cluster.env')
    const did = present === undefined ? 'wrote' : 'changed'
    output.step(context.docker.isDryRun ? `would write ${file}` : `${did} ${file}`)
  }
  return settingsOf(context)
}

function entryOf(text: string): [string, string] {
  const at = text.indexOf('=')
  if (at > 0) return [text.slice(0, at), text.slice(at + 1)]
  throw new OperatorError(`--set ${text} is not KEY=value`, 'For instance: --set PG_MEMORY=8G')
}

function newText(
  { name }: InitOptions,
  nodes: readonly SwarmNode[],
  given: Readonly<Record<string, string>>,
): string {
  const hostnames = nodes
    .filter(({ isReady, isActive }) => isReady && isActive)
    .map(({ hostname }) => hostname)
  const slots = (count: number): string =>
    hostnames
      .slice(0, count)
      .map((hostname, index) => `${index + 1}:${hostname}`)
      .join(',')
  const [first = ''] = hostnames
  const last = hostnames.at(-1) ?? first
  const chosen: Record<string, string> = {
    PG_NODES: slots(MEMBERS),
    ETCD_NODES: slots(hostnames.length < ETCD_MEMBERS ? 1 : ETCD_MEMBERS),
    PGBACKREST_NODE: last,
    MONITORING_NODE: last,
    ...(name === undefined ? {} : { CLUSTER: name }),
    ...given,
  }
  const missing = REQUIRED.filter((key) => (chosen[key] ?? '') === '')
  if (missing.length === 0) return settingsText(chosen)
  throw new OperatorError(
    `${missing.join(', ')} not given`,
    `Run: init NAME ${missing
      .filter((key) => key !== 'CLUSTER')
      .map((key) => `--set ${key}=...`)
      .join(' ')}`.trim(),
  )
}

function checkName({ name }: InitOptions, text: string, file: string): void {
  const present = entriesOf(text)['CLUSTER']
  if (name === undefined || name === present) return
  throw new OperatorError(
    `${file} is of the cluster ${present ?? ''}, not of ${name}`,
    'Use another --dir for another cluster.',
  )
}
