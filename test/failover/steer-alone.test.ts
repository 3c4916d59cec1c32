/**
 * One member and one etcd: what pgsteer does when there is nobody to fail over to. Writes are held
 * for as long as is configured, in bounded number, and refused at once where waiting is in vain.
 */
import type { Client } from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { PatroniCluster } from '../support/patroni.ts'
import type { Steer, SteerOptions } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import { ask, settled, sight, startCluster, startSteer } from './steer-cluster.ts'
import { equip, expectUnharmed } from './steer-judgements.ts'
import { connect, end, insert } from './steer-load.ts'

let cluster: PatroniCluster
let stack = new AsyncDisposableStack()
const CROWDED = /^57P03: .*hold_waiters_max/

beforeAll(async () => {
  cluster = await startCluster({ members: 1, etcds: 1 })
})
afterEach(async () => {
  await stack.disposeAsync()
  stack = new AsyncDisposableStack()
})
afterAll(() => cluster?.stop())

async function start(pgsteer: SteerOptions['pgsteer'] = {}, owner = stack): Promise<Steer> {
  const steer = await startSteer(cluster, 'etcd', { pgsteer })
  owner.defer(() => steer.stop())
  await settled(steer, 0)
  return steer
}

async function newcomer(steer: Steer, owner = stack): Promise<Client> {
  const client = await connect(steer)
  owner.defer(() => end(client))
  return client
}

function newcomers(steer: Steer, count: number, owner = stack): Promise<Client[]> {
  return Promise.all(Array.from({ length: count }, () => newcomer(steer, owner)))
}

/** Patroni hangs until its key is gone; PostgreSQL goes on. */
async function hangPatroni(owner: AsyncDisposableStack): Promise<void> {
  await cluster.signal('pg1', 'SIGSTOP')
  owner.defer(() => cluster.signal('pg1', 'SIGCONT'))
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

interface Outcome {
  readonly atMs: number
  /** Empty when it was acknowledged. */
  readonly error: string
}

/** What became of a write, and when. */
async function outcome(write: Promise<number>): Promise<Outcome> {
  const error = await write.then(
    () => '',
    (reason: unknown) =>
      reason instanceof Error ? `${Reflect.get(reason, 'code')}: ${reason.message}` : 'unknown',
  )
  return { atMs: performance.now(), error }
}

describe('Patroni hangs for longer than its ttl and goes on', () => {
  interface Story {
    readonly writers: readonly Outcome[]
    readonly bounded: Outcome
    readonly crowd: readonly Outcome[]
    readonly refused: Outcome
    readonly heldMs: number
    readonly returnedMs: number
  }
  let story: Story
  let steers: { readonly usual: Steer; readonly bounded: Steer; readonly crowded: Steer }
  let clients: readonly Client[]
  let late: Client
  const own = new AsyncDisposableStack()

  beforeAll(async () => {
    steers = {
      usual: await start({}, own),
      bounded: await start({ failover_hold_ms_max: 1500 }, own),
      crowded: await start({ hold_waiters_max: 2 }, own),
    }
    clients = await newcomers(steers.usual, 6, own)
    late = await newcomer(steers.bounded, own)
    const many = await newcomers(steers.crowded, 5, own)
    await equip(clients, 'hang')
    await hangPatroni(own)
    for (const steer of Object.values(steers))
      await waitFor('the fence', async () => (await sight(steer)).primary === null)
    const heldMs = performance.now()
    const writers = clients.map((client, index) => outcome(insert(client, `hang-held-${index}`)))
    const bounded = outcome(insert(late, 'bound-held'))
    const crowd = many.map((client, index) => outcome(insert(client, `crowd-${index}`)))
    const refused = await Promise.race(crowd)
    const ended = await bounded
    await cluster.signal('pg1', 'SIGCONT')
    const returnedMs = await keyBack()
    story = {
      writers: await Promise.all(writers),
      bounded: ended,
      crowd: await Promise.all(crowd),
      refused,
      heldMs,
      returnedMs,
    }
  })
  afterAll(() => own.disposeAsync())

  test("writes wait, and go on within 1 s of the key's return on the same connections", async () => {
    for (const { atMs, error } of story.writers) {
      expect(error).toBe('')
      expect(atMs).toBeGreaterThan(story.bounded.atMs)
      expect(atMs - story.returnedMs).toBeLessThan(1000)
    }
    await expectUnharmed(clients, 'hang', cluster.member('pg1').port)
    const sql = "select count(*)::int as n from written where id like 'hang-held-%'"
    expect(await ask(cluster, 'pg1', sql)).toEqual([{ n: 6 }])
  })

  test('a write that waited failover_hold_ms_max gets 57P03 and the reason, on a connection that lives', async () => {
    const { atMs, error } = story.bounded
    expect(atMs - story.heldMs).toBeGreaterThan(1400)
    expect(atMs - story.heldMs).toBeLessThan(4000)
    expect(error).toMatch(/^57P03: .*pg1 is fenced.*failover_hold_ms_max/)
    await settled(steers.bounded, 0)
    expect(await insert(late, 'bound-after')).toBe(cluster.member('pg1').port)
  })

  test('more writes than hold_waiters_max are refused at once, the others wait on', () => {
    expect(story.refused.atMs - story.heldMs).toBeLessThan(1000)
    const errors = story.crowd.map(({ error }) => error)
    expect(errors.filter((error) => error === '')).toHaveLength(2)
    for (const error of errors.filter((one) => one !== '')) expect(error).toMatch(CROWDED)
  })
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
