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
  pauseReplay: 2,
  killBackend: 4,
  resetBackend: 2,
  slowClient: 3,
} as const

export function misfortune(world: SimulatedWorld, endMs: number): void {
  const { clock, chance } = world
  clock.after(chance.between(200, 4000), () => {
    if (clock.nowMs() >= endMs - 1000) return
    strike(world, chance.weighted(FAULTS))
    misfortune(world, endMs)
  })
}

function strike(world: SimulatedWorld, fault: keyof typeof FAULTS): void {
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
    case 'killBackend':
    case 'resetBackend': {
      const [backend] = member.backends
      backend?.stop(fault === 'killBackend' ? 'fast' : 'kill')
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
      strikeControl(world, fault, member)
  }
}

function strikeControl(
  world: SimulatedWorld,
  fault: 'freezePatroni' | 'cutPatroni' | 'cut' | 'loseEtcd' | 'cutEtcd' | 'pause' | 'switchover',
  member: Member,
): void {
  const { chance, cluster } = world
  const { etcd } = cluster
  switch (fault) {
    case 'freezePatroni':
      member.isAgentFrozen = true
      lasts(world, 12_000, () => {
        member.isAgentFrozen = false
      })
      break
    case 'cutPatroni':
      member.isAgentCut = true
      lasts(world, 15_000, () => {
        member.isAgentCut = false
      })
      break
    case 'cut':
      cluster.cut(member, true)
      lasts(world, 4000, () => cluster.cut(member, false))
      break
    case 'loseEtcd':
      etcd.setUp(false)
      lasts(world, 8000, () => etcd.setUp(true))
      break
    case 'cutEtcd':
      etcd.isReachable = false
      lasts(world, 8000, () => {
        etcd.isReachable = true
      })
      break
    case 'pause':
      cluster.setPause(true)
      lasts(world, 5000, () => cluster.setPause(false))
      break
    case 'switchover':
      cluster.switchOver(chance.is(0.5) ? chance.of(cluster.members).name : null)
  }
}

function freeze(world: SimulatedWorld, member: Member, isRebooted: boolean): void {
  world.cluster.freeze(member)
  lasts(world, 10_000, () => world.cluster.thaw(member, isRebooted))
}

function lasts(world: SimulatedWorld, msMax: number, end: () => void): void {
  world.clock.after(world.chance.between(100, msMax), end)
}
