/**
 * Reads the fields of one frame's body without making objects for them. Positions are offsets in
 * the buffer that holds the frame; texts are latin1 strings of the bytes, so that nothing is lost.
 */

/** Fewer bytes are compared one by one: a call into the runtime costs more. */
const SHORT_BYTES = 256

export class FrameReader {
  #bytes: Buffer = Buffer.alloc(0)
  #end = 0
  offset = 0
  /** A field ran over the end of the frame: the message is broken, whatever was returned. */
  isBroken = false

  /** Begins with the body of the frame at `start`, which ends before `end`. */
  begin(bytes: Buffer, start: number, end: number): void {
    this.#bytes = bytes
    this.offset = start
    this.#end = end
    this.isBroken = false
  }

  /** What `look` says of the rest of the body. */
  rest<Found>(look: (bytes: Buffer, start: number, end: number) => Found): Found {
    return look(this.#bytes, this.offset, this.#end)
  }

  /** Whether the rest of the body is these bytes. */
  restIs(bytes: Buffer): boolean {
    if (this.#end - this.offset !== bytes.length) return false
    if (bytes.length <= SHORT_BYTES) return this.#isRest(bytes)
    return this.#bytes.compare(bytes, 0, bytes.length, this.offset, this.#end) === 0
  }

  #isRest(bytes: Buffer): boolean {
    for (let at = 0; at < bytes.length; at += 1)
      if (bytes[at] !== this.#bytes[this.offset + at]) return false
    return true
  }

  get isAtEnd(): boolean {
    return this.offset === this.#end
  }

  /** The string up to its zero byte. */
  cstring(): string {
    // Most names are empty, and a look is cheaper than a search.
    if (this.offset < this.#end && this.#bytes[this.offset] === 0) {
      this.offset += 1
      return ''
    }
    const end = this.#bytes.indexOf(0, this.offset)
    if (end === -1 || end >= this.#end) {
      this.isBroken = true
      return ''
    }
    const text = this.#bytes.toString('latin1', this.offset, end)
    this.offset = end + 1
    return text
  }

  byte(): number {
    if (this.offset >= this.#end) {
      this.isBroken = true
      return 0
    }
    const value = this.#bytes[this.offset] ?? 0
    this.offset += 1
    return value
  }

  int16(): number {
    if (this.offset + 2 > this.#end) {
      this.isBroken = true
      return 0
    }
    const value = this.#bytes.readInt16BE(this.offset)
    this.offset += 2
    return value
  }
}
