/**
 * Cancel requests for keys of other instances, passed on to the one that gave them out: each once,
 * bounded in number per instance, under a deadline. Nothing waits and nothing is sent twice; who
 * cannot be reached is named in the log now and then. The sending itself is handed over.
 */
import type { Clock } from '../base/clock.ts'
import { reasonOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { Config, PeerConfig } from '../config/config.ts'
import { type CancelKey, instanceOf, passedOn } from './cancel.ts'

/** What came of a request for another instance. */
export type PeerOutcome = 'peer' | 'no_hops' | 'no_peer' | 'crowded' | 'unreachable'

export interface PeersDeps {
  readonly clock: Clock
  readonly log: Log
  config(): Config
  /** Resolves when the peer ended the connection. Rejects when it did not in time, or cannot be reached. */
  send(peer: PeerConfig, key: CancelKey): Promise<void>
}

/** Requests to one peer at once, where neither its pool_size nor default_pool_size has a limit. */
const UNDER_WAY_MAX = 100
const COMPLAINT_MS = 10_000

export class Peers {
  readonly #deps: PeersDeps
  readonly #underWay = new Map<number, number>()
  readonly #complainedMs = new Map<number, number>()

  constructor(deps: PeersDeps) {
    this.#deps = deps
  }

  /** Never rejects. */
  async forward(key: CancelKey): Promise<PeerOutcome> {
    const next = passedOn(key)
    if (next === null) return 'no_hops'
    const config = this.#deps.config()
    const peer = config.peers.get(instanceOf(key))
    if (config.pgbouncer.peerId === 0 || peer === undefined) return 'no_peer'
    const underWay = this.#underWay.get(peer.id) ?? 0
    if (underWay >= underWayMax(config, peer)) return 'crowded'
    this.#underWay.set(peer.id, underWay + 1)
    try {
      await this.#deps.send(peer, next)
      return 'peer'
    } catch (error) {
      this.#complain(peer, reasonOf(error))
      return 'unreachable'
    } finally {
      this.#underWay.set(peer.id, (this.#underWay.get(peer.id) ?? 1) - 1)
    }
  }

  #complain({ id, host, port }: PeerConfig, reason: string): void {
    const nowMs = this.#deps.clock.nowMs()
    if (nowMs - (this.#complainedMs.get(id) ?? Number.NEGATIVE_INFINITY) < COMPLAINT_MS) return
    this.#complainedMs.set(id, nowMs)
    this.#deps.log.info({ peer: id, host, port, reason }, 'a cancel request did not reach its peer')
  }
}

/** This worker's part of the peer's pool. */
function underWayMax({ pgbouncer, pgsteer }: Config, { poolSize }: PeerConfig): number {
  const size = poolSize ?? pgbouncer.defaultPoolSize
  return size === 0 ? UNDER_WAY_MAX : Math.ceil(size / pgsteer.workers)
}
