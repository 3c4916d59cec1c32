/**
 * Write-ahead log as a tree: each record knows the one before it, a member's log is one path, and a
 * promotion is where paths part.
 */
export interface WalRecord {
  readonly parent: WalRecord | null
  readonly depth: number
  readonly lsn: bigint
  readonly timeline: number
  /** Writes that it commits. */
  readonly ids: readonly string[]
}

export const FIRST_RECORD: WalRecord = { parent: null, depth: 0, lsn: 1000n, timeline: 1, ids: [] }

export function append(
  parent: WalRecord,
  timeline: number,
  ids: readonly string[],
  bytes = 100,
): WalRecord {
  const lsn = parent.lsn + BigInt(bytes)
  return { parent, depth: parent.depth + 1, lsn, timeline, ids }
}

/** Whether `record` is part of the log that ends with `head`. */
export function contains(head: WalRecord, record: WalRecord): boolean {
  return ancestorAt(head, record.depth) === record
}

/** The record of that depth in the log that ends with `head`; `head` itself when it is shorter. */
export function ancestorAt(head: WalRecord, depth: number): WalRecord {
  let at = head
  while (at.depth > depth && at.parent !== null) at = at.parent
  return at
}

/** The last record that both logs have. */
export function forkOf(one: WalRecord, other: WalRecord): WalRecord {
  let [left, right] = [ancestorAt(one, other.depth), ancestorAt(other, one.depth)]
  while (left !== right && left.parent !== null && right.parent !== null)
    [left, right] = [left.parent, right.parent]
  return left
}

/** A log that was read after `before` was seen: it goes on from there, or `before` was lost. */
export function isLater(now: WalRecord, before: WalRecord): boolean {
  if (contains(now, before)) return true
  return !contains(before, now) && now.timeline > before.timeline
}
