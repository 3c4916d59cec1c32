/**
 * The parameters that a client has been told of, so that it can be told again when they change and
 * only then. What the log-in told is shared; only differences are kept per client.
 */
import { parameterStatus } from '../wire/messages.ts'

/** Told at the log-in and never again, whichever server answers. */
const TOLD_ONCE: ReadonlySet<string> = new Set([
  'in_hot_standby',
  'integer_datetimes',
  'is_superuser',
  'server_encoding',
  'server_version',
])

export class Reported {
  readonly #welcome: ReadonlyMap<string, string>
  #changed: Map<string, string> | null = null
  isDue = false

  constructor(welcome: ReadonlyMap<string, string>) {
    this.#welcome = welcome
  }

  value(name: string): string {
    return this.#changed?.get(name) ?? this.#welcome.get(name) ?? ''
  }

  /** After the loss of a server: what it had reported may not hold any more. Null: all is known. */
  due(parameters: ReadonlyMap<string, string>): Buffer | null {
    if (!this.isDue) return null
    this.isDue = false
    return this.catchUp(parameters)
  }

  /** The server tells the client itself. Returns false for what it must not tell. */
  pass(name: string, value: string): boolean {
    if (name === 'in_hot_standby') return false
    this.#keep(name, value)
    return true
  }

  /** What the client has to be told so that it knows these parameters; null when it knows. */
  catchUp(parameters: ReadonlyMap<string, string>): Buffer | null {
    const frames: Buffer[] = []
    for (const [name, value] of parameters) {
      if (TOLD_ONCE.has(name) || this.value(name) === value) continue
      this.#keep(name, value)
      frames.push(parameterStatus(name, value))
    }
    return frames.length === 0 ? null : Buffer.concat(frames)
  }

  #keep(name: string, value: string): void {
    this.#changed ??= new Map()
    this.#changed.set(name, value)
  }
}
