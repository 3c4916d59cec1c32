/** Two instances behind HAProxy are restarted one after the other, under load: no client sees an error. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect as connectSocket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { program } from '../support/debian.ts'
import { useCluster } from '../support/postgres.ts'
import { freePort, Steer, type SteerOptions } from '../support/steer.ts'
import { waitFor } from '../support/wait.ts'
import { WriteLoad } from '../support/write-load.ts'

const shared = useCluster({ replicas: 1 })

/** Far longer than HAProxy takes to see that an instance leaves. */
const NOTICE_MS = 3000
/** A pool of an application gives a connection up after so many transactions. */
const LIFE = 20
const LIVES = [LIFE, LIFE, LIFE, 1, 1, 1]

type Ports = readonly [number, number]

const directory = mkdtempSync(join(tmpdir(), 'pgsteer-rolling-'))
const instances: Steer[] = []
let ports: readonly Ports[] = []
let balancer: { readonly port: number; readonly child: ChildProcess }

function options(at: Ports): SteerOptions {
  return {
    ports: at,
    pgsteer: { shutdown_notice_ms: NOTICE_MS, shutdown_timeout_ms: 20_000 },
  }
}

function configuration(port: number): string {
  const servers = ports.map(
    ([sql, http], index) => `    server steer${index} 127.0.0.1:${sql} check port ${http}`,
  )
  return `${[
    'defaults',
    '    mode tcp',
    '    retries 3',
    '    option redispatch 1',
    '    timeout client 5m',
    '    timeout server 5m',
    '    timeout connect 4s',
    '    timeout check 2s',
    'listen pgsteer',
    `    bind 127.0.0.1:${port}`,
    '    balance leastconn',
    '    option httpchk GET /readyz',
    '    default-server inter 100ms fall 1 rise 1',
    ...servers,
  ].join('\n')}\n`
}

beforeAll(async () => {
  ports = [
    [await freePort(), await freePort()],
    [await freePort(), await freePort()],
  ]
  for (const at of ports) instances.push(await Steer.start(shared.cluster, options(at)))
  const port = await freePort()
  writeFileSync(join(directory, 'haproxy.cfg'), configuration(port))
  const { file, args, env } = program('haproxy')
  const child = spawn(file, [...args, '-db', '-f', join(directory, 'haproxy.cfg')], {
    env: { ...process.env, ...env },
    stdio: 'ignore',
  })
  balancer = { port, child }
  await waitFor('HAProxy to listen', async () => {
    const socket = connectSocket(port, '127.0.0.1')
    await once(socket, 'connect')
    socket.destroy()
    return true
  })
  const client = await connect()
  await WriteLoad.prepare(client)
  await client.end()
})

afterAll(async () => {
  balancer?.child.kill('SIGKILL')
  for (const steer of instances) await steer.stop()
  rmSync(directory, { recursive: true })
})

/** Applications whose pools recycle connections, and programs that connect for one transaction. */
function load(): WriteLoad {
  return new WriteLoad({ connect, lives: LIVES, mayBeSentAway: false, isRead: true })
}

async function connect(): Promise<Client> {
  const client = new Client({
    host: '127.0.0.1',
    port: balancer.port,
    user: 'demo',
    password: 'demo',
    database: 'demo',
    connectionTimeoutMillis: 20_000,
  })
  await client.connect()
  return client
}

async function clientsOf(steer: Steer): Promise<number> {
  return (await steer.console('SHOW CLIENTS')).filter(({ database }) => database === 'demo').length
}

test('a restart of both, one after the other, fails nothing', async () => {
  const writes = load()
  for (const [index, at] of ports.entries()) {
    const steer = instances[index]
    if (steer === undefined) throw new Error('there are two instances')
    await waitFor('clients on it', async () => (await clientsOf(steer)) > 0)
    const before = writes.acknowledged
    await steer.stop()
    expect(writes.errors).toEqual([])
    expect(writes.acknowledged).toBeGreaterThan(before)
    const next = await Steer.start(shared.cluster, options(at))
    instances[index] = next
    await waitFor('clients on its successor', async () => (await clientsOf(next)) > 0)
  }
  await writes.stop()
  expect(writes.errors).toEqual([])
  const client = await connect()
  expect(await WriteLoad.rows(client)).toBe(writes.acknowledged)
  await client.end()
})
