/**
 * What servers of a pool report at log-in, which our own clients are told at theirs, and the log-ins
 * that wait to learn it for the first time.
 */
import type { Clock } from '../base/clock.ts'
import { ProxyError } from '../base/errors.ts'
import { Queue } from '../base/queue.ts'

interface Asking {
  readonly sinceMs: number
  resolve(parameters: ReadonlyMap<string, string>): void
  reject(error: ProxyError): void
}

/** Log-ins that may wait for the first server of one pool. */
const ASKING_MAX = 10_000

export class Welcomes {
  known: ReadonlyMap<string, string> | null = null
  readonly #clock: Clock
  readonly #asking = new Queue<Asking>(ASKING_MAX)

  constructor(clock: Clock) {
    this.#clock = clock
  }

  get length(): number {
    return this.#asking.length
  }

  /** `failing`: why it is of no use to wait. */
  ask(failing: ProxyError | null): Promise<ReadonlyMap<string, string>> {
    if (failing !== null) return Promise.reject(failing)
    if (this.known !== null) return Promise.resolve(this.known)
    return new Promise((resolve, reject) => {
      const asking = { sinceMs: this.#clock.nowMs(), resolve, reject }
      if (!this.#asking.push(asking)) reject(new ProxyError('waiters_full'))
    })
  }

  learn(parameters: ReadonlyMap<string, string>): void {
    this.known = parameters
    for (let next = this.#asking.shift(); next !== undefined; next = this.#asking.shift())
      next.resolve(parameters)
  }

  refuse(error: ProxyError): void {
    for (let next = this.#asking.shift(); next !== undefined; next = this.#asking.shift())
      next.reject(error)
  }

  /** `timeoutMs`: 0 = never. */
  sweep(nowMs: number, timeoutMs: number): void {
    if (timeoutMs === 0) return
    for (
      let first = this.#asking.first;
      first !== undefined && nowMs - first.sinceMs >= timeoutMs;
      first = this.#asking.first
    ) {
      this.#asking.shift()
      first.reject(new ProxyError('client_login_timeout_server'))
    }
  }
}
