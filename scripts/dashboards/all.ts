/** Every dashboard, in the order of reading. */
import { BACKUPS } from './backups.ts'
import { CLUSTER } from './cluster.ts'
import { ETCD } from './etcd.ts'
import type { Dashboard } from './grafana.ts'
import { HOSTS } from './hosts.ts'
import { MEMBER } from './member.ts'
import { PGSTEER } from './pgsteer.ts'
import { REPLICATION } from './replication.ts'

export const DASHBOARDS: readonly Dashboard[] = [
  CLUSTER,
  PGSTEER,
  MEMBER,
  REPLICATION,
  ETCD,
  BACKUPS,
  HOSTS,
]
