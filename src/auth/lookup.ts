/**
 * Where the secret of a client's user comes from: auth_file first, then auth_query, whose answers
 * are remembered for a short while, bounded, also that there is no such user. It asks through a
 * function that it is given and opens nothing itself.
 *
 *     find ──► userlist ──► cache ──► query (one at a time per user) ──► cache
 */
import type { Clock } from '../base/clock.ts'
import { invariant } from '../base/invariant.ts'
import { parseSecret, type Secret } from './secret.ts'

/** Runs auth_query; null = no such user. Rejects with ProxyError `auth_query_failed`. */
export type AuthQuery = (user: string, database: string) => Promise<string | null>

export interface LookupSources {
  /** auth_file: raw secret by user. */
  readonly userlist: ReadonlyMap<string, string>
  /** Null: no auth_user is configured. */
  readonly query: AuthQuery | null
}

export interface LookupBounds {
  readonly entriesMax: number
  readonly foundMs: number
  readonly missingMs: number
}

const BOUNDS: LookupBounds = { entriesMax: 10_000, foundMs: 10_000, missingMs: 1000 }

interface Entry {
  readonly secret: Promise<Secret | null>
  untilMs: number
}

/** What a log-in needs; the class below is the real one. */
export interface SecretLookup {
  find(user: string, database: string): Promise<Secret | null>
  /** The secret turned out to be wrong: ask again next time. */
  forget(user: string): void
  /** The kind that most users have: what an unknown user is made to look like. */
  readonly usualKind: 'md5' | 'scram'
}

export class Lookup implements SecretLookup {
  #sources: LookupSources
  #usualKind: 'md5' | 'scram'
  readonly #clock: Clock
  readonly #bounds: LookupBounds
  /** Of auth_file, as far as they were asked for: one object per user, until RELOAD. */
  readonly #parsed = new Map<string, Secret>()
  /** By database and user, in order of insertion; auth_query may differ between databases. */
  readonly #entries = new Map<string, Entry>()

  constructor(sources: LookupSources, clock: Clock, bounds: LookupBounds = BOUNDS) {
    invariant(bounds.entriesMax > 0, 'the secret cache holds at least one entry')
    this.#sources = sources
    this.#usualKind = usualKindOf(sources.userlist)
    this.#clock = clock
    this.#bounds = bounds
  }

  get usualKind(): 'md5' | 'scram' {
    return this.#usualKind
  }

  get entries(): number {
    return this.#entries.size
  }

  /** After RELOAD: what was remembered may be wrong now. */
  replace(sources: LookupSources): void {
    this.#sources = sources
    this.#usualKind = usualKindOf(sources.userlist)
    this.#parsed.clear()
    this.#entries.clear()
  }

  async find(user: string, database: string): Promise<Secret | null> {
    const listed = this.#parsed.get(user) ?? this.#listed(user)
    if (listed !== null) return listed
    const { query } = this.#sources
    if (query === null) return null
    const key = keyOf(user, database)
    const known = this.#entries.get(key)
    if (known !== undefined && known.untilMs > this.#clock.nowMs()) return known.secret
    return this.#ask(key, query(user, database))
  }

  forget(user: string): void {
    const suffix = keyOf(user, '')
    for (const key of this.#entries.keys()) if (key.startsWith(suffix)) this.#entries.delete(key)
  }

  #listed(user: string): Secret | null {
    const raw = this.#sources.userlist.get(user)
    if (raw === undefined) return null
    const secret = parseSecret(raw)
    this.#parsed.set(user, secret)
    return secret
  }

  /** Those who ask while the answer is on its way wait for the same one. */
  #ask(key: string, answer: Promise<string | null>): Promise<Secret | null> {
    const secret = answer.then((raw) => (raw === null ? null : parseSecret(raw)))
    const entry: Entry = { secret, untilMs: Number.POSITIVE_INFINITY }
    this.#entries.delete(key)
    this.#entries.set(key, entry)
    const [oldest] = this.#entries.keys()
    if (this.#entries.size > this.#bounds.entriesMax && oldest !== undefined)
      this.#entries.delete(oldest)
    secret.then(
      (found) => this.#keep(entry, found),
      () => {
        if (this.#entries.get(key) === entry) this.#entries.delete(key)
      },
    )
    return secret
  }

  #keep(entry: Entry, found: Secret | null): void {
    const { foundMs, missingMs } = this.#bounds
    entry.untilMs = this.#clock.nowMs() + (found === null ? missingMs : foundMs)
    if (found?.kind === 'scram') this.#usualKind = 'scram'
  }
}

/** Names hold no zero byte, they came from a startup packet. */
function keyOf(user: string, database: string): string {
  return `${user}\0${database}`
}

/** PostgreSQL makes SCRAM secrets unless told otherwise, so a tie is SCRAM. */
function usualKindOf(userlist: ReadonlyMap<string, string>): 'md5' | 'scram' {
  let balance = 0
  for (const raw of userlist.values()) balance += parseSecret(raw).kind === 'scram' ? 1 : -1
  return balance >= 0 ? 'scram' : 'md5'
}
