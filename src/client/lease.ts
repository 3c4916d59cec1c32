/**
 * The server that a session holds, with both directions of its bytes, and the servers that session
 * mode keeps between batches. It knows when a server is free to go and how to let it go; whether it
 * should go is the session's decision.
 */
import { ProxyError } from '../base/errors.ts'
import { invariant } from '../base/invariant.ts'
import type { ServerConnection } from '../server/connection.ts'
import type { Pool } from '../server/pool.ts'
import { localPart, pooledPart, type Settings, settingsChange } from '../server/settings.ts'
import type { Waiter } from '../server/waiter.ts'
import * as frame from '../wire/frame.ts'
import { fixed } from '../wire/messages.ts'
import type { Attempt } from './attempt.ts'
import { type ForwardContext, Forwarder } from './forward.ts'
import type { Loss } from './loss.ts'
import { Parking } from './parking.ts'
import { Relay, type RelayOwner } from './relay.ts'
import type { Transaction } from './transaction.ts'
import { SWALLOW } from './work.ts'

const COMMIT_FRAME = fixed(frame.QUERY, Buffer.from('COMMIT\0'))

export interface LeaseEnds {
  readonly pool: Pool
  readonly holder: Waiter
  readonly replies: RelayOwner
}

export class Lease {
  readonly forwarder: Forwarder
  readonly relay: Relay
  readonly #pool: Pool
  readonly #holder: Waiter
  readonly #parking = new Parking()
  #server: ServerConnection | null = null

  constructor(ends: LeaseEnds, context: ForwardContext) {
    this.#pool = ends.pool
    this.#holder = ends.holder
    this.forwarder = new Forwarder(context)
    this.relay = new Relay(ends.replies, this.forwarder.copyIn)
  }

  get server(): ServerConnection | null {
    return this.#server
  }

  get role(): 'primary' | 'replica' | 'plain' {
    return this.#server?.identity.role ?? 'plain'
  }

  /** Settings have to be made for each transaction anew. */
  get isShared(): boolean {
    return this.#server?.isShared === true
  }

  /** No server is held or kept. */
  get isEmpty(): boolean {
    return this.#server === null && this.#parking.isEmpty
  }

  /** Answers are owed. */
  get isOwed(): boolean {
    return this.#server !== null && this.#server.ledger.length > 0
  }

  /** Bytes for the server that the kernel has not taken yet. */
  get unsentBytes(): number {
    return this.#server?.channel.unsentBytes ?? 0
  }

  /**
   * Between two batches and outside a transaction: nothing of this session is in the server, and no
   * message that is to go there is being waited for.
   */
  get isFree(): boolean {
    const server = this.#server
    return server?.isIdle === true && !this.isMidBatch && this.forwarder.wantedBytes === 0
  }

  /** A message went by in part, in either direction, or its Sync is still to come. */
  get isMidBatch(): boolean {
    const { forwarder, relay } = this
    return forwarder.isUnsynced || forwarder.isMidMessage || relay.isMidMessage
  }

  /** Takes a server that session mode kept for this role. Returns null when there is none. */
  resume(role: 'primary' | 'replica' | 'any'): ServerConnection | null {
    invariant(this.#server === null, 'one server is held at a time')
    return this.#parking.isEmpty ? null : this.#resumeParked(role)
  }

  #resumeParked(role: 'primary' | 'replica' | 'any'): ServerConnection | null {
    const pool = this.#pool
    const isJudged = (this.#holder.minLsn ?? null) !== null
    const mayServe = (server: ServerConnection): boolean => pool.mayServe(server, this.#holder)
    this.#server = this.#parking.take(role, mayServe, isJudged)
    if (this.#server !== null || role === 'any' || this.#parking.isEmpty) return this.#server
    // Who is refused goes on with it, and with what it keeps for its client.
    if (role === 'primary' && pool.refuses(this.#holder)) return null
    // It would stand in the way of the one that may serve.
    const stale = this.#parking.takeOut(role)
    if (stale !== null) pool.release(stale, this.#holder)
    return null
  }

  take(server: ServerConnection): void {
    invariant(this.#server === null, 'one server is held at a time')
    this.#server = server
  }

  /**
   * Gives the held server these settings. Returns true when it has them already; else `done` is
   * called, once, if the server is still held then.
   */
  settle(wanted: Settings, done: (error: ProxyError | null) => void): boolean {
    const server = this.#held()
    if (server.isShared) return this.#settleShared(server, wanted, done)
    const change = settingsChange(server.settings, wanted)
    if (change === '') return true
    this.run(change, (error) => {
      if (error === null) server.settings = wanted
      done(error)
    })
    return false
  }

  /** What the pooler in between does not carry holds for one transaction only. */
  #settleShared(
    server: ServerConnection,
    wanted: Settings,
    done: (error: ProxyError | null) => void,
  ): boolean {
    const pooled = pooledPart(wanted)
    const local = localPart(wanted)
    const change = settingsChange(server.settings, pooled)
    if (change === '' && local.length === 0) return true
    const last = (error: ProxyError | null): void => {
      if (error !== null || local.length === 0) done(error)
      else server.runAhead(local, (failure) => this.#server === server && done(failure))
    }
    if (change === '') last(null)
    else
      this.run(change, (error) => {
        if (error === null) server.settings = pooled
        last(error)
      })
    return false
  }

  /** Asks PostgreSQL to cancel what runs; resolves when it was asked. */
  cancel(): Promise<void> {
    return this.#pool.cancel(this.#held())
  }

  /** Runs a statement of ours; `done` is called, once, if the server is still held then. */
  run(sql: string, done: (error: ProxyError | null) => void): void {
    const server = this.#held()
    server.run(sql, (error) => {
      if (this.#server === server) done(error)
    })
  }

  /** A batch begins, of which this is known. */
  begin({ query, again }: Attempt): void {
    this.relay.hasAnswered = false
    this.forwarder.expect(query, again)
  }

  /** Sends what it can of the input. Returns the bytes taken. Errors: see Forwarder.forward. */
  send(input: Buffer, bytesMax: number): number {
    const server = this.#held()
    const taken = this.forwarder.forward(input, bytesMax, server)
    this.relay.drainLocals(server)
    return taken
  }

  /** Ends a transaction that only read; nobody is told. */
  commitQuietly(): void {
    const server = this.#held()
    server.statements.unnamed = null
    server.ledger.push(SWALLOW.query)
    server.write(COMMIT_FRAME)
  }

  /** The session needs it no more; in session mode it is kept. `settings` is what it has now. */
  giveBack(settings: Settings): void {
    const server = this.#held()
    this.#server = null
    // What it said of its end is not said of the next one.
    if (this.relay.lastWord !== 'none') this.relay.reset()
    server.settings = server.isShared ? pooledPart(settings) : settings
    server.channel.resume()
    const spare = this.#pool.config.poolMode === 'session' ? this.#parking.put(server) : server
    if (spare !== null) this.#pool.release(spare, this.#holder)
  }

  /** The held server must not be used again. */
  discard(error: ProxyError): void {
    const server = this.#held()
    this.#server = null
    this.#reset()
    this.#pool.discard(server, error)
  }

  /** What is under way on the held server, or was when it was lost; asked before `lost`. */
  loss(hasFailed: boolean, { state }: Transaction): Loss {
    const { forwarder, relay } = this
    const server = this.#held()
    return {
      owed: server.ledger.length > 0 ? [...server.ledger] : server.owedAtEnd,
      answeredStake: relay.answeredStake,
      completes: relay.completes,
      hasFailed,
      isUnsynced: forwarder.isUnsynced,
      isOpen: state !== 'idle',
      isFailed: state === 'failed' || state === 'lost',
      isReplica: server.identity.role === 'replica',
      isAborted: relay.lastWord === 'shutdown',
    }
  }

  /**
   * Whether a read that was under way on the held server, which is lost, may be sent once more: it
   * was no primary, no byte of the answer went out, and the read is not what crashed it.
   */
  mayRepeat(error: ProxyError): boolean {
    const isCrash = this.relay.lastWord === 'crashed'
    return this.#isRepeatable && !isCrash && !this.#isBareEnd(error)
  }

  /** It might, if only it were known that the read is not what crashed the server. */
  isDoubted(error: ProxyError): boolean {
    return this.#isRepeatable && this.#isBareEnd(error)
  }

  get #isRepeatable(): boolean {
    return this.#held().identity.role === 'replica' && !this.relay.hasAnswered
  }

  /** The connection ended without a word. */
  #isBareEnd({ code }: ProxyError): boolean {
    return this.relay.lastWord === 'none' && code === 'server_lost'
  }

  /** A server is gone. Returns whether the session had it. */
  lost(server: ServerConnection): boolean {
    if (this.#server !== server) return this.#parking.remove(server)
    this.#server = null
    this.#reset()
    return true
  }

  /**
   * The session ends. A server whose state is not known to be idle and clean is closed, never
   * reused.
   */
  end(settings: Settings, isPinned: boolean): void {
    const server = this.#server
    const isClean = server !== null && server.isIdle && !this.isMidBatch && !isPinned
    this.#server = null
    if (server !== null) this.#leave(server, settings, isClean)
    for (const parked of this.#parking.clear()) this.#leave(parked, parked.settings, !isPinned)
  }

  #leave(server: ServerConnection, settings: Settings, isClean: boolean): void {
    if (!isClean) {
      this.#pool.discard(server, new ProxyError('server_lost'))
      return
    }
    server.settings = server.isShared ? pooledPart(settings) : settings
    server.channel.resume()
    this.#pool.release(server, this.#holder)
  }

  #reset(): void {
    this.forwarder.reset()
    this.relay.reset()
  }

  #held(): ServerConnection {
    invariant(this.#server !== null, 'a server is held')
    return this.#server
  }
}
