/**
 * The settings that belong to one session and follow it from server to server, with PostgreSQL's
 * own rules for what a transaction, a savepoint or a failed statement takes back.
 *
 *     baseline   what the startup packet asked for: RESET goes back to it
 *     current    what the session would see now
 *     onServer   what its server has now: RESET leaves the server's own value there, not the baseline's
 *     before     what both go back to when the open transaction rolls back
 */
import {
  configStatement,
  NO_SETTINGS,
  type Settings,
  setStatement,
  withoutSetting,
  withSetting,
} from '../server/settings.ts'
import type { MinLsn } from '../server/waiter.ts'
import { literalOf, MIN_LSN, type Token, tokenOf } from './token.ts'

interface Position {
  readonly current: Settings
  readonly onServer: Settings
  /** `pgsteer.min_lsn`: the session's, though never a server's. */
  readonly token: Token | null
  /** What SET LOCAL made of it until the end of the transaction; undefined: nothing. */
  readonly localToken: Token | null | undefined
}

interface Savepoint {
  readonly name: string
  readonly position: Position
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
  #onServer: Settings
  #token: Token | null
  #localToken: Token | null | undefined = undefined
  readonly #baselineToken: Token | null
  #before: Position | null = null
  readonly #savepoints: Savepoint[] = []
  /** Something was set or taken back since the last `settle`: reports tell nothing new. */
  #isTouched = false

  constructor(baseline: Settings, token: Token | null = null) {
    this.baseline = baseline
    this.#baselineToken = token
    this.#token = token
    this.#current = baseline
    this.#onServer = baseline
  }

  get current(): Settings {
    return this.#current
  }

  /** What the server that the session works on has now. */
  get onServer(): Settings {
    return this.#onServer
  }

  /** What its client asks servers to have replayed, and how it said so. */
  get token(): Token | null {
    return this.#localToken === undefined ? this.#token : this.#localToken
  }

  get minLsn(): MinLsn | null {
    return this.token?.asked ?? null
  }

  /** The session goes to work on a server that has these. */
  startOn(settings: Settings): void {
    this.#onServer = settings
    if (this.#before !== null) this.#before = { ...this.#before, onServer: settings }
  }

  /** SET name TO value; `value` is the text of the statement. */
  set(name: string, value: string): void {
    const sql = setStatement(name, value)
    const onServer = withSetting(withoutLost(this.#onServer, name), name, sql)
    if (name === MIN_LSN)
      return this.#change({ onServer, token: tokenOf(literalOf(value)), localToken: undefined })
    this.#change({ current: withSetting(withoutLost(this.#current, name), name, sql), onServer })
  }

  /** SET LOCAL, which servers take back themselves: what is ours ends with the transaction too. */
  setLocal(name: string, value: string | undefined): void {
    if (name !== MIN_LSN) return
    const localToken = value === undefined ? this.#baselineToken : tokenOf(literalOf(value))
    this.#change({ localToken })
  }

  reset(name: string): void {
    if (name === MIN_LSN) this.#change(this.#tokenOfBaseline)
    const sql = this.baseline.entries.get(name)
    const kept = withoutLost(this.#current, name)
    const current = sql === undefined ? withoutSetting(kept, name) : withSetting(kept, name, sql)
    this.#change({ current, onServer: withoutSetting(withoutLost(this.#onServer, name), name) })
  }

  /** RESET ALL leaves the role as it is; DISCARD ALL does not. */
  resetAll(withRole: boolean): void {
    if (withRole)
      this.#change({ current: this.baseline, onServer: NO_SETTINGS, ...this.#tokenOfBaseline })
    else
      this.#change({
        ...this.#tokenOfBaseline,
        current: withRolesOf(this.baseline, this.#current),
        onServer: withRolesOf(NO_SETTINGS, this.#onServer),
      })
  }

  savepoint(name: string): void {
    this.#savepoints.push({ name, position: this.#position })
  }

  rollbackTo(name: string): void {
    const index = this.#savepoints.findLastIndex((savepoint) => savepoint.name === name)
    const savepoint = this.#savepoints[index]
    if (savepoint === undefined) return
    this.#savepoints.length = index + 1
    this.#change(savepoint.position)
  }

  release(name: string): void {
    const index = this.#savepoints.findLastIndex((savepoint) => savepoint.name === name)
    if (index !== -1) this.#savepoints.length = index
  }

  /** The transaction, explicit or of one statement, ended well. */
  commit(): void {
    this.#before = null
    this.#localToken = undefined
    if (this.#savepoints.length > 0) this.#savepoints.length = 0
  }

  rollback(): void {
    if (this.#before !== null) {
      this.#current = this.#before.current
      this.#onServer = this.#before.onServer
      this.#token = this.#before.token
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
    const isDefault = value === fallback && !this.baseline.entries.has(key)
    if (!isDefault && this.#current.entries.has(key) && value === fallback) return
    const sql = latin1Statement(key, value)
    const changed = (settings: Settings): Settings =>
      isDefault ? withoutSetting(settings, key) : withSetting(settings, key, sql)
    this.#change({ current: changed(this.#current), onServer: changed(this.#onServer) }, false)
  }

  /**
   * The server is free again: what it has now is what `onServer` says. `placedFor`: what it was
   * chosen for; what was asked for since then has been judged by nobody.
   */
  settle(placedFor: MinLsn | null = null): void {
    this.#isTouched = false
    if (placedFor !== null && placedFor === this.minLsn) placedFor.isMet = true
  }

  get #position(): Position {
    return {
      current: this.#current,
      onServer: this.#onServer,
      token: this.#token,
      localToken: this.#localToken,
    }
  }

  get #tokenOfBaseline(): Pick<Position, 'token' | 'localToken'> {
    return { token: this.#baselineToken, localToken: undefined }
  }

  #change(change: Partial<Position>, isStatement = true): void {
    this.#before ??= this.#position
    const next: Position = { ...this.#position, ...change }
    this.#current = next.current
    this.#onServer = next.onServer
    this.#token = next.token
    this.#localToken = next.localToken
    if (isStatement) this.#isTouched = true
  }
}

/** A change of the session authorization ends SET ROLE. Source: SetSessionUserId in miscinit.c. */
function withoutLost(settings: Settings, changed: string): Settings {
  return changed === 'session_authorization' ? withoutSetting(settings, 'role') : settings
}

function withRolesOf(settings: Settings, from: Settings): Settings {
  let next = settings
  for (const name of ['role', 'session_authorization']) {
    const sql = from.entries.get(name)
    if (sql !== undefined) next = withSetting(next, name, sql)
  }
  return next
}

/** Statement texts are latin1 strings of their bytes. */
export function latin1Statement(name: string, value: string): string {
  return Buffer.from(configStatement(name, value)).toString('latin1')
}
