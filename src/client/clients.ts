/**
 * All clients of one worker: limits, log-ins, cancel requests, timeouts, and the facts about them.
 * It opens no server and reads no statement.
 */
import { type Clock, type Timer, wait } from '../base/clock.ts'
import { ProxyError, reasonOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { Config } from '../config/config.ts'
import type { Channel } from '../net/channel.ts'
import { tlsText } from '../net/tls.ts'
import type { Statements } from '../routing/statements.ts'
import type { Pool } from '../server/pool.ts'
import type { Pools } from '../server/pools.ts'
import { PreparedRegistry } from '../server/prepared.ts'
import {
  authenticationOk,
  backendKeyData,
  errorResponse,
  parameterStatus,
  READY_IDLE,
} from '../wire/messages.ts'
import { Admission } from './admission.ts'
import { type CancelKey, CancelKeys, instanceOf, workerOf, workerSlots } from './cancel.ts'
import { Carriages } from './carriages.ts'
import { ClientCounters } from './counters.ts'
import type { ClientFacts, ClientsFacts } from './facts.ts'
import { acceptClient, type LoginContext, type SessionArrival } from './login.ts'
import { Passthrough } from './passthrough.ts'
import type { SessionServices } from './services.ts'
import { Session } from './session.ts'
import { startupToken } from './token.ts'
import { WelcomeCache, welcomeFrames } from './welcome.ts'

export interface ClientsDeps {
  readonly worker: number
  readonly clock: Clock
  readonly log: Log
  readonly pools: Pools
  config(): Config
  login(): LoginContext
  statements(database: string): Statements
  /** A client of the console logged in; the channel is handed over. */
  onConsole(arrival: SessionArrival): void
  /** A cancel request for a key of another worker; resolves when it can hit nothing any more. */
  onForeignCancel(worker: number, processId: number, secret: Buffer): Promise<void>
  /** A cancel request for a key of another instance; resolves when it is over, and never rejects. */
  onPeerCancel(key: CancelKey): Promise<string>
  /** This instance had that number before. */
  wasInstance(instance: number): boolean
  /** A database of servers is in use: its functions have to be known. */
  onDatabaseUsed(serverDatabase: string): void
}

/** A client of the console, as far as the list of clients goes. */
export interface ConsoleClient {
  cancel(): void
  end(error: ProxyError): void
  facts(): ClientFacts | null
}

/**
 * How clients are sent away: not at all (they go by themselves), each behind its next answer, or so
 * while another process takes new ones, so that those that were coming still get in.
 */
export type DrainManner = 'patient' | 'forced' | 'replaced'

interface Replica {
  readonly id: number
  readonly arrival: SessionArrival
  readonly link: Passthrough
  readonly connectedWallMs: number
}

/** Limits and timeouts are looked at this often. */
const TICK_MS = 250
/** Who has been silent for so long while clients are sent away is not waited for. */
const SILENT_MS = 3000
/** A cancel connection is closed after this, found or not. */
const CANCEL_LINGER_MS = 10
/** Cancel requests that other workers have not answered yet: nobody had to log in for them. */
const FOREIGN_CANCELS_MAX = 1000

export class Clients {
  readonly counters = new ClientCounters()
  readonly #deps: ClientsDeps
  readonly #sessions = new Map<number, Session>()
  readonly #replicas = new Map<number, Replica>()
  readonly #consoles = new Map<number, ConsoleClient>()
  readonly #keys: CancelKeys<{ cancel(): Promise<void> | void }>
  readonly #cancelKeys = new Map<number, CancelKey>()
  #foreignCancels = 0
  readonly #admission: Admission
  readonly #welcomes = new WelcomeCache()
  readonly #services: SessionServices
  readonly #ticker: Timer
  #loggingIn = 0
  #serial = 0
  #drainingBecause: ProxyError | null = null
  #manner: DrainManner = 'patient'
  /** Of clients that were told the end and have not ended their side. */
  readonly #departing = new Set<Channel>()
  #onEmpty: (() => void) | null = null

  constructor(deps: ClientsDeps) {
    this.#deps = deps
    this.#keys = new CancelKeys(deps.worker, workerSlots(deps.config().pgsteer.workers))
    this.#admission = new Admission(() => deps.config())
    this.#services = {
      clock: deps.clock,
      log: deps.log,
      pools: deps.pools,
      registry: new PreparedRegistry(),
      counters: this.counters,
      carriages: new Carriages(deps.clock),
      config: () => deps.config(),
      statements: (database) => deps.statements(database),
      onSessionClosed: (session, reason) => this.#onSessionClosed(session, reason),
    }
    this.#ticker = deps.clock.every(TICK_MS, () => this.#tick())
  }

  get count(): number {
    return this.#sessions.size + this.#replicas.size
  }

  /** A connection came. */
  accept(channel: Channel): void {
    if (
      this.#loggingIn >= this.#admission.share(this.#deps.config().pgsteer.clientLoginWaitersMax)
    ) {
      this.#refuse(channel, new ProxyError('max_client_conn'))
      return
    }
    this.#loggingIn += 1
    this.#logIn(channel)
      .catch((error: unknown) => {
        this.counters.loginFailures += 1
        const { remoteAddress: address, remotePort: port } = channel
        this.#deps.log.info({ address, port, reason: reasonOf(error) }, 'log-in failed')
      })
      .finally(() => {
        this.#loggingIn -= 1
      })
  }

  /** A cancel request, ours or handed over by another worker. */
  async cancel(processId: number, secret: Buffer): Promise<void> {
    await this.#keys.find({ processId, secret })?.cancel()
  }

  kill(clientId: number): boolean {
    const session = this.#sessions.get(clientId)
    const console = this.#consoles.get(clientId)
    session?.close(new ProxyError('admin_disconnect'))
    console?.end(new ProxyError('admin_disconnect'))
    return session !== undefined || console !== undefined
  }

  /** A client of the console gets an id and a cancel key like any other. */
  addConsole<T extends ConsoleClient>(
    open: (id: number) => T,
    protocolMinor: number,
  ): { readonly session: T; readonly key: CancelKey } {
    this.#serial += 1
    const id = this.#serial
    const session = open(id)
    const key = this.#keys.give(session, protocolMinor, this.#instance)
    this.#consoles.set(id, session)
    this.#cancelKeys.set(id, key)
    return { session, key }
  }

  removeConsole(id: number): void {
    this.#consoles.delete(id)
    this.#dropKey(id)
  }

  /** Closes the clients of one database, or all of them. */
  killDatabase(database: string | null, error: ProxyError): void {
    for (const session of this.#sessions.values())
      if (database === null || session.database === database) session.close(error)
  }

  /**
   * Lets clients go: when they leave by themselves, or each behind its next answer outside of a transaction, or when it
   * has been silent for a while. Resolves when none is left, and all have read what they were told: what somebody sends
   * to a process that has ended destroys what he has not read. Replaced, a worker ends its console clients likewise.
   */
  drain(error: ProxyError, manner: DrainManner): Promise<void> {
    this.#drainingBecause = error
    this.#manner = manner
    if (manner !== 'patient')
      for (const session of this.#sessions.values()) session.standing.leave(error)
    return new Promise((resolve) => {
      this.#onEmpty = resolve
      this.#checkEmpty()
    })
  }

  destroy(error: ProxyError): void {
    this.#ticker.cancel()
    for (const session of this.#sessions.values()) session.close(error)
    for (const replica of this.#replicas.values()) replica.link.onClosed()
  }

  facts(): ClientsFacts {
    const { counters } = this
    return {
      clients: [
        ...[...this.#sessions.values()].map((session) => this.#sessionFacts(session)),
        ...[...this.#replicas.values()].map(replicaFacts),
        ...[...this.#consoles.values()].flatMap((client) => client.facts() ?? []),
      ],
      loginClients: this.#loggingIn,
      stats: counters.statsFacts(),
      queueTime: counters.queueTime.facts(),
      queryTime: counters.queryTime.facts(),
      routesByReason: counters.routes.facts(),
      pinsByReason: counters.pins.facts(),
      errorsBySqlstate: counters.errors.facts(),
      healedBySqlstate: counters.healed.facts(),
      disconnectsByReason: counters.disconnects.facts(),
      loginFailures: counters.loginFailures,
      cancelsForwarded: counters.cancelsForwarded,
      rides: counters.rides,
      ridesMoved: counters.ridesMoved,
      ridesSwallowed: counters.ridesSwallowed,
      carriages: this.#services.carriages.size,
      cancelRequestsByResult: counters.cancelRequests.facts(),
      holdsStarted: counters.holdsStarted,
      holdsExpired: counters.holdsExpired,
    }
  }

  async #logIn(channel: Channel): Promise<void> {
    const arrival = await acceptClient(channel, this.#deps.login())
    if (arrival.kind === 'cancel') {
      // It is no log-in any more, and must not take the place of one while a peer is slow.
      void this.#onCancelRequest(channel, arrival)
      return
    }
    if (arrival.isConsole) {
      this.#deps.onConsole(arrival)
      return
    }
    try {
      await this.#admit(arrival)
    } catch (error) {
      this.#refuse(channel, error)
      throw error
    }
  }

  /** As with PostgreSQL, the request can hit nothing any more when its connection ends. */
  async #onCancelRequest(channel: Channel, key: CancelKey): Promise<void> {
    channel.attach({ onBytes() {}, onDrain() {}, onClosed() {} })
    const outcome = await this.#cancelAnywhere(key)
    this.counters.cancelRequests.add(outcome)
    this.#deps.log.debug({ instance: instanceOf(key), outcome }, 'cancel request')
    await wait(this.#deps.clock, CANCEL_LINGER_MS)
    channel.destroy()
  }

  /** Our own keys first: the number of this instance may have been another one. */
  async #cancelAnywhere(key: CancelKey): Promise<string> {
    const holder = this.#keys.find(key)
    if (holder !== undefined) {
      await holder.cancel()
      return 'own'
    }
    const instance = instanceOf(key)
    if (instance === 0 || instance === this.#instance) return this.#askWorker(key)
    // Where it was our number, another worker may hold the key; the one who has it now does not
    // know the key if it was ours, and a key is found by its one holder or by nobody.
    if (this.#deps.wasInstance(instance)) await this.#askWorker(key)
    return this.#deps.onPeerCancel(key)
  }

  async #askWorker(key: CancelKey): Promise<string> {
    const slots = workerSlots(this.#deps.config().pgsteer.workers)
    const worker = workerOf(key, slots)
    if (worker === this.#deps.worker || worker >= slots) return 'unknown'
    if (this.#foreignCancels >= FOREIGN_CANCELS_MAX) return 'crowded'
    this.#foreignCancels += 1
    try {
      await this.#deps.onForeignCancel(worker, key.processId, key.secret)
      return 'worker'
    } catch {
      return 'unreachable'
    } finally {
      this.#foreignCancels -= 1
    }
  }

  /** The number of this instance among its peers, 0 = none. */
  get #instance(): number {
    return this.#deps.config().pgbouncer.peerId
  }

  async #admit(arrival: SessionArrival): Promise<void> {
    this.#checkDrain(arrival)
    this.#admission.check(this.count, arrival.database, arrival.user)
    const pool = this.#deps.pools.pool(arrival.database, arrival.user, arrival.secret)
    if (arrival.replication !== null) {
      await this.#link(arrival, pool)
      return
    }
    const welcome = await pool.welcome()
    if (arrival.channel.isClosed) return
    this.#checkDrain(arrival)
    // Only now: with `* =` any name may be asked for, and a server has to know it.
    this.#deps.onDatabaseUsed(pool.config.serverDatabase)
    // Others may have come while the first server of the pool was opened.
    this.#admission.check(this.count, arrival.database, arrival.user)
    this.#start(arrival, pool, welcome)
  }

  /** Errors  ProxyError `shutting_down` where nobody new is taken; a replication connection would not go again. */
  #checkDrain({ replication }: SessionArrival): void {
    if (this.#drainingBecause === null) return
    if (this.#manner !== 'replaced' || replication !== null) throw new ProxyError('shutting_down')
  }

  #start(arrival: SessionArrival, pool: Pool, served: ReadonlyMap<string, string>): void {
    const { channel, database, startup, user } = arrival
    const { loginNotifyMessage, logConnections } = this.#deps.config().pgbouncer
    this.#serial += 1
    const welcome = this.#welcomes.find(served, startup, pool.config)
    const session = new Session({
      id: this.#serial,
      channel,
      user,
      database,
      pool,
      baseline: welcome.baseline,
      token: pool.config.isRouted ? startupToken(startup) : null,
      welcome: welcome.parameters,
      services: this.#services,
    })
    this.#sessions.set(session.clientId, session)
    pool.join()
    const key = this.#keys.give(session, arrival.protocolMinor, this.#instance)
    this.#cancelKeys.set(session.clientId, key)
    this.#admission.came(database, user)
    this.counters.stats(database).clientLogins += 1
    if (logConnections)
      this.#deps.log.info(
        { client: session.clientId, database, user, address: channel.remoteAddress },
        'client logged in',
      )
    channel.write(welcomeFrames(welcome, key, loginNotifyMessage))
    if (this.#drainingBecause !== null) session.standing.leave(this.#drainingBecause)
    session.begin()
  }

  async #link(arrival: SessionArrival, pool: Pool): Promise<void> {
    const { channel, startup: parameters } = arrival
    this.#serial += 1
    const id = this.#serial
    const link = new Passthrough(channel, () => {
      this.#replicas.delete(id)
      this.#checkEmpty()
    })
    const server = await pool.openReplication(
      {
        replication: arrival.replication ?? 'physical',
        role: pool.config.route === 'replica' ? 'replica' : 'primary',
        parameters,
      },
      link,
    )
    if (channel.isClosed) {
      pool.discard(server, new ProxyError('server_lost'))
      return
    }
    this.#replicas.set(id, { id, arrival, link, connectedWallMs: this.#deps.clock.wallMs() })
    const frames = [authenticationOk()]
    for (const [name, value] of server.parameters) frames.push(parameterStatus(name, value))
    frames.push(backendKeyData(server.processId, server.cancelSecret), READY_IDLE)
    channel.write(Buffer.concat(frames))
    link.begin(server)
  }

  #refuse(channel: Channel, error: unknown): void {
    const told =
      error instanceof ProxyError ? error : new ProxyError('internal', { reason: reasonOf(error) })
    this.counters.errors.add(told.sqlstate)
    channel.write(errorResponse(told, this.#deps.config().pgsteer.errorCodes))
    channel.close()
  }

  #onSessionClosed(session: Session, reason: string): void {
    this.#sessions.delete(session.clientId)
    if (this.#drainingBecause !== null) this.#departing.add(session.channel)
    session.pool.leave()
    this.#dropKey(session.clientId)
    this.#admission.left(session.database, session.user)
    this.counters.disconnects.add(reason)
    if (this.#deps.config().pgbouncer.logDisconnections) {
      const { clientId: client, database, user } = session
      this.#deps.log.info({ client, database, user, reason }, 'client gone')
    }
    this.#checkEmpty()
  }

  #dropKey(id: number): void {
    const key = this.#cancelKeys.get(id)
    if (key !== undefined) this.#keys.take(key)
    this.#cancelKeys.delete(id)
  }

  #checkEmpty(): void {
    if (this.count > 0 || (this.#manner === 'replaced' && !this.#isAlone())) return
    for (const channel of this.#departing) if (channel.isClosed) this.#departing.delete(channel)
    if (this.#departing.size > 0) return
    this.#onEmpty?.()
    this.#onEmpty = null
  }

  /** Nobody is coming, and no console client is left. */
  #isAlone(): boolean {
    const wallMs = this.#deps.clock.wallMs()
    const error = this.#drainingBecause
    for (const client of this.#consoles.values()) {
      const facts = client.facts()
      const isSilent = facts === null || wallMs - facts.requestWallMs >= SILENT_MS
      if (error !== null && facts?.state !== 'active' && isSilent) client.end(error)
    }
    return this.#loggingIn === 0 && this.#consoles.size === 0
  }

  #closeSilent(error: ProxyError, nowMs: number): void {
    for (const session of this.#sessions.values())
      if (session.standing.isBetween && nowMs - session.activeMs >= SILENT_MS) session.close(error)
  }

  #tick(): void {
    const nowMs = this.#deps.clock.nowMs()
    for (const session of this.#sessions.values()) session.checkTime(nowMs)
    const draining = this.#drainingBecause
    if (draining?.code === 'server_shutting_down') this.#closeSilent(draining, nowMs)
    if (draining !== null) this.#checkEmpty()
  }

  #sessionFacts(session: Session): ClientFacts {
    const { clock } = this.#deps
    const { channel, server } = session
    return {
      id: session.clientId,
      database: session.database,
      user: session.user,
      state: session.standing.clientState,
      address: channel.remoteAddress,
      port: channel.remotePort,
      localAddress: channel.localAddress,
      localPort: channel.localPort,
      connectedWallMs: session.connectedWallMs,
      requestWallMs: clock.wallMs() - (clock.nowMs() - session.requestMs),
      waitMs: session.state === 'waiting' ? clock.nowMs() - session.waitingSinceMs : 0,
      closeNeeded: false,
      serverId: server?.id ?? null,
      serverMember: server?.identity.member ?? null,
      tls: tlsText(channel.tls),
      applicationName: session.welcome('application_name'),
      preparedStatements: session.prepared.size,
      replication: 'none',
      routeReason: session.routeReason,
      pinReasons: session.pins.reasons,
      waitReason: session.waitReason,
      cancels: server?.cancelsUnderWay ?? 0,
    }
  }
}

function replicaFacts(replica: Replica): ClientFacts {
  const { arrival, link } = replica
  const { channel } = arrival
  return {
    id: replica.id,
    database: arrival.database,
    user: arrival.user,
    state: 'active',
    address: channel.remoteAddress,
    port: channel.remotePort,
    localAddress: channel.localAddress,
    localPort: channel.localPort,
    connectedWallMs: replica.connectedWallMs,
    requestWallMs: replica.connectedWallMs,
    waitMs: 0,
    closeNeeded: false,
    serverId: link.server?.id ?? null,
    serverMember: link.server?.identity.member ?? null,
    tls: tlsText(channel.tls),
    applicationName: arrival.startup.get('application_name') ?? '',
    preparedStatements: 0,
    replication: arrival.replication ?? 'none',
    routeReason: null,
    pinReasons: ['replication'],
    waitReason: null,
    cancels: 0,
  }
}
