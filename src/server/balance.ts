/**
 * The choice among replicas that may all serve a read: nearest zone first, then the less loaded of
 * two drawn at random, which spreads load almost as well as asking all and does not herd.
 * Source  Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing".
 */
import type { Member } from '../cluster/topology.ts'

/** A number in [0, 1). */
export type Random = () => number

export interface Choice {
  readonly random: Random
  /** Zone of this process, '' = none. */
  readonly zone: string
  /** Sessions that a member serves or that wait for it. */
  outstanding(member: Member): number
}

/** Returns null when there is none, or only members of weight 0. */
export function chooseMember(members: readonly Member[], choice: Choice): Member | null {
  const near = nearest(members, choice.zone)
  if (near.length <= 1) return near[0] ?? null
  const first = Math.floor(choice.random() * near.length)
  const step = 1 + Math.floor(choice.random() * (near.length - 1))
  const one = near[first]
  const other = near[(first + step) % near.length]
  if (one === undefined || other === undefined) return one ?? null
  return load(other, choice) < load(one, choice) ? other : one
}

/** Those of our zone, or all when none is. */
export function nearest(members: readonly Member[], zone: string): readonly Member[] {
  if (zone === '') return members
  const near = members.filter((member) => member.zone === zone)
  return near.length > 0 ? near : members
}

/** What it would be if it got the next read, per unit of weight. */
function load(member: Member, choice: Choice): number {
  return (choice.outstanding(member) + 1) / member.weight
}
