/**
 * Patroni's state from etcd v3: a watch on one endpoint for speed, linearizable reads of the whole
 * prefix on that endpoint and on another one for truth. A read is small and gives everything, so
 * every doubt about the watch ends by itself: at the next read. What is guarded against, and why,
 * is in docs/failover.md.
 */
import { readFileSync } from 'node:fs'
import type { Clock, Timer } from '../base/clock.ts'
import { reasonOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { ClusterConfig } from '../config/config.ts'
import type { Watch } from './endpoint.ts'
import type { EtcdAccess } from './etcd-client.ts'
import { keyPrefix } from './keys.ts'
import {
  adopt,
  applyEvents,
  type Header,
  type KeyEvent,
  type Keyspace,
  leaderLease,
  refusal,
  type Snapshot,
  sameKeys,
  viewOf,
} from './keyspace.ts'
import { type EndpointPort, OUTSIDE, type Outside } from './outside.ts'
import type { Source, SourceEvents } from './source.ts'

/** A frozen member is found out after one period and one deadline: within 2 s. */
const READ_MS = 600
const READ_BUSY_MS = 250
const READ_DEADLINE_MS_MAX = 1000
const BLIND_MS = 2000
/** A watch that is so much behind a read is replaced. */
const WATCH_LAG_MS = 500
/** When everybody refuses or is refused for so long, etcd was restored: believe what it says now. */
const RESTORED_MS = 10_000
/** An answer about the lease is asked for with every read: by then they have stopped. */
const LEASE_STALE_MS = 5000

export class EtcdSource implements Source {
  readonly kind = 'etcd'
  readonly blindMs = BLIND_MS
  readonly #prefix: string
  readonly #ttlMs: number
  readonly #endpoints: readonly EndpointPort[]
  readonly #events: SourceEvents
  readonly #clock: Clock
  readonly #log: Log
  #known: Keyspace | null = null
  #emitted = ''
  #watch: Watch | null = null
  #isOpening = false
  /** The first read that knew more than the watch, until the watch has said something. */
  #watchBehindSinceMs: number | null = null
  #contactMs: number
  /** The leader's lease, and until when it lasts at least; every answer is a lower bound. */
  #lease: { readonly id: string; readonly expiresMs: number; readonly heardMs: number } | null =
    null
  #turn = 0
  #periodMs = READ_MS
  #timer: Timer | null = null
  #isStopped = false

  constructor(
    cluster: ClusterConfig,
    events: SourceEvents,
    tools: { clock: Clock; log: Log; outside?: Outside },
  ) {
    this.#prefix = keyPrefix(cluster.namespace, cluster.scope ?? '', cluster.group)
    this.#ttlMs = cluster.ttlMs
    this.#events = events
    this.#clock = tools.clock
    this.#log = tools.log
    this.#contactMs = tools.clock.nowMs()
    const access = accessOf(cluster)
    const outside = tools.outside ?? OUTSIDE
    this.#endpoints = cluster.etcdHosts.map((url) =>
      outside.endpoint(url, access, this.#prefix, tools.clock),
    )
  }

  /** Asks every endpoint at once; the first answer makes the first view. */
  start(): void {
    for (const endpoint of this.#endpoints) void this.#read(endpoint)
    this.#schedule()
  }

  stop(): Promise<void> {
    this.#isStopped = true
    this.#timer?.cancel()
    this.#watch?.close()
    for (const endpoint of this.#endpoints) endpoint.close()
    return Promise.resolve()
  }

  setBusy(isBusy: boolean): void {
    const periodMs = isBusy ? READ_BUSY_MS : READ_MS
    if (periodMs === this.#periodMs || this.#isStopped) return
    this.#periodMs = periodMs
    if (this.#timer !== null) this.#schedule()
  }

  #schedule(): void {
    this.#timer?.cancel()
    this.#timer = this.#clock.every(this.#periodMs, () => this.#cycle())
  }

  /** One read on the watched endpoint, which must be alive, and one elsewhere, which must agree. */
  #cycle(): void {
    const watched = this.#watch?.endpoint ?? null
    if (watched !== null && !watched.isReading) void this.#read(watched)
    const other = this.#nextEndpoint(watched)
    if (other !== null) void this.#read(other)
    this.#checkWatch()
  }

  /** In turn, those that rest last; null when every other one has a read under way. */
  #nextEndpoint(except: EndpointPort | null): EndpointPort | null {
    const now = this.#clock.nowMs()
    const free = this.#endpoints.filter((one) => one !== except && !one.isReading)
    this.#turn += 1
    const rested = free.filter((one) => !one.isResting(now))
    const inTurn = rested[this.#turn % Math.max(1, rested.length)]
    if (inTurn !== undefined) return inTurn
    return free.toSorted((one, two) => one.restUntilMs - two.restUntilMs)[0] ?? null
  }

  async #read(endpoint: EndpointPort): Promise<void> {
    const sentMs = this.#clock.nowMs()
    const knownThen = this.#known?.header ?? null
    endpoint.isReading = true
    try {
      const snapshot = await endpoint.read()
      if (this.#isStopped) return
      this.#judge(knownThen, snapshot.header, sentMs)
      endpoint.succeeded()
      this.#contactMs = Math.max(this.#contactMs, sentMs)
      this.#adopt(snapshot)
      this.#events.contact(sentMs, this.#leaseExpiresMs())
      await this.#readLease(endpoint)
    } catch (error) {
      if (!this.#isStopped) this.#failed(endpoint, reasonOf(error))
    } finally {
      endpoint.isReading = false
    }
  }

  /** Errors  Error when the answer is older than, or foreign to, what was known at `sentMs`. */
  #judge(known: Header | null, header: Header, sentMs: number): void {
    const problem = refusal(known, header)
    if (problem === null) return
    if (sentMs - this.#contactMs < RESTORED_MS) throw new Error(problem)
    this.#log.warn({ problem }, 'etcd seems to have been restored: its present state is believed')
    this.#known = null
    this.#dropWatch()
  }

  /**
   * The leader's lease is renewed without a trace in its key: only this question shows its age. It
   * was alive for so long when the question was sent, so the latest of all answers counts.
   */
  async #readLease(endpoint: EndpointPort): Promise<void> {
    const id = this.#leaderLease()
    if (id === null) return
    const sentMs = this.#clock.nowMs()
    const seconds = await endpoint.leaseSeconds(id)
    if (this.#isStopped || seconds === null || id !== this.#leaderLease()) return
    const before = this.#lease?.id === id ? this.#lease.expiresMs : 0
    const expiresMs = Math.max(before, sentMs + 1000 * seconds)
    this.#lease = { id, expiresMs, heardMs: sentMs }
    this.#events.contact(sentMs, this.#leaseExpiresMs())
  }

  #leaderLease(): string | null {
    return this.#known === null ? null : leaderLease(this.#known)
  }

  /** Null when it is another reign's, or when reads are answered and questions about it are not. */
  #leaseExpiresMs(): number | null {
    const lease = this.#lease
    if (lease === null || lease.id !== this.#leaderLease()) return null
    return this.#clock.nowMs() - lease.heardMs > LEASE_STALE_MS ? null : lease.expiresMs
  }

  #failed(endpoint: EndpointPort, reason: string): void {
    endpoint.failed()
    if (this.#watch?.endpoint === endpoint) this.#dropWatch()
    const told = `etcd ${endpoint.url}: ${reason}`
    this.#log.debug({ endpoint: endpoint.url, reason }, 'etcd endpoint failed')
    if (this.#clock.nowMs() - this.#contactMs > BLIND_MS) this.#events.trouble(told)
  }

  #adopt(snapshot: Snapshot): void {
    const before = this.#known
    this.#known = adopt(before, snapshot)
    if (before !== null && !sameKeys(before, this.#known) && this.#watch !== null)
      this.#watchBehindSinceMs ??= this.#clock.nowMs()
    this.#emit()
    if (this.#watch === null) void this.#openWatch()
  }

  /** A watch that a read has overtaken, and that has been silent since, is thrown away. */
  #checkWatch(): void {
    const since = this.#watchBehindSinceMs
    if (since === null || this.#clock.nowMs() - since < WATCH_LAG_MS) return
    this.#log.info({ endpoint: this.#watch?.endpoint.url }, 'the watch lags, opening another one')
    this.#dropWatch()
    void this.#openWatch()
  }

  async #openWatch(): Promise<void> {
    const known = this.#known
    if (this.#isOpening || this.#watch !== null || known === null || this.#isStopped) return
    const endpoint = this.#nextEndpoint(null) ?? this.#endpoints[0]
    if (endpoint === undefined) return
    this.#isOpening = true
    try {
      const watch: Watch = await endpoint.watch(known.header.revision + 1n, {
        changed: (header, events) => this.#changed(header, events),
        ended: (reason) => this.#watchEnded(endpoint, reason),
      })
      if (this.#isStopped) return watch.close()
      this.#watch = watch
      this.#watchBehindSinceMs = null
    } catch (error) {
      this.#failed(endpoint, reasonOf(error))
    } finally {
      this.#isOpening = false
    }
  }

  #changed(header: Header, events: readonly KeyEvent[]): void {
    this.#watchBehindSinceMs = null
    if (this.#known === null || header.clusterId !== this.#known.header.clusterId) return
    this.#known = applyEvents(this.#known, header, events)
    this.#emit()
  }

  /** Events may have been missed: read anew at once, and watch somewhere else. */
  #watchEnded(endpoint: EndpointPort, reason: string): void {
    if (this.#isStopped) return
    this.#log.info({ endpoint: endpoint.url, reason }, 'the watch of etcd ended')
    if (this.#watch?.endpoint === endpoint) this.#dropWatch()
    const other = this.#nextEndpoint(endpoint)
    if (other !== null) void this.#read(other)
  }

  #dropWatch(): void {
    this.#watch?.close()
    this.#watch = null
    this.#watchBehindSinceMs = null
  }

  /** `status` is written every cycle and says nothing that changes the view. */
  #emit(): void {
    if (this.#known === null) return
    const view = viewOf(this.#known, this.#prefix, this.#ttlMs)
    const signature = JSON.stringify(view, (_, value: unknown) =>
      typeof value === 'bigint' ? value.toString() : value,
    )
    if (signature === this.#emitted) return
    this.#emitted = signature
    this.#events.view(view)
  }
}

/** Errors  Error of a file that cannot be read. */
export function accessOf(cluster: ClusterConfig): EtcdAccess {
  return {
    user: cluster.etcdUser,
    password: cluster.etcdPassword,
    ca: readOptional(cluster.etcdTlsCaFile),
    cert: readOptional(cluster.etcdTlsCertFile),
    key: readOptional(cluster.etcdTlsKeyFile),
    deadlineMs: Math.min(cluster.etcdTimeoutMs, READ_DEADLINE_MS_MAX),
  }
}

function readOptional(file: string | null): Buffer | null {
  return file === null || file === '' ? null : readFileSync(file)
}
