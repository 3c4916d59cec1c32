/**
 * SHOW CONFIG, VERSION, STATE, MEM, PEERS, PEER_POOLS and DNS_*: the program itself. DNS is Node's
 * and the system's resolver: names that were looked up are shown, zones it does not know.
 */
import type { Config } from '../../config/config.ts'
import { configRows } from '../../config/describe.ts'
import type { ProcessFacts, Snapshot } from '../facts.ts'
import { columns, type Row, row } from '../table.ts'

/** The release of PgBouncer whose console this is. */
export const PGBOUNCER_VERSION = '1.26.0'

export const VERSION = columns('version')

/**
 * Tools look for the word PgBouncer and the first number behind it, and turn features on by it; a
 * name or number of our own there would switch them off. Who we are stands in parentheses.
 */
export function versionText(version: string): string {
  return `PgBouncer ${PGBOUNCER_VERSION} (pgsteer ${version})`
}

export function showVersion({ version }: Snapshot): Row[] {
  return [row(versionText(version))]
}

export const CONFIG = columns('key value default changeable')

/** PgBouncer's keys in its order, then ours. Secrets are hidden. */
export function showConfig({ config }: Snapshot): Row[] {
  return configRows(config).map((one) => row(one.key, one.value, one.default, one.changeable))
}

export const STATE = columns('key value')

export function showState({ state }: Snapshot): Row[] {
  return [
    row('active', state.isPaused ? 'no' : 'yes'),
    row('paused', state.isPaused ? 'yes' : 'no'),
    row('suspended', 'no'),
  ]
}

export const MEM = columns('name size:int4 used:int4 free:int4 memtotal:int4')

/** Bytes by process, with `size` 1: the JavaScript heap, buffers outside of it, and resident. */
export function showMem(snapshot: Snapshot): Row[] {
  const workers = snapshot.facts.workers.flatMap(({ worker, process }) =>
    memoryRows(`worker_${worker}`, process),
  )
  return [...memoryRows('control', snapshot.control), ...workers]
}

function memoryRows(name: string, facts: ProcessFacts): Row[] {
  const { heapUsedBytes, heapTotalBytes, externalBytes, rssBytes } = facts
  return [
    row(`${name}_heap`, 1, heapUsedBytes, heapTotalBytes - heapUsedBytes, heapTotalBytes),
    row(`${name}_buffers`, 1, externalBytes, 0, externalBytes),
    row(`${name}_resident`, 1, rssBytes, 0, rssBytes),
  ]
}

export const PEERS = columns('peer_id:int4 host port:int4 pool_size:int4')

export function showPeers({ config }: Snapshot): Row[] {
  return [...config.peers.values()].map(({ id, host, port, poolSize }) =>
    row(id, host, port, poolSize ?? config.pgbouncer.defaultPoolSize),
  )
}

export const PEER_POOLS = columns(`
  peer_id:int4 cl_active_cancel_req:int4 cl_waiting_cancel_req:int4 sv_active_cancel:int4
  sv_login:int4`)

/** A row per peer; cancel keys name their instance and nothing waits in a pool for it. */
export function showPeerPools({ config }: { readonly config: Config }): Row[] {
  return [...config.peers.keys()].map((id) => row(id, 0, 0, 0, 0))
}

export const DNS_HOSTS = columns('hostname ttl:int8 addrs')

export function showDnsHosts({ dns }: Snapshot): Row[] {
  return dns.map(({ hostname, ttlMs, addresses }) =>
    row(hostname, ttlMs / 1000, addresses.join(',')),
  )
}

export const DNS_ZONES = columns('zonename serial:int8 count:int4')
