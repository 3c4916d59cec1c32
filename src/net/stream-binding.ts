/**
 * What Node keeps of a socket's reads and writes between its C++ and its JavaScript. Nobody promises
 * it: a Node that has it no more, or will not give it, makes `streamBinding` null.
 *
 * Source  Node, lib/internal/stream_base_commons.js; src/stream_base.cc.
 */

/** What Node keeps of a write that is not over; used again until one is not. */
export interface WriteRequest {
  oncomplete?: (status: number) => void
  /** The handle does not hold its bytes by itself. */
  buffer?: Buffer
}

export interface StreamBinding {
  readonly WriteWrap: new () => WriteRequest
  /** Of the read or write at hand, by the two numbers below. */
  readonly streamBaseState: Readonly<Record<number, number>>
  readonly kLastWriteWasAsync: number
  readonly kReadBytesOrError: number
}

export const streamBinding = bindingOf(process)

function bindingOf(of: object): StreamBinding | null {
  try {
    const load: unknown = Reflect.get(of, 'binding')
    const found: unknown =
      typeof load === 'function' ? Reflect.apply(load, of, ['stream_wrap']) : null
    return isBinding(found) ? found : null
  } catch {
    return null
  }
}

function isBinding(found: unknown): found is StreamBinding {
  if (typeof found !== 'object' || found === null) return false
  const { WriteWrap, streamBaseState, kLastWriteWasAsync, kReadBytesOrError } =
    found as Partial<StreamBinding>
  const areIndexes = typeof kLastWriteWasAsync === 'number' && typeof kReadBytesOrError === 'number'
  return typeof WriteWrap === 'function' && typeof streamBaseState === 'object' && areIndexes
}
