/**
 * What the cluster itself can do, without a pooler in between: a client per member that writes
 * directly to it, over one connection for as long as that lives. The outage of the cluster is the
 * longest time in which none of them succeeded.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { Client } from 'pg'
import { DATABASE, USER } from '../failover/steer-cluster.ts'
import type { PatroniCluster, PatroniMember } from '../support/patroni.ts'

const PACE_MS = 30
const ANSWER_MS_MAX = 1000
const SQL = "insert into written (id) values ('direct')"
const READ_ONLY = '25006'

interface Success {
  readonly port: number
  readonly atMs: number
}

export interface Outage {
  readonly lastedMs: number
  readonly endedMs: number
}

export class Prober {
  readonly #cluster: PatroniCluster
  readonly #successes: Success[] = []
  #isStopping = false
  #running: Promise<unknown> = Promise.resolve()

  constructor(cluster: PatroniCluster) {
    this.#cluster = cluster
  }

  start(): void {
    this.#running = Promise.all(this.#cluster.members.map((member) => this.#probe(member)))
  }

  async stop(): Promise<void> {
    this.#isStopping = true
    await this.#running
  }

  /** Whether a member (that one, if it is named) took a write after `sinceMs`. */
  hasWritten(sinceMs: number, port?: number): boolean {
    return this.#successes.some((one) => one.atMs > sinceMs && (port ?? one.port) === one.port)
  }

  /** Longest time without a write; what `without` took after its reign counts for nothing. */
  outage(without?: { readonly port: number; readonly sinceMs: number }): Outage {
    const times = this.#successes
      .filter(({ port, atMs }) => port !== without?.port || atMs < without.sinceMs)
      .map(({ atMs }) => atMs)
    let longest: Outage = { lastedMs: 0, endedMs: 0 }
    for (const [index, endedMs] of times.entries()) {
      const lastedMs = endedMs - (times[index - 1] ?? endedMs)
      if (lastedMs > longest.lastedMs) longest = { lastedMs, endedMs }
    }
    return longest
  }

  async #probe(member: PatroniMember): Promise<void> {
    let client: Client | null = null
    while (!this.#isStopping) {
      try {
        client ??= await connect(member)
        await client.query(SQL)
        this.#successes.push({ port: member.port, atMs: performance.now() })
      } catch (error) {
        const isReplica = error instanceof Error && 'code' in error && error.code === READ_ONLY
        if (!isReplica) client = leave(client)
      }
      await pause(PACE_MS)
    }
    leave(client)
  }
}

async function connect({ host, port }: PatroniMember): Promise<Client> {
  const client = new Client({
    host,
    port,
    user: USER,
    password: USER,
    database: DATABASE,
    connectionTimeoutMillis: ANSWER_MS_MAX,
    query_timeout: ANSWER_MS_MAX,
  })
  client.on('error', () => undefined)
  await client.connect()
  return client
}

/** It may hang: nobody waits for its end. */
function leave(client: Client | null): null {
  void client?.end().catch(() => undefined)
  return null
}
