/**
 * A session's part in sharing a server: whether its batch may stand behind others, how it is sent, and
 * what comes of it. Made once per session and used again for each batch; the carriage has the server.
 *
 * hot path: judge, board, receive, over.
 */
import { ProxyError, toProxyError } from '../base/errors.ts'
import { invariant } from '../base/invariant.ts'
import { shapeOfBytes, shapeOfText } from '../routing/latency.ts'
import type { ServerConnection } from '../server/connection.ts'
import * as frame from '../wire/frame.ts'
import { type After, afterRide, type LostRide } from './aftermath.ts'
import type { BatchReader } from './batch.ts'
import type { Carriage } from './carriage.ts'
import { noteRefusal, refuseBatch } from './local.ts'
import type { Parts } from './sending.ts'
import type { Session } from './session.ts'
import type { SessionState } from './states.ts'
import { isSharable, isUnit } from './unit.ts'
import { isAsciiSafe, isOn } from './values.ts'

/** What is counted for a statement of which nothing is known: nobody boards behind it. */
const UNKNOWN_MS = 1e9
/** The last one that was found to be. */
let safeEncoding = 'UTF8'
/** So often one batch is moved from behind a late one; then it waits for a server of its own. */
const MOVES_MAX = 1

/** What the session does itself. */
export interface RideSteps {
  move(to: SessionState): void
  advance(): void
  /** Its batch was answered. */
  answered(server: ServerConnection): void
  /** Its batch was refused as one that may go elsewhere. */
  heal(server: ServerConnection): void
  /** The batch of these bytes goes once more. */
  goAgain(reason: string, bytes: Buffer): void
  after(after: After): void
}

export class Riding {
  /** Which statements it is like, for what is learnt of their duration. */
  shape = 0
  /** How long such a one usually takes; very long when that is not known. */
  expectedMs = 0
  carriage: Carriage | null = null
  readonly #session: Session
  readonly #parts: Parts
  readonly #steps: RideSteps
  #moves = 0
  /** The batch might ride, if such ones are quick. */
  #isAlike = false

  constructor(session: Session, parts: Parts, steps: RideSteps) {
    this.#session = session
    this.#parts = parts
    this.#steps = steps
  }

  get server(): ServerConnection | null {
    return this.carriage?.server ?? null
  }

  /** Its client has got the front of a message whose rest was not sent yet. */
  get isMidMessage(): boolean {
    const { carriage } = this
    return carriage?.relay.isClientMidMessage === true && carriage.isFirst(this.#session)
  }

  /** Whether the batch that was read may stand behind others. */
  judge(batch: BatchReader): boolean {
    this.#isAlike = false
    const { carried, pool, services, transaction } = this.#session
    const { multiplexBehindMsMax, multiplexBytesMax, multiplexReads } = services.config().pgsteer
    if (multiplexReads === 'off') return false
    this.#moves = 0
    if (transaction.state !== 'idle' || !isUnit(batch, multiplexBytesMax)) return false
    if (!isSharable(carried.current) || !this.#isPoolFit) return false
    const { lease, reported } = this.#parts
    if (reported.isDue || !lease.isEmpty || !this.#isTextSafe) return false
    const { latencies } = services.statements(pool.config.serverDatabase)
    this.shape = this.#shapeOf(batch)
    this.#isAlike = true
    const expectedMs = latencies.expectedMs(this.shape)
    this.expectedMs = Math.min(expectedMs, UNKNOWN_MS)
    if (expectedMs <= multiplexBehindMsMax) return true
    // What is not known yet is tried, with nobody behind it.
    return expectedMs === Number.POSITIVE_INFINITY && !latencies.isBarred(this.shape)
  }

  /** Servers of these go from session to session as they are. */
  get #isPoolFit(): boolean {
    const { pool, services } = this.#session
    const { poolMode, serverClean } = pool.config
    const { serverResetQueryAlways } = services.config().pgbouncer
    return poolMode !== 'session' && serverClean !== 'always' && !serverResetQueryAlways
  }

  /** Texts are read as what they are. */
  get #isTextSafe(): boolean {
    const session = this.#session
    const encoding = session.welcome('client_encoding')
    if (encoding !== safeEncoding) {
      if (!isAsciiSafe(encoding)) return false
      safeEncoding = encoding
    }
    const strings = session.welcome('standard_conforming_strings')
    return strings === 'on' || isOn(strings)
  }

  #shapeOf({ bytes, texts }: BatchReader): number {
    const [text] = texts
    if (text !== undefined) return shapeOfText(text)
    return shapeOfBytes(this.#parts.input.bytes, frame.HEADER_BYTES, bytes - 1)
  }

  /** It was answered by a server of its own: who is not quick may have become so. */
  learn(): void {
    if (!this.#isAlike) return
    this.#isAlike = false
    const { meter, pool, services } = this.#session
    const { latencies } = services.statements(pool.config.serverDatabase)
    latencies.observe(this.shape, meter.lastQueryMs)
  }

  /** The batch at the front of the input goes behind those of others. */
  board(carriage: Carriage): void {
    const { meter, services, waitingSinceMs } = this.#session
    meter.granted(carriage.server.identity.role, services.clock.nowMs() - waitingSinceMs)
    services.counters.rides += 1
    this.#steps.move('riding')
    try {
      this.#send(carriage)
    } catch (error) {
      // Of what no client may send nothing was sent; what else it is, is a bug.
      if (error instanceof ProxyError) carriage.refuse(this.#session)
      else carriage.breach(toProxyError(error))
      this.carriage = null
      this.#session.close(toProxyError(error))
    }
  }

  #send(carriage: Carriage): void {
    const { attempt, input, lease } = this.#parts
    const { carried, meter, prepared } = this.#session
    const { server } = carriage
    this.carriage = carriage
    carried.startOn(server.settings)
    attempt.retain(input.bytes, true)
    invariant(attempt.isRetained, 'what rides may be sent once more')
    prepared.mark()
    meter.sent()
    carriage.admit(this.#session)
    lease.forwarder.expect(attempt.query, attempt.again, true)
    const taken = lease.forwarder.forward(input.bytes, attempt.bytes, server)
    invariant(taken === attempt.bytes, 'what rides is sent whole')
    input.take(taken)
    carriage.admitted()
  }

  /** Bytes of its answer. Returns false when its client reads too slowly. */
  receive(bytes: Buffer): boolean {
    const { channel, meter } = this.#session
    meter.stats.bytesSent += bytes.length
    return channel.write(bytes)
  }

  /** Its ReadyForQuery came. */
  over(server: ServerConnection): void {
    this.carriage = null
    this.#steps.move('idle')
    if (this.#parts.attempt.isHealing) this.#steps.heal(server)
    else this.#steps.answered(server)
    this.#steps.advance()
  }

  /** It stood behind one that is late: nothing of its answer went out, and nothing will. */
  moved(): void {
    const session = this.#session
    this.carriage = null
    this.#moves += 1
    session.mayRide = this.#moves <= MOVES_MAX
    session.services.counters.ridesMoved += 1
    this.#steps.move('idle')
    this.#steps.goAgain('moved', this.#parts.attempt.takeBackMoved())
    this.#steps.advance()
  }

  lost(lost: LostRide): void {
    const after = afterRide(this.#session, this.#parts, lost)
    this.carriage = null
    this.#steps.after(after)
  }

  /** Who is not the first is told at once, and what it asked runs for nobody. */
  async cancel(): Promise<void> {
    const { carriage } = this
    if (carriage === null) return
    if (!carriage.isFirst(this.#session)) {
      this.#refuse(carriage.server, new ProxyError('cancelled'))
      return
    }
    const asked = carriage.cancel()
    if (asked !== null) this.#session.meter.cancelled()
    await asked
  }

  #refuse({ identity }: ServerConnection, error: ProxyError): void {
    const session = this.#session
    const { meter, prepared, services, transaction } = session
    const nowMs = services.clock.nowMs()
    this.end()
    prepared.rewind()
    prepared.endTransaction()
    this.#parts.attempt.end()
    // As one that its server answers by that error.
    meter.answered(identity.role, false, nowMs)
    meter.ended(0, nowMs)
    this.#steps.move('idle')
    noteRefusal(session, error)
    const { errorCodes } = services.config().pgsteer
    session.send(refuseBatch(error, errorCodes, transaction.status, true))
    this.#steps.advance()
  }

  /** It does not wait for its answer any more. */
  end(): void {
    this.carriage?.abandon(this.#session)
    this.carriage = null
  }
}
