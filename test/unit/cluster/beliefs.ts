/** A small world for the failover machine: what the source says and what members answer. */
import type { BeliefLimits, Evidence, Testimony } from '../../../src/cluster/evidence.ts'
import {
  advance,
  type Failover,
  type FailoverState,
  missingOf,
  primaryOf,
  UNSEEN,
} from '../../../src/cluster/failover.ts'
import { type ClusterView, DEFAULT_DYNAMIC } from '../../../src/cluster/source.ts'
import type { Sample } from '../../../src/cluster/topology.ts'

export const IDENTIFIER = '7000000000000000001'
export const LIMITS: BeliefLimits = {
  confirmMs: 3000,
  confirmAloneMs: 1750,
  answerMs: 1500,
  blindMs: 2000,
  witnessMs: 5000,
  failsafeMs: 3000,
}

/** What the source says, what members answer, and the machine that watches. */
export class World {
  nowMs = 1000
  view: ClusterView | null = null
  contactMs: number | null = null
  leaderSinceMs = 0
  witness: Evidence['witness'] = null
  needsWitness = true
  readonly testimony = new Map<string, Testimony>()
  machine: Failover = UNSEEN
  reigns = 0

  get primary(): string | null {
    return primaryOf(this.machine)?.name ?? null
  }

  get state(): FailoverState {
    return this.machine.state
  }

  get missing(): string {
    return missingOf(this.machine, this.evidence())
  }

  evidence(): Evidence {
    const { nowMs, view, contactMs, leaderSinceMs, testimony, witness, needsWitness } = this
    const trouble = ''
    return {
      nowMs,
      limits: LIMITS,
      view,
      contactMs,
      trouble,
      leaderSinceMs,
      testimony,
      witness,
      needsWitness,
    }
  }

  advance(): this {
    this.machine = advance(this.machine, this.evidence()).machine
    return this
  }

  /** Time passes; the source keeps answering unless `isSilent`. */
  wait(ms: number, isSilent = false): this {
    this.nowMs += ms
    if (!isSilent && this.contactMs !== null) this.contactMs = this.nowMs
    return this.advance()
  }

  /** The source says that `name` leads, in a new reign; null: nobody. */
  leads(name: string | null, changes: Partial<ClusterView> = {}): this {
    this.reigns += 1
    this.leaderSinceMs = this.nowMs
    this.contactMs = this.nowMs
    this.view = {
      leader: name === null ? null : { name, epoch: String(this.reigns) },
      vacancy: name === null ? 'nobody holds the leader key' : '',
      members: ['a', 'b', 'c'].map((member) => ({
        name: member,
        addresses: [{ host: member, port: 5432 }],
        proxy: null,
        restUrl: null,
        state: 'running',
        tags: {},
      })),
      systemIdentifier: IDENTIFIER,
      dynamic: this.view?.dynamic ?? DEFAULT_DYNAMIC,
      history: [],
      failover: null,
      ...changes,
    }
    return this.advance()
  }

  dynamic(changes: Partial<typeof DEFAULT_DYNAMIC>): this {
    if (this.view !== null)
      this.view = { ...this.view, dynamic: { ...DEFAULT_DYNAMIC, ...changes } }
    return this.advance()
  }

  /** `name` answers a probe sent now. */
  says(name: string, inRecovery: boolean, timeline: number, systemIdentifier = IDENTIFIER): this {
    this.nowMs += 1
    const sample: Sample = {
      sentMs: this.nowMs,
      receivedMs: this.nowMs,
      inRecovery,
      systemIdentifier,
      timeline,
      writeLsn: inRecovery ? null : 1n,
      insertLsn: inRecovery ? null : 1n,
      replayLsn: inRecovery ? 1n : null,
      receiveLsn: null,
    }
    this.testimony.set(name, { sample, failure: null })
    return this.advance()
  }

  writes(name: string, timeline: number): this {
    return this.says(name, false, timeline)
  }

  replays(name: string, timeline: number): this {
    return this.says(name, true, timeline)
  }

  /** Patroni of `name` answers 200 to /primary. */
  hears(name: string, isFailsafe: boolean): this {
    this.witness = { name, atMs: this.nowMs, isFailsafe }
    return this.advance()
  }

  fails(name: string, kind: 'refused' | 'silent' | 'denied'): this {
    const sample = this.testimony.get(name)?.sample ?? null
    const failure = { kind, code: '', reason: `${name} ${kind}`, atMs: this.nowMs }
    this.testimony.set(name, { sample, failure })
    return this.advance()
  }
}
