/**
 * The real watcher with its probes and its etcd source, on a clock that a test moves, in front of an
 * etcd, members and Patronis that do what the test says. Nothing in it decides.
 */
import { createLog } from '../../../src/base/log.ts'
import type { Direct } from '../../../src/cluster/direct.ts'
import type { WatchEvents } from '../../../src/cluster/endpoint.ts'
import type { Header, StoredKey } from '../../../src/cluster/keyspace.ts'
import type { EndpointPort } from '../../../src/cluster/outside.ts'
import type { Topology } from '../../../src/cluster/topology.ts'
import { Watcher, type WatcherDeps } from '../../../src/cluster/watcher.ts'
import { FakeClock } from '../../support/clock.ts'
import { configFrom } from '../../support/config.ts'

export const IDENTIFIER = '7000000000000000001'
export const TTL_MS = 30_000
const DEADLINE_MS = 1000
const SLICE_MS = 20

/** PostgreSQL and Patroni of one node. */
export class StageMember {
  isInRecovery = true
  timeline = 5
  systemIdentifier = IDENTIFIER
  started = '1'
  does: 'answer' | 'refuse' | 'hang' = 'answer'
  /** What REST /primary says; null: no answer. */
  patroni: { readonly failsafe: boolean } | null = { failsafe: false }
  /** How often /primary was asked. */
  asked = 0
}

/** etcd: it answers at once, after `latencyMs`, or not at all. */
export class StageEtcd {
  isSilent = false
  /** What it says of the lease: the truth, nothing, or no number. */
  leaseAnswers: 'well' | 'never' | 'nonsense' = 'well'
  latencyMs = 0
  leaseUntilMs = 0
  readonly keys = new Map<string, StoredKey>()
  readonly #clock: FakeClock
  readonly #watches = new Set<WatchEvents>()
  #revision = 10n
  #lease = 100

  constructor(clock: FakeClock) {
    this.#clock = clock
  }

  put(name: string, value: string, lease = '0'): void {
    this.#revision += 1n
    const createRevision = this.keys.get(name)?.createRevision ?? this.#revision
    this.#change(name, { value, createRevision, modRevision: this.#revision, lease })
  }

  delete(name: string): void {
    this.#revision += 1n
    this.#change(name, null)
  }

  /** A new reign, with a lease of its own. */
  lead(name: string, ttlMs = TTL_MS): void {
    this.keys.delete('leader')
    this.#lease += 1
    this.keepAlive(ttlMs)
    this.put('leader', name, String(this.#lease))
  }

  /** Leaves no trace in any key. */
  keepAlive(ttlMs = TTL_MS): void {
    this.leaseUntilMs = this.#clock.nowMs() + ttlMs
  }

  endpoint(url: string): EndpointPort {
    return {
      url,
      isReading: false,
      restUntilMs: 0,
      isResting: () => false,
      succeeded: () => undefined,
      failed: () => undefined,
      close: () => undefined,
      read: () => this.#answer(() => ({ header: this.#header(), keys: new Map(this.keys) })),
      leaseSeconds: () => this.#leaseSeconds(),
      watch: (_, events) =>
        this.#answer(() => {
          this.#watches.add(events)
          return { endpoint: this.endpoint(url), close: () => this.#watches.delete(events) }
        }),
    }
  }

  #leaseSeconds(): Promise<number | null> {
    if (this.leaseAnswers === 'never') return Promise.reject(new Error('no answer'))
    if (this.leaseAnswers === 'nonsense') return this.#answer(() => null)
    return this.#answer(() =>
      Math.max(0, Math.floor((this.leaseUntilMs - this.#clock.nowMs()) / 1000)),
    )
  }

  /** What it says is what was so when it was asked. */
  #answer<T>(make: () => T): Promise<T> {
    if (!this.isSilent && this.latencyMs === 0) return Promise.resolve(make())
    const answer = this.isSilent ? null : { value: make() }
    return new Promise((resolve, reject) => {
      this.#clock.after(answer === null ? DEADLINE_MS : this.latencyMs, () => {
        if (answer === null) reject(new Error('no answer within 1000 ms'))
        else resolve(answer.value)
      })
    })
  }

  #change(name: string, key: StoredKey | null): void {
    if (key === null) this.keys.delete(name)
    else this.keys.set(name, key)
    if (this.isSilent) return
    for (const watch of this.#watches)
      watch.changed(this.#header(), [{ name, key, modRevision: this.#revision }])
  }

  #header(): Header {
    return { clusterId: '1', revision: this.#revision, raftTerm: 1n }
  }
}

export class Stage {
  readonly clock = new FakeClock(100_000)
  readonly etcd = new StageEtcd(this.clock)
  readonly members = new Map(['a', 'b', 'c'].map((name) => [name, new StageMember()]))
  readonly seen: Topology[] = []
  readonly watcher: Watcher

  constructor(dynamic: Readonly<Record<string, unknown>> = {}, deps: Partial<WatcherDeps> = {}) {
    this.etcd.put('initialize', IDENTIFIER)
    this.configure(dynamic)
    for (const name of this.members.keys()) this.list(name)
    this.watcher = this.watch(deps)
  }

  /** Everything is well: a leads and takes writes. */
  static async serving(dynamic: Readonly<Record<string, unknown>> = {}): Promise<Stage> {
    const stage = new Stage(dynamic)
    stage.member('a').isInRecovery = false
    stage.etcd.lead('a')
    await stage.watcher.start()
    await stage.pass(2000)
    return stage
  }

  /** Another control process of the same program. */
  watch(deps: Partial<WatcherDeps> = {}): Watcher {
    const { cluster } = configFrom(INI)
    if (cluster === null) throw new Error('the stage has a cluster')
    return new Watcher({
      cluster,
      limits: { replicaLagBytesMax: 16_777_216, replicaLagMsMax: 10_000 },
      memberAddress: 'conn_url',
      clock: this.clock,
      log: createLog({ level: 'silent', format: 'json' }),
      publish: (topology) => this.seen.push(topology),
      outside: {
        openDirect: (address) => this.#direct(address.host),
        endpoint: (url) => this.etcd.endpoint(url),
        rest: () => ({ json: (url) => this.#rest(url) }),
      },
      ...deps,
    })
  }

  member(name: string): StageMember {
    const member = this.members.get(name)
    if (member === undefined) throw new Error(`no member ${name}`)
    return member
  }

  list(name: string): void {
    const value = { conn_url: `postgres://${name}:5432/postgres`, api_url: `http://${name}:8008` }
    this.etcd.put(`members/${name}`, JSON.stringify({ ...value, state: 'running' }))
  }

  configure(dynamic: Readonly<Record<string, unknown>>): void {
    this.etcd.put('config', JSON.stringify({ ttl: TTL_MS / 1000, loop_wait: 10, ...dynamic }))
  }

  /** The lease ran out: with it go the keys that hang on it. */
  expire(name = 'a'): void {
    this.etcd.delete('leader')
    this.etcd.delete(`members/${name}`)
  }

  get topology(): Topology {
    const last = this.seen.at(-1)
    if (last === undefined) throw new Error('nothing was published')
    return last
  }

  get state(): string {
    return this.watcher.facts().state
  }

  /** How long writes may go on by what was published last; null: as long as they like. */
  get writableForMs(): number | null {
    const { writableUntilMs } = this.topology
    return writableUntilMs === null ? null : writableUntilMs - this.clock.nowMs()
  }

  /** `each` runs every 20 ms. */
  async pass(ms: number, each: () => void = () => undefined): Promise<void> {
    for (let passed = 0; passed < ms; passed += SLICE_MS) {
      each()
      this.clock.advance(SLICE_MS)
      await this.settle()
    }
  }

  /** Patroni of the leader renews its lease every ten seconds. */
  passHealthy(ms: number): Promise<void> {
    return this.pass(ms, () => {
      if (this.etcd.leaseUntilMs - this.clock.nowMs() <= TTL_MS - 10_000) this.etcd.keepAlive()
    })
  }

  async settle(): Promise<void> {
    for (let turn = 0; turn < 40; turn += 1) await Promise.resolve()
  }

  #rest(url: string): Promise<unknown> {
    const member = this.member(/\/\/(\w+):/.exec(url)?.[1] ?? '')
    member.asked += 1
    return member.patroni === null
      ? Promise.reject(new Error('no answer'))
      : Promise.resolve({ failsafe_mode_is_active: member.patroni.failsafe })
  }

  #direct(host: string): Direct {
    const member = this.member(host)
    const answer = <T>(make: () => T): Promise<T> => {
      if (member.does === 'hang') return new Promise(() => undefined)
      if (member.does === 'answer') return Promise.resolve(make())
      return Promise.reject(Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }))
    }
    const client = {
      connect: () => answer(() => undefined),
      query: () => answer(() => ({ rows: [rowOf(member)] })),
      once: nothing,
    }
    const address = { host, port: 5432 }
    return { client, address, lost: null, drop: nothing } as unknown as Direct
  }
}

function nothing(): void {}

const INI = `[databases]
* =
[cluster]
source = etcd
scope = stage
etcd_hosts = http://etcd1:2379, http://etcd2:2379
lease_guard_ms = 3000
`

function rowOf(member: StageMember): Record<string, string | null> {
  const { isInRecovery, timeline, systemIdentifier, started } = member
  const lsn = '0/1000'
  return {
    in_recovery: isInRecovery ? 't' : 'f',
    system_identifier: systemIdentifier,
    wal_file: isInRecovery ? null : timeline.toString(16).padStart(8, '0').padEnd(24, '0'),
    write_lsn: isInRecovery ? null : lsn,
    insert_lsn: isInRecovery ? null : lsn,
    replay_lsn: isInRecovery ? lsn : null,
    receive_lsn: isInRecovery ? lsn : null,
    received_tli: isInRecovery ? String(timeline) : null,
    receiver_status: isInRecovery ? 'streaming' : null,
    control_tli: isInRecovery ? String(timeline) : null,
    started,
  }
}
