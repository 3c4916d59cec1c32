/**
 * The front of one buffer, as long as it is asked for. A view of it is an object that costs more to
 * make than a short message costs to copy, and the same lengths come again: short ones are kept.
 */

const KEPT_BYTES_MAX = 1024

export class Fronts {
  readonly #bytes: Buffer
  readonly #kept: (Buffer | null)[] = Array.from({ length: KEPT_BYTES_MAX + 1 }, () => null)

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  /** The first `length` bytes; the same object for the same length, if it is short. */
  of(length: number): Buffer {
    if (length > KEPT_BYTES_MAX) return this.#bytes.subarray(0, length)
    return (this.#kept[length] ??= this.#bytes.subarray(0, length))
  }
}
