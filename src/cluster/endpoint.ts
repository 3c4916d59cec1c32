/**
 * One member of etcd as the source uses it: reads, watches, what is left of the leader's lease, and
 * how long it is left alone after a failure. Which one is asked, and what for, is etcd.ts.
 */
import type { Etcd3, IWatchResponse } from 'etcd3'
import type { Clock } from '../base/clock.ts'
import { reasonOf } from '../base/errors.ts'
import {
  type EtcdAccess,
  EtcdClient,
  headerOf,
  nameOf,
  prefixRange,
  storedKey,
} from './etcd-client.ts'
import type { Header, KeyEvent, Snapshot } from './keyspace.ts'

export interface WatchEvents {
  changed(header: Header, events: readonly KeyEvent[]): void
  /** The watch is over: cancelled, compacted, broken, or not created in time. Called once. */
  ended(reason: string): void
}

export interface Watch {
  readonly endpoint: Pick<Endpoint, keyof Endpoint>
  /** Drops it without a word. */
  close(): void
}

type WatchStream = Awaited<ReturnType<Etcd3['watchClient']['watch']>>

const REST_MS_MIN = 250
const REST_MS_MAX = 2000

export class Endpoint {
  readonly url: string
  readonly #client: EtcdClient
  readonly #deadlineMs: number
  readonly #prefix: string
  readonly #clock: Clock
  #restMs = 0
  #restUntilMs = 0
  /** A read is under way: one at a time. */
  isReading = false

  constructor(url: string, access: EtcdAccess, prefix: string, clock: Clock) {
    this.url = url
    this.#client = new EtcdClient(url, access, clock)
    this.#deadlineMs = access.deadlineMs
    this.#prefix = prefix
    this.#clock = clock
  }

  /** It failed a moment ago: ask another one first. */
  isResting(nowMs: number): boolean {
    return nowMs < this.#restUntilMs
  }

  /** When it may be asked again, for choosing the least bad one. */
  get restUntilMs(): number {
    return this.#restUntilMs
  }

  /** All keys under the prefix. Errors  Error when it does not answer in time. */
  read(): Promise<Snapshot> {
    return this.#client.read(this.#prefix)
  }

  /**
   * Whole seconds that the lease has left, at least: etcd rounds down. 0 when it is over. Null from a
   * member that was etcd's leader a moment ago: a lessor that is demoted counts for ever.
   * Errors  Error when it does not answer in time.
   */
  async leaseSeconds(lease: string): Promise<number | null> {
    const response = await this.#client.ask(({ leaseClient }) =>
      leaseClient.leaseTimeToLive({ ID: lease }),
    )
    const left = Number(response.TTL)
    const granted = Number(response.grantedTTL)
    return left > granted && granted > 0 ? null : Math.max(0, left)
  }

  /** Opens a watch from `revision` on. Errors  Error when it cannot be asked for in time. */
  async watch(revision: bigint, events: WatchEvents): Promise<Watch> {
    const stream = await this.#client.ask(({ watchClient }) => watchClient.watch())
    return this.#listen(stream, revision, events)
  }

  /** It answered sensibly. */
  succeeded(): void {
    this.#restMs = 0
    this.#restUntilMs = 0
  }

  /** It did not: its connection is thrown away and it rests, longer each time, up to 2 s. */
  failed(): void {
    this.#restMs = Math.min(REST_MS_MAX, Math.max(REST_MS_MIN, this.#restMs * 2))
    this.#restUntilMs = this.#clock.nowMs() + this.#restMs
    this.close()
  }

  close(): void {
    this.#client.close()
  }

  #listen(stream: WatchStream, revision: bigint, events: WatchEvents): Watch {
    let isOver = false
    const end = (reason: string | null): void => {
      if (isOver) return
      isOver = true
      created.cancel()
      stream.cancel()
      if (reason !== null) events.ended(reason)
    }
    const created = this.#clock.after(this.#deadlineMs, () => end('was not created in time'))
    stream.on('error', (error) => end(reasonOf(error)))
    stream.on('end', () => end('was ended'))
    stream.on('data', (response: IWatchResponse) => {
      if (isOver) return
      created.cancel()
      const problem = watchProblem(response)
      if (problem !== null) return end(problem)
      events.changed(headerOf(response.header), this.#eventsOf(response))
    })
    const range = prefixRange(this.#prefix)
    stream.write({ create_request: { ...range, start_revision: revision.toString() } })
    return { endpoint: this, close: () => end(null) }
  }

  #eventsOf(response: IWatchResponse): KeyEvent[] {
    return response.events.map((event) => ({
      name: nameOf(event.kv, this.#prefix),
      key: event.type.toUpperCase() === 'DELETE' ? null : storedKey(event.kv),
      modRevision: BigInt(event.kv.mod_revision),
    }))
  }
}

/** `canceled` may come together with `created`; the reason is often empty. */
function watchProblem(response: IWatchResponse): string | null {
  if (response.compact_revision !== '0') return `was compacted at ${response.compact_revision}`
  if (response.canceled) return `was cancelled ${response.cancel_reason}`.trim()
  return null
}
