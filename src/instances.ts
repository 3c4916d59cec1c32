/**
 * This instance among the others: registered in etcd as the configuration says, and registered anew
 * when a RELOAD says something else. What registers it, and what is written there, is in
 * cluster/registration.ts and cluster/instances.ts.
 */
import { randomInt } from 'node:crypto'
import type { Clock } from './base/clock.ts'
import type { Log } from './base/log.ts'
import { accessOf } from './cluster/etcd.ts'
import type { EtcdAccess } from './cluster/etcd-client.ts'
import { type Instances, instancesPrefix, NO_INSTANCES } from './cluster/instances.ts'
import { Registration } from './cluster/registration.ts'
import { Registry } from './cluster/registry.ts'
import type { Config, PeerConfig, PeerTls } from './config/config.ts'
import { dial } from './net/dial.ts'
import { VERSION } from './version.ts'

/** What of an instance outlives its control process; the supervisor keeps it. */
export interface InstanceIdentity {
  /** Random, of one start of the program. */
  readonly owner: string
  /** The number it had last, 0: none so far. */
  readonly id: number
  readonly startedWallMs: number
}

export interface InstancesDeps {
  readonly clock: Clock
  readonly log: Log
  readonly identity: InstanceIdentity
  /** Called with each new value. */
  publish(instances: Instances): void
}

const LOCAL_ADDRESS_MS = 1000
const ETCD_PORT = 2379

export class InstanceKeeper {
  readonly #deps: InstancesDeps
  /** Read once, as its keys need a restart; null: the source is not etcd. */
  readonly #access: EtcdAccess | null
  #config: Config
  #registration: Registration | null
  #current: Instances

  /** Errors: Error of a file that cannot be read. */
  constructor(config: Config, deps: InstancesDeps) {
    const { cluster } = config
    this.#deps = deps
    this.#access = cluster?.source === 'etcd' ? accessOf(cluster) : null
    this.#config = config
    this.#current = { id: deps.identity.id, all: [] }
    this.#registration = this.#make()
  }

  get current(): Instances {
    return this.#current
  }

  start(): void {
    this.#registration?.start()
  }

  /** Where that instance is, or null. */
  find(id: number): Promise<PeerConfig | null> {
    return this.#registration?.find(id) ?? Promise.resolve(null)
  }

  reload(config: Config): void {
    const before = cardKey(this.#config)
    this.#config = config
    if (cardKey(config) === before) return
    void this.#registration?.stop()
    this.#registration = this.#make()
    if (this.#registration === null) this.#publish(NO_INSTANCES)
    this.#registration?.start()
  }

  async stop(): Promise<void> {
    await this.#registration?.stop()
  }

  /** Null: the configuration has no etcd, names the peers itself, or does not want it. */
  #make(): Registration | null {
    const { cluster, peers, pgbouncer, pgsteer } = this.#config
    const access = this.#access
    if (cluster?.source !== 'etcd' || access === null) return null
    if (peers.size > 0 || !pgsteer.registerInstance) return null
    const { clock, log, identity } = this.#deps
    const prefix = instancesPrefix(cluster)
    return new Registration({
      clock,
      log,
      registries: cluster.etcdHosts.map((url) => new Registry(url, access, prefix, clock)),
      card: {
        owner: identity.owner,
        port: pgsteer.advertisePort ?? pgbouncer.listenPort,
        tls: tlsOf(this.#config),
        version: VERSION,
        startedWallMs: identity.startedWallMs,
      },
      host: pgsteer.advertiseAddr,
      listenAddr: pgbouncer.listenAddr,
      wanted: pgbouncer.peerId,
      before: this.#current.id,
      localAddress: (url) => localAddress(url, clock),
      random: (below) => randomInt(below),
      publish: (instances) => this.#publish(instances),
    })
  }

  #publish(instances: Instances): void {
    this.#current = instances
    this.#deps.publish(instances)
  }
}

/** Configurations with the same key are registered alike. */
function cardKey(config: Config): string {
  return JSON.stringify([config.peers.size > 0, config.pgbouncer.peerId, tlsOf(config)])
}

function tlsOf({ pgbouncer: { clientTlsSslmode: mode } }: Config): PeerTls {
  if (mode === 'disable') return 'none'
  return mode === 'verify-ca' || mode === 'verify-full' ? 'certificate' : 'offered'
}

/** The address from which this machine reaches that URL. */
async function localAddress(url: string, clock: Clock): Promise<string> {
  const { hostname, port } = new URL(url)
  const address = { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port) || ETCD_PORT }
  const channel = await dial(address, { clock, keepAliveMs: 0, deadlineMs: LOCAL_ADDRESS_MS })
  try {
    return channel.localAddress.replace(/^::ffff:/, '')
  } finally {
    channel.destroy()
  }
}
