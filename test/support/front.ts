/**
 * A front door for log-in tests: listens on a loopback port, logs clients in with src/client/login.ts
 * under a configuration given as text, welcomes those who arrive and keeps what became of them.
 */

import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach } from 'vitest'
import { KeyDeriver } from '../../src/auth/derive.ts'
import { type AuthQuery, Lookup } from '../../src/auth/lookup.ts'
import { authRules } from '../../src/auth/rules.ts'
import { systemClock } from '../../src/base/clock.ts'
import type { ProxyError } from '../../src/base/errors.ts'
import {
  type Arrival,
  acceptClient,
  type LoginContext,
  type SessionArrival,
} from '../../src/client/login.ts'
import { loadConfig } from '../../src/config/load.ts'
import { Channel } from '../../src/net/channel.ts'
import { ClientTls, clientTlsSettings } from '../../src/net/tls.ts'
import { backend } from './bytes.ts'
import { waitFor } from './wait.ts'
import { type Answer, type LoginOptions, WireClient } from './wire-client.ts'

export interface FrontOptions {
  /** Lines of [pgbouncer]. */
  readonly keys?: string
  /** Lines of [pgsteer]. */
  readonly pgsteer?: string
  /** Lines of [databases]. */
  readonly databases?: string
  readonly userlist?: string
  readonly hba?: string
  readonly query?: AuthQuery
  readonly context?: Partial<LoginContext>
}

export class Front {
  readonly port: number
  readonly directory: string
  readonly context: LoginContext
  readonly arrivals: Arrival[] = []
  readonly refusals: ProxyError[] = []
  readonly #server: Server
  readonly #channels = new Set<Channel>()

  private constructor(server: Server, directory: string, context: LoginContext) {
    this.#server = server
    this.directory = directory
    this.context = context
    const address = server.address()
    this.port = typeof address === 'object' && address !== null ? address.port : 0
    server.on('connection', (socket) => void this.#accept(new Channel(socket)))
  }

  static async open(options: FrontOptions = {}): Promise<Front> {
    const directory = mkdtempSync(join(tmpdir(), 'pgsteer-front-'))
    const context = contextOf(directory, options)
    const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new Front(server, directory, context)
  }

  async close(): Promise<void> {
    for (const channel of this.#channels) channel.destroy()
    this.#server.close()
    await once(this.#server, 'close')
    rmSync(this.directory, { recursive: true })
  }

  async #accept(channel: Channel): Promise<void> {
    this.#channels.add(channel)
    try {
      const arrival = await acceptClient(channel, this.context)
      this.arrivals.push(arrival)
      if (arrival.kind === 'cancel') channel.close()
      else channel.write(WELCOME)
    } catch (error) {
      this.refusals.push(error as ProxyError)
    }
  }
}

const WELCOME = Buffer.concat([
  backend.authenticationOk(),
  backend.parameterStatus('server_version', '15.0'),
  backend.parameterStatus('client_encoding', 'UTF8'),
  backend.backendKeyData(7, Buffer.from('key!')),
  backend.readyForQuery(),
])

function contextOf(directory: string, options: FrontOptions): LoginContext {
  const file = join(directory, 'pgsteer.ini')
  const {
    keys = '',
    pgsteer = '',
    userlist = '',
    databases = 'app = host=127.0.0.1',
    hba,
  } = options
  writeFileSync(join(directory, 'userlist.txt'), userlist)
  if (hba !== undefined) writeFileSync(join(directory, 'hba.conf'), hba)
  const hbaKey = hba === undefined ? '' : 'auth_hba_file = hba.conf\n'
  writeFileSync(
    file,
    `[databases]\n${databases}\n[pgbouncer]\nauth_file = userlist.txt\n${hbaKey}${keys}\n[pgsteer]\n${pgsteer}\n`,
  )
  const { config } = loadConfig(file, {})
  return {
    config,
    rules: authRules(config),
    clock: systemClock,
    log: pino({ level: 'silent' }),
    tls: new ClientTls(clientTlsSettings(config.pgbouncer)),
    lookup: new Lookup({ userlist: config.userlist, query: options.query ?? null }, systemClock),
    deriver: new KeyDeriver(),
    mockSeed: Buffer.alloc(16, 5),
    isDisabled: () => false,
    isShuttingDown: () => false,
    ...options.context,
  }
}

/** Front doors and clients of one test file, closed after each test. Call at the top of the file. */
export function useFronts() {
  const fronts: Front[] = []
  const clients: WireClient[] = []
  afterEach(async () => {
    for (const client of clients.splice(0)) client.destroy()
    for (const front of fronts.splice(0)) await front.close()
  })

  const open = async (options: FrontOptions = {}): Promise<Front> => {
    const front = await Front.open(options)
    fronts.push(front)
    return front
  }
  const connect = async (front: Front): Promise<WireClient> => {
    const client = await WireClient.connect({ port: front.port })
    clients.push(client)
    return client
  }
  /** The whole answer to one log-in, of alice unless said otherwise. */
  const login = async (front: Front, options: Partial<LoginOptions> = {}): Promise<Answer> => {
    const client = await connect(front)
    return client.startup({ user: 'alice', database: 'app', password: 'secret', ...options })
  }
  /** The error that raw bytes are answered with, before the connection ends. */
  const refusal = async (
    front: Front,
    ...bytes: readonly Buffer[]
  ): Promise<string | undefined> => {
    const client = await connect(front)
    client.send(...bytes)
    const answer = await client.until('E')
    await client.ended()
    return answer.errors[0]?.['M']
  }
  /** The client that arrived last. */
  const session = async (front: Front): Promise<SessionArrival> => {
    const arrival = await waitFor('an arrival', () => front.arrivals.at(-1))
    if (arrival.kind !== 'session') throw new Error('that was a cancel request')
    return arrival
  }
  return { open, connect, login, refusal, session }
}
