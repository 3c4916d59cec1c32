/**
 * Reading without a buffer per read: all plain sockets of the process read into one, and whoever
 * gets the bytes is done with them, or has copied them, before the next read. Node offers this as
 * `onread` for sockets that one opens, not for those that one accepts, and only at construction; so
 * the two fields behind it are set here. A Node that has them no more makes `readShared` say so.
 *
 * Source  Node, lib/net.js: kBuffer, kBufferCb, initSocketHandle.
 */
import { Socket } from 'node:net'
import { beginTurn, endTurn } from '../base/clock.ts'
import { Fronts } from './fronts.ts'
import { type StreamBinding, streamBinding } from './stream-binding.ts'

/** One read takes at most this. */
const READ_BYTES_MAX = 128 * 1024
/** In front of every read, for what was left of the one before: see `joined`. */
const FRONT_BYTES = 16 * 1024
const WHOLE = Buffer.allocUnsafeSlow(FRONT_BYTES + READ_BYTES_MAX)
const SHARED = WHOLE.subarray(FRONT_BYTES)
const reads = new Fronts(SHARED)

const fields = Object.getOwnPropertySymbols(new Socket())
const BUFFER = fields.find(({ description }) => description === 'kBuffer')
const CALLBACK = fields.find(({ description }) => description === 'kBufferCb')

interface Handle {
  readonly fd: number
  useUserBuffer(buffer: Buffer): void
  /** Called by C++ at every read, with nothing where the handle has a buffer. */
  onread?: (this: Handle, nothing: unknown) => unknown
}

/**
 * From here on what arrives is given to `onRead` and not to listeners of 'data'.
 *
 * `onRead`  its bytes are only valid during the call.
 * Returns the socket's file descriptor, or -1 where this cannot be had: nothing was changed then.
 */
export function readShared(socket: Socket, onRead: (bytes: Buffer) => void): number {
  const handle: unknown = Reflect.get(socket, '_handle')
  if (BUFFER === undefined || CALLBACK === undefined || !isHandle(handle)) return -1
  handle.useUserBuffer(SHARED)
  Reflect.set(socket, BUFFER, SHARED)
  Reflect.set(socket, CALLBACK, (count: number) => onRead(reads.of(count)))
  if (streamBinding !== null) shorten(handle, streamBinding, onRead)
  return handle.fd
}

/** Bytes come straight from C++; the end and errors go the stream's way, as everything did before. */
function shorten(
  handle: Handle,
  { streamBaseState, kReadBytesOrError }: StreamBinding,
  onRead: (bytes: Buffer) => void,
): void {
  const { onread } = handle
  if (typeof onread !== 'function') return
  handle.onread = function (nothing) {
    const count = streamBaseState[kReadBytesOrError] ?? 0
    if (count <= 0) {
      Reflect.apply(onread, handle, [nothing])
      return
    }
    beginTurn()
    try {
      onRead(reads.of(count))
    } finally {
      endTurn()
    }
  }
}

/** Whether the next read overwrites these bytes. */
export function isShared(bytes: Buffer): boolean {
  return bytes.buffer === WHOLE.buffer
}

/**
 * `front` and then `read`, as one piece that is valid as long as `read` is.
 *
 * Cost    what was read into the shared buffer is not copied, if `front` is short.
 */
export function joined(front: Buffer, read: Buffer): Buffer {
  const { length } = front
  const isFirst = isShared(read) && read.byteOffset === SHARED.byteOffset
  if (!isFirst || length > FRONT_BYTES) return Buffer.concat([front, read])
  front.copy(WHOLE, FRONT_BYTES - length)
  return WHOLE.subarray(FRONT_BYTES - length, FRONT_BYTES + read.length)
}

function isHandle(handle: unknown): handle is Handle {
  if (typeof handle !== 'object' || handle === null) return false
  const { useUserBuffer, fd } = handle as Partial<Handle>
  return typeof useUserBuffer === 'function' && typeof fd === 'number' && fd >= 0
}
