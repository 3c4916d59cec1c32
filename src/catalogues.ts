/**
 * The functions of every database that is used, as its members have them: read again and again, and
 * told to whoever is to know. What they mean for a statement is routing/catalogue.ts.
 */
import { type Clock, wait } from './base/clock.ts'
import type { Log } from './base/log.ts'
import type { Address } from './cluster/address.ts'
import type { DirectAccess } from './cluster/direct.ts'
import { FunctionReader, type FunctionRow } from './cluster/functions.ts'
import { CATALOGUE_QUERY, type CatalogueFacts, factsOf } from './routing/catalogue.ts'

export interface CataloguesDeps {
  /** How members are reached, and at which addresses; asked anew each time. */
  access(): DirectAccess
  addresses(): readonly Address[]
  /** Called with each new value. */
  publish(facts: CatalogueFacts): void
  readonly clock: Clock
  readonly log: Log
}

/** A function that becomes VOLATILE is treated as proved for at most so long. */
const REFRESH_MS = 30_000
/** EXPLAIN ROUTE waits so long for the functions of a database that was not used before. */
const FIRST_MS = 2000
const LOOK_MS = 20

export class Catalogues {
  readonly #deps: CataloguesDeps
  readonly #reader: FunctionReader
  readonly #facts = new Map<string, CatalogueFacts>()
  readonly #databases = new Set<string>()
  #serial = 0

  constructor(deps: CataloguesDeps) {
    const { clock, log } = deps
    this.#deps = deps
    this.#reader = new FunctionReader({
      access: () => deps.access(),
      clock,
      log,
      query: CATALOGUE_QUERY,
      refreshMs: REFRESH_MS,
      addresses: () => deps.addresses(),
      publish: (database, rows) => this.#onRows(database, rows),
    })
  }

  start(): void {
    this.#reader.start()
  }

  stop(): void {
    this.#reader.stop()
  }

  /** All that were read. */
  all(): Iterable<CatalogueFacts> {
    return this.#facts.values()
  }

  /** A client has logged in to this database. */
  use(database: string): void {
    this.#databases.add(database)
    this.#reader.setDatabases(this.#databases)
  }

  /** Of one database, read now if nobody has used it yet; undefined if that fails. */
  async of(database: string): Promise<CatalogueFacts | undefined> {
    const { clock } = this.#deps
    this.use(database)
    const untilMs = clock.nowMs() + FIRST_MS
    while (!this.#facts.has(database) && clock.nowMs() < untilMs) await wait(clock, LOOK_MS)
    return this.#facts.get(database)
  }

  #onRows(database: string, rows: readonly FunctionRow[]): void {
    this.#serial += 1
    const facts = factsOf(database, this.#serial, rows.map(catalogueRow))
    this.#facts.set(database, facts)
    this.#deps.publish(facts)
  }
}

function catalogueRow(row: FunctionRow) {
  return {
    name: String(row['name']),
    is_volatile: row['is_volatile'] === true,
    is_user: row['is_user'] === true,
  }
}
