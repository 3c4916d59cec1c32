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

/** Put on everything that the tool makes, to find it again. */
export const CLUSTER_LABEL = 'pgsteer.cluster'
/** What a secret's content was, as far as a reader of labels may know. */
export const DIGEST_LABEL = 'pgsteer.digest'

/** The labels of nodes that place services. */
export const NODE_LABELS = {
  member: 'pg.slot',
  etcd: 'etcd.slot',
  backup: 'pgbackrest',
  monitoring: 'monitoring',
} as const

/** The hand-written files, below deploy/. */
export const stackFiles: readonly string[] = STACKS.map((stack) => `${stack}.yml`)
