/**
 * Runs one given query in every database in use, on any member, again and again, and hands on the
 * rows when they changed: the function catalogue is made of them. It knows nothing of what the
 * query means. Connections go direct and live for one query.
 */

import { createHash } from 'node:crypto'
import { type Clock, type Timer, within } from '../base/clock.ts'
import { reasonOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { SslMode } from '../config/keys/pgbouncer.ts'
import type { Address } from './address.ts'
import {
  type Direct,
  type DirectAccess,
  openDirect,
  shouldFlipTls,
  startsWithTls,
} from './direct.ts'
import { failureCode } from './probe.ts'

export type FunctionRow = Readonly<Record<string, unknown>>

export interface FunctionReaderDeps {
  readonly query: string
  /** Whose database is replaced by the one to be read; asked anew for each query. */
  access(): DirectAccess
  /** Direct addresses of members, the best one first; asked anew for each query. */
  addresses(): readonly Address[]
  /** Called when the rows of a database differ from the last ones, the first time included. */
  publish(database: string, rows: readonly FunctionRow[]): void
  readonly refreshMs: number
  readonly clock: Clock
  readonly log: Log
}

interface Place {
  dueMs: number
  failures: number
  digest: string
}

/** One query at a time; a catalogue of some thousand rows is read in milliseconds. */
const DEADLINE_MS = 10_000
/** A polite goodbye gets this long. */
const END_MS = 1000
const ROWS_MAX = 500_000
const DATABASES_MAX = 1000
const LOOK_MS = 100
const RETRY_MS_MIN = 500
const RETRY_MS_MAX = 30_000

export class FunctionReader {
  readonly #deps: FunctionReaderDeps
  readonly #places = new Map<string, Place>()
  #timer: Timer | null = null
  #connection: Direct | null = null
  /** Which of the two ways of a mode was taken last. */
  #way: { readonly mode: SslMode; readonly usesTls: boolean } | null = null
  #isReading = false

  constructor(deps: FunctionReaderDeps) {
    this.#deps = deps
  }

  start(): void {
    this.#timer ??= this.#deps.clock.every(LOOK_MS, () => void this.#look())
  }

  stop(): void {
    this.#timer?.cancel()
    this.#timer = null
    this.#connection?.drop()
    this.#connection = null
  }

  /** The databases in use, at most 1000; others are forgotten. A new one is read at once. */
  setDatabases(names: Iterable<string>): void {
    const wanted = new Set([...names].slice(0, DATABASES_MAX))
    for (const name of this.#places.keys()) if (!wanted.has(name)) this.#places.delete(name)
    for (const name of wanted)
      if (!this.#places.has(name)) this.#places.set(name, { dueMs: 0, failures: 0, digest: '' })
  }

  /** The database that is due longest. Never rejects. */
  async #look(): Promise<void> {
    const now = this.#deps.clock.nowMs()
    const due = [...this.#places]
      .filter(([, place]) => place.dueMs <= now)
      .toSorted(([, one], [, two]) => one.dueMs - two.dueMs)[0]
    if (due === undefined || this.#isReading) return
    this.#isReading = true
    await this.#readPlace(due[0], due[1])
    this.#isReading = false
  }

  async #readPlace(database: string, place: Place): Promise<void> {
    const { clock, log, refreshMs } = this.#deps
    const addresses = this.#deps.addresses()
    const address = addresses[place.failures % Math.max(1, addresses.length)]
    if (address === undefined) {
      place.dueMs = clock.nowMs() + RETRY_MS_MIN
      return
    }
    place.dueMs = clock.nowMs() + refreshMs
    try {
      const rows = await this.#read(database, address)
      place.failures = 0
      if (this.#timer !== null && this.#places.get(database) === place)
        this.#tell(database, place, rows)
    } catch (error) {
      place.failures += 1
      const retryMs = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** Math.min(place.failures, 10))
      place.dueMs = clock.nowMs() + retryMs
      log.warn({ database, reason: reasonOf(error) }, 'the functions of a database were not read')
    }
  }

  #tell(database: string, place: Place, rows: readonly FunctionRow[]): void {
    const digest = createHash('sha256').update(JSON.stringify(rows)).digest('base64')
    if (digest === place.digest) return
    place.digest = digest
    this.#deps.publish(database, rows)
  }

  async #read(database: string, address: Address): Promise<FunctionRow[]> {
    const access = { ...this.#deps.access(), database }
    const { mode } = access.tls
    const usesTls = this.#way?.mode === mode ? this.#way.usesTls : startsWithTls(mode)
    try {
      return await this.#readOnce(address, access, usesTls)
    } catch (error) {
      const failure = { code: failureCode(error), reason: reasonOf(error) }
      if (!shouldFlipTls(mode, usesTls, failure)) throw error
      this.#way = { mode, usesTls: !usesTls }
      return this.#readOnce(address, access, !usesTls)
    }
  }

  async #readOnce(
    address: Address,
    access: DirectAccess,
    usesTls: boolean,
  ): Promise<FunctionRow[]> {
    const { clock, query } = this.#deps
    const options = { usesTls, name: 'pgsteer functions', isText: false }
    const connection = openDirect(address, access, options)
    const { client } = connection
    this.#connection = connection
    try {
      const work = client.connect().then(() => client.query<FunctionRow>(query))
      const { rows } = await within(work, clock, DEADLINE_MS, `took over ${DEADLINE_MS} ms`)
      if (rows.length > ROWS_MAX) throw new Error(`has more than ${ROWS_MAX} functions`)
      return rows
    } finally {
      if (this.#connection === connection) this.#connection = null
      void client.end().catch(() => undefined)
      clock.after(END_MS, () => connection.drop())
    }
  }
}
