/**
 * The control process: learns who is primary and who lags, reads the functions of each database,
 * serves HTTP, and runs what the console asks for over all workers. Workers go on without it.
 */
import { readFileSync } from 'node:fs'
import { averageOfAll, statsLine } from './admin/averages.ts'
import { type Actions, type DrainOutcome, runCommand } from './admin/commands.ts'
import {
  type AdminState,
  type ClusterFacts,
  type FactsDetail,
  processFacts,
  type ShutdownMode,
  type Snapshot,
} from './admin/facts.ts'
import { localId } from './admin/merge.ts'
import type { RouteExplanation } from './admin/views/cluster.ts'
import { systemClock, type Timer, wait } from './base/clock.ts'
import { reasonOf } from './base/errors.ts'
import type { Log } from './base/log.ts'
import { workerSlots } from './client/cancel.ts'
import { type DirectTls, probeAccess } from './cluster/direct.ts'
import { FunctionReader } from './cluster/functions.ts'
import { EMPTY_TOPOLOGY, type Topology } from './cluster/topology.ts'
import { Watcher } from './cluster/watcher.ts'
import { type Config, databaseOf } from './config/config.ts'
import { createApp } from './http/app.ts'
import { type InstanceIdentity, InstanceKeeper } from './instances.ts'
import {
  type Crew,
  childLink,
  type Link,
  type Station,
  type Tellings,
  type WorkerAct,
} from './link.ts'
import { namedSocket } from './net/dial.ts'
import { FATAL_EXIT, processLog } from './program.ts'
import { FACTS_MS, Reports } from './reports.ts'
import {
  CATALOGUE_QUERY,
  type CatalogueFacts,
  catalogueOf,
  EMPTY_CATALOGUE,
  factsOf,
} from './routing/catalogue.ts'
import { explainRoute } from './routing/explain.ts'
import { Tenure } from './tenure.ts'
import { VERSION } from './version.ts'

const clock = systemClock
/** How long members are asked faster after a server was lost. */
const SUSPICION_MS = 1000
/** EXPLAIN ROUTE waits so long for the functions of a database that was not used before. */
const CATALOGUE_MS = 2000
const LOOK_MS = 20
/** A worker that is asked to wait for its writes answers so much later at most. */
const DRAIN_SLACK_MS = 500
/** A function that becomes VOLATILE is treated as proved for at most so long. */
const FUNCTIONS_REFRESH_MS = 30_000

/** What is known from the control process before this one. */
interface Before {
  /** What it told the workers. */
  readonly previous: Topology | null
  /** What the console had set. */
  readonly state: AdminState | null
  readonly instance: InstanceIdentity
  readonly crew: Crew
}

class Control implements Actions {
  #config: Config
  /** As it was read at the start or the last RELOAD. */
  #probeTls: Omit<DirectTls, 'mode'>
  readonly #log: Log
  readonly #link: Link
  #topology: Topology
  readonly #watcher: Watcher | null
  readonly #functions: FunctionReader | null
  readonly #instances: InstanceKeeper
  readonly #catalogues = new Map<string, CatalogueFacts>()
  readonly #databases = new Set<string>()
  readonly #busyWorkers = new Set<number>()
  readonly #reports: Reports
  readonly #tenure: Tenure
  readonly #startedWallMs = clock.wallMs()
  #state: AdminState
  /** The workers that there are. */
  #crew: Crew
  #suspicion: Timer | null = null
  #serial = 0
  #http: ReturnType<typeof createApp> | null = null

  constructor(link: Link, config: Config, { previous, state, instance, crew }: Before) {
    this.#crew = crew
    this.#link = link
    this.#config = config
    this.#probeTls = probeTls(config)
    this.#log = processLog(config, 'control')
    this.#state = state ?? {
      isPaused: false,
      shutdown: null,
      pausedDatabases: [],
      disabledDatabases: [],
      reloads: 0,
      reloadsFailed: 0,
      reloadedWallMs: clock.wallMs(),
    }
    this.#topology = previous ?? EMPTY_TOPOLOGY
    this.#reports = new Reports(link, clock)
    this.#tenure = new Tenure(clock, this.#topology)
    this.#watcher = this.#makeWatcher(previous)
    this.#functions = this.#makeFunctionReader()
    this.#instances = new InstanceKeeper(config, {
      clock,
      log: this.#log,
      identity: instance,
      publish: (instances) => {
        link.tell('main', 'registered', { id: instances.id })
        for (const worker of this.#workers()) link.tell(worker, 'instances', { instances })
      },
    })
  }

  async start(): Promise<void> {
    this.#hear()
    clock.every(this.#config.pgbouncer.statsPeriodMs, () => void this.#turnStats())
    await this.#watcher?.start()
    this.#functions?.start()
    this.#instances.start()
    await this.#listen()
    this.#link.tell('main', 'started', { station: 'control' })
    for (const worker of this.#workers()) this.#greet(worker)
  }

  /** Port 0 turns HTTP off. */
  async #listen(): Promise<void> {
    const { httpAddr: host, httpPort: port } = this.#config.pgsteer
    if (port === 0) return
    this.#http = createApp({ actions: this, clock, log: this.#log })
    await this.#http.listen({ host, port })
    this.#log.info({ host, port }, 'HTTP is listening')
  }

  #hear(): void {
    this.#link.on(
      {
        hello: ({ worker }) => this.#greet(worker),
        config: ({ config }) => this.#onConfig(config),
        busy: ({ worker, busy }) => this.#onBusy(worker, busy),
        suspect: () => this.#suspect(),
        gone: ({ station }) => this.#onGone(station),
        crew: (crew) => {
          this.#crew = crew
        },
        database_used: ({ database }) => this.#onDatabaseUsed(database),
      },
      {
        retire: ({ facts }) => {
          this.#reports.retire(facts)
          return Promise.resolve(null)
        },
        find_peer: ({ id }) => this.#instances.find(id),
        execute: ({ sql, role }) => runCommand(sql, role, this, this.#config.pgsteer.errorCodes),
      },
    )
  }

  #makeWatcher(previous: Topology | null): Watcher | null {
    const { cluster, pgsteer } = this.#config
    if (cluster === null) return null
    return new Watcher({
      cluster,
      limits: pgsteer,
      planned: pgsteer,
      memberAddress: pgsteer.memberAddress,
      probeTls: this.#probeTls,
      socket: namedSocket,
      ...(previous === null ? {} : { previous }),
      clock,
      log: this.#log,
      publish: (topology) => this.#publish(topology),
    })
  }

  #makeFunctionReader(): FunctionReader | null {
    const { cluster } = this.#config
    const watcher = this.#watcher
    if (cluster === null || watcher === null) return null
    return new FunctionReader({
      access: () => probeAccess(this.#config.cluster ?? cluster, this.#probeTls, namedSocket),
      clock,
      log: this.#log,
      query: CATALOGUE_QUERY,
      refreshMs: FUNCTIONS_REFRESH_MS,
      addresses: () => watcher.addresses(),
      publish: (database, rows) => this.#onFunctions(database, rows),
    })
  }

  /** A worker that was just started is told everything. */
  #greet(worker: number): void {
    this.#reports.replaced(worker)
    this.#link.tell(worker, 'state', { state: this.#state })
    this.#link.tell(worker, 'topology', { topology: this.#topology })
    this.#link.tell(worker, 'instances', { instances: this.#instances.current })
    for (const facts of this.#catalogues.values()) this.#link.tell(worker, 'catalogue', { facts })
  }

  #publish(topology: Topology): void {
    this.#tenure.note(topology)
    this.#topology = topology
    this.#tellWorkers('topology', { topology })
  }

  #onFunctions(database: string, rows: readonly Readonly<Record<string, unknown>>[]): void {
    this.#serial += 1
    const facts = factsOf(database, this.#serial, rows.map(catalogueRow))
    this.#catalogues.set(database, facts)
    this.#tellWorkers('catalogue', { facts })
  }

  #onDatabaseUsed(database: string): void {
    this.#databases.add(database)
    this.#functions?.setDatabases([...this.#databases])
  }

  #onGone(station: Station): void {
    this.#link.lost(station)
    if (typeof station === 'number' && this.#busyWorkers.delete(station)) this.#setPace()
  }

  #onBusy(worker: number, busy: boolean): void {
    if (busy) this.#busyWorkers.add(worker)
    else this.#busyWorkers.delete(worker)
    this.#setPace()
  }

  /** A lost server is often the first sign of a failover: members are asked faster for a while. */
  #suspect(): void {
    const wasQuiet = this.#suspicion === null
    this.#suspicion?.cancel()
    this.#suspicion = clock.after(SUSPICION_MS, () => {
      this.#suspicion = null
      this.#setPace()
    })
    if (wasQuiet) this.#setPace()
  }

  #setPace(): void {
    this.#watcher?.setBusy(this.#busyWorkers.size > 0 || this.#suspicion !== null)
  }

  #onConfig(config: Config): void {
    try {
      this.#probeTls = probeTls(config)
    } catch (error) {
      this.#log.error(`RELOAD: the control process keeps its configuration: ${reasonOf(error)}`)
      return
    }
    this.#config = config
    this.#instances.reload(config)
    if (config.cluster !== null)
      this.#watcher?.reload(config.cluster, {
        limits: config.pgsteer,
        planned: config.pgsteer,
        probeTls: this.#probeTls,
      })
  }

  #tellWorkers(name: 'topology', body: { topology: Topology }): void
  #tellWorkers(name: 'catalogue', body: { facts: CatalogueFacts }): void
  #tellWorkers(name: 'topology' | 'catalogue', body: never): void {
    for (const worker of this.#workers()) this.#link.tell(worker, name, body)
  }

  #workers(): number[] {
    return [...this.#crew.places.keys()]
  }

  /** Numbers that workers may have. */
  get #slots(): number {
    return workerSlots(this.#config.pgsteer.workers)
  }

  async #everyWorker(act: WorkerAct): Promise<boolean> {
    const answers = await Promise.all(
      this.#workers().map((worker) => this.#link.ask(worker, 'act', act, 0)),
    )
    return answers.some(Boolean)
  }

  async #turnStats(): Promise<void> {
    const { window } = this.#reports
    const facts = await this.#reports.ask(this.#workers(), 'counts')
    const merged = this.#reports.merge(facts, this.#slots)
    window.turn(merged.clients.stats)
    if (!this.#config.pgbouncer.logStats) return
    this.#log.info(statsLine(averageOfAll(window.averages(merged.clients.stats))))
  }

  // What the console and HTTP do.

  async snapshot(detail: FactsDetail): Promise<Snapshot> {
    const workers = await this.#reports.ask(this.#workers(), detail)
    const facts = this.#reports.merge(workers, this.#slots)
    return {
      version: VERSION,
      wallMs: clock.wallMs(),
      nowMs: clock.nowMs(),
      startedWallMs: this.#startedWallMs,
      config: this.#config,
      topology: this.#topology,
      cluster: this.#clusterFacts(),
      instances: this.#instances.current,
      state: this.#state,
      facts,
      workersWanted: this.#config.pgsteer.workers,
      places: this.#crew.places,
      roll: this.#crew.roll,
      averages: this.#reports.window.averages(facts.clients.stats),
      control: processFacts(),
      dns: [],
    }
  }

  config(): Config {
    return this.#config
  }

  state(): AdminState {
    return this.#state
  }

  async reload(): Promise<readonly string[]> {
    try {
      const notes = await this.#link.ask('main', 'reload', null, 0)
      this.#set({ reloads: this.#state.reloads + 1, reloadedWallMs: clock.wallMs() })
      return notes
    } catch (error) {
      this.#set({ reloadsFailed: this.#state.reloadsFailed + 1 })
      this.#log.error(`RELOAD failed, the running configuration stays: ${reasonOf(error)}`)
      throw error
    }
  }

  upgrade(): Promise<readonly string[]> {
    return this.#link.ask('main', 'upgrade', null, 0)
  }

  async restartWorkers(): Promise<void> {
    await this.#link.ask('main', 'restart_workers', null, 0)
  }

  async pause(database: string | null): Promise<void> {
    if (database === null) this.#set({ isPaused: true })
    else this.#set({ pausedDatabases: [...this.#state.pausedDatabases, database] })
    await this.#everyWorker({ verb: 'pause', database })
  }

  async resume(database: string | null): Promise<void> {
    const pausedDatabases =
      database === null ? [] : this.#state.pausedDatabases.filter((name) => name !== database)
    this.#set({ isPaused: database === null ? false : this.#state.isPaused, pausedDatabases })
    await this.#everyWorker({ verb: 'resume', database })
  }

  async disable(database: string): Promise<void> {
    this.#set({ disabledDatabases: [...this.#state.disabledDatabases, database] })
    await this.#everyWorker({ verb: 'disable', database })
  }

  async enable(database: string): Promise<void> {
    const disabledDatabases = this.#state.disabledDatabases.filter((name) => name !== database)
    this.#set({ disabledDatabases })
    await this.#everyWorker({ verb: 'enable', database })
  }

  async reconnect(database: string | null): Promise<void> {
    if (database === null) this.#watcher?.forget()
    await this.#everyWorker({ verb: 'reconnect', database })
  }

  async kill(database: string | null): Promise<void> {
    if (database === null) this.#set({ isPaused: true })
    else this.#set({ pausedDatabases: [...this.#state.pausedDatabases, database] })
    await this.#everyWorker({ verb: 'kill', database })
  }

  killClient(id: number): Promise<boolean> {
    const { worker, id: local } = localId(id, this.#slots)
    return this.#link.ask(worker, 'act', { verb: 'kill_client', id: local }, FACTS_MS)
  }

  async waitClose(database: string | null): Promise<void> {
    await this.#everyWorker({ verb: 'wait_close', database })
  }

  async drain(member: string | null): Promise<DrainOutcome> {
    const startedMs = clock.nowMs()
    const untilMs = startedMs + this.#config.pgsteer.switchoverDrainMsMax
    let answer = this.#watcher?.drain(member) ?? 'elsewhere'
    while (answer === 'starting' && clock.nowMs() < untilMs) {
      await wait(clock, LOOK_MS)
      answer = this.#watcher?.drain(member) ?? 'elsewhere'
    }
    if (answer !== 'holds') return { holds: false, writes: 0, waitedMs: 0 }
    const writes = await this.#writesEnded(untilMs)
    const waitedMs = Math.round(clock.nowMs() - startedMs)
    this.#log.info({ member, writes, waitedMs }, 'drained for a planned stop of the primary')
    return { holds: true, writes, waitedMs }
  }

  /** What still runs on the primary at `untilMs`; a worker that does not say counts as one write. */
  async #writesEnded(untilMs: number): Promise<number> {
    const withinMs = Math.max(0, untilMs - clock.nowMs())
    const answers = this.#workers().map((worker) =>
      this.#link
        .ask(worker, 'writes_running', { withinMs }, withinMs + DRAIN_SLACK_MS)
        .catch(() => 1),
    )
    return (await Promise.all(answers)).reduce((sum, one) => sum + one, 0)
  }

  async shutdown(mode: ShutdownMode): Promise<void> {
    this.#set({ shutdown: mode })
    await this.#link.ask('main', 'stop', { mode }, 0)
  }

  async set(key: string, value: string): Promise<void> {
    await this.#link.ask('main', 'set', { key, value }, 0)
  }

  async explainRoute(sql: string, database: string | null): Promise<readonly RouteExplanation[]> {
    const { cluster, pgsteer } = this.#config
    if (cluster === null) return [NOT_ROUTED]
    const entry = database === null ? undefined : databaseOf(this.#config, database)
    if (entry !== undefined && entry.hosts.length > 0) return [NOT_ROUTED]
    const facts = await this.#catalogueOf(entry?.dbname ?? database ?? cluster.probeDatabase)
    const catalogue = facts === undefined ? EMPTY_CATALOGUE : catalogueOf(facts)
    return explainRoute(sql, { catalogue, topology: this.#topology, pgsteer })
  }

  /** The functions of a database, read now if nobody has used it yet; undefined if that fails. */
  async #catalogueOf(database: string): Promise<CatalogueFacts | undefined> {
    this.#onDatabaseUsed(database)
    const untilMs = clock.nowMs() + CATALOGUE_MS
    while (!this.#catalogues.has(database) && clock.nowMs() < untilMs) await wait(clock, LOOK_MS)
    return this.#catalogues.get(database)
  }

  #set(change: Partial<AdminState>): void {
    this.#state = { ...this.#state, ...change }
    this.#link.tell('main', 'state', { state: this.#state })
  }

  #clusterFacts(): ClusterFacts {
    const facts = this.#watcher?.facts()
    let probesFailed = 0
    for (const failures of facts?.probeFailures.values() ?? []) probesFailed += failures
    return {
      source: facts?.source ?? null,
      sourceState: facts?.sourceAnswers === true ? 'connected' : 'lost',
      sourceError: facts?.sourceTrouble ?? '',
      failoverState: facts?.state ?? null,
      failovers: facts?.failovers ?? 0,
      primarySinceWallMs: this.#tenure.sinceWallMs,
      withoutPrimaryMs: this.#watcher === null ? 0 : this.#tenure.withoutMs,
      probesFailed,
    }
  }

  async stop(): Promise<void> {
    await this.#http?.close()
    this.#functions?.stop()
    await this.#instances.stop()
    await this.#watcher?.stop()
  }
}

const NOT_ROUTED: RouteExplanation = {
  route: 'any',
  reason: 'not_routed',
  members: [],
  detail: 'The database entry names its host: every statement goes there.',
}

function catalogueRow(row: Readonly<Record<string, unknown>>) {
  return {
    name: String(row['name']),
    is_volatile: row['is_volatile'] === true,
    is_user: row['is_user'] === true,
  }
}

/**
 * What probes show and trust under `probe_tls_sslmode`: the files of server_tls.
 *
 * Errors  Error of the file that cannot be read.
 */
function probeTls({ pgbouncer, cluster }: Config): Omit<DirectTls, 'mode'> {
  if (cluster === null || cluster.probeTlsSslmode === 'disable') return {}
  const { serverTlsCaFile: ca, serverTlsCertFile: cert, serverTlsKeyFile: key } = pgbouncer
  return {
    ...(ca === null || ca === '' ? {} : { ca: readFileSync(ca) }),
    ...(cert === null || cert === '' ? {} : { cert: readFileSync(cert) }),
    ...(key === null || key === '' ? {} : { key: readFileSync(key) }),
  }
}

/** The newest Topology that a worker has, or null when none answers. */
async function toldBefore({ places }: Crew): Promise<Topology | null> {
  const asked = [...places.keys()].map((worker) =>
    link.ask(worker, 'topology', null, FACTS_MS).catch(() => null),
  )
  const told = (await Promise.all(asked)).filter((topology) => topology !== null)
  return told.toSorted((one, other) => other.serial - one.serial)[0] ?? null
}

async function run({ config, isRestart, state, instance, crew }: Tellings['start']): Promise<void> {
  const previous = isRestart ? await toldBefore(crew) : null
  const control = new Control(link, config, { previous, state, instance, crew })
  process.on('SIGTERM', () => {
    void control.stop().finally(() => process.exit(0))
  })
  await control.start()
}

/** Signals go to the supervisor; it ends this process by SIGTERM, last of all. */
for (const signal of ['SIGINT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGQUIT'] as const)
  process.on(signal, () => {})
process.on('disconnect', () => process.exit(1))

const link = childLink('control')
link.on(
  {
    start: (start) => {
      run(start).catch((error: unknown) => {
        processLog(start.config, 'control').fatal(reasonOf(error))
        process.exit(FATAL_EXIT)
      })
    },
  },
  {},
)
