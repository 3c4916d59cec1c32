/**
 * A set of things that each know their place in it: who comes and goes with every query is hashed
 * nowhere. In no order; one thing is in one bag at a time.
 */

export interface Placed {
  /** Where it is in its bag; written by the bag only. */
  bagIndex: number
}

export class Bag<Thing extends Placed> {
  readonly #things: Thing[] = []

  get size(): number {
    return this.#things.length
  }

  add(thing: Thing): void {
    thing.bagIndex = this.#things.length
    this.#things.push(thing)
  }

  /** Returns whether it was there. */
  delete(thing: Thing): boolean {
    const index = thing.bagIndex
    if (this.#things[index] !== thing) return false
    const last = this.#things.pop()
    if (last !== undefined && last !== thing) {
      this.#things[index] = last
      last.bagIndex = index
    }
    thing.bagIndex = -1
    return true
  }

  [Symbol.iterator](): IterableIterator<Thing> {
    return this.#things.values()
  }
}
