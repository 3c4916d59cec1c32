/**
 * One member and one etcd: what pgsteer does when there is nobody to fail over to. Writes are held
 * for as long as is configured, in bounded number, and refused at once where waiting is in vain.
 */
import type { Client } from 'pg'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import type { PatroniCluster } from '../support/patroni.ts'
import type { Steer, SteerOptions } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import { ask, settled, sight, startCluster, startSteer } from './steer-cluster.ts'
import { equip, expectUnharmed } from './steer-judgements.ts'
import { connect, end, insert } from './steer-load.ts'

let cluster: PatroniCluster
let stack = new AsyncDisposableStack()

beforeAll(async () => {
  cluster = await startCluster({ members: 1, etcds: 1 })
})
afterEach(async () => {
  await stack.disposeAsync()
  stack = new AsyncDisposableStack()
})
afterAll(() => cluster?.stop())

async function start(pgsteer: SteerOptions['pgsteer'] = {}): Promise<Steer> {
  const steer = await startSteer(cluster, 'etcd', { pgsteer })
  stack.defer(() => steer.stop())
  await settled(steer, 0)
  return steer
}

async function newcomer(steer: Steer): Promise<Client> {
  const client = await connect(steer)
  stack.defer(() => end(client))
  return client
}

function newcomers(steer: Steer, count: number): Promise<Client[]> {
  return Promise.all(Array.from({ length: count }, () => newcomer(steer)))
}

/** Patroni hangs until its key is gone; PostgreSQL goes on. */
async function hangPatroni(): Promise<void> {
  await cluster.signal('pg1', 'SIGSTOP')
  stack.defer(() => cluster.signal('pg1', 'SIGCONT'))
  await waitFor('the end of the lease', async () => (await cluster.leader()) === null, {
    withinMs: 60_000,
  })
}

/** When the leader's key is there again. */
function keyBack(): Promise<number> {
  return waitFor("the key's return", async () => (await cluster.leader()) === 'pg1', {
    withinMs: 60_000,
    everyMs: 5,
  }).then(() => performance.now())
}

/** What became of a write, and when. */
async function outcome(write: Promise<number>): Promise<{ atMs: number; error: string }> {
  const error = await write.then(
    () => '',
    (reason: unknown) =>
      reason instanceof Error ? `${Reflect.get(reason, 'code')}: ${reason.message}` : 'unknown',
  )
  return { atMs: performance.now(), error }
}

test("Patroni stopped for longer than its ttl: writes wait, and go on within 1 s of the key's return", async () => {
  const steer = await start()
  const clients = await newcomers(steer, 6)
  await equip(clients, 'hang')
  await hangPatroni()
  await waitFor('the fence', async () => (await sight(steer)).primary === null)
  const held = clients.map((client, index) => outcome(insert(client, `hang-held-${index}`)))
  const waiting = async () =>
    (await steer.console('SHOW CLIENTS')).filter((row) => row['state'] === 'waiting').length === 6
  await waitFor('six held writes', waiting)
  await cluster.signal('pg1', 'SIGCONT')
  const returnedMs = await keyBack()
  for (const { atMs, error } of await Promise.all(held)) {
    expect(error).toBe('')
    expect(atMs - returnedMs).toBeLessThan(1000)
  }
  await expectUnharmed(clients, 'hang', cluster.member('pg1').port)
  const sql = "select count(*)::int as n from written where id like 'hang-held-%'"
  expect(await ask(cluster, 'pg1', sql)).toEqual([{ n: 6 }])
})

test('a write that waited failover_hold_ms_max gets 57P03 and the reason, on a connection that lives', async () => {
  const steer = await start({ failover_hold_ms_max: 1500 })
  const client = await newcomer(steer)
  await insert(client, 'bound-before')
  await hangPatroni()
  await waitFor('the fence', async () => (await sight(steer)).primary === null)
  const startedMs = performance.now()
  const { atMs, error } = await outcome(insert(client, 'bound-held'))
  expect(atMs - startedMs).toBeGreaterThan(1400)
  expect(atMs - startedMs).toBeLessThan(4000)
  expect(error).toMatch(/^57P03: .*pg1 is fenced.*failover_hold_ms_max/)
  await cluster.signal('pg1', 'SIGCONT')
  await keyBack()
  await settled(steer, 0)
  expect(await insert(client, 'bound-after')).toBe(cluster.member('pg1').port)
})

test('more writes than hold_waiters_max are refused at once, the others wait on', async () => {
  const steer = await start({ hold_waiters_max: 2 })
  const clients = await newcomers(steer, 5)
  await hangPatroni()
  await waitFor('the fence', async () => (await sight(steer)).primary === null)
  const startedMs = performance.now()
  const outcomes = clients.map((client, index) => outcome(insert(client, `crowd-${index}`)))
  const refused = await Promise.race(outcomes)
  expect(refused.atMs - startedMs).toBeLessThan(1000)
  await cluster.signal('pg1', 'SIGCONT')
  const all = await Promise.all(outcomes)
  expect(all.filter(({ error }) => error === '')).toHaveLength(2)
  for (const { error } of all.filter((one) => one.error !== ''))
    expect(error).toMatch(/^53300|^57P03/)
  expect(all.map(({ error }) => error).join('\n')).toContain('hold_waiters_max')
})

test('a standby cluster refuses writes at once, and takes them again after its promotion', async () => {
  const steer = await start()
  const client = await newcomer(steer)
  await insert(client, 'standby-before')
  await cluster.configure({ standby_cluster: { host: '127.0.0.1', port: 1 } })
  stack.defer(() => cluster.configure({ standby_cluster: null }))
  await waitFor('no primary', async () => (await sight(steer)).primary === null)
  const startedMs = performance.now()
  const { atMs, error } = await outcome(insert(client, 'standby-during'))
  expect(atMs - startedMs).toBeLessThan(1000)
  expect(error).toContain('standby cluster')
  await cluster.configure({ standby_cluster: null })
  await settled(steer, 0)
  expect(await insert(client, 'standby-after')).toBe(cluster.member('pg1').port)
})
