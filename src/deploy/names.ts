/**
 * What things of a cluster are called: its stacks, networks, secrets, configs, services. One place, since
 * the stack files, the node image and this tool have to agree.
 */
import type { Settings } from './settings.ts'

export type Network = 'dcs' | 'db' | 'front' | 'backup' | 'monitoring'

export const networkName = (cluster: string, network: Network): string => `${cluster}-${network}`

export const secretName = (cluster: string, secret: string, epoch: number): string =>
  `${cluster}_${secret}_${epoch}`

export const serviceName = (cluster: string, service: string): string => `${cluster}_${service}`

export const STACKS = ['stack', 'monitoring', 'tools'] as const
export type Stack = (typeof STACKS)[number]

/** The name for `docker stack`; the file is deploy/STACK.yml. */
export const stackName = (cluster: string, stack: Stack): string =>
  stack === 'stack' ? cluster : `${cluster}-${stack}`

export const memberNames = ({ members }: Settings): string[] =>
  members.map(({ slot }) => `patroni${slot}`)

export const etcdNames = ({ etcd }: Settings): string[] => etcd.map(({ slot }) => `etcd${slot}`)

export const NETWORKS: readonly Network[] = ['dcs', 'db', 'front', 'backup', 'monitoring']

/** Put on everything that the tool makes, to find it again. */
export const CLUSTER_LABEL = 'pgsteer.cluster'
/** What a secret's content was, as far as a reader of labels may know. */
export const DIGEST_LABEL = 'pgsteer.digest'

/** On a service: a digest of what it was deployed as. */
export const MEANING_LABEL = 'pgsteer.deployed'

/** The labels of nodes that place services, and the one that says of which cluster those are. */
export const NODE_LABELS = {
  cluster: CLUSTER_LABEL,
  member: 'pg.slot',
  etcd: 'etcd.slot',
  backup: 'pgbackrest',
  monitoring: 'monitoring',
} as const

/** The setting that adds STACK-publish.yml. */
export const PUBLISHED: Readonly<Partial<Record<Stack, string>>> = {
  monitoring: 'GRAFANA_PORT',
  tools: 'PGADMIN_PORT',
}

/** The hand-written files, below deploy/. */
export const stackFiles: readonly string[] = STACKS.flatMap((stack) =>
  PUBLISHED[stack] === undefined ? [`${stack}.yml`] : [`${stack}.yml`, `${stack}-publish.yml`],
)
