/**
 * Asks one member over SQL what it is: an independent connection with hard deadlines, one query at
 * a time, straight to PostgreSQL whatever pooler stands beside it. It records answers and failures
 * and decides nothing. Nothing is left behind on the server: no prepared statement, no SET.
 */
import type { Clock, Timer } from '../base/clock.ts'
import { reasonOf } from '../base/errors.ts'
import { type Address, formatAddress } from './address.ts'
import {
  type Direct,
  type DirectAccess,
  openDirect,
  shouldFlipTls,
  startsWithTls,
} from './direct.ts'
import type { Sample } from './topology.ts'

/**
 * One round trip, as a plain role, PostgreSQL 10 and later. Functions that fail on one role are
 * behind CASE. The primary's timeline comes from the WAL it writes: pg_control_checkpoint() keeps
 * the old one after a promotion until the next checkpoint (measured). A replica's comes from its
 * WAL receiver, whose columns are null without pg_monitor and absent while nothing streams; the
 * control file's two are lower bounds of it.
 */
export const PROBE_QUERY = `select
  r.r as in_recovery,
  (select system_identifier from pg_control_system())::text as system_identifier,
  case when r.r then null else pg_walfile_name(pg_current_wal_lsn()) end as wal_file,
  case when r.r then null else pg_current_wal_lsn() end as write_lsn,
  case when r.r then null else pg_current_wal_insert_lsn() end as insert_lsn,
  case when r.r then pg_last_wal_replay_lsn() end as replay_lsn,
  case when r.r then pg_last_wal_receive_lsn() end as receive_lsn,
  case when r.r then (select received_tli from pg_stat_wal_receiver limit 1) end as received_tli,
  case when r.r then (select status from pg_stat_wal_receiver limit 1) end as receiver_status,
  case when r.r then (select greatest(c.timeline_id, v.min_recovery_end_timeline)
    from pg_control_checkpoint() c, pg_control_recovery() v) end as control_tli,
  extract(epoch from pg_postmaster_start_time())::text as started
from (select pg_is_in_recovery() as r) as r`

/** Why there is no answer. `refused`: it certainly does not serve now. `denied`: it lives, but not for us. */
export type ProbeFailureKind = 'refused' | 'silent' | 'denied'

/** Column by column, as text. */
type ProbeRow = Readonly<Record<string, string | null>>

export interface ProbeAnswer {
  readonly sample: Sample
  /** Changes when the postmaster was started again. */
  readonly started: string
  /** `streaming`, or null while nothing streams or without pg_monitor. */
  readonly receiverStatus: string | null
  /** The address that answered. */
  readonly address: Address
}

export interface ProbeFailure {
  readonly kind: ProbeFailureKind
  /** An SQLSTATE, or a code of the operating system; empty when there is neither. */
  readonly code: string
  readonly reason: string
  readonly atMs: number
  /** When the idle connection of before ended without a word; null: it did not. */
  readonly silentEndMs?: number | null
}

export interface ProbeEvents {
  answered(answer: ProbeAnswer): void
  failed(failure: ProbeFailure): void
}

export interface ProbeOptions {
  readonly events: ProbeEvents
  readonly periodMs: number
  readonly failurePeriodMs: number
  readonly open?: typeof openDirect
}

export class Probe {
  readonly name: string
  readonly #addresses: readonly Address[]
  readonly #access: DirectAccess
  readonly #clock: Clock
  readonly #events: ProbeEvents
  readonly #open: typeof openDirect
  #connection: Direct | null = null
  #timer: Timer | null = null
  #periodMs: number
  #failurePeriodMs: number
  #dueMs = 0
  #asking = false
  #stopped = false
  #usesTls: boolean
  #addressIndex = 0
  #lastTimeline = 0
  #lastStarted = ''
  /** Since then there was no answer. */
  #silentEndMs: number | null = null

  constructor(
    member: { name: string; addresses: readonly Address[] },
    access: DirectAccess,
    clock: Clock,
    options: ProbeOptions,
  ) {
    this.name = member.name
    this.#addresses = member.addresses
    this.#access = access
    this.#clock = clock
    this.#events = options.events
    this.#open = options.open ?? openDirect
    this.#periodMs = options.periodMs
    this.#failurePeriodMs = options.failurePeriodMs
    this.#usesTls = startsWithTls(access.tls.mode)
  }

  start(): void {
    this.#schedule(0)
  }

  /** May be called twice; an answer on its way is dropped. */
  stop(): void {
    this.#stopped = true
    this.#timer?.cancel()
    this.#timer = null
    this.#drop()
  }

  /** `periodMs` from question to question, `failurePeriodMs` after one that failed. */
  setPace(periodMs: number, failurePeriodMs: number): void {
    if (periodMs === this.#periodMs && failurePeriodMs === this.#failurePeriodMs) return
    this.#periodMs = periodMs
    this.#failurePeriodMs = failurePeriodMs
    if (this.#timer === null || this.#asking) return
    const now = this.#clock.nowMs()
    if (this.#dueMs > now + periodMs) this.#schedule(periodMs)
  }

  #schedule(delayMs: number): void {
    this.#timer?.cancel()
    this.#dueMs = this.#clock.nowMs() + delayMs
    this.#timer = this.#clock.after(delayMs, () => {
      this.#timer = null
      void this.#turn()
    })
  }

  /** One question, and the next one scheduled whatever happened: this never rejects. */
  async #turn(): Promise<void> {
    const startedMs = this.#clock.nowMs()
    this.#asking = true
    const failure = await this.#ask()
    this.#asking = false
    if (this.#stopped) return
    if (failure !== null) this.#events.failed({ ...failure, silentEndMs: this.#silentEndMs })
    if (this.#stopped) return
    const period = failure === null ? this.#periodMs : failurePace(failure, this.#failurePeriodMs)
    this.#schedule(Math.max(0, startedMs + period - this.#clock.nowMs()))
  }

  /**
   * A connection that breaks is no news by itself (somebody may have ended our session): the
   * member is asked again at once on a fresh one, and only that failure is told.
   */
  async #ask(): Promise<ProbeFailure | null> {
    const kept = this.#connection !== null
    const usedTls = this.#usesTls
    const failure = await this.#askOnce()
    if (failure === null || this.#stopped) return failure
    const again = usedTls !== this.#usesTls || (kept && failure.kind !== 'silent')
    return again ? this.#askOnce() : failure
  }

  async #askOnce(): Promise<ProbeFailure | null> {
    const deadlineMs = this.#clock.nowMs() + this.#access.timeoutMs
    try {
      const connection = this.#connection ?? (await this.#connect(deadlineMs))
      if (connection.lost !== null) throw connection.lost
      const sentMs = this.#clock.nowMs()
      const result = await this.#within(connection.client.query<ProbeRow>(PROBE_QUERY), deadlineMs)
      const receivedMs = this.#clock.nowMs()
      if (this.#stopped) return null
      const row = result.rows[0] ?? {}
      this.#answer(row, { sentMs, receivedMs }, connection)
      return null
    } catch (error) {
      const failure = classifyFailure(error, this.#clock.nowMs(), this.#address())
      if (shouldFlipTls(this.#access.tls.mode, this.#usesTls, failure))
        this.#usesTls = !this.#usesTls
      this.#drop()
      if (failure.kind !== 'denied') this.#addressIndex += 1
      return failure
    }
  }

  #answer(row: ProbeRow, times: { sentMs: number; receivedMs: number }, connection: Direct): void {
    const read = readRow(row, times, this.#rememberedTimeline(row['started'] ?? ''))
    this.#lastTimeline = read.sample.timeline
    this.#lastStarted = read.started
    this.#silentEndMs = null
    this.#events.answered({ ...read, address: connection.address })
  }

  /** A timeline only goes back with a new start of the server. */
  #rememberedTimeline(started: string): number {
    return started === this.#lastStarted ? this.#lastTimeline : 0
  }

  #address(): Address {
    const address = this.#addresses[this.#addressIndex % Math.max(1, this.#addresses.length)]
    return address ?? { host: 'nowhere', port: 1 }
  }

  async #connect(deadlineMs: number): Promise<Direct> {
    const options = { usesTls: this.#usesTls, name: 'pgsteer probe', isText: true }
    const connection = this.#open(this.#address(), this.#access, options)
    this.#connection = connection
    connection.client.once('error', (error) => {
      if (this.#stopped || this.#asking) return
      if (!connection.hasWarned && isSilentEnd(error)) this.#silentEndMs = this.#clock.nowMs()
      this.#schedule(0)
    })
    await this.#within(connection.client.connect(), deadlineMs)
    return connection
  }

  /**
   * Races `work` against the deadline; when that passes the socket is destroyed. Timers run before
   * what arrived is read: where this process did not run for a while, the answer may lie there.
   */
  async #within<T>(work: Promise<T>, deadlineMs: number): Promise<T> {
    const leftMs = Math.max(1, deadlineMs - this.#clock.nowMs())
    const { promise, reject } = Promise.withResolvers<never>()
    let isOver = false
    const expire = (): void => {
      if (isOver) return
      reject(new ProbeTimeout(`no answer within ${this.#access.timeoutMs} ms`))
      this.#drop()
    }
    const timer = this.#clock.after(leftMs, () => this.#clock.after(LISTEN_MS, expire))
    work.catch(() => undefined)
    try {
      return await Promise.race([work, promise])
    } finally {
      isOver = true
      timer.cancel()
    }
  }

  #drop(): void {
    const connection = this.#connection
    this.#connection = null
    connection?.drop()
  }
}

/** The connection ended, and the server had not said why. */
function isSilentEnd(error: unknown): boolean {
  const code = failureCode(error)
  return code === '' || code === 'ECONNRESET'
}

/** So long is looked at what may have arrived already. */
const LISTEN_MS = 20

class ProbeTimeout extends Error {}

/** A member that denies our log-in need not be asked often: each try is a line in its log. */
const DENIED_PERIOD_MS = 1000

function failurePace(failure: ProbeFailure, periodMs: number): number {
  return failure.code.startsWith('28') ? Math.max(DENIED_PERIOD_MS, periodMs) : periodMs
}

function readRow(
  row: ProbeRow,
  times: { sentMs: number; receivedMs: number },
  rememberedTimeline: number,
): Omit<ProbeAnswer, 'address'> {
  const inRecovery = row['in_recovery'] === 't'
  const received = Number(row['received_tli'] ?? 0)
  const floor = Math.max(Number(row['control_tli'] ?? 0), rememberedTimeline)
  const replica = received > 0 ? received : floor
  const sample: Sample = {
    ...times,
    inRecovery,
    systemIdentifier: row['system_identifier'] ?? '',
    timeline: inRecovery ? replica : Number.parseInt((row['wal_file'] ?? '0').slice(0, 8), 16),
    writeLsn: parseLsn(row['write_lsn']),
    insertLsn: parseLsn(row['insert_lsn']),
    replayLsn: parseLsn(row['replay_lsn']),
    receiveLsn: parseLsn(row['receive_lsn']),
    started: row['started'] ?? '',
  }
  return { sample, started: row['started'] ?? '', receiverStatus: row['receiver_status'] ?? null }
}

/** `16/B374D848` as a byte position; null for what is not an LSN. */
export function parseLsn(text: string | null | undefined): bigint | null {
  const match = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text ?? '')
  if (match === null) return null
  return (BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`)
}

const REFUSED_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ENOENT',
  '57P01',
  '57P02',
  '57P03',
])

/** The member was promoted between two functions of the query ("recovery is in progress"). */
const RECOVERY_STATE_CHANGED = '55000'

/**
 * What a failure proves. Refusals and a server that starts up, shuts down or hangs up prove that it
 * does not serve; an SQLSTATE proves that it lives; silence proves nothing.
 */
export function classifyFailure(error: unknown, atMs: number, address: Address): ProbeFailure {
  const code = failureCode(error)
  const reason = `${formatAddress(address)}: ${reasonOf(error)}`
  const kind = error instanceof ProbeTimeout ? 'silent' : kindOf(code, reasonOf(error))
  return { kind, reason, atMs, code }
}

function kindOf(code: string, reason: string): ProbeFailureKind {
  if (REFUSED_CODES.has(code)) return 'refused'
  if (/terminated unexpectedly|Connection terminated|closed the connection/.test(reason))
    return 'refused'
  if (code === RECOVERY_STATE_CHANGED) return 'silent'
  return /^[0-9A-Z]{5}$/.test(code) && !/^E[A-Z]{4}$/.test(code) ? 'denied' : 'silent'
}

/** The SQLSTATE or the code of the operating system; empty when there is none. */
export function failureCode(error: unknown): string {
  if (error instanceof AggregateError) return failureCode(error.errors[0])
  if (typeof error !== 'object' || error === null || !('code' in error)) return ''
  return typeof error.code === 'string' ? error.code : ''
}
