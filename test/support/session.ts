/**
 * One session between a client and a server that are not there: the test writes what either sends
 * and reads what either got. Pools, ledger and relay are the real ones; nothing waits.
 */

import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { createLog } from '../../src/base/log.ts'
import { Carriages } from '../../src/client/carriages.ts'
import { ClientCounters } from '../../src/client/counters.ts'
import { Session } from '../../src/client/session.ts'
import { Channel } from '../../src/net/channel.ts'
import { Statements } from '../../src/routing/statements.ts'
import type { ServerConnection } from '../../src/server/connection.ts'
import { PreparedRegistry } from '../../src/server/prepared.ts'
import { NO_SETTINGS } from '../../src/server/settings.ts'
import { configFrom } from './config.ts'
import { FakeChannel, plainIni, World } from './pools.ts'

const WRITTEN = new WeakMap<FakeChannel, Buffer[]>()

/** Servers answer nothing by themselves here: the test does, by `server.onBytes`. */
FakeChannel.prototype.write = function write(bytes: Buffer): boolean {
  const chunks = WRITTEN.get(this) ?? []
  WRITTEN.set(this, chunks)
  chunks.push(Buffer.from(bytes))
  return true
}

/** The client's end: remembers what it is sent. */
class Wire extends Duplex {
  readonly chunks: Buffer[] = []
  /** It has stopped reading. */
  isStuck = false
  #done: (() => void) | null = null
  override _read(): void {}
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.chunks.push(chunk)
    if (this.isStuck) this.#done = done
    else done()
  }
  /** It reads again. */
  goOn(): void {
    this.isStuck = false
    this.#done?.()
    this.#done = null
  }
}

export class Client {
  readonly session: Session
  readonly #wire: Wire
  closed: string | null = null

  constructor(world: SessionWorld, database = 'app') {
    this.#wire = new Wire()
    const { config } = world
    this.session = new Session({
      id: world.nextClientId(),
      channel: new Channel(this.#wire as unknown as Socket),
      user: 'alice',
      database,
      pool: world.world.pool(database),
      baseline: NO_SETTINGS,
      welcome: new Map([
        ['standard_conforming_strings', 'on'],
        ['client_encoding', 'UTF8'],
      ]),
      services: {
        clock: world.world.clock,
        log: createLog({ level: 'silent', format: 'json' }),
        pools: world.world.pools,
        registry: world.registry,
        counters: world.counters,
        carriages: world.carriages,
        config: () => config,
        statements: () => world.statements,
        onSessionClosed: (_session, reason) => {
          this.closed = reason
        },
      },
    })
    this.session.pool.join()
    this.session.begin()
  }

  sends(...messages: readonly Buffer[]): void {
    this.session.onBytes(Buffer.concat(messages))
  }

  /** Everything that was sent to it since the last call, as `type` letters. */
  types(): string {
    return typesOf(this.take())
  }

  take(): Buffer {
    return Buffer.concat(this.#wire.chunks.splice(0))
  }

  /** In how many pieces it was sent what `take` would return. */
  get pieces(): number {
    return this.#wire.chunks.length
  }

  /** It does not read any more, until it goes on. */
  stopsReading(): void {
    this.#wire.isStuck = true
  }

  goesOn(): void {
    this.#wire.goOn()
  }

  /** We have stopped reading from it. */
  get isPaused(): boolean {
    return this.#wire.isPaused()
  }

  get server(): ServerConnection {
    const { server } = this.session
    if (server === null) throw new Error('the session holds no server')
    return server
  }
}

export class SessionWorld {
  readonly world: World
  readonly config: ReturnType<typeof configFrom>
  readonly registry = new PreparedRegistry()
  readonly statements = new Statements(1000)
  readonly counters = new ClientCounters()
  readonly carriages: Carriages
  #clientId = 0

  constructor(ini: string = plainIni()) {
    this.world = new World({ ini })
    this.config = configFrom(ini)
    this.carriages = new Carriages(this.world.clock)
  }

  nextClientId(): number {
    this.#clientId += 1
    return this.#clientId
  }

  client(): Client {
    return new Client(this)
  }

  /** Lets the log-ins under way succeed. */
  settle(): Promise<void> {
    return this.world.settle()
  }

  /** What was written to a server since the last call, as `type` letters. */
  written(server: ServerConnection): string {
    return typesOf(this.bytesTo(server))
  }

  bytesTo(server: ServerConnection): Buffer {
    return Buffer.concat(WRITTEN.get(this.world.channelOf(server))?.splice(0) ?? [])
  }
}

/** The type letters of whole messages, and `+n` for n bytes of a message that is not whole. */
export function typesOf(bytes: Buffer): string {
  let text = ''
  let offset = 0
  while (offset < bytes.length) {
    const length =
      bytes.length - offset < 5 ? Number.POSITIVE_INFINITY : bytes.readInt32BE(offset + 1) + 1
    if (offset + length > bytes.length) return `${text}+${bytes.length - offset}`
    text += String.fromCharCode(bytes[offset] ?? 0)
    offset += length
  }
  return text
}
