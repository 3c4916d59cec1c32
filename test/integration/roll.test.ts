/** Workers are replaced one after the other: no transaction is lost, and no new client is refused. */
import type { Client } from 'pg'
import { describe, expect, test, vi } from 'vitest'
import { frontend } from '../support/bytes.ts'
import { useCluster } from '../support/postgres.ts'
import { type Steer, useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'
import { WriteLoad } from '../support/write-load.ts'

/** Processes start, on a machine that has much to do. */
const LONG = { withinMs: 90_000 }
vi.setConfig({ testTimeout: 240_000 })
/** Three that stay connected, two that connect for each transaction. */
const LIVES = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 1, 1]
const SLEEP = 'SELECT pg_sleep(60)'

const shared = useCluster({ replicas: 1 })

async function workersOf(steer: Steer): Promise<Record<string, string>[]> {
  return steer.console('SHOW WORKERS')
}

interface Roll {
  readonly isRunning: boolean
  readonly replaced: number
  readonly failure: string | null
}

async function rollOf({ httpPort }: Steer): Promise<Roll> {
  const response = await fetch(`http://127.0.0.1:${httpPort}/api/cluster`)
  const { roll } = (await response.json()) as { readonly roll: Roll }
  return roll
}

async function untilRolled(steer: Steer, before: readonly number[]): Promise<void> {
  await waitFor('the end of it', async () => !(await rollOf(steer)).isRunning, LONG)
  expect(await rollOf(steer)).toEqual({ isRunning: false, replaced: before.length, failure: null })
  const { workers } = steer
  expect(workers).toHaveLength(before.length)
  expect(workers.filter((pid) => before.includes(pid))).toEqual([])
}

async function one(client: Client): Promise<unknown> {
  const { rows } = await client.query('SELECT 1 AS one')
  return rows
}

/** Replaces the workers of `steer` while clients write. */
async function rollUnderLoad(steer: Steer): Promise<void> {
  const admin = await steer.connect()
  await WriteLoad.prepare(admin)
  await admin.end()
  const load = new WriteLoad({
    connect: () => steer.connect(),
    lives: LIVES,
    mayBeSentAway: true,
    isRead: false,
  })
  await waitFor('a load', () => load.acknowledged > 20)
  const before = steer.workers
  await steer.console('RESTART WORKERS')
  await untilRolled(steer, before)
  const seen = load.acknowledged
  await waitFor('a load on the successors', () => load.acknowledged > seen + 20)
  await load.stop()
  expect(load.errors).toEqual([])
  const client = await steer.connect()
  expect(await WriteLoad.rows(client)).toBe(load.acknowledged)
  await client.end()
}

/** Once, when the server runs it: a request that comes late would end what follows. */
async function cancel(steer: Steer, { processId, key }: WireClient): Promise<void> {
  const watcher = await steer.connect()
  await waitFor('the statement to run', async () => {
    const { rows } = await watcher.query(
      `/* pgsteer: primary */ SELECT 1 FROM pg_stat_activity WHERE query = '${SLEEP}' AND state = 'active'`,
    )
    return rows.length > 0
  })
  await watcher.end()
  const client = await WireClient.connect({ host: steer.host, port: steer.port })
  client.send(frontend.cancelRequest(processId, key))
  await client.ended()
}

/** A transaction that keeps the worker of `steer` from ending. */
async function hold(steer: Steer): Promise<Client> {
  const client = await steer.connect()
  await client.query('BEGIN')
  await client.query('SELECT txid_current()')
  return client
}

async function untilLeaving(steer: Steer): Promise<void> {
  await waitFor('one that leaves', async () =>
    (await workersOf(steer)).some(({ state }) => state === 'leaving'),
  )
}

describe('two workers', () => {
  const front = useSteer(shared, { pgsteer: { workers: 2 } })

  test('under load: no statement fails, and every commit is there once', async () => {
    await rollUnderLoad(front.steer)
  })
})

describe('one worker', () => {
  const front = useSteer(shared, { pgsteer: { error_codes: 'postgres' }, mayRestart: true })

  test('under load: no statement fails, and every commit is there once', async () => {
    await rollUnderLoad(front.steer)
  })

  test('an open transaction goes on in its worker, can be cancelled there, and commits', async () => {
    const { steer } = front
    const before = steer.workers
    const inside = await Promise.all(
      Array.from({ length: 3 }, async () => {
        const client = await steer.wire({ password: 'demo' })
        await client.query('BEGIN')
        await client.query('SELECT txid_current()')
        return client
      }),
    )
    await steer.console('RESTART WORKERS')
    await untilLeaving(steer)
    for (const client of inside) {
      await client.query('SAVEPOINT s')
      const sleeps = client.query(SLEEP)
      await cancel(steer, client)
      expect((await sleeps).sqlstate).toBe('57014')
      await client.query('ROLLBACK TO s')
      const last = await client.query('COMMIT')
      expect(last.tags).toEqual(['COMMIT'])
    }
    await untilRolled(steer, before)
    expect((await workersOf(steer)).map(({ state }) => state)).toEqual(before.map(() => 'serving'))
  })

  test('one that is idle is told 57P01, and one that comes then is served by a successor', async () => {
    const { steer } = front
    const before = steer.workers
    const idle = await steer.wire({ password: 'demo' })
    await steer.console('RESTART WORKERS')
    const told = await idle.until('E')
    expect(told.errors.map((error) => error['C'])).toEqual(['57P01'])
    await untilRolled(steer, before)
    const client = await steer.connect()
    expect(await one(client)).toEqual([{ one: 1 }])
    await client.end()
  })

  test('what the ended workers counted is kept', async () => {
    const { steer } = front
    const count = async (): Promise<number> => {
      const rows = await steer.console('SHOW STATS_TOTALS')
      return Number(rows.find(({ database }) => database === 'demo')?.['xact_count'])
    }
    const client = await hold(steer)
    const before = steer.workers
    await steer.console('RESTART WORKERS')
    await untilLeaving(steer)
    const counted = await count()
    expect(counted).toBeGreaterThan(20)
    await client.query('COMMIT')
    await untilRolled(steer, before)
    expect(await count()).toBe(counted + 1)
  })

  test('a second replacement is refused, RELOAD begins none, and new clients come in', async () => {
    const { steer } = front
    const before = steer.workers
    const client = await hold(steer)
    await steer.console('RESTART WORKERS')
    await untilLeaving(steer)
    await expect(steer.console('RESTART WORKERS')).rejects.toThrow('the workers are not replaced')
    await steer.console('RELOAD')
    expect(steer.workers).toHaveLength(2)
    const other = await steer.connect()
    expect(await one(other)).toEqual([{ one: 1 }])
    await other.end()
    await client.query('COMMIT')
    await untilRolled(steer, before)
  })

  test('it may be killed: that costs its own clients, and the replacement goes on', async () => {
    const { steer } = front
    const before = steer.workers
    const client = await hold(steer)
    await steer.console('RESTART WORKERS')
    await untilLeaving(steer)
    const other = await hold(steer)
    const [victim] = before
    if (victim === undefined) throw new Error('there is a worker')
    process.kill(victim, 'SIGKILL')
    await expect(client.query('COMMIT')).rejects.toThrow()
    await untilRolled(steer, before)
    expect((await other.query('COMMIT')).command).toBe('COMMIT')
    await other.end()
  })

  test('SIGTERM lets the transactions of both end, and nobody follows', async () => {
    const { steer } = front
    const inside = await hold(steer)
    await steer.console('RESTART WORKERS')
    await untilLeaving(steer)
    const other = await hold(steer)
    steer.signal('SIGTERM')
    await waitFor('the end to begin', () => steer.log.includes('shutting down'))
    for (const client of [inside, other]) {
      expect((await client.query('COMMIT')).command).toBe('COMMIT')
      await client.end()
    }
    await waitFor('the end', () => steer.exitCode !== null)
    expect(steer.exitCode).toBe(0)
  })
})
