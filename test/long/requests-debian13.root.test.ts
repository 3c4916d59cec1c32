/**
 * Requests to Patroni 4.0 for another primary, in every form it takes them, with the before_stop
 * hook; calls of the hook while pgsteer's own processes start again; and members that raise alarms.
 */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { settled, sight, startCluster, startSteer } from '../failover/steer-cluster.ts'
import { connect, end, insert, Load } from '../failover/steer-load.ts'
import { BeforeStop } from '../support/before-stop.ts'
import { debian13, PatroniCluster } from '../support/patroni.ts'
import type { Steer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

const TOKEN = 'of-the-sidecar'
const DUE_MS = 5000

let cluster: PatroniCluster
let hook: BeforeStop
let stack = new AsyncDisposableStack()

beforeAll(async () => {
  // A busy machine may take seconds to start a process again.
  hook = new BeforeStop(debian13(), 60)
  cluster = await startCluster({
    installation: debian13(),
    postgresql: (name) => hook.settings(name),
  })
})
afterEach(async () => {
  await stack.disposeAsync()
  stack = new AsyncDisposableStack()
})
afterAll(async () => {
  await cluster?.stop()
  hook?.remove()
})

interface Scene {
  readonly steer: Steer
  readonly load: Load
  /** The primary's name. */
  readonly name: string
  readonly restUrl: string
  readonly other: string
}

async function start(prefix: string, options: Parameters<typeof startSteer>[2] = {}) {
  const steer = await startSteer(cluster, 'etcd', {
    ...options,
    pgsteer: { http_token_file: hook.tokenFile, ...options.pgsteer },
  })
  stack.defer(() => steer.stop())
  hook.call(`http://127.0.0.1:${steer.httpPort}`)
  const port = await settled(steer, 2)
  const primary = cluster.members.find((member) => member.port === port)
  const other = cluster.members.find((member) => member !== primary)?.name ?? ''
  const load = new Load(steer, prefix)
  return { steer, load, name: primary?.name ?? '', restUrl: primary?.restUrl ?? '', other }
}

async function begin(
  prefix: string,
  options: Parameters<typeof startSteer>[2] = {},
): Promise<Scene> {
  const scene = await start(prefix, options)
  scene.load.start()
  stack.defer(() => scene.load.stop())
  await scene.load.resumed(0)
  return scene
}

async function ask(url: string, method: string, body?: object): Promise<number> {
  const response = await fetch(url, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(30_000),
  })
  await response.text()
  return response.status
}

/** Another member leads, all writers write there, and nobody was told of any error. */
async function expectUnnoticed({ steer, load, name }: Scene): Promise<string> {
  const after = await waitFor(
    'another primary',
    async () => {
      const { primary } = await sight(steer)
      return primary !== null && primary !== name ? primary : undefined
    },
    { withinMs: 60_000, everyMs: 50 },
  )
  await load.resumed(performance.now())
  await expectUntroubled(load)
  expect(load.acknowledged.at(-1)?.port).toBe(cluster.member(after).port)
  expect(steer.log).toContain('drained for a planned stop of the primary')
  await settled(steer, 2)
  return after
}

async function expectUntroubled(load: Load): Promise<void> {
  await load.stop()
  expect(load.failed).toEqual([])
  expect(load.refused).toEqual([])
  expect(load.unseen).toEqual([])
}

test('a switchover for later does nothing until it is due, and goes as any other then', async () => {
  const scene = await begin('later')
  const dueMs = Date.now() + DUE_MS
  const request = { leader: scene.name, scheduled_at: new Date(dueMs).toISOString() }
  expect(await ask(`${scene.restUrl}/switchover`, 'POST', request)).toBe(202)
  const seen: unknown[] = []
  await waitFor('the time', async () => {
    const { switchover, primary } = await sight(scene.steer)
    if (Date.now() < dueMs) seen.push({ switchover, primary })
    return Date.now() >= dueMs
  })
  expect(seen.length).toBeGreaterThan(5)
  expect(seen.filter((one) => JSON.stringify(one) !== JSON.stringify(seen[0]))).toEqual([])
  expect(seen[0]).toEqual({ switchover: null, primary: scene.name })
  await expectUnnoticed(scene)
})

test('a switchover for later that is taken back leaves no trace', async () => {
  const { steer, load, name, restUrl } = await begin('cancel')
  const at = new Date(Date.now() + 3_600_000).toISOString()
  expect(await ask(`${restUrl}/switchover`, 'POST', { leader: name, scheduled_at: at })).toBe(202)
  await waitFor('the request in etcd', () => cluster.has('failover'))
  await load.resumed(performance.now())
  expect(await sight(steer)).toMatchObject({ switchover: null, primary: name })
  expect(await ask(`${restUrl}/switchover`, 'DELETE')).toBe(200)
  await load.resumed(performance.now())
  await expectUntroubled(load)
  expect(await sight(steer)).toMatchObject({ switchover: null, primary: name })
  expect(steer.log).not.toContain('switchover: ')
})

test('a switchover that Patroni refuses ends with its refusal, and fails nobody', async () => {
  const { steer, load, name } = await begin('refused')
  const { term } = await sight(steer)
  // Its REST API refuses a candidate that is not there; other clients write the key themselves.
  const request = JSON.stringify({ leader: name, member: 'nobody' })
  await cluster.put(cluster.etcds[0], 'failover', request)
  await waitFor('the refusal', () => steer.log.includes('switchover: the request is gone'), {
    withinMs: 30_000,
  })
  await load.resumed(performance.now())
  await expectUntroubled(load)
  expect(await sight(steer)).toMatchObject({ switchover: null, primary: name, term })
  expect(steer.log).toContain('switchover: a due request names the primary')
})

test('a failover to a member, without naming a leader, goes as a switchover', async () => {
  const scene = await begin('failover')
  await ask(`${scene.restUrl}/failover`, 'POST', { candidate: scene.other })
  expect(await expectUnnoticed(scene)).toBe(scene.other)
})

test('the hook finds a control process that was killed a moment ago', async () => {
  const scene = await begin('control', { mayRestart: true })
  const killed = scene.steer.control
  process.kill(killed ?? 0, 'SIGKILL')
  await cluster.switchover()
  await expectUnnoticed(scene)
  expect(scene.steer.control).not.toBe(killed)
})

test('a call while a worker starts again is answered, holds, and ends when nobody is stopped', async () => {
  const { steer, name } = await start('worker', {
    mayRestart: true,
    pgsteer: { switchover_drain_ms_max: 1000 },
  })
  for (const pid of steer.workers) process.kill(pid, 'SIGKILL')
  const response = await fetch(`http://127.0.0.1:${steer.httpPort}/api/drain`, {
    method: 'POST',
    headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
    body: JSON.stringify({ member: name }),
    signal: AbortSignal.timeout(30_000),
  })
  expect(await response.json()).toMatchObject({ holds: true })
  expect((await sight(steer)).hooks).toEqual({ [name]: true })
  await waitFor('the end of the hold', async () => (await sight(steer)).switchover === null)
  const client = await waitFor('a log-in', () => connect(steer))
  stack.defer(() => end(client))
  expect(await insert(client, 'after-worker')).toBe(cluster.member(name).port)
})

test('another cluster, a second primary and a later timeline are refused and raise alarms', async () => {
  const foreign = await PatroniCluster.start({
    installation: debian13(),
    members: 1,
    etcds: 1,
  })
  stack.defer(() => foreign.stop())
  const scene = await begin('alarm')
  const { steer, load, name } = scene
  const reasonOf = async (member: string): Promise<string | null | undefined> =>
    (await sight(steer)).members.find((one) => one.name === member)?.ineligibleReason
  const refused = (member: string, reason: string): Promise<true> =>
    waitFor(`${member} refused: ${reason}`, async () => (await reasonOf(member)) === reason, {
      withinMs: 30_000,
    })

  const [stranger] = foreign.members
  const conn_url = `postgres://127.0.0.1:${stranger?.port}/postgres`
  await cluster.put(cluster.etcds[0], 'members/pg9', JSON.stringify({ conn_url, state: 'running' }))
  await refused('pg9', 'system_identifier')

  // In pause Patroni leaves both alone.
  await cluster.configure({ pause: true })
  await waitFor('the pause', async () => {
    const answer = await fetch(`${scene.restUrl}/patroni`, { signal: AbortSignal.timeout(2000) })
    return ((await answer.json()) as { pause?: boolean }).pause === true
  })
  // The third follows the second one, and so its timeline when that is promoted.
  const [second, third] = cluster.members.filter((member) => member.name !== name)
  const upstream = `host=127.0.0.1 port=${second?.port} user=replicator password=secret-of-replicator`
  await cluster.signal(third?.name ?? '', 'SIGSTOP')
  for (const sql of [
    `alter system set primary_conninfo = '${upstream}'`,
    "alter system set primary_slot_name = ''",
    'select pg_reload_conf()',
  ])
    await cluster.query(third?.name ?? '', sql)
  await waitFor('the cascade', async () => {
    const sql = 'select sender_port from pg_stat_wal_receiver'
    const [row] = await cluster.query(third?.name ?? '', sql)
    return row?.['sender_port'] === second?.port
  })
  await cluster.query(second?.name ?? '', 'select pg_promote()')
  await refused(second?.name ?? '', 'not_in_recovery')
  await refused(third?.name ?? '', 'timeline')

  await load.resumed(performance.now())
  await load.stop()
  expect(load.failed).toEqual([])
  expect(new Set(load.acknowledged.map(({ port }) => port))).toEqual(
    new Set([cluster.member(name).port]),
  )
  expect((await sight(steer)).primary).toBe(name)
  for (const [member, reason] of [
    ['pg9', 'system_identifier'],
    [second?.name, 'not_in_recovery'],
    [third?.name, 'timeline'],
  ])
    expect(steer.log).toMatch(new RegExp(`"member":"${member}","reason":"${reason}".*is refused`))
})
