/**
 * The settings that belong to one session and follow it from server to server, with PostgreSQL's
 * own rules for what a transaction, a savepoint or a failed statement takes back.
 *
 *     baseline   what the startup packet asked for: RESET goes back to it
 *     current    what the session would see now
 *     before     what it goes back to when the open transaction rolls back
 */
import type { Settings } from '../server/settings.ts'
import { configStatement, setStatement, withoutSetting, withSetting } from '../server/settings.ts'

interface Savepoint {
  readonly name: string
  readonly settings: Settings
}

/** Reported parameters that no session can set, or that are ours to say. */
const NEVER_CARRIED = new Set([
  'in_hot_standby',
  'integer_datetimes',
  'is_superuser',
  'server_encoding',
  'server_version',
  'session_authorization',
])

export class SessionSettings {
  readonly baseline: Settings
  #current: Settings
  #before: Settings | null = null
  readonly #savepoints: Savepoint[] = []
  /** Something was set or taken back since the last `settle`: reports tell nothing new. */
  #isTouched = false

  constructor(baseline: Settings) {
    this.baseline = baseline
    this.#current = baseline
  }

  get current(): Settings {
    return this.#current
  }

  /** SET name TO value; `value` is the text of the statement. */
  set(name: string, value: string): void {
    this.#change(withSetting(this.#current, name, setStatement(name, value)))
  }

  reset(name: string): void {
    const sql = this.baseline.entries.get(name)
    this.#change(
      sql === undefined
        ? withoutSetting(this.#current, name)
        : withSetting(this.#current, name, sql),
    )
  }

  /** RESET ALL leaves the role as it is; DISCARD ALL does not. */
  resetAll(withRole: boolean): void {
    let next = this.baseline
    if (!withRole)
      for (const name of ['role', 'session_authorization']) {
        const sql = this.#current.entries.get(name)
        if (sql !== undefined) next = withSetting(next, name, sql)
      }
    this.#change(next)
  }

  savepoint(name: string): void {
    this.#savepoints.push({ name, settings: this.#current })
  }

  rollbackTo(name: string): void {
    const index = this.#savepoints.findLastIndex((savepoint) => savepoint.name === name)
    const savepoint = this.#savepoints[index]
    if (savepoint === undefined) return
    this.#savepoints.length = index + 1
    this.#change(savepoint.settings)
  }

  release(name: string): void {
    const index = this.#savepoints.findLastIndex((savepoint) => savepoint.name === name)
    if (index !== -1) this.#savepoints.length = index
  }

  /** The transaction, explicit or of one statement, ended well. */
  commit(): void {
    this.#before = null
    this.#savepoints.length = 0
  }

  rollback(): void {
    if (this.#before !== null) {
      this.#current = this.#before
      this.#isTouched = true
    }
    this.commit()
  }

  /**
   * A ParameterStatus came while the session worked. When no statement explains it, something else
   * did it (a function that called set_config), and the value becomes the session's.
   *
   * `fallback`  the value the server had at log-in: reporting it again means 'not set'.
   */
  report(name: string, value: string, fallback: string | undefined): void {
    const key = name.toLowerCase()
    if (this.#isTouched || NEVER_CARRIED.has(key)) return
    if (value === fallback && !this.baseline.entries.has(key))
      this.#change(withoutSetting(this.#current, key), false)
    else if (!this.#current.entries.has(key) || value !== fallback)
      this.#change(withSetting(this.#current, key, latin1Statement(key, value)), false)
  }

  /** The server is free again: what it has now is what `current` says. */
  settle(): void {
    this.#isTouched = false
  }

  #change(next: Settings, isStatement = true): void {
    this.#before ??= this.#current
    this.#current = next
    if (isStatement) this.#isTouched = true
  }
}

/** Statement texts are latin1 strings of their bytes. */
export function latin1Statement(name: string, value: string): string {
  return Buffer.from(configStatement(name, value)).toString('latin1')
}
