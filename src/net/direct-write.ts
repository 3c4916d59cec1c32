/**
 * Writing at once, past what streams and file functions do around it: the handle of a socket takes
 * bytes, and what the kernel takes of them is gone when the call returns. What it does not take the
 * handle goes on referring to, so what is given to it is always a copy in a room of its own, which
 * it keeps then. A Node without the binding that this needs has no direct handles.
 *
 * hot path: one request and one room for the whole process, as long as the kernel takes everything.
 * Source  Node, lib/internal/stream_base_commons.js; StreamBase::Write in src/stream_base.cc.
 */
import type { Socket } from 'node:net'
import { Fronts } from './fronts.ts'
import { streamBinding, type WriteRequest } from './stream-binding.ts'

/** Longer pieces are not copied, and go another way. */
export const DIRECT_BYTES_MAX = 16 * 1024

/** Everything went; the rest is under way; nothing of it will be sent. */
export type DirectOutcome = 'sent' | 'under_way' | 'failed'

export interface DirectHandle {
  writeBuffer(request: WriteRequest, bytes: Buffer): number
}

const binding = streamBinding
let request = binding === null ? {} : new binding.WriteWrap()
/** That of the last write, until somebody waits for it. */
let underWay: WriteRequest | null = null
let room = Buffer.allocUnsafeSlow(DIRECT_BYTES_MAX)
let fronts = new Fronts(room)

/** Null for a socket that cannot be written to like this. */
export function directHandle(socket: Socket): DirectHandle | null {
  const handle: unknown = Reflect.get(socket, '_handle')
  return binding !== null && isHandle(handle) ? handle : null
}

/**
 * `bytes`  at most DIRECT_BYTES_MAX; they are the caller's again when this returns.
 */
export function writeDirect(handle: DirectHandle, bytes: Buffer): DirectOutcome {
  if (binding === null) return 'failed'
  room.set(bytes)
  if (handle.writeBuffer(request, fronts.of(bytes.length)) !== 0) return 'failed'
  if (binding.streamBaseState[binding.kLastWriteWasAsync] === 0) return 'sent'
  underWay = request
  underWay.buffer = room
  request = new binding.WriteWrap()
  room = Buffer.allocUnsafeSlow(DIRECT_BYTES_MAX)
  fronts = new Fronts(room)
  return 'under_way'
}

/** `onDone`  is called when the last write that is under way is over; below zero: it failed. */
export function onceWritten(onDone: (status: number) => void): void {
  if (underWay !== null) underWay.oncomplete = onDone
  underWay = null
}

function isHandle(handle: unknown): handle is DirectHandle {
  if (typeof handle !== 'object' || handle === null) return false
  return typeof (handle as Partial<DirectHandle>).writeBuffer === 'function'
}
