/**
 * The supervisor. It reads the configuration, starts one control process and the workers, starts
 * again what dies, replaces the workers one after the other when it is asked to, carries messages
 * between them and handles signals. It serves nobody itself, so that nothing a client or server sends
 * can end it.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import { extname } from 'node:path'
import type { AdminState, WorkerPlace } from './admin/facts.ts'
import { type Clock, systemClock } from './base/clock.ts'
import { reasonOf } from './base/errors.ts'
import type { Log } from './base/log.ts'
import { changeSetting, compareConfigs, mergeConfigs } from './config/changes.ts'
import type { Config } from './config/config.ts'
import type { InstanceIdentity } from './instances.ts'
import { type Crew, type Envelope, goneAnswer, isEnvelope, Link, type Station } from './link.ts'
import { isSocketHandle, type SocketHandle } from './net/listener.ts'
import { FATAL_EXIT, loadUsable } from './program.ts'
import { mayFollow, Roll } from './roll.ts'
import type { ShutdownMode } from './server/pools.ts'
import { installedVersion, VERSION } from './version.ts'

export interface MainOptions {
  readonly config: Config
  readonly warnings: readonly string[]
  readonly log: Log
  readonly env: NodeJS.ProcessEnv
}

interface Child {
  readonly station: Exclude<Station, 'main'>
  process: ChildProcess | null
  /** Ends in a row without having lived long. */
  failures: number
  startedMs: number
  starts: number
  place: WorkerPlace
  /** A successor: settles when it serves or is gone. */
  arrival: PromiseWithResolvers<void> | null
  /** It has a successor that serves or will; what ends then is not started again. */
  hasSuccessor: boolean
  /** One that leaves: resolves when it is gone. */
  end: PromiseWithResolvers<void> | null
}

/** A child that lived for less than this is started again ever more slowly. */
const SHORT_LIFE_MS = 10_000
const RESTART_MS_MIN = 100
const RESTART_MS_MAX = 5000
/** After the drain deadline the children get this long before they are killed. */
const KILL_AFTER_MS = 3000
/** A successor serves within this time, or is none. */
const ARRIVAL_MS_MAX = 60_000

export class Main {
  #config: Config
  readonly #log: Log
  readonly #env: NodeJS.ProcessEnv
  readonly #clock: Clock = systemClock
  readonly #children: Child[] = []
  readonly #link: Link
  readonly #mockSeed = randomBytes(32)
  /** What the console has set; it outlives the control process. */
  #state: AdminState | null = null
  #instance: InstanceIdentity = {
    owner: randomUUID(),
    id: 0,
    startedWallMs: systemClock.wallMs(),
  }
  #stopping: ShutdownMode | null = null
  #exitCode = 0
  #hasHadControl = false
  /** Of the program that the workers were started from. */
  #workersVersion = VERSION
  readonly #roll: Roll
  readonly #done = Promise.withResolvers<number>()

  constructor(options: MainOptions) {
    this.#config = options.config
    this.#log = options.log
    this.#env = options.env
    for (const warning of options.warnings) this.#log.warn(warning)
    this.#link = new Link('main', (envelope) => this.#deliver(envelope, null))
    this.#roll = new Roll({
      taken: () => this.#numbers(),
      isThere: (worker) => this.#worker(worker)?.process !== null,
      succeed: (worker, successor) => this.#succeed(worker, successor),
      dismiss: (worker) => this.#dismiss(worker),
      onChange: () => this.#tellCrew(),
    })
  }

  /** Resolves with the exit code when everything has ended. */
  run(): Promise<number> {
    this.#link.on(
      {
        state: ({ state }) => {
          this.#state = state
        },
        started: () => {
          this.#hasHadControl = true
          this.#tellCrew()
        },
        ready: ({ worker }) => this.#onReady(worker),
        registered: ({ id }) => {
          this.#instance = { ...this.#instance, id }
        },
      },
      {
        reload: () => Promise.resolve(this.#reload()),
        restart_workers: () => this.#restartWorkers(),
        upgrade: () => this.#upgrade(),
        set: ({ key, value }) => Promise.resolve(this.#set(key, value)),
        stop: ({ mode }) => {
          this.stop(mode)
          return Promise.resolve(null)
        },
      },
    )
    this.#writePidfile()
    this.#start(childOf('control'))
    for (let worker = 0; worker < this.#config.pgsteer.workers; worker += 1)
      this.#start(childOf(worker))
    this.#listenToSignals()
    return this.#done.promise
  }

  /** A second, stronger word replaces the first. */
  stop(mode: ShutdownMode): void {
    const isImmediate = mode === 'immediate' || this.#stopping !== null
    this.#log.info({ mode: isImmediate ? 'immediate' : mode }, 'shutting down')
    this.#stopping = isImmediate ? 'immediate' : mode
    this.#roll.stop('pgsteer is shutting down')
    for (const child of this.#children)
      if (child.station !== 'control')
        this.#link.tell(child.station, 'shutdown', { mode: this.#stopping })
    const { shutdownNoticeMs, shutdownTimeoutMs } = this.#config.pgsteer
    const drainMs = isImmediate ? 0 : shutdownNoticeMs + shutdownTimeoutMs
    const graceMs = drainMs + KILL_AFTER_MS
    setTimeout(() => this.#killAll(), graceMs).unref()
    if (this.#workers().length === 0) this.#endControl()
  }

  #listenToSignals(): void {
    process.on('SIGHUP', () => {
      try {
        this.#reload()
      } catch (error) {
        this.#log.error(`RELOAD failed, the running configuration stays: ${reasonOf(error)}`)
        return
      }
      this.#upgrade().catch((error: unknown) => this.#log.error(`RELOAD: ${reasonOf(error)}`))
    })
    process.on('SIGTERM', () => this.stop('wait_for_clients'))
    process.on('SIGINT', () => this.stop('wait_for_servers'))
    process.on('SIGQUIT', () => this.stop('immediate'))
    process.on('SIGUSR1', () => this.#console('PAUSE'))
    process.on('SIGUSR2', () => this.#console('RESUME'))
  }

  /** Signals that are commands of the console go the same way. */
  #console(sql: string): void {
    this.#link.ask('control', 'execute', { sql, role: 'admin' }, 0).catch((error: unknown) => {
      this.#log.error({ sql }, reasonOf(error))
    })
  }

  /** `predecessor`  the worker whose place it takes. */
  #start(child: Child, predecessor: number | null = null): void {
    if (!this.#children.includes(child)) this.#children.push(child)
    const isControl = child.station === 'control'
    const extension = extname(import.meta.filename)
    const file = new URL(isControl ? `control${extension}` : `worker${extension}`, import.meta.url)
    child.startedMs = this.#clock.nowMs()
    child.starts += 1
    const spawned = fork(file, [String(child.station)], {
      serialization: 'advanced',
      env: this.#env,
      execArgv: [...process.execArgv, ...(isControl ? [] : WORKER_FLAGS)],
    })
    child.process = spawned
    spawned.on('message', (message, handle) => {
      if (isEnvelope(message)) this.#deliver(message, isSocketHandle(handle) ? handle : null)
    })
    spawned.on('exit', (code, signal) => this.#onExit(child, code, signal))
    spawned.on('error', (error) => this.#log.error({ child: child.station }, reasonOf(error)))
    this.#link.tell(child.station, 'start', {
      config: this.#config,
      mockSeed: this.#mockSeed,
      worker: isControl ? 0 : child.station,
      isRestart: child.starts > 1,
      state: isControl ? this.#state : null,
      instance: this.#instance,
      crew: this.#crew(),
      predecessor,
    })
    this.#tellCrew()
  }

  #onExit(child: Child, code: number | null, signal: string | null): void {
    child.process = null
    this.#link.lost(child.station)
    for (const other of this.#children)
      if (other !== child) this.#link.tell(other.station, 'gone', { station: child.station })
    if (child.place !== 'serving') this.#remove(child)
    this.#tellCrew()
    child.end?.resolve()
    const how = signal ?? `exit code ${code}`
    child.arrival?.reject(new Error(`its successor ended before it served: ${how}`))
    if (this.#stopping !== null) {
      if (this.#workers().length === 0) this.#endControl()
      return
    }
    if (child.place === 'serving' && !child.hasSuccessor) this.#onLost(child, code, signal)
    else if (code !== 0)
      this.#log.error({ child: child.station, place: child.place, code, signal }, 'a process ended')
  }

  /** Nobody wanted it to end. */
  #onLost(child: Child, code: number | null, signal: string | null): void {
    const lifeMs = this.#clock.nowMs() - child.startedMs
    // Workers that were told what there is serve on without a control process: none that cannot start
    // ends them. Without a first one they would let their clients wait for ever.
    if (code === FATAL_EXIT && (child.station !== 'control' || !this.#hasHadControl)) {
      this.#exitCode = 1
      this.stop('immediate')
      return
    }
    child.failures = lifeMs < SHORT_LIFE_MS ? child.failures + 1 : 0
    const delayMs = Math.min(RESTART_MS_MIN * 2 ** child.failures, RESTART_MS_MAX)
    this.#log.error(
      { child: child.station, code, signal, delayMs },
      'a process ended, starting it again',
    )
    setTimeout(() => {
      if (this.#stopping === null) this.#start(child)
    }, delayMs)
  }

  // The replacement of workers.

  /** Resolves when the first successor serves; the others follow. */
  async #restartWorkers(): Promise<null> {
    const installed = installedVersion()
    if (!mayFollow(VERSION, installed)) throw new Error(needsRestart(installed))
    const { first, end } = this.#roll.begin()
    this.#log.info({ version: installed, running: this.#workersVersion }, 'replacing the workers')
    void this.#finish(end, installed)
    await first
    return null
  }

  async #finish(end: Promise<boolean>, version: string): Promise<void> {
    if (await end) {
      this.#onReplaced(version)
      return
    }
    const { failure, replaced } = this.#roll.facts
    this.#log.error({ replaced }, `not all workers are replaced: ${failure}`)
  }

  /** Errors  Error when the first worker of what is installed does not come to serve. */
  async #upgrade(): Promise<readonly string[]> {
    const installed = installedVersion()
    if (installed === this.#workersVersion || this.#roll.facts.isRunning) return []
    if (!mayFollow(VERSION, installed)) {
      this.#log.warn(needsRestart(installed))
      return [needsRestart(installed)]
    }
    await this.#restartWorkers()
    return [`version ${installed} is installed: the workers are replaced one after the other`]
  }

  #onReplaced(version: string): void {
    this.#log.info({ version }, 'the workers are replaced')
    const isNew = version !== this.#workersVersion
    this.#workersVersion = version
    const control = this.#children.find(({ station }) => station === 'control')
    // Workers serve on without it, as when it dies.
    if (isNew && this.#stopping === null && control !== undefined) this.#renew(control)
  }

  #renew(control: Child): void {
    if (control.process === null) return
    const { process } = control
    control.hasSuccessor = true
    const cut = setTimeout(() => process.kill('SIGKILL'), KILL_AFTER_MS)
    process.once('exit', () => {
      clearTimeout(cut)
      control.hasSuccessor = false
      if (this.#stopping === null) this.#start(control)
    })
    process.kill('SIGTERM')
  }

  async #succeed(worker: number, successor: number): Promise<void> {
    const old = this.#worker(worker)
    const arrival = Promise.withResolvers<void>()
    const child: Child = { ...childOf(successor), place: 'arriving', arrival }
    this.#start(child, worker)
    const cut = this.#clock.after(ARRIVAL_MS_MAX, () => child.process?.kill('SIGKILL'))
    if (old !== undefined) old.hasSuccessor = true
    try {
      await arrival.promise
    } catch (error) {
      if (old !== undefined) this.#keep(old)
      throw new Error(`worker ${worker} stays, ${reasonOf(error)}`, { cause: error })
    } finally {
      cut.cancel()
    }
  }

  /** It serves on without a successor. */
  #keep(old: Child): void {
    old.hasSuccessor = false
    if (old.process === null && this.#stopping === null) this.#start(old)
  }

  #onReady(worker: number): void {
    const child = this.#worker(worker)
    if (child === undefined || child.arrival === null) return
    child.place = 'serving'
    child.arrival.resolve()
    child.arrival = null
    this.#tellCrew()
  }

  async #dismiss(worker: number): Promise<void> {
    const child = this.#worker(worker)
    if (child === undefined) return
    child.place = 'leaving'
    child.end = Promise.withResolvers<void>()
    this.#log.info({ worker }, 'a worker leaves, its successor serves')
    if (child.process === null) this.#remove(child)
    else this.#link.tell(worker, 'leave', { worker })
    this.#tellCrew()
    if (child.process !== null) await child.end.promise
  }

  #remove(child: Child): void {
    this.#children.splice(this.#children.indexOf(child), 1)
  }

  #worker(worker: number): Child | undefined {
    return this.#children.find(({ station }) => station === worker)
  }

  #numbers(): number[] {
    return this.#children.flatMap(({ station }) => (station === 'control' ? [] : [station]))
  }

  #crew(): Crew {
    const places = new Map<number, WorkerPlace>()
    for (const { station, place, process } of this.#children)
      if (station !== 'control' && process !== null) places.set(station, place)
    return { places, roll: this.#roll.facts }
  }

  #tellCrew(): void {
    this.#link.tell('control', 'crew', this.#crew())
  }

  #workers(): Child[] {
    return this.#children.filter((child) => child.station !== 'control' && child.process !== null)
  }

  #endControl(): void {
    const control = this.#children.find((child) => child.station === 'control')
    if (control?.process !== null && control?.process !== undefined) {
      control.process.kill('SIGTERM')
      return
    }
    this.#removePidfile()
    this.#done.resolve(this.#exitCode)
  }

  #killAll(): void {
    for (const child of this.#children) child.process?.kill('SIGKILL')
  }

  /** Carries it to whom it is for; a handle that came along is closed here. */
  #deliver(envelope: Envelope, handle: SocketHandle | null): void {
    if (envelope.to === 'main') {
      this.#link.receive(envelope)
      return
    }
    const child = this.#children.find(({ station }) => station === envelope.to)
    if (child?.process?.connected === true) {
      child.process.send(envelope, handle ?? undefined, () => handle?.close())
      return
    }
    handle?.close()
    const answer = goneAnswer(envelope)
    if (answer !== null) this.#deliver(answer, null)
  }

  /** Errors  what loadUsable throws, and nothing changed. */
  #reload(): readonly string[] {
    const loaded = loadUsable(this.#config.file, this.#env)
    const changes = compareConfigs(this.#config, loaded.config)
    this.#apply(mergeConfigs(this.#config, loaded.config))
    const notes = [...loaded.warnings]
    if (changes.live.length > 0) notes.push(`applied: ${changes.live.join(', ')}`)
    if (changes.restart.length > 0) notes.push(`needs a restart: ${changes.restart.join(', ')}`)
    for (const note of notes) this.#log.info(`RELOAD: ${note}`)
    if (notes.length === 0) this.#log.info('RELOAD: nothing changed')
    return notes
  }

  #set(key: string, value: string): null {
    this.#apply(changeSetting(this.#config, key, value))
    return null
  }

  #apply(config: Config): void {
    this.#config = config
    for (const child of this.#children) this.#link.tell(child.station, 'config', { config })
  }

  #writePidfile(): void {
    const { pidfile } = this.#config.pgbouncer
    if (pidfile !== null && pidfile !== '') writeFileSync(pidfile, `${process.pid}\n`)
  }

  #removePidfile(): void {
    const { pidfile } = this.#config.pgbouncer
    if (pidfile !== null && pidfile !== '') rmSync(pidfile, { force: true })
  }
}

/** Scavenges are rare when the young generation is big, and the relay allocates little. */
const WORKER_FLAGS = ['--max-semi-space-size=32']

function childOf(station: Child['station']): Child {
  return {
    station,
    process: null,
    failures: 0,
    startedMs: 0,
    starts: 0,
    place: 'serving',
    arrival: null,
    hasSuccessor: false,
    end: null,
  }
}

function needsRestart(installed: string): string {
  return `version ${installed} is installed and ${VERSION} runs: that needs a restart`
}
