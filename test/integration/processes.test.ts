/** The processes of one pgsteer: each may die, and costs only what it was doing. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { workerOf, workerSlots } from '../../src/client/cancel.ts'
import { cancel } from '../support/nonce.ts'
import { useCluster } from '../support/postgres.ts'
import { useSteer } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import type { WireClient } from '../support/wire-client.ts'

const shared = useCluster({ replicas: 1 })
const front = useSteer(shared, { pgsteer: { workers: 2 }, mayRestart: true })

/** Children of the supervisor by what they are: `control`, `0`, `1`. */
function childOf(station: string, parent = front.steer.pid): number {
  const children = readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8')
  const pids = children.trim().split(' ').map(Number)
  const found = pids.find((pid) =>
    readFileSync(`/proc/${pid}/cmdline`, 'utf8').endsWith(`\0${station}\0`),
  )
  if (found === undefined) throw new Error(`no child ${station}`)
  return found
}

async function term(): Promise<string | undefined> {
  return (await front.steer.console('SHOW CLUSTER'))[0]?.['term']
}

test('a control process that dies is replaced, and no client notices', async () => {
  const client = await front.steer.connect()
  await client.query('CREATE TABLE control_test (n int)')
  const termBefore = await term()
  const before = childOf('control')
  process.kill(before, 'SIGKILL')
  let isBack = false
  for (let n = 0; !isBack || n < 50; n += 1) {
    await client.query('INSERT INTO control_test VALUES ($1)', [n])
    isBack ||= n % 20 === 0 && (await isReplaced(before))
  }
  expect(await term()).toBe(termBefore)
  const { rows } = await client.query(
    'SELECT count(*) = count(DISTINCT n) AS once FROM control_test',
  )
  expect(rows).toEqual([{ once: true }])
  await client.end()
})

async function isReplaced(before: number): Promise<boolean> {
  try {
    return childOf('control') !== before && (await term()) !== undefined
  } catch {
    return false
  }
}

test('a command that waits for a control process that dies is answered, and its PAUSE stays', async () => {
  const client = await front.steer.connect()
  await client.query('BEGIN')
  await client.query('SELECT txid_current()')
  const waits = front.steer.console('PAUSE')
  const answer = expect(waits).rejects.toThrow('control is gone')
  await waitFor('the PAUSE to be on', async () => {
    const rows = await front.steer.console('SHOW STATE')
    return rows.some(({ key, value }) => key === 'paused' && value === 'yes')
  })
  const before = childOf('control')
  process.kill(before, 'SIGKILL')
  await answer
  await client.query('COMMIT')
  await waitFor('a new control process', () => isReplaced(before))
  const held = client.query('SELECT 1 AS one')
  await front.steer.console('RESUME')
  expect((await held).rows).toEqual([{ one: 1 }])
  await client.end()
})

test('the connection of a cancel request that another worker took ends when it was delivered', async () => {
  const [mine, other] = await clientsOfBoth()
  const holder = childOf(String(placeOf(mine)))
  const running = mine.query('SELECT pg_sleep(60)')
  process.kill(holder, 'SIGSTOP')
  const ended: number[] = []
  try {
    // The kernel gives some of them to the one that stands still.
    for (let index = 0; index < 10; index += 1)
      void cancel(front.steer.port, mine).then(() => ended.push(index))
    expect((await other.query('SELECT pg_sleep(0.2)')).sqlstate).toBeUndefined()
    expect(ended).toEqual([])
  } finally {
    process.kill(holder, 'SIGCONT')
  }
  expect((await running).sqlstate).toBe('57014')
  await waitFor('all to be over', () => ended.length === 10)
  expect((await mine.query('SELECT 1')).rows).toEqual([['1']])
})

/** One client of each worker. */
async function clientsOfBoth(): Promise<[WireClient, WireClient]> {
  const first = await front.steer.wire()
  return waitFor('a client of the other worker', async () => {
    const next = await front.steer.wire()
    if (placeOf(next) !== placeOf(first)) return [first, next] as [WireClient, WireClient]
    await next.close()
    return undefined
  })
}

function placeOf({ processId, key }: WireClient): number {
  return workerOf({ processId, secret: key }, workerSlots(2))
}

/** Clients inside of a transaction, on both workers. */
async function insideBoth(): Promise<Map<number, WireClient[]>> {
  const inside = new Map<number, WireClient[]>()
  while (inside.size < 2) {
    const client = await front.steer.wire()
    const worker = placeOf(client)
    inside.set(worker, [...(inside.get(worker) ?? []), client])
    await client.query('BEGIN')
    await client.query('SELECT txid_current()')
  }
  return inside
}

test('a worker that dies costs its own clients, and comes back', async () => {
  const before = childOf('0')
  const inside = await insideBoth()
  process.kill(before, 'SIGKILL')
  for (const client of inside.get(0) ?? []) await client.ended()
  for (const client of inside.get(1) ?? []) {
    expect((await client.query('COMMIT')).tags).toEqual(['COMMIT'])
    await client.close()
  }
  await waitFor('a new worker', () => {
    try {
      return childOf('0') !== before
    } catch {
      return false
    }
  })
  await waitFor('both workers answer', async () => {
    const rows = await front.steer.console('SHOW CLUSTER')
    return String(rows[0]?.['workers']) === '2'
  })
  const client = await front.steer.connect()
  expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
  await client.end()
})

test('a control process that cannot start again is tried on, and workers outlive it', async () => {
  const { steer } = front
  const client = await steer.connect()
  const before = childOf('control')
  const squatter = createServer()
  // The supervisor stands still meanwhile, so its successor finds the port taken.
  process.kill(steer.pid, 'SIGSTOP')
  try {
    process.kill(before, 'SIGKILL')
    await waitFor('the port', () => listens(squatter, steer.httpPort))
  } finally {
    process.kill(steer.pid, 'SIGCONT')
  }
  await waitFor('two failures', () => steer.log.split('EADDRINUSE').length > 2)
  expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
  await new Promise((resolve) => squatter.close(resolve))
  await waitFor('a new control process', () => isReplaced(before), { withinMs: 30_000 })
  expect((await client.query('SELECT 2 AS two')).rows).toEqual([{ two: 2 }])
  await client.end()
})

test('when no control process ever started the program ends, also if the first was killed', async () => {
  const squatter = createServer()
  squatter.listen(0, '127.0.0.1')
  await once(squatter, 'listening')
  const taken = squatter.address()
  const directory = mkdtempSync(join(tmpdir(), 'pgsteer-processes-'))
  const file = join(directory, 'pgsteer.ini')
  const port = typeof taken === 'object' && taken !== null ? taken.port : 0
  writeFileSync(
    file,
    `[databases]\napp = host=127.0.0.1\n[pgbouncer]\nlisten_port = 0\nauth_type = trust\n[pgsteer]\nhttp_port = ${port}\n`,
  )
  const program = spawn(process.execPath, [join(import.meta.dirname, '../../src/cli.ts'), file])
  try {
    const ended = once(program, 'exit')
    process.kill(await firstControl(program.pid ?? 0), 'SIGKILL')
    expect(await ended).toEqual([1, null])
  } finally {
    program.kill('SIGKILL')
    squatter.close()
    rmSync(directory, { recursive: true })
  }
})

/** Before it has listened, or failed to. */
function firstControl(parent: number): Promise<number> {
  const look = (): number | undefined => {
    try {
      return childOf('control', parent)
    } catch {
      return undefined
    }
  }
  return waitFor('the first control process', look, { everyMs: 2 })
}

async function listens(server: Server, port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  server.once('error', () => resolve(false))
  server.listen(port, '127.0.0.1', () => resolve(true))
  const isListening = await promise
  server.removeAllListeners('error')
  return isListening
}
