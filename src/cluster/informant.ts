/**
 * The source that is asked, and what it said last: its view, whether it answers, since when the
 * leader leads and when the lease of its key ends. A source that a RELOAD replaces is not listened to
 * any more; what it said stays until the next one speaks. What of it is believed is failover.ts.
 */
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { ClusterConfig } from '../config/config.ts'
import type { Testimony } from './evidence.ts'
import { isSuccessor } from './keys.ts'
import type { Lease } from './lease.ts'
import type { Outside } from './outside.ts'
import type { ClusterView, Source, SourceEvents } from './source.ts'
import { newSource, sourceKey } from './sources.ts'
import { StaticSource } from './static.ts'

export interface InformantEvents {
  /** A new view. `otherCluster`: why it speaks of another cluster than the last one did, or null. */
  viewed(view: ClusterView, otherCluster: string | null): void
  /** It answered, or did not. */
  heard(): void
}

interface Tools {
  readonly clock: Clock
  readonly log: Log
  readonly outside: Outside
}

export class Informant {
  /** What it said last. */
  view: ClusterView | null = null
  /** Why it does not answer; '' while it does. */
  trouble = ''
  leaderSinceMs = 0
  leaseExpiresMs: number | null = null
  readonly #events: InformantEvents
  readonly #tools: Tools
  #source: Source
  #key: string
  #knownIdentifier: string | null = null
  #contactMs: number | null = null

  constructor(cluster: ClusterConfig, events: InformantEvents, tools: Tools) {
    this.#events = events
    this.#tools = tools
    this.#key = sourceKey(cluster)
    this.#source = this.#create(cluster)
  }

  get kind(): Source['kind'] {
    return this.#source.kind
  }

  /** After this long without contact it counts as gone. */
  get blindMs(): number {
    return this.#source.blindMs
  }

  start(): void {
    this.#source.start()
  }

  stop(): Promise<void> {
    return this.#source.stop()
  }

  /** Starts another source if `cluster` asks for one. False: it is the same. */
  reload(cluster: ClusterConfig): boolean {
    const key = sourceKey(cluster)
    if (key === this.#key) return false
    this.#key = key
    void this.#source.stop()
    this.#source = this.#create(cluster)
    this.#source.start()
    return true
  }

  /** Faster asking while there is no primary. */
  setBusy(isBusy: boolean): void {
    this.#source.setBusy(isBusy)
  }

  /** What members say: it is all that a static list knows. */
  listen(testimony: ReadonlyMap<string, Testimony>): void {
    if (this.#source instanceof StaticSource) this.#source.heard(testimony)
  }

  /** Whoever led before has no say in who leads next. */
  forget(): void {
    if (this.#source instanceof StaticSource) this.#source.forget()
  }

  /** When it was last proved that the view is current; null before the first time. */
  contactMs(nowMs: number): number | null {
    return this.#source.kind === 'static' ? nowMs : this.#contactMs
  }

  /** The lease of the leader's key, where there may be one. */
  lease(guardMs: number): Lease | null {
    const dynamic = this.view?.dynamic
    if (dynamic === undefined || dynamic.paused) return null
    return { dynamic, guardMs, expiresMs: this.leaseExpiresMs }
  }

  #create(cluster: ClusterConfig): Source {
    let source: Source | null = null
    const isCurrent = (): boolean => source !== null && source === this.#source
    const events: SourceEvents = {
      view: (view) => {
        if (isCurrent()) this.#onView(view)
      },
      contact: (sentMs, leaseExpiresMs) => {
        if (isCurrent()) this.#onContact(sentMs, leaseExpiresMs)
      },
      trouble: (reason) => {
        if (isCurrent()) this.#onTrouble(reason)
      },
    }
    source = newSource(cluster, events, this.#tools)
    return source
  }

  #onView(view: ClusterView): void {
    const before = this.view
    if (
      before?.leader?.name !== view.leader?.name ||
      before?.leader?.epoch !== view.leader?.epoch
    ) {
      this.leaderSinceMs = this.#tools.clock.nowMs()
      this.leaseExpiresMs = null
    }
    this.view = view
    this.#events.viewed(view, this.#otherCluster(before, view))
  }

  #onContact(sentMs: number, leaseExpiresMs: number | null): void {
    if (this.trouble !== '') this.#tools.log.info('the source answers again')
    this.trouble = ''
    this.leaseExpiresMs = leaseExpiresMs
    if (this.#contactMs === null || sentMs > this.#contactMs) this.#contactMs = sentMs
    this.#events.heard()
  }

  #onTrouble(reason: string): void {
    if (this.trouble === '') this.#tools.log.warn({ reason }, 'the source does not answer')
    this.trouble = reason
    this.#events.heard()
  }

  /** Another `initialize`, or a `history` that does not continue the old one. */
  #otherCluster(before: ClusterView | null, view: ClusterView): string | null {
    const known = this.#knownIdentifier
    this.#knownIdentifier = view.systemIdentifier ?? known
    if (known !== null && view.systemIdentifier !== null && known !== view.systemIdentifier)
      return 'the key initialize changed'
    return before === null || isSuccessor(before.history, view.history)
      ? null
      : 'the key history was rewritten'
  }
}
