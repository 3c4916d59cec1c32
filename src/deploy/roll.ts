/**
 * Brings a stack to what was rendered without ever taking two members at once: `docker stack deploy` of the
 * whole would restart them all together, since each is a service of its own. So what changes is deployed in
 * waves, each with the services of one member alone and after a look that all others are well: etcd's members
 * one by one, replicas one by one, the old primary after a switchover. Then the whole, with all the rest.
 * What changes is asked of Docker, not of a file: a copy of the folder may be older than what runs.
 */
import type { Context } from './context.ts'
import { type Facts, leaderOf, readFacts } from './facts.ts'
import { type Stack, stackName } from './names.ts'
import type { SwarmNode } from './nodes.ts'
import { OperatorError } from './operator.ts'
import { waitForCluster } from './ready.ts'
import { deployText, digestIn, type Resolved } from './resolved.ts'
import { runningBefore, type Service, servicesOf, waitForTasks, waitForUpdates } from './running.ts'
import type { Settings } from './settings.ts'
import { switchFrom } from './switchover.ts'
import { writeYaml } from './yaml.ts'

export interface Rollout {
  readonly stack: Stack
  /** What shall run. */
  readonly next: Resolved
  readonly nodes: readonly SwarmNode[]
  /** For each wave; 0 does not wait, and is refused where members would change. */
  readonly seconds: number
  /** Members together and without a look: for a cluster of which nothing works. */
  readonly isAtOnce: boolean
}

/** Deploys a stack; waits until all that changed runs anew, and until the cluster is well. */
export async function rollOut(
  context: Context,
  settings: Settings,
  rollout: Rollout,
): Promise<void> {
  const { next } = rollout
  const running = await servicesOf(context, settings, rollout.stack)
  const changed = running.filter(
    (one) => next.services[one.name] !== undefined && digestIn(next, one.name) !== one.digest,
  )
  const careful = rollout.isAtOnce ? [] : changed.filter(({ name }) => MEMBER.test(name))
  if (careful.length > 0) await rollMembers(context, settings, { ...rollout, changed })
  const rest = changed.filter(({ name }) => !careful.some((member) => isBeside(name, member.name)))
  const before = await runningBefore(context, rest)
  await deploy(context, settings, { stack: rollout.stack, part: next, isWhole: true })
  await waitForUpdates(context, before, rollout.seconds)
  if (rollout.stack === 'stack') await settle(context, settings, rollout)
}

const MEMBER = /^(etcd|patroni)\d+$/

/** The member itself, or the agent on its volume. */
function isBeside(name: string, member: string): boolean {
  return name === member || name === member.replace('patroni', 'agent')
}

const KNOWN = ['deployed', 'known'] as const

function knownDigests({ folder }: Pick<Context, 'folder'>): Set<string> {
  return new Set((folder.read(...KNOWN) ?? '').split('\n').filter((line) => line !== ''))
}

/** Everything that runs has to have been deployed from this copy of the folder, or from one that it was made of. */
export async function checkFolder(
  context: Context,
  settings: Settings,
  stack: Stack,
): Promise<void> {
  const running = await servicesOf(context, settings, stack)
  const known = knownDigests(context)
  const strange = running.filter(({ digest }) => digest !== '' && !known.has(digest))
  if (strange.length === 0) return
  throw new OperatorError(
    `${strange.map(({ name }) => name).join(', ')} ${strange.length === 1 ? 'was' : 'were'} deployed from a later copy of ${context.folder.path}`,
    'This copy would bring back what was before. Use the latest one. If this is all there is, bring cluster.env to what runs, and run `up --take-over`: it changes member by member what differs.',
  )
}

interface Rolling extends Rollout {
  /** Services that exist and are to become others. */
  readonly changed: readonly Service[]
}

async function rollMembers(context: Context, settings: Settings, rolling: Rolling): Promise<void> {
  if (rolling.seconds === 0)
    throw new OperatorError(
      'members of the cluster are to change, one after the other, and --wait=0 looks at none of them',
      'Leave --wait=0 out. Where nothing works any more and nothing can be spared: `up --all-at-once`.',
    )
  const facts = await readFacts(context, settings)
  const names = illFirst(
    rolling.changed.map(({ name }) => name).filter((name) => MEMBER.test(name)),
    facts,
  )
  for (const name of names.filter((one) => one.startsWith('etcd')))
    await wave(context, settings, rolling, name)
  const members = names.filter((one) => one.startsWith('patroni'))
  const leader = members.length === 0 ? undefined : leaderOf(facts)?.name
  for (const name of members.filter((one) => one !== leader))
    await wave(context, settings, rolling, name)
  if (leader !== undefined && members.includes(leader)) {
    await handOver(context, settings, rolling, leader)
    await wave(context, settings, rolling, leader)
  }
  await settle(context, settings, rolling)
}

/** What is down already costs nothing to change, and may be mended by it. */
function illFirst(names: readonly string[], { etcd, members }: Facts): string[] {
  const ill = new Set(
    [...etcd, ...members].filter(({ error }) => error !== '').map(({ name }) => name),
  )
  return names.toSorted((a, b) => Number(ill.has(b)) - Number(ill.has(a)))
}

/** A switchover may have happened meanwhile; and a single member has nobody to hand over to. */
async function handOver(
  context: Context,
  settings: Settings,
  rolling: Rolling,
  leader: string,
): Promise<void> {
  if (settings.members.length > 1) await settle(context, settings, rolling)
  const facts = await readFacts(context, settings)
  if (leaderOf(facts)?.name === leader && facts.members.length > 1)
    await switchFrom(context, settings, { facts, candidate: undefined })
}

/** One member, and its agent, after a look that all others are well. */
async function wave(
  context: Context,
  settings: Settings,
  rolling: Rolling,
  name: string,
): Promise<void> {
  await lookAtOthers(context, settings, rolling, name)
  context.output.step(`changing ${name}`)
  const services = rolling.changed.filter((one) => isBeside(one.name, name))
  const before = await runningBefore(context, services)
  const part = {
    ...rolling.next,
    services: Object.fromEntries(
      services.map((one) => [one.name, rolling.next.services[one.name]]),
    ),
  }
  await deploy(context, settings, { stack: rolling.stack, part, isWhole: false })
  await waitForTasks(context, before, rolling.seconds)
}

async function lookAtOthers(
  context: Context,
  settings: Settings,
  { nodes, seconds }: Rollout,
  name: string,
): Promise<void> {
  // Nobody else is there to take over, or to wait for.
  if (name.startsWith('patroni') && settings.members.length === 1) return
  try {
    const without = onMachineOf(settings, name)
    await waitForCluster(context, settings, { nodes, seconds, without })
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error
    throw new OperatorError(
      `${name} is left as it is, since without it ${error.message}`,
      `${error.remedy} Where nothing works any more and nothing can be spared: \`up --all-at-once\`.`,
      error,
    )
  }
}

/** The member, and the one of the other kind beside it: what fails with it anyway, or comes with it to another node. */
function onMachineOf({ members, etcd }: Settings, name: string): string[] {
  const isEtcd = name.startsWith('etcd')
  const node = (isEtcd ? etcd : members).find(
    ({ slot }) => /\d+$/.exec(name)?.[0] === String(slot),
  )?.node
  const others = isEtcd ? members : etcd
  const beside = others.find((one) => one.node === node)
  // Somebody has to be asked.
  if (beside === undefined || others.length === 1) return [name]
  return [name, `${isEtcd ? 'patroni' : 'etcd'}${beside.slot}`]
}

async function settle(
  context: Context,
  settings: Settings,
  { nodes, seconds }: Rollout,
): Promise<void> {
  if (seconds > 0) await waitForCluster(context, settings, { nodes, seconds })
}

/** The whole stack, or some of its services and nothing of the others. */
async function deploy(
  context: Context,
  settings: Settings,
  { stack, part, isWhole }: { stack: Stack; part: Resolved; isWhole: boolean },
): Promise<void> {
  const { docker, folder, output } = context
  const name = stackName(settings.cluster, stack)
  if (isWhole) output.step(`deploying ${name}`)
  // First of all: what Docker may have from here on is known, wherever this ends.
  const digests = Object.keys(part.services).map((service) => digestIn(part, service))
  const known = new Set([...knownDigests(context), ...digests])
  folder.write(`${[...known].join('\n')}\n`, ...KNOWN)
  await docker.change([
    'stack',
    'deploy',
    ...(await detached(context)),
    ...(isWhole ? ['--prune'] : []),
    '--compose-file',
    folder.write(deployText(part), 'deployed', 'wave.yml'),
    // Asking the registry for what did not change would restart all members together when a tag was pushed anew.
    ...(settings.isLocalImages
      ? ['--resolve-image', 'never']
      : ['--resolve-image', 'changed', '--with-registry-auth']),
    name,
  ])
  if (isWhole)
    folder.write(writeYaml({ ...part.rest, services: part.services }), 'deployed', `${stack}.yml`)
}

/** The first `docker` that has the option; older ones never wait. */
const DETACH_MAJOR = 26

async function detached({ docker }: Pick<Context, 'docker'>): Promise<string[]> {
  const version = await docker.read(['version', '--format', '{{.Client.Version}}'])
  return Number.parseInt(version, 10) < DETACH_MAJOR ? [] : ['--detach=true']
}
