/**
 * A simulated etcd with Patroni's keys, and the endpoints that the real source asks: it answers
 * late, falls silent for the proxy or for everybody, and its leases run out.
 */
import type { Watch, WatchEvents } from '../../src/cluster/endpoint.ts'
import type { KeyEvent, Snapshot, StoredKey } from '../../src/cluster/keyspace.ts'
import type { EndpointPort } from '../../src/cluster/outside.ts'
import type { Chance } from './chance.ts'
import type { SimulationClock } from './clock.ts'

const DEADLINE_MS = 1000

/** What one proxy was told of who leads, in the order of revisions. */
export class Ear {
  readonly name: string
  /** Since somebody looked last. */
  leaders: string[] = []
  #revision = 0n

  constructor(name: string) {
    this.name = name
  }

  /** News that are no news to whoever has read later. */
  hear(revision: bigint, leader: string | null | undefined): void {
    if (revision <= this.#revision) return
    this.#revision = revision
    if (typeof leader === 'string') this.leaders.push(leader)
  }
}

interface OpenWatch {
  readonly endpoint: SimulatedEndpoint
  readonly events: WatchEvents
  /** Events come in order. */
  readyMs: number
}

export class Etcd {
  /** It has a quorum. */
  isUp = true
  /** Proxies that do not reach it. */
  readonly cutFrom = new Set<string>()
  readonly ttlMs: number
  leaseUntilMs = 0
  /** Holders of the leader key, in order, with the time at which they got it. */
  readonly reigns: { readonly name: string; readonly atMs: number }[] = []
  onLeaderGone: () => void = () => {}
  readonly #clock: SimulationClock
  readonly #chance: Chance
  readonly #keys = new Map<string, StoredKey>()
  readonly #watches = new Set<OpenWatch>()
  #revision = 10n
  #lease = 100

  constructor(clock: SimulationClock, chance: Chance, ttlMs: number) {
    this.ttlMs = ttlMs
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

  /** `isReign`: it is not taken from one who leads rightly. */
  lead(name: string, isReign = true): void {
    this.#lease += 1
    if (isReign) this.reigns.push({ name, atMs: this.#clock.nowMs() })
    if (this.leader !== null) this.delete('leader')
    this.refresh()
    this.put('leader', name)
  }

  refresh(): void {
    this.leaseUntilMs = this.#clock.nowMs() + this.ttlMs
  }

  /** No quorum: leases live on, and begin anew afterwards. */
  setUp(isUp: boolean): void {
    this.isUp = isUp
    this.refresh()
  }

  endpoint(url: string, ear: Ear): EndpointPort {
    return new SimulatedEndpoint(url, { etcd: this, clock: this.#clock, ear })
  }

  snapshot(): Snapshot {
    return { header: this.#header(), keys: new Map(this.#keys) }
  }

  watch(endpoint: SimulatedEndpoint, events: WatchEvents): Watch {
    const watch = { endpoint, events, readyMs: 0 }
    this.#watches.add(watch)
    return { endpoint, close: () => this.#watches.delete(watch) }
  }

  /** Answers after a while, or not in time. */
  answer<T>({ name }: Ear, make: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      const fail = (): void => reject(new Error('no answer within 1000 ms'))
      const timer = this.#clock.after(DEADLINE_MS, fail)
      this.#clock.after(this.#chance.between(0, this.#chance.is(0.02) ? 1500 : 6), () => {
        if (!this.isUp || this.cutFrom.has(name)) return
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
    for (const watch of this.#watches) {
      const nowMs = this.#clock.nowMs()
      watch.readyMs = Math.max(watch.readyMs, nowMs + this.#chance.between(lateMs, lateMs + 5))
      this.#clock.after(watch.readyMs - nowMs, () => this.#tell(watch, header, events))
    }
  }

  #tell(watch: OpenWatch, header: Snapshot['header'], events: readonly KeyEvent[]): void {
    const { ear } = watch.endpoint
    if (!this.#watches.has(watch) || !this.isUp || this.cutFrom.has(ear.name)) return
    const leader = events.find(({ name }) => name === 'leader')
    ear.hear(header.revision, leader === undefined ? undefined : (leader.key?.value ?? null))
    watch.events.changed(header, events)
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
  readonly ear: Ear
  isReading = false
  restUntilMs = 0
  readonly #etcd: Etcd
  readonly #clock: SimulationClock

  constructor(url: string, { etcd, clock, ear }: { etcd: Etcd; clock: SimulationClock; ear: Ear }) {
    this.url = url
    this.ear = ear
    this.#etcd = etcd
    this.#clock = clock
  }

  isResting(nowMs: number): boolean {
    return nowMs < this.restUntilMs
  }
  read(): Promise<Snapshot> {
    return this.#etcd.answer(this.ear, () => {
      const snapshot = this.#etcd.snapshot()
      this.ear.hear(snapshot.header.revision, snapshot.keys.get('leader')?.value ?? null)
      return snapshot
    })
  }
  leaseSeconds(): Promise<number> {
    const { leaseUntilMs } = this.#etcd
    return this.#etcd.answer(this.ear, () =>
      Math.max(0, Math.floor((leaseUntilMs - this.#clock.nowMs()) / 1000)),
    )
  }
  watch(_revision: bigint, events: WatchEvents): Promise<Watch> {
    return this.#etcd.answer(this.ear, () => this.#etcd.watch(this, events))
  }
  succeeded(): void {
    this.restUntilMs = 0
  }
  failed(): void {
    this.restUntilMs = this.#clock.nowMs() + 250
  }
  close(): void {}
}
