/**
 * Clients that read at the same moment, again and again, through a pgsteer whose pools are smaller
 * than their number: with multiplex_reads their reads share servers. Each asks for a nonce that its answer
 * must repeat, in one of three forms by turns. What fails is counted in the load beside them; it
 * judges nothing.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { DATABASE, USER } from '../failover/steer-cluster.ts'
import { frontend } from '../support/bytes.ts'
import type { Steer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import { type Answer, WireClient } from '../support/wire-client.ts'
import { type ChaosLoad, reasonOf } from './load.ts'

const CLIENTS = 24
const PACE_MS = 25
/** Over every hold that is configured here: what takes longer hangs. */
const ANSWER_MS_MAX = 90_000
/** So many have shared a server before a scene begins. */
const SHARED_BEFORE = 100
const NAME = 'shared'
const COUNT = '(select count(*) from (select from written limit 100) as few)'
const PREPARED = `select $1::text, ${COUNT}`

const { bind, describe, execute, parse, query, sync } = frontend

interface Form {
  readonly of: (nonce: string) => readonly Buffer[]
  /** Types of its whole answer. */
  readonly types: string
}

const SIMPLE: Form = { of: (nonce) => [query(`select '${nonce}', ${COUNT}`)], types: 'TDCZ' }
const FORMS: readonly Form[] = [
  SIMPLE,
  {
    of: (nonce) => [bind({ statement: NAME, values: [nonce] }), execute(), sync()],
    types: '2DCZ',
  },
  {
    of: (nonce) => [
      parse('', PREPARED),
      bind({ values: [nonce] }),
      describe('P'),
      execute(),
      sync(),
    ],
    types: '12TDCZ',
  },
]

/** What stands beside an answer, of the server's own accord. */
const ASIDE = /[NS]/g

export class SharedReads {
  /** Answers that were not those of who got them. */
  readonly wrong: string[] = []
  /** What each client was told instead of an answer. */
  readonly errors: readonly string[][] = Array.from({ length: CLIENTS }, () => [])
  readonly #steer: Steer
  readonly #load: ChaosLoad
  /** By client: when the last read that was answered began. */
  readonly #answeredMs = new Map<number, number>()
  readonly #open = new Set<WireClient>()
  #sharedBefore = 0
  #isStopping = false
  #running: Promise<unknown> = Promise.resolve()
  #volleyDue: Promise<void> | null = null

  private constructor(steer: Steer, load: ChaosLoad) {
    this.#steer = steer
    this.#load = load
  }

  /** Resolves when reads share servers. */
  static async start(steer: Steer, load: ChaosLoad): Promise<SharedReads> {
    const reads = new SharedReads(steer, load)
    reads.#running = Promise.all(Array.from({ length: CLIENTS }, (_, id) => reads.#live(id)))
    try {
      const isShared = async (): Promise<boolean> => (await sharedBy(steer)) > SHARED_BEFORE
      await waitFor('a read of each', () => reads.hasResumed(0), { withinMs: 20_000 })
      await waitFor('reads that share servers', isShared, { withinMs: 60_000 })
      reads.#sharedBefore = await sharedBy(steer)
      return reads
    } catch (error) {
      await reads.abort()
      throw error
    }
  }

  /** Reads that shared a server since it was started. */
  async shared(): Promise<number> {
    return (await sharedBy(this.#steer)) - this.#sharedBefore
  }

  /** Whether every client was answered what it asked after `sinceMs`. */
  hasResumed(sinceMs: number): boolean {
    const fresh = [...this.#answeredMs.values()].filter((startedMs) => startedMs > sinceMs)
    return fresh.length === CLIENTS
  }

  /** Ends every client after its read in flight. */
  async stop(): Promise<void> {
    this.#isStopping = true
    await this.#running
  }

  /** Ends every client now, whatever it waits for. */
  async abort(): Promise<void> {
    this.#isStopping = true
    for (const wire of this.#open) wire.destroy()
    await this.#running
  }

  async #live(id: number): Promise<void> {
    let wire: WireClient | null = null
    for (let turn = 0; !this.#isStopping; turn += 1) {
      await this.#volley()
      wire = await this.#living(wire, id)
      if (wire !== null) await this.#read(wire, id, turn)
    }
    if (wire !== null) await wire.close().catch(() => undefined)
  }

  /** All who have nothing to wait for send in one turn of the event loop: more than there are servers. */
  #volley(): Promise<void> {
    this.#volleyDue ??= this.#nextVolley()
    return this.#volleyDue
  }

  async #nextVolley(): Promise<void> {
    await pause(PACE_MS)
    this.#volleyDue = null
  }

  /** The client if its connection lives, else a new one; null when that is refused. */
  async #living(wire: WireClient | null, id: number): Promise<WireClient | null> {
    if (wire?.isEnded === false) return wire
    if (wire !== null) {
      this.#open.delete(wire)
      if (!this.#isStopping) this.#load.dropped += 1
    }
    const { host, port } = this.#steer
    const login = { user: USER, database: DATABASE, withinMs: ANSWER_MS_MAX }
    try {
      const fresh = await WireClient.login({ host, port, ...login })
      this.#open.add(fresh)
      fresh.send(parse(NAME, PREPARED), sync())
      const { sqlstate, errors } = await fresh.ready()
      if (sqlstate !== undefined) this.#fail(id, `${sqlstate}: ${errors[0]?.['M']}`)
      return fresh
    } catch {
      if (!this.#isStopping) this.#load.refused += 1
      return null
    }
  }

  async #read(wire: WireClient, id: number, turn: number): Promise<void> {
    const nonce = `n${id}.${turn}`
    const form = FORMS[turn % FORMS.length] ?? SIMPLE
    const startedMs = performance.now()
    wire.send(...form.of(nonce))
    const answer = await wire.ready().catch(reasonOf)
    this.#load.readStallMs = Math.max(this.#load.readStallMs, performance.now() - startedMs)
    if (typeof answer === 'string') {
      this.#fail(id, answer)
      wire.destroy()
    } else if (this.#isRight(answer, nonce, form)) this.#answeredMs.set(id, startedMs)
    else this.#judge(answer, id, nonce)
  }

  #isRight({ rows, sqlstate, types }: Answer, nonce: string, form: Form): boolean {
    if (sqlstate !== undefined || types.replaceAll(ASIDE, '') !== form.types) return false
    return rows.length === 1 && rows[0]?.[0] === nonce
  }

  /** An error of its own, the end of its connection, or another one's answer. */
  #judge({ errors, rows, sqlstate, status, types }: Answer, id: number, nonce: string): void {
    const foreign = rows.filter(([value]) => value !== nonce)
    const isCut = sqlstate === undefined && status === undefined
    if (foreign.length > 0 || (sqlstate === undefined && !isCut))
      this.wrong.push(`wanted ${nonce}, got ${types} ${JSON.stringify(rows).slice(0, 200)}`)
    if (sqlstate !== undefined) this.#fail(id, `${sqlstate}: ${errors[0]?.['M']}`)
  }

  #fail(id: number, error: string): void {
    this.errors[id]?.push(error)
    this.#load.readErrors.push(error)
  }
}

/** What pgsteer's own counter says. */
async function sharedBy({ host, httpPort }: Steer): Promise<number> {
  const url = `http://${host}:${httpPort}/metrics`
  const response = await fetch(url, { signal: AbortSignal.timeout(5000) })
  return Number(/^pgsteer_multiplexed_reads_total (\d+)/m.exec(await response.text())?.[1])
}
