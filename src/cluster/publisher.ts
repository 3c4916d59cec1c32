/**
 * Tells the rest of the program what the watcher sees: each new Topology with the next serial, none
 * twice, and members that are refused in the log. Decides nothing.
 */
import type { Log } from '../base/log.ts'
import { tellAlarms } from './alarms.ts'
import type { Topology } from './topology.ts'

/** The end of the lease is published on its own only when it moved by so much. */
const LEASE_STEP_MS = 2000

export class Publisher {
  /** Values that were told. */
  count = 0
  readonly #log: Log
  readonly #tell: (topology: Topology) => void
  #alarms: ReadonlyMap<string, string> = new Map()
  #published = ''
  #serial: number

  /** `serial`  the last one that a control process before this one gave. */
  constructor(log: Log, tell: (topology: Topology) => void, serial: number) {
    this.#log = log
    this.#tell = tell
    this.#serial = serial
  }

  /** `isNews`  there are new samples: it is told though no word of it changed. */
  publish(value: Omit<Topology, 'serial'>, isNews: boolean): void {
    const signature = signatureOf(value)
    if (!isNews && signature === this.#published) return
    this.#published = signature
    this.#serial += 1
    this.count += 1
    const topology = Object.freeze({ ...value, serial: this.#serial })
    this.#alarms = tellAlarms(this.#alarms, topology, this.#log)
    this.#tell(topology)
  }
}

/** What is worth a word without new samples. */
function signatureOf({ members, writableUntilMs, ...value }: Omit<Topology, 'serial'>): string {
  const words = members.map(({ name, role, ineligibleReason }) => [name, role, ineligibleReason])
  const step = writableUntilMs === null ? null : Math.floor(writableUntilMs / LEASE_STEP_MS)
  return JSON.stringify([value, step, words], bigintText)
}

/** LSNs are no JSON. */
function bigintText(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value
}
