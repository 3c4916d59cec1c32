/**
 * What the console and HTTP ask for, over all workers: the facts of all of them as one snapshot, and
 * commands, which every worker carries out. What the console has set is kept here, and told to the
 * supervisor for the control process after this one. Nothing here happens unasked (control.ts).
 */
import type { Actions, DrainOutcome } from './admin/commands.ts'
import {
  type AdminState,
  type ClusterFacts,
  type FactsDetail,
  processFacts,
  type Snapshot,
} from './admin/facts.ts'
import { localId, mergeNames } from './admin/merge.ts'
import type { RouteExplanation } from './admin/views/cluster.ts'
import { type Clock, wait } from './base/clock.ts'
import { reasonOf } from './base/errors.ts'
import type { Log } from './base/log.ts'
import type { Catalogues } from './catalogues.ts'
import { workerSlots } from './client/cancel.ts'
import type { Topology } from './cluster/topology.ts'
import type { Watcher } from './cluster/watcher.ts'
import { type Config, databaseOf } from './config/config.ts'
import type { InstanceKeeper } from './instances.ts'
import type { Crew, Link, WorkerAct } from './link.ts'
import { knownNames } from './net/dial.ts'
import { FACTS_MS, type Reports } from './reports.ts'
import { catalogueOf, EMPTY_CATALOGUE } from './routing/catalogue.ts'
import { explainRoute } from './routing/explain.ts'
import type { ShutdownMode } from './server/pools.ts'
import type { Tenure } from './tenure.ts'
import { VERSION } from './version.ts'

/** What the control process was told last. */
export interface Known {
  config: Config
  topology: Topology
  crew: Crew
}

export interface ControlActionsDeps {
  readonly known: Known
  /** What the console had set before; null: nothing yet. */
  readonly state: AdminState | null
  readonly link: Link
  readonly reports: Reports
  readonly tenure: Tenure
  readonly instances: InstanceKeeper
  /** Null, and the catalogues too: there is no cluster, nothing is routed. */
  readonly watcher: Watcher | null
  readonly catalogues: Catalogues | null
  readonly clock: Clock
  readonly log: Log
}

const LOOK_MS = 20
/** A worker that is asked to wait for its writes answers so much later at most. */
const DRAIN_SLACK_MS = 500

export class ControlActions implements Actions {
  readonly #deps: ControlActionsDeps
  readonly #known: Known
  readonly #link: Link
  readonly #clock: Clock
  readonly #startedWallMs: number
  #state: AdminState

  constructor(deps: ControlActionsDeps) {
    this.#deps = deps
    this.#known = deps.known
    this.#link = deps.link
    this.#clock = deps.clock
    this.#startedWallMs = deps.clock.wallMs()
    this.#state = deps.state ?? {
      isPaused: false,
      shutdown: null,
      pausedDatabases: [],
      disabledDatabases: [],
      reloads: 0,
      reloadsFailed: 0,
      reloadedWallMs: deps.clock.wallMs(),
    }
  }

  async snapshot(detail: FactsDetail): Promise<Snapshot> {
    const { reports, instances } = this.#deps
    const workers = await reports.ask(workersOf(this.#known), detail)
    const facts = reports.merge(workers, slotsOf(this.#known))
    return {
      version: VERSION,
      wallMs: this.#clock.wallMs(),
      nowMs: this.#clock.nowMs(),
      startedWallMs: this.#startedWallMs,
      config: this.#known.config,
      topology: this.#known.topology,
      cluster: this.#clusterFacts(),
      instances: instances.current,
      state: this.#state,
      facts,
      workersWanted: this.#known.config.pgsteer.workers,
      places: this.#known.crew.places,
      roll: this.#known.crew.roll,
      averages: reports.window.averages(facts.clients.stats),
      control: processFacts(),
      dns: mergeNames([...knownNames(), ...workers.flatMap(({ dns }) => dns)]),
    }
  }

  config(): Config {
    return this.#known.config
  }

  state(): AdminState {
    return this.#state
  }

  async reload(): Promise<readonly string[]> {
    try {
      const notes = await this.#link.ask('main', 'reload', null, 0)
      this.#set({ reloads: this.#state.reloads + 1, reloadedWallMs: this.#clock.wallMs() })
      return notes
    } catch (error) {
      this.#set({ reloadsFailed: this.#state.reloadsFailed + 1 })
      this.#deps.log.error(`RELOAD failed, the running configuration stays: ${reasonOf(error)}`)
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
    this.#notePaused(database)
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
    if (database === null) this.#deps.watcher?.forget()
    await this.#everyWorker({ verb: 'reconnect', database })
  }

  async kill(database: string | null): Promise<void> {
    this.#notePaused(database)
    await this.#everyWorker({ verb: 'kill', database })
  }

  killClient(id: number): Promise<boolean> {
    const { worker, id: local } = localId(id, slotsOf(this.#known))
    return this.#link.ask(worker, 'act', { verb: 'kill_client', id: local }, FACTS_MS)
  }

  async waitClose(database: string | null): Promise<void> {
    await this.#everyWorker({ verb: 'wait_close', database })
  }

  async drain(member: string | null): Promise<DrainOutcome> {
    const startedMs = this.#clock.nowMs()
    const untilMs = startedMs + this.#known.config.pgsteer.switchoverDrainMsMax
    let answer = this.#deps.watcher?.drain(member) ?? 'elsewhere'
    while (answer === 'starting' && this.#clock.nowMs() < untilMs) {
      await wait(this.#clock, LOOK_MS)
      answer = this.#deps.watcher?.drain(member) ?? 'elsewhere'
    }
    if (answer !== 'holds') return { holds: false, writes: 0, waitedMs: 0 }
    const writes = await this.#writesEnded(untilMs)
    const waitedMs = Math.round(this.#clock.nowMs() - startedMs)
    this.#deps.log.info({ member, writes, waitedMs }, 'drained for a planned stop of the primary')
    return { holds: true, writes, waitedMs }
  }

  async shutdown(mode: ShutdownMode): Promise<void> {
    this.#set({ shutdown: mode })
    await this.#link.ask('main', 'stop', { mode }, 0)
  }

  async set(key: string, value: string): Promise<void> {
    await this.#link.ask('main', 'set', { key, value }, 0)
  }

  async explainRoute(sql: string, database: string | null): Promise<readonly RouteExplanation[]> {
    const { cluster, pgsteer } = this.#known.config
    if (cluster === null) return [NOT_ROUTED]
    const entry = database === null ? undefined : databaseOf(this.#known.config, database)
    if (entry !== undefined && entry.hosts.length > 0) return [NOT_ROUTED]
    const facts = await this.#deps.catalogues?.of(
      entry?.dbname ?? database ?? cluster.probeDatabase,
    )
    const catalogue = facts === undefined ? EMPTY_CATALOGUE : catalogueOf(facts)
    return explainRoute(sql, { catalogue, topology: this.#known.topology, pgsteer })
  }

  #notePaused(database: string | null): void {
    if (database === null) this.#set({ isPaused: true })
    else this.#set({ pausedDatabases: [...this.#state.pausedDatabases, database] })
  }

  #set(change: Partial<AdminState>): void {
    this.#state = { ...this.#state, ...change }
    this.#link.tell('main', 'state', { state: this.#state })
  }

  /** What still runs on the primary at `untilMs`; a worker that does not say counts as one write. */
  async #writesEnded(untilMs: number): Promise<number> {
    const withinMs = Math.max(0, untilMs - this.#clock.nowMs())
    const answers = workersOf(this.#known).map((worker) =>
      this.#link
        .ask(worker, 'writes_running', { withinMs }, withinMs + DRAIN_SLACK_MS)
        .catch(() => 1),
    )
    return (await Promise.all(answers)).reduce((sum, one) => sum + one, 0)
  }

  #clusterFacts(): ClusterFacts {
    const facts = this.#deps.watcher?.facts()
    let probesFailed = 0
    for (const failures of facts?.probeFailures.values() ?? []) probesFailed += failures
    return {
      source: facts?.source ?? null,
      sourceState: facts?.sourceAnswers === true ? 'connected' : 'lost',
      sourceError: facts?.sourceTrouble ?? '',
      failoverState: facts?.state ?? null,
      failovers: facts?.failovers ?? 0,
      primarySinceWallMs: this.#deps.tenure.sinceWallMs,
      withoutPrimaryMs: this.#deps.watcher === null ? 0 : this.#deps.tenure.withoutMs,
      probesFailed,
    }
  }

  /** Answered when all of them have done it. */
  async #everyWorker(act: WorkerAct): Promise<void> {
    const workers = workersOf(this.#known)
    await Promise.all(workers.map((worker) => this.#link.ask(worker, 'act', act, 0)))
  }
}

const NOT_ROUTED: RouteExplanation = {
  route: 'any',
  reason: 'not_routed',
  members: [],
  detail: 'The database entry names its host: every statement goes there.',
}

/** The numbers of the workers that there are. */
export function workersOf({ crew }: Known): number[] {
  return [...crew.places.keys()]
}

/** Numbers that workers may have. */
export function slotsOf({ config }: Known): number {
  return workerSlots(config.pgsteer.workers)
}
