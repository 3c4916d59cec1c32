/**
 * What clients of one pooler were told during one scenario, against what the cluster held in the end.
 * Pure: it counts and does not judge.
 */
import type { ChaosLoad, Write } from './load.ts'

/** What the primary of after the fault says. */
export interface Held {
  /** How often each id stands in the table. */
  readonly times: ReadonlyMap<string, number>
  /** Where its timeline left the old primary's; null when it did not. */
  readonly forkLsn: bigint | null
}

export interface Circumstances {
  readonly scenario: string
  readonly pooler: string
  /** Port of the primary of before the fault. */
  readonly port: number
  readonly struckMs: number
  readonly outageMs: number
  readonly handoverMs: number | null
  readonly load: number
}

export interface Account {
  readonly scenario: string
  readonly pooler: string
  readonly acknowledged: number
  /** Acknowledged and not there. */
  readonly lost: number
  /** Acknowledged by the old primary, and not shown to be committed before the new one's timeline begins. */
  readonly beyondFork: number
  /** Lost though the old primary had them before that point, or another member took them. */
  readonly lostOfOurs: number
  readonly doubled: number
  readonly unknown: number
  readonly failed: number
  /** Told that they were undone, and yet there. */
  readonly untrue: number
  /** Writes that one client was not told the end of, or was told that they failed: the most of any client. */
  readonly troublesOfOne: number
  readonly dropped: number
  readonly refused: number
  /** Own writes that a read did not see though they are there; a lost one is counted as lost alone. */
  readonly stale: number
  readonly readErrors: number
  readonly writeStallMs: number
  readonly readStallMs: number
  /** The longest that a client hung, behind the fault, before it was told that a write failed or may have. */
  readonly hungMs: number
  readonly outageMs: number
  /** From Patroni's before_stop until somebody could be written to again; null where it called nobody. */
  readonly handoverMs: number | null
  /** Processes that ran or waited for a processor, on average over the minute before its end. */
  readonly load: number
  readonly errors: readonly string[]
  /** Reads that shared a server from the fault on, and answers that reached another client; null where none share. */
  readonly sharedReads?: number | null
  readonly wrongAnswers?: number | null
}

/** On a virtual machine, whose load does not show what its host takes away; and for each process that has to wait. */
const STALL_MS = 2000
const STALL_MS_PER_LOAD = 100

/**
 * How long a writer may stall: as long as the cluster itself could not be written to, and a part that
 * grows with the load of the machine. What is promised for a quiet one is less, and is asked of the
 * record of a whole run (test/unit/docs/chaos.test.ts).
 */
export function stallMsMaxOf({
  outageMs,
  handoverMs,
  load,
}: Pick<Account, 'outageMs' | 'handoverMs' | 'load'>): number {
  return Math.max(outageMs, handoverMs ?? 0) + STALL_MS + STALL_MS_PER_LOAD * load
}

export function accountOf(load: ChaosLoad, held: Held, at: Circumstances): Account {
  const { times, forkLsn } = held
  const acknowledged = load.of('acknowledged')
  const lost = acknowledged.filter(({ id }) => !times.has(id))
  const troubles = load.writes.filter(({ outcome }) => outcome !== 'acknowledged')
  const ofOld = load.writes.filter(({ port, lsn }) => port === at.port && lsn !== null)
  const known = { forkLsn, ofOld, port: at.port }
  const errors = [...load.writes.map(({ error }) => error), ...load.readErrors]
  return {
    scenario: at.scenario,
    pooler: at.pooler,
    acknowledged: acknowledged.length,
    lost: lost.length,
    beyondFork: acknowledged.filter((write) => !isOurs(write, known)).length,
    lostOfOurs: lost.filter((write) => isOurs(write, known)).length,
    doubled: load.writes.filter(({ id }) => (times.get(id) ?? 0) > 1).length,
    unknown: load.of('unknown').length,
    failed: load.of('failed').length,
    untrue: load.of('failed').filter(({ id }) => times.has(id)).length,
    troublesOfOne: mostOfOne(troubles),
    dropped: load.dropped,
    refused: load.refused,
    stale: load.unseen.filter((id) => times.has(id)).length,
    readErrors: load.readErrors.length,
    writeStallMs: Math.round(load.writeStallMs),
    readStallMs: Math.round(load.readStallMs),
    hungMs: Math.round(
      Math.max(
        0,
        ...troubles.map(({ startedMs, endedMs }) => endedMs - Math.max(startedMs, at.struckMs)),
      ),
    ),
    outageMs: Math.round(at.outageMs),
    load: Math.round(at.load * 10) / 10,
    handoverMs: at.handoverMs === null ? null : Math.round(at.handoverMs),
    errors: [...new Set(errors.map((error) => error.slice(0, 120)).filter(Boolean))],
  }
}

/**
 * Whether the cluster would not be to blame for its loss: replication may lose what the old primary
 * wrote behind the fork point, and nothing else. An INSERT of the old primary that began after the
 * write was acknowledged, and saw a WAL before the fork point, proves that its COMMIT was before it
 * as well.
 */
function isOurs(
  write: Write,
  known: { forkLsn: bigint | null; ofOld: readonly Write[]; port: number },
): boolean {
  const { forkLsn, ofOld, port } = known
  if (write.port !== port || forkLsn === null) return true
  return ofOld.some(({ startedMs, lsn }) => {
    return startedMs > write.endedMs && lsn !== null && lsn < forkLsn
  })
}

function mostOfOne(troubles: readonly Write[]): number {
  const counts = new Map<string, number>()
  for (const { client } of troubles) counts.set(client, (counts.get(client) ?? 0) + 1)
  return Math.max(0, ...counts.values())
}
