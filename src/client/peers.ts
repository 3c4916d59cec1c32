/**
 * Cancel requests for keys of other instances, passed on to the one that gave them out: each once,
 * bounded in number per instance, under a deadline. Nothing waits and nothing is sent twice; who
 * cannot be reached is named in the log now and then. The sending itself is handed over.
 */
import type { Clock } from '../base/clock.ts'
import { reasonOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { Config, PeerConfig } from '../config/config.ts'
import { serverTlsSettings, type TlsSettings } from '../net/tls.ts'
import { type CancelKey, instanceOf, passedOn } from './cancel.ts'
import type { PeerFacts } from './facts.ts'

/** What came of a request for another instance. */
export type PeerOutcome = 'passed_on' | 'no_hops' | 'no_peer' | 'crowded' | 'unreachable'

export interface PeersDeps {
  readonly clock: Clock
  readonly log: Log
  config(): Config
  /** Where an instance is that is not in the configuration. Rejects when nobody says so in time. */
  find(instance: number): Promise<PeerConfig | null>
  /** Resolves when the peer ended the connection. Rejects when it did not in time, or cannot be reached. */
  send(peer: PeerConfig, key: CancelKey): Promise<void>
}

/** Requests to one peer at once, where neither its pool_size nor default_pool_size has a limit. */
const UNDER_WAY_MAX = 100
/** Requests for instances that have to be asked for. */
const FINDING_MAX = 100
const COMPLAINT_MS = 10_000
/** Peers come and go; what is kept of them does not grow. */
const PEERS_MAX = 1000

export class Peers {
  readonly #deps: PeersDeps
  readonly #underWay = new Map<number, number>()
  readonly #complainedMs = new Map<number, number>()
  #finding = 0

  constructor(deps: PeersDeps) {
    this.#deps = deps
  }

  /** Never rejects. */
  async forward(key: CancelKey): Promise<PeerOutcome> {
    const next = passedOn(key)
    if (next === null) return 'no_hops'
    const instance = instanceOf(key)
    const peer = this.#deps.config().peers.get(instance) ?? (await this.#find(instance))
    if (typeof peer === 'string') return peer
    // As PgBouncer: without a number of its own, an instance takes no part in [peers].
    if (peer.tls === null && this.#deps.config().pgbouncer.peerId === 0) return 'no_peer'
    const underWay = this.#underWay.get(peer.id) ?? 0
    if (underWay >= underWayMax(this.#deps.config(), peer)) return 'crowded'
    this.#underWay.set(peer.id, underWay + 1)
    try {
      await this.#deps.send(peer, next)
      return 'passed_on'
    } catch (error) {
      this.#complain(peer, reasonOf(error))
      return 'unreachable'
    } finally {
      const left = (this.#underWay.get(peer.id) ?? 1) - 1
      if (left > 0) this.#underWay.set(peer.id, left)
      else this.#underWay.delete(peer.id)
    }
  }

  /** Those with a request under way. */
  facts(): PeerFacts[] {
    return [...this.#underWay].map(([id, underWay]) => ({ id, underWay }))
  }

  async #find(instance: number): Promise<PeerConfig | 'no_peer' | 'crowded'> {
    if (this.#finding >= FINDING_MAX) return 'crowded'
    this.#finding += 1
    try {
      return (await this.#deps.find(instance)) ?? 'no_peer'
    } catch {
      return 'no_peer'
    } finally {
      this.#finding -= 1
    }
  }

  #complain({ id, host, port }: PeerConfig, reason: string): void {
    const nowMs = this.#deps.clock.nowMs()
    if (nowMs - (this.#complainedMs.get(id) ?? Number.NEGATIVE_INFINITY) < COMPLAINT_MS) return
    if (this.#complainedMs.size >= PEERS_MAX) this.#complainedMs.clear()
    this.#complainedMs.set(id, nowMs)
    this.#deps.log.info({ peer: id, host, port, reason }, 'a cancel request did not reach its peer')
  }
}

/** This worker's part of the peer's pool. */
function underWayMax({ pgbouncer, pgsteer }: Config, { poolSize }: PeerConfig): number {
  const size = poolSize ?? pgbouncer.defaultPoolSize
  return size === 0 ? UNDER_WAY_MAX : Math.ceil(size / pgsteer.workers)
}

/**
 * How a request is sent to this peer. One of [peers] is treated as PgBouncer does it: as a server.
 * A registered instance says what it offers, and is believed: a cancel request is worth no more on
 * the way to it than on the way here, where the client may have sent it without TLS.
 */
export function peerTlsUse(
  { host, tls }: Pick<PeerConfig, 'host' | 'tls'>,
  { pgbouncer }: Config,
): 'plain' | 'optional' | 'required' {
  const mode = pgbouncer.serverTlsSslmode
  if (/^[/@]/.test(host)) return 'plain'
  if (tls === 'none') return 'plain'
  if (tls === 'certificate') return pgbouncer.serverTlsCertFile === null ? 'plain' : 'required'
  if (tls === 'offered') return 'required'
  if (mode === 'disable' || mode === 'allow') return 'plain'
  return mode === 'prefer' ? 'optional' : 'required'
}

/** As towards servers, but never without a context: a peer may offer TLS where no server does. */
export function peerTlsSettings({ pgbouncer }: Config): TlsSettings {
  const settings = serverTlsSettings(pgbouncer)
  return settings.sslmode === 'disable' ? { ...settings, sslmode: 'require' } : settings
}
