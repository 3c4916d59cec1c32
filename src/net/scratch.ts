/**
 * A buffer in which anybody may put together what is written at once. What is in it is valid until
 * the next one puts something there: a channel copies what the kernel does not take at once.
 */
import { Fronts } from './fronts.ts'

const SCRATCH_BYTES = 32 * 1024

export const SCRATCH = Buffer.allocUnsafeSlow(SCRATCH_BYTES)
export const scratchFronts = new Fronts(SCRATCH)

/** Whether these bytes are in the scratch buffer. */
export function isScratch(bytes: Buffer): boolean {
  return bytes.buffer === SCRATCH.buffer
}
