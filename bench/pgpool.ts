/**
 * Pgpool-II's files for the read/write split: every member behind it, reads spread over all of them.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { EmbeddedCluster } from '../src/demo/cluster.ts'

export interface PgpoolPlace {
  readonly directory: string
  readonly port: number
  readonly pcpPort: number
}

/** A process per client; no more than these. */
const CHILDREN = 40

/** Returns its parameters. */
export function writePgpool(cluster: EmbeddedCluster, place: PgpoolPlace): string[] {
  const at = (name: string): string => join(place.directory, name)
  const backends = cluster.members.flatMap((member, index) => [
    `backend_hostname${index} = '${member.host}'`,
    `backend_port${index} = ${member.port}`,
    `backend_weight${index} = 1`,
    `backend_flag${index} = 'DISALLOW_TO_FAILOVER'`,
  ])
  const lines = [
    "backend_clustering_mode = 'streaming_replication'",
    "listen_addresses = '127.0.0.1'",
    `port = ${place.port}`,
    "pcp_listen_addresses = '127.0.0.1'",
    `pcp_port = ${place.pcpPort}`,
    `socket_dir = '${place.directory}'`,
    `pcp_socket_dir = '${place.directory}'`,
    `pid_file_name = '${at('pid')}'`,
    `logdir = '${place.directory}'`,
    `num_init_children = ${CHILDREN}`,
    'max_pool = 1',
    'load_balance_mode = on',
    'enable_pool_hba = on',
    "pool_passwd = 'pool_passwd'",
    "sr_check_user = 'pgsteer'",
    "sr_check_password = 'pgsteer'",
    "sr_check_database = 'demo'",
    'sr_check_period = 10',
    'health_check_period = 0',
    'log_min_messages = warning',
    ...backends,
  ]
  const written = { mode: 0o644 }
  writeFileSync(at('pgpool.conf'), `${lines.join('\n')}\n`, written)
  writeFileSync(at('pool_hba.conf'), 'host all all 127.0.0.1/32 scram-sha-256\n', written)
  writeFileSync(at('pool_passwd'), 'demo:TEXTdemo\n', written)
  writeFileSync(at('pcp.conf'), '', written)
  return ['-n', '-f', at('pgpool.conf'), '-a', at('pool_hba.conf'), '-F', at('pcp.conf')]
}
