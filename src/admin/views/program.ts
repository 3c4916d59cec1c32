/**
 * SHOW CONFIG, VERSION, STATE, MEM, PEERS, PEER_POOLS and DNS_*: the program itself. DNS is the
 * system's resolver: names that were looked up are shown, without a time to live, since each new
 * connection asks anew; zones it does not know.
 */
import { configRows } from '../../config/describe.ts'
import type { ProcessFacts, Snapshot } from '../facts.ts'
import { columns, type Row, row, timestamp } from '../table.ts'

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

export const WORKERS = columns(`
  worker:int4 process_id:int4 state version started clients:int8 listeners:int4`)

/** Ours: the processes that serve clients. While they are replaced, one arrives and one leaves. */
export function showWorkers({ facts, places }: Snapshot): Row[] {
  return facts.workers.map(({ worker, process, version, startedWallMs, clients, listeners }) =>
    row(
      worker,
      process.processId,
      places.get(worker) ?? 'serving',
      version,
      timestamp(startedWallMs),
      clients,
      listeners.length,
    ),
  )
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

/** [peers] of the file, or the instances that etcd knows: this one is among them. */
export function showPeers(snapshot: Snapshot): Row[] {
  const { defaultPoolSize } = snapshot.config.pgbouncer
  return peers(snapshot).map(({ id, host, port, poolSize }) =>
    row(id, host, port, poolSize ?? defaultPoolSize),
  )
}

export const INSTANCES = columns('instance:int4 host port:int4 self:bool source version started')

/** The same, as ours: which of them this one is, and what else is known of each. */
export function showInstances(snapshot: Snapshot): Row[] {
  const source = snapshot.config.peers.size > 0 ? 'file' : 'etcd'
  const self = instanceNumber(snapshot)
  return peers(snapshot).map(({ id, host, port, version, startedWallMs }) => {
    const started = startedWallMs === null ? null : timestamp(startedWallMs)
    return row(id, host, port, id === self, source, version, started)
  })
}

/** The number in this instance's cancel keys; 0 = none. */
export function instanceNumber({ config, instances }: Snapshot): number {
  const { peerId } = config.pgbouncer
  return peerId === 0 && config.peers.size === 0 ? instances.id : peerId
}

export interface Peer {
  readonly id: number
  readonly host: string
  readonly port: number
  readonly poolSize: number | null
  /** This and the next: null where only the file names it. */
  readonly version: string | null
  readonly startedWallMs: number | null
}

/** By number. */
export function peers({ config, instances }: Pick<Snapshot, 'config' | 'instances'>): Peer[] {
  if (config.peers.size === 0)
    return instances.all.map(({ id, host, port, version, startedWallMs }) => {
      return { id, host, port, poolSize: null, version, startedWallMs }
    })
  return [...config.peers.values()].map(({ id, host, port, poolSize }) => {
    return { id, host, port, poolSize, version: null, startedWallMs: null }
  })
}

export const PEER_POOLS = columns(`
  peer_id:int4 cl_active_cancel_req:int4 cl_waiting_cancel_req:int4 sv_active_cancel:int4
  sv_login:int4`)

/**
 * A row per peer: each request that is passed on has a connection of its own until the peer ends it,
 * and none waits.
 */
export function showPeerPools(snapshot: Snapshot): Row[] {
  const underWay = new Map(snapshot.facts.peers.map((peer) => [peer.id, peer.underWay]))
  return peers(snapshot).map(({ id }) => {
    const requests = underWay.get(id) ?? 0
    return row(id, requests, 0, requests, 0)
  })
}

export const DNS_HOSTS = columns('hostname ttl:int8 addrs')

export function showDnsHosts({ dns }: Snapshot): Row[] {
  return dns.map(({ hostname, addresses }) => row(hostname, 0, addresses.join(',')))
}

export const DNS_ZONES = columns('zonename serial:int8 count:int4')
