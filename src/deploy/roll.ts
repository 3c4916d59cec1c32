/**
 * Brings a changed stack into a running cluster without ever taking two members at once: `docker stack deploy`
 * would restart them all together, since each is a service of its own. So the stack is deployed in waves, each
 * with the services that may change by then as they shall be and the others as they are: etcd's members one by
 * one, replicas one by one, the old primary after a switchover, then all the rest.
 */
import { wait } from '../base/clock.ts'
import type { Context } from './context.ts'
import { arrayOf, isRecord, pick, textOf } from './docker.ts'
import { leaderOf, readFacts } from './facts.ts'
import { serviceName, stackName } from './names.ts'
import type { SwarmNode } from './nodes.ts'
import { OperatorError } from './operator.ts'
import { waitForCluster } from './ready.ts'
import type { Rendered } from './render.ts'
import type { Settings } from './settings.ts'
import { switchFrom } from './switchover.ts'
import { readYaml, writeYaml } from './yaml.ts'

type Tree = Record<string, unknown>
/** A stack file with every variable filled in. */
interface Resolved {
  readonly services: Tree
  readonly rest: Tree
}

export interface Rollout {
  readonly rendered: Rendered
  readonly nodes: readonly SwarmNode[]
  /** For each wave. */
  readonly seconds: number
}

const POLL_MS = 500
const PROXY = 'pgsteer'
const DEPLOYED = ['deployed', 'stack.yml'] as const

/** Deploys the cluster's own stack, in waves where it runs already; waits until each wave is well. */
export async function rollOut(
  context: Context,
  settings: Settings,
  rollout: Rollout,
): Promise<void> {
  const next = await resolve(context, rollout.rendered)
  const last = await lastDeployed(context, settings)
  if (last === undefined) {
    await deploy(context, settings, next)
    await settle(context, settings, rollout)
    return
  }
  const changed = changedServices(last, next)
  const careful = changed.filter(
    (name) => /^(etcd|patroni)\d+$/.test(name) && last.services[name] !== undefined,
  )
  if (careful.length > 0) await rollMembers(context, settings, { ...rollout, last, next, careful })
  const isProxyChanged = changed.includes(PROXY) && last.services[PROXY] !== undefined
  const before = isProxyChanged ? await runningOf(context, settings, PROXY) : undefined
  await deploy(context, settings, next)
  if (before !== undefined)
    await waitForUpdate(context, settings, { before, seconds: rollout.seconds })
  await settle(context, settings, rollout)
}

/** Services that are not in both as the same. */
function changedServices(last: Resolved, next: Resolved): string[] {
  const names = new Set([...Object.keys(last.services), ...Object.keys(next.services)])
  return [...names].filter((name) => meaningOf(last, name) !== meaningOf(next, name))
}

/** A service with its secrets and configs by their names in Docker: the keys in the file say nothing. */
function meaningOf({ services, rest }: Resolved, name: string): string {
  const service = services[name]
  if (!isRecord(service)) return ''
  const meant = { ...service }
  for (const kind of KINDS) {
    meant[kind] = arrayOf(service[kind]).map((use) => {
      const key = String(pick(use, 'source'))
      const target = pick(use, 'target') ?? key
      return Object.assign({}, use, { target, source: pick(rest, kind, key, 'name') })
    })
  }
  return JSON.stringify(meant, sortedKeys)
}

/** For JSON.stringify: an object's order of keys says nothing either. */
function sortedKeys(_: string, value: unknown): unknown {
  return isRecord(value)
    ? Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1)))
    : value
}

const KINDS = ['configs', 'secrets'] as const

interface Rolling extends Rollout {
  readonly last: Resolved
  readonly next: Resolved
  /** Members of etcd and of PostgreSQL that exist and change. */
  readonly careful: readonly string[]
}

async function rollMembers(context: Context, settings: Settings, rolling: Rolling): Promise<void> {
  const { careful } = rolling
  const done: string[] = []
  const wave = async (name: string): Promise<void> => {
    if (rolling.next.services[name] === undefined) return
    context.output.step(`changing ${name}`)
    done.push(name, name.replace('patroni', 'agent'))
    const before = await runningOf(context, settings, name)
    await deploy(context, settings, merged(rolling, done))
    await waitForTask(context, settings, { name, before, seconds: rolling.seconds })
    await settle(context, settings, rolling)
  }
  for (const name of careful.filter((one) => one.startsWith('etcd'))) await wave(name)
  const members = careful.filter((one) => one.startsWith('patroni'))
  const leader =
    members.length === 0 ? undefined : leaderOf(await readFacts(context, settings))?.name
  for (const name of members.filter((one) => one !== leader)) await wave(name)
  if (leader === undefined || !members.includes(leader)) return
  const facts = await readFacts(context, settings)
  // A switchover may have happened meanwhile; and a single member has nobody to hand over to.
  if (leaderOf(facts)?.name === leader && facts.members.length > 1)
    await switchFrom(context, settings, { facts, candidate: undefined })
  await settle(context, settings, rolling)
  await wave(leader)
}

/** What a service runs: how its tasks are made, and which of them shall run. */
interface Running {
  readonly template: string
  readonly tasks: ReadonlySet<string>
  /** Of the last update, as Docker tells it. */
  readonly update: unknown
}

async function runningOf(
  { docker }: Context,
  { cluster }: Settings,
  service: string,
): Promise<Running> {
  const name = serviceName(cluster, service)
  const [found] = await docker.inspect(['service', 'inspect', name])
  const ids = await docker.lines([
    'service',
    'ps',
    '-q',
    '--no-trunc',
    '--filter',
    'desired-state=running',
    name,
  ])
  return {
    template: JSON.stringify(pick(found, 'Spec', 'TaskTemplate')),
    tasks: new Set(ids),
    update: pick(found, 'UpdateStatus'),
  }
}

/** Docker begins an update some time after it took it: until then all looks well, with the old task. */
async function waitForTask(
  context: Context,
  settings: Settings,
  { name, before, seconds }: { name: string; before: Running; seconds: number },
): Promise<void> {
  const { docker, clock } = context
  if (docker.isDryRun || seconds === 0) return
  const until = clock.nowMs() + seconds * 1000
  for (;;) {
    const { template, tasks } = await runningOf(context, settings, name)
    if (template === before.template) return
    const made = [...tasks].filter((id) => !before.tasks.has(id))
    const states =
      made.length === 0 ? [] : await docker.inspect(['inspect', '--type', 'task', ...made])
    if (states.some((task) => pick(task, 'Status', 'State') === 'running')) return
    if (clock.nowMs() > until)
      throw new OperatorError(
        `${name} did not start anew within ${seconds} s`,
        `See \`docker service ps ${serviceName(settings.cluster, name)}\`, mend what it names, and run the command again.`,
      )
    await wait(clock, POLL_MS)
  }
}

/** pgsteer goes node by node, as its update_config says, and back by itself if a task does not get well. */
async function waitForUpdate(
  context: Context,
  settings: Settings,
  { before, seconds }: { before: Running; seconds: number },
): Promise<void> {
  const { docker, clock, output } = context
  if (docker.isDryRun || seconds === 0) return
  output.step(`changing ${PROXY}, node by node`)
  const until = clock.nowMs() + seconds * 1000
  for (;;) {
    const { template, update } = await runningOf(context, settings, PROXY)
    const state = textOf(pick(update, 'State'))
    const isBegun = pick(update, 'StartedAt') !== pick(before.update, 'StartedAt')
    if (template === before.template || (isBegun && state === 'completed')) return
    if (isBegun && state !== 'updating')
      throw new OperatorError(
        `${PROXY} was not changed: ${textOf(pick(update, 'Message'))} (${state})`,
        `See \`docker service logs ${serviceName(settings.cluster, PROXY)}\`; correct the image or the settings, and run the command again.`,
      )
    if (clock.nowMs() > until)
      throw new OperatorError(
        `${PROXY} is not changed on every node after ${seconds} s`,
        'It goes on by itself. Wait longer with --wait=SECONDS.',
      )
    await wait(clock, POLL_MS)
  }
}

/** As it is, but for the services of `done` and for new ones. What only the old ones use is in Docker already. */
function merged({ last, next }: Pick<Rolling, 'last' | 'next'>, done: readonly string[]): Resolved {
  const services = Object.entries({ ...next.services, ...last.services }).map(
    ([name, service]): [string, unknown] => [
      name,
      done.includes(name) ? (next.services[name] ?? service) : service,
    ],
  )
  const rest: Tree = { ...next.rest }
  for (const kind of KINDS) {
    // Both may have another name in Docker under the same key, so the old ones get a key of their own.
    rest[kind] = { ...treeOf(next.rest[kind]), ...keyed(external(treeOf(last.rest[kind]))) }
  }
  for (const kind of ['volumes', 'networks'])
    rest[kind] = { ...treeOf(last.rest[kind]), ...treeOf(next.rest[kind]) }
  return {
    services: Object.fromEntries(
      services.map(([name, service]) => [
        name,
        done.includes(name) ? service : withOldKeys(service),
      ]),
    ),
    rest,
  }
}

const OLD = 'old_'

function keyed(entries: Tree): Tree {
  return Object.fromEntries(Object.entries(entries).map(([key, value]) => [`${OLD}${key}`, value]))
}

function external(entries: Tree): Tree {
  return Object.fromEntries(
    Object.entries(entries).map(([key, value]) => [
      key,
      { external: true, name: pick(value, 'name') ?? key },
    ]),
  )
}

function withOldKeys(service: unknown): unknown {
  if (!isRecord(service)) return service
  const renamed = { ...service }
  for (const kind of KINDS) {
    const uses = service[kind]
    if (Array.isArray(uses)) renamed[kind] = uses.map(withOldKey)
  }
  return renamed
}

function withOldKey(use: unknown): unknown {
  if (!isRecord(use)) return use
  const source = String(use['source'])
  return Object.assign({ target: source }, use, { source: `${OLD}${source}` })
}

async function settle(
  context: Context,
  settings: Settings,
  { nodes, seconds }: Rollout,
): Promise<void> {
  if (seconds > 0) await waitForCluster(context, settings, { nodes, seconds })
}

async function resolve({ docker }: Context, { file, env }: Rendered): Promise<Resolved> {
  return resolvedOf(await docker.read(['stack', 'config', '--compose-file', file], { env }))
}

function resolvedOf(text: string): Resolved {
  const { services, version: _, ...rest } = treeOf(readYaml(text))
  return { services: treeOf(services), rest }
}

function treeOf(value: unknown): Tree {
  return isRecord(value) ? value : {}
}

/** Undefined where the stack does not run, so that nothing has to be spared. */
async function lastDeployed(
  { docker, folder }: Context,
  { cluster }: Settings,
): Promise<Resolved | undefined> {
  const running = await docker.lines(['stack', 'ls', '--format', '{{.Name}}'])
  if (!running.includes(stackName(cluster, 'stack'))) return undefined
  const text = folder.read(...DEPLOYED)
  if (text !== undefined) return resolvedOf(text)
  throw new OperatorError(
    `${folder.file(...DEPLOYED)} is missing, so it cannot be told what would change`,
    'Use the folder that the cluster was deployed from, or its latest copy.',
  )
}

async function deploy(
  { docker, folder, output }: Context,
  settings: Settings,
  { services, rest }: Resolved,
): Promise<void> {
  const name = stackName(settings.cluster, 'stack')
  output.step(`deploying ${name}`)
  // Docker fills in variables here as well: a dollar sign is doubled.
  const text = writeYaml({ ...rest, services }).replaceAll('$', () => '$$')
  const file = folder.write(text, 'deployed', 'wave.yml')
  await docker.change([
    'stack',
    'deploy',
    '--detach=true',
    '--prune',
    '--compose-file',
    file,
    ...(settings.isLocalImages ? ['--resolve-image', 'never'] : ['--with-registry-auth']),
    name,
  ])
  folder.write(writeYaml({ ...rest, services }), ...DEPLOYED)
}
