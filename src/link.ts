/**
 * Messages between the processes: the supervisor, the control process and the workers. The
 * supervisor carries what two others say to each other. Values cross by structured clone.
 */
import type { ConsoleResult, ConsoleRole } from './admin/commands.ts'
import type { AdminState, FactsDetail, RollFacts, WorkerFacts, WorkerPlace } from './admin/facts.ts'
import { type Clock, systemClock } from './base/clock.ts'
import { invariant } from './base/invariant.ts'
import type { Instances } from './cluster/instances.ts'
import type { Topology } from './cluster/topology.ts'
import type { Config, PeerConfig } from './config/config.ts'
import type { InstanceIdentity } from './instances.ts'
import { isSocketHandle, type SocketHandle } from './net/listener.ts'
import type { CatalogueFacts } from './routing/catalogue.ts'
import type { ShutdownMode } from './server/pools.ts'

/** Workers by their number from 0; one more than `workers`, of which one is free but in a roll. */
export type Station = 'main' | 'control' | number

/** What is said without an answer. */
export interface Tellings {
  /** To a child, first of all. */
  start: {
    readonly config: Config
    readonly mockSeed: Uint8Array
    readonly worker: number
    /** It takes the place of one that ended. */
    readonly isRestart: boolean
    /** To the control process: what the console had set before, kept by the supervisor. */
    readonly state: AdminState | null
    readonly instance: InstanceIdentity
    /** To the control process: who is there. */
    readonly crew: Crew
    /** To a worker: the one whose place it takes, and whose listening sockets it asks for. */
    readonly predecessor: number | null
  }
  /** To the control process: workers came or went, or a roll went on. */
  crew: Crew
  /** To a worker's successor: one of its listening sockets comes with this. */
  socket: { readonly path: string | null }
  /** To a worker: another one has its sockets; it lets its clients finish and ends. */
  leave: { readonly worker: number }
  /** A worker is up: it wants to know everything. */
  hello: { readonly worker: number }
  config: { readonly config: Config }
  topology: { readonly topology: Topology }
  /** All instances in front of the cluster, as etcd knows them. */
  instances: { readonly instances: Instances }
  /** To the supervisor: the control process has started. */
  started: { readonly station: 'control' }
  /** To the supervisor: the number that this instance has in etcd. */
  registered: { readonly id: number }
  catalogue: { readonly facts: CatalogueFacts }
  state: { readonly state: AdminState }
  busy: { readonly worker: number; readonly busy: boolean }
  /** A server of a member was lost: it is asked at once. */
  suspect: { readonly member: string }
  database_used: { readonly database: string }
  /** A child goes down: the supervisor expects its end. */
  shutdown: { readonly mode: ShutdownMode }
  ready: { readonly worker: number }
  /** A process ended: it answers no question any more. */
  gone: { readonly station: Station }
}

/** The workers that there are, as the supervisor knows them. */
export interface Crew {
  readonly places: ReadonlyMap<number, WorkerPlace>
  readonly roll: RollFacts
}

/** What is asked and answered. */
export interface Questions {
  /** A worker's successor asks for its sockets: they are told to it first. Answer: how many. */
  hand_over: { readonly ask: { readonly to: number }; readonly answer: number }
  /** A worker that ends says so with all that it counted, and is asked no more. */
  retire: { readonly ask: { readonly facts: WorkerFacts }; readonly answer: null }
  /** To the supervisor: replaces the workers; answered when the first one serves in its place. */
  restart_workers: { readonly ask: null; readonly answer: null }
  /** The same if the installed program is another one than the workers'. Sentences for people. */
  upgrade: { readonly ask: null; readonly answer: readonly string[] }
  /** A cancel request for a client of that worker; answered when it can hit nothing any more. */
  cancel: {
    readonly ask: { readonly processId: number; readonly secret: Uint8Array }
    readonly answer: null
  }
  facts: { readonly ask: { readonly detail: FactsDetail }; readonly answer: WorkerFacts }
  execute: {
    readonly ask: { readonly sql: string; readonly role: ConsoleRole }
    readonly answer: ConsoleResult
  }
  act: { readonly ask: WorkerAct; readonly answer: boolean }
  /**
   * Sessions of a worker with a statement or a transaction under way on the primary: answered when
   * there are none, or after `withinMs` (0: at once). Told after a Topology, it is asked under it.
   */
  writes_running: { readonly ask: { readonly withinMs: number }; readonly answer: number }
  /** Where the instance with that number is; null when there is none. */
  find_peer: { readonly ask: { readonly id: number }; readonly answer: PeerConfig | null }
  /** The Topology that a worker works with. */
  topology: { readonly ask: null; readonly answer: Topology }
  reload: { readonly ask: null; readonly answer: readonly string[] }
  set: { readonly ask: { readonly key: string; readonly value: string }; readonly answer: null }
  stop: { readonly ask: { readonly mode: ShutdownMode }; readonly answer: null }
}

/** What the control process has a worker do; answered when it is done. */
export type WorkerAct =
  | {
      readonly verb: 'pause' | 'resume' | 'reconnect' | 'kill' | 'wait_close'
      readonly database: string | null
    }
  | { readonly verb: 'disable' | 'enable'; readonly database: string }
  | { readonly verb: 'kill_client'; readonly id: number }

export interface Envelope {
  readonly from: Station
  readonly to: Station
  readonly name: string
  readonly body: unknown
  /** A question and its answer carry the same number. */
  readonly question: number | null
  readonly isAnswer: boolean
  readonly failure: string | null
}

type TellingHandlers = {
  [K in keyof Tellings]?: (body: Tellings[K], from: Station, handle: SocketHandle | null) => void
}
type QuestionHandlers = {
  [K in keyof Questions]?: (
    ask: Questions[K]['ask'],
    from: Station,
  ) => Promise<Questions[K]['answer']>
}

/** Handlers by name. A name decides the type of its body, which no map can say. */
interface Handler {
  handle(body: unknown, from: Station, handle: SocketHandle | null): unknown
}

interface Asked {
  resolve(body: unknown): void
  reject(error: Error): void
  readonly to: Station
}

/** Questions under way; a peer that never answers must not fill the memory. */
const ASKED_MAX = 10_000

/** `handle`  a listening socket that goes along; it stays open here. */
type Send = (envelope: Envelope, handle: SocketHandle | null) => void

export class Link {
  readonly #me: Station
  readonly #send: Send
  readonly #clock: Clock
  readonly #asked = new Map<number, Asked>()
  #tellings: ReadonlyMap<string, Handler> = new Map()
  #questions: ReadonlyMap<string, Handler> = new Map()
  #serial = 0

  constructor(me: Station, send: Send, clock: Clock = systemClock) {
    this.#me = me
    this.#send = send
    this.#clock = clock
  }

  on(tellings: TellingHandlers, questions: QuestionHandlers): void {
    this.#tellings = handlersOf(tellings)
    this.#questions = handlersOf(questions)
  }

  tell<K extends keyof Tellings>(to: Station, name: K, body: Tellings[K]): void {
    this.#post({ to, name, body, question: null, isAnswer: false, failure: null })
  }

  /** A listening socket, of which both sides have a handle then. It comes before what is said later. */
  give(to: Station, body: Tellings['socket'], handle: SocketHandle): void {
    this.#post({ to, name: 'socket', body, question: null, isAnswer: false, failure: null }, handle)
  }

  /**
   * Asks and waits for the answer.
   *
   * `deadlineMs`  0: as long as it takes, or until the other side is gone.
   * Errors  rejects with the other side's sentence, at the deadline, or when it is gone.
   */
  ask<K extends keyof Questions>(
    to: Station,
    name: K,
    ask: Questions[K]['ask'],
    deadlineMs: number,
  ): Promise<Questions[K]['answer']> {
    invariant(this.#asked.size < ASKED_MAX, 'questions between processes are bounded')
    this.#serial += 1
    const question = this.#serial
    return new Promise((resolve, reject) => {
      const timer =
        deadlineMs === 0
          ? null
          : this.#clock.after(deadlineMs, () => {
              this.#asked.delete(question)
              reject(new Error(`${String(to)} did not answer within ${deadlineMs} ms`))
            })
      const asked: Asked = {
        to,
        resolve(body: Questions[K]['answer']) {
          timer?.cancel()
          resolve(body)
        },
        reject(error) {
          timer?.cancel()
          reject(error)
        },
      }
      this.#asked.set(question, asked)
      this.#post({ to, name, body: ask, question, isAnswer: false, failure: null })
    })
  }

  /** The other side is gone: it will not answer. */
  lost(station: Station): void {
    for (const [question, asked] of this.#asked)
      if (asked.to === station) {
        this.#asked.delete(question)
        asked.reject(new Error(`${String(station)} is gone`))
      }
  }

  receive(envelope: Envelope, handle: SocketHandle | null = null): void {
    if (envelope.isAnswer) {
      this.#answered(envelope)
      return
    }
    if (envelope.question === null) {
      this.#tellings.get(envelope.name)?.handle(envelope.body, envelope.from, handle)
      return
    }
    void this.#answer(envelope)
  }

  #answered(envelope: Envelope): void {
    const asked = this.#asked.get(envelope.question ?? 0)
    if (asked === undefined) return
    this.#asked.delete(envelope.question ?? 0)
    if (envelope.failure === null) asked.resolve(envelope.body)
    else asked.reject(new Error(envelope.failure))
  }

  async #answer(envelope: Envelope): Promise<void> {
    const { from: to, name, question } = envelope
    const handler = this.#questions.get(name)
    let body: unknown = null
    let failure: string | null = null
    try {
      if (handler === undefined) throw new Error(`nobody answers ${name} here`)
      body = await handler.handle(envelope.body, to, null)
    } catch (error) {
      failure = error instanceof Error ? error.message : String(error)
    }
    this.#post({ to, name, body, question, isAnswer: true, failure })
  }

  #post(envelope: Omit<Envelope, 'from'>, handle: SocketHandle | null = null): void {
    this.#send({ ...envelope, from: this.#me }, handle)
  }
}

/** What answers a question to somebody who is not there; null: it was no question. */
export function goneAnswer({ from, to, name, question, isAnswer }: Envelope): Envelope | null {
  if (question === null || isAnswer) return null
  const failure = `${String(to)} is gone`
  return { from: to, to: from, name, body: null, question, isAnswer: true, failure }
}

function handlersOf(
  table: Readonly<Record<string, Handler['handle'] | undefined>>,
): Map<string, Handler> {
  const handlers = new Map<string, Handler>()
  for (const [name, handle] of Object.entries(table))
    if (handle !== undefined) handlers.set(name, { handle })
  return handlers
}

export function isEnvelope(message: unknown): message is Envelope {
  return typeof message === 'object' && message !== null && 'isAnswer' in message && 'to' in message
}

/** The link of a child process to its supervisor. */
export function childLink(me: Station): Link {
  const link = new Link(me, (envelope, handle) => {
    if (process.connected) process.send?.(envelope, handle ?? undefined)
  })
  process.on('message', (message, handle) => {
    if (isEnvelope(message)) link.receive(message, isSocketHandle(handle) ? handle : null)
  })
  return link
}
