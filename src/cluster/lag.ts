/**
 * How far a replica is behind, in bytes and in milliseconds, from samples alone. No clock of any
 * server is read, so an idle primary is no lag and clock skew does not exist. Pure: no timers, no
 * sockets. The rules are those of PostgreSQL's LSNs: comparable on one timeline only.
 *
 *     primary LSN   100      100      180      260      260
 *     ring          [t0 ........ t1] [t2]     [t3 ...... t4]     an entry spans the times at which
 *                                                                the primary stood at that LSN
 *     a replica at 180 as of t4 is (t4 - t2) behind; a replica at 260 is not behind at all.
 */
import { invariant } from '../base/invariant.ts'
import type { Sample } from './topology.ts'

interface RingEntry {
  readonly lsn: bigint
  readonly firstMs: number
  lastMs: number
}

/** Bounded history of (time, primary LSN). */
export class PrimaryRing {
  readonly #entriesMax: number
  readonly #spacingMs: number
  #entries: RingEntry[] = []
  #timeline = 0

  /**
   * Units: `spanMs` is the longest lag that must be told in milliseconds; entries closer together
   * than the span divided by half the bound are merged, so that the ring always covers the span.
   */
  constructor(spanMs: number, entriesMax = 512) {
    invariant(entriesMax >= 4, 'a ring has room')
    this.#entriesMax = entriesMax
    this.#spacingMs = (2 * spanMs) / entriesMax
  }

  get timeline(): number {
    return this.#timeline
  }

  /** Takes a sample of the verified primary. A new timeline starts a new history. */
  push(sample: Sample): void {
    if (sample.writeLsn === null) return
    if (sample.timeline !== this.#timeline) this.clear()
    this.#timeline = sample.timeline
    const last = this.#entries.at(-1)
    if (last !== undefined && sample.sentMs <= last.lastMs) return
    if (last?.lsn === sample.writeLsn) {
      last.lastMs = sample.sentMs
      return
    }
    this.#append({ lsn: sample.writeLsn, firstMs: sample.sentMs, lastMs: sample.sentMs })
  }

  clear(): void {
    this.#entries = []
    this.#timeline = 0
  }

  /**
   * The lag of one replica as of its own sample.
   *
   * Returns nulls when it cannot be told: no primary was seen on this timeline, the replica has not
   * replayed anything, or it is behind everything the ring remembers. When the primary is gone the
   * ring stops growing and so does the lag: replicas are not evicted for the primary's absence.
   */
  lagOf(sample: Sample): { lagBytes: number | null; lagMs: number | null } {
    const newest = this.#entries.at(-1)
    if (newest === undefined || sample.replayLsn === null || sample.timeline !== this.#timeline)
      return { lagBytes: null, lagMs: null }
    const reference = this.#at(sample.sentMs) ?? newest
    const behind = reference.lsn - sample.replayLsn
    if (behind <= 0n) return { lagBytes: 0, lagMs: 0 }
    const asOfMs = Math.min(sample.sentMs, newest.lastMs)
    const reached = this.#entries.findLast((entry) => entry.lsn <= (sample.replayLsn ?? 0n))
    const lagMs = reached === undefined ? null : Math.max(0, asOfMs - reached.lastMs)
    return { lagBytes: Number(behind), lagMs }
  }

  /** The first entry at or after `timeMs`: never less than what the primary had written then. */
  #at(timeMs: number): RingEntry | undefined {
    return this.#entries.find((entry) => entry.lastMs >= timeMs)
  }

  #append(entry: RingEntry): void {
    const last = this.#entries.at(-1)
    const before = this.#entries.at(-2)
    const merges =
      last !== undefined && before !== undefined && last.lastMs - before.lastMs < this.#spacingMs
    if (merges) this.#entries.pop()
    this.#entries.push(entry)
    if (this.#entries.length > this.#entriesMax) this.#entries.shift()
  }
}

/** The sample in recovery that has most WAL on the newest timeline, and how far that goes. */
export function mostAdvanced(samples: readonly Sample[]): { sample: Sample; lsn: bigint } | null {
  let best: { sample: Sample; lsn: bigint } | null = null
  for (const sample of samples) {
    const lsn = positionOf(sample)
    if (lsn === null) continue
    const isAhead =
      best === null ||
      sample.timeline > best.sample.timeline ||
      (sample.timeline === best.sample.timeline && lsn > best.lsn)
    if (isAhead) best = { sample, lsn }
  }
  return best
}

/** The received position starts again with each start of the receiver, so the replayed one may be ahead. */
function positionOf({ inRecovery, receiveLsn, replayLsn }: Sample): bigint | null {
  if (!inRecovery || replayLsn === null) return null
  return receiveLsn !== null && receiveLsn > replayLsn ? receiveLsn : replayLsn
}
