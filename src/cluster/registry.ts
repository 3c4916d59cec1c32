/**
 * One member of etcd as the registration of instances uses it: reads of the instances, a lease, and
 * keys that are written only if nobody else wrote them first. Through a client of its own, so that
 * nothing here slows down what failovers hang on.
 */
import type { Clock } from '../base/clock.ts'
import { type EtcdAccess, EtcdClient } from './etcd-client.ts'
import type { Snapshot } from './keyspace.ts'

/** What a key may be written over. */
export interface Claim {
  /** Its name below the prefix. */
  readonly name: string
  readonly value: string
  readonly lease: string
  /** The mod revision it must have; 0n: it must not be there. */
  readonly over: bigint
}

export class Registry {
  readonly url: string
  readonly #client: EtcdClient
  readonly #prefix: string

  constructor(url: string, access: EtcdAccess, prefix: string, clock: Clock) {
    this.url = url
    this.#client = new EtcdClient(url, access, clock)
    this.#prefix = prefix
  }

  /** All keys under the prefix. Errors, here and below: Error when it does not answer in time. */
  read(): Promise<Snapshot> {
    return this.#client.read(this.#prefix)
  }

  /** A new lease. */
  async grant(ttlS: number): Promise<string> {
    const { ID } = await this.#client.ask(({ leaseClient }) =>
      leaseClient.leaseGrant({ TTL: ttlS }),
    )
    return ID
  }

  /** Renews the lease. False: it is over. */
  async renew(lease: string): Promise<boolean> {
    const stream = await this.#client.ask(({ leaseClient }) => leaseClient.leaseKeepAlive())
    const answer = Promise.withResolvers<boolean>()
    stream.on('error', (error) => answer.reject(error))
    stream.on('end', () => answer.reject(new Error('the renewal was ended')))
    stream.on('data', ({ TTL }: { TTL: string }) => answer.resolve(Number(TTL) > 0))
    stream.write({ ID: lease })
    try {
      return await this.#client.within(answer.promise)
    } finally {
      // The cancel of a stream that may still be written to counts as a failure of the connection.
      stream.end()
      stream.cancel()
    }
  }

  /** Ends the lease, and what hangs on it. */
  async revoke(lease: string): Promise<void> {
    await this.#client.ask(({ leaseClient }) => leaseClient.leaseRevoke({ ID: lease }))
  }

  /** Writes the key in one transaction. False: somebody else was first. */
  async claim({ name, value, lease, over }: Claim): Promise<boolean> {
    const key = Buffer.from(`${this.#prefix}${name}`)
    const { succeeded } = await this.#client.ask(({ kv }) =>
      kv.txn({
        compare: [{ key, target: 'Mod', result: 'Equal', mod_revision: over.toString() }],
        success: [{ request_put: { key, value: Buffer.from(value), lease } }],
      }),
    )
    return succeeded
  }

  close(): void {
    this.#client.close()
  }
}
