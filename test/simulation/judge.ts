/**
 * What every write was promised and what became of it, and what every session has seen. It throws
 * nothing: the first breach is kept, and the simulation stops at the step that made it.
 */
import { contains, isLater, type WalRecord } from './wal.ts'

/** Of what a session saw, as many of the newest are compared. */
const LOOK_MAX = 20

type Fate = 'asked' | 'acknowledged' | 'failed' | 'unknown' | 'withdrawn'

interface Write {
  fate: Fate
  readonly records: WalRecord[]
  executions: number
  readonly primaries: string[]
}

/** Times that one text may run: as it came, as a read that stood behind a late one, as one whose server was lost. */
const RUNS_MAX = 2
const RUNS_OF_RIDERS_MAX = 6

export class Judge {
  /**
   * Reads share servers: one may have been sent elsewhere when its first server comes to it, for
   * nobody.
   */
  readonly #isShared: boolean
  broken: string | null = null
  readonly counts = { acknowledged: 0, failed: 0, unknown: 0, withdrawn: 0, reads: 0, lost: 0 }
  readonly #writes = new Map<string, Write>()
  readonly #snapshots: WalRecord[] = []
  readonly #places: string[] = []
  /** What each session has seen or been promised, as indexes of snapshots, in order. */
  readonly #seen = new Map<string, number[]>()

  constructor(isShared = false) {
    this.#isShared = isShared
  }

  breach(what: string): void {
    this.broken ??= what
  }

  asked(ids: readonly string[], _client: string): void {
    for (const id of ids)
      this.#writes.set(id, { fate: 'asked', records: [], executions: 0, primaries: [] })
  }

  /** `isWriter`: the member it runs on takes writes. */
  executes(id: string, isWriter: boolean, where: string): void {
    const write = this.#writes.get(id)
    if (write === undefined) return
    write.executions += 1
    if (isWriter) write.primaries.push(where)
    const mayBeForNobody = this.#isShared && !isWriter
    if (write.fate === 'withdrawn' && !mayBeForNobody)
      this.breach(`${id} was withdrawn and runs on ${where}`)
    // What a primary was sent is never sent again, a read neither.
    if (write.primaries.length > 1 || (!isWriter && !mayBeForNobody && write.primaries.length > 0))
      this.breach(`${id} runs twice: ${write.primaries.join(', ')}`)
    if (write.executions > (this.#isShared ? RUNS_OF_RIDERS_MAX : RUNS_MAX))
      this.breach(`${id} runs for the ${write.executions}th time`)
  }

  commits(ids: readonly string[], record: WalRecord): void {
    for (const id of ids) {
      const write = this.#writes.get(id)
      write?.records.push(record)
      if (write?.fate === 'failed') this.breach(`${id} was told to have failed and is committed`)
    }
  }

  acknowledged(ids: readonly string[], client: string): void {
    for (const id of ids) {
      const write = this.#settle(id, 'acknowledged')
      const [record] = write?.records ?? []
      if (record === undefined) this.breach(`${id} is acknowledged and was never committed`)
      else this.#see(client, this.snapshot(record))
    }
  }

  failed(ids: readonly string[], why: string): void {
    for (const id of ids) {
      const write = this.#settle(id, 'failed')
      if (write !== undefined && write.records.length > 0)
        this.breach(`${id} is told to have failed (${why}) and was committed`)
    }
  }

  unknown(ids: readonly string[], _why: string): void {
    for (const id of ids)
      if (this.#writes.get(id)?.fate !== 'withdrawn') this.#settle(id, 'unknown')
  }

  /** Its client went while nothing of it had been sent. */
  withdrawn(ids: readonly string[]): void {
    for (const id of ids) {
      const write = this.#writes.get(id)
      if (write !== undefined && write.executions === 0) write.fate = 'withdrawn'
    }
  }

  /** `place`: who showed it, for people. */
  snapshot(record: WalRecord, place = 'an acknowledgement'): number {
    this.#places.push(place)
    return this.#snapshots.push(record) - 1
  }

  floorOf(client: string): number {
    return this.#seen.get(client)?.length ?? 0
  }

  /** A read that was sent when the session had seen `floor` things shows `snapshot`. */
  read(client: string, floor: number, snapshot: number): void {
    this.counts.reads += 1
    const now = this.#snapshots[snapshot]
    if (now === undefined) return
    for (const index of (this.#seen.get(client) ?? []).slice(
      Math.max(0, floor - LOOK_MAX),
      floor,
    )) {
      const before = this.#snapshots[index]
      if (before === undefined || isLater(now, before)) continue
      this.breach(
        `${client} reads ${now.timeline}/${now.lsn} on ${this.#places[snapshot]} after ${before.timeline}/${before.lsn} on ${this.#places[index]}`,
      )
      return
    }
    this.#see(client, snapshot)
  }

  /** What was acknowledged and is not in the log that survived. */
  lost(head: WalRecord): string[] {
    const lost: string[] = []
    for (const [id, { fate, records }] of this.#writes)
      if (fate === 'acknowledged' && !records.some((record) => contains(head, record)))
        lost.push(id)
    this.counts.lost = lost.length
    return lost
  }

  #see(client: string, snapshot: number): void {
    // A few are enough: what was seen later is later.
    this.#seen.set(client, [...(this.#seen.get(client) ?? []), snapshot])
  }

  #settle(id: string, fate: Exclude<Fate, 'asked'>): Write | undefined {
    const write = this.#writes.get(id)
    if (write === undefined || write.fate !== 'asked') return write
    write.fate = fate
    this.counts[fate] += 1
    return write
  }
}
