/**
 * What goes wrong in the simulated world, each for a while. `misfortune` chooses until its end.
 */
import type { Member } from './cluster.ts'
import type { SimulatedWorld } from './world.ts'

const FAULTS = {
  crash: 3,
  stopReplica: 2,
  loseHost: 1,
  freeze: 2,
  freezePatroni: 1,
  cutPatroni: 1,
  cut: 2,
  loseEtcd: 1,
  cutEtcd: 1,
  pause: 1,
  switchover: 4,
  restart: 1,
  steal: 1,
  interregnum: 0.4,
  pauseReplay: 2,
  leapfrog: 2,
  outage: 0.3,
  killBackend: 4,
  resetBackend: 2,
  slowClient: 3,
} as const

type Fault = keyof typeof FAULTS

/** In each life some never happen and others all the time, so that more of them meet. */
const FACTORS = [0, 0.5, 1, 1, 4] as const

export function misfortune(world: SimulatedWorld, endMs: number): void {
  const { chance } = world
  const weights = { ...FAULTS } as Record<Fault, number>
  for (const fault of Object.keys(FAULTS) as Fault[]) weights[fault] *= chance.of(FACTORS)
  goWrong(world, endMs, weights)
}

function goWrong(
  world: SimulatedWorld,
  endMs: number,
  weights: Readonly<Record<Fault, number>>,
): void {
  const { clock, chance } = world
  clock.after(chance.between(200, 4000), () => {
    if (clock.nowMs() >= endMs - 1000) return
    strike(world, chance.weighted(weights))
    goWrong(world, endMs, weights)
  })
}

function strike(world: SimulatedWorld, fault: Fault): void {
  const { chance, cluster } = world
  const { primary } = cluster
  const replica = chance.of(cluster.members.filter((one) => one !== primary))
  const member = primary !== undefined && chance.is(0.6) ? primary : replica
  world.trace(`fault: ${fault} ${member.name}`)
  switch (fault) {
    case 'crash':
      cluster.stop(member, chance.is(0.5) ? 'crash' : 'kill')
      break
    case 'stopReplica':
      cluster.stop(replica, 'fast')
      break
    case 'loseHost':
    case 'freeze':
      freeze(world, member, fault === 'loseHost')
      break
    case 'pauseReplay':
      replica.isReplayPaused = true
      lasts(world, 4000, () => {
        replica.isReplayPaused = false
      })
      break
    case 'leapfrog':
      leapfrog(world)
      break
    case 'killBackend':
    case 'resetBackend': {
      // Mostly one that has something to do, now or next.
      const how = fault === 'killBackend' ? 'fast' : 'kill'
      if (chance.is(0.8)) member.ambush = how
      else [...member.backends][0]?.stop(how)
      break
    }
    case 'slowClient': {
      const link = chance.of(world.clients).link
      link.isPeerStopped = true
      lasts(world, 3000, () => link.readAgain())
      break
    }
    case 'freezePatroni':
    case 'cutPatroni':
    case 'cut':
    case 'loseEtcd':
    case 'cutEtcd':
    case 'pause':
    case 'switchover':
    case 'restart':
    case 'steal':
    case 'interregnum':
    case 'outage':
      strikeControl(world, fault, member)
  }
}

function strikeControl(
  world: SimulatedWorld,
  fault:
    | 'freezePatroni'
    | 'cutPatroni'
    | 'cut'
    | 'loseEtcd'
    | 'cutEtcd'
    | 'pause'
    | 'switchover'
    | 'restart'
    | 'steal'
    | 'interregnum'
    | 'outage',
  member: Member,
): void {
  const { chance, cluster } = world
  const { etcd } = cluster
  const proxy = chance.of(world.proxies).name
  switch (fault) {
    case 'freezePatroni':
      member.isAgentFrozen = true
      lasts(world, 12_000, () => {
        member.isAgentFrozen = false
        if (chance.is(0.4)) cluster.steal(member)
      })
      break
    case 'cutPatroni':
      member.isAgentCut = true
      lasts(world, 15_000, () => {
        member.isAgentCut = false
      })
      break
    case 'cut':
      cluster.cut(member, proxy, true)
      lasts(world, 4000, () => cluster.cut(member, proxy, false))
      break
    case 'loseEtcd':
      etcd.setUp(false)
      lasts(world, 8000, () => etcd.setUp(true))
      break
    case 'cutEtcd':
      etcd.cutFrom.add(proxy)
      lasts(world, 8000, () => etcd.cutFrom.delete(proxy))
      break
    case 'pause':
      cluster.setPause(true)
      lasts(world, 5000, () => cluster.setPause(false))
      break
    case 'switchover':
      cluster.switchOver(chance.is(0.5) ? chance.of(cluster.members).name : null)
      break
    case 'restart':
      if (cluster.primary !== undefined) void cluster.restart(cluster.primary)
      break
    case 'steal':
      for (const one of cluster.members) cluster.steal(one)
      break
    case 'interregnum':
      cluster.interregnum()
      break
    case 'outage':
      // In pause nobody takes over, and nobody starts it.
      cluster.setPause(true)
      if (cluster.primary !== undefined) freeze(world, cluster.primary, true)
      lasts(world, 5000, () => cluster.setPause(false))
  }
}

/** One replica stands still, and the one that is ahead of it is gone: reads have to move. */
function leapfrog(world: SimulatedWorld): void {
  const { chance, cluster } = world
  const [late, ahead] = cluster.members.filter((one) => one !== cluster.primary)
  if (late === undefined || ahead === undefined) return
  late.isReplayPaused = true
  world.clock.after(chance.between(20, 600), () => cluster.stop(ahead, 'fast'))
  lasts(world, 3000, () => {
    late.isReplayPaused = false
  })
}

function freeze(world: SimulatedWorld, member: Member, isRebooted: boolean): void {
  world.cluster.freeze(member)
  lasts(world, 10_000, () => world.cluster.thaw(member, isRebooted))
}

function lasts(world: SimulatedWorld, msMax: number, end: () => void): void {
  world.clock.after(world.chance.between(100, msMax), end)
}
