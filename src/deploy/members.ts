/**
 * Members that come, go, and move: `add-member`, `remove-member`, `replace-node`. Each changes cluster.env,
 * then deploys as `up` does; run again after a failure, each goes on where it stopped.
 */
import { call } from './api.ts'
import { type Context, settingsOf } from './context.ts'
import { arrayOf, pick, textOf } from './docker.ts'
import { type Facts, leaderOf, readFacts } from './facts.ts'
import { stackName } from './names.ts'
import { nodeNamed, readNodes } from './nodes.ts'
import { OperatorError } from './operator.ts'
import { type Settings, type Slot, slotsText } from './settings.ts'
import { changeSettings } from './steps.ts'
import { switchFrom } from './switchover.ts'
import { up } from './up.ts'
import { removeVolumes } from './volumes.ts'

/** A new member of PostgreSQL on `node`, in the first free slot. */
export async function addMember(context: Context, node: string, seconds: number): Promise<void> {
  const settings = settingsOf(context)
  nodeNamed(await readNodes(context.docker), node, 'the new member')
  if (settings.members.some((one) => one.node === node))
    context.output.step(`${node} has a member already`)
  else {
    const slot = 1 + Math.max(...settings.members.map((one) => one.slot))
    setMembers(context, [...settings.members, { slot, node }])
  }
  await up(context, { stacks: [], seconds })
}

/** Takes a replica away; a primary hands over first. */
export async function removeMember(
  context: Context,
  name: string,
  { seconds, hasVolumes }: { seconds: number; hasVolumes: boolean },
): Promise<void> {
  const settings = settingsOf(context)
  const slot = Number(/^patroni(\d+)$/.exec(name)?.[1] ?? 0)
  const member = settings.members.find((one) => one.slot === slot)
  if (member === undefined)
    throw new OperatorError(
      `there is no member ${name}`,
      `There are ${settings.members.map((one) => `patroni${one.slot}`).join(', ')}.`,
    )
  if (settings.members.length === 1)
    throw new OperatorError(`${name} is the last member`, 'To take the whole cluster away: `down`.')
  await handOver(context, settings, name)
  const { id } = nodeNamed(await readNodes(context.docker), member.node, 'PG_NODES')
  setMembers(
    context,
    settings.members.filter((one) => one !== member),
  )
  await up(context, { stacks: [], seconds })
  const volume = `${stackName(settings.cluster, 'stack')}_pg${slot}`
  if (hasVolumes) await removeVolumes(context, settings, { volumes: [volume], node: id })
  else context.output.step(`its data is still on ${member.node}, in the volume ${volume}`)
}

function setMembers(context: Context, members: readonly Slot[]): void {
  changeSettings(context, { PG_NODES: slotsText(members) })
}

async function handOver(context: Context, settings: Settings, name: string): Promise<void> {
  const facts = await readFacts(context, settings)
  if (leaderOf(facts)?.name === name)
    await switchFrom(context, settings, { facts, candidate: undefined })
}

/** Everything that `before` has comes to `after`: its member of PostgreSQL, of etcd, the repository, monitoring. */
export async function replaceNode(
  context: Context,
  { before, after }: { before: string; after: string },
  seconds: number,
): Promise<void> {
  const settings = settingsOf(context)
  nodeNamed(await readNodes(context.docker), after, 'the new node')
  const isOf = ({ node }: Slot): boolean => node === before
  const moved = (slots: readonly Slot[]): string =>
    slotsText(slots.map((one) => (isOf(one) ? { ...one, node: after } : one)))
  const etcd = settings.etcd.find(isOf)
  const values = {
    ...(settings.members.some(isOf) ? { PG_NODES: moved(settings.members) } : {}),
    ...(etcd === undefined
      ? {}
      : { ETCD_NODES: moved(settings.etcd), [`ETCD${etcd.slot}_STATE`]: 'existing' }),
    ...(settings.backupNode === before ? { PGBACKREST_NODE: after } : {}),
    ...(settings.monitoringNode === before ? { MONITORING_NODE: after } : {}),
  }
  if (Object.keys(values).length === 0)
    context.output.step(`nothing of the cluster is on ${before}`)
  else {
    const facts = await readFacts(context, settings)
    await leave(context, settings, { facts, before })
    if (etcd !== undefined) await renewEtcdMember(context, settings, { facts, slot: etcd.slot })
    if (settings.backupNode === before)
      context.output.warn(
        'backups stay on the old node: unless the repository is on S3, copy its volume, or make a full backup now',
      )
    changeSettings(context, values)
  }
  await up(context, { stacks: [], seconds, leaving: before })
}

async function leave(
  context: Context,
  settings: Settings,
  { facts, before }: { facts: Facts; before: string },
): Promise<void> {
  const leader = leaderOf(facts)
  const slot = settings.members.find(({ node }) => node === before)?.slot
  if (slot !== undefined && leader?.name === `patroni${slot}`)
    await switchFrom(context, settings, { facts, candidate: undefined })
}

/** etcd takes an empty member under an old name only after the old one was removed (etcd, runtime reconfiguration). */
async function renewEtcdMember(
  context: Context,
  settings: Settings,
  { facts, slot }: { facts: Facts; slot: number },
): Promise<void> {
  const name = `etcd${slot}`
  const other = facts.etcd.find((one) => one.name !== name && one.error === '')
  if (other === undefined)
    throw new OperatorError(
      'no other member of etcd is well',
      'Without a quorum etcd cannot take a new member: start the nodes that have one first.',
    )
  const url = (path: string): string => `https://${other.name}:2379/v3/cluster/member/${path}`
  const listed = await call(context, settings, {
    method: 'POST',
    url: url('list'),
    body: {},
    isReadOnly: true,
  })
  const members = arrayOf(pick(JSON.parse(listed.body === '' ? '{}' : listed.body), 'members'))
  const peer = `https://${name}:2380`
  const old = members.find((one) => arrayOf(pick(one, 'peerURLs')).includes(peer))
  if (old !== undefined && textOf(pick(old, 'name')) === '') {
    context.output.step(`etcd expects a new ${name} already`)
    return
  }
  if (old !== undefined) {
    context.output.step(`removing the old ${name} from etcd`)
    await checked(context, settings, { url: url('remove'), body: { ID: textOf(pick(old, 'ID')) } })
  }
  context.output.step(`telling etcd of the new ${name}`)
  await checked(context, settings, { url: url('add'), body: { peerURLs: [peer] } })
}

async function checked(
  context: Context,
  settings: Settings,
  { url, body }: { url: string; body: unknown },
): Promise<void> {
  const answer = await call(context, settings, { method: 'POST', url, body, isReadOnly: false })
  if (answer.status === 200) return
  throw new OperatorError(
    `etcd refused: ${answer.body.trim()} (${answer.status})`,
    'Run the command again when `status` shows the other members of etcd as well.',
  )
}
