/**
 * Keeps this instance written down in etcd under a number of its own, and knows the others that are.
 *
 * One loop, each turn of which looks at what etcd says and does the next thing: renew the lease,
 * read all instances, claim a number if ours is not there. A lease that ran out, an etcd that was
 * restored, an answer that came too late: the next turn sees what is missing. A number is kept for
 * as long as nobody else has it. While etcd does not answer, what was known last stays; without the
 * right to write there, the others are still known, and only they are not told of this one.
 */
import { type Clock, type Timer, wait } from '../base/clock.ts'
import { reasonOf } from '../base/errors.ts'
import { invariant } from '../base/invariant.ts'
import type { Log } from '../base/log.ts'
import { isHost, type PeerConfig } from '../config/config.ts'
import {
  advertisedHost,
  freeNumber,
  type InstanceCard,
  type Instances,
  instanceText,
  peersOf,
  type Registered,
  readInstances,
} from './instances.ts'
import type { Registry } from './registry.ts'

export interface RegistrationDeps {
  readonly clock: Clock
  readonly log: Log
  /** One per member of etcd, asked in turn. */
  readonly registries: readonly Pick<Registry, keyof Registry>[]
  readonly card: Omit<InstanceCard, 'host'>
  /** advertise_addr. */
  readonly host: string | null
  readonly listenAddr: readonly string[]
  /** The one number to have, or 0: any. */
  readonly wanted: number
  /** What it had before; it is asked for first. */
  readonly before: number
  /** The address from which this machine reaches that member of etcd. */
  localAddress(url: string): Promise<string>
  /** A whole number from 0 on. */
  random(below: number): number
  /** Called with each new value, synchronously. */
  publish(instances: Instances): void
}

/** An instance that is killed is forgotten after this long. */
const LEASE_S = 8
const RENEW_MS = 2000
const PERIOD_MS = 1000
/** After a failure, and when somebody else was faster. */
const AGAIN_MS = 250
/** Rights are changed by people. */
const REFUSED_MS = 60_000
/** Requests for unknown numbers make at most so many reads. */
const LOOK_MS = 250

type RegistryPort = RegistrationDeps['registries'][number]

export class Registration {
  readonly #deps: RegistrationDeps
  #instances: Instances
  #lease: { readonly id: string; readonly renewedMs: number } | null = null
  /** The number to ask for next; 0: draw one. */
  #candidate: number
  #turns = 0
  #failures = 0
  #writeAgainMs = Number.NEGATIVE_INFINITY
  /** What people were told last is wrong; '' when all is well. */
  #told = ''
  #looking: Promise<void> | null = null
  #lookedMs = Number.NEGATIVE_INFINITY
  #timer: Timer | null = null
  #isStopped = false

  constructor(deps: RegistrationDeps) {
    invariant(deps.registries.length > 0, 'there is an etcd to register in')
    this.#deps = deps
    this.#instances = { id: deps.before, all: [] }
    this.#candidate = deps.before
  }

  start(): void {
    void this.#turn()
  }

  /** Takes this instance out, so that nobody waits for its lease to run out. Never rejects. */
  async stop(): Promise<void> {
    this.#isStopped = true
    this.#timer?.cancel()
    const lease = this.#lease
    this.#lease = null
    if (lease !== null)
      await this.#registry()
        .revoke(lease.id)
        .catch(() => undefined)
    for (const registry of this.#deps.registries) registry.close()
  }

  /** Where that instance is, asking etcd when it is not known; null when there is none. */
  async find(id: number): Promise<PeerConfig | null> {
    const known = peersOf(this.#instances).get(id)
    if (known !== undefined || this.#isStopped) return known ?? null
    this.#looking ??= this.#look().finally(() => {
      this.#looking = null
    })
    await this.#looking
    return peersOf(this.#instances).get(id) ?? null
  }

  async #look(): Promise<void> {
    const { clock } = this.#deps
    const restMs = this.#lookedMs + LOOK_MS - clock.nowMs()
    if (restMs > 0) await wait(clock, restMs)
    if (this.#isStopped) return
    this.#lookedMs = clock.nowMs()
    try {
      this.#adopt(await this.#read(this.#registry()))
    } catch (error) {
      this.#deps.log.debug({ reason: reasonOf(error) }, 'the instances in etcd cannot be read')
    }
  }

  #registry(): RegistryPort {
    const { registries } = this.#deps
    const registry = registries[this.#turns % registries.length]
    invariant(registry !== undefined, 'there is an etcd to register in')
    return registry
  }

  async #turn(): Promise<void> {
    const registry = this.#registry()
    let pauseMs = PERIOD_MS
    try {
      pauseMs = await this.#attend(registry)
      this.#failures = 0
    } catch (error) {
      if (!this.#isStopped) registry.close()
      this.#turns += 1
      pauseMs = this.#failed(reasonOf(error))
    }
    if (!this.#isStopped) this.#timer = this.#deps.clock.after(pauseMs, () => void this.#turn())
  }

  /** Returns when to look again. */
  async #attend(registry: RegistryPort): Promise<number> {
    await this.#renew(registry)
    // What is asked after stop() would open a connection that nobody closes.
    if (this.#isStopped) return PERIOD_MS
    const found = await this.#read(registry)
    if (this.#isStopped) return PERIOD_MS
    const mine = this.#mine(found)
    const isThere = mine !== undefined && mine.key.lease === this.#lease?.id
    if (isThere || this.#deps.clock.nowMs() < this.#writeAgainMs) {
      this.#adopt(found)
      if (isThere) this.#tell('')
      return PERIOD_MS
    }
    const isClaimed = await this.#tryToClaim(registry, found, mine)
    if (this.#isStopped) return PERIOD_MS
    this.#adopt(isClaimed ? await this.#read(registry) : found)
    return isClaimed ? PERIOD_MS : AGAIN_MS
  }

  async #read(registry: RegistryPort): Promise<Registered[]> {
    return readInstances(await registry.read(), this.#deps.card.owner)
  }

  async #renew(registry: RegistryPort): Promise<void> {
    const nowMs = this.#deps.clock.nowMs()
    const lease = this.#lease
    if (lease === null || nowMs - lease.renewedMs < RENEW_MS) return
    const isAlive = await registry.renew(lease.id)
    if (this.#isStopped) return
    this.#lease = isAlive ? { id: lease.id, renewedMs: nowMs } : null
    if (!isAlive) this.#deps.log.info('the lease of this instance ran out, taking another one')
  }

  #mine(found: readonly Registered[]): Registered | undefined {
    const mine = found.filter(({ instance }) => instance.owner === this.#deps.card.owner)
    return mine.find(({ instance }) => instance.id === this.#instances.id) ?? mine[0]
  }

  /** False: nothing was written. */
  async #tryToClaim(
    registry: RegistryPort,
    found: readonly Registered[],
    mine: Registered | undefined,
  ): Promise<boolean> {
    try {
      return await this.#claim(registry, found, mine)
    } catch (error) {
      const reason = reasonOf(error)
      if (!isRefusal(reason)) throw error
      this.#refused(reason)
      return false
    }
  }

  async #claim(
    registry: RegistryPort,
    found: readonly Registered[],
    mine: Registered | undefined,
  ): Promise<boolean> {
    const { card, clock } = this.#deps
    const id = this.#choose(found, mine)
    const host = id === 0 ? null : await this.#host(registry)
    if (host === null || this.#isStopped) return false
    const renewedMs = clock.nowMs()
    const lease = this.#lease ?? { id: await registry.grant(LEASE_S), renewedMs }
    if (this.#isStopped) return false
    this.#lease = lease
    const isOurs = await registry.claim({
      name: String(id),
      value: instanceText({ ...card, host }),
      lease: lease.id,
      over: mine?.instance.id === id ? mine.key.modRevision : 0n,
    })
    // Our own key that ended meanwhile is no reason to take another number.
    this.#candidate = isOurs || mine?.instance.id === id ? id : 0
    return isOurs
  }

  /** The number to claim; 0 when there is none to be had. */
  #choose(found: readonly Registered[], mine: Registered | undefined): number {
    const { wanted } = this.#deps
    const taken = new Set(found.map(({ instance }) => instance.id))
    if (wanted !== 0) {
      if (mine?.instance.id === wanted || !taken.has(wanted)) return wanted
      const other = found.find(({ instance }) => instance.id === wanted)?.instance
      this.#wait(`peer_id = ${wanted} is taken by ${other?.host}:${other?.port}`)
      return 0
    }
    if (mine !== undefined) return mine.instance.id
    if (this.#candidate !== 0 && !taken.has(this.#candidate)) return this.#candidate
    this.#candidate = freeNumber(taken, (below) => this.#deps.random(below))
    if (this.#candidate === 0) this.#wait('all numbers are taken')
    return this.#candidate
  }

  async #host(registry: RegistryPort): Promise<string | null> {
    const { card, host, listenAddr } = this.#deps
    if (card.port === 0) {
      this.#wait('others do not know its port: set advertise_port')
      return null
    }
    const advertised =
      host ?? advertisedHost(listenAddr, await this.#deps.localAddress(registry.url))
    if (advertised !== null && isHost(advertised)) return advertised
    this.#wait(
      advertised === null
        ? 'it listens on no address of TCP'
        : `others cannot reach "${advertised}": set advertise_addr to a name or an address`,
    )
    return null
  }

  /** Nothing to be written until somebody does something about it, or a lease runs out. */
  #wait(reason: string): void {
    this.#writeAgainMs = this.#deps.clock.nowMs() + PERIOD_MS
    this.#tell(reason)
  }

  #refused(reason: string): void {
    this.#lease = null
    this.#writeAgainMs = this.#deps.clock.nowMs() + REFUSED_MS
    this.#tell(reason)
  }

  /** Returns when to look again. */
  #failed(reason: string): number {
    this.#failures += 1
    if (isRefusal(reason)) {
      this.#refused(reason)
      return REFUSED_MS
    }
    // One that is restarted is no news: the next one is asked at once.
    if (this.#failures > this.#deps.registries.length) this.#tell(`etcd: ${reason}`)
    return AGAIN_MS
  }

  #tell(reason: string): void {
    if (reason === this.#told || this.#isStopped) return
    this.#told = reason
    const { id } = this.#instances
    if (reason === '')
      this.#deps.log.info({ instance: id }, 'this instance is written down in etcd')
    else
      this.#deps.log.warn(
        { instance: id, reason },
        'this instance is not written down in etcd: cancel requests that reach others may be lost',
      )
  }

  #adopt(found: readonly Registered[]): void {
    const id = this.#mine(found)?.instance.id ?? this.#instances.id
    const next = { id, all: found.map(({ instance }) => instance) }
    if (this.#isStopped || JSON.stringify(next) === JSON.stringify(this.#instances)) return
    this.#instances = next
    this.#deps.publish(next)
    if (this.#mine(found) !== undefined) this.#tell('')
  }
}

/** What etcd says to who may not: its own words, which etcd3 hands on. */
function isRefusal(reason: string): boolean {
  return /permission denied|user name is empty|authentication failed|invalid auth/i.test(reason)
}
