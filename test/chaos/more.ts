/**
 * The other scenarios of the whole form (`npm run test:chaos -- --all`).
 */
import { expect } from 'vitest'
import { waitFor } from '../support/wait.ts'
import { etcdLeader, leadEtcd } from './etcd.ts'
import { clientOf, reasonOf, WRITERS } from './load.ts'
import {
  expectFenced,
  findQuorum,
  killNode,
  LEASE_MS,
  LONGER_THAN_TTL_MS,
  loseQuorum,
  type Scenario,
  useFailsafe,
} from './scenarios.ts'
import type { Scene, Stage } from './stage.ts'

const STORM = 100
const GIVE_UP = 10
/** How long the CHECKPOINT of a switchover is made to last. */
const CHECKPOINT_MS = 3000
const FREEZE_MS = 6000
/** For so long replicas get nothing. */
const BEHIND_MS = 1500
const SCHEDULED_MS = 6000
/** A token of what the new timeline does not have. */
const TOKEN_LOST = /^08007/

export const MORE: readonly Scenario[] = [
  {
    name: 'node of primary and etcd leader killed',
    title: 'kill -9 of the node that is primary and etcd leader costs statements in flight at most',
    costs: 'flight',
    play: async (stage, scene) => {
      await leadEtcd(stage, `etcd${scene.site}`)
      scene.struckMs = performance.now()
      await killNode(stage, scene)
      await stage.succeeded(scene)
    },
  },
  {
    name: 'node killed, replicas behind',
    title: 'what is lost with a primary whose replicas were behind is what they had not got',
    costs: 'flight',
    play: async (stage, scene) => {
      const sql = "select pid from pg_stat_activity where backend_type = 'walsender'"
      const rows = await stage.cluster.query(scene.primary.name, sql)
      const kept = await token(scene)
      for (const { pid } of rows) process.kill(Number(pid), 'SIGSTOP')
      await stage.lasted(scene, BEHIND_MS)
      // A write that waits for its standby tells nobody where it is.
      const lost = stage.mode === 'asynchronous' ? await token(scene) : null
      await killNode(stage, scene)
      await stage.succeeded(scene)
      expect(await honoured(scene, kept)).toBe('')
      if (lost !== null) expect(await honoured(scene, lost)).toMatch(TOKEN_LOST)
    },
  },
  {
    name: 'switchover, CHECKPOINT lasts, hook',
    title: 'a switchover whose CHECKPOINT lasts fails nothing, and writes go on until it is done',
    hasHook: true,
    // Every member has the hook, so the request alone need not hold anybody.
    pgsteer: { switchover_grace_ms: 0 },
    costs: 'nothing',
    play: async (stage, scene) => {
      const { cluster } = stage
      const sql = "select pid from pg_stat_activity where backend_type = 'checkpointer'"
      const [row] = await cluster.query(scene.primary.name, sql)
      const checkpointer = [Number(row?.['pid'])]
      for (const pid of checkpointer) process.kill(pid, 'SIGSTOP')
      const switched = cluster.switchover()
      await stage.lasted(scene, CHECKPOINT_MS)
      stage.network.thaw(checkpointer)
      await switched
      await stage.succeeded(scene)
    },
    judge: (_, { load, struckMs }) => {
      const meanwhile = load.of('acknowledged').filter(({ startedMs, endedMs }) => {
        return startedMs > struckMs + CHECKPOINT_MS / 3 && endedMs < struckMs + CHECKPOINT_MS
      })
      expect(meanwhile.length).toBeGreaterThan(0)
    },
  },
  {
    name: 'log-ins while there is no primary',
    title: 'a storm of log-ins while there is no primary is let in, and read',
    costs: 'flight',
    play: async (stage, scene) => {
      await killNode(stage, scene)
      await untilHeld(scene)
      const answers = await Promise.all(Array.from({ length: STORM }, () => logIn(scene)))
      expect(new Set(answers)).toEqual(new Set(['']))
      await stage.succeeded(scene)
    },
  },
  {
    name: 'clients give up while held',
    title: 'the write of a client that gives up while it is held never runs',
    costs: 'flight',
    play: async (stage, scene) => {
      const clients = Array.from({ length: GIVE_UP }, () => clientOf(scene.steer))
      await Promise.all(clients.map((client) => client.connect()))
      await killNode(stage, scene)
      await untilHeld(scene)
      const ids = clients.map((_, index) => `${stage.mode}-gave-up-${index}`)
      const ends = clients.map((client, index) =>
        client.query('insert into written (id) values ($1)', [ids[index]]).then(
          () => 'acknowledged',
          () => 'gave up',
        ),
      )
      const waiting = WRITERS + GIVE_UP
      await waitFor('all of them held', async () => (await held(scene)) >= waiting)
      // A client with a statement under way destroys its socket.
      await Promise.all(clients.map((client) => client.end()))
      expect(new Set(await Promise.all(ends))).toEqual(new Set(['gave up']))
      await stage.succeeded(scene)
      await stage.advanced(scene)
      const leader = (await stage.cluster.leader()) ?? ''
      const sql = `select id from written where id like '${stage.mode}-gave-up-%'`
      expect(await stage.ask(leader, sql)).toEqual([])
    },
  },
  {
    name: 'etcd member frozen',
    title: "etcd's leader frozen fails nothing",
    costs: 'outage',
    play: async (stage, scene) => {
      const name = await etcdLeader(stage)
      await stage.cluster.signal(name, 'SIGSTOP')
      stage.undo(() => stage.cluster.signal(name, 'SIGCONT'))
      await stage.lasted(scene, FREEZE_MS)
      await stage.resumed(scene)
    },
  },
  {
    name: 'etcd leader killed',
    title: "kill -9 of etcd's leader fails nothing",
    costs: 'outage',
    play: async (stage, scene) => {
      const name = await etcdLeader(stage)
      await stage.cluster.signal(name, 'SIGKILL')
      stage.undo(() => stage.cluster.startEtcd(name))
      await stage.lasted(scene, FREEZE_MS)
      await stage.resumed(scene)
    },
  },
  {
    name: 'postmaster killed, restarted in place',
    title: "kill -9 of the primary's postmaster costs statements in flight at most",
    costs: 'flight',
    isCompared: true,
    play: async (stage, scene) => {
      stage.cluster.killPostgres(scene.primary.name)
      await stage.resumed(scene)
    },
  },
  {
    name: 'one server process killed',
    title: 'kill -9 of one server process of the primary costs statements in flight at most',
    costs: 'flight',
    play: async (stage, scene) => {
      const sql = `select pid from pg_stat_activity where usename = 'demo' limit 1`
      const [row] = await stage.cluster.query(scene.primary.name, sql)
      process.kill(Number(row?.['pid']), 'SIGKILL')
      await stage.resumed(scene)
    },
  },
  {
    name: 'Patroni killed, PostgreSQL alive',
    title: 'a primary without its Patroni acknowledges nothing once its key is gone',
    costs: 'flight',
    extraStallMs: LEASE_MS,
    play: async (stage, scene) => {
      const { name } = scene.primary
      await stage.cluster.signal(name, 'SIGKILL')
      stage.undo(() => stage.cluster.startPatroni(name))
      await stage.succeeded(scene)
    },
    judge: expectFenced,
  },
  {
    name: 'Patroni of the primary stopped',
    title: "a SIGTERM of the primary's Patroni costs statements in flight at most",
    costs: 'flight',
    play: async (stage, scene) => {
      const { name } = scene.primary
      await stage.cluster.signal(name, 'SIGTERM')
      stage.undo(() => stage.cluster.startPatroni(name))
      await stage.succeeded(scene)
    },
  },
  {
    name: 'primary restarted through Patroni, hook',
    title: 'a restart of the primary through Patroni fails nothing with the hook',
    hasHook: true,
    costs: 'nothing',
    play: async (stage, scene) => {
      await stage.cluster.rest(scene.primary.name, 'restart')
      await stage.resumed(scene)
    },
  },
  {
    name: 'switchover refused',
    title: 'a switchover to a member that is not there fails nothing and stalls nobody',
    costs: 'nothing',
    play: async (stage, scene) => {
      await expect(stage.cluster.switchover('nobody')).rejects.toThrow('412')
      await stage.advanced(scene, 20)
      await stage.resumed(scene)
    },
  },
  {
    name: 'primary cut off from etcd',
    title: 'a primary that etcd cannot be reached from is left behind',
    costs: 'flight',
    play: async (stage, scene) => {
      await cutFromEtcd(stage, scene)
      await stage.succeeded(scene)
    },
  },
  {
    name: 'primary cut off from etcd, failsafe mode',
    title: 'a primary that etcd cannot be reached from goes on in failsafe mode',
    costs: 'outage',
    play: async (stage, scene) => {
      await useFailsafe(stage)
      await cutFromEtcd(stage, scene)
      scene.struckMs = performance.now()
      await stage.lasted(scene, LONGER_THAN_TTL_MS)
      await stage.resumed(scene)
    },
  },
  {
    name: 'pgsteer cut off from etcd',
    title: 'pgsteer that cannot reach etcd for longer than ttl fails nothing',
    costs: 'nothing',
    play: async (stage, scene) => {
      stage.network.cutFromEtcd('poolers')
      stage.undo(() => stage.network.healToEtcd('poolers'))
      await stage.lasted(scene, LONGER_THAN_TTL_MS)
      await stage.resumed(scene)
    },
  },
  {
    name: 'etcd without quorum, no failsafe mode',
    title: 'etcd without a quorum ends the primary, and writes go on when it is back',
    costs: 'flight',
    play: async (stage, scene) => {
      await loseQuorum(stage)
      await waitFor('the demotion', () => !scene.prober.hasWritten(performance.now() - 3000), {
        withinMs: 60_000,
      })
      await findQuorum(stage)
      await stage.resumed(scene)
    },
  },
  {
    name: 'slow network of the primary',
    title: 'a slow network of the primary doubles nothing and shows nothing stale',
    costs: 'flight',
    play: async (stage, scene) => {
      stage.network.slow(scene.site, '1mbit')
      stage.undo(() => stage.network.unslow(scene.site))
      await stage.lasted(scene, FREEZE_MS)
      await stage.resumed(scene)
    },
  },
  {
    name: 'node frozen for a moment',
    title: "a primary's node that is frozen for less than ttl goes on as the primary",
    costs: 'flight',
    play: async (stage, scene) => {
      const frozen = stage.network.signalAll(scene.site, 'SIGSTOP')
      await stage.lasted(scene, FREEZE_MS)
      stage.network.thaw(frozen)
      await stage.resumed(scene)
    },
  },
  {
    name: "replica's node killed",
    title: "kill -9 of a replica's node costs reads in flight at most, and no write",
    costs: 'flight',
    play: async (stage, scene) => {
      const [replica] = scene.replicas
      if (replica === undefined) throw new Error('no replica')
      await killNode(stage, { ...scene, primary: replica, site: stage.siteOf(replica) })
      await stage.advanced(scene, 20)
      await stage.resumed(scene)
    },
  },
  {
    name: "replica's node cut off",
    title: "a partition of a replica's node costs reads in flight at most, and no write",
    costs: 'flight',
    play: async (stage, scene) => {
      const [replica] = scene.replicas
      if (replica === undefined) throw new Error('no replica')
      const site = stage.siteOf(replica)
      stage.network.cut(site)
      stage.undo(() => stage.network.heal(site))
      await stage.advanced(scene, 20)
      await stage.resumed(scene)
    },
  },
  {
    name: 'replay paused on all replicas',
    title: 'no read is stale, and none fails, while no replica replays',
    costs: 'nothing',
    play: async (stage, scene) => {
      for (const { name } of scene.replicas) {
        await stage.cluster.query(name, 'select pg_wal_replay_pause()')
        stage.undo(() => stage.cluster.query(name, 'select pg_wal_replay_resume()'))
      }
      await stage.advanced(scene, 20)
    },
  },
  {
    name: 'replica made anew',
    title: 'a replica that Patroni makes anew fails no read',
    costs: 'nothing',
    play: async (stage, scene) => {
      const [replica] = scene.replicas
      await stage.cluster.rest(replica?.name ?? '', 'reinitialize', { force: true })
      await stage.advanced(scene, 20)
      await stage.resumed(scene)
    },
  },
  {
    name: 'pause mode, key expires',
    title: 'in pause the primary goes on when its Patroni is stopped and its key expires',
    costs: 'nothing',
    play: async (stage, scene) => {
      const { cluster } = stage
      const { name } = scene.primary
      await cluster.configure({ pause: true })
      stage.undo(() => cluster.configure({ pause: null }))
      for (const { restUrl } of cluster.members)
        await waitFor('pause', () => isPaused(restUrl), { withinMs: 60_000, everyMs: 100 })
      await cluster.signal(name, 'SIGKILL')
      stage.undo(() => cluster.startPatroni(name))
      await waitFor('the end of the key', async () => (await cluster.leader()) === null, {
        withinMs: 60_000,
        everyMs: 100,
      })
      await stage.advanced(scene, 20)
    },
  },
  {
    name: 'Patroni frozen, then thawed',
    title: 'a zombie that is thawed under load gets no statement and is not believed',
    costs: 'flight',
    extraStallMs: LEASE_MS,
    play: async (stage, scene) => {
      const { name } = scene.primary
      await stage.cluster.signal(name, 'SIGSTOP')
      await stage.succeeded(scene)
      await stage.cluster.signal(name, 'SIGCONT')
      await stage.advanced(scene, 20)
      await stage.resumed(scene)
    },
    judge: expectFenced,
  },
  {
    name: 'postmaster killed, no restart in place',
    title:
      "kill -9 of the primary's postmaster without a restart in place costs what was in flight",
    costs: 'flight',
    play: async (stage, scene) => {
      await stage.cluster.configure({ primary_start_timeout: 0 })
      stage.undo(() => stage.cluster.configure({ primary_start_timeout: null }))
      for (const { restUrl } of stage.cluster.members)
        await waitFor('the setting', () => hasSetting(restUrl, 'primary_start_timeout', 0), {
          withinMs: 30_000,
          everyMs: 100,
        })
      scene.struckMs = performance.now()
      stage.cluster.killPostgres(scene.primary.name)
      await stage.succeeded(scene)
    },
  },
  {
    name: 'scheduled switchover, hook',
    title: 'a scheduled switchover with the hook fails nothing',
    hasHook: true,
    costs: 'nothing',
    play: async (stage, scene) => {
      const at = new Date(Date.now() + SCHEDULED_MS).toISOString()
      const { name } = scene.primary
      await stage.cluster.rest(name, 'switchover', { leader: name, scheduled_at: at })
      await stage.succeeded(scene)
    },
  },
  {
    name: 'all replicas stopped',
    title: 'without any replica reads go to the primary, and none fails',
    costs: 'outage',
    play: async (stage, scene) => {
      for (const { name } of scene.replicas) {
        await stage.cluster.signal(name, 'SIGTERM')
        stage.undo(() => stage.cluster.startPatroni(name))
      }
      await stage.advanced(scene, 20)
      await stage.resumed(scene)
    },
  },
  {
    name: 'all of etcd restarted',
    title: 'kill -9 of all etcd members that come back at once fails nothing',
    costs: 'outage',
    play: async (stage, scene) => {
      const { cluster } = stage
      const names = cluster.etcds.map(({ name }) => name)
      await Promise.all(names.map((name) => cluster.signal(name, 'SIGKILL')))
      for (const name of names) cluster.startEtcd(name)
      await stage.lasted(scene, FREEZE_MS)
      await stage.resumed(scene)
    },
  },
]

/** What read-your-writes asks for behind a write of just now. */
async function token({ steer }: Scene): Promise<string> {
  const client = clientOf(steer)
  await client.connect()
  try {
    await client.query('create table if not exists tokens (n int); insert into tokens values (1)')
    const { rows } = await client.query<{ 'pgsteer.lsn': string }>('show pgsteer.lsn')
    return rows[0]?.['pgsteer.lsn'] ?? ''
  } finally {
    await client.end()
  }
}

/** A read of somebody else under that token; an empty text, or why not. */
async function honoured({ steer }: Scene, text: string): Promise<string> {
  const client = clientOf(steer)
  await client.connect()
  try {
    await client.query(`set pgsteer.min_lsn = '${text}'`)
    await client.query('select count(*) from tokens')
    return ''
  } catch (error) {
    return reasonOf(error)
  } finally {
    await client.end()
  }
}

/** Kills the etcd member of the primary's node, and lets nothing out to the others. */
async function cutFromEtcd(stage: Stage, scene: Scene): Promise<void> {
  const { cluster, network } = stage
  const etcd = `etcd${scene.site}`
  network.cutFromEtcd(scene.site)
  stage.undo(() => network.healToEtcd(scene.site))
  await cluster.signal(etcd, 'SIGKILL')
  stage.undo(() => cluster.startEtcd(etcd))
}

async function isPaused(restUrl: string): Promise<boolean> {
  const response = await fetch(`${restUrl}/patroni`, { signal: AbortSignal.timeout(2000) })
  return ((await response.json()) as { pause?: boolean }).pause === true
}

async function hasSetting(restUrl: string, key: string, value: unknown): Promise<boolean> {
  const response = await fetch(`${restUrl}/config`, { signal: AbortSignal.timeout(2000) })
  return ((await response.json()) as Record<string, unknown>)[key] === value
}

/** Somebody waits for a primary. */
async function untilHeld(scene: Scene): Promise<void> {
  await waitFor('all writes held', async () => (await held(scene)) > 0, { withinMs: 30_000 })
}

/** How many clients of pgsteer wait for the next primary. */
async function held({ steer }: Scene): Promise<number> {
  const clients = await steer.console('SHOW CLIENTS')
  return clients.filter((client) => client['wait_reason'] === 'primary').length
}

/** One log-in and one read; an empty text, or why not. */
async function logIn({ steer }: Scene): Promise<string> {
  const client = clientOf(steer)
  try {
    await client.connect()
    await client.query('select 1')
    return ''
  } catch (error) {
    return reasonOf(error)
  } finally {
    await client.end().catch(() => undefined)
  }
}
