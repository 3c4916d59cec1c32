/**
 * Applications as people write them, with the pools of their own libraries, while a real Patroni
 * cluster fails over: to run a transaction again after 40001 is all they know, none of them has to
 * connect again, and what they were told is true.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { Pool } from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  ask,
  DATABASE,
  settled,
  startCluster,
  startSteer,
  synchronous,
  USER,
} from '../failover/steer-cluster.ts'
import { python } from '../support/debian.ts'
import type { PatroniCluster } from '../support/patroni.ts'
import type { Steer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'

const WORKERS = 4
const PACE_MS = 20
const RETRY = '40001'
const UNKNOWN = '08007'

interface Outcome {
  readonly acknowledged: string[]
  /** Told 08007: it may be there or not. */
  readonly unknown: string[]
  retried: number
  connections: number
  /** Anything else that went wrong. */
  readonly errors: string[]
}

interface Application {
  /** Ends it and tells what became of its work. */
  stop(): Promise<Outcome>
}

type Start = (steer: Steer, prefix: string) => Promise<Application>

async function startSqlAlchemy(steer: Steer, prefix: string): Promise<Application> {
  const { file, args, env } = python()
  const script = join(import.meta.dirname, '../support/python/application.py')
  const dsn = `postgresql+psycopg2://${USER}:${USER}@127.0.0.1:${steer.port}/${DATABASE}`
  const child = spawn(file, [...args, script], {
    env: { ...process.env, ...env, DSN: dsn, PREFIX: prefix },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString()
  })
  await waitFor('the application runs', () => output.startsWith('running'), { withinMs: 20_000 })
  return {
    async stop() {
      const ended = once(child, 'close')
      child.stdin.end()
      await ended
      return JSON.parse(output.slice(output.indexOf('{'))) as Outcome
    },
  }
}

function startNodePostgres(steer: Steer, prefix: string): Promise<Application> {
  const outcome: Outcome = { acknowledged: [], unknown: [], retried: 0, connections: 0, errors: [] }
  const pool = new Pool({
    host: '127.0.0.1',
    port: steer.port,
    user: USER,
    password: USER,
    database: DATABASE,
    max: WORKERS,
    idleTimeoutMillis: 0,
  })
  pool.on('connect', (client) => {
    outcome.connections += 1
    client.on('error', (error) => {
      outcome.errors.push(`a client: ${error.message}`)
    })
  })
  pool.on('error', () => undefined)
  const stopping = new AbortController()
  const worker = async (number: number): Promise<void> => {
    for (let turn = 0; !stopping.signal.aborted; turn += 1) {
      await runInTransaction(pool, `${prefix}-${number}-${turn}`, outcome)
      await new Promise((resolve) => {
        setTimeout(resolve, PACE_MS)
      })
    }
  }
  const running = Promise.all(Array.from({ length: WORKERS }, (_, number) => worker(number)))
  return Promise.resolve({
    async stop() {
      stopping.abort()
      await running
      await pool.end()
      return outcome
    },
  })
}

async function runInTransaction(pool: Pool, id: string, outcome: Outcome): Promise<void> {
  for (;;) {
    const client = await pool.connect()
    try {
      await client.query('begin')
      await client.query('insert into written (id) values ($1)', [id])
      await client.query('select count(*) from written where id = $1', [id])
      await client.query('commit')
      outcome.acknowledged.push(id)
      return
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : null
      if (code === RETRY) outcome.retried += 1
      else if (code === UNKNOWN) outcome.unknown.push(id)
      else outcome.errors.push(`${String(code)}: ${String(error)}`)
      await client.query('rollback').catch((after: unknown) => {
        outcome.errors.push(`rollback: ${String(after)}`)
      })
      if (code !== RETRY) return
    } finally {
      client.release()
    }
  }
}

/** To run again after 40001 was enough, on the connections that it had. */
function expectSpared(outcome: Outcome): void {
  expect(outcome.errors).toEqual([])
  expect(outcome.connections).toBe(WORKERS)
  // Only a COMMIT on its way may be doubtful, one for each client.
  expect(outcome.unknown.length).toBeLessThanOrEqual(WORKERS)
}

describe.for([
  ['SQLAlchemy with psycopg2', startSqlAlchemy],
  ['node-postgres with its pool', startNodePostgres],
] as const satisfies readonly (readonly [string, Start])[])('%s', ([, start]) => {
  let cluster: PatroniCluster
  let steer: Steer
  let scenes = 0

  beforeAll(async () => {
    cluster = await startCluster({ dynamic: { synchronous_mode: true } })
    steer = await startSteer(cluster, 'etcd')
  })
  afterAll(async () => {
    await steer?.stop()
    await cluster?.stop()
  })

  async function writtenOn(member: string): Promise<Map<string, number>> {
    const sql = `select id, count(*)::int as times from written where id like 'scene${scenes}-%' group by 1`
    const rows = await ask(cluster, member, sql)
    return new Map(rows.map((row) => [String(row['id']), Number(row['times'])]))
  }

  async function untilMore(member: string): Promise<void> {
    const known = (await writtenOn(member).catch(() => new Map())).size
    await waitFor('more work', async () => (await writtenOn(member)).size > known + 20, {
      withinMs: 60_000,
      everyMs: 100,
    })
  }

  /** Runs the application through a failover, and judges what it was told. */
  async function through(failover: (primary: string) => Promise<void>): Promise<Outcome> {
    scenes += 1
    const before = await settled(steer, 2)
    await synchronous(cluster)
    const leader = cluster.members.find(({ port }) => port === before)?.name ?? ''
    const application = await start(steer, `scene${scenes}`)
    let outcome: Outcome
    try {
      await untilMore(leader)
      await failover(leader)
      await waitFor(
        'another leader',
        async () => ![null, leader].includes(await cluster.leader()),
        {
          withinMs: 90_000,
          everyMs: 100,
        },
      )
      await untilMore((await cluster.leader()) ?? '')
    } finally {
      outcome = await application.stop()
    }
    const times = await writtenOn((await cluster.leader()) ?? '')
    const told = new Set([...outcome.acknowledged, ...outcome.unknown])
    const doubled = [...times].filter(([, count]) => count !== 1)
    const lost = outcome.acknowledged.filter((id) => !times.has(id))
    const untold = [...times.keys()].filter((id) => !told.has(id))
    expect({ doubled, lost, untold }).toEqual({ doubled: [], lost: [], untold: [] })
    return outcome
  }

  test('a planned switchover', async () => {
    expectSpared(await through(() => cluster.switchover()))
  })

  test("kill -9 of the primary's node", async () => {
    const outcome = await through(async (primary) => {
      await cluster.killNode(primary)
    })
    expectSpared(outcome)
  })
})
