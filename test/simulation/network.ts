/**
 * A simulated connection: two directions of bytes, cut into chunks and delayed at random, that may
 * fall silent (the peer's host is gone or frozen) or be reset. The proxy's end looks like a Channel;
 * the chunk it is given is overwritten as soon as the call is over, as the real one's is.
 */
import type { Receiver } from '../../src/net/channel.ts'
import type { ServerChannel } from '../../src/server/connection.ts'
import type { Chance } from './chance.ts'
import type { SimulationClock } from './clock.ts'

/** Bytes on their way at which a write says that its peer reads too slowly. */
const HIGH_WATER_BYTES = 16_384

export interface Peer {
  /** Bytes of the proxy have arrived. */
  onBytes(bytes: Buffer): void
  /** The proxy ended the connection. */
  onClosed(): void
}

export interface LinkEvents {
  /** Just before bytes leave the proxy. */
  sending(bytes: Buffer): void
  /** Just before bytes reach the proxy. */
  arriving(bytes: Buffer): void
  /** Just before the proxy is told of the end. */
  closing(): void
}

export interface LinkTools {
  readonly clock: SimulationClock
  readonly chance: Chance
  readonly latencyMs: number
  readonly owner: string
}

interface Pipe {
  queue: Buffer
  readyMs: number
  isScheduled: boolean
  isEnding: boolean
}

export class Link implements ServerChannel {
  isClosed = false
  bytesReceived = 0
  bytesSent = 0
  readonly tls = null
  readonly isUnix = false
  readonly remoteAddress = '10.0.0.1'
  readonly remotePort = 5432
  readonly localAddress = '10.0.0.9'
  readonly localPort = 40_000
  peer: Peer | null = null
  events: LinkEvents | null = null
  /** Which proxy it is a connection of. */
  readonly owner: string
  /** Who ended it. */
  endedBy: 'proxy' | 'peer' | null = null
  /** Nothing arrives on either side; it waits. */
  isSilent = false
  /** The peer does not read. */
  isPeerStopped = false
  readonly #tools: LinkTools
  #receiver: Receiver | null = null
  #isPaused = false
  #wantsDrain = false
  #isPeerGone = false
  readonly #toPeer: Pipe = newPipe()
  readonly #toProxy: Pipe = newPipe()
  #error: Error | null = null

  constructor(tools: LinkTools) {
    this.#tools = tools
    this.owner = tools.owner
  }

  get receiver(): Receiver | null {
    return this.#receiver
  }

  // The proxy's side.

  attach(receiver: Receiver): void {
    this.#receiver = receiver
    this.#schedule(this.#toProxy)
  }

  get unsentBytes(): number {
    return Math.max(0, this.#toPeer.queue.length - HIGH_WATER_BYTES)
  }

  write(bytes: Buffer): boolean {
    if (this.isClosed || this.#toPeer.isEnding) return true
    this.bytesSent += bytes.length
    this.events?.sending(bytes)
    this.#toPeer.queue = Buffer.concat([this.#toPeer.queue, bytes])
    this.#schedule(this.#toPeer)
    if (this.#toPeer.queue.length <= HIGH_WATER_BYTES) return true
    this.#wantsDrain = true
    return false
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#schedule(this.#toProxy)
  }

  close(): void {
    if (this.isClosed) return
    this.#toPeer.isEnding = true
    this.#schedule(this.#toPeer)
    this.#tools.clock.after(5000, () => this.destroy())
  }

  destroy(error?: Error): void {
    if (this.isClosed) return
    this.#error ??= error ?? null
    this.endedBy ??= 'proxy'
    this.#toPeer.queue = Buffer.alloc(0)
    this.#tools.clock.after(0, () => this.#close())
    this.#tools.clock.after(this.#delay(), () => this.#peerEnds())
  }

  // The peer's side.

  /** Bytes for the proxy. */
  send(bytes: Buffer): void {
    if (this.isClosed || this.#isPeerGone || this.#toProxy.isEnding) return
    this.#toProxy.queue = Buffer.concat([this.#toProxy.queue, bytes])
    this.#schedule(this.#toProxy)
  }

  /** What was sent arrives, then the end. */
  end(): void {
    this.#toProxy.isEnding = true
    this.#schedule(this.#toProxy)
  }

  /** What is on its way is lost. */
  reset(): void {
    this.#toProxy.queue = Buffer.alloc(0)
    this.#error = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' })
    this.endedBy ??= 'peer'
    this.#isPeerGone = true
    this.#tools.clock.after(this.#delay(), () => this.#close())
  }

  speakAgain(): void {
    this.isSilent = false
    this.isPeerStopped = false
    this.#schedule(this.#toPeer)
    this.#schedule(this.#toProxy)
  }

  /** The peer reads again. */
  readAgain(): void {
    this.isPeerStopped = false
    this.#schedule(this.#toPeer)
  }

  get unreadBytes(): number {
    return this.#toProxy.queue.length
  }

  #schedule(pipe: Pipe): void {
    if (pipe.isScheduled || (pipe.queue.length === 0 && !pipe.isEnding)) return
    pipe.isScheduled = true
    const { clock } = this.#tools
    pipe.readyMs = Math.max(pipe.readyMs, clock.nowMs()) + this.#delay()
    clock.after(pipe.readyMs - clock.nowMs(), () => {
      pipe.isScheduled = false
      if (pipe === this.#toPeer) this.#deliverToPeer()
      else this.#deliverToProxy()
    })
  }

  #deliverToPeer(): void {
    if (this.isSilent || this.isPeerStopped || this.#isPeerGone) return
    const chunk = this.#take(this.#toPeer)
    if (chunk.length > 0) this.peer?.onBytes(chunk)
    if (this.#wantsDrain && this.#toPeer.queue.length === 0 && !this.isClosed) {
      this.#wantsDrain = false
      this.#receiver?.onDrain()
    }
    if (this.#toPeer.queue.length > 0) this.#schedule(this.#toPeer)
    else if (this.#toPeer.isEnding) this.#peerEnds()
  }

  #deliverToProxy(): void {
    if (this.isSilent || this.#isPaused || this.isClosed || this.#receiver === null) return
    const chunk = this.#take(this.#toProxy)
    if (chunk.length > 0 && !this.#toPeer.isEnding) {
      this.bytesReceived += chunk.length
      this.events?.arriving(chunk)
      this.#receiver.onBytes(chunk)
      chunk.fill(0xee)
    }
    if (this.#toProxy.queue.length > 0) this.#schedule(this.#toProxy)
    else if (this.#toProxy.isEnding) this.#close()
  }

  /** Often all that is there, sometimes a few bytes. */
  #take(pipe: Pipe): Buffer {
    const { chance } = this.#tools
    const { length } = pipe.queue
    const bytes = chance.is(0.75) ? length : Math.min(length, 1 + chance.int(Math.max(1, length)))
    const chunk = Buffer.from(pipe.queue.subarray(0, bytes))
    pipe.queue = pipe.queue.subarray(bytes)
    return chunk
  }

  #peerEnds(): void {
    if (this.#isPeerGone) return
    this.#isPeerGone = true
    this.peer?.onClosed()
    this.#tools.clock.after(this.#delay(), () => this.#close())
  }

  #close(): void {
    if (this.isClosed) return
    this.isClosed = true
    this.endedBy ??= 'peer'
    this.events?.closing()
    this.#receiver?.onClosed(this.#error)
    this.#tools.clock.after(this.#delay(), () => this.#peerEnds())
  }

  #delay(): number {
    const { chance, latencyMs } = this.#tools
    return chance.is(0.03) ? chance.between(0, 20 * latencyMs) : chance.between(0, 2 * latencyMs)
  }
}

function newPipe(): Pipe {
  return { queue: Buffer.alloc(0), readyMs: 0, isScheduled: false, isEnding: false }
}
