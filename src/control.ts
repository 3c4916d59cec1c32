/**
 * The control process: learns who is primary and who lags, reads the functions of each database,
 * tells the workers, and serves HTTP. Workers go on without it. What the console and HTTP ask for is
 * carried out in actions.ts.
 */
import { readFileSync } from 'node:fs'
import { ControlActions, type Known, slotsOf, workersOf } from './actions.ts'
import { averageOfAll, statsLine } from './admin/averages.ts'
import { runCommand } from './admin/commands.ts'
import type { AdminState } from './admin/facts.ts'
import { systemClock, type Timer } from './base/clock.ts'
import { reasonOf } from './base/errors.ts'
import type { Log } from './base/log.ts'
import { Catalogues } from './catalogues.ts'
import { type DirectTls, probeAccess } from './cluster/direct.ts'
import { EMPTY_TOPOLOGY, type Topology } from './cluster/topology.ts'
import { Watcher } from './cluster/watcher.ts'
import type { Config } from './config/config.ts'
import { createApp } from './http/app.ts'
import { type InstanceIdentity, InstanceKeeper } from './instances.ts'
import { type Crew, childLink, type Link, type Station, type Tellings } from './link.ts'
import { namedSocket } from './net/dial.ts'
import { FATAL_EXIT, processLog } from './program.ts'
import { FACTS_MS, Reports } from './reports.ts'
import { Tenure } from './tenure.ts'

const clock = systemClock
/** How long members are asked faster after a server was lost. */
const SUSPICION_MS = 1000

/** What is known from the control process before this one. */
interface Before {
  /** What it told the workers. */
  readonly previous: Topology | null
  /** What the console had set. */
  readonly state: AdminState | null
  readonly instance: InstanceIdentity
  readonly crew: Crew
}

class Control {
  readonly #known: Known
  /** As it was read at the start or the last RELOAD. */
  #probeTls: Omit<DirectTls, 'mode'>
  readonly #log: Log
  readonly #link: Link
  readonly #watcher: Watcher | null
  readonly #catalogues: Catalogues | null
  readonly #instances: InstanceKeeper
  readonly #reports: Reports
  readonly #tenure: Tenure
  readonly #actions: ControlActions
  readonly #busyWorkers = new Set<number>()
  #suspicion: Timer | null = null
  #http: ReturnType<typeof createApp> | null = null

  constructor(link: Link, config: Config, { previous, state, instance, crew }: Before) {
    this.#known = { config, topology: previous ?? EMPTY_TOPOLOGY, crew }
    this.#link = link
    this.#probeTls = probeTls(config)
    this.#log = processLog(config, 'control')
    this.#reports = new Reports(link, clock)
    this.#tenure = new Tenure(clock, this.#known.topology)
    this.#watcher = this.#makeWatcher(previous)
    this.#catalogues = this.#makeCatalogues()
    this.#instances = new InstanceKeeper(config, {
      clock,
      log: this.#log,
      identity: instance,
      publish: (instances) => {
        link.tell('main', 'registered', { id: instances.id })
        this.#tellWorkers('instances', { instances })
      },
    })
    this.#actions = new ControlActions({
      known: this.#known,
      state,
      link,
      reports: this.#reports,
      tenure: this.#tenure,
      instances: this.#instances,
      watcher: this.#watcher,
      catalogues: this.#catalogues,
      clock,
      log: this.#log,
    })
  }

  async start(): Promise<void> {
    this.#hear()
    clock.every(this.#known.config.pgbouncer.statsPeriodMs, () => void this.#turnStats())
    await this.#watcher?.start()
    this.#catalogues?.start()
    this.#instances.start()
    await this.#listen()
    this.#link.tell('main', 'started', { station: 'control' })
    for (const worker of workersOf(this.#known)) this.#greet(worker)
  }

  /** Port 0 turns HTTP off. */
  async #listen(): Promise<void> {
    const { httpAddr: host, httpPort: port } = this.#known.config.pgsteer
    if (port === 0) return
    this.#http = createApp({ actions: this.#actions, clock, log: this.#log })
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
          this.#known.crew = crew
        },
        database_used: ({ database }) => this.#catalogues?.use(database),
      },
      {
        retire: ({ facts }) => {
          this.#reports.retire(facts)
          return Promise.resolve(null)
        },
        find_peer: ({ id }) => this.#instances.find(id),
        execute: ({ sql, role }) =>
          runCommand(sql, role, this.#actions, this.#known.config.pgsteer.errorCodes),
      },
    )
  }

  #makeWatcher(previous: Topology | null): Watcher | null {
    const { cluster, pgsteer } = this.#known.config
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

  #makeCatalogues(): Catalogues | null {
    const { cluster } = this.#known.config
    const watcher = this.#watcher
    if (cluster === null || watcher === null) return null
    return new Catalogues({
      access: () => probeAccess(this.#known.config.cluster ?? cluster, this.#probeTls, namedSocket),
      addresses: () => watcher.addresses(),
      publish: (facts) => this.#tellWorkers('catalogue', { facts }),
      clock,
      log: this.#log,
    })
  }

  /** A worker that was just started is told everything. */
  #greet(worker: number): void {
    this.#reports.replaced(worker)
    this.#link.tell(worker, 'state', { state: this.#actions.state() })
    this.#link.tell(worker, 'topology', { topology: this.#known.topology })
    this.#link.tell(worker, 'instances', { instances: this.#instances.current })
    for (const facts of this.#catalogues?.all() ?? [])
      this.#link.tell(worker, 'catalogue', { facts })
  }

  #publish(topology: Topology): void {
    this.#tenure.note(topology)
    this.#known.topology = topology
    this.#tellWorkers('topology', { topology })
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
    this.#known.config = config
    this.#instances.reload(config)
    if (config.cluster !== null)
      this.#watcher?.reload(config.cluster, {
        limits: config.pgsteer,
        planned: config.pgsteer,
        probeTls: this.#probeTls,
      })
  }

  #tellWorkers<K extends keyof Tellings>(name: K, body: Tellings[K]): void {
    for (const worker of workersOf(this.#known)) this.#link.tell(worker, name, body)
  }

  async #turnStats(): Promise<void> {
    const { window } = this.#reports
    const facts = await this.#reports.ask(workersOf(this.#known), 'counts')
    const merged = this.#reports.merge(facts, slotsOf(this.#known))
    window.turn(merged.clients.stats)
    if (!this.#known.config.pgbouncer.logStats) return
    this.#log.info(statsLine(averageOfAll(window.averages(merged.clients.stats))))
  }

  async stop(): Promise<void> {
    await this.#http?.close()
    this.#catalogues?.stop()
    await this.#instances.stop()
    await this.#watcher?.stop()
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
