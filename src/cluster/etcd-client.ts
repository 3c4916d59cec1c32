/**
 * A client of one member of etcd: an etcd3 client of its own, connected when it is first asked, so
 * that a frozen one can be dropped without touching the others. Every call has a deadline of ours and
 * no retries of the library: with those a call to a frozen member took three times its deadline and
 * then broke a circuit (measured with etcd3 1.1.2). Reads are linearizable: a serializable one answers
 * without a quorum. What is asked besides is the business of endpoint.ts and registry.ts.
 */
import { noop } from 'cockatiel'
import { Etcd3, type IOptions, type IWatchResponse } from 'etcd3'
import { type Clock, within } from '../base/clock.ts'
import type { Header, Snapshot, StoredKey } from './keyspace.ts'

export interface EtcdAccess {
  readonly user: string | null
  readonly password: string | null
  readonly ca: Buffer | null
  readonly cert: Buffer | null
  readonly key: Buffer | null
  readonly deadlineMs: number
}

type RawHeader = IWatchResponse['header']
type RawKey = IWatchResponse['events'][number]['kv']

export class EtcdClient {
  readonly url: string
  readonly #access: EtcdAccess
  readonly #clock: Clock
  #etcd: Etcd3 | null = null

  constructor(url: string, access: EtcdAccess, clock: Clock) {
    this.url = url
    this.#access = access
    this.#clock = clock
  }

  /** All keys under `prefix`. Errors, here and below: Error when it does not answer in time. */
  async read(prefix: string): Promise<Snapshot> {
    const { key, range_end } = prefixRange(prefix)
    const { header, kvs } = await this.ask((etcd) =>
      etcd.kv.range({ key, range_end, serializable: false }),
    )
    const keys = new Map<string, StoredKey>()
    for (const one of kvs) keys.set(nameOf(one, prefix), storedKey(one))
    return { header: headerOf(header), keys }
  }

  /** What this member of etcd answers to `question`. */
  ask<T>(question: (etcd: Etcd3) => Promise<T>): Promise<T> {
    this.#etcd ??= new Etcd3(clientOptions(this.url, this.#access, this.#clock))
    return this.within(question(this.#etcd))
  }

  /** The library's own deadline ends a call; this one ends the wait whatever the library does. */
  within<T>(work: Promise<T>): Promise<T> {
    const { deadlineMs } = this.#access
    return within(work, this.#clock, deadlineMs, `no answer within ${deadlineMs} ms`)
  }

  /** Ends its connection; the next question opens another one. */
  close(): void {
    const etcd = this.#etcd
    this.#etcd = null
    etcd?.close()
  }
}

/** `[prefix, prefix with its last byte plus one)`; the prefix ends in a slash. */
export function prefixRange(prefix: string): { key: Buffer; range_end: Buffer } {
  const key = Buffer.from(prefix)
  const end = Buffer.from(prefix)
  end[end.length - 1] = (end.at(-1) ?? 0) + 1
  return { key, range_end: end }
}

/** The name of a key below its prefix. */
export function nameOf(key: RawKey, prefix: string): string {
  return key.key.toString('utf8').slice(prefix.length)
}

export function headerOf(header: RawHeader): Header {
  return {
    clusterId: header.cluster_id,
    revision: BigInt(header.revision),
    raftTerm: BigInt(header.raft_term),
  }
}

export function storedKey(key: RawKey): StoredKey {
  return {
    value: key.value.toString('utf8'),
    createRevision: BigInt(key.create_revision),
    modRevision: BigInt(key.mod_revision),
    lease: key.lease,
  }
}

function clientOptions(url: string, access: EtcdAccess, clock: Clock): IOptions {
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
