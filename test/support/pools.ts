/**
 * Pools over servers that are not there: each log-in is answered by the test, each server's channel
 * is a fake that answers queries or leaves that to the test. Time stands still.
 */
import { ProxyError } from '../../src/base/errors.ts'
import { createLog } from '../../src/base/log.ts'
import {
  EMPTY_TOPOLOGY,
  type Member,
  type Sample,
  type Topology,
} from '../../src/cluster/topology.ts'
import type { Receiver } from '../../src/net/channel.ts'
import type { ServerChannel, ServerConnection } from '../../src/server/connection.ts'
import type { Pool } from '../../src/server/pool.ts'
import { Pools } from '../../src/server/pools.ts'
import { NO_SETTINGS, type Settings } from '../../src/server/settings.ts'
import type { OpenedServer, ServerTarget } from '../../src/server/target.ts'
import type { Bound, MinLsn, Waiter } from '../../src/server/waiter.ts'
import { FakeClock } from './clock.ts'
import { configFrom } from './config.ts'

const READY_IDLE = Buffer.from([0x5a, 0, 0, 0, 5, 0x49])
const READY_OPEN = Buffer.from([0x5a, 0, 0, 0, 5, 0x54])
const QUERY = 0x51
const TERMINATE = 0x58

/** A channel that remembers what was written and closes when the test says so. */
export class FakeChannel implements ServerChannel {
  isClosed = false
  bytesReceived = 0
  bytesSent = 0
  unsentBytes = 0
  readonly tls = null
  readonly isUnix = false
  readonly remoteAddress = '10.0.0.1'
  readonly remotePort = 5432
  readonly localAddress = '10.0.0.9'
  readonly localPort = 40_000
  /** Texts of the simple queries that arrived. */
  readonly queries: string[] = []
  /** Answers queries of ours at once; turned off, the test answers with `answer`. */
  answers = true
  /** The next query is answered by an error. */
  fails = false
  isTerminated = false
  #receiver: Receiver | null = null
  #closing: Error | null | undefined = undefined

  attach(receiver: Receiver): void {
    this.#receiver = receiver
  }

  write(bytes: Buffer): boolean {
    if (bytes[0] === TERMINATE) this.isTerminated = true
    if (bytes[0] !== QUERY) return true
    this.queries.push(bytes.toString('latin1', 5, bytes.length - 1))
    if (this.answers) queueMicrotask(() => this.answer())
    return true
  }

  isPaused = false
  pause(): void {
    this.isPaused = true
  }
  resume(): void {
    this.isPaused = false
  }

  close(): void {
    this.#closing ??= null
    queueMicrotask(() => this.finish())
  }

  destroy(error?: Error): void {
    this.#closing ??= error ?? null
    queueMicrotask(() => this.finish())
  }

  /** The server's answer to one query of ours. */
  answer(): void {
    if (this.isClosed) return
    const error = Buffer.from('SERROR\0C22023\0Mrefused\0\0')
    const head = Buffer.from([0x45, 0, 0, 0, error.length + 4])
    this.#receiver?.onBytes(this.fails ? Buffer.concat([head, error, READY_IDLE]) : READY_IDLE)
  }

  /** It says a report with the next answer, as a promoted standby does. */
  report(name: string, value: string): void {
    const body = Buffer.from(`${name}\0${value}\0`)
    const head = Buffer.from([0x53, 0, 0, 0, body.length + 4])
    this.#receiver?.onBytes(Buffer.concat([head, body]))
  }

  /** The server is terminated: it says so, and its socket is not closed yet. */
  sayFarewell(): void {
    const error = Buffer.from('SFATAL\0C57P01\0Mterminating connection\0\0')
    this.#receiver?.onBytes(Buffer.concat([Buffer.from([0x45, 0, 0, 0, error.length + 4]), error]))
  }

  /** The server says that a transaction is open. */
  openTransaction(): void {
    this.#receiver?.onBytes(READY_OPEN)
  }

  /** The connection is gone, from whichever side. */
  finish(error: Error | null = this.#closing ?? null): void {
    if (this.isClosed) return
    this.isClosed = true
    this.#receiver?.onClosed(error)
  }
}

/** A log-in that the pools asked for. */
export interface Attempt {
  readonly target: ServerTarget
  isSettled: boolean
  succeed(parameters?: Readonly<Record<string, string>>): Promise<FakeChannel>
  fail(error: Error): Promise<void>
}

export class FakeWaiter implements Waiter {
  readonly clientId: number
  wantsRole: Waiter['wantsRole'] = 'primary'
  bound: Bound | null = null
  dirtySinceMs: number | null = null
  preferredMember: string | null = null
  causal: Waiter['causal'] = undefined
  minLsn: MinLsn | null = null
  patienceMs = 0
  settings: Settings = NO_SETTINGS
  waitingBytes = 100
  waitingSinceMs = 0
  waitReason: Waiter['waitReason'] = null
  server: ServerConnection | null = null
  error: ProxyError | null = null
  lost: ProxyError | null = null
  notices: string[] = []
  /** Times that `granted` or `refused` was called. */
  answersCount = 0
  /** A statement of it runs on its server. */
  isWorking = true
  onGranted: (server: ServerConnection) => void = () => {}

  constructor(clientId: number, fields: Partial<FakeWaiter> = {}) {
    this.clientId = clientId
    Object.assign(this, fields)
  }

  worksOn(server: ServerConnection): boolean {
    return this.server === server && this.isWorking
  }
  granted(server: ServerConnection): void {
    this.answersCount += 1
    this.server = server
    this.onGranted(server)
  }
  refused(error: ProxyError): void {
    this.answersCount += 1
    this.error = error
  }
  notify(text: string): void {
    this.notices.push(text)
  }
  /** As a session does: the status of the last ReadyForQuery. */
  onServerBytes(chunk: Buffer): void {
    if (this.server !== null) this.server.status = chunk[5] ?? 0
  }
  onServerDrain(): void {}
  onServerClosed(error: ProxyError): void {
    this.lost = error
    this.server = null
  }
}

export interface WorldOptions {
  readonly ini?: string
  readonly random?: () => number
  readonly onSecretRefused?: (database: string, user: string) => void
}

/** Pools with everything around them. */
export class World {
  readonly clock = new FakeClock()
  readonly attempts: Attempt[] = []
  readonly busy: boolean[] = []
  /** Members of servers that were lost. */
  readonly lost: string[] = []
  readonly cancels: { server: ServerConnection; end(): void; expire(): void }[] = []
  readonly pools: Pools
  #waiterId = 0

  constructor(options: WorldOptions = {}) {
    this.pools = new Pools({
      config: configFrom(options.ini ?? routedIni()),
      clock: this.clock,
      log: createLog({ level: 'silent', format: 'json' }),
      connect: (target) => this.#connect(target),
      cancel: (server) => this.#cancel(server),
      onBusy: (isBusy) => this.busy.push(isBusy),
      onServerLost: (name) => this.lost.push(name),
      onSecretRefused: options.onSecretRefused ?? ((): void => {}),
      random: options.random ?? ((): number => 0),
    })
  }

  pool(database = 'app', user = 'alice'): Pool {
    return this.pools.pool(database, user, { kind: 'plain', password: 'x' })
  }

  waiter(fields: Partial<FakeWaiter> = {}): FakeWaiter {
    this.#waiterId += 1
    return new FakeWaiter(this.#waiterId, fields)
  }

  /** Log-ins under way. */
  get open(): Attempt[] {
    return this.attempts.filter((attempt) => !attempt.isSettled)
  }

  /** Lets every log-in under way succeed, and those that follow from it. */
  async settle(): Promise<void> {
    for (let turn = 0; this.open.length > 0 && turn < 100; turn += 1)
      for (const attempt of this.open) await attempt.succeed()
    await flush()
  }

  /** Time passes, and the janitor with it. */
  async pass(ms: number): Promise<void> {
    this.clock.advance(ms)
    await flush()
  }

  channelOf(server: ServerConnection | null): FakeChannel {
    const channel = server?.channel
    if (!(channel instanceof FakeChannel)) throw new Error('no server')
    return channel
  }

  #connect(target: ServerTarget): Promise<OpenedServer> {
    return new Promise((resolve, reject) => {
      const attempt: Attempt = {
        target,
        isSettled: false,
        succeed: async (parameters = {}) => {
          attempt.isSettled = true
          const channel = new FakeChannel()
          const standby: Record<string, string> = { in_hot_standby: 'off' }
          if (target.identity.role === 'replica') standby['in_hot_standby'] = 'on'
          resolve({
            channel,
            parameters: new Map(Object.entries({ ...standby, ...parameters })),
            processId: this.attempts.length,
            cancelSecret: Buffer.alloc(4),
          })
          await flush()
          return channel
        },
        fail: async (error) => {
          attempt.isSettled = true
          reject(error)
          await flush()
        },
      }
      this.attempts.push(attempt)
    })
  }

  #cancel(server: ServerConnection): Promise<void> {
    return new Promise((resolve, reject) => {
      this.cancels.push({
        server,
        end: resolve,
        expire: () => reject(new ProxyError('server_connect_timeout')),
      })
    })
  }
}

/** Promises that are settled have run what hangs on them. */
export async function flush(): Promise<void> {
  for (let turn = 0; turn < 10; turn += 1) await Promise.resolve()
}

export function routedIni(pgbouncer = '', pgsteer = ''): string {
  return `[databases]
* =
[pgbouncer]
pool_mode = transaction
default_pool_size = 2
${pgbouncer}
[cluster]
source = static
hosts = pg1:5432, pg2:5432, pg3:5432
[pgsteer]
${pgsteer}
`
}

export function plainIni(pgbouncer = '', entry = ''): string {
  return `[databases]
app = host=db1 port=5432 ${entry}
other = host=db1 port=5432
[pgbouncer]
pool_mode = transaction
default_pool_size = 2
${pgbouncer}
`
}

export interface MemberOptions extends Partial<Omit<Member, 'sample'>> {
  readonly sample?: Partial<Sample> | null
}

/** A replica that is up to date unless told otherwise. */
export function member(name: string, options: MemberOptions = {}): Member {
  const sample: Sample = {
    sentMs: 0,
    receivedMs: 1,
    inRecovery: true,
    systemIdentifier: '7',
    timeline: 1,
    writeLsn: null,
    insertLsn: null,
    replayLsn: 100n,
    receiveLsn: 100n,
    ...options.sample,
  }
  return {
    name,
    host: name,
    port: 5432,
    role: 'replica',
    state: 'running',
    lagBytes: 0,
    lagMs: 0,
    eligible: true,
    ineligibleReason: null,
    cutBeforeMs: null,
    weight: 1,
    zone: null,
    tags: {},
    ...options,
    sample: options.sample === null ? null : sample,
  }
}

export function primary(name: string, sample: Partial<Sample> = {}): Member {
  return member(name, {
    role: 'primary',
    eligible: false,
    ineligibleReason: 'primary',
    sample: { inRecovery: false, writeLsn: 100n, insertLsn: 100n, replayLsn: null, ...sample },
  })
}

export function topology(fields: Partial<Topology> = {}): Topology {
  return {
    ...EMPTY_TOPOLOGY,
    term: 1,
    serial: 1,
    primary: 'pg1',
    missing: '',
    systemIdentifier: '7',
    timeline: 1,
    members: [primary('pg1'), member('pg2'), member('pg3')],
    ...fields,
  }
}

export function noPrimary(fields: Partial<Topology> = {}): Topology {
  return topology({ primary: null, missing: 'nobody holds the leader key', term: 2, ...fields })
}
