/**
 * ARCHITECTURE's invariants as they can be seen in one instance of the proxy: what it publishes,
 * what it sends where, what it hands its clients, how long it lets them wait.
 */
import type { Session } from '../../src/client/session.ts'
import type { Topology } from '../../src/cluster/topology.ts'
import type { ServerConnection } from '../../src/server/connection.ts'
import { holdMsMax } from '../../src/server/limits.ts'
import type { Pool } from '../../src/server/pool.ts'
import type { Frame } from '../support/bytes.ts'
import type { Member } from './cluster.ts'
import type { SimulatedProxy, Surroundings } from './proxy.ts'

const STATES = ['idle', 'used', 'tested', 'active', 'active_cancel'] as const
/** The janitor looks once a second; samples and queues take their time. */
const SLACK_MS = 3000
/** A cluster that was well for so long has a primary that its sessions are served by. */
const WELL_MS = 16_000
const WRITES = /^(?:INSERT|COPY|CALL|COMMIT)/
const TERMINATE = 0x58

interface Reign {
  readonly primary: string
  readonly timeline: number
  readonly term: number
}

export class Invariants {
  readonly #proxy: SimulatedProxy
  readonly #around: Surroundings
  #topology: Topology | null = null
  #reign: Reign | null = null
  /** As it was when its rivals were looked at last. */
  #settled: Reign | null = null
  #isForgotten = false
  readonly #heldSince = new Map<Session, number>()
  #wellSinceMs = 0

  constructor(proxy: SimulatedProxy, around: Surroundings) {
    this.#proxy = proxy
    this.#around = around
  }

  /** RECONNECT: the rules of terms begin anew. */
  forget(): void {
    this.#isForgotten = true
    this.#settled = null
    this.#proxy.ear.leaders = []
  }

  // What it says of the cluster.

  published(topology: Topology): void {
    const before = this.#topology
    this.#topology = topology
    if (before !== null && (topology.term < before.term || topology.serial <= before.serial))
      this.#breach('term and serial of the topology only grow')
    const { primary, timeline, term } = topology
    if (primary === null || timeline === null) return
    const reign = { primary, timeline, term }
    if (this.#reign !== null && !this.#isForgotten) this.#succeeds(this.#reign, reign)
    this.#reign = reign
    this.#isForgotten = false
  }

  /** Fence by term. */
  #succeeds(before: Reign, now: Reign): void {
    const isSame = before.primary === now.primary && before.timeline === now.timeline
    if (!isSame && now.term <= before.term)
      this.#breach(`${told(now)} follows ${told(before)}: another primary in the same term`)
    const isOther = before.primary !== now.primary
    if (now.timeline < before.timeline || (isOther && now.timeline === before.timeline))
      this.#breach(`${told(now)} follows ${told(before)}: its timeline is not greater`)
  }

  /** Who comes back on its own timeline must not have been followed by anybody. */
  #checkRivals(): void {
    const { ear } = this.#proxy
    const reign = this.#reign
    if (ear.leaders.length === 0 || reign === null || this.#topology?.primary === null) return
    const rivals = ear.leaders.filter((name) => memberName(reign.primary) !== name)
    if (rivals.length > 0 && this.#settled?.timeline === reign.timeline)
      this.#breach(`${told(reign)} follows itself, and ${rivals.join(', ')} led in between`)
    ear.leaders = []
    this.#settled = reign
  }

  // What it sends.

  /** Nothing but a farewell goes to a primary's server of an older term. */
  sending(identity: ServerConnection['identity'], bytes: Buffer): void {
    if (bytes[0] === TERMINATE || identity.role !== 'primary') return
    const { term } = this.#proxy.pools.topology
    if (identity.term !== term)
      this.#breach(`bytes for ${identity.member} of term ${identity.term} in term ${term}`)
  }

  /** A write is acknowledged only by the verified primary of the term. */
  answering(session: Session, answer: readonly Frame[]): void {
    const { server } = session
    if (server === null) return
    const isWrite = answer.some(
      ({ type, body }) => type === 'C' && WRITES.test(body.toString('latin1')),
    )
    // A COMMIT of what only read may come from a replica.
    if (!isWrite || server.identity.role === 'replica') return
    const { member, term } = server.identity
    const { topology } = this.#proxy.pools
    // While it is only doubted, under the same term, what it has begun may end.
    if ((topology.primary ?? member) !== member || topology.term !== term)
      this.#breach(
        `a write is acknowledged by ${member} of term ${term} in term ${topology.term} of ${topology.primary}`,
      )
    this.#checkLease(memberName(member))
  }

  /** With the lease guard nothing is acknowledged by the old side once a new leader key exists. */
  #checkLease(member: string): void {
    const { watcher, pools } = this.#proxy
    const { leader, reigns } = this.#around.cluster.etcd
    const isGuarded = pools.topology.writableUntilMs !== null && watcher.facts().state === 'serving'
    if (!isGuarded || leader === null || leader === member) return
    if (reigns.at(-1)?.name !== leader) return
    this.#breach(`a write is acknowledged by ${member}, and ${leader} holds the leader key`)
  }

  // After every step.

  check(): void {
    const { clock } = this.#around
    const nowMs = clock.nowMs()
    const pools = new Set<Pool>()
    this.#noteHealth(nowMs)
    this.#checkRivals()
    for (const [session, client] of this.#proxy.sessions) {
      const { server } = session
      if (server !== null && server.holder !== (session.riding.carriage ?? session))
        this.#breach('a session holds a server that is not its own')
      if (client.mustBeClosed) this.#breach(`${client.name} lives on without its server`)
      if (session.state === 'waiting') this.#checkWait(session, nowMs)
      else this.#heldSince.delete(session)
      pools.add(session.pool)
    }
    for (const pool of pools) this.#checkPool(pool)
  }

  #checkWait(session: Session, nowMs: number): void {
    const { config } = this.#proxy
    const holdMs = holdMsMax(config)
    const totalMs = holdMs + session.pool.config.queryWaitTimeoutMs + SLACK_MS
    const who = `c${session.clientId}`
    if (nowMs - session.waitingSinceMs > totalMs) this.#breach(`${who} waits for ever`)
    const { waitReason } = session
    if (waitReason === 'pool' || waitReason === 'replica' || waitReason === null) {
      this.#heldSince.delete(session)
      return
    }
    const sinceMs = Math.max(this.#heldSince.get(session) ?? nowMs, session.waitingSinceMs)
    this.#heldSince.set(session, sinceMs)
    if (nowMs - sinceMs > holdMs + SLACK_MS) this.#breach(`${who} is held for ever (${waitReason})`)
    if (nowMs - Math.max(sinceMs, this.#wellSinceMs) > WELL_MS)
      this.#breach(`${who} is held (${waitReason}) though nothing is wrong`)
  }

  /** Since when there has been nothing that this instance could wait for. */
  #noteHealth(nowMs: number): void {
    const { cluster } = this.#around
    const { primary, etcd } = cluster
    const isWell =
      primary?.isReachableFrom(this.#proxy.name) === true &&
      !primary.isAgentFrozen &&
      !primary.isAgentCut &&
      etcd.isUp &&
      !etcd.cutFrom.has(this.#proxy.name) &&
      !cluster.isPaused
    if (!isWell || primary !== this.#wellWith) this.#wellSinceMs = nowMs
    if (this.#topology?.missing.includes('RECONNECT') === true) this.#wellSinceMs = nowMs
    this.#wellWith = primary
  }

  #wellWith: Member | undefined

  #checkPool(pool: Pool): void {
    const { term } = this.#proxy.pools.topology
    const listed: ServerConnection[] = []
    for (const home of pool.roster.members.values()) {
      if (home.serverCount === 0) continue
      for (const state of STATES)
        for (const server of home.inState(state)) {
          if (listed.includes(server)) this.#breach('a server is in two lists')
          listed.push(server)
          if (server.state !== state)
            this.#breach(`a server in state ${server.state} is listed as ${state}`)
          const { role } = server.identity
          if (role === 'primary' && server.identity.term !== term)
            this.#breach(`a server of term ${server.identity.term} is kept in term ${term}`)
        }
    }
    for (const server of listed) this.#checkHolder(server, listed)
    const held = pool.waiting.heldPrimary.length
    const heldMax = this.#proxy.config.pgsteer.holdWaitersMax
    if (held > heldMax) this.#breach(`${held} sessions are held`)
  }

  #checkHolder(server: ServerConnection, listed: readonly ServerConnection[]): void {
    const { holder, state } = server
    if (holder !== null) {
      if (state !== 'active') this.#breach(`a server in state ${state} is held`)
      const isShared = listed.some((one) => one !== server && one.holder === holder)
      if (isShared && !this.#isKept(server)) this.#breach('a session holds two servers')
    }
    if ((state === 'idle' || state === 'used') && !server.isIdle)
      this.#breach('a free server owes something')
  }

  /** Session mode keeps one for each role. */
  #isKept(server: ServerConnection): boolean {
    return server.identity.database === 'kept'
  }

  #breach(what: string): void {
    this.#around.judge.breach(`${this.#proxy.name}: ${what}`)
  }
}

/** A static list calls its members by address. */
export function memberName(name: string): string {
  return name.split(':')[0] ?? name
}

function told({ primary, timeline, term }: Reign): string {
  return `${primary} on timeline ${timeline} in term ${term}`
}
