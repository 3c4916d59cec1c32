/**
 * One member of etcd, through an etcd3 client of its own, so that a frozen one can be dropped
 * without touching the others. Every call has a deadline of ours and no retries of the library:
 * with those a call to a frozen member took three times its deadline and then broke a circuit
 * (measured with etcd3 1.1.2). Reads are linearizable: a serializable one answers without a quorum.
 */
import { noop } from 'cockatiel'
import { Etcd3, type IOptions, type IWatchResponse } from 'etcd3'
import type { Clock } from '../base/clock.ts'
import { reasonOf } from '../base/errors.ts'
import type { Header, KeyEvent, Snapshot, StoredKey } from './keyspace.ts'

export interface EtcdAccess {
  readonly user: string | null
  readonly password: string | null
  readonly ca: Buffer | null
  readonly cert: Buffer | null
  readonly key: Buffer | null
  readonly deadlineMs: number
}

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
type RawHeader = IWatchResponse['header']
type RawKey = IWatchResponse['events'][number]['kv']

const REST_MS_MIN = 250
const REST_MS_MAX = 2000

export class Endpoint {
  readonly url: string
  readonly #access: EtcdAccess
  readonly #prefix: string
  readonly #clock: Clock
  #client: Etcd3 | null = null
  #restMs = 0
  #restUntilMs = 0
  /** A read is under way: one at a time. */
  isReading = false

  constructor(url: string, access: EtcdAccess, prefix: string, clock: Clock) {
    this.url = url
    this.#access = access
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
  async read(): Promise<Snapshot> {
    const { key, range_end } = prefixRange(this.#prefix)
    const range = this.#connected().kv.range({ key, range_end, serializable: false })
    return snapshotOf(await this.#within(range), this.#prefix)
  }

  /**
   * Whole seconds that the lease has left, at least: etcd rounds down. 0 when it is over. Null from a
   * member that was etcd's leader a moment ago: a lessor that is demoted counts for ever.
   * Errors  Error when it does not answer in time.
   */
  async leaseSeconds(lease: string): Promise<number | null> {
    const response = await this.#within(
      this.#connected().leaseClient.leaseTimeToLive({ ID: lease }),
    )
    const left = Number(response.TTL)
    const granted = Number(response.grantedTTL)
    return left > granted && granted > 0 ? null : Math.max(0, left)
  }

  /** Opens a watch from `revision` on. Errors  Error when it cannot be asked for in time. */
  async watch(revision: bigint, events: WatchEvents): Promise<Watch> {
    const stream = await this.#within(this.#connected().watchClient.watch())
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
    const client = this.#client
    this.#client = null
    client?.close()
  }

  #connected(): Etcd3 {
    this.#client ??= new Etcd3(clientOptions(this.url, this.#access, this.#clock))
    return this.#client
  }

  #within<T>(work: Promise<T>): Promise<T> {
    return withinDeadline(work, this.#access.deadlineMs, this.#clock)
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
    const created = this.#clock.after(this.#access.deadlineMs, () => end('was not created in time'))
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

/** The library's own deadline ends the call; this one ends the wait whatever the library does. */
export async function withinDeadline<T>(
  work: Promise<T>,
  deadlineMs: number,
  clock: Clock,
): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = clock.after(deadlineMs, () => {
    reject(new Error(`no answer within ${deadlineMs} ms`))
  })
  work.catch(() => undefined)
  try {
    return await Promise.race([work, promise])
  } finally {
    timer.cancel()
  }
}

/** What a range under `prefix` was answered with. */
export function snapshotOf(
  response: { readonly header: RawHeader; readonly kvs: readonly RawKey[] },
  prefix: string,
): Snapshot {
  const keys = new Map<string, StoredKey>()
  for (const one of response.kvs) keys.set(nameOf(one, prefix), storedKey(one))
  return { header: headerOf(response.header), keys }
}

function nameOf(key: RawKey, prefix: string): string {
  return key.key.toString('utf8').slice(prefix.length)
}

/** `[prefix, prefix with its last byte plus one)`; the prefix ends in a slash. */
export function prefixRange(prefix: string): { key: Buffer; range_end: Buffer } {
  const key = Buffer.from(prefix)
  const end = Buffer.from(prefix)
  end[end.length - 1] = (end.at(-1) ?? 0) + 1
  return { key, range_end: end }
}

/** `canceled` may come together with `created`; the reason is often empty. */
function watchProblem(response: IWatchResponse): string | null {
  if (response.compact_revision !== '0') return `was compacted at ${response.compact_revision}`
  if (response.canceled) return `was cancelled ${response.cancel_reason}`.trim()
  return null
}

function headerOf(header: RawHeader): Header {
  return {
    clusterId: header.cluster_id,
    revision: BigInt(header.revision),
    raftTerm: BigInt(header.raft_term),
  }
}

function storedKey(key: RawKey): StoredKey {
  return {
    value: key.value.toString('utf8'),
    createRevision: BigInt(key.create_revision),
    modRevision: BigInt(key.mod_revision),
    lease: key.lease,
  }
}

export function clientOptions(url: string, access: EtcdAccess, clock: Clock): IOptions {
  const { user, password, ca, cert, key, deadlineMs } = access
  const options: IOptions = {
    hosts: [url],
    dialTimeout: deadlineMs,
    faultHandling: { host: () => noop, global: noop },
    defaultCallOptions: (call) => (call.isStream ? {} : { deadline: clock.wallMs() + deadlineMs }),
    grpcOptions: {
      // A frozen connection must die with its client, and a proxy of the environment is not asked.
      'grpc.use_local_subchannel_pool': 1,
      'grpc.enable_http_proxy': 0,
      'grpc.initial_reconnect_backoff_ms': 200,
      'grpc.max_reconnect_backoff_ms': 1000,
    },
  }
  if (user !== null) options.auth = { username: user, password: password ?? '' }
  if (ca !== null) options.credentials = { rootCertificate: ca }
  if (options.credentials !== undefined && key !== null && cert !== null)
    options.credentials = { ...options.credentials, privateKey: key, certChain: cert }
  return options
}
