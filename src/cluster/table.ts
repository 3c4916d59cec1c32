/**
 * Turns what is known of each member into the rows of a Topology: role, lag, and whether it may
 * serve reads. Remembers the primary's WAL positions and the last judgement of each member.
 */
import { type IneligibleReason, ineligibleReason, type LagLimits } from './eligibility.ts'
import type { Verified } from './evidence.ts'
import { PrimaryRing } from './lag.ts'
import type { Entry } from './roster.ts'
import type { Member, MemberRole, Sample } from './topology.ts'

export type MemberAddress = 'conn_url' | 'proxy_url'

export interface TableContext {
  /** Who is named the primary now. */
  readonly primary: string | null
  readonly verified: Verified | null
  readonly systemIdentifier: string | null
  readonly nowMs: number
  /** A sample older than this is not believed. */
  readonly staleMs: number
  /** From the configuration, by member. */
  readonly weights: ReadonlyMap<string, number>
  readonly zones: ReadonlyMap<string, string>
}

export class MemberTable {
  #limits: LagLimits
  readonly #address: MemberAddress
  #ring: PrimaryRing
  #previous = new Map<string, IneligibleReason | null>()

  constructor(limits: LagLimits, address: MemberAddress) {
    this.#limits = limits
    this.#address = address
    this.#ring = new PrimaryRing(limits.replicaLagMsMax)
  }

  /** New thresholds; what was learnt of the primary's positions stays unless the span grew. */
  setLimits(limits: LagLimits): void {
    const grew = limits.replicaLagMsMax > this.#limits.replicaLagMsMax
    this.#limits = limits
    if (grew) this.#ring = new PrimaryRing(limits.replicaLagMsMax)
  }

  /** The position that lag is measured against, and the sample that shows it. */
  learn(sample: Sample, lsn: bigint | null): void {
    this.#ring.push({ ...sample, writeLsn: lsn })
  }

  clear(): void {
    this.#ring.clear()
    this.#previous.clear()
  }

  members(entries: readonly Entry[], context: TableContext): readonly Member[] {
    const members = entries.map((entry) => this.#member(entry, context))
    this.#previous = new Map(members.map((one) => [one.name, one.ineligibleReason]))
    return Object.freeze(
      members.map(({ ineligibleReason: reason, ...member }) =>
        Object.freeze({ ...member, ineligibleReason: reason }),
      ),
    )
  }

  #member(
    entry: Entry,
    context: TableContext,
  ): Member & { ineligibleReason: IneligibleReason | null } {
    const { member, testimony } = entry
    const { sample, failure } = testimony
    const isPrimary = member.name === context.primary
    const role = roleOf(sample, isPrimary)
    const lag = role === 'replica' && sample !== null ? this.#ring.lagOf(sample) : NO_LAG
    const reason = ineligibleReason(
      {
        isPrimary,
        sample,
        refused: failure?.kind === 'refused',
        ...lag,
        tags: member.tags,
        previous: this.#previous.get(member.name) ?? null,
      },
      {
        nowMs: context.nowMs,
        staleMs: context.staleMs,
        limits: this.#limits,
        systemIdentifier: context.systemIdentifier,
        timeline: context.verified?.timeline ?? null,
      },
    )
    return {
      name: member.name,
      ...this.#trafficAddress(entry),
      role,
      state: entry.isUnlisted ? 'unlisted' : member.state,
      sample,
      ...lag,
      eligible: reason === null,
      ineligibleReason: reason,
      cutBeforeMs: entry.cutBeforeMs,
      silentEndMs: failure?.silentEndMs ?? null,
      weight: context.weights.get(member.name) ?? 1,
      zone: context.zones.get(member.name) ?? zoneTag(member.tags['zone']),
      tags: member.tags,
    }
  }

  /** Where clients' traffic goes: the pooler beside the member if asked for and there is one. */
  #trafficAddress({ member, address }: Entry): { host: string; port: number } {
    const proxy = this.#address === 'proxy_url' ? member.proxy : null
    const { host, port } = proxy ?? address ?? member.addresses[0] ?? { host: '', port: 0 }
    return { host, port }
  }
}

const NO_LAG = { lagBytes: null, lagMs: null }

function roleOf(sample: Sample | null, isPrimary: boolean): MemberRole {
  if (isPrimary) return 'primary'
  return sample?.inRecovery === true ? 'replica' : 'unknown'
}

function zoneTag(tag: string | number | boolean | undefined): string | null {
  return tag === undefined ? null : String(tag)
}
