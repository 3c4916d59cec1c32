/**
 * A simulated etcd with Patroni's keys, and the endpoints that the real source asks: it answers
 * late, falls silent for the proxy or for everybody, and its leases run out.
 */
import type { Watch, WatchEvents } from '../../src/cluster/endpoint.ts'
import type { KeyEvent, Snapshot, StoredKey } from '../../src/cluster/keyspace.ts'
import type { EndpointPort } from '../../src/cluster/outside.ts'
import type { Chance } from './chance.ts'
import type { SimulationClock } from './clock.ts'

export const TTL_MS = 6000
const DEADLINE_MS = 1000

export class Etcd {
  /** It has a quorum. */
  isUp = true
  /** The proxy reaches it. */
  isReachable = true
  leaseUntilMs = 0
  /** Holders of the leader key, in order, with the time at which they got it. */
  readonly reigns: { readonly name: string; readonly atMs: number }[] = []
  onLeaderGone: () => void = () => {}
  readonly #clock: SimulationClock
  readonly #chance: Chance
  readonly #keys = new Map<string, StoredKey>()
  readonly #watches = new Set<{ endpoint: SimulatedEndpoint; events: WatchEvents }>()
  #revision = 10n
  #lease = 100

  constructor(clock: SimulationClock, chance: Chance) {
    this.#clock = clock
    this.#chance = chance
    clock.every(100, () => this.#expire())
  }

  get leader(): string | null {
    return this.#keys.get('leader')?.value ?? null
  }

  valueOf(name: string): string {
    return this.#keys.get(name)?.value ?? ''
  }

  put(name: string, value: string): void {
    this.#revision += 1n
    const before = this.#keys.get(name)
    const createRevision = before?.createRevision ?? this.#revision
    const lease = name === 'leader' ? String(this.#lease) : '0'
    this.#change(name, { value, createRevision, modRevision: this.#revision, lease })
  }

  delete(name: string): void {
    if (!this.#keys.has(name)) return
    this.#revision += 1n
    this.#change(name, null)
    if (name === 'leader') this.onLeaderGone()
  }

  lead(name: string): void {
    this.#lease += 1
    this.reigns.push({ name, atMs: this.#clock.nowMs() })
    this.refresh()
    this.put('leader', name)
  }

  refresh(): void {
    this.leaseUntilMs = this.#clock.nowMs() + TTL_MS
  }

  /** No quorum: leases live on, and begin anew afterwards. */
  setUp(isUp: boolean): void {
    this.isUp = isUp
    this.refresh()
  }

  endpoint(url: string): EndpointPort {
    return new SimulatedEndpoint(url, this, this.#clock)
  }

  snapshot(): Snapshot {
    return { header: this.#header(), keys: new Map(this.#keys) }
  }

  watch(endpoint: SimulatedEndpoint, events: WatchEvents): Watch {
    const watch = { endpoint, events }
    this.#watches.add(watch)
    return { endpoint, close: () => this.#watches.delete(watch) }
  }

  /** Answers after a while, or not in time. */
  answer<T>(make: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      const fail = (): void => reject(new Error('no answer within 1000 ms'))
      const timer = this.#clock.after(DEADLINE_MS, fail)
      this.#clock.after(this.#chance.between(0, this.#chance.is(0.02) ? 1500 : 6), () => {
        if (!this.isUp || !this.isReachable) return
        timer.cancel()
        resolve(make())
      })
    })
  }

  #change(name: string, key: StoredKey | null): void {
    if (key === null) this.#keys.delete(name)
    else this.#keys.set(name, key)
    const events: KeyEvent[] = [{ name, key, modRevision: this.#revision }]
    const header = this.#header()
    const lateMs = this.#chance.is(0.1) ? 900 : 5
    for (const watch of this.#watches)
      this.#clock.after(this.#chance.between(lateMs, lateMs + 5), () => {
        if (this.#watches.has(watch) && this.isUp && this.isReachable)
          watch.events.changed(header, events)
      })
  }

  #expire(): void {
    if (!this.isUp || this.leader === null || this.#clock.nowMs() < this.leaseUntilMs) return
    this.delete('leader')
  }

  #header(): Snapshot['header'] {
    return { clusterId: '1', revision: this.#revision, raftTerm: 1n }
  }
}

class SimulatedEndpoint implements EndpointPort {
  readonly url: string
  isReading = false
  restUntilMs = 0
  readonly #etcd: Etcd
  readonly #clock: SimulationClock

  constructor(url: string, etcd: Etcd, clock: SimulationClock) {
    this.url = url
    this.#etcd = etcd
    this.#clock = clock
  }

  isResting(nowMs: number): boolean {
    return nowMs < this.restUntilMs
  }
  read(): Promise<Snapshot> {
    return this.#etcd.answer(() => this.#etcd.snapshot())
  }
  leaseSeconds(): Promise<number> {
    const { leaseUntilMs } = this.#etcd
    return this.#etcd.answer(() =>
      Math.max(0, Math.floor((leaseUntilMs - this.#clock.nowMs()) / 1000)),
    )
  }
  watch(_revision: bigint, events: WatchEvents): Promise<Watch> {
    return this.#etcd.answer(() => this.#etcd.watch(this, events))
  }
  succeeded(): void {
    this.restUntilMs = 0
  }
  failed(): void {
    this.restUntilMs = this.#clock.nowMs() + 250
  }
  close(): void {}
}
