/**
 * Members that come, go, and move: `add-member`, `remove-member`, `replace-node`. Each looks first whether it
 * can be done, changes cluster.env, then deploys as `up` does; run again after a failure, each goes on where
 * it stopped.
 */
import { type Context, settingsOf } from './context.ts'
import { otherMember, renewEtcdMember } from './etcd.ts'
import { type Facts, leaderOf, readFacts } from './facts.ts'
import { checkNodes } from './init.ts'
import { stackName } from './names.ts'
import { nodeNamed, readNodes, type SwarmNode } from './nodes.ts'
import { OperatorError } from './operator.ts'
import { type Settings, type Slot, slotsText } from './settings.ts'
import { changeSettings, settingsWith } from './steps.ts'
import { switchFrom } from './switchover.ts'
import { up } from './up.ts'
import { presentVolumes, removeVolumes } from './volumes.ts'

/** A new member of PostgreSQL on `node`, in the slot after the last one. */
export async function addMember(context: Context, node: string, seconds: number): Promise<void> {
  const settings = settingsOf(context)
  const nodes = await readNodes(context.docker)
  nodeNamed(nodes, node, 'the new member')
  const isNew = isNode(nodes, node)
  if (settings.members.some((one) => isNew(one.node)))
    context.output.step(`${node} has a member already`)
  else {
    const slot = 1 + Math.max(...settings.members.map((one) => one.slot))
    const values = { PG_NODES: slotsText([...settings.members, { slot, node }]) }
    checkNodes(nodes, settingsWith(context, values))
    changeSettings(context, values)
  }
  await up(context, { stacks: [], seconds })
}

/** Whether a name means the same node: PG_NODES may have its id, and the operator say its hostname. */
function isNode(nodes: readonly SwarmNode[], name: string): (other: string) => boolean {
  const idOf = (text: string): string =>
    nodes.find(({ id, hostname }) => id === text || hostname === text)?.id ?? text
  return (other) => idOf(other) === idOf(name)
}

/** Takes a replica away; a primary hands over first. One that is gone from cluster.env is taken away to the end. */
export async function removeMember(
  context: Context,
  name: string,
  { seconds, hasVolumes }: { seconds: number; hasVolumes: boolean },
): Promise<void> {
  const settings = settingsOf(context)
  const slot = Number(/^patroni([1-9]\d*)$/.exec(name)?.[1] ?? 0)
  if (slot === 0)
    throw new OperatorError(
      `there is no member ${name}`,
      `There are ${settings.members.map((one) => `patroni${one.slot}`).join(', ')}.`,
    )
  const member = settings.members.find((one) => one.slot === slot)
  if (member === undefined)
    context.output.step(`${name} is not in cluster.env: taking away what is left of it`)
  else await leaveOut(context, settings, member)
  await up(context, { stacks: [], seconds })
  const volume = `${stackName(settings.cluster, 'stack')}_pg${slot}`
  // Where it was is not known any more at a second time: then every node is asked.
  if (hasVolumes)
    await removeVolumes(context, settings, {
      volumes: [volume],
      ...(member === undefined ? {} : { node: member.node }),
    })
  else
    context.output.step(
      `its data is still ${member === undefined ? 'there' : `on ${member.node}`}, in the volume ${volume}`,
    )
}

async function leaveOut(context: Context, settings: Settings, member: Slot): Promise<void> {
  const name = `patroni${member.slot}`
  if (settings.members.length === 1)
    throw new OperatorError(`${name} is the last member`, 'To take the whole cluster away: `down`.')
  const values = { PG_NODES: slotsText(settings.members.filter((one) => one !== member)) }
  checkNodes(await readNodes(context.docker), settingsWith(context, values))
  await handOver(context, settings, await readFacts(context, settings), member.slot)
  changeSettings(context, values)
}

async function handOver(
  context: Context,
  settings: Settings,
  facts: Facts,
  slot: number,
): Promise<void> {
  if (leaderOf(facts)?.name === `patroni${slot}`)
    await switchFrom(context, settings, { facts, candidate: undefined })
}

/**
 * Everything that `before` has comes to `after`: its member of PostgreSQL, of etcd, the repository, monitoring.
 * `hasVolumes`: what `after` has of an earlier time is removed. Where both are one node, its member of etcd is
 * made anew; that of PostgreSQL needs no help, since an empty one is copied.
 */
export async function replaceNode(
  context: Context,
  { before, after, hasVolumes }: { before: string; after: string; hasVolumes: boolean },
  seconds: number,
): Promise<void> {
  const settings = settingsOf(context)
  const nodes = await readNodes(context.docker)
  const target = nodeNamed(nodes, after, 'the new node')
  const isOld = isNode(nodes, before)
  const move = isOld(after) ? renewal(settings, isOld) : moveOf(settings, isOld, after)
  if (Object.keys(move.values).length === 0)
    context.output.step(`nothing of the cluster is on ${before}`)
  else {
    checkNodes(nodes, settingsWith(context, move.values))
    const facts = await readFacts(context, settings)
    if (move.etcd !== undefined) otherMember(facts, move.etcd)
    const volumes = await volumesInTheWay(context, settings, { move, node: target, hasVolumes })
    if (move.member !== undefined) await handOver(context, settings, facts, move.member)
    if (move.etcd !== undefined)
      await renewEtcdMember(context, settings, { facts, slot: move.etcd })
    if (volumes.length > 0) await removeVolumes(context, settings, { volumes, node: target.id })
    if (move.values['PGBACKREST_NODE'] !== undefined)
      context.output.warn(
        'backups stay on the old node: unless the repository is on S3, copy its volume, or make a full backup now',
      )
    changeSettings(context, move.values)
  }
  await up(context, { stacks: [], seconds, leaving: before })
}

/** What goes to another node. */
interface Move {
  /** Slots of PostgreSQL's and of etcd's member. */
  readonly member: number | undefined
  readonly etcd: number | undefined
  /** Of cluster.env. */
  readonly values: Readonly<Record<string, string>>
}

function moveOf(settings: Settings, isOld: (node: string) => boolean, after: string): Move {
  const slotIn = (slots: readonly Slot[]) => slots.find(({ node }) => isOld(node))?.slot
  const moved = (slots: readonly Slot[]): string =>
    slotsText(slots.map((one) => (isOld(one.node) ? { ...one, node: after } : one)))
  const [member, etcd] = [slotIn(settings.members), slotIn(settings.etcd)]
  return {
    member,
    etcd,
    values: {
      ...(member === undefined ? {} : { PG_NODES: moved(settings.members) }),
      ...(etcd === undefined
        ? {}
        : { ETCD_NODES: moved(settings.etcd), [`ETCD${etcd}_STATE`]: 'existing' }),
      ...(isOld(settings.backupNode) ? { PGBACKREST_NODE: after } : {}),
      ...(isOld(settings.monitoringNode) ? { MONITORING_NODE: after } : {}),
    },
  }
}

function renewal(settings: Settings, isOld: (node: string) => boolean): Move {
  const etcd = settings.etcd.find(({ node }) => isOld(node))?.slot
  return {
    member: undefined,
    etcd,
    values: etcd === undefined ? {} : { [`ETCD${etcd}_STATE`]: 'existing' },
  }
}

/**
 * A member of etcd that finds data of its own name keeps an identity that etcd has removed, and never joins.
 * Errors: OperatorError where such data may not be removed.
 */
async function volumesInTheWay(
  context: Context,
  settings: Settings,
  { move, node, hasVolumes }: { move: Move; node: SwarmNode; hasVolumes: boolean },
): Promise<string[]> {
  const stack = stackName(settings.cluster, 'stack')
  const wanted = [
    ...(move.member === undefined ? [] : [`${stack}_pg${move.member}`]),
    ...(move.etcd === undefined ? [] : [`${stack}_etcd${move.etcd}`]),
  ]
  if (wanted.length === 0) return []
  const volumes = await presentVolumes(context, settings, { volumes: wanted, node: node.id })
  if (volumes.length === 0 || hasVolumes) return volumes
  throw new OperatorError(
    `${node.hostname} has volumes of an earlier time: ${volumes.join(', ')}`,
    'If nothing in them is needed, run the command again with --volumes, which removes them.',
  )
}
