/**
 * The whole deployment on a real Swarm of three nodes, in the order of an operator's life: made by
 * `deploy/cluster` as docs/deploy.md says, used by applications through every node, bereft of the
 * primary's node under load, and taken down. Each test goes on from the one before.
 */
import { afterAll, afterEach, beforeAll, expect, onTestFailed, test } from 'vitest'
import { type Account, accountOf } from '../chaos/account.ts'
import { ChaosLoad, type Door } from '../chaos/load.ts'
import { waitFor } from '../support/wait.ts'
import { CLUSTER, Deployment, type Login } from './deployment.ts'
import { Lab, type LabNode } from './lab.ts'

const NODES = 3
const DIRECTORY = process.env['PGSTEER_LAB'] ?? ''
/** Empty on a lab that somebody has up, which is not ours to start and stop. */
const IMAGES = process.env['PGSTEER_LAB_IMAGES'] ?? ''
const APPLICATION = { user: 'shop', password: 'of-this-test-alone', database: 'shop' }
/** What the account of test/chaos wants to know of each write. */
const TABLE = `create table written (
  id text not null, port int default inet_server_port(), at timestamptz default clock_timestamp(),
  lsn pg_lsn default pg_current_wal_insert_lsn())`
/** Of each node's clients. */
const SIZE = { writers: 4, readers: 2 }
const ANSWERS_BEFORE = 20
/** As in test/chaos: what is under way when the fault comes, and the one behind it. */
const TROUBLES_MAX = 2
/** Patroni's ttl, twice, and the time until all members stream. */
const FAILOVER_MS_MAX = 150_000
const RETURN_MS_MAX = 240_000

const lab = new Lab(DIRECTORY, NODES)
const cluster = new Deployment(lab, DIRECTORY)
const loads: ChaosLoad[] = []

const imageOf = (name: string): string => `127.0.0.1:1/${name}:test`
const doorOf = (node: LabNode, login: Login = APPLICATION): Door => cluster.door(node, login)

beforeAll(async () => {
  if (IMAGES === '') return
  await lab.start()
  await lab.swarm()
  await lab.load(IMAGES)
})
afterEach(async () => {
  await Promise.all(loads.splice(0).map((load) => load.abort()))
})
afterAll(async () => {
  if (IMAGES !== '') await lab.stop()
})

/** Whatever fails leaves what one needs to understand it. */
function keepEvidence(): void {
  onTestFailed(async ({ task }) => {
    console.error(`evidence: ${await cluster.evidence(task.name)}`)
  })
}

/** Clients at every node, all of them answered often. */
async function startLoads(name: string): Promise<Map<LabNode, ChaosLoad>> {
  const started = new Map<LabNode, ChaosLoad>()
  for (const node of lab.nodes) {
    const door = doorOf(node)
    const load = new ChaosLoad({ write: door, read: door }, `${name}-${node.name}`, SIZE)
    loads.push(load)
    started.set(node, load)
    load.start()
  }
  const advanced = [...started.values()].map((load) => load.advance(ANSWERS_BEFORE))
  const isBusy = (): boolean => advanced.every((has) => has())
  await waitFor('a busy load', isBusy, { withinMs: 60_000 })
  return started
}

/** Ends the load of one node; what it was told, against what the cluster holds. */
async function account(load: ChaosLoad, scenario: string, struckMs: number): Promise<Account> {
  await load.stop()
  const sql = 'select id, count(*)::int as times from written group by 1'
  const node = lab.nodes.find((one) => one.isOn)
  const rows = await cluster.query<{ id: string; times: number }>(doorOf(node ?? lab.node(1)), sql)
  const held = { times: new Map(rows.map(({ id, times }) => [id, times])), forkLsn: null }
  return accountOf(load, held, {
    scenario,
    pooler: 'pgsteer',
    port: 5432,
    struckMs,
    outageMs: 0,
    handoverMs: null,
    load: 0,
  })
}

const NOTHING_TOLD = { failed: 0, unknown: 0, stale: 0, readErrors: 0, dropped: 0, refused: 0 }
const NOTHING_LOST = { lost: 0, lostOfOurs: 0, doubled: 0, untrue: 0 }

test('deploy/cluster init and up make a cluster out of three bare nodes', async () => {
  keepEvidence()
  const settings = {
    NODE_IMAGE: imageOf('node'),
    PGSTEER_IMAGE: imageOf('pgsteer'),
    ETCD_IMAGE: imageOf('etcd'),
    LOCAL_IMAGES: 'true',
    PG_MEMORY: '512M',
    // Needs ESP, which not every kernel has; TLS is there in any case.
    ENCRYPTED: 'false',
  }
  const set = Object.entries(settings).flatMap(([key, value]) => ['--set', `${key}=${value}`])
  await cluster.command('init', CLUSTER, ...set)
  await cluster.command('up')
  await waitFor('all members', () => cluster.isWhole(NODES), { withinMs: 60_000, everyMs: 500 })
})

test('psql reaches it through every node, by its name, over TLS and in no other way', async () => {
  keepEvidence()
  for (const node of lab.nodes) {
    const { output, errors } = await cluster.psql(node, 'select current_user')
    expect(output.trim(), errors).toBe('admin')
    const plain = await cluster.psql(node, 'select 1', { PGSSLMODE: 'disable' })
    expect(plain.errors).toMatch(/SSL|TLS/)
    const wrong = await cluster.psql(node, 'select 1', { PGPASSWORD: 'postgres' })
    expect(wrong.errors).toMatch(/password authentication failed/)
  }
})

test('writes go to the primary and reads to both replicas, whichever node a client is at', async () => {
  keepEvidence()
  const { user, password, database } = APPLICATION
  const admin = doorOf(lab.node(1), cluster.admin)
  await cluster.query(admin, `create role ${user} login password '${password}'`)
  await cluster.query(admin, `grant ${user} to admin`)
  await cluster.query(admin, `create database ${database} owner ${user}`)
  await cluster.query(doorOf(lab.node(1)), TABLE)
  const writers = new Set<string>()
  for (const node of lab.nodes) {
    const insert = `insert into written (id) values ('${node.name}') returning host(inet_server_addr()) as at`
    for (const row of await cluster.query<{ at: string }>(doorOf(node), insert)) writers.add(row.at)
  }
  expect(writers.size).toBe(1)
  for (const node of lab.nodes) {
    const readers = new Set<string>()
    const isSpread = async (): Promise<boolean> => {
      const sql = 'select host(inet_server_addr()) as at'
      const [row] = await cluster.query<{ at: string }>(doorOf(node), sql)
      readers.add(row?.at ?? '')
      return readers.size === NODES - 1
    }
    await waitFor(`reads on both replicas from ${node.name}`, isSpread, { withinMs: 60_000 })
    expect([...readers].filter((at) => writers.has(at))).toEqual([])
  }
})

test('a switchover under load costs no statement', async () => {
  keepEvidence()
  const before = await cluster.leader()
  const started = await startLoads('switchover')
  const struckMs = performance.now()
  await cluster.command('switchover')
  expect(await cluster.leader()).not.toBe(before)
  const sinceMs = performance.now()
  for (const load of started.values())
    await waitFor('writes behind it', () => load.hasResumed(sinceMs), { withinMs: 60_000 })
  await waitFor('all members', () => cluster.isWhole(NODES), { withinMs: 120_000, everyMs: 500 })
  for (const load of started.values()) {
    const one = await account(load, 'switchover', struckMs)
    expect(one, JSON.stringify(one)).toMatchObject({
      ...NOTHING_LOST,
      ...NOTHING_TOLD,
    })
  }
})

test('the primary’s node loses its power under load: nothing acknowledged is lost, and it comes back', async () => {
  keepEvidence()
  const before = await cluster.leader()
  const lost = await cluster.nodeOf(before)
  const started = await startLoads('power')
  const others = [...started].filter(([node]) => node !== lost).map(([, load]) => load)
  const struckMs = performance.now()
  await lost.kill()
  const isSucceeded = async (): Promise<boolean> => (await cluster.leader()) !== before
  await waitFor('a successor', isSucceeded, { withinMs: FAILOVER_MS_MAX, everyMs: 500 })
  const sinceMs = performance.now()
  for (const load of others)
    await waitFor('writes again', () => load.hasResumed(sinceMs), { withinMs: FAILOVER_MS_MAX })
  await lost.start()
  const whole = { withinMs: RETURN_MS_MAX, everyMs: 1000 }
  await waitFor('the member back', () => cluster.isWhole(NODES), whole)
  const back = performance.now()
  for (const load of started.values())
    await waitFor('writes through every node', () => load.hasResumed(back), whole)
  for (const [node, load] of started) {
    const one = await account(load, 'power', struckMs)
    const said = JSON.stringify(one)
    expect(one, said).toMatchObject(NOTHING_LOST)
    if (node === lost) continue
    expect(one, said).toMatchObject({ stale: 0, dropped: 0, refused: 0 })
    expect(one.troublesOfOne, said).toBeLessThanOrEqual(TROUBLES_MAX)
  }
})

test('deploy/cluster down leaves the data alone, and nothing at all when that is asked for', async () => {
  keepEvidence()
  expect(await cluster.names(lab.node(1), 'service')).not.toEqual([])
  await cluster.command('down')
  for (const kind of ['service', 'config', 'network'] as const)
    expect(await cluster.names(lab.node(1), kind), kind).toEqual([])
  for (const node of lab.nodes)
    expect(await cluster.names(node, 'volume'), node.name).not.toEqual([])
  await cluster.command('down', '--volumes', '--secrets', `--yes-remove=${CLUSTER}`)
  for (const node of lab.nodes)
    for (const kind of ['service', 'secret', 'config', 'network', 'volume'] as const)
      expect(await cluster.names(node, kind), `${kind} on ${node.name}`).toEqual([])
})
