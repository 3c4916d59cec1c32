/**
 * Carries out what the console asks for: access, the checks that PgBouncer makes before a command,
 * and the answer as a plain value that goes back to the worker. What really changes something is
 * behind `Actions`, which the control process implements.
 */
import { ProxyError, reasonOf } from '../base/errors.ts'
import { unreachable } from '../base/invariant.ts'
import { type Config, databaseOf } from '../config/config.ts'
import { ADMIN_DATABASE } from '../config/keys.ts'
import type { ShutdownMode } from '../server/pools.ts'
import type { ErrorCodes } from '../wire/messages.ts'
import type { AdminState, FactsDetail, Snapshot } from './facts.ts'
import { type Command, type DatabaseVerb, type OneDatabaseVerb, parseCommand } from './parse.ts'
import type { Column, Row, Table } from './table.ts'
import { ROUTE, type RouteExplanation, showRoute } from './views/cluster.ts'
import { fakedSetting, HELP, VIEWS } from './views.ts'

/** `admin` is a user of admin_users, `stats` one of stats_users: SHOW and nothing else. */
export type ConsoleRole = 'admin' | 'stats'

/**
 * What commands do. Every promise settles: those that wait (pause, waitClose, shutdown) when what
 * they wait for is done, or they are rejected by `resume`. A ProxyError reaches the client as it
 * is, anything else as `console_failed`.
 */
export interface Actions {
  snapshot(detail: FactsDetail): Promise<Snapshot>
  config(): Config
  state(): AdminState
  /** Applies the files again. Rejects with what is wrong; resolves with sentences for the operator. */
  reload(): Promise<readonly string[]>
  /**
   * Replaces the workers one after the other if another program is installed than they run. Resolves
   * with sentences when the first successor serves; rejects with why it does not, or none is to be.
   */
  upgrade(): Promise<readonly string[]>
  /** The same, whatever is installed. */
  restartWorkers(): Promise<void>
  /** Resolves when no server is in use any more; null = every database. */
  pause(database: string | null): Promise<void>
  resume(database: string | null): Promise<void>
  disable(database: string): Promise<void>
  enable(database: string): Promise<void>
  /** Closes servers as they become free; null also forgets terms and fences of the cluster. */
  reconnect(database: string | null): Promise<void>
  /** Pauses, and drops clients and servers at once. */
  kill(database: string | null): Promise<void>
  /** The id as SHOW CLIENTS prints it. False: there is none. */
  killClient(id: number): Promise<boolean>
  /** Resolves when all servers that RECONNECT or RELOAD doomed are closed. */
  waitClose(database: string | null): Promise<void>
  /**
   * Patroni is about to stop this member (null: the primary): new writes wait, and this resolves
   * when none runs any more or after switchover_drain_ms_max.
   */
  drain(member: string | null): Promise<DrainOutcome>
  /** `immediate` never resolves: the connection ends with the process. */
  shutdown(mode: ShutdownMode): Promise<void>
  /** Rejects with what is wrong with the key or the value. */
  set(key: string, value: string): Promise<void>
  /** One per statement; rejects where it cannot be told. */
  explainRoute(sql: string, database: string | null): Promise<readonly RouteExplanation[]>
}

export interface DrainOutcome {
  /** False: it is not the primary, nothing waits. */
  readonly holds: boolean
  /** What still runs on it. */
  readonly writes: number
  readonly waitedMs: number
}

export interface Notice {
  readonly message: string
  readonly detail: string | null
}

/** An error as it goes to the client, and the code by which the log knows it. */
export interface ConsoleError {
  readonly code: string
  readonly sqlstate: string
  readonly message: string
  readonly detail: string | null
}

/** The answer to one command: plain values, so that it can cross a process boundary. */
export type ConsoleResult =
  | { readonly kind: 'empty' }
  | {
      readonly kind: 'rows'
      readonly columns: readonly Column[]
      readonly rows: readonly Row[]
      readonly tag: string
    }
  | { readonly kind: 'done'; readonly tag: string; readonly notices: readonly Notice[] }
  | { readonly kind: 'error'; readonly error: ConsoleError }

/** Runs one command. Never rejects: what goes wrong is an answer of kind `error`. */
export async function runCommand(
  sql: string,
  role: ConsoleRole,
  actions: Actions,
  codes: ErrorCodes,
): Promise<ConsoleResult> {
  try {
    return await run(parseCommand(sql), role, actions)
  } catch (error) {
    return { kind: 'error', error: consoleError(error, codes) }
  }
}

/** As it goes to the client; the error beneath, if there is one, becomes the detail. */
export function consoleError(error: unknown, codes: ErrorCodes): ConsoleError {
  const known =
    error instanceof ProxyError
      ? error
      : new ProxyError('console_failed', { reason: reasonOf(error) })
  return {
    code: known.code,
    sqlstate: known.wireSqlstate(codes),
    message: known.message,
    detail: known.cause === undefined ? null : reasonOf(known.cause),
  }
}

async function run(command: Command, role: ConsoleRole, actions: Actions): Promise<ConsoleResult> {
  if (isQuestion(command)) return await answer(command, actions)
  if (role !== 'admin') throw new ProxyError('console_admin')
  return await change(command, actions)
}

/** What changes nothing. */
type Question = Extract<
  Command,
  { readonly verb: 'empty' | 'help' | 'faked_show' | 'faked_set' | 'show' | 'explain_route' }
>

const QUESTIONS: ReadonlySet<string> = new Set<Question['verb']>([
  'empty',
  'help',
  'faked_show',
  'faked_set',
  'show',
  'explain_route',
])

function isQuestion(command: Command): command is Question {
  return QUESTIONS.has(command.verb)
}

async function answer(command: Question, actions: Actions): Promise<ConsoleResult> {
  switch (command.verb) {
    case 'empty':
      return { kind: 'empty' }
    case 'help':
      return done('SHOW', { message: 'Console usage', detail: HELP })
    case 'faked_show':
      return rows(fakedSetting(command.name) ?? { columns: [], rows: [] })
    case 'faked_set':
      return done('SET', { message: 'SET ignored', detail: null })
    case 'show':
      return await show(command.view, actions)
    case 'explain_route':
      return await explainRoute(command, actions)
    default:
      return unreachable(command)
  }
}

async function show(name: string, actions: Actions): Promise<ConsoleResult> {
  const view = VIEWS.get(name)
  if (view === undefined) throw new ProxyError('console_command', { command: `SHOW ${name}` })
  const snapshot = await actions.snapshot(view.detail)
  return rows({ columns: view.columns, rows: view.rows(snapshot) })
}

async function explainRoute(
  { sql, database }: { readonly sql: string; readonly database: string | null },
  actions: Actions,
): Promise<ConsoleResult> {
  if (database !== null) requireDatabase(database, actions)
  return rows({ columns: ROUTE, rows: showRoute(await actions.explainRoute(sql, database)) })
}

type Change = Exclude<Command, Question>

async function change(command: Change, actions: Actions): Promise<ConsoleResult> {
  switch (command.verb) {
    case 'reload':
      return await reload(actions)
    case 'restart_workers':
      return await restartWorkers(actions)
    case 'set':
      return await set(command.key, command.value, actions)
    case 'kill_client':
      return await killClient(command.id, actions)
    case 'shutdown':
      await actions.shutdown(command.mode)
      return done('SHUTDOWN')
    case 'resume':
      return await resume(command.database, actions)
    case 'disable':
    case 'enable':
      return await oneDatabase(command.verb, command.database, actions)
    case 'pause':
    case 'kill':
    case 'reconnect':
    case 'wait_close':
      return await onDatabase(command.verb, command.database, actions)
    default:
      return unreachable(command)
  }
}

async function reload(actions: Actions): Promise<ConsoleResult> {
  const sentences: string[] = []
  try {
    sentences.push(...(await actions.reload()))
  } catch (error) {
    throw new ProxyError('console_reload', {}, error)
  }
  try {
    sentences.push(...(await actions.upgrade()))
  } catch (error) {
    throw new ProxyError('console_restart', {}, error)
  }
  return done('RELOAD', ...sentences.map((message) => ({ message, detail: null })))
}

async function restartWorkers(actions: Actions): Promise<ConsoleResult> {
  try {
    await actions.restartWorkers()
  } catch (error) {
    throw new ProxyError('console_restart', {}, error)
  }
  const message = 'the first worker is replaced, the others follow: SHOW WORKERS'
  return done('RESTART', { message, detail: null })
}

async function set(key: string, value: string, actions: Actions): Promise<ConsoleResult> {
  try {
    await actions.set(key, value)
  } catch (error) {
    throw new ProxyError('console_set', {}, error)
  }
  return done(`SET ${key}=${value}`)
}

async function killClient(id: number | null, actions: Actions): Promise<ConsoleResult> {
  if (id === null) throw new ProxyError('console_client_id')
  if (!(await actions.killClient(id))) throw new ProxyError('console_client')
  return done('KILL_CLIENT')
}

async function resume(database: string | null, actions: Actions): Promise<ConsoleResult> {
  const state = actions.state()
  if (database === null) {
    if (state.shutdown !== null) throw new ProxyError('console_shutting_down')
    if (!state.isPaused) throw new ProxyError('console_not_paused')
  } else {
    requireDatabase(database, actions)
    if (!state.pausedDatabases.includes(database))
      throw new ProxyError('console_database_not_paused', { database })
  }
  await actions.resume(database)
  return done('RESUME')
}

async function oneDatabase(
  verb: OneDatabaseVerb,
  database: string | null,
  actions: Actions,
): Promise<ConsoleResult> {
  if (database === null) throw new ProxyError('console_database_needed')
  requireDatabase(database, actions, verb)
  if (verb === 'disable') await actions.disable(database)
  else await actions.enable(database)
  return done(verb.toUpperCase())
}

async function onDatabase(
  verb: Exclude<DatabaseVerb, 'resume'>,
  database: string | null,
  actions: Actions,
): Promise<ConsoleResult> {
  const { isPaused } = actions.state()
  if (isPaused && (verb === 'pause' || verb === 'kill')) throw new ProxyError('console_paused')
  if (database !== null) requireDatabase(database, actions, REFUSED_AS[verb])
  if (verb === 'pause') await actions.pause(database)
  else if (verb === 'kill') await actions.kill(database)
  else if (verb === 'reconnect') await actions.reconnect(database)
  else await actions.waitClose(database)
  return done(verb.toUpperCase())
}

/** The verb in "cannot ... admin db". */
const REFUSED_AS = {
  pause: 'pause',
  kill: 'kill',
  reconnect: 'reconnect',
  wait_close: 'wait in',
} as const

/** Any name is one if there is a `*`. */
function requireDatabase(database: string, actions: Actions, verb?: string): void {
  if (database === ADMIN_DATABASE && verb !== undefined)
    throw new ProxyError('console_admin_database', { verb, database })
  if (databaseOf(actions.config(), database) === undefined)
    throw new ProxyError('console_database', { database })
}

function rows({ columns, rows: found }: Table): ConsoleResult {
  return { kind: 'rows', columns, rows: found, tag: 'SHOW' }
}

function done(tag: string, ...notices: readonly Notice[]): ConsoleResult {
  return { kind: 'done', tag, notices }
}
