/**
 * Read your writes: what the primary had written at which moment, and which replicas have replayed
 * it. Knows samples and times, no sessions.
 *
 *     write at t        samples of the primary, by the time their query was sent
 *          v
 *     ---- t ---- s1 ---- s2 ---- s3 --->     the bound of t is the insert LSN of s1
 *
 * Source  ARCHITECTURE 5: the write LSN is too low under synchronous_commit = off, and a sample
 * that was sent before the write's answer came may miss it.
 */
import { type Member, memberOf, type Topology } from '../cluster/topology.ts'
import type { Bound, MinLsn } from './waiter.ts'

interface Point extends Bound {
  readonly sentMs: number
}

/** At one sample every 20 ms this reaches back 10 s; what is older gets a later, safe bound. */
const POINTS_MAX = 512
/** How long members are probed faster after a read missed its bound, if no other read does. */
const BUSY_MS_MAX = 2000

export class Bounds {
  #points: Point[] = []
  /** What the last read lacked: a sample sent after this time, or a replica with this bound. */
  #lacks: { sinceMs: number; bound: Bound | null; notedMs: number } | null = null
  readonly #onLack: () => void

  /** `onLack`: faster probes would help from here on. */
  constructor(onLack: () => void) {
    this.#onLack = onLack
  }

  /** Takes the sample of the verified primary. A new timeline starts a new history. */
  push(topology: Topology): void {
    const primary = topology.primary === null ? undefined : memberOf(topology, topology.primary)
    const sample = primary?.sample ?? null
    if (sample === null || sample.insertLsn === null) return
    const last = this.#points.at(-1)
    if (last !== undefined && sample.sentMs <= last.sentMs) return
    if (last !== undefined && last.timeline !== sample.timeline) this.#points = []
    this.#points.push({
      sentMs: sample.sentMs,
      lsn: sample.insertLsn,
      timeline: sample.timeline,
    })
    if (this.#points.length > POINTS_MAX) this.#points.shift()
  }

  /** The bound of what was answered at `sinceMs`, or null while no later sample is known. */
  boundFor(sinceMs: number): Bound | null {
    let found: Point | null = null
    for (let index = this.#points.length - 1; index >= 0; index -= 1) {
      const point = this.#points[index]
      if (point === undefined || point.sentMs <= sinceMs) break
      found = point
    }
    return found
  }

  /**
   * The same demand on the current timeline. A bound of an older one is met by whoever replayed
   * what the new primary had at its first sample, since that lies beyond the fork. A bound of a
   * newer timeline than we know stays as it is: nobody meets it yet.
   */
  current(bound: Bound): Bound {
    const first = this.#points[0]
    return first !== undefined && bound.timeline < first.timeline ? first : bound
  }

  /** A read could not go to a replica: for want of a bound (null), or of a replica that meets it. */
  note(sinceMs: number, bound: Bound | null, nowMs: number): void {
    this.#lacks = { sinceMs, bound, notedMs: nowMs }
    this.#onLack()
  }

  /** Whether faster probes would help a read that came lately. */
  isBusy(eligible: readonly Member[], nowMs: number): boolean {
    const lacks = this.#lacks
    if (lacks === null) return false
    const bound = lacks.bound ?? this.boundFor(lacks.sinceMs)
    const isMet = bound !== null && eligible.some((member) => meets(member, bound))
    if (isMet || nowMs - lacks.notedMs > BUSY_MS_MAX) this.#lacks = null
    return this.#lacks !== null
  }
}

/** Whether the member's own sample shows that it has replayed the bound. */
export function meets(member: Member, bound: Bound): boolean {
  const { sample } = member
  if (sample === null || sample.replayLsn === null) return false
  return sample.timeline === bound.timeline && sample.replayLsn >= bound.lsn
}

/**
 * What a position that came from elsewhere means on the current timeline: a bound there; `newer`: it
 * is of a timeline that we do not know yet; `unknown`: we do not know where its own timeline ended;
 * `lost`: it lies beyond that end. What was met once is not judged again.
 */
export function judge(asked: MinLsn, topology: Topology): Bound | 'newer' | 'unknown' | 'lost' {
  const { timeline, history } = topology
  if (timeline === null || asked.timeline > timeline) return 'newer'
  if (asked.timeline === timeline || asked.isMet) return asked
  const lines = history.filter((line) => line.timeline >= asked.timeline)
  const isTold = lines.some((line) => line.timeline === asked.timeline)
  // Of later ones only: the current timeline does not descend from it, or it is too long ago.
  if (!isTold) return lines.length > 0 ? 'lost' : 'unknown'
  const isKept = lines.every(({ lsn }) => asked.lsn <= lsn)
  return isKept ? { timeline, lsn: asked.lsn } : 'lost'
}

/** What was seen lies below both: the lower one, where that can be told, else the one there is. */
export function lowerBound(one: Bound | null, other: Bound | null): Bound | null {
  if (one === null || other === null) return one ?? other
  return one.timeline === other.timeline && one.lsn < other.lsn ? one : other
}

/** The demand that includes both; of two timelines the newer one counts. */
export function laterBound(one: Bound | null, other: Bound | null): Bound | null {
  if (one === null || other === null) return one ?? other
  if (one.timeline !== other.timeline) return one.timeline > other.timeline ? one : other
  return one.lsn >= other.lsn ? one : other
}
