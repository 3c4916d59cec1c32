/**
 * Reading JSON of others, of which nothing is certain: a value is looked for by its path, and what is missing
 * or of another kind is nothing.
 */

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** `value[path[0]][path[1]]...`, undefined where a step is missing. */
export function pick(value: unknown, ...path: readonly string[]): unknown {
  let found: unknown = value
  for (const key of path) found = isRecord(found) ? found[key] : undefined
  return found
}

export function textOf(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

export function arrayOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : []
}
