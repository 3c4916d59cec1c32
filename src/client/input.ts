/**
 * What a client has sent and nobody has taken yet, and what of it has to be dropped because an
 * error made it void: everything up to a Sync, or the rest of one message.
 */
import * as frame from '../wire/frame.ts'

const EMPTY = Buffer.alloc(0)

export class Input {
  #bytes: Buffer = EMPTY
  /** What a message that comes in many pieces is gathered in; `#bytes` ends at `#roomStart`. */
  #room: Buffer = EMPTY
  #roomStart = 0
  /** False: they are only valid during the call that brought them. */
  #isOwned = true
  #isDroppingToSync = false
  #dropBytes = 0
  /** A ReadyForQuery is due when the message at hand is dropped. */
  #isReadyOwed = false

  get bytes(): Buffer {
    return this.#bytes
  }

  get length(): number {
    return this.#bytes.length
  }

  get isDropping(): boolean {
    return this.#isDroppingToSync || this.#dropBytes > 0
  }

  /** `chunk` stays the caller's: `own` has to be called before it ends. */
  push(chunk: Buffer): void {
    this.#isOwned = this.#bytes.length > 0
    if (this.#isOwned) this.#gather(chunk)
    else this.#bytes = chunk
  }

  /** Room is doubled: what comes byte by byte is not copied byte by byte. */
  #gather(chunk: Buffer): void {
    const { length } = this.#bytes
    if (this.#room.length - this.#roomStart < chunk.length) {
      this.#room = Buffer.allocUnsafe((length + chunk.length) * 2)
      this.#roomStart = this.#bytes.copy(this.#room)
    }
    this.#roomStart += chunk.copy(this.#room, this.#roomStart)
    this.#bytes = this.#room.subarray(this.#roomStart - length - chunk.length, this.#roomStart)
  }

  /** Copies what is left and not ours yet. */
  own(): void {
    if (this.#isOwned) return
    if (this.#bytes.length > 0) this.#bytes = Buffer.from(this.#bytes)
    this.#isOwned = true
  }

  /** Puts bytes back in front: they are taken once more. */
  unshift(bytes: Buffer): void {
    this.#bytes = this.#bytes.length === 0 ? bytes : Buffer.concat([bytes, this.#bytes])
    this.#room = EMPTY
    this.#roomStart = 0
  }

  take(bytes: number): void {
    if (bytes < this.#bytes.length) this.#bytes = this.#bytes.subarray(bytes)
    else this.clear()
  }

  clear(): void {
    this.#bytes = EMPTY
    this.#room = EMPTY
    this.#roomStart = 0
  }

  /** Drops the message at the front, whole or not; with `isReadyOwed` a ReadyForQuery is due then. */
  dropMessage(bytes: number, isReadyOwed = false): void {
    this.#dropBytes = bytes
    this.#isReadyOwed = isReadyOwed
  }

  /** Drops everything up to the next Sync, behind what is being dropped. */
  dropToSync(): void {
    this.#isDroppingToSync = true
  }

  /**
   * Drops a batch that was answered by an error: as PostgreSQL does, everything up to the next Sync
   * when the batch has none of its own.
   *
   * Returns whether the error is to be followed by a ReadyForQuery at once.
   */
  dropBatch(batch: {
    readonly bytes: number
    readonly endsReady: boolean
    readonly isWhole: boolean
  }): boolean {
    if (batch.isWhole) {
      this.take(batch.bytes)
      this.#isDroppingToSync = !batch.endsReady
      return batch.endsReady
    }
    const type = this.#bytes[0]
    if (type === frame.QUERY || type === frame.FUNCTION_CALL) {
      this.#isReadyOwed = true
      this.#dropBytes = frame.frameBytes(this.#bytes, 0)
    } else {
      this.#isDroppingToSync = true
    }
    return false
  }

  /**
   * Drops what has to be dropped and is here.
   *
   * Returns 'ready' when a ReadyForQuery is due now, 'more' when there may be more to drop, 'done'
   *         when nothing is left to do until bytes come.
   */
  drop(): 'ready' | 'more' | 'done' {
    if (this.#dropBytes > 0) {
      const bytes = Math.min(this.#dropBytes, this.#bytes.length)
      this.#dropBytes -= bytes
      this.take(bytes)
      if (this.#dropBytes > 0) return 'done'
      const isReady = this.#isReadyOwed
      this.#isReadyOwed = false
      return isReady ? 'ready' : 'more'
    }
    if (!this.#isDroppingToSync || this.#bytes.length < frame.HEADER_BYTES) return 'done'
    const type = this.#bytes[0]
    this.#isDroppingToSync = type !== frame.SYNC && type !== frame.TERMINATE
    if (type === frame.TERMINATE) return 'more'
    this.#isReadyOwed = type === frame.SYNC
    this.#dropBytes = Math.max(frame.frameBytes(this.#bytes, 0), frame.HEADER_BYTES)
    return 'more'
  }
}
