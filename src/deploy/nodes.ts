/**
 * The Swarm's nodes: what Docker knows of them, what is wrong with them, and which labels place the members.
 */
import { type Docker } from './docker.ts'
import { isRecord, pick, textOf } from './json.ts'
import { NODE_LABELS } from './names.ts'
import { OperatorError } from './operator.ts'
import type { Settings } from './settings.ts'

export interface SwarmNode {
  readonly id: string
  readonly hostname: string
  readonly address: string
  readonly isReady: boolean
  readonly isActive: boolean
  readonly isManager: boolean
  readonly engine: string
  readonly memoryBytes: number
  readonly labels: Readonly<Record<string, string>>
}

/** Older engines forward names of internal networks, or lack what the stack files need. */
const ENGINE_MAJOR_MIN = 20
const ENGINE_MAJOR_WANTED = 24
const GIB = 1_073_741_824

/** All nodes, by hostname. */
export async function readNodes(docker: Docker): Promise<SwarmNode[]> {
  const ids = await docker.lines(['node', 'ls', '-q'])
  const inspected = await docker.inspect(['node', 'inspect', ...ids])
  return inspected.map(nodeOf).toSorted((a, b) => a.hostname.localeCompare(b.hostname))
}

function nodeOf(value: unknown): SwarmNode {
  const labels = pick(value, 'Spec', 'Labels')
  const manager = textOf(pick(value, 'ManagerStatus', 'Addr'))
  const address = textOf(pick(value, 'Status', 'Addr'))
  return {
    id: textOf(pick(value, 'ID')),
    hostname: textOf(pick(value, 'Description', 'Hostname')),
    // A manager that speaks for itself may know its own address as 0.0.0.0 only.
    address: address === '0.0.0.0' || address === '' ? manager.replace(/:\d+$/, '') : address,
    isReady: pick(value, 'Status', 'State') === 'ready',
    isActive: pick(value, 'Spec', 'Availability') === 'active',
    isManager: pick(value, 'Spec', 'Role') === 'manager',
    engine: textOf(pick(value, 'Description', 'Engine', 'EngineVersion')),
    memoryBytes: Number(pick(value, 'Description', 'Resources', 'MemoryBytes') ?? 0),
    labels: isRecord(labels)
      ? Object.fromEntries(Object.entries(labels).map(([key, label]) => [key, textOf(label)]))
      : {},
  }
}

/** The node of this hostname or id. Errors: OperatorError when there is none or more than one. */
export function nodeNamed(nodes: readonly SwarmNode[], name: string, key: string): SwarmNode {
  const found = nodes.filter(({ id, hostname }) => id === name || hostname === name)
  const [node] = found
  if (node !== undefined && found.length === 1) return node
  throw new OperatorError(
    found.length === 0
      ? `${key}: the Swarm has no node ${name}`
      : `${key}: ${name} is the hostname of ${found.length} nodes`,
    found.length === 0
      ? `Its nodes are ${nodes.map(({ hostname }) => hostname).join(', ')}. Correct ${key} in cluster.env, or join the node (docs/deploy.md).`
      : 'Name it by its id (`docker node ls`), or give the machines different hostnames.',
  )
}

/** What a person should mend or know before a cluster goes on these nodes. */
export function nodeProblems(
  nodes: readonly SwarmNode[],
  settings: Settings,
): { errors: string[]; warnings: string[] } {
  const errors: string[] = []
  const warnings: string[] = []
  for (const node of usedNodes(nodes, settings)) {
    if (!node.isReady)
      errors.push(`${node.hostname} is down: start its Docker, or choose another node`)
    if (!node.isActive)
      errors.push(
        `${node.hostname} is drained or paused: docker node update --availability active ${node.hostname}`,
      )
    const major = Number.parseInt(node.engine, 10)
    if (major < ENGINE_MAJOR_MIN)
      errors.push(
        `${node.hostname} has Docker ${node.engine}: ${ENGINE_MAJOR_MIN} is the oldest that has jobs`,
      )
    else if (major < ENGINE_MAJOR_WANTED)
      warnings.push(
        `${node.hostname} has Docker ${node.engine}, which gets no more fixes: use ${ENGINE_MAJOR_WANTED} or newer`,
      )
    const neededBytes = sizeOf(settings.env['PG_MEMORY'] ?? '')
    if (node.memoryBytes > 0 && node.memoryBytes < neededBytes)
      errors.push(
        `${node.hostname} has ${(node.memoryBytes / GIB).toFixed(1)} GiB of memory, less than PG_MEMORY: lower it in cluster.env`,
      )
  }
  const managers = nodes.filter(({ isManager }) => isManager).length
  if (managers < 3 || managers % 2 === 0)
    warnings.push(
      `the Swarm has ${managers} manager${managers === 1 ? '' : 's'}: three or five survive the loss of one or two (docker node promote NODE)`,
    )
  return { errors, warnings }
}

/** `4G` and `512M` in bytes. */
export function sizeOf(text: string): number {
  return Number.parseInt(text, 10) * (text.endsWith('G') ? GIB : 1_048_576)
}

function usedNodes(nodes: readonly SwarmNode[], settings: Settings): SwarmNode[] {
  return [...new Set(Object.keys(wantedLabels(nodes, settings)))].flatMap((id) =>
    nodes.filter((node) => node.id === id),
  )
}

/** The labels that place this cluster, by node id. */
function wantedLabels(
  nodes: readonly SwarmNode[],
  settings: Settings,
): Record<string, Record<string, string>> {
  const wanted: Record<string, Record<string, string>> = {}
  const put = (name: string, key: string, label: string, value: string): void => {
    const { id } = nodeNamed(nodes, name, key)
    // cluster.env may name it by its id and by its hostname.
    if (wanted[id]?.[label] !== undefined)
      throw new OperatorError(
        `${key}: ${name} is a node that has a member already`,
        'Name a node of its own for each member: two on one node die together.',
      )
    wanted[id] = { ...wanted[id], [NODE_LABELS.cluster]: settings.cluster, [label]: value }
  }
  for (const { slot, node } of settings.members)
    put(node, 'PG_NODES', NODE_LABELS.member, String(slot))
  for (const { slot, node } of settings.etcd)
    put(node, 'ETCD_NODES', NODE_LABELS.etcd, String(slot))
  put(settings.backupNode, 'PGBACKREST_NODE', NODE_LABELS.backup, 'true')
  put(settings.monitoringNode, 'MONITORING_NODE', NODE_LABELS.monitoring, 'true')
  return wanted
}

/**
 * Labels place the members, and have no cluster in their names: a second cluster would evict the first one. And
 * a slot's data is where its label is: on another node its member begins empty. `isMovable` allows that for
 * the slots of a node. Errors: OperatorError that says which.
 */
export function checkLabels(
  nodes: readonly SwarmNode[],
  settings: Settings,
  isMovable: (node: SwarmNode) => boolean,
): void {
  const foreign = nodes.find(
    ({ labels }) => (labels[NODE_LABELS.cluster] ?? settings.cluster) !== settings.cluster,
  )
  if (foreign !== undefined)
    throw new OperatorError(
      `${foreign.hostname} has services of the cluster ${foreign.labels[NODE_LABELS.cluster] ?? ''}: a Swarm has one cluster`,
      'Make a Swarm of its own for this one. If the other one is gone for good, `down --volumes` with its folder takes its labels away.',
    )
  const wanted = wantedLabels(nodes, settings)
  for (const [id, labels] of Object.entries(wanted))
    for (const label of [NODE_LABELS.member, NODE_LABELS.etcd]) {
      const slot = labels[label]
      const other = nodes.find((node) => node.id !== id && node.labels[label] === slot)
      if (slot === undefined || other === undefined || isMovable(other)) continue
      const key = label === NODE_LABELS.member ? 'PG_NODES' : 'ETCD_NODES'
      throw new OperatorError(
        `${key}: slot ${slot} is on ${other.hostname}, and its data stays there`,
        `Set ${key} back in cluster.env. What is on a node comes to another one by \`replace-node ${other.hostname} NODE\`; if that was interrupted, run it again.`,
      )
    }
}

/** The `docker node update` commands that make the labels what the settings say; none when they are. */
export function labelCommands(nodes: readonly SwarmNode[], settings: Settings): string[][] {
  const wanted = wantedLabels(nodes, settings)
  const ours: readonly string[] = Object.values(NODE_LABELS)
  return nodes.flatMap(({ id, labels }) => {
    const want = wanted[id] ?? {}
    const added = Object.entries(want).filter(([key, value]) => labels[key] !== value)
    const removed = Object.keys(labels).filter(
      (key) => ours.includes(key) && want[key] === undefined,
    )
    if (added.length + removed.length === 0) return []
    const changes = [
      ...added.flatMap(([key, value]) => ['--label-add', `${key}=${value}`]),
      ...removed.flatMap((key) => ['--label-rm', key]),
    ]
    return [['node', 'update', ...changes, id]]
  })
}

/** Hostnames and addresses, for the certificate that applications see. */
export function namesOfNodes(nodes: readonly SwarmNode[]): string[] {
  return nodes.flatMap(({ hostname, address }) => [hostname, address]).filter((name) => name !== '')
}
