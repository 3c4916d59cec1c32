/**
 * A buffer in which anybody may put together what is written at once. What is in it is valid until
 * the next one puts something there: a channel copies what the kernel does not take at once.
 */

const SCRATCH_BYTES = 32 * 1024
/** Views of its front that are kept, by length: making one costs more than filling it. */
const KEPT_BYTES_MAX = 1024

export const SCRATCH = Buffer.allocUnsafeSlow(SCRATCH_BYTES)

const kept: (Buffer | undefined)[] = Array.from({ length: KEPT_BYTES_MAX + 1 })

/** `SCRATCH.subarray(0, length)`. */
export function scratchFront(length: number): Buffer {
  if (length > KEPT_BYTES_MAX) return SCRATCH.subarray(0, length)
  return (kept[length] ??= SCRATCH.subarray(0, length))
}

/** Whether these bytes are in the scratch buffer. */
export function isScratch(bytes: Buffer): boolean {
  return bytes.buffer === SCRATCH.buffer
}
