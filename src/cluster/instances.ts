/**
 * The instances of pgsteer in front of one cluster, as they write themselves down in etcd: where
 * their keys are, what stands in them, which number is free, and what all of it means for cancel
 * requests. Pure values; registration.ts reads and writes them.
 *
 *     /pgsteer/<namespace>/<scope>/instances/<number>    one JSON object, on the lease of its instance
 *
 * That is outside of Patroni's namespace: Patroni and its tools, which list `/<namespace>/<scope>/`
 * whole, never see it, and a user of etcd may be allowed to write here and only to read there.
 */
import { type Config, isHost, type PeerConfig, type PeerTls } from '../config/config.ts'
import { isObject, keyPrefix, parseJson, textOf } from './keys.ts'
import type { Snapshot, StoredKey } from './keyspace.ts'

/** What an instance says of itself. */
export interface InstanceCard {
  /** Random, of one start of the program: two that ask for one number are told apart by it. */
  readonly owner: string
  readonly host: string
  readonly port: number
  readonly tls: PeerTls
  readonly version: string
  readonly startedWallMs: number
}

export interface Instance extends InstanceCard {
  /** From 1 to 16383, what PgBouncer's layout of cancel keys has room for. */
  readonly id: number
}

/** Everything known of the instances; the same value until something in it changes. */
export interface Instances {
  /** The number of this one, 0 while it has none. */
  readonly id: number
  /** All of them, this one included, by number. */
  readonly all: readonly Instance[]
}

export const NO_INSTANCES: Instances = Object.freeze({ id: 0, all: [] })

export const INSTANCE_ID_MAX = 16_383
/** What somebody else writes into etcd must not fill the memory. */
const INSTANCES_MAX = 1000
const TEXT_LENGTH_MAX = 64
/** The last moment that a Date can be, as ECMAScript says. */
const DATE_MS_MAX = 8.64e15
const TLS: readonly PeerTls[] = ['none', 'offered', 'certificate']

export function instancesPrefix(place: {
  readonly namespace: string
  readonly scope: string | null
  readonly group: number | null
}): string {
  const patroni = keyPrefix(place.namespace, place.scope ?? '', place.group)
  return `/pgsteer${patroni}instances/`
}

export function instanceText({ owner, host, port, tls, version, startedWallMs }: InstanceCard) {
  return JSON.stringify({ owner, host, port, tls, version, startedWallMs })
}

/** An instance with the key it stands in. */
export interface Registered {
  readonly instance: Instance
  readonly key: StoredKey
}

/**
 * Reads all keys; what is not a whole card under a number is left out, and what is too many, but
 * never a card of `owner`. By number.
 */
export function readInstances({ keys }: Snapshot, owner: string): Registered[] {
  const found: Registered[] = []
  for (const [name, key] of keys) {
    const instance = readInstance(name, key.value)
    if (instance === null) continue
    if (found.length < INSTANCES_MAX || instance.owner === owner) found.push({ instance, key })
  }
  return found.toSorted((one, other) => one.instance.id - other.instance.id)
}

function readInstance(name: string, text: string): Instance | null {
  const id = /^[1-9]\d{0,4}$/.test(name) ? Number(name) : 0
  const json = parseJson(text)
  if (id < 1 || id > INSTANCE_ID_MAX || !isObject(json)) return null
  const { port, startedWallMs } = json
  const host = textOf(json['host'])
  const owner = textOf(json['owner'])
  if (!isHost(host) || !isPort(port)) return null
  if (owner === '' || owner.length > TEXT_LENGTH_MAX) return null
  return {
    id,
    owner,
    host,
    port,
    tls: TLS.find((one) => one === json['tls']) ?? 'none',
    version: textOf(json['version']).slice(0, TEXT_LENGTH_MAX),
    startedWallMs: isDateMs(startedWallMs) ? startedWallMs : 0,
  }
}

function isPort(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 65_535
}

function isDateMs(value: unknown): value is number {
  return typeof value === 'number' && Math.abs(value) <= DATE_MS_MAX
}

/**
 * A number nobody has, or 0 when all are taken. It is drawn, not counted: the number of an instance
 * that ended is not given again soon, so that its keys meet nobody who never gave them out.
 */
export function freeNumber(taken: ReadonlySet<number>, random: (below: number) => number): number {
  const free = INSTANCE_ID_MAX - taken.size
  if (free <= 0) return 0
  let left = random(free)
  for (let id = 1; id <= INSTANCE_ID_MAX; id += 1) {
    if (taken.has(id)) continue
    if (left === 0) return id
    left -= 1
  }
  return 0
}

/**
 * Where others reach this instance: the address that this machine reaches etcd from, unless it
 * listens on certain addresses only and that is none of them. Null: on no address of TCP at all.
 */
export function advertisedHost(listenAddr: readonly string[], local: string): string | null {
  const first = listenAddr.find((one) => !isLoopback(one)) ?? listenAddr[0]
  if (first === undefined) return null
  const isEverywhere = listenAddr.some((one) => ['*', '0.0.0.0', '::'].includes(one))
  return isEverywhere || listenAddr.includes(local) ? local : first
}

function isLoopback(address: string): boolean {
  return address === 'localhost' || address === '::1' || address.startsWith('127.')
}

/** What the instances are to those who pass cancel requests on: by number, this one left out. */
export function peersOf({ id, all }: Instances): ReadonlyMap<number, PeerConfig> {
  const others = all.filter((instance) => instance.id !== id)
  return new Map(
    others.map(({ id: number, host, port, tls }) => [
      number,
      { id: number, host, port, poolSize: null, tls },
    ]),
  )
}

/** What the data plane works with: [peers] of the file, or else what etcd knows. */
export function withInstances(config: Config, instances: Instances): Config {
  if (config.peers.size > 0) return config
  const peerId = config.pgbouncer.peerId === 0 ? instances.id : config.pgbouncer.peerId
  const pgbouncer = Object.freeze({ ...config.pgbouncer, peerId })
  return Object.freeze({ ...config, pgbouncer, peers: peersOf(instances) })
}
