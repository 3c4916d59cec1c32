import { execFileSync, spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, onTestFinished, test } from 'vitest'
import { EmbeddedCluster } from '../../src/demo/cluster.ts'
import { postgres15, program } from '../support/debian.ts'
import { useCluster } from '../support/postgres.ts'
import { waitFor } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

const SLOWLY = { withinMs: 30_000 }

/** A zombie has ended too: in a container there may be nobody to collect it. */
function hasEnded(pid: number): boolean {
  const status = `/proc/${pid}/status`
  return !existsSync(status) || /^State:\sZ/m.test(readFileSync(status, 'utf8'))
}

/** Ids of the System V segments of this machine. */
function segments(): string[] {
  const lines = readFileSync('/proc/sysvipc/shm', 'utf8').split('\n')
  return lines.map((line) => line.trim().split(/\s+/)[1] ?? '')
}

function sharedMemoryOf(dataDir: string): string | undefined {
  const lines = readFileSync(join(dataDir, 'postmaster.pid'), 'utf8').split('\n')
  return lines[6]?.trim().split(/\s+/)[1]
}

async function identifier(of: EmbeddedCluster): Promise<unknown> {
  const [row] = await of.primary.query('SELECT system_identifier AS id FROM pg_control_system()')
  return row?.['id']
}

const shared = useCluster({ replicas: 2 })

test('one primary and its replicas take connections, with data on all of them', async () => {
  const { cluster } = shared
  await cluster.primary.query('CREATE TABLE seen (n int)')
  await cluster.primary.query('INSERT INTO seen VALUES (1)')
  await cluster.caughtUp()
  for (const member of cluster.members) {
    const [row] = await member.query('SELECT n, pg_is_in_recovery() AS replica FROM seen')
    expect(row).toEqual({ n: 1, replica: member !== cluster.primary })
  }
})

test('the demo user logs in by SCRAM and by nothing else', async () => {
  const { port } = shared.cluster.primary
  const client = await WireClient.login({ port, user: 'demo', password: 'demo' })
  const answer = await client.query('SELECT current_user, 7')
  expect(answer.types).toBe('TDCZ')
  expect(answer.rows).toEqual([['demo', '7']])
  await client.close()
  await expect(WireClient.login({ port, user: 'demo', password: 'wrong' })).rejects.toThrow('28P01')
})

test('a paused replica receives and does not apply until it is resumed', async () => {
  const { cluster } = shared
  const replica = cluster.member('pg2')
  await cluster.primary.query('CREATE TABLE paused (n int)')
  await cluster.caughtUp()
  await cluster.pauseReplay('pg2')
  await cluster.primary.query('INSERT INTO paused VALUES (1)')
  const received = 'SELECT pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn() AS behind'
  await waitFor(
    'the row to arrive',
    async () => (await replica.query(received))[0]?.['behind'] === true,
  )
  expect(await replica.query('SELECT n FROM paused')).toEqual([])
  await cluster.resumeReplay('pg2')
  await cluster.caughtUp()
  expect(await replica.query('SELECT n FROM paused')).toEqual([{ n: 1 }])
})

test('after the primary is killed the most advanced replica takes over with all data, and the dead one rejoins', async () => {
  await using stack = new AsyncDisposableStack()
  const cluster = await EmbeddedCluster.start({ replicas: 2 })
  stack.defer(() => cluster.stop())
  await cluster.primary.query('CREATE TABLE kept (n int)')
  await cluster.caughtUp()
  await cluster.member('pg2').stop()
  await cluster.primary.query('INSERT INTO kept SELECT generate_series(1, 100)')
  await cluster.caughtUp()
  const segment = sharedMemoryOf(cluster.primary.dataDir)
  expect(segments()).toContain(segment)
  await cluster.kill('pg1')
  expect(segments()).not.toContain(segment)
  await cluster.member('pg2').start()
  expect(cluster.member('pg1').isRunning).toBe(false)

  const primary = await cluster.promoteMostAdvanced()
  expect(await primary.query('SELECT count(*)::int FROM kept')).toEqual([{ count: 100 }])
  await primary.query('INSERT INTO kept VALUES (101)')
  await cluster.restartAsReplica('pg1')
  await cluster.caughtUp()
  expect(await cluster.member('pg1').query('SELECT count(*)::int FROM kept')).toEqual([
    { count: 101 },
  ])
})

test('a killed parent leaves no server and no file behind', async () => {
  const script = `
    import { EmbeddedCluster } from '${new URL('../../src/demo/cluster.ts', import.meta.url).href}'
    const cluster = await EmbeddedCluster.start({ replicas: 1 })
    console.log(JSON.stringify({ pids: cluster.members.map((m) => m.pid), dir: cluster.primary.dataDir }))
    setInterval(() => {}, 1000)`
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const line = await new Promise<string>((resolve) =>
    child.stdout.once('data', (text) => resolve(String(text))),
  )
  const { pids, dir } = JSON.parse(line) as { pids: number[]; dir: string }
  child.kill('SIGKILL')
  await waitFor('the servers to end', () => pids.every(hasEnded), SLOWLY)
  await waitFor('the directory to go', () => !existsSync(dirname(dir)), SLOWLY)
})

test('the same cluster runs on PostgreSQL 15, and its psql reads from a replica', async () => {
  await using stack = new AsyncDisposableStack()
  const cluster = await EmbeddedCluster.start({ replicas: 1, binaries: postgres15() })
  stack.defer(() => cluster.stop())
  const psql = program('psql')
  const url = `postgres://demo:demo@127.0.0.1:${cluster.member('pg2').port}/demo`
  const output = execFileSync(psql.file, [...psql.args, '-XAt', '-c', 'SHOW server_version', url], {
    env: { ...process.env, ...psql.env },
    encoding: 'utf8',
  })
  expect(output).toMatch(/^15\./)
})

test('a cluster that cannot start says what its server said, and leaves nothing behind', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'cluster-'))
  chmodSync(dir, 0o755)
  onTestFinished(() => rmSync(dir, { recursive: true }))
  const settings = { no_such_setting: '1' }
  await expect(EmbeddedCluster.start({ replicas: 0, dir, settings })).rejects.toThrow(
    'unrecognized configuration parameter "no_such_setting"',
  )
  expect(readdirSync(dir)).toEqual([])
})

test('a fresh cluster has a system identifier of its own', async () => {
  await using stack = new AsyncDisposableStack()
  const cluster = await EmbeddedCluster.start({ replicas: 0, isFresh: true })
  stack.defer(() => cluster.stop())
  expect(await identifier(cluster)).not.toBe(await identifier(shared.cluster))
})

test('what is frozen answers nobody until it is continued', async () => {
  const replica = shared.cluster.member('pg3')
  const client = await replica.connect()
  replica.freeze('SIGSTOP')
  const answer = client.query('SELECT 1 AS one').then(() => 'answered')
  const outcome = await Promise.race([answer, pause(300, 'silent')])
  replica.freeze('SIGCONT')
  expect(outcome).toBe('silent')
  expect(await answer).toBe('answered')
  await client.end()
})
