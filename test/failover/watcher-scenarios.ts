/**
 * What the watcher must see of a real Patroni cluster, as scenarios that run against any Patroni.
 * Each one leaves the cluster as it found it: a primary, and replicas that stream.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { ClusterConfig } from '../../src/config/config.ts'
import { type Installation, PatroniCluster } from '../support/patroni.ts'
import { waitFor } from '../support/wait.ts'
import { clusterConfig, Recorder } from './watcher-recorder.ts'

/** `thaws`: whether a Patroni that was frozen past its ttl respects the leader key of another one. */
export function watcherScenarios(
  installation: () => Installation,
  thaws: 'safely' | 'as a thief',
): void {
  const recorders: Recorder[] = []

  async function record(cluster: PatroniCluster, changes: Partial<ClusterConfig> = {}) {
    const recorder = new Recorder(clusterConfig(cluster, changes))
    recorders.push(recorder)
    await recorder.watcher.start()
    return recorder
  }

  afterEach(async () => {
    await Promise.all(recorders.splice(0).map((recorder) => recorder.watcher.stop()))
  })

  describe('three members and three etcd', () => {
    let cluster: PatroniCluster

    beforeAll(async () => {
      cluster = await PatroniCluster.start({
        installation: installation(),
        dynamic: { failsafe_mode: true },
      })
    })
    afterAll(() => cluster?.stop())

    test.for(['etcd', 'patroni', 'static'] as const)(
      'source = %s names the verified primary and two fit replicas',
      async (source) => {
        const leader = await cluster.leader()
        const recorder = await record(cluster, { source })
        const port = cluster.member(leader ?? '').port
        const topology = await recorder.settled(2)
        expect(topology).toMatchObject({ term: 1, missing: '', standbyCluster: false })
        const primary = topology.members.find((member) => member.name === topology.primary)
        expect(primary).toMatchObject({ port, role: 'primary', ineligibleReason: 'primary' })
        expect(primary?.sample?.insertLsn).toBeTypeOf('bigint')
      },
    )

    // A poll sees the leader a moment later than a watch.
    test.for([
      ['etcd', 500],
      ['static', 500],
      ['patroni', 1500],
    ] as const)(
      'source = %s: a switchover ends in the new primary as soon as it writes',
      async ([source, withinMs]) => {
        const recorder = await record(cluster, { source })
        const before = await recorder.settled(2)
        const old = await cluster.leader()
        const candidate = cluster.members.find((member) => member.name !== old)
        const target = before.members.find((member) => member.port === candidate?.port)?.name
        const from = recorder.seen.length
        const writable = waitFor(
          'the candidate to be writable',
          async () => {
            const sql = 'select pg_is_in_recovery() as r'
            const [row] = await cluster.query(candidate?.name ?? '', sql)
            return row?.['r'] === false ? performance.now() : undefined
          },
          { withinMs: 60_000, everyMs: 5 },
        )
        const [after, writableMs] = await Promise.all([
          recorder.until('the candidate', ({ primary }) => primary === target),
          writable,
          cluster.switchover(candidate?.name),
        ])
        expect(after.atMs - writableMs).toBeLessThan(withinMs)
        expect(recorder.namedSince(from - 1)).toEqual([before.primary, null, target])
        expect(after.topology.term).toBeGreaterThan(before.term)
        expect(after.topology.timeline).toBe((before.timeline ?? 0) + 1)
        await recorder.settled(2)
      },
    )

    test("kill -9 of the primary's node is seen at once, its successor when it writes", async () => {
      const recorder = await record(cluster)
      const before = await recorder.settled(2)
      const dead = before.primary ?? ''
      const from = recorder.seen.length
      const killedMs = performance.now()
      await cluster.killNode(dead)
      const gone = await recorder.until('no primary', ({ primary }) => primary === null)
      expect(gone.atMs - killedMs).toBeLessThan(1000)
      expect(gone.topology.missing).toContain(dead)
      const frozen = gone.topology.members.filter((member) => member.eligible)
      expect(frozen, 'replicas still serve reads').toHaveLength(2)
      const after = await recorder.until(
        'a successor',
        ({ primary }) => primary !== null && primary !== dead,
      )
      expect(recorder.namedSince(from - 1)).toEqual([dead, null, after.topology.primary])
      cluster.startPatroni(dead)
      await recorder.until('the dead member back as a replica', ({ members }) =>
        members.some((member) => member.name === dead && member.eligible),
      )
      expect(recorder.topology.primary).toBe(after.topology.primary)
    })

    // Patroni 3.0 takes the leader key back by a plain put when it thaws (4.0 compares and swaps);
    // pgsteer refuses the thief, whose timeline is too old, and the cluster has two histories.
    if (thaws === 'safely')
      test('a PostgreSQL that writes on while its Patroni is frozen is fenced when its key expires', async () => {
        const recorder = await record(cluster)
        const before = await recorder.settled(2)
        const zombie = before.primary ?? ''
        const from = recorder.seen.length
        await cluster.signal(zombie, 'SIGSTOP')
        try {
          const fenced = await recorder.until('the fence', ({ primary }) => primary === null)
          expect(fenced.topology.missing).toContain(`${zombie} is fenced`)
          const after = await recorder.until('a successor', ({ primary }) => primary !== null)
          expect(recorder.namedSince(from - 1)).toEqual([zombie, null, after.topology.primary])
          expect(after.topology.primary).not.toBe(zombie)
          const sql = 'create table if not exists lost (n int); insert into lost values (1)'
          await cluster.query(zombie, sql)
          await recorder.until('the zombie writing', ({ members }) =>
            members.some(
              (one) => one.name === zombie && one.ineligibleReason === 'not_in_recovery',
            ),
          )
          expect(recorder.topology.primary).toBe(after.topology.primary)
        } finally {
          await cluster.signal(zombie, 'SIGCONT')
        }
        await recorder.settled(2)
      })

    test('a PostgreSQL that crashes and comes back in place serves in the same term', async () => {
      const recorder = await record(cluster)
      const before = await recorder.settled(2)
      cluster.killPostgres(before.primary ?? '')
      await recorder.until('no primary', ({ primary }) => primary === null, 2000)
      const after = await recorder.until('a primary', ({ primary }) => primary !== null)
      if (after.topology.primary === before.primary && after.topology.timeline === before.timeline)
        expect(after.topology.term).toBe(before.term)
      else expect(after.topology.term).toBeGreaterThan(before.term)
      await recorder.settled(2)
    })

    test.for([0, 1, 2])('a change is seen within 2 s with etcd member %i frozen', async (index) => {
      const recorder = await record(cluster)
      await recorder.settled(2)
      const etcd = cluster.etcds[index]
      const ghost = `ghost${index}`
      const alive = cluster.etcds.find((one) => one !== etcd)
      await cluster.signal(etcd?.name ?? '', 'SIGSTOP')
      try {
        await waitFor('a put', () => cluster.put(alive, `members/${ghost}`, '{"state":"running"}'))
        const writtenMs = performance.now()
        const seen = await recorder.until('the change', ({ members }) =>
          members.some((member) => member.name === ghost),
        )
        expect(seen.atMs - writtenMs).toBeLessThan(2000)
        expect(recorder.watcher.facts().sourceAnswers).toBe(true)
      } finally {
        await cluster.signal(etcd?.name ?? '', 'SIGCONT')
      }
      // A put that a frozen leader had in its socket may be carried out when it thaws: delete again.
      await waitFor(
        'the change undone',
        async () => {
          await cluster.put(alive, `members/${ghost}`, null)
          return recorder.topology.members.every((member) => member.name !== ghost)
        },
        { everyMs: 200 },
      )
    })

    test('the loss of the etcd quorum interrupts nothing while Patroni vouches for the primary', async () => {
      const recorder = await record(cluster)
      const before = await recorder.settled(2)
      await waitFor('Patroni to know the failsafe set', () => cluster.has('failsafe'), {
        withinMs: 20_000,
      })
      const from = recorder.seen.length
      const frozen = cluster.etcds.slice(0, 2)
      for (const etcd of frozen) await cluster.signal(etcd.name, 'SIGSTOP')
      const lostMs = performance.now()
      try {
        await waitFor('the loss noticed', () => !recorder.watcher.facts().sourceAnswers)
        expect(performance.now() - lostMs).toBeLessThan(4000)
        await waitFor('more than ttl', () => performance.now() - lostMs > 26_000, {
          withinMs: 30_000,
          everyMs: 100,
        })
        expect(recorder.missedSince(from - 1)).toEqual([])
        expect(recorder.watcher.facts().state).toBe('failstatic')
        expect(recorder.topology).toMatchObject({ primary: before.primary, term: before.term })
      } finally {
        for (const etcd of frozen) await cluster.signal(etcd.name, 'SIGCONT')
      }
      // etcd may find the lease run out when it is back: then the same member gets a new key.
      await waitFor('etcd back', () => recorder.watcher.facts().sourceAnswers)
      const after = await recorder.settled(2)
      expect(after).toMatchObject({ primary: before.primary, timeline: before.timeline })
    })
  })

  describe('one member', () => {
    let cluster: PatroniCluster

    beforeAll(async () => {
      cluster = await PatroniCluster.start({ installation: installation(), members: 1, etcds: 1 })
    })
    afterAll(() => cluster?.stop())

    test("Patroni gone past its ttl and back: writes resume within 1 s of the key's return", async () => {
      const recorder = await record(cluster)
      await recorder.settled(0)
      await cluster.signal('pg1', 'SIGKILL')
      const fenced = await recorder.until('the fence', ({ primary }) => primary === null)
      expect(fenced.topology.missing).toContain('fenced')
      cluster.startPatroni('pg1')
      const returned = waitFor(
        "the key's return",
        async () => ((await cluster.leader()) === 'pg1' ? performance.now() : undefined),
        { withinMs: 60_000 },
      )
      const named = recorder.until('pg1 again', ({ primary }) => primary === 'pg1')
      const [back, returnedMs] = await Promise.all([named, returned])
      expect(back.atMs - returnedMs).toBeLessThan(1000)
      expect(back.topology.timeline).toBe(fenced.topology.timeline)
      expect(back.topology.term).toBeGreaterThan(fenced.topology.term)
    })

    test('in pause the primary keeps serving without its key, in the same term', async () => {
      const recorder = await record(cluster)
      const before = (await recorder.until('a primary', ({ primary }) => primary === 'pg1'))
        .topology
      await cluster.configure({ pause: true })
      await recorder.until('the pause', ({ paused }) => paused)
      const from = recorder.seen.length
      await cluster.signal('pg1', 'SIGKILL')
      await waitFor('no key', () => recorder.watcher.facts().state === 'unlocked', {
        withinMs: 40_000,
        everyMs: 100,
      })
      cluster.startPatroni('pg1')
      await waitFor('the key again', () => recorder.watcher.facts().state === 'serving', {
        withinMs: 40_000,
        everyMs: 100,
      })
      await cluster.configure({ pause: null })
      await recorder.until('the end of the pause', ({ paused }) => !paused)
      expect(recorder.namedSince(from - 1)).toEqual(['pg1'])
      expect(recorder.topology.term).toBe(before.term)
    })

    test('a cluster made a standby takes no writes and says so, until it is promoted again', async () => {
      const recorder = await record(cluster)
      const before = await recorder.settled(0)
      await cluster.configure({ standby_cluster: { host: '127.0.0.1', port: 1 } })
      const standby = await recorder.until('the standby', ({ standbyCluster }) => standbyCluster)
      expect(standby.topology.primary).toBeNull()
      expect(standby.topology.missing).toBe('this is a standby cluster, nothing in it takes writes')
      await recorder.until('a leader in recovery', ({ members }) =>
        members.some((member) => member.name === 'pg1' && member.role === 'replica'),
      )
      await cluster.configure({ standby_cluster: null })
      const after = await recorder.until('pg1 again', ({ primary }) => primary === 'pg1')
      expect(after.topology.timeline).toBeGreaterThan(before.timeline ?? 0)
    })
  })
}
