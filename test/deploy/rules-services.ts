/** Rules about running services: where they are placed, how they stop, start again and are updated. */
import type { Rule } from './rules.ts'
import {
  isDatabase,
  isEtcd,
  isJob,
  isStateful,
  labelsOf,
  mayMeet,
  services,
  volumesOf,
} from './services.ts'
import { at, type Service, text } from './stack.ts'

const STATEFUL_GRACE_S = 30
const DATABASE_GRACE_S = 120

/** A rule that judges each service that it is for by itself. */
function each(
  head: Pick<Rule, 'name' | 'says' | 'why' | 'isForSwarm'>,
  isMeant: (service: Service) => boolean,
  fault: (service: Service) => string | undefined,
): Rule {
  return {
    ...head,
    *check(stack) {
      for (const service of services(stack)) {
        const what = isMeant(service) ? fault(service) : undefined
        if (what !== undefined) yield { where: service.name, what }
      }
    },
  }
}

export const SERVICE_RULES: readonly Rule[] = [
  each(
    {
      name: 'stateful-dnsrr',
      says: 'A service with a volume has endpoint_mode dnsrr.',
      why: "A virtual address goes through IPVS, which cuts what is idle for 900 s, and etcd checks its peers' source addresses against names.",
      isForSwarm: true,
    },
    isStateful,
    ({ deploy }) =>
      deploy['endpoint_mode'] === 'dnsrr' ? undefined : 'endpoint_mode is not dnsrr',
  ),
  each(
    {
      name: 'stateful-hostname',
      says: 'A service with a volume has its own name as hostname.',
      why: 'Its name then resolves from /etc/hosts before Swarm publishes it, and logs say who speaks.',
      isForSwarm: true,
    },
    isStateful,
    ({ name, content }) =>
      content['hostname'] === name ? undefined : 'its hostname is not its name',
  ),
  each(
    {
      name: 'stateful-pinned',
      says: 'A service with a volume is pinned to a node by a label.',
      why: 'Its data is on one node; node.role alone lets it start elsewhere with an empty volume.',
      isForSwarm: true,
    },
    isStateful,
    (service) => (labelsOf(service).size > 0 ? undefined : 'no constraint on a label of nodes'),
  ),
  each(
    {
      name: 'stateful-alone',
      says: 'A service with a volume has one task.',
      why: 'Two tasks on one node open one directory, two on two nodes are two different databases.',
    },
    isStateful,
    ({ replicas }) => (replicas === 1 ? undefined : `${replicas} replicas share a volume`),
  ),
  {
    name: 'own-volume',
    says: 'A volume belongs to one service; another one mounts it only if pinned to the same node.',
    why: 'A local volume of that name on another node is another, empty volume.',
    *check(stack) {
      for (const [volume, users] of usersOfVolumes(services(stack)))
        for (const other of users.slice(1))
          if (!isBeside(users[0], other))
            yield { where: other.name, what: `shares volume ${volume} with ${users[0]?.name}` }
    },
  },
  each(
    {
      name: 'local-volume',
      says: 'Volumes are of the local driver.',
      why: 'A database on a file system made of S3 or NFS has no atomic rename and no fsync that holds.',
    },
    (service) => volumesOf(service).length > 0,
    (service) => {
      const drivers = volumesOf(service).map(
        ({ source }) => text(at(service.stack.content, 'volumes', source, 'driver')) || 'local',
      )
      const other = drivers.find((driver) => driver !== 'local')
      return other === undefined ? undefined : `a volume of driver ${other}`
    },
  ),
  each(
    {
      name: 'stop-grace',
      says: `A service with a volume has ${STATEFUL_GRACE_S} s to stop, a database ${DATABASE_GRACE_S} s.`,
      why: 'After it Swarm kills: crash recovery at each update.',
    },
    (service) => isStateful(service) || isDatabase(service),
    (service) => {
      const least = isDatabase(service) ? DATABASE_GRACE_S : STATEFUL_GRACE_S
      return service.stopGraceS >= least
        ? undefined
        : `${service.stopGraceS} s to stop, not ${least}`
    },
  ),
  each(
    {
      name: 'restart-any',
      says: 'restart_policy is there, with condition any and without max_attempts.',
      why: 'Patroni ends with code 0 when its bootstrap fails; a database that stays down after three crashes waits for a person.',
      isForSwarm: true,
    },
    (service) => !isJob(service),
    ({ deploy }) => {
      const { condition, max_attempts: attempts } = (deploy['restart_policy'] ?? {}) as Record<
        string,
        unknown
      >
      if (condition !== 'any') return `restart_policy condition is ${text(condition) || 'missing'}`
      return attempts === undefined ? undefined : 'max_attempts gives up'
    },
  ),
  each(
    {
      name: 'stop-first',
      says: 'What has a host port or a volume is updated stop-first.',
      why: 'The new task can bind neither the port nor the data while the old one has it.',
      isForSwarm: true,
    },
    (service) => volumesOf(service).length > 0 || service.ports.some(({ mode }) => mode === 'host'),
    ({ deploy }) => {
      const orders = ['update_config', 'rollback_config'].map((key) => at(deploy, key, 'order'))
      return orders.includes('start-first') ? 'order is start-first' : undefined
    },
  ),
  each(
    {
      name: 'watched-update',
      says: 'update_config says how long an update is watched and what happens when it fails.',
      why: 'By default 5 s are watched: a broken release counts as good.',
      isForSwarm: true,
    },
    (service) => !isJob(service),
    ({ deploy }) => {
      const [monitor, action] = ['monitor', 'failure_action'].map((key) =>
        text(at(deploy, 'update_config', key)),
      )
      return monitor !== '' && action !== '' ? undefined : 'no monitor or failure_action'
    },
  ),
  each(
    {
      name: 'memory-limit',
      says: 'Every service has a memory limit.',
      why: 'Without it one program takes the memory of the database beside it.',
    },
    () => true,
    ({ content, deploy }) =>
      text(at(deploy, 'resources', 'limits', 'memory')) || text(content['mem_limit'])
        ? undefined
        : 'no memory limit',
  ),
  each(
    {
      name: 'log-rotation',
      says: "Every service's log is rotated.",
      why: "json-file's default fills the disk that holds the databases.",
    },
    () => true,
    ({ content }) => {
      const driver = text(at(content, 'logging', 'driver')) || 'json-file'
      if (driver !== 'json-file') return undefined
      const isBounded = ['max-size', 'max-file'].every(
        (option) => text(at(content, 'logging', 'options', option)) !== '',
      )
      return isBounded ? undefined : 'its log is not rotated'
    },
  ),
  each(
    {
      name: 'dnsrr-host-ports',
      says: 'A service with endpoint_mode dnsrr publishes on the host only.',
      why: 'The mesh needs a virtual address; the engine refuses the service.',
      isForSwarm: true,
    },
    ({ deploy }) => deploy['endpoint_mode'] === 'dnsrr',
    ({ ports }) =>
      ports.some(({ mode }) => mode !== 'host') ? 'dnsrr with an ingress port' : undefined,
  ),
  each(
    {
      name: 'off-the-mesh',
      says: 'Ports are published on the host of the task, not on the mesh.',
      why: "The mesh opens them on every node, hides the client's address from pg_hba.conf and cuts what is idle for 900 s.",
      isForSwarm: true,
    },
    () => true,
    ({ ports }) =>
      ports.some(({ mode }) => mode !== 'host') ? 'publishes on the mesh' : undefined,
  ),
  each(
    {
      name: 'databases-unpublished',
      says: 'etcd and PostgreSQL publish no port at all.',
      why: 'Whoever reaches etcd owns the databases, and clients go through pgsteer.',
    },
    (service) => isEtcd(service) || isDatabase(service),
    ({ ports }) => (ports.length > 0 ? `publishes ${ports[0]?.published}` : undefined),
  ),
  {
    name: 'port-once',
    says: 'No port is published twice where tasks may meet.',
    why: 'The second task waits for ever.',
    *check(stack, all) {
      const others = all.flatMap((one) => [...services(one)])
      for (const service of services(stack)) {
        const before = others.slice(0, others.indexOf(service))
        for (const other of before)
          for (const port of portsInCommon(service, other))
            yield { where: service.name, what: `publishes ${port} as ${other.name} does` }
      }
    },
  },
]

function usersOfVolumes(all: readonly Service[]): Map<string, readonly Service[]> {
  const users = new Map<string, readonly Service[]>()
  for (const service of all)
    for (const { source } of volumesOf(service))
      users.set(source, [...(users.get(source) ?? []), service])
  return users
}

function isBeside(a: Service | undefined, b: Service): boolean {
  if (b.stack.kind === 'compose') return true
  if (a === undefined || a.mode === 'global' || b.mode === 'global') return a?.mode === b.mode
  const [ofA, ofB] = [[...labelsOf(a)], [...labelsOf(b)]]
  return ofA.length > 0 && JSON.stringify(ofA) === JSON.stringify(ofB)
}

function portsInCommon(a: Service, b: Service): readonly string[] {
  return a.ports
    .filter((one) =>
      b.ports.some((two) => {
        const isSame = one.published === two.published && one.protocol === two.protocol
        const onMesh = one.mode !== 'host' || two.mode !== 'host'
        return isSame && (onMesh || mayMeet(a, b))
      }),
    )
    .map(({ published }) => published)
}
