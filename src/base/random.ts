/**
 * Random bytes for nonces and keys, taken from the system a page at a time: asking for eighteen costs
 * as much as asking for four thousand. What was handed out is wiped here.
 */
import { randomFillSync } from 'node:crypto'

const PAGE_BYTES = 4096

const page = Buffer.allocUnsafeSlow(PAGE_BYTES)
let used = PAGE_BYTES

/** `bytes`  up to 4096. */
export function freshBytes(bytes: number): Buffer {
  if (used + bytes > PAGE_BYTES) {
    randomFillSync(page)
    used = 0
  }
  const fresh = Buffer.from(page.subarray(used, used + bytes))
  page.fill(0, used, used + bytes)
  used += bytes
  return fresh
}
