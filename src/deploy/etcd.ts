/**
 * Members of etcd: how many there are is chosen once, and one that comes without its data comes as a new one,
 * which the others have to be told of before it starts.
 */
import { call } from './api.ts'
import type { Context } from './context.ts'
import type { EtcdMember, Facts } from './facts.ts'
import { arrayOf, pick, textOf } from './json.ts'
import { etcdNames, serviceName } from './names.ts'
import { OperatorError } from './operator.ts'
import { servicesOf } from './running.ts'
import type { Settings } from './settings.ts'

/** Errors: OperatorError when other members run than the settings name: one that nobody was told of never joins. */
export async function checkEtcdNames(context: Context, settings: Settings): Promise<void> {
  const running = (await servicesOf(context, settings, 'stack'))
    .map(({ name }) => name)
    .filter((name) => /^etcd\d+$/.test(name))
  const wanted = etcdNames(settings)
  const isSame = running.length === wanted.length && running.every((name) => wanted.includes(name))
  if (running.length === 0 || isSame) return
  throw new OperatorError(
    `ETCD_NODES names ${wanted.join(', ')}, and ${running.toSorted().join(', ')} run: which members etcd has is chosen before the first \`up\``,
    'Set ETCD_NODES back in cluster.env. A member comes to another node by `replace-node`; three are as safe as five but for two losses at once.',
  )
}

/** One that is well and can be asked. Errors: OperatorError when the others have no majority without `slot`. */
export function otherMember({ etcd }: Facts, slot: number): EtcdMember {
  const well = etcd.filter(({ name, error }) => name !== `etcd${slot}` && error === '')
  const [first] = well
  if (first !== undefined && well.length * 2 > etcd.length) return first
  throw new OperatorError(
    `without etcd${slot} only ${well.length} of ${etcd.length} members of etcd are well, which is no majority`,
    'Start the nodes of the others first: `status` names them.',
  )
}

/**
 * Makes etcd expect an empty member under the old name. The old one is stopped before, since one of the old name
 * that begins with the old settings, on another node, would keep the old one's identity for ever. The
 * deployment that follows starts it. Source: etcd, runtime reconfiguration.
 */
export async function renewEtcdMember(
  context: Context,
  settings: Settings,
  { facts, slot }: { facts: Facts; slot: number },
): Promise<void> {
  const name = `etcd${slot}`
  const other = otherMember(facts, slot)
  context.output.step(`stopping ${name}`)
  await context.docker.change([
    'service',
    'scale',
    '--detach',
    `${serviceName(settings.cluster, name)}=0`,
  ])
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
