/**
 * A data process: accepts clients, pools servers, relays. It is told the configuration, the topology
 * and the functions of each database, and goes on with the last of each when nobody tells it more.
 */

import { CONSOLE_PARAMETERS, ConsoleSession } from './admin/console.ts'
import { type AdminState, countClients, processFacts, type WorkerFacts } from './admin/facts.ts'
import { KeyDeriver } from './auth/derive.ts'
import { type AuthQuery, Lookup } from './auth/lookup.ts'
import { type AuthRules, authRules } from './auth/rules.ts'
import { systemClock, wait } from './base/clock.ts'
import { ProxyError, reasonOf } from './base/errors.ts'
import type { Log } from './base/log.ts'
import type { CancelKey } from './client/cancel.ts'
import { Clients } from './client/clients.ts'
import type { LoginContext, SessionArrival } from './client/login.ts'
import { Peers, peerTlsSettings, peerTlsUse } from './client/peers.ts'
import { type Instances, withInstances } from './cluster/instances.ts'
import type { Config, PeerConfig } from './config/config.ts'
import { childLink, type Link, type WorkerAct } from './link.ts'
import { knownNames } from './net/dial.ts'
import { type Inherited, type Listener, listen } from './net/listener.ts'
import { ClientTls, clientTlsSettings, ServerTls, serverTlsSettings, tlsText } from './net/tls.ts'
import { FATAL_EXIT, processLog } from './program.ts'
import { catalogueOf, EMPTY_CATALOGUE } from './routing/catalogue.ts'
import { Statements } from './routing/statements.ts'
import { authQuery } from './server/authquery.ts'
import type { ServerConnection } from './server/connection.ts'
import { logIn, sendCancel } from './server/login.ts'
import { Pools, type ShutdownMode } from './server/pools.ts'
import type { OpenedServer, ServerTarget } from './server/target.ts'
import { VERSION } from './version.ts'
import { authenticationOk, backendKeyData, parameterStatus, READY_IDLE } from './wire/messages.ts'

const clock = systemClock
const number = Number(process.argv[2])
/** The control process asks etcd in this time, or not at all. */
const FIND_MS = 3000
/** The worker whose place this one takes hands its sockets over in this time. */
const HAND_OVER_MS = 10_000
/** A successor knows the cluster before it takes clients; that long it waits to be told. */
const TOLD_MS = 10_000
const LOOK_MS = 10
/** The control process takes note of what a worker counted in this time. */
const RETIRE_MS = 2000
/** An instance that lost its number again and again forgets the oldest. */
const FORMER_MAX = 16

class Worker {
  /** With what etcd knows of the instances in it. */
  #config: Config
  /** As it was read. */
  #ownConfig: Config
  #instances: Instances
  /** Numbers that this instance had before: keys with them may still be held here. */
  readonly #formerNumbers = new Set<number>()
  #rules: AuthRules
  readonly #log: Log
  readonly #link: Link
  readonly #mockSeed: Buffer
  readonly #deriver = new KeyDeriver()
  readonly #clientTls: ClientTls
  readonly #serverTls: ServerTls
  readonly #peerTls: ServerTls
  readonly #query: AuthQuery
  readonly #lookup: Lookup
  readonly #pools: Pools
  readonly #clients: Clients
  readonly #peers: Peers
  readonly #statements = new Map<string, Statements>()
  readonly #startedWallMs = clock.wallMs()
  #listener: Listener | null = null
  #stopping: ShutdownMode | null = null
  #isDraining = false
  #isLeaving = false
  #isTold = false
  readonly #inherited: Inherited[] = []

  constructor(link: Link, config: Config, mockSeed: Uint8Array, instances: Instances) {
    this.#link = link
    this.#instances = instances
    this.#config = withInstances(config, instances)
    this.#ownConfig = config
    this.#rules = authRules(config)
    this.#mockSeed = Buffer.from(mockSeed)
    this.#log = processLog(config, `worker${number}`)
    this.#clientTls = new ClientTls(clientTlsSettings(config.pgbouncer))
    this.#serverTls = new ServerTls(serverTlsSettings(config.pgbouncer))
    this.#peerTls = new ServerTls(peerTlsSettings(config))
    this.#pools = new Pools({
      config,
      clock,
      log: this.#log,
      connect: (target) => this.#connect(target),
      cancel: (server) => this.#cancelServer(server),
      onBusy: (busy) => link.tell('control', 'busy', { worker: number, busy }),
      onServerLost: (member) => link.tell('control', 'suspect', { member }),
      onSecretRefused: (_database, user) => this.#lookup.forget(user),
    })
    this.#query = authQuery({
      config: () => this.#config,
      topology: () => this.#pools.topology,
      tls: this.#serverTls,
      clock,
      isDisabled: (database) => this.#pools.isDisabled(database),
    })
    this.#lookup = new Lookup({ userlist: config.userlist, query: this.#query }, clock)
    this.#peers = new Peers({
      clock,
      log: this.#log,
      config: () => this.#config,
      find: (id) => link.ask('control', 'find_peer', { id }, FIND_MS),
      send: (peer, key) => this.#passOn(peer, key),
    })
    this.#clients = new Clients({
      worker: number,
      clock,
      log: this.#log,
      pools: this.#pools,
      config: () => this.#config,
      login: () => this.#loginContext(),
      statements: (database) => this.#statementsOf(database),
      onConsole: (arrival) => this.#onConsole(arrival),
      onForeignCancel: async (worker, processId, secret) => {
        const { cancelWaitTimeoutMs } = this.#config.pgbouncer
        await link.ask(worker, 'cancel', { processId, secret }, cancelWaitTimeoutMs)
      },
      onPeerCancel: (key) => this.#peers.forward(key),
      wasInstance: (id) => this.#formerNumbers.has(id),
      onDatabaseUsed: (database) => this.#onDatabaseUsed(database),
    })
  }

  /**
   * `predecessor`  the worker whose sockets it listens on, or null: it opens its own.
   * Errors  rejects when it cannot serve.
   */
  async start(predecessor: number | null): Promise<void> {
    this.#hear()
    if (predecessor !== null) await this.#succeed(predecessor)
    const { pgbouncer } = this.#config
    this.#listener = await listen({
      config: this.#config,
      log: this.#log,
      onChannel: (channel) => this.#clients.accept(channel),
      inherited: this.#inherited,
    })
    this.#log.info({ addresses: pgbouncer.listenAddr, port: pgbouncer.listenPort }, 'listening')
    if (predecessor === null) this.#link.tell('control', 'hello', { worker: number })
    this.#link.tell('main', 'ready', { worker: number })
  }

  /** What the other worker's clients have is had here, before the first client comes. */
  async #succeed(predecessor: number): Promise<void> {
    this.#link.tell('control', 'hello', { worker: number })
    const untilMs = clock.nowMs() + TOLD_MS
    while (!this.#isTold && clock.nowMs() < untilMs) await wait(clock, LOOK_MS)
    if (!this.#isTold) throw new Error('the control process does not say what there is')
    const sockets = await this.#link.ask(predecessor, 'hand_over', { to: number }, HAND_OVER_MS)
    if (sockets === 0 || sockets !== this.#inherited.length)
      throw new Error(`worker ${predecessor} handed over ${this.#inherited.length} sockets`)
  }

  #handOver(to: number): number {
    const sockets = this.#listener?.handles() ?? []
    for (const { handle, path } of sockets) this.#link.give(to, { path }, handle)
    return sockets.length
  }

  #hear(): void {
    this.#link.on(
      {
        config: ({ config }) => this.#reload(config),
        topology: ({ topology }) => {
          this.#isTold = true
          this.#pools.setTopology(topology)
        },
        instances: ({ instances }) => this.#setInstances(instances),
        catalogue: ({ facts }) =>
          this.#statementsOf(facts.database).setCatalogue(catalogueOf(facts)),
        state: ({ state }) => this.#adopt(state),
        shutdown: ({ mode }) => this.#shutdown(mode),
        leave: () => this.#leave(),
        socket: ({ path }, _from, handle) => {
          if (handle !== null) this.#inherited.push({ handle, path })
        },
        gone: ({ station }) => this.#link.lost(station),
      },
      {
        hand_over: ({ to }) => Promise.resolve(this.#handOver(to)),
        facts: ({ detail }) => Promise.resolve(this.#facts(detail === 'all')),
        act: (act) => this.#act(act),
        cancel: async ({ processId, secret }) => {
          await this.#clients.cancel(processId, Buffer.from(secret))
          return null
        },
        writes_running: ({ withinMs }) => this.#pools.writesEnded(withinMs),
        topology: () => Promise.resolve(this.#pools.topology),
      },
    )
  }

  #setInstances(instances: Instances): void {
    const before = this.#config.pgbouncer.peerId
    this.#instances = instances
    this.#config = withInstances(this.#ownConfig, instances)
    if (before !== 0 && before !== this.#config.pgbouncer.peerId) this.#formerNumbers.add(before)
    this.#formerNumbers.delete(this.#config.pgbouncer.peerId)
    const oldest = this.#formerNumbers.values().next().value
    if (this.#formerNumbers.size > FORMER_MAX && oldest !== undefined)
      this.#formerNumbers.delete(oldest)
  }

  /** What the console had set before this worker was started. */
  #adopt(state: AdminState): void {
    if (state.isPaused) void this.#pools.pause()
    for (const database of state.pausedDatabases) void this.#pools.pause(database)
    for (const database of state.disabledDatabases) this.#pools.disable(database)
  }

  #statementsOf(database: string): Statements {
    const known = this.#statements.get(database)
    if (known !== undefined) return known
    const fresh = new Statements(this.#config.pgsteer.statementCacheMax)
    fresh.setCatalogue(EMPTY_CATALOGUE)
    this.#statements.set(database, fresh)
    return fresh
  }

  #onDatabaseUsed(database: string): void {
    if (this.#statements.has(database)) return
    this.#statementsOf(database)
    if (this.#config.cluster !== null) this.#link.tell('control', 'database_used', { database })
  }

  #loginContext(): LoginContext {
    return {
      config: this.#config,
      rules: this.#rules,
      clock,
      log: this.#log,
      tls: this.#clientTls,
      lookup: this.#lookup,
      deriver: this.#deriver,
      mockSeed: this.#mockSeed,
      isDisabled: (database) => this.#pools.isDisabled(database),
      isShuttingDown: () => this.#isDraining,
    }
  }

  async #connect(target: ServerTarget): Promise<OpenedServer> {
    const { identity } = target
    return logIn(
      {
        address: { host: identity.host, port: identity.port },
        database: identity.database,
        user: identity.user,
        secret: target.secret,
        startup: target.parameters,
        replication: target.replication === 'none' ? null : target.replication,
        tls: this.#serverTls,
        deadlineMs: target.deadlineMs,
      },
      { clock, deriver: this.#deriver, keepAliveMs: this.#keepAliveMs() },
    )
  }

  /** Rejects when the cancel connection did not end in time: the server must not be used then. */
  async #cancelServer(server: ServerConnection): Promise<void> {
    const { host, port } = server.identity
    const end = await sendCancel(
      {
        address: { host, port },
        processId: server.processId,
        secret: server.cancelSecret,
        tls: server.channel.tls === null ? null : this.#serverTls,
        deadlineMs: this.#config.pgbouncer.cancelWaitTimeoutMs,
      },
      { clock, keepAliveMs: 0 },
    )
    if (end === 'deadline') throw new ProxyError('server_connect_timeout')
  }

  async #passOn(peer: PeerConfig, { processId, secret }: CancelKey): Promise<void> {
    const { host, port } = peer
    const use = peerTlsUse(peer, this.#config)
    const end = await sendCancel(
      {
        address: { host, port },
        processId,
        secret,
        tls: use === 'plain' ? null : this.#peerTls,
        isTlsOptional: use === 'optional',
        deadlineMs: this.#config.pgbouncer.cancelWaitTimeoutMs,
      },
      { clock, keepAliveMs: 0 },
    )
    if (end === 'deadline') throw new ProxyError('server_connect_timeout')
  }

  #keepAliveMs(): number {
    const { tcpKeepalive, tcpKeepidleMs } = this.#config.pgbouncer
    return tcpKeepalive ? Math.max(tcpKeepidleMs, 1) : 0
  }

  #onConsole(arrival: SessionArrival): void {
    const { channel } = arrival
    const { session, key } = this.#clients.addConsole(
      (id) => this.#consoleSession(arrival, id),
      arrival.protocolMinor,
    )
    const frames = [authenticationOk()]
    for (const [name, value] of CONSOLE_PARAMETERS) frames.push(parameterStatus(name, value))
    frames.push(backendKeyData(key.processId, key.secret), READY_IDLE)
    channel.write(Buffer.concat(frames))
    channel.attach(session)
  }

  #consoleSession(
    { channel, consoleRole, startup, user }: SessionArrival,
    id: number,
  ): ConsoleSession {
    return new ConsoleSession({
      channel,
      role: consoleRole ?? 'stats',
      codes: this.#config.pgsteer.errorCodes,
      clock,
      execute: (sql, role) => this.#link.ask('control', 'execute', { sql, role }, 0),
      onClosed: () => this.#clients.removeConsole(id),
      identity: {
        id,
        user,
        address: channel.remoteAddress,
        port: channel.remotePort,
        localAddress: channel.localAddress,
        localPort: channel.localPort,
        connectedWallMs: clock.wallMs(),
        tls: tlsText(channel.tls),
        applicationName: startup.get('application_name') ?? '',
      },
    })
  }

  async #act(act: WorkerAct): Promise<boolean> {
    switch (act.verb) {
      case 'pause':
        await this.#pools.pause(act.database ?? undefined)
        return true
      case 'resume':
        this.#pools.resume(act.database ?? undefined)
        return true
      case 'reconnect':
        this.#pools.reconnect(act.database ?? undefined)
        return true
      case 'kill':
        this.#clients.killDatabase(act.database, new ProxyError('admin_disconnect'))
        this.#pools.kill(act.database ?? undefined)
        return true
      case 'wait_close':
        await this.#pools.waitClose(act.database ?? undefined)
        return true
      case 'disable':
        this.#pools.disable(act.database)
        return true
      case 'enable':
        this.#pools.enable(act.database)
        return true
      case 'kill_client':
        return this.#clients.kill(act.id)
    }
  }

  #reload(config: Config): void {
    try {
      const rules = authRules(config)
      this.#clientTls.reload(clientTlsSettings(config.pgbouncer))
      this.#serverTls.reload(serverTlsSettings(config.pgbouncer))
      this.#peerTls.reload(peerTlsSettings(config))
      this.#rules = rules
    } catch (error) {
      this.#log.error(`RELOAD: the worker keeps its configuration: ${reasonOf(error)}`)
      return
    }
    this.#ownConfig = config
    this.#setInstances(this.#instances)
    this.#lookup.replace({ userlist: config.userlist, query: this.#query })
    this.#pools.setConfig(config)
  }

  #facts(withLists: boolean): WorkerFacts {
    const clients = this.#clients.facts()
    const { pools, servers } = this.#pools.facts()
    return {
      worker: number,
      startedWallMs: this.#startedWallMs,
      version: VERSION,
      process: processFacts(),
      listeners: this.#listener?.addresses ?? [],
      counts: countClients(clients.clients),
      clients: withLists ? clients : { ...clients, clients: [] },
      pools,
      peers: this.#peers.facts(),
      servers: withLists ? servers : [],
      dns: knownNames(),
      topologyTerm: this.#pools.topology.term,
      topologySerial: this.#pools.topology.serial,
      isPaused: pools.some((pool) => pool.isPaused),
      isShuttingDown: this.#stopping !== null,
    }
  }

  #shutdown(mode: ShutdownMode): void {
    const isFirst = this.#stopping === null
    this.#stopping = mode
    if (mode === 'immediate' || !isFirst) {
      this.#exit(0)
      return
    }
    if (this.#isLeaving) {
      this.#endAfter(this.#config.pgsteer.shutdownTimeoutMs)
      return
    }
    const { shutdownNoticeMs } = this.#config.pgsteer
    if (shutdownNoticeMs === 0) this.#drain(mode)
    else clock.after(shutdownNoticeMs, () => this.#drain(mode))
  }

  /** Until here new clients are taken: whoever balances them is told first, by `/readyz`. */
  #drain(mode: ShutdownMode): void {
    this.#isDraining = true
    this.#listener?.close()
    this.#endAfter(this.#config.pgsteer.shutdownTimeoutMs)
    const isPatient = mode === 'wait_for_clients'
    const told = new ProxyError(isPatient ? 'shutting_down' : 'server_shutting_down')
    this.#clients
      .drain(told, isPatient ? 'patient' : 'forced')
      .then(() => this.#pools.shutdown(mode))
      .then(
        () => this.#exit(0),
        () => this.#exit(0),
      )
  }

  /** Its successor has its sockets: clients leave behind their next transaction. */
  #leave(): void {
    if (this.#isLeaving || this.#stopping !== null) return
    this.#isLeaving = true
    this.#listener?.leave()
    this.#pools.leave()
    this.#endAfter(this.#config.pgsteer.workerDrainMsMax)
    this.#log.info({ clients: this.#clients.count }, 'leaving')
    void this.#clients
      .drain(new ProxyError('server_shutting_down'), 'replaced')
      .then(() => this.#retire())
  }

  async #retire(): Promise<void> {
    // Without a control process the counts are lost, as they are when it ends.
    const facts = this.#facts(false)
    await this.#link.ask('control', 'retire', { facts }, RETIRE_MS).catch(() => null)
    this.#exit(0)
  }

  #endAfter(deadlineMs: number): void {
    clock.after(deadlineMs, () => {
      this.#log.warn({ clients: this.#clients.count }, 'drain deadline passed, ending what is left')
      if (this.#isLeaving) void this.#retire()
      else this.#exit(0)
    })
  }

  #exit(code: number): void {
    this.#listener?.close()
    this.#clients.destroy(new ProxyError('shutting_down'))
    void this.#pools.shutdown('immediate')
    // What was written to clients leaves in this turn; then nothing is left to wait for.
    setImmediate(() => process.exit(code))
  }
}

/** Signals go to the supervisor, which tells us; a terminal sends them to the whole group. */
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGQUIT'] as const)
  process.on(signal, () => {})
process.on('disconnect', () => process.exit(1))

const link = childLink(number)
link.on(
  {
    start: ({ config, mockSeed, instance, predecessor }) => {
      // The control process says more, but may be away: keys given out until then have the number.
      const worker = new Worker(link, config, mockSeed, { id: instance.id, all: [] })
      worker.start(predecessor).catch((error: unknown) => {
        processLog(config, `worker${number}`).fatal(reasonOf(error))
        process.exit(FATAL_EXIT)
      })
    },
  },
  {},
)
