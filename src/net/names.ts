/**
 * Names of servers as the system's resolver tells them, with what it said last for the time in which
 * it says nothing. Each dial asks anew, so a moved member is found; a resolver that is slow or does
 * not answer (EAI_AGAIN) keeps nobody from where a name was last. A name that is no more (ENOTFOUND)
 * is refused: its address may be somebody else's by now.
 *
 * The resolver blocks a thread of a small pool for as long as it likes, so one question per name is
 * under way at most, however many ask.
 */
import { ADDRCONFIG, type LookupAddress } from 'node:dns'
import { lookup } from 'node:dns/promises'
import type { LookupFunction } from 'node:net'
import { callbackify } from 'node:util'
import type { Clock } from '../base/clock.ts'

/** Whoever has an older answer waits for the next one for so long. */
const PATIENCE_MS = 500
/** Names that are remembered; members and hosts of databases are fewer by far. */
const NAMES_MAX = 1000

/** A plain value, that can cross a process boundary. */
export interface KnownName {
  readonly hostname: string
  readonly addresses: readonly string[]
}

type Resolve = (name: string) => Promise<readonly LookupAddress[]>

export class Names {
  readonly #clock: Clock
  readonly #resolve: Resolve
  readonly #known = new Map<string, readonly LookupAddress[]>()
  readonly #asked = new Map<string, Promise<readonly LookupAddress[]>>()

  constructor(clock: Clock, resolve: Resolve = askSystem) {
    this.#clock = clock
    this.#resolve = resolve
  }

  /** What `net.connect` takes as its `lookup`. */
  readonly lookup: LookupFunction = (name, options, done) => {
    callbackify(() => this.find(name))((error, addresses) => {
      const [first] = addresses ?? []
      if (error !== null) done(error, '')
      else if (options.all === true) done(null, [...addresses])
      else done(null, first?.address ?? '', first?.family ?? 4)
    })
  }

  /** Every name that it knows, with the addresses that it was told last. */
  known(): KnownName[] {
    return Array.from(this.#known, ([hostname, told]) => ({
      hostname,
      addresses: told.map(({ address }) => address),
    }))
  }

  /** Errors  what the resolver says, where nothing is known that may stand for its answer. */
  async find(name: string): Promise<readonly LookupAddress[]> {
    const fresh = this.#ask(name)
    const known = this.#known.get(name)
    if (known === undefined) return fresh
    const { promise: late, resolve } = Promise.withResolvers<readonly LookupAddress[]>()
    const timer = this.#clock.after(PATIENCE_MS, () => resolve(known))
    try {
      return await Promise.race([fresh, late])
    } catch (error) {
      if (isGone(error)) throw error
      return known
    } finally {
      timer.cancel()
    }
  }

  #ask(name: string): Promise<readonly LookupAddress[]> {
    const asked = this.#asked.get(name)
    if (asked !== undefined) return asked
    const asking = this.#resolve(name)
      .then((addresses) => {
        if (this.#known.size >= NAMES_MAX) this.#known.clear()
        this.#known.set(name, addresses)
        return addresses
      })
      .catch((error: unknown) => {
        if (isGone(error)) this.#known.delete(name)
        throw error
      })
      .finally(() => this.#asked.delete(name))
    this.#asked.set(name, asking)
    return asking
  }
}

/** As net.connect asks: a machine without IPv6 neither waits for an AAAA nor is given one. */
function askSystem(name: string): Promise<LookupAddress[]> {
  return lookup(name, { all: true, hints: ADDRCONFIG })
}

function isGone(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOTFOUND'
}
