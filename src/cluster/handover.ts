/**
 * The planned handover as it goes on: the plan of switchover.ts, the calls of Patroni's hook, and on
 * which members there is such a hook. Nobody says that beforehand, so it is learnt: from a call, and
 * from a primary that handed over without one. Until the first call, of whichever member, none is
 * expected; afterwards it is on all of them, except those that were seen to hand over without.
 */
import type { Log } from '../base/log.ts'
import type { FailoverRequest } from './source.ts'
import {
  advancePlan,
  NO_PLAN,
  PLANNED,
  type Plan,
  type PlanEvidence,
  type PlannedLimits,
  planLimits,
  resumedPlan,
  switchoverOf,
} from './switchover.ts'
import type { Hooks, Switchover, Topology } from './topology.ts'

/** What is to be known of the cluster, each time. */
export type Sight = Pick<
  PlanEvidence,
  'nowMs' | 'wallMs' | 'incumbent' | 'confirmedMs' | 'isMoot'
> & {
  readonly request: FailoverRequest | null
  readonly ttlMs: number
}

export class Handover {
  readonly #log: Log
  #limits: PlannedLimits
  #plan: Plan = NO_PLAN
  #calledMs: number | null = null
  #hooks: Hooks = {}

  constructor(log: Log, limits: PlannedLimits = PLANNED) {
    this.#log = log
    this.#limits = limits
  }

  /** Goes on where the control process before this one was. */
  takeOver(previous: Topology, nowMs: number): void {
    this.#plan = resumedPlan(previous, nowMs)
    this.#hooks = previous.hooks
  }

  setLimits(limits: PlannedLimits): void {
    this.#limits = limits
  }

  get told(): Switchover | null {
    return switchoverOf(this.#plan)
  }

  get hooks(): Hooks {
    return this.#hooks
  }

  get isHolding(): boolean {
    return this.#plan.state === 'holding'
  }

  /** Patroni on that member is about to stop it. */
  call(member: string, isPrimary: boolean, nowMs: number): void {
    this.#remember(member, true)
    if (isPrimary) this.#calledMs = nowMs
  }

  /** RECONNECT: what was planned is forgotten, where hooks are is not. */
  forget(): void {
    this.#plan = { ...NO_PLAN, heardMs: this.#calledMs }
  }

  look({ ttlMs, ...sight }: Sight): void {
    const before = this.#plan
    const { plan, taken } = advancePlan(before, {
      ...sight,
      calledMs: this.#calledMs,
      hasHook: sight.incumbent !== null && this.#hasHook(sight.incumbent.name),
      limits: planLimits(this.#limits, ttlMs),
    })
    this.#plan = plan
    const primary = plan.incumbent?.name
    for (const { from, to, because, when } of taken) {
      this.#log.info(
        { from, to, because, primary, candidate: plan.candidate },
        `switchover: ${when}`,
      )
      if (when === 'there is a new primary') this.#noteSilence(before)
    }
  }

  #hasHook(member: string): boolean {
    return this.#hooks[member] ?? Object.values(this.#hooks).includes(true)
  }

  #noteSilence({ state, isCalled, incumbent }: Plan): void {
    const isSilent = state === 'draining' || (state === 'holding' && !isCalled)
    if (isSilent && incumbent !== null) this.#remember(incumbent.name, false)
  }

  #remember(member: string, isCalling: boolean): void {
    if (this.#hooks[member] === isCalling) return
    this.#hooks = Object.freeze({ ...this.#hooks, [member]: isCalling })
  }
}
