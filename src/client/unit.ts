/**
 * Which batches may stand behind those of others on one server: a lone read that runs one statement,
 * is ended by a ReadyForQuery of its own, and leaves nothing behind whatever becomes of it. Pure.
 *
 * Source  docs/routing.md, "Shared servers".
 */
import type { Classified, Verb } from '../routing/classify.ts'
import type { Settings } from '../server/settings.ts'
import type { BatchReader } from './batch.ts'
import { valuesOf } from './values.ts'

const VERBS: ReadonlySet<Verb> = new Set<Verb>(['select', 'values', 'table'])
/** It would show how its server was made ready for riders. */
const SHOWS_SETTINGS = 'current_setting'

/** `bytesMax`  `multiplex_bytes_max`. */
export function isUnit(batch: BatchReader, bytesMax: number): boolean {
  if (!batch.isWhole || !batch.endsReady || batch.executes !== 1 || batch.bytes > bytesMax)
    return false
  if (batch.kind === 'extended' ? batch.binds !== 1 || batch.isOdd : batch.kind !== 'simple')
    return false
  for (const classified of batch.classified) if (!isLoneRead(classified)) return false
  return batch.classified.length > 0
}

function isLoneRead({ functions, read, statements }: Classified): boolean {
  if (!read || statements.length !== 1) return false
  const [statement] = statements
  if (statement === undefined || !VERBS.has(statement.verb)) return false
  return functions.length === 0 || !functions.includes(SHOWS_SETTINGS)
}

const sharable = new WeakMap<Settings, boolean>()

/**
 * Whether a server with these settings may be shared: its transactions are made read-only, and what
 * a text means was judged as of ordinary strings in an encoding that extends ASCII.
 */
export function isSharable(settings: Settings): boolean {
  const known = sharable.get(settings)
  if (known !== undefined) return known
  const { asciiSafeEncoding, defaultReadOnly, isolation, standardStrings } = valuesOf(settings)
  const isPlain = standardStrings !== false && asciiSafeEncoding !== false
  const isShared = isPlain && defaultReadOnly === null && isolation !== 'serializable'
  sharable.set(settings, isShared)
  return isShared
}
