/**
 * The log: pino, one line per event, with the fields that hold secrets removed whatever is passed.
 */
import { type Logger, pino } from 'pino'

export type Log = Logger

export interface LogOptions {
  readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent'
  readonly format: 'json' | 'pretty'
  /** Path of a file, or undefined for standard output. */
  readonly file?: string | undefined
}

const SECRET_FIELDS = ['password', 'secret', 'clientKey', 'token', 'proof']

export function createLog(options: LogOptions, fields: Record<string, unknown> = {}): Log {
  const settings = {
    level: options.level,
    base: fields,
    redact: {
      paths: SECRET_FIELDS.flatMap((field) => [field, `*.${field}`, `*.*.${field}`]),
      censor: '[hidden]',
    },
  }
  if (options.format === 'pretty') {
    const destination = options.file === undefined ? 1 : options.file
    return pino({
      ...settings,
      transport: {
        target: 'pino-pretty',
        options: { destination, ignore: 'pid,hostname', translateTime: 'SYS:HH:MM:ss.l' },
      },
    })
  }
  const destination =
    options.file === undefined
      ? pino.destination({ dest: 1, sync: true })
      : pino.destination({ dest: options.file, mkdir: true, sync: true })
  return pino(settings, destination)
}
