/**
 * What goes to a server in one write: runs of the input, with bytes of ours between them. One run
 * alone goes as it is; else all of it is put together in the scratch buffer of the worker, so that a
 * message under another name costs no object.
 *
 * hot path: one for the whole worker, used by one forwarder at a time.
 */
import { invariant } from '../base/invariant.ts'
import { SCRATCH, scratchFronts } from '../net/scratch.ts'

/** Fewer bytes are copied one by one: a call into the runtime costs more. */
const SHORT_BYTES = 64
const EMPTY = Buffer.alloc(0)

export class Outgoing {
  #input: Buffer = EMPTY
  #isBegun = false
  /** A run of the input that is not copied yet. */
  #runStart = 0
  #runEnd = 0
  /** What was put together; the scratch buffer, or a larger one for this write only. */
  #room: Buffer = SCRATCH
  #length = 0

  /** Runs are of `input` up to `end`. */
  begin(input: Buffer): void {
    invariant(!this.#isBegun, 'one write is put together at a time')
    this.#isBegun = true
    this.#input = input
  }

  end(): void {
    this.#isBegun = false
    this.#input = EMPTY
    this.#runStart = 0
    this.#runEnd = 0
    this.#room = SCRATCH
    this.#length = 0
  }

  /** `input[start, end)` as it is. */
  run(start: number, end: number): void {
    if (start !== this.#runEnd || this.#runEnd === this.#runStart) {
      this.#endRun()
      this.#runStart = start
    }
    this.#runEnd = end
  }

  bytes(bytes: Buffer): void {
    this.#endRun()
    this.#copy(bytes, 0, bytes.length)
  }

  byte(value: number): void {
    this.#endRun()
    const at = this.#take(1)
    this.#room[at] = value
  }

  int32(value: number): void {
    this.#endRun()
    const at = this.#take(4)
    this.#room[at] = value >>> 24
    this.#room[at + 1] = value >>> 16
    this.#room[at + 2] = value >>> 8
    this.#room[at + 3] = value
  }

  /** All of it, or null when it is nothing; valid until the next `begin`. */
  all(): Buffer | null {
    if (this.#length > 0) {
      this.#endRun()
      if (this.#room !== SCRATCH) return this.#room.subarray(0, this.#length)
      return scratchFronts.of(this.#length)
    }
    if (this.#runEnd === this.#runStart) return null
    const isWhole = this.#runStart === 0 && this.#runEnd === this.#input.length
    return isWhole ? this.#input : this.#input.subarray(this.#runStart, this.#runEnd)
  }

  #endRun(): void {
    if (this.#runEnd > this.#runStart) this.#copy(this.#input, this.#runStart, this.#runEnd)
    this.#runStart = this.#runEnd
  }

  #copy(from: Buffer, start: number, end: number): void {
    const at = this.#take(end - start)
    const room = this.#room
    if (end - start > SHORT_BYTES) from.copy(room, at, start, end)
    else for (let step = 0; step < end - start; step += 1) room[at + step] = from[start + step] ?? 0
  }

  /** Room for so many bytes more. Returns where it begins. */
  #take(bytes: number): number {
    const at = this.#length
    this.#length += bytes
    if (this.#length > this.#room.length) {
      const wider = Buffer.allocUnsafe(2 * this.#length)
      this.#room.copy(wider, 0, 0, at)
      this.#room = wider
    }
    return at
  }
}

/** The one of this worker. */
export const outgoing = new Outgoing()
