/**
 * A fixed list of hosts: there is no store, so who leads is found by asking. A member leads when it
 * is the only one that claims to, on the newest timeline; the reign is our own counter. What a
 * static list cannot know is said in docs/failover.md.
 */
import { type Address, formatAddress } from './address.ts'
import type { Testimony } from './evidence.ts'
import {
  type ClusterView,
  DEFAULT_DYNAMIC,
  type DynamicConfig,
  type Leader,
  type Source,
  type SourceEvents,
  type ViewMember,
} from './source.ts'

/** Who was found to lead, and what that was worth. */
export interface Election {
  readonly leader: Leader | null
  readonly vacancy: string
  /** The newest timeline a leader was ever on: claims on older ones are those of zombies. */
  readonly timelineMax: number
  readonly reigns: number
}

export const NO_ELECTION: Election = {
  leader: null,
  vacancy: 'no member of the list claims to be the primary',
  timelineMax: 0,
  reigns: 0,
}

/**
 * Counts the claims.
 *
 * Exactly one claim makes a leader, once every member has been asked. A leader that falls silent
 * keeps its reign, as a lock would, until another member claims alone. Two claims make nobody leader,
 * because nothing here could tell which of them is right; a claim on an older timeline than a
 * leader's is a zombie's and not counted.
 */
export function elect(previous: Election, testimony: ReadonlyMap<string, Testimony>): Election {
  if (previous.leader === null && ![...testimony.values()].every(isHeard)) return previous
  const claims = claimants(testimony, previous.timelineMax)
  const first = claims[0]
  if (claims.length > 1) {
    const names = claims.map((claim) => claim.name).join(' and ')
    return { ...previous, leader: null, vacancy: `${names} both claim to be the primary` }
  }
  if (first === undefined)
    return previous.leader === null ? { ...previous, vacancy: NO_ELECTION.vacancy } : previous
  if (first.name === previous.leader?.name) return { ...previous, timelineMax: first.timeline }
  const reigns = previous.reigns + 1
  const leader = { name: first.name, epoch: String(reigns) }
  return { leader, vacancy: '', timelineMax: first.timeline, reigns }
}

/** It answered, or could not: either way there is nothing to wait for. */
function isHeard({ sample, failure }: Testimony): boolean {
  return sample !== null || failure !== null
}

function claimants(
  testimony: ReadonlyMap<string, Testimony>,
  timelineMax: number,
): { name: string; timeline: number }[] {
  const claims: { name: string; timeline: number }[] = []
  for (const [name, { sample, failure }] of testimony) {
    if (sample === null || failure !== null || sample.inRecovery) continue
    if (sample.timeline >= timelineMax) claims.push({ name, timeline: sample.timeline })
  }
  return claims
}

export class StaticSource implements Source {
  readonly kind = 'static'
  readonly blindMs = Number.POSITIVE_INFINITY
  readonly #members: readonly ViewMember[]
  readonly #events: SourceEvents
  readonly #dynamic: DynamicConfig
  #election = NO_ELECTION

  /** Units: `ttlMs` only tells how long holds last by default. */
  constructor(hosts: readonly Address[], ttlMs: number, events: SourceEvents) {
    this.#members = hosts.map(staticMember)
    this.#dynamic = { ...DEFAULT_DYNAMIC, ttlMs }
    this.#events = events
  }

  start(): void {
    this.#emit()
  }

  stop(): Promise<void> {
    return Promise.resolve()
  }

  setBusy(): void {
    // Nothing is asked here: the probes are the source.
  }

  /** Every answer of a member is a vote. */
  heard(testimony: ReadonlyMap<string, Testimony>): void {
    const election = elect(this.#election, testimony)
    const differs =
      election.leader?.epoch !== this.#election.leader?.epoch ||
      election.vacancy !== this.#election.vacancy
    this.#election = election
    if (differs) this.#emit()
  }

  /** RECONNECT: the next claim counts whatever its timeline. */
  forget(): void {
    this.#election = { ...NO_ELECTION, reigns: this.#election.reigns }
    this.#emit()
  }

  #emit(): void {
    const view: ClusterView = {
      leader: this.#election.leader,
      vacancy: this.#election.vacancy,
      members: this.#members,
      systemIdentifier: null,
      dynamic: this.#dynamic,
      history: [],
      failover: null,
    }
    this.#events.view(view)
  }
}

function staticMember(address: Address): ViewMember {
  return {
    name: formatAddress(address),
    addresses: [address],
    proxy: null,
    restUrl: null,
    state: 'listed',
    tags: {},
  }
}
