/**
 * The known word that somebody who mistyped most likely meant.
 */

/** Words longer than this are not compared. */
const LENGTH_MAX = 64

/** The nearest of `known` by edit distance, or null if none is near. */
export function nearest(word: string, known: Iterable<string>): string | null {
  if (word.length > LENGTH_MAX) return null
  const lower = word.toLowerCase()
  let best: string | null = null
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1
  for (const candidate of known) {
    const distance = editDistance(lower, candidate.toLowerCase(), bestDistance)
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best
}

/** Levenshtein's distance, or `limit` as soon as it cannot be below. O(a x b). */
export function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit
  let above = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i]
    for (let j = 1; j <= b.length; j += 1) {
      const swap = a[i - 1] === b[j - 1] ? 0 : 1
      row.push(Math.min(at(above, j) + 1, at(row, j - 1) + 1, at(above, j - 1) + swap))
    }
    if (Math.min(...row) >= limit) return limit
    above = row
  }
  return Math.min(limit, at(above, b.length))
}

function at(row: readonly number[], index: number): number {
  return row[index] ?? Number.POSITIVE_INFINITY
}
