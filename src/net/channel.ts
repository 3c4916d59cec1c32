/**
 * A byte channel: one socket with backpressure, an end and an owner. It knows nothing of
 * PostgreSQL. While somebody logs in, bytes are pulled (`read`); afterwards a receiver is attached
 * and they are pushed to it.
 *
 * hot path: `#onData` to `Receiver.onBytes`, and `write`. No promise, timer or object per chunk. On a
 * plain socket bytes are read into a buffer that all channels share, and written at once, past what
 * Node's streams do in between.
 */
import { writeSync } from 'node:fs'
import type { Socket } from 'node:net'
import { getDefaultHighWaterMark } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { getSystemErrorName } from 'node:util'
import { systemClock, type Timer } from '../base/clock.ts'
import { invariant } from '../base/invariant.ts'
import {
  DIRECT_BYTES_MAX,
  type DirectHandle,
  directHandle,
  onceWritten,
  writeDirect,
} from './direct-write.ts'
import { isScratch } from './scratch.ts'
import { isShared, readShared } from './shared-read.ts'

/** Who gets what arrives once the log-in is over. */
export interface Receiver {
  /** `chunk` is only valid during the call: keep a copy of what must be kept. */
  onBytes(chunk: Buffer): void
  /** The write buffer is empty again after `write` had returned false. */
  onDrain(): void
  /** Called once. `error` is null at an orderly end. */
  onClosed(error: Error | null): void
}

interface Pull {
  readonly bytes: number
  readonly resolve: (chunk: Buffer) => void
  readonly reject: (error: Error) => void
}

/** Bytes that may arrive before anybody asked for them, per channel. */
const PENDING_BYTES_MAX = 64 * 1024
/** Of what is gathered: longer pieces go out as they come. */
const GATHERED_BYTES_MAX = 16 * 1024
/** How long a peer may take to end its side. */
const LINGER_MS = 5000
/** Who has so many bytes unsent is told of a drain: what is under way alone does not tell. */
export const DRAIN_BYTES = getDefaultHighWaterMark(false) + DIRECT_BYTES_MAX
const EMPTY = Buffer.alloc(0)

export class Channel {
  bytesReceived = 0
  bytesSent = 0
  #socket: Socket
  #receiver: Receiver | null = null
  #pending: Buffer = EMPTY
  #pull: Pull | null = null
  #closed: { readonly error: Error | null } | null = null
  #lastError: Error | null = null
  #paused = false
  #isClosing = false
  #isSettled = false
  /** What goes with the next write. */
  #held: Buffer = EMPTY
  #isGathering = false
  /** Runs while the peer may still end its side. */
  #linger: Timer | null = null
  /** Of a plain socket that stays so: what is written goes there at once. Else -1. */
  #fd = -1
  /** Of the same socket: short pieces go there. Null where that cannot be had. */
  #direct: DirectHandle | null = null
  /** The stream was given something, and may have it still. */
  #isQueued = false
  /** Bytes of a short piece that the kernel did not take at once. */
  #underWayBytes = 0
  /** The client's address as a PROXY header gave it, or the socket's own. */
  #remote: { address: string; port: number }
  readonly isUnix: boolean

  constructor(socket: Socket) {
    this.#socket = socket
    this.isUnix = socket.remoteAddress === undefined
    this.#remote = { address: socket.remoteAddress ?? 'unix', port: socket.remotePort ?? 0 }
    this.#listen()
  }

  get remoteAddress(): string {
    return this.#remote.address
  }
  get remotePort(): number {
    return this.#remote.port
  }
  get localAddress(): string {
    return this.#socket.localAddress ?? 'unix'
  }
  get localPort(): number {
    return this.#socket.localPort ?? 0
  }
  get isClosed(): boolean {
    return this.#closed !== null
  }
  /** Bytes written that the kernel has not taken yet. */
  get unsentBytes(): number {
    return (this.#isQueued ? this.#socket.writableLength : 0) + this.#underWayBytes
  }
  /** The TLS session, or null on a plain channel. */
  get tls(): TLSSocket | null {
    return this.#socket instanceof TLSSocket ? this.#socket : null
  }

  /** A PROXY header from a listed network said who the client really is. */
  setRemote(address: string, port: number): void {
    this.#remote = { address, port }
  }

  /**
   * Takes exactly `bytes` bytes.
   *
   * Errors  rejects when the peer closes first, or the channel is destroyed.
   */
  read(bytes: number): Promise<Buffer> {
    invariant(this.#receiver === null, 'bytes are pulled before a receiver is attached')
    invariant(this.#pull === null, 'one read at a time')
    if (this.#pending.length >= bytes) return Promise.resolve(this.#take(bytes))
    if (this.#closed !== null) return Promise.reject(this.#closed.error ?? endOfStream())
    return new Promise((resolve, reject) => {
      this.#pull = { bytes, resolve, reject }
      this.#socket.resume()
    })
  }

  /** Puts back what was read too far; the next `read` begins with it. */
  unread(bytes: Buffer): void {
    this.#pending = this.#pending.length === 0 ? bytes : Buffer.concat([bytes, this.#pending])
  }

  /** Bytes that have arrived and nobody has read. */
  get unreadBytes(): number {
    return this.#pending.length
  }

  /** No TLS will come any more: reads and writes go past the socket's streams from here on. */
  settle(): void {
    if (!this.#isSettled) this.#takeOver()
  }

  /** From here on bytes are pushed; those that already arrived come in this call. */
  attach(receiver: Receiver): void {
    invariant(this.#pull === null, 'no read is under way when a receiver is attached')
    this.settle()
    this.#receiver = receiver
    const pending = this.#pending
    this.#pending = EMPTY
    if (pending.length > 0) receiver.onBytes(pending)
    if (this.#closed !== null) receiver.onClosed(this.#closed.error)
    else if (!this.#paused) this.#socket.resume()
  }

  /**
   * Sends bytes in order. Returns false when the peer reads too slowly: stop the source until
   * `onDrain`. The bytes belong to the channel from here on, unless they are those of `onBytes` or in
   * the scratch buffer.
   */
  write(bytes: Buffer): boolean {
    if (this.#closed !== null) return true
    if (this.#held.length > 0 || this.#isGathering) return this.#writeHeld(bytes)
    return this.#writeOut(bytes)
  }

  #writeOut(bytes: Buffer): boolean {
    this.bytesSent += bytes.length
    const sent = this.#writeNow(bytes)
    if (sent === bytes.length) return true
    this.#isQueued = true
    const rest = sent === 0 ? bytes : bytes.subarray(sent)
    const isLent = isShared(rest) || isScratch(rest)
    return this.#socket.write(isLent ? Buffer.from(rest) : rest)
  }

  /** Sends bytes together with those of the next `write`, or before the channel ends. */
  hold(bytes: Buffer): void {
    this.#held = this.#held.length === 0 ? bytes : Buffer.concat([this.#held, bytes])
  }

  /**
   * From here on all that is written in one turn goes out as one piece, up to some length: who is sent an answer and
   * the end behind it is not woken in between.
   */
  gather(): void {
    this.#isGathering = true
  }

  pause(): void {
    if (this.#paused) return
    this.#paused = true
    this.#socket.pause()
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#socket.resume()
  }

  /** Sends what is queued, then ends; a peer that does not end its side is cut. Safe to call twice. */
  close(): void {
    if (this.#closed !== null || this.#isClosing) return
    this.#flush()
    this.#isClosing = true
    this.#fd = -1
    const socket = this.#socket
    socket.end()
    socket.resume()
    this.#linger = systemClock.after(LINGER_MS, () => socket.destroy())
  }

  /** The peer said that it is done: ends at once what was sent whole, else as `close` does. */
  hangUp(): void {
    this.#flush()
    if (this.unsentBytes === 0 && !this.#isClosing) this.destroy()
    else this.close()
  }

  /** Ends at once; what is queued is lost. Safe to call twice. */
  destroy(error?: Error): void {
    if (error !== undefined) this.#lastError ??= error
    this.#fd = -1
    this.#socket.destroy()
  }

  /**
   * Hands the socket over to `wrap`, which returns the TLS socket that takes its place. Plain bytes
   * that arrived and were not read go with it (the first bytes of a direct TLS handshake).
   *
   * Errors  rejects when the handshake fails or the peer goes away.
   */
  async upgrade(wrap: (plain: Socket) => TLSSocket, isServer: boolean): Promise<void> {
    const plain = this.#socket
    invariant(this.#held.length === 0, 'nothing is held back when TLS begins')
    // Not all listeners at once: that resets the reading state, and what is unshifted is lost.
    for (const event of ['data', 'drain', 'end', 'error', 'close']) plain.removeAllListeners(event)
    plain.on('error', (error) => {
      this.#lastError ??= error
    })
    plain.pause()
    if (this.#pending.length > 0) plain.unshift(this.#pending)
    this.#pending = EMPTY
    const secured = wrap(plain)
    this.#socket = secured
    await new Promise<void>((resolve, reject) => {
      secured.once(isServer ? 'secure' : 'secureConnect', resolve)
      secured.once('error', reject)
      secured.once('close', () => reject(endOfStream()))
    })
    secured.removeAllListeners('close')
    secured.removeAllListeners('error')
    this.#listen()
  }

  #listen(): void {
    const socket = this.#socket
    socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    socket.on('drain', () => this.#receiver?.onDrain())
    socket.on('end', () => {
      this.#fd = -1
      if (!socket.writableEnded) socket.end()
    })
    socket.on('error', (error) => {
      this.#lastError ??= error
    })
    socket.on('close', () => this.#onClosed())
    if (this.#receiver === null) socket.pause()
  }

  /** A TLS socket is written to by its stream only, which encrypts. */
  #takeOver(): void {
    const socket = this.#socket
    if (this.#closed !== null || socket.destroyed) return
    this.#isSettled = true
    // What the stream holds comes out as 'data', to join what is pending.
    socket.read()
    const fd = readShared(socket, (bytes) => this.#onData(bytes))
    // What is written there is not encrypted.
    if (socket instanceof TLSSocket) return
    this.#fd = fd
    this.#direct = directHandle(socket)
  }

  /**
   * Writes what the kernel takes now; returns how many bytes that was. What it does not take, and
   * every error, is left to the stream. A destroyed socket's descriptor may be another's already.
   */
  #writeNow(bytes: Buffer): number {
    if (this.#fd === -1 || this.#isBehind()) return 0
    if (this.#direct !== null && bytes.length <= DIRECT_BYTES_MAX)
      return this.#writeShort(this.#direct, bytes)
    if (this.#socket.destroyed) return 0
    try {
      return writeSync(this.#fd, bytes, 0, bytes.length)
    } catch {
      return 0
    }
  }

  /** What was written before has not gone yet. */
  #isBehind(): boolean {
    if (this.#isQueued) this.#isQueued = this.#socket.writableLength > 0
    return this.#isQueued || this.#underWayBytes > 0
  }

  /** All of it is the handle's, unless nothing is: what follows on a part goes by the stream. */
  #writeShort(direct: DirectHandle, bytes: Buffer): number {
    const outcome = writeDirect(direct, bytes)
    if (outcome === 'failed') return 0
    if (outcome === 'under_way') {
      this.#underWayBytes = bytes.length
      onceWritten((status) => {
        this.#underWayBytes = 0
        // One that was given up with its socket failed nobody.
        if (status >= 0 || this.#socket.destroyed) return
        this.destroy(new Error(`write ${getSystemErrorName(status)}`))
      })
    }
    return bytes.length
  }

  #writeHeld(bytes: Buffer): boolean {
    const together = Buffer.concat([this.#held, bytes])
    this.#held = EMPTY
    if (!this.#isGathering || together.length > GATHERED_BYTES_MAX) return this.#writeOut(together)
    this.#held = together
    queueMicrotask(() => this.#flush())
    return !this.#socket.writableNeedDrain
  }

  #flush(): void {
    if (this.#held.length === 0 || this.#isClosing || this.#closed !== null) return
    const held = this.#held
    this.#held = EMPTY
    this.#writeOut(held)
  }

  #onData(chunk: Buffer): void {
    this.bytesReceived += chunk.length
    if (this.#isClosing) return
    if (this.#receiver !== null) {
      this.#receiver.onBytes(chunk)
      return
    }
    if (this.#pending.length > 0) this.#pending = Buffer.concat([this.#pending, chunk])
    else this.#pending = isShared(chunk) ? Buffer.from(chunk) : chunk
    const pull = this.#pull
    if (pull !== null && this.#pending.length >= pull.bytes) {
      this.#pull = null
      pull.resolve(this.#take(pull.bytes))
    } else if (this.#pending.length > PENDING_BYTES_MAX) {
      this.#socket.pause()
    }
  }

  #onClosed(): void {
    this.#closed = { error: this.#lastError }
    this.#linger?.cancel()
    const pull = this.#pull
    this.#pull = null
    pull?.reject(this.#lastError ?? endOfStream())
    this.#receiver?.onClosed(this.#lastError)
  }

  #take(bytes: number): Buffer {
    const taken = this.#pending.subarray(0, bytes)
    this.#pending = this.#pending.subarray(bytes)
    return taken
  }
}

/** The peer ended the connection in the middle of a log-in. */
function endOfStream(): Error {
  return new Error('connection closed by the peer')
}
