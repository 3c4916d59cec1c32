/**
 * Simulated members of PostgreSQL and the Patroni beside each: roles, logs, replication that lags,
 * leases, promotions, rewinds, and whatever can go wrong with them. It follows the sequences that
 * docs/failover.md describes and knows nothing of the proxy.
 */
import { EventEmitter } from 'node:events'
import type { Backend } from './backend.ts'
import type { Chance } from './chance.ts'
import type { SimulationClock } from './clock.ts'
import { Etcd } from './etcd.ts'
import { ancestorAt, append, contains, FIRST_RECORD, forkOf, type WalRecord } from './wal.ts'

export const SYSTEM_IDENTIFIER = '7412345678901234567'
const LOOP_MS = 2000
const RETRY_MS = 2000

export class Member extends EventEmitter {
  readonly name: string
  /** PostgreSQL accepts connections. */
  isUp = true
  isInRecovery = true
  /** What it writes, or has received. */
  head: WalRecord = FIRST_RECORD
  replayed: WalRecord = FIRST_RECORD
  timeline = 1
  upstream: string | null = null
  isReplayPaused = false
  /** The whole machine stands still, or is gone. */
  isFrozen = false
  /** Patroni stands still. */
  isAgentFrozen = false
  /** Its Patroni does not reach etcd. */
  isAgentCut = false
  /** Proxies that cannot reach it. */
  readonly cutFrom = new Set<string>()
  /** How the next process ends that runs a statement. */
  ambush: 'fast' | 'kill' | null = null
  startedMs = 0
  isStarting = false
  blindSinceMs: number | null = null
  /** When all others last answered its failsafe check. */
  vouchedMs: number | null = null
  readonly backends = new Set<Backend>()

  constructor(name: string) {
    super()
    this.setMaxListeners(0)
    this.name = name
  }

  /** What a query sees. */
  get visible(): WalRecord {
    return this.isInRecovery ? this.replayed : this.head
  }

  isReachableFrom(proxy: string): boolean {
    return !this.isFrozen && !this.cutFrom.has(proxy)
  }
}

export class Cluster {
  readonly members: readonly Member[] = ['pg1', 'pg2', 'pg3'].map((name) => new Member(name))
  readonly etcd: Etcd
  readonly isSynchronous: boolean
  isFailsafe = false
  isPaused = false
  syncStandby: string | null = 'pg2'
  timelines = 1
  #isHandingOver = false
  /** `postgresql.before_stop`; null: Patroni has no hook. */
  hook: ((member: Member) => Promise<void>) | null = null
  /** Just before a primary is stopped as planned, behind its hook. */
  onPlannedStop: (member: Member) => void = () => {}
  readonly #clock: SimulationClock
  readonly #chance: Chance
  readonly #trace: (text: string) => void

  constructor(
    tools: { clock: SimulationClock; chance: Chance; trace: (text: string) => void },
    { isSynchronous, ttlMs }: { isSynchronous: boolean; ttlMs: number },
  ) {
    this.#clock = tools.clock
    this.#chance = tools.chance
    this.#trace = tools.trace
    this.isSynchronous = isSynchronous
    this.etcd = new Etcd(tools.clock, tools.chance, ttlMs)
    this.#found()
    for (const member of this.members) {
      this.#schedule(member, this.#chance.between(0, LOOP_MS))
      this.#replicate(member)
    }
    this.etcd.onLeaderGone = () => {
      for (const member of this.members)
        this.#clock.after(this.#chance.between(50, 400), () => this.#turn(member))
    }
  }

  member(name: string | null): Member | undefined {
    return this.members.find((one) => one.name === name)
  }

  /** The member that holds the leader key and takes writes. */
  get primary(): Member | undefined {
    const leader = this.member(this.etcd.leader)
    return leader?.isUp === true && !leader.isInRecovery ? leader : undefined
  }

  /** Cut off from etcd in failsafe mode, with an answer from all the others within the last ttl. */
  isVouchedFor(member: Member): boolean {
    return (
      this.isFailsafe &&
      member.isUp &&
      !member.isInRecovery &&
      this.#clock.nowMs() - (member.vouchedMs ?? Number.NEGATIVE_INFINITY) < this.etcd.ttlMs
    )
  }

  /** Whether a commit may be acknowledged by `member`. */
  isReplicated(member: Member, record: WalRecord): boolean {
    if (!this.isSynchronous) return true
    // Whoever was its standby has been promoted, and does not stream from it any more.
    if (member.timeline < this.timelines) return false
    if (this.syncStandby === null) return true
    const standby = this.member(this.syncStandby)
    return standby?.upstream === member.name && contains(standby.head, record)
  }

  /** Patroni's own word on /primary. */
  isWitnessed(member: Member): boolean {
    if (this.isVouchedFor(member)) return true
    const isLeading = member.isUp && !member.isInRecovery && this.etcd.leader === member.name
    return isLeading && (this.etcd.isUp || this.isFailsafe || member.blindSinceMs === null)
  }

  stop(member: Member, how: 'fast' | 'crash' | 'kill'): void {
    if (!member.isUp) return
    this.#trace(`${member.name} stops (${how})`)
    member.isUp = false
    for (const backend of member.backends) backend.stop(how)
    member.emit('stopped')
  }

  start(member: Member, afterMs: number): void {
    if (member.isStarting || member.isUp) return
    member.isStarting = true
    this.#clock.after(afterMs, () => {
      member.isStarting = false
      if (member.isUp || member.isFrozen) return
      member.isUp = true
      member.startedMs = this.#clock.nowMs()
      if (member.isInRecovery) member.replayed = ancestorAt(member.head, member.replayed.depth)
      this.#trace(`${member.name} started ${member.isInRecovery ? 'in recovery' : 'as primary'}`)
    })
  }

  freeze(member: Member): void {
    member.isFrozen = true
    for (const backend of member.backends) backend.link.isSilent = true
  }

  /** It goes on where it stood, or starts anew. */
  thaw(member: Member, isRebooted: boolean): void {
    member.isFrozen = false
    if (isRebooted) {
      member.isUp = false
      for (const backend of member.backends) backend.stop('crash')
      member.emit('stopped')
    } else
      for (const backend of member.backends) {
        if (!member.cutFrom.has(backend.link.owner)) backend.link.speakAgain()
        backend.goOn()
      }
    this.#clock.after(this.#chance.between(100, 500), () => this.#turn(member))
  }

  cut(member: Member, proxy: string, isCut: boolean): void {
    if (isCut) member.cutFrom.add(proxy)
    else member.cutFrom.delete(proxy)
    for (const backend of member.backends) {
      if (backend.link.owner !== proxy) continue
      if (isCut) backend.link.isSilent = true
      else if (!member.isFrozen) backend.link.speakAgain()
    }
  }

  /** Patroni stops the primary and starts it again, as an operator asked for. */
  async restart(member: Member): Promise<void> {
    if (!this.#mayStop(member)) return
    await this.#callHook(member)
    if (!this.#mayStop(member)) return
    this.onPlannedStop(member)
    this.stop(member, 'fast')
    this.start(member, this.#chance.between(200, 1500))
  }

  switchOver(candidate: string | null): void {
    const leader = this.etcd.leader
    if (leader === null || !this.etcd.isUp || this.isPaused) return
    const request = candidate === null ? { leader } : { leader, member: candidate }
    this.etcd.put('failover', JSON.stringify(request))
    const member = this.member(leader)
    if (member !== undefined) this.#clock.after(20, () => this.#turn(member))
  }

  setPause(isPaused: boolean): void {
    this.isPaused = isPaused
    this.#config()
  }

  #found(): void {
    this.etcd.put('initialize', SYSTEM_IDENTIFIER)
    this.#config()
    for (const { name } of this.members) {
      const value = {
        conn_url: `postgres://${name}:5432/postgres`,
        api_url: `http://${name}:8008`,
        state: 'running',
      }
      this.etcd.put(`members/${name}`, JSON.stringify(value))
    }
    this.etcd.lead('pg1')
    for (const member of this.members) member.upstream = 'pg1'
    const [first] = this.members
    if (first !== undefined) first.isInRecovery = false
  }

  #config(): void {
    const synchronous = { synchronous_mode: this.isSynchronous }
    this.etcd.put(
      'config',
      JSON.stringify({
        ttl: this.etcd.ttlMs / 1000,
        loop_wait: 2,
        pause: this.isPaused,
        failsafe_mode: this.isFailsafe,
        ...synchronous,
      }),
    )
  }

  #schedule(member: Member, delayMs: number): void {
    this.#clock.after(delayMs, () => {
      this.#turn(member)
      this.#schedule(member, this.#chance.between(0.8, 1.2) * LOOP_MS)
    })
  }

  #replicate(member: Member): void {
    this.#clock.after(this.#chance.between(1, 25), () => {
      this.#receive(member)
      this.#replicate(member)
    })
  }

  #receive(member: Member): void {
    if (!member.isUp || member.isFrozen || !member.isInRecovery) return
    const upstream = this.member(member.upstream)
    const isFed = upstream?.isUp === true && !upstream.isFrozen && !upstream.isInRecovery
    if (isFed && upstream !== member && contains(upstream.head, member.head)) {
      const missing = upstream.head.depth - member.head.depth
      const depth =
        member.head.depth + (this.#chance.is(0.5) ? missing : this.#chance.int(missing + 1))
      member.head = ancestorAt(upstream.head, depth)
      member.timeline = Math.max(member.timeline, member.head.timeline)
      if (missing > 0) upstream.emit('replicated')
    }
    if (member.isReplayPaused || !contains(member.head, member.replayed)) return
    const behind = member.head.depth - member.replayed.depth
    const depth =
      member.replayed.depth + (this.#chance.is(0.5) ? behind : this.#chance.int(behind + 1))
    member.replayed = ancestorAt(member.head, depth)
  }

  /** One cycle of the Patroni beside a member. */
  #turn(member: Member): void {
    if (member.isFrozen || member.isAgentFrozen) return
    if (!this.etcd.isUp || member.isAgentCut) {
      this.#withoutEtcd(member)
      return
    }
    member.blindSinceMs = null
    const { leader } = this.etcd
    const goesOn = this.isVouchedFor(member) || this.#mayGoOn(member)
    if (leader === null && goesOn) this.etcd.lead(member.name)
    member.vouchedMs = null
    if (this.etcd.leader === member.name) this.#leads(member)
    else if (member.isUp && !member.isInRecovery && !(this.isPaused && leader === null))
      this.#demote(member)
    else if (leader === null) this.#race(member)
    else this.#follow(member, leader)
  }

  /** Its key ran out, nobody was promoted since, and it still runs as a primary: it goes on. */
  #mayGoOn(member: Member): boolean {
    const isRunning = member.isUp && !member.isInRecovery && !this.isPaused
    return isRunning && member.timeline === this.timelines && this.#chance.is(0.6)
  }

  /** A Patroni that stood still wakes up and writes its key over another's, for a moment. */
  steal(member: Member): void {
    const isZombie = member.isUp && !member.isInRecovery && member.timeline < this.timelines
    if (
      !isZombie ||
      member.isAgentCut ||
      !this.etcd.isUp ||
      this.isPaused ||
      this.etcd.leader === null
    )
      return
    this.#trace(`${member.name} steals the leader key`)
    this.etcd.lead(member.name, false)
    this.#clock.after(this.#chance.between(100, 900), () => {
      if (this.etcd.leader === member.name) this.etcd.delete('leader')
      if (member.isUp && !member.isInRecovery) this.#demote(member)
    })
  }

  /** Another one takes the key and gives it back, and nobody was promoted. */
  interregnum(): void {
    const { primary } = this
    const other = this.members.find((one) => one !== primary && one.isUp && one.isInRecovery)
    if (primary === undefined || other === undefined || !this.etcd.isUp || this.isPaused) return
    if (primary.isAgentFrozen || other.isAgentFrozen || primary.isAgentCut) return
    this.#trace(`${other.name} takes the leader key for a moment`)
    primary.isAgentFrozen = true
    other.isAgentFrozen = true
    this.etcd.lead(other.name, false)
    this.#clock.after(this.#chance.between(20, 900), () => {
      primary.isAgentFrozen = false
      other.isAgentFrozen = false
      if (this.etcd.leader !== other.name) return
      const isServing = primary.isUp && !primary.isInRecovery && !primary.isFrozen
      if (isServing && primary.timeline === this.timelines) this.etcd.lead(primary.name)
      else this.etcd.delete('leader')
    })
  }

  #mayStop(member: Member): boolean {
    const isServing = member.isUp && !member.isInRecovery && this.etcd.leader === member.name
    return isServing && !member.isFrozen && !member.isAgentFrozen && !member.isAgentCut
  }

  #callHook(member: Member): Promise<void> {
    return this.hook === null ? Promise.resolve() : this.hook(member)
  }

  #withoutEtcd(member: Member): void {
    const now = this.#clock.nowMs()
    member.blindSinceMs ??= now
    if (this.isPaused || member.isInRecovery || !member.isUp) return
    if (now - member.blindSinceMs < RETRY_MS) return
    if (this.isFailsafe && this.#failsafeCheck(member)) return
    member.vouchedMs = null
    this.#trace(`${member.name} demotes itself: no etcd`)
    this.stop(member, 'fast')
    this.#recover(member)
    this.start(member, 800)
  }

  /** All others must answer, and then do not race for ttl. */
  #failsafeCheck(member: Member): boolean {
    const others = this.members.filter((one) => one !== member)
    const isAgreed = others.every(
      (one) => !one.isFrozen && !one.isAgentFrozen && (!one.isUp || one.isInRecovery),
    )
    if (isAgreed) member.vouchedMs = this.#clock.nowMs()
    return isAgreed
  }

  #leads(member: Member): void {
    this.etcd.refresh()
    if (!member.isUp) {
      if (member.isStarting) return
      if (!member.isInRecovery && this.#chance.is(0.6))
        this.start(member, this.#chance.between(200, 2500))
      else {
        this.#recover(member)
        // It may also be promoted again under the key that it has.
        if (this.#chance.is(0.5)) this.etcd.delete('leader')
        this.start(member, 1000)
      }
      return
    }
    if (member.isInRecovery) {
      this.#promote(member)
      return
    }
    this.#chooseStandby(member)
    const request = this.etcd.valueOf('failover')
    if (request !== '' && request !== '{}') this.#handOver(member, request)
  }

  /** The next one has to have everything before acknowledgements count on it. */
  #chooseStandby(member: Member): void {
    if (!this.isSynchronous) return
    const standby = this.member(this.syncStandby)
    const isFit = (one: Member): boolean =>
      one !== member && one.isUp && !one.isFrozen && one.isInRecovery
    if (standby !== undefined && isFit(standby) && standby.upstream === member.name) return
    const next = this.members.find(
      (one) => isFit(one) && one.upstream === member.name && one.head === member.head,
    )
    if (next === undefined) return
    this.syncStandby = next.name
    this.#trace(`${next.name} is the synchronous standby`)
    member.emit('replicated')
  }

  #handOver(member: Member, request: string): void {
    if (this.#isHandingOver) return
    const wanted = (JSON.parse(request) as { member?: string }).member ?? null
    const candidates = this.members.filter(
      (one) =>
        one !== member &&
        one.isUp &&
        !one.isFrozen &&
        !one.isAgentFrozen &&
        one.isInRecovery &&
        one.upstream === member.name,
    )
    const candidate = candidates.find(
      (one) =>
        (wanted ?? one.name) === one.name && (!this.isSynchronous || one.name === this.syncStandby),
    )
    if (candidate === undefined) {
      this.etcd.put('failover', '{}')
      return
    }
    this.#isHandingOver = true
    this.#clock.after(
      this.#chance.between(100, 600),
      () => void this.#stopWithHook(member, candidate),
    )
  }

  async #stopWithHook(member: Member, candidate: Member): Promise<void> {
    const isServing = this.#mayStop(member)
    if (isServing) await this.#callHook(member)
    this.#isHandingOver = false
    if (isServing) this.#stopFor(member, candidate)
  }

  #stopFor(member: Member, candidate: Member): void {
    if (!this.#mayStop(member)) return
    // It called, and something kept it from stopping after all.
    if (this.#chance.is(0.1)) {
      this.etcd.put('failover', '{}')
      return
    }
    this.onPlannedStop(member)
    this.stop(member, 'fast')
    // A clean stop waits until replicas have everything.
    if (contains(member.head, candidate.head) && candidate.isUp) candidate.head = member.head
    this.#recover(member)
    this.#clock.after(this.#chance.between(100, 800), () => {
      if (this.etcd.isUp && this.etcd.leader === member.name) this.etcd.delete('leader')
      this.start(member, this.#chance.between(500, 2000))
    })
  }

  /** It was the primary and is not any more. */
  #demote(member: Member): void {
    this.#trace(`${member.name} is demoted`)
    this.stop(member, this.#chance.is(0.5) ? 'fast' : 'crash')
    this.#recover(member)
    this.start(member, this.#chance.between(500, 2500))
  }

  #recover(member: Member): void {
    member.isInRecovery = true
    member.isReplayPaused = false
    member.replayed = member.head
    member.upstream = null
  }

  #race(member: Member): void {
    if (this.isPaused || this.members.some((one) => this.isVouchedFor(one))) return
    if (!member.isUp) {
      if (!member.isStarting) {
        this.#recover(member)
        this.start(member, 500)
      }
      return
    }
    const others = this.members.filter(
      (one) => one !== member && one.isUp && !one.isFrozen && !one.isAgentFrozen,
    )
    const isBehind = others.some((one) => one.isInRecovery && one.head.lsn > member.head.lsn)
    const isOld = member.head.timeline < this.timelines
    const isSync = member.name === this.syncStandby || member.name === this.etcd.reigns.at(-1)?.name
    if (this.isSynchronous ? !isSync : isBehind || isOld) return
    // The last leader has everything only if nobody was promoted after it.
    if (this.isSynchronous && isOld) return
    this.etcd.lead(member.name)
    this.#clock.after(this.#chance.between(100, 800), () => {
      if (this.etcd.leader === member.name && member.isUp && !member.isFrozen) this.#promote(member)
    })
  }

  #promote(member: Member): void {
    if (!member.isInRecovery) return
    this.timelines += 1
    const history: unknown = JSON.parse(this.etcd.valueOf('history') || '[]')
    const line = [member.head.timeline, Number(member.head.lsn), 'no recovery target specified']
    member.head = append(member.head, this.timelines, [])
    member.replayed = member.head
    member.timeline = this.timelines
    member.isInRecovery = false
    member.upstream = null
    // Until one has everything nobody else may lead.
    this.syncStandby = null
    this.#trace(`${member.name} is promoted to timeline ${this.timelines}`)
    this.etcd.put('history', JSON.stringify([...(history as unknown[]), line]))
    if (this.etcd.valueOf('failover') !== '') this.etcd.put('failover', '{}')
    for (const other of this.members)
      this.#clock.after(this.#chance.between(50, 700), () => this.#turn(other))
  }

  #follow(member: Member, leader: string): void {
    const upstream = this.member(leader)
    if (upstream === undefined) return
    const isPromoted = !upstream.isInRecovery && upstream.timeline === this.timelines
    const diverges = isPromoted && !contains(upstream.head, member.head)
    if (diverges) {
      this.#trace(`${member.name} is rewound`)
      this.stop(member, 'fast')
      member.head = forkOf(member.head, upstream.head)
      member.timeline = member.head.timeline
      this.#recover(member)
    }
    member.isInRecovery = true
    if (member.upstream !== leader) member.upstream = leader
    this.start(member, this.#chance.between(300, 2000))
  }
}
