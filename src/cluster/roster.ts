/**
 * The members that are probed and what they said: one probe and one testimony per member, kept in
 * step with the source's list. It records; who is believed is failover.ts.
 */
import type { Clock } from '../base/clock.ts'
import type { Address } from './address.ts'
import type { DirectAccess, openDirect } from './direct.ts'
import type { Testimony } from './evidence.ts'
import { Probe, type ProbeAnswer, type ProbeFailure } from './probe.ts'
import type { ViewMember } from './source.ts'

/** More members than this in one cluster are a mistake of the source. */
const MEMBERS_MAX = 128

/** After so many unanswered questions in a row what hangs on the member is cut off. */
const SILENCES_MAX = 2

export interface Entry {
  readonly member: ViewMember
  readonly testimony: Testimony
  /** The address that answered last. */
  readonly address: Address | null
  readonly started: string | null
  readonly receiverStatus: string | null
  /** Connections made before this moment are dead or hang; see Member. */
  readonly cutBeforeMs: number | null
  /** Questions in a row that were not answered in time. */
  readonly silences: number
  /** The source lists it no longer; it is probed on because it was the primary, or in pause. */
  readonly isUnlisted: boolean
}

interface Place {
  entry: Entry
  readonly probe: Probe | null
}

export interface RosterEvents {
  /** A member answered or failed to. */
  heard(): void
  /** It stopped answering, for another reason than before, or (null) answers again. */
  changed(name: string, failure: ProbeFailure | null): void
}

export class Roster {
  readonly #clock: Clock
  readonly #events: RosterEvents
  readonly #open: typeof openDirect
  readonly #places = new Map<string, Place>()
  readonly failures = new Map<string, number>()
  #access: DirectAccess
  #pace = { periodMs: 500, failurePeriodMs: 500 }
  probes = 0

  constructor(
    access: DirectAccess,
    events: RosterEvents,
    tools: { readonly clock: Clock; readonly open: typeof openDirect },
  ) {
    this.#access = access
    this.#clock = tools.clock
    this.#open = tools.open
    this.#events = events
  }

  entries(): Entry[] {
    return [...this.#places.values()].map((place) => place.entry)
  }

  entry(name: string): Entry | undefined {
    return this.#places.get(name)?.entry
  }

  testimony(): ReadonlyMap<string, Testimony> {
    return new Map([...this.#places].map(([name, place]) => [name, place.entry.testimony]))
  }

  /** Takes the source's list; `keep` says which members that left it are probed on. */
  update(members: readonly ViewMember[], keep: (name: string) => boolean): void {
    for (const member of members.slice(0, MEMBERS_MAX)) this.#list(member)
    const listed = new Set(members.map((member) => member.name))
    for (const [name, place] of this.#places) {
      if (listed.has(name)) continue
      if (keep(name)) place.entry = { ...place.entry, isUnlisted: true }
      else this.#remove(name)
    }
  }

  /** `periodMs` for members that answer, `failurePeriodMs` for those that do not. */
  setPace(periodMs: number, failurePeriodMs: number): void {
    this.#pace = { periodMs, failurePeriodMs }
    for (const { probe } of this.#places.values()) probe?.setPace(periodMs, failurePeriodMs)
  }

  /** New credentials or deadlines: every probe connects anew, what was heard stays. */
  setAccess(access: DirectAccess): void {
    if (JSON.stringify(access) === JSON.stringify(this.#access)) return
    this.#access = access
    for (const { entry } of this.#places.values()) this.#place(entry)
  }

  stop(): void {
    for (const { probe } of this.#places.values()) probe?.stop()
    this.#places.clear()
  }

  #list(member: ViewMember): void {
    const place = this.#places.get(member.name)
    const moved = place !== undefined && !sameAddresses(place.entry.member, member)
    if (place !== undefined && !moved) {
      place.entry = { ...place.entry, member, isUnlisted: false }
      return
    }
    this.#place({
      member,
      testimony: { sample: null, failure: null },
      address: null,
      started: null,
      receiverStatus: null,
      cutBeforeMs: null,
      silences: 0,
      isUnlisted: false,
    })
  }

  #place(entry: Entry): void {
    const { name, addresses } = entry.member
    this.#places.get(name)?.probe?.stop()
    const events = {
      answered: (answer: ProbeAnswer) => this.#answered(name, answer),
      failed: (failure: ProbeFailure) => this.#failed(name, failure),
    }
    const probe =
      addresses.length === 0
        ? null
        : new Probe({ name, addresses }, this.#access, this.#clock, {
            events,
            open: this.#open,
            ...this.#pace,
          })
    this.#places.set(name, { entry, probe })
    probe?.start()
  }

  #remove(name: string): void {
    this.#places.get(name)?.probe?.stop()
    this.#places.delete(name)
    this.failures.delete(name)
  }

  #answered(name: string, answer: ProbeAnswer): void {
    const place = this.#places.get(name)
    if (place === undefined) return
    this.probes += 1
    const { sample, ...rest } = answer
    if (place.entry.testimony.failure !== null) this.#events.changed(name, null)
    const { entry } = place
    const before = entry.testimony.sample
    // What it was before the new start cannot answer, and may not be able to say so.
    const isNew = before !== null && entry.started !== null && entry.started !== answer.started
    const cutBeforeMs = isNew ? before.receivedMs : entry.cutBeforeMs
    const testimony = { sample, failure: null }
    place.entry = {
      ...entry,
      ...rest,
      testimony,
      silences: 0,
      cutBeforeMs: later(entry, cutBeforeMs),
    }
    this.#events.heard()
  }

  #failed(name: string, failure: ProbeFailure): void {
    const place = this.#places.get(name)
    if (place === undefined) return
    this.probes += 1
    this.failures.set(name, (this.failures.get(name) ?? 0) + 1)
    const { sample, failure: before } = place.entry.testimony
    if (before?.kind !== failure.kind) this.#events.changed(name, failure)
    const silences = failure.kind === 'silent' ? place.entry.silences + 1 : 0
    const cutBeforeMs = silences === SILENCES_MAX ? failure.atMs : null
    place.entry = {
      ...place.entry,
      testimony: { sample, failure },
      silences,
      cutBeforeMs: later(place.entry, cutBeforeMs),
    }
    this.#events.heard()
  }
}

/** The moment never goes back. */
function later(entry: Entry, cutBeforeMs: number | null): number | null {
  if (cutBeforeMs === null) return entry.cutBeforeMs
  return Math.max(cutBeforeMs, entry.cutBeforeMs ?? cutBeforeMs)
}

function sameAddresses(one: ViewMember, other: ViewMember): boolean {
  return JSON.stringify(one.addresses) === JSON.stringify(other.addresses)
}
