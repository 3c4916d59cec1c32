/**
 * The grammar of the console: one command per text, one optional argument, any case, quoted
 * identifiers, an optional semicolon.
 *
 *     CMD [arg] [;]     SET key =|TO word|'string' [;]     EXPLAIN ROUTE [IN db] sql
 *
 * Source  PgBouncer's src/admin.c (its three regular expressions and its limits). Quotes are
 *         matched here without backtracking.
 */
import { ProxyError } from '../base/errors.ts'
import type { ShutdownMode } from '../server/pools.ts'
import type { Column } from './table.ts'
import { ROUTE } from './views/cluster.ts'
import { fakedSetting, isFaked, VIEWS } from './views.ts'

export type DatabaseVerb = 'pause' | 'resume' | 'reconnect' | 'kill' | 'wait_close'
export type OneDatabaseVerb = 'disable' | 'enable'

export type Command =
  | { readonly verb: 'empty' }
  | { readonly verb: 'help' }
  | { readonly verb: 'reload' }
  | { readonly verb: 'restart_workers' }
  | { readonly verb: 'show'; readonly view: string }
  | { readonly verb: 'faked_show' | 'faked_set'; readonly name: string }
  | { readonly verb: 'set'; readonly key: string; readonly value: string }
  | { readonly verb: DatabaseVerb; readonly database: string | null }
  | { readonly verb: OneDatabaseVerb; readonly database: string | null }
  | { readonly verb: 'kill_client'; readonly id: number | null }
  | { readonly verb: 'shutdown'; readonly mode: ShutdownMode }
  | { readonly verb: 'explain_route'; readonly database: string | null; readonly sql: string }

const SPACE = '[ \\t\\n\\r]'
const WORD = '("(?:[^"]|"")*"|[0-9a-z_]+)'
const STRING = "'(?:[^']|'')*'"
const COMMAND = new RegExp(`^${SPACE}*${WORD}(?:${SPACE}+${WORD})?${SPACE}*(?:;${SPACE}*)?$`, 'i')
const SET = new RegExp(
  `^${SPACE}*set${SPACE}+${WORD}${SPACE}*(?:=|to)${SPACE}*(${STRING}|${WORD})${SPACE}*(?:;${SPACE}*)?$`,
  'i',
)
const EXPLAIN = new RegExp(
  `^${SPACE}*explain${SPACE}+route${SPACE}+(?:in${SPACE}+${WORD}${SPACE}+)?([^]*)$`,
  'i',
)

/** Limits of PgBouncer in bytes (without the quotes), except the value of SET: our lists are longer. */
const VERB_BYTES_MAX = 15
const ARGUMENT_BYTES_MAX = 63
const VALUE_BYTES_MAX = 8191
/** How much of a wrong command its error repeats. */
const ECHO_LENGTH_MAX = 500

/**
 * What `text` asks for.
 *
 * Errors  `console_command`, `console_arguments`, `console_removed`.
 */
export function parseCommand(text: string): Command {
  if (/^[ \t\n\r;]*$/.test(text)) return { verb: 'empty' }
  const explain = EXPLAIN.exec(text)
  if (explain !== null) return explainRoute(explain)
  const set = SET.exec(text)
  if (set !== null) return setting(set)
  const match = COMMAND.exec(text)
  if (match === null) throw invalid(text)
  const verb = unquoted(match[1], VERB_BYTES_MAX).toLowerCase()
  const argument = match[2] === undefined ? '' : unquoted(match[2], ARGUMENT_BYTES_MAX)
  return simpleCommand(verb, argument, text)
}

/** The columns of the answer, before it is known; null where the answer has no rows. */
export function columnsOf(command: Command): readonly Column[] | null {
  if (command.verb === 'show') return VIEWS.get(command.view)?.columns ?? null
  if (command.verb === 'faked_show') return fakedSetting(command.name)?.columns ?? null
  return command.verb === 'explain_route' ? ROUTE : null
}

function simpleCommand(verb: string, argument: string, text: string): Command {
  const database = argument === '' ? null : argument
  switch (verb) {
    case 'show':
    case 'select':
      return show(argument.toLowerCase(), text)
    case 'reload':
      if (argument !== '') throw invalid(text)
      return { verb }
    case 'restart':
      if (argument.toLowerCase() !== 'workers') throw invalid(text)
      return { verb: 'restart_workers' }
    case 'pause':
    case 'resume':
    case 'reconnect':
    case 'kill':
    case 'wait_close':
    case 'disable':
    case 'enable':
      return { verb, database }
    case 'kill_client':
      return { verb, id: clientId(argument) }
    case 'shutdown':
      return { verb, mode: shutdownMode(argument, text) }
    case 'suspend':
      throw new ProxyError('console_removed', { command: 'SUSPEND', remedy: 'use PAUSE' })
    default:
      throw invalid(text)
  }
}

function show(view: string, text: string): Command {
  if (view === 'help') return { verb: 'help' }
  if (view === 'fds') {
    const remedy = 'so_reuseport lets a new process listen beside the old one'
    throw new ProxyError('console_removed', { command: 'SHOW FDS', remedy })
  }
  if (isFaked(view)) return { verb: 'faked_show', name: view }
  if (!VIEWS.has(view)) throw invalid(text)
  return { verb: 'show', view }
}

function setting(match: RegExpExecArray): Command {
  const key = unquoted(match[1], ARGUMENT_BYTES_MAX)
  if (key === '') throw new ProxyError('console_arguments')
  const name = key.toLowerCase()
  if (isFaked(name)) return { verb: 'faked_set', name }
  return { verb: 'set', key, value: unquoted(match[2], VALUE_BYTES_MAX) }
}

function explainRoute(match: RegExpExecArray): Command {
  const database = match[1] === undefined ? null : unquoted(match[1], ARGUMENT_BYTES_MAX)
  const sql = match[2] ?? ''
  if (sql.trim() === '') throw new ProxyError('console_arguments')
  return { verb: 'explain_route', database, sql }
}

function shutdownMode(argument: string, text: string): ShutdownMode {
  const mode = argument.toLowerCase()
  if (mode === '') return 'immediate'
  if (mode === 'wait_for_servers' || mode === 'wait_for_clients') return mode
  throw invalid(text)
}

/** Null where PgBouncer's sscanf finds no number. */
function clientId(argument: string): number | null {
  const digits = /^\d{1,15}/.exec(argument)
  return digits === null ? null : Number(digits[0])
}

function unquoted(word: string | undefined, bytesMax: number): string {
  if (word === undefined) return ''
  const quote = word[0]
  const isQuoted = quote === '"' || quote === "'"
  const text = isQuoted ? word.slice(1, -1).replaceAll(quote + quote, quote) : word
  if (Buffer.byteLength(text) > bytesMax) throw new ProxyError('console_arguments')
  return text
}

function invalid(text: string): ProxyError {
  return new ProxyError('console_command', { command: text.slice(0, ECHO_LENGTH_MAX) })
}
