/**
 * `npm run bench:failover`: the same traffic through pgsteer and through HAProxy with Patroni's sample
 * configuration, at the same time, in front of one real Patroni cluster, while the primary is
 * switched and while its node dies. Writes a picture of each to docs/pictures and every step of
 * time to bench/results/failover.json. Needs root, as Debian 13's directory does.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { reasonOf } from '../../src/base/errors.ts'
import { settled, startCluster, startSteer } from '../../test/failover/steer-cluster.ts'
import { BeforeStop } from '../../test/support/before-stop.ts'
import { HaProxy } from '../../test/support/haproxy.ts'
import { debian13, type PatroniCluster } from '../../test/support/patroni.ts'
import { waitFor } from '../../test/support/wait.ts'
import { machine } from '../machine.ts'
import { picture } from './picture.ts'
import { type Timeline, timelineOf } from './timeline.ts'
import { Traffic } from './traffic.ts'

const RESULTS = resolve(import.meta.dirname, '../results')
const PICTURES = resolve(import.meta.dirname, '../../docs/pictures')
const BEFORE_MS = 5000
const AFTER_MS = 5000
const RECOVERY_MS_MAX = 180_000
/** Patroni's own defaults. */
const CLUSTER = { installation: debian13(), ttlS: 30, loopWaitS: 10 }

interface Fault {
  readonly name: string
  readonly title: string
  readonly strike: (cluster: PatroniCluster, primary: string) => Promise<void>
}

const FAULTS: readonly Fault[] = [
  {
    name: 'switchover',
    title: 'A planned switchover',
    strike: (cluster) => cluster.switchover(),
  },
  {
    name: 'node-loss',
    title: "kill -9 of all that the primary's node runs, etcd member included",
    strike: async (cluster, primary) => {
      const etcd = `etcd${/\d+$/.exec(primary)?.[0]}`
      await Promise.all([cluster.killNode(primary), cluster.signal(etcd, 'SIGKILL')])
    },
  },
]

function progress(text: string): void {
  process.stderr.write(`${text}\n`)
}

async function main(): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new Error('bench:failover needs root: it enters a Debian 13 directory')
  await using stack = new AsyncDisposableStack()
  const hook = stack.adopt(new BeforeStop(CLUSTER.installation), (one) => one.remove())
  progress('Starting three Patroni members, three etcd members, HAProxy and pgsteer')
  const cluster = await startCluster({
    ...CLUSTER,
    postgresql: (name) => ({ ...hook.settings(name) }),
  })
  stack.defer(() => cluster.stop())
  const haproxy = await HaProxy.start(cluster.members)
  stack.defer(() => haproxy.stop())
  const steer = await startSteer(cluster, 'etcd', {
    pgsteer: { http_token_file: hook.tokenFile, switchover_grace_ms: 0 },
  })
  stack.defer(() => steer.stop())
  hook.call(`http://${steer.host}:${steer.httpPort}`)

  const { host, primaryPort, replicaPort } = haproxy
  const doors = {
    pgsteer: { write: steer, read: steer },
    HAProxy: { write: { host, port: primaryPort }, read: { host, port: replicaPort } },
  }
  const faults: { name: string; title: string; timelines: readonly Timeline[] }[] = []
  for (const { name, title, strike } of FAULTS) {
    progress(title)
    const port = await settled(steer, cluster.members.length - 1)
    const primary = cluster.members.find((member) => member.port === port)?.name ?? ''
    const timelines = await watch(doors, () => strike(cluster, primary))
    faults.push({ name, title, timelines })
    mkdirSync(PICTURES, { recursive: true })
    writeFileSync(join(PICTURES, `failover-${name}.svg`), `${picture(title, timelines)}\n`)
    for (const one of timelines) progress(sentence(one))
  }
  keep(faults)
}

/** Runs the traffic of all contenders over the fault, until each of them answers again. */
async function watch(
  doors: Readonly<Record<string, ConstructorParameters<typeof Traffic>[0]>>,
  strike: () => Promise<void>,
): Promise<Timeline[]> {
  const traffic = Object.entries(doors).map(([name, door]) => ({ name, of: new Traffic(door) }))
  for (const one of traffic) one.of.start()
  try {
    for (const { name, of } of traffic) await serving(name, of, 0)
    const fromMs = performance.now()
    await pause(BEFORE_MS)
    const faultMs = performance.now()
    await strike()
    for (const { name, of } of traffic) await serving(name, of, performance.now())
    await pause(AFTER_MS)
    const span = { faultMs, fromMs, untilMs: performance.now() }
    return traffic.map(({ name, of }) => timelineOf(name, of.attempts, span))
  } finally {
    await Promise.all(traffic.map(({ of }) => of.stop()))
  }
}

async function serving(name: string, traffic: Traffic, sinceMs: number): Promise<void> {
  const isServed = (): boolean =>
    traffic.answered('write', sinceMs) > Traffic.clients &&
    traffic.answered('read', sinceMs) > Traffic.clients
  await waitFor(`writes and reads through ${name}`, isServed, { withinMs: RECOVERY_MS_MAX })
}

function sentence(timeline: Timeline): string {
  const { contender, failed, writeOutageMs, readOutageMs } = timeline
  return `  ${contender}: ${failed} failed, no write answered for ${writeOutageMs} ms, no read for ${readOutageMs} ms`
}

function keep(faults: readonly object[]): void {
  const at = new Date().toISOString()
  const run = { at, command: 'npm run bench:failover', machine: machine() }
  const json = { ...run, clients: Traffic.clients, faults }
  mkdirSync(RESULTS, { recursive: true })
  writeFileSync(join(RESULTS, 'failover.json'), `${JSON.stringify(json, null, 2)}\n`)
  progress('The pictures are in docs/pictures, every step in bench/results/failover.json')
}

try {
  await main()
} catch (error) {
  process.stderr.write(`${reasonOf(error)}\n`)
  process.exitCode = 1
}
