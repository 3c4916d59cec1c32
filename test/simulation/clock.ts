/**
 * The simulation's time: a heap of what is to happen, run one by one. Everything is an event of this
 * clock, timers of the proxy as well as packets of the network.
 */
import type { Clock, Timer } from '../../src/base/clock.ts'

interface Event {
  readonly sequence: number
  atMs: number
  run: (() => void) | null
}

const WALL_OFFSET_MS = 1_700_000_000_000

export class SimulationClock implements Clock {
  #nowMs = 1000
  #sequence = 0
  readonly #heap: Event[] = []

  nowMs(): number {
    return this.#nowMs
  }

  wallMs(): number {
    return WALL_OFFSET_MS + this.#nowMs
  }

  after(delayMs: number, run: () => void): Timer {
    const event = this.#push(this.#nowMs + Math.max(0, delayMs), run)
    return {
      cancel: () => {
        event.run = null
      },
    }
  }

  every(periodMs: number, run: () => void): Timer {
    let isCancelled = false
    const turn = (): void => {
      if (isCancelled) return
      this.#push(this.#nowMs + periodMs, turn)
      run()
    }
    this.#push(this.#nowMs + periodMs, turn)
    return {
      cancel: () => {
        isCancelled = true
      },
    }
  }

  /** Runs the next event. Returns false when none is due before `untilMs`, which is now then. */
  step(untilMs: number): boolean {
    for (;;) {
      const next = this.#heap[0]
      if (next === undefined || next.atMs > untilMs) {
        this.#nowMs = untilMs
        return false
      }
      this.#pop()
      this.#nowMs = next.atMs
      if (next.run === null) continue
      next.run()
      return true
    }
  }

  #push(atMs: number, run: () => void): Event {
    this.#sequence += 1
    const event: Event = { sequence: this.#sequence, atMs, run }
    const heap = this.#heap
    let index = heap.push(event) - 1
    while (index > 0) {
      const above = (index - 1) >> 1
      const other = heap[above]
      if (other === undefined || !isBefore(event, other)) break
      heap[index] = other
      index = above
    }
    heap[index] = event
    return event
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return
    let index = 0
    for (;;) {
      let below = 2 * index + 1
      const left = heap[below]
      if (left === undefined) break
      const right = heap[below + 1]
      let least = left
      if (right !== undefined && isBefore(right, left)) {
        below += 1
        least = right
      }
      if (!isBefore(least, last)) break
      heap[index] = least
      index = below
    }
    heap[index] = last
  }
}

function isBefore(one: Event, other: Event): boolean {
  return one.atMs < other.atMs || (one.atMs === other.atMs && one.sequence < other.sequence)
}
