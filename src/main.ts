/**
 * The supervisor. It reads the configuration, starts one control process and the workers, starts
 * again what dies, carries messages between them and handles signals. It serves nobody itself, so
 * that nothing a client or server sends can end it.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import { extname } from 'node:path'
import type { AdminState, ShutdownMode } from './admin/facts.ts'
import { type Clock, systemClock } from './base/clock.ts'
import { reasonOf } from './base/errors.ts'
import type { Log } from './base/log.ts'
import { changeSetting, compareConfigs, mergeConfigs } from './config/changes.ts'
import type { Config } from './config/config.ts'
import type { InstanceIdentity } from './instances.ts'
import { isEnvelope, Link, type Station } from './link.ts'
import { FATAL_EXIT, loadUsable } from './program.ts'

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
}

/** A child that lived for less than this is started again ever more slowly. */
const SHORT_LIFE_MS = 10_000
const RESTART_MS_MIN = 100
const RESTART_MS_MAX = 5000
/** After the drain deadline the children get this long before they are killed. */
const KILL_AFTER_MS = 3000

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
  readonly #done = Promise.withResolvers<number>()

  constructor(options: MainOptions) {
    this.#config = options.config
    this.#log = options.log
    this.#env = options.env
    for (const warning of options.warnings) this.#log.warn(warning)
    this.#link = new Link('main', (envelope) => this.#deliver(envelope.to, envelope))
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
        },
        registered: ({ id }) => {
          this.#instance = { ...this.#instance, id }
        },
      },
      {
        reload: () => Promise.resolve(this.#reload()),
        set: ({ key, value }) => Promise.resolve(this.#set(key, value)),
        stop: ({ mode }) => {
          this.stop(mode)
          return Promise.resolve(null)
        },
      },
    )
    this.#writePidfile()
    this.#start({ station: 'control', process: null, failures: 0, startedMs: 0, starts: 0 })
    for (let worker = 0; worker < this.#config.pgsteer.workers; worker += 1)
      this.#start({ station: worker, process: null, failures: 0, startedMs: 0, starts: 0 })
    this.#listenToSignals()
    return this.#done.promise
  }

  /** A second, stronger word replaces the first. */
  stop(mode: ShutdownMode): void {
    const isImmediate = mode === 'immediate' || this.#stopping !== null
    this.#log.info({ mode: isImmediate ? 'immediate' : mode }, 'shutting down')
    this.#stopping = isImmediate ? 'immediate' : mode
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
      }
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

  #start(child: Child): void {
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
    spawned.on('message', (message) => {
      if (isEnvelope(message)) this.#deliver(message.to, message)
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
    })
  }

  #onExit(child: Child, code: number | null, signal: string | null): void {
    child.process = null
    this.#link.lost(child.station)
    for (const other of this.#children)
      if (other !== child) this.#link.tell(other.station, 'gone', { station: child.station })
    if (this.#stopping !== null) {
      if (this.#workers().length === 0) this.#endControl()
      return
    }
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

  #deliver(to: Station, envelope: unknown): void {
    if (!isEnvelope(envelope)) return
    if (to === 'main') {
      this.#link.receive(envelope)
      return
    }
    const child = this.#children.find((each) => each.station === to)
    if (child?.process?.connected === true) child.process.send(envelope)
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
