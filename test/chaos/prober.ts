/**
 * What the cluster itself can do, without a pooler in between: a loop per member that writes
 * directly to it. The outage of the cluster is the longest time in which none of them succeeded.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { ask } from '../failover/steer-cluster.ts'
import type { PatroniCluster } from '../support/patroni.ts'

const PACE_MS = 30
const ANSWER_MS_MAX = 1000
const SQL = "insert into written (id) values ('direct')"

export class Prober {
  readonly #cluster: PatroniCluster
  readonly #successes: { readonly port: number; readonly atMs: number }[] = []
  #isStopping = false
  #running: Promise<unknown> = Promise.resolve()

  constructor(cluster: PatroniCluster) {
    this.#cluster = cluster
  }

  start(): void {
    this.#running = Promise.all(
      this.#cluster.members.map(({ name, port }) => this.#probe(name, port)),
    )
  }

  async stop(): Promise<void> {
    this.#isStopping = true
    await this.#running
  }

  /** The port of the member that took the last write, if that is not `before`. */
  writer(before: number): number | undefined {
    const port = this.#successes.at(-1)?.port
    return port === before ? undefined : port
  }

  get outageMs(): number {
    const times = this.#successes.map(({ atMs }) => atMs)
    return Math.max(0, ...times.map((atMs, index) => atMs - (times[index - 1] ?? atMs)))
  }

  async #probe(name: string, port: number): Promise<void> {
    const limits = { connectionTimeoutMillis: ANSWER_MS_MAX, query_timeout: ANSWER_MS_MAX }
    while (!this.#isStopping) {
      await ask(this.#cluster, name, SQL, limits).then(
        () => this.#successes.push({ port, atMs: performance.now() }),
        () => undefined,
      )
      await pause(PACE_MS)
    }
  }
}
