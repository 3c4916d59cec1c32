/** A static list of hosts against a real PostgreSQL 18, and what the watcher reads from members. */
import { afterEach, describe, expect, test, vi } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { createLog } from '../../src/base/log.ts'
import { probeAccess } from '../../src/cluster/direct.ts'
import { FunctionReader, type FunctionRow } from '../../src/cluster/functions.ts'
import type { Topology } from '../../src/cluster/topology.ts'
import type { ClusterConfig } from '../../src/config/config.ts'
import { EmbeddedCluster } from '../../src/demo/cluster.ts'
import { useCluster } from '../support/postgres.ts'
import { waitFor } from '../support/wait.ts'
import { clusterConfig, Recorder } from './watcher-recorder.ts'

const endings: (() => Promise<void>)[] = []

afterEach(async () => {
  for (const end of endings.splice(0).toReversed()) await end()
})

function staticConfig(
  cluster: EmbeddedCluster,
  changes: Partial<ClusterConfig> = {},
): ClusterConfig {
  const probe = { probeUser: 'pgsteer', probePassword: 'pgsteer' }
  return clusterConfig(cluster, { source: 'static', ...probe, ...changes })
}

async function record(
  cluster: EmbeddedCluster,
  changes: Partial<ClusterConfig> = {},
  deps: ConstructorParameters<typeof Recorder>[1] = {},
): Promise<Recorder> {
  const recorder = new Recorder(staticConfig(cluster, changes), deps)
  endings.push(() => recorder.watcher.stop())
  await recorder.watcher.start()
  return recorder
}

function memberOf({ members }: Topology, { port }: { port: number }) {
  return members.find((one) => one.port === port)
}

function nameOf(member: { port: number }): string {
  return `127.0.0.1:${member.port}`
}

describe('promotion by hand', () => {
  test('a promoted replica is the primary, and the old one that comes back is not', async () => {
    const cluster = await EmbeddedCluster.start({ replicas: 2 })
    endings.push(() => cluster.stop())
    const recorder = await record(cluster)
    const before = await recorder.settled(2)
    const old = cluster.primary
    expect(before.primary).toBe(nameOf(old))

    await cluster.kill(old.name)
    await recorder.until('no primary', ({ primary }) => primary === null, 1000)
    const newcomer = await record(cluster)
    await newcomer.until(
      'replicas that serve reads without any primary',
      ({ members }) => members.filter((member) => member.eligible).length === 2,
    )
    expect(newcomer.topology.primary).toBeNull()

    const chosen = await cluster.promoteMostAdvanced()
    const after = await recorder.until('the new one', ({ primary }) => primary === nameOf(chosen))
    expect(after.topology.timeline).toBe(2)
    expect(after.topology.term).toBeGreaterThan(before.term)

    await old.start()
    const zombie = await recorder.until('the old one writing', ({ members }) =>
      members.some((one) => one.name === nameOf(old) && one.ineligibleReason === 'not_in_recovery'),
    )
    expect(zombie.topology.primary).toBe(nameOf(chosen))

    const another = await record(cluster)
    await waitFor('both names', () => {
      const { missing, primary } = another.topology
      return primary === null && missing.includes(nameOf(old)) && missing.includes(nameOf(chosen))
    })
  })
})

describe('one primary and two replicas', () => {
  const shared = useCluster({ replicas: 2 })

  test('a refused log-in is told in the sentence that says what is missing', async () => {
    const recorder = await record(shared.cluster, { probePassword: 'wrong' })
    await recorder.until('the reason', ({ missing }) =>
      missing.includes('password authentication failed'),
    )
    expect(recorder.topology.primary).toBeNull()
  })

  test('a replica whose replay is paused gets no reads once it is too far behind', async () => {
    const { cluster } = shared
    const limits = { replicaLagBytesMax: 10_000, replicaLagMsMax: 60_000 }
    const recorder = await record(cluster, {}, { limits })
    await recorder.settled(2)
    const [paused] = cluster.replicas
    await cluster.pauseReplay(paused?.name ?? '')
    await cluster.primary.query('create table lagging as select * from generate_series(1, 5000)')
    const seen = await recorder.until('the lag', ({ members }) =>
      members.some((one) => one.ineligibleReason === 'lag_bytes'),
    )
    const behind = seen.topology.members.find((one) => one.ineligibleReason === 'lag_bytes')
    expect(behind).toMatchObject({ port: paused?.port, role: 'replica', eligible: false })
    expect(behind?.lagBytes).toBeGreaterThan(10_000)
    await cluster.resumeReplay(paused?.name ?? '')
    await recorder.settled(2)
    await cluster.primary.query('drop table lagging')
  })

  test('a replica of a replica is judged by its own replay, not by that of its upstream', async () => {
    const { cluster } = shared
    const [upstream, cascaded] = [cluster.member('pg2'), cluster.member('pg3')]
    await cascaded.query(`alter system set primary_conninfo = '${cascaded.conninfo(upstream)}'`)
    await cascaded.query('select pg_reload_conf()')
    const followers = "select 1 from pg_stat_replication where application_name = 'pg3'"
    await waitFor('the cascade', async () => (await upstream.query(followers)).length === 1)
    const limits = { replicaLagBytesMax: 10_000, replicaLagMsMax: 60_000 }
    const recorder = await record(cluster, {}, { limits })
    await recorder.settled(2)
    await cluster.pauseReplay('pg2')
    await cluster.primary.query('create table cascaded as select * from generate_series(1, 5000)')
    await recorder.until('the upstream behind, the other one not', (topology) => {
      const behind = memberOf(topology, upstream)?.ineligibleReason === 'lag_bytes'
      return behind && memberOf(topology, cascaded)?.eligible === true
    })
    await waitFor('the table', () => cascaded.query('select count(*) from cascaded'))
    await cluster.resumeReplay('pg2')
    await cluster.pauseReplay('pg3')
    await cluster.primary.query('insert into cascaded select * from generate_series(1, 5000)')
    await recorder.until('the cascaded one behind', (topology) => {
      const behind = memberOf(topology, cascaded)?.ineligibleReason === 'lag_bytes'
      return behind && memberOf(topology, upstream)?.eligible === true
    })
    await cluster.resumeReplay('pg3')
    await recorder.settled(2)
    await cluster.primary.query('drop table cascaded')
    await cascaded.query('alter system reset primary_conninfo')
    await cascaded.query('select pg_reload_conf()')
  })

  test('a role without pg_monitor is enough while no timeline changes', async () => {
    const user = { probeUser: 'demo', probePassword: 'demo' }
    const topology = await (await record(shared.cluster, user)).settled(2)
    expect(topology.members.map((one) => one.sample?.timeline)).toEqual([1, 1, 1])
  })

  test('busy probes come every few milliseconds', async () => {
    const recorder = await record(shared.cluster)
    await recorder.settled(2)
    recorder.watcher.setBusy(true)
    const before = recorder.watcher.facts().probes
    const startMs = performance.now()
    await waitFor('60 probes of three members', () => recorder.watcher.facts().probes > before + 60)
    expect(performance.now() - startMs).toBeLessThan(2000)
  })

  test('a probe that somebody ends is asked again and nothing is lost', async () => {
    const recorder = await record(shared.cluster)
    await recorder.settled(2)
    const from = recorder.seen.length
    const ended = await shared.cluster.primary.query<{ n: string }>(
      "select count(pg_terminate_backend(pid)) as n from pg_stat_activity where application_name = 'pgsteer probe'",
    )
    expect(Number(ended[0]?.n)).toBeGreaterThan(0)
    const before = recorder.watcher.facts().probes
    await waitFor('more probes', () => recorder.watcher.facts().probes > before + 5)
    expect(recorder.missedSince(from)).toEqual([])
  })

  test('a process that takes over keeps the term, and never says that there is no primary', async () => {
    const recorder = await record(shared.cluster)
    const topology = await recorder.settled(2)
    const previous = { ...topology, term: 41 }
    const successor = await record(shared.cluster, {}, { previous })
    await successor.settled(2)
    expect(successor.missedSince(0)).toEqual([])
    expect(successor.topology.term).toBe(41)
    expect(successor.topology.serial).toBeGreaterThan(topology.serial)
  })

  test('the functions of a database are read once, and again when they changed', async () => {
    const { cluster } = shared
    const recorder = await record(cluster)
    await recorder.settled(2)
    const published: FunctionRow[][] = []
    const log = createLog({ level: 'silent', format: 'json' })
    const warned = vi.spyOn(log, 'warn')
    let asked = 0
    const reader = new FunctionReader({
      query: "select proname::text as name from pg_proc where proname like 'of_mine%' order by 1",
      access: () => {
        asked += 1
        return probeAccess(staticConfig(cluster))
      },
      addresses: () => recorder.watcher.addresses(),
      publish: (_, rows) => published.push([...rows]),
      refreshMs: 100,
      clock: systemClock,
      log,
    })
    endings.push(() => Promise.resolve(reader.stop()))
    reader.start()
    reader.setDatabases(['postgres', 'nowhere'])
    await waitFor('the first rows', () => published.length === 1)
    expect(published[0]).toEqual([])
    await cluster.primary.query('create function of_mine() returns int language sql return 1')
    await cluster.caughtUp()
    await waitFor('the changed rows', () => published.length === 2)
    expect(published[1]).toEqual([{ name: 'of_mine' }])
    const before = asked
    await waitFor('more reads', () => asked > before + 4)
    expect(published).toHaveLength(2)
    const nowhere = expect.objectContaining({ database: 'nowhere' })
    await waitFor('the warning', () => warned.mock.calls.length > 0)
    expect(warned).toHaveBeenCalledWith(nowhere, 'the functions of a database were not read')
  })
})
