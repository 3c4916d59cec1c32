/**
 * The control plane's heart: one source says who leads, one probe per member says what is so, and
 * the failover machine turns both into a new immutable `Topology` at each change. It holds the parts
 * together, informant.ts, roster.ts and pulse.ts above all; every decision is a pure function in
 * failover.ts, evidence.ts, lag.ts and eligibility.ts.
 */
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import type { ClusterConfig } from '../config/config.ts'
import { type Address, formatAddress } from './address.ts'
import { Chronicle } from './chronicle.ts'
import { type DirectAccess, type DirectTls, probeAccess } from './direct.ts'
import type { LagLimits } from './eligibility.ts'
import { type Evidence, isBlind, isForsaken, isRefuted } from './evidence.ts'
import { memberFacts, type WatcherFacts } from './facts.ts'
import { advance, forget, missingOf, primaryOf, resumed, UNSEEN, wantsWitness } from './failover.ts'
import { Handover } from './handover.ts'
import { Informant } from './informant.ts'
import { mostAdvanced } from './lag.ts'
import { isLate, type Lease, leaseLimit } from './lease.ts'
import { OUTSIDE, type Outside } from './outside.ts'
import { ALONE_MS, paceOf } from './pace.ts'
import type { ProbeFailure } from './probe.ts'
import { Publisher } from './publisher.ts'
import { Pulse } from './pulse.ts'
import { type Entry, Roster } from './roster.ts'
import type { ClusterView } from './source.ts'
import type { PlannedLimits } from './switchover.ts'
import { type MemberAddress, MemberTable } from './table.ts'
import type { Topology } from './topology.ts'
import { Witness } from './witness.ts'

export interface WatcherDeps {
  readonly cluster: ClusterConfig
  readonly limits: LagLimits
  readonly memberAddress: MemberAddress
  /** Certificates for the probes, already read; the mode is `probe_tls_sslmode`. */
  readonly probeTls?: Omit<DirectTls, 'mode'>
  /** What probes connect; see DirectAccess. */
  readonly socket?: NonNullable<DirectAccess['socket']>
  readonly clock: Clock
  readonly log: Log
  readonly planned?: PlannedLimits
  /** What a control process before this one published last: its term goes on. */
  readonly previous?: Topology
  /** Tests put their own in its place. */
  readonly outside?: Outside
  /** Called with each new value, synchronously; must not call back into the watcher. */
  publish(topology: Topology): void
}

/** What RELOAD can change besides [cluster]. */
export type WatcherChanges = Partial<Pick<WatcherDeps, 'limits' | 'probeTls' | 'planned'>>

/** A replica's answer is stale after as many questions, and the deadline of one. */
const STALE_PROBES = 3
/** Asked once a second: a few answers may be late. */
const WITNESS_MS = 5000
/**
 * Replicas that answered the failsafe check do not race for ttl. It is made anew after loop_wait +
 * retry_timeout at the latest, which leaves one more retry_timeout until then: this is the least.
 */
const FAILSAFE_MS = 3000
/** Two questions are under way at most; what is answered in this time is never too old. */
const WITNESS_DEADLINE_MS = 2000
/** By then every member that answers has answered. */
const STARTING_MS = 3000
/** A successor of a control process finds the same primary in this time, or says that it does not. */
const TAKEOVER_MS = 3000

export class Watcher {
  readonly #deps: WatcherDeps
  readonly #clock: Clock
  readonly #log: Log
  readonly #roster: Roster
  readonly #table: MemberTable
  readonly #witness: Witness
  readonly #handover: Handover
  readonly #publisher: Publisher
  readonly #informant: Informant
  readonly #pulse: Pulse
  readonly #chronicle: Chronicle
  #cluster: ClusterConfig
  #machine = UNSEEN
  #isBusy = false
  #takeoverUntilMs = 0

  constructor(deps: WatcherDeps) {
    this.#deps = deps
    this.#clock = deps.clock
    this.#log = deps.log
    this.#cluster = deps.cluster
    this.#handover = new Handover(deps.log, deps.planned)
    const { log, previous } = deps
    this.#publisher = new Publisher(log, (value) => deps.publish(value), previous?.serial ?? 0)
    this.#pulse = new Pulse(deps.clock, (isNews) => this.#decide(isNews))
    this.#chronicle = new Chronicle(log, deps.clock.nowMs())
    const access = probeAccess(deps.cluster, deps.probeTls, deps.socket)
    const outside = deps.outside ?? OUTSIDE
    const events = {
      heard: () => this.#heard(),
      changed: (name: string, failure: ProbeFailure | null) => this.#onMember(name, failure),
    }
    this.#roster = new Roster(access, events, { clock: deps.clock, open: outside.openDirect })
    this.#table = new MemberTable(deps.limits, deps.memberAddress)
    this.#witness = newWitness(deps.cluster, deps.clock, outside)
    if (deps.previous !== undefined) this.#takeOver(deps.previous)
    this.#informant = new Informant(
      deps.cluster,
      {
        viewed: (view, otherCluster) => this.#onView(view, otherCluster),
        heard: () => this.#pulse.beat(false),
      },
      { clock: deps.clock, log, outside },
    )
  }

  /** Starts asking. The first Topology names nobody. */
  start(): Promise<void> {
    this.#pulse.start()
    this.#pulse.beatNow(true)
    this.#informant.start()
    return Promise.resolve()
  }

  async stop(): Promise<void> {
    this.#pulse.stop()
    this.#witness.stop()
    this.#roster.stop()
    await this.#informant.stop()
  }

  /** While a session waits for a replica to catch up: probe every `probe_busy_interval_ms`. */
  setBusy(isBusy: boolean): void {
    if (this.#isBusy === isBusy) return
    this.#isBusy = isBusy
    this.#setPace()
  }

  /**
   * Patroni is about to stop this member: new writes wait from now on, before this returns.
   *
   * `member`  its name or `host:port`; null: whoever is the primary.
   * Returns 'holds'; 'elsewhere' when it is not the primary or there is none; 'starting' while the
   * primary has yet to be found, or found again: to be asked again.
   */
  drain(member: string | null): 'holds' | 'elsewhere' | 'starting' {
    const primary = primaryOf(this.#machine)
    const { state, beliefs } = this.#machine
    const isStarting = state === 'unseen' || this.#isTakingOver(this.#evidence())
    const name = member === null ? primary?.name : this.#nameOf(member)
    const isPrimary = primary !== null && name === primary.name
    // Behind its CHECKPOINT it may answer probes late, and be back before Patroni stops it.
    const isOut = state === 'interrupted' && name !== undefined && name === beliefs.verified?.name
    if (name !== undefined) this.#handover.call(name, isPrimary, this.#clock.nowMs())
    this.#pulse.beatNow(true)
    if (isPrimary) return 'holds'
    return primary === null && (isStarting || isOut) ? 'starting' : 'elsewhere'
  }

  /** A member by its name or `host:port`. */
  #nameOf(member: string): string | undefined {
    const isMeant = ({ member: { name, addresses } }: Entry): boolean =>
      name === member || addresses.some((address) => formatAddress(address) === member)
    return this.#roster.entries().find(isMeant)?.member.name
  }

  /** Whether new writes wait for a planned switchover. */
  get isHolding(): boolean {
    return this.#handover.isHolding
  }

  /** RECONNECT: forgets terms, fences and timelines. */
  forget(): void {
    this.#forget('RECONNECT')
    this.#pulse.beatNow(true)
  }

  /** Takes new intervals, credentials, weights, zones and limits; a changed source starts anew. */
  reload(cluster: ClusterConfig, changes: WatcherChanges = {}): void {
    this.#cluster = cluster
    const probeTls = changes.probeTls ?? this.#deps.probeTls
    this.#roster.setAccess(probeAccess(cluster, probeTls, this.#deps.socket))
    if (changes.limits !== undefined) this.#table.setLimits(changes.limits)
    if (changes.planned !== undefined) this.#handover.setLimits(changes.planned)
    this.#setPace()
    if (!this.#informant.reload(cluster)) this.#pulse.beatNow(true)
  }

  /** Where to ask for facts that any member knows: fit replicas first, then the rest that answer. */
  addresses(): readonly Address[] {
    const entries = this.#roster.entries().filter((entry) => entry.testimony.failure === null)
    const ordered = [...entries.filter(isReplica), ...entries.filter((entry) => !isReplica(entry))]
    return ordered.flatMap((entry) => entry.address ?? [])
  }

  facts(): WatcherFacts {
    const now = this.#clock.nowMs()
    const evidence = this.#evidence()
    const { contactMs } = evidence
    const age = contactMs === null ? null : Math.max(0, now - contactMs)
    const { kind, trouble, view, leaseExpiresMs: expires } = this.#informant
    const { counts, stateSinceMs, holdSinceMs } = this.#chronicle
    return {
      ...counts,
      publications: this.#publisher.count,
      source: kind,
      sourceAnswers: !isBlind(evidence),
      sourceTrouble: trouble,
      sourceContactAgeMs: age,
      state: this.#machine.state,
      stateAgeMs: now - stateSinceMs,
      term: this.#machine.term,
      holdAgeMs: holdSinceMs === null ? null : now - holdSinceMs,
      probes: this.#roster.probes,
      probeFailures: new Map(this.#roster.failures),
      ttlMs: view?.dynamic.ttlMs ?? this.#cluster.ttlMs,
      leaseRemainingMs: expires === null ? null : Math.max(0, expires - now),
      failsafeMode: view?.dynamic.failsafeMode ?? false,
      synchronousMode: view?.dynamic.synchronousMode ?? false,
      members: this.#roster.entries().map(memberFacts),
      failoverRequested: (view?.failover ?? null) !== null,
    }
  }

  #onView({ members }: ClusterView, otherCluster: string | null): void {
    if (otherCluster !== null) this.#forget(otherCluster)
    this.#roster.update(members, (name) => this.#isKept(name))
    this.#pulse.beat(true)
  }

  #heard(): void {
    this.#informant.listen(this.#roster.testimony())
    this.#pulse.beat(true)
  }

  #onMember(name: string, failure: ProbeFailure | null): void {
    if (failure === null) this.#log.info({ member: name }, 'the member answers the probe again')
    else {
      const { kind, reason } = failure
      this.#log.warn({ member: name, kind, reason }, 'the member does not answer the probe')
    }
  }

  #forget(why: string): void {
    this.#chronicle.noteForgotten(why, this.#machine.beliefs.verified)
    this.#machine = forget(this.#machine)
    this.#handover.forget()
    this.#table.clear()
    this.#informant.forget()
  }

  /** The last verified primary stays probed when its keys expire; in pause everybody does. */
  #isKept(name: string): boolean {
    const isPaused = this.#informant.view?.dynamic.paused === true
    return isPaused || name === this.#machine.beliefs.verified?.name
  }

  #evidence(): Evidence {
    const nowMs = this.#clock.nowMs()
    return {
      nowMs,
      limits: {
        confirmMs: 2 * this.#cluster.probeTimeoutMs,
        confirmAloneMs: ALONE_MS + this.#cluster.probeTimeoutMs,
        answerMs: this.#cluster.probeTimeoutMs,
        blindMs: this.#informant.blindMs,
        witnessMs: WITNESS_MS,
        failsafeMs: FAILSAFE_MS,
      },
      view: this.#informant.view,
      contactMs: this.#informant.contactMs(nowMs),
      trouble: this.#informant.trouble,
      leaderSinceMs: this.#informant.leaderSinceMs,
      testimony: this.#roster.testimony(),
      witness: this.#witness.last,
      needsWitness: this.#cluster.failstaticNeeds === 'patroni',
    }
  }

  /** The one place where the machine moves. `isNews`: a sample or a view, not just time. */
  #decide(isNews: boolean): void {
    const evidence = this.#evidence()
    const before = this.#machine
    const { machine, taken } = advance(before, evidence)
    this.#machine = machine
    this.#chronicle.note(taken, before.beliefs.verified, machine, evidence.nowMs)
    this.#planAhead(evidence)
    this.#learn()
    this.#askWitness(evidence)
    this.#setPace()
    this.#publish(evidence, isNews)
  }

  /** The planned handover: what is held, and whether that is still worth it. */
  #planAhead({ nowMs, testimony, view }: Evidence): void {
    const primary = primaryOf(this.#machine)
    const entry = primary === null ? undefined : this.#roster.entry(primary.name)
    const heard = primary === null ? undefined : testimony.get(primary.name)
    const serves = heard?.failure === null && heard.sample?.inRecovery === false
    const started = entry?.started ?? null
    this.#handover.look({
      nowMs,
      wallMs: this.#clock.wallMs(),
      incumbent:
        primary === null ? null : { name: primary.name, timeline: primary.timeline, started },
      confirmedMs: serves ? (heard.sample?.sentMs ?? null) : null,
      isMoot: this.#machine.state === 'standby',
      request: view?.failover ?? null,
      ttlMs: view?.dynamic.ttlMs ?? this.#cluster.ttlMs,
    })
  }

  #lease(): Lease | null {
    return this.#informant.lease(this.#cluster.leaseGuardMs)
  }

  /** What a primary that nobody vouches for any more still does is over. */
  #writableUntilMs(evidence: Evidence): number | null {
    const { state, beliefs } = this.#machine
    const isOut = state === 'interrupted' && beliefs.verified !== null
    if (isOut && isForsaken(beliefs.verified, evidence)) return this.#chronicle.stateSinceMs
    return leaseLimit(this.#lease(), this.#machine, evidence)
  }

  /**
   * Lag is measured against the verified primary. Where none was ever seen (a standby cluster, or a
   * start in the middle of an outage) the member that received most stands in for it, once all of
   * them have had the time to answer.
   */
  #learn(): void {
    const primary = primaryOf(this.#machine)
    const sample = this.#roster.entry(primary?.name ?? '')?.testimony.sample ?? null
    if (sample !== null && sample.timeline === primary?.timeline)
      return this.#table.learn(sample, sample.writeLsn)
    const isStarting = this.#clock.nowMs() - this.#chronicle.startedMs < STARTING_MS
    if (this.#machine.beliefs.verified !== null || isStarting) return
    const ahead = mostAdvanced(
      this.#roster.entries().flatMap((entry) => entry.testimony.sample ?? []),
    )
    if (ahead !== null) this.#table.learn(ahead.sample, ahead.lsn)
  }

  /** In failsafe mode it is asked before the lease ends: afterwards would be too late. */
  #askWitness(evidence: Evidence): void {
    const { verified } = this.#machine.beliefs
    const isServing = this.#machine.state === 'serving'
    const isFailsafe = isServing && evidence.view?.dynamic.failsafeMode === true
    const lease = isFailsafe ? this.#lease() : null
    const isEnding = lease !== null && isLate(lease, evidence.nowMs)
    const isWanted = isEnding || wantsWitness(this.#machine, evidence)
    if (verified === null || !isWanted) return this.#witness.rest()
    this.#witness.ask(verified.name, this.#roster.entry(verified.name)?.member.restUrl ?? null)
  }

  #setPace(): void {
    const { periodMs, failurePeriodMs, isSearching } = paceOf(
      {
        state: this.#machine.state,
        stateAgeMs: this.#clock.nowMs() - this.#chronicle.stateSinceMs,
        hasPrimary: primaryOf(this.#machine) !== null,
        isPlanned: this.#handover.told !== null,
        isBusy: this.#isBusy,
      },
      this.#cluster,
    )
    this.#roster.setPace(periodMs, failurePeriodMs)
    this.#informant.setBusy(isSearching)
  }

  #takeOver(previous: Topology): void {
    this.#machine = resumed(previous)
    this.#handover.takeOver(previous, this.#clock.nowMs())
    this.#takeoverUntilMs = this.#clock.nowMs() + TAKEOVER_MS
  }

  /** While the same primary is about to be verified again, workers keep what they were told. */
  #isTakingOver(evidence: Evidence): boolean {
    const { state, beliefs } = this.#machine
    const { verified } = beliefs
    if (evidence.nowMs >= this.#takeoverUntilMs || verified === null) return false
    if (isRefuted(verified, evidence)) return false
    // A static list has no leader until its members were asked, and some need no key: they too
    // have to be asked.
    const dynamic = evidence.view?.dynamic
    const isKeyless = dynamic?.paused === true || dynamic?.failsafeMode === true
    const isUnasked = state === 'vacant' && (this.#informant.kind === 'static' || isKeyless)
    if (state === 'unseen' || isUnasked) return true
    return state === 'verifying' && evidence.view?.leader?.name === verified.name
  }

  #publish(evidence: Evidence, isNews: boolean): void {
    if (this.#isTakingOver(evidence)) return
    const { view } = evidence
    const { verified } = this.#machine.beliefs
    const primary = primaryOf(this.#machine)
    const systemIdentifier = verified?.systemIdentifier ?? view?.systemIdentifier ?? null
    const members = this.#table.members(this.#roster.entries(), {
      primary: primary?.name ?? null,
      verified,
      systemIdentifier,
      nowMs: evidence.nowMs,
      staleMs: STALE_PROBES * this.#cluster.probeIntervalMs + this.#cluster.probeTimeoutMs,
      weights: this.#cluster.memberWeights,
      zones: this.#cluster.memberZones,
    })
    const value = {
      term: this.#machine.term,
      primary: primary?.name ?? null,
      missing: missingOf(this.#machine, evidence),
      systemIdentifier,
      timeline: verified?.timeline ?? null,
      standbyCluster: view?.dynamic.standbyCluster ?? false,
      paused: view?.dynamic.paused ?? false,
      switchover: this.#handover.told,
      hooks: this.#handover.hooks,
      history: view?.history ?? [],
      writableUntilMs: this.#writableUntilMs(evidence),
      members,
    }
    this.#publisher.publish(value, isNews)
  }
}

function newWitness(cluster: ClusterConfig, clock: Clock, outside: Outside): Witness {
  const deadlineMs = Math.min(cluster.patroniTimeoutMs, WITNESS_DEADLINE_MS)
  return new Witness(clock, outside.rest(cluster, clock, deadlineMs))
}

function isReplica(entry: Entry): boolean {
  return entry.testimony.sample?.inRecovery === true
}
