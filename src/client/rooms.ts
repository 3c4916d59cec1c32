/**
 * Buffers for bytes that are kept for the time of one query: a fresh one for each would be made and
 * collected with every query, and one per session would stay with those that do nothing.
 *
 * hot path.
 */

const ROOM_BYTES = 1024
/** More than that many are made and collected as they come. */
const ROOMS_MAX = 256
const rooms: Buffer[] = []

/** A copy of `bytes[0, length)`, at the front of what is returned; to be given back. */
export function kept(bytes: Buffer, length: number): Buffer {
  const room = length > ROOM_BYTES ? undefined : rooms.pop()
  const copy = room ?? Buffer.allocUnsafeSlow(Math.max(ROOM_BYTES, length))
  bytes.copy(copy, 0, 0, length)
  return copy
}

/** Nobody refers to it any more. */
export function giveBack(room: Buffer): void {
  if (room.length === ROOM_BYTES && rooms.length < ROOMS_MAX) rooms.push(room)
}
