/**
 * The long form's second part: members and nodes that come and go, without monitoring. What it saw goes to
 * .cache/reports/swarm-moves.json. Each test goes on from the one before.
 */
import { rmSync, writeFileSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { waitFor } from '../support/wait.ts'
import { Recorder } from './record.ts'
import { brief, imageOf, NOTHING_TOLD, Scene, STAYED } from './scene.ts'

const REPORT = resolve(import.meta.dirname, '../../.cache/reports/swarm-moves.json')
const FAILOVER = { withinMs: 300_000, everyMs: 1000 }
/** Another each time, also on a lab that stays. */
const NEXT = `127.0.0.1:1/node:next-${Date.now()}`

const scene = new Scene()
const { cluster, lab } = scene
const record = new Recorder({
  file: REPORT,
  alerts: async () => [],
  load: () => Math.round((loadavg()[0] ?? 0) * 10) / 10,
})

beforeAll(() => scene.begin())
beforeEach(({ onTestFailed, task }) => {
  onTestFailed(async () => {
    record.fail(task.name)
    await scene.tell(task)
  })
})
afterEach(() => scene.clear())
afterAll(async () => {
  record.write(true)
  await scene.end()
})

test('init and up', async () => {
  await record.step('init and up', () => scene.deploy())
  await scene.addApplication()
  await scene.routeEverywhere()
  await record.step(
    'backup --type=full',
    async () => void (await cluster.command('backup', '--type=full')),
  )
})

test('a fourth member comes on a node that joined, and reads go to it too', async () => {
  await record.step('add-member', async () => {
    const fresh = await scene.addNode()
    await cluster.command('add-member', fresh.name)
    scene.members += 1
    await scene.isWhole()
    await scene.routeEverywhere()
  })
})

test('a new authority gives the new node its name too, and no client sees an error', async () => {
  const former = join(tmpdir(), `pgsteer-former-${process.pid}.crt`)
  writeFileSync(former, cluster.authority)
  for (const turn of ['both are trusted', 'the new one alone is']) {
    const loads = await scene.busy('authority', 'all')
    await record.step(`rotate-certs --new-ca, ${turn}`, async () => {
      await cluster.command('rotate-certs', '--new-ca')
      await scene.resumed(loads.values())
      await scene.isWhole()
      return brief(await scene.settle(loads, 'authority', { ...NOTHING_TOLD, refused: 0 }))
    })
  }
  scene.places.push(...lab.nodes.slice(-1))
  await scene.connectEverywhere()
  const refused = await cluster.psql(lab.node(1), 'select 1', { PGSSLROOTCERT: former })
  rmSync(former)
  expect(refused.errors).toMatch(/certificate verify failed/)
  await record.step('backup, incremental', async () => void (await cluster.command('backup')))
})

test('the fourth member goes, with its data', async () => {
  await record.step('remove-member', async () => {
    await cluster.command('remove-member', 'patroni4', '--volumes')
    scene.members -= 1
    await scene.isWhole()
  })
  for (const node of lab.nodes)
    expect(await cluster.names(node, 'volume')).not.toContain('main_pg4')
  await scene.routeEverywhere()
})

test('members are upgraded one by one under load, and no client sees an error', async () => {
  for (const node of lab.nodes) await node.docker('tag', imageOf('node'), NEXT)
  const loads = await scene.busy('members')
  await record.step('upgrade of the members', async () => {
    await cluster.command('upgrade', `--node-image=${NEXT}`)
    await scene.resumed(loads.values())
    await scene.isWhole()
    return brief(await scene.settle(loads, 'members', { ...NOTHING_TOLD, ...STAYED }))
  })
})

test('a node is lost for good, and all that it had is made anew on another one', async () => {
  const [lost] = lab.nodes
  const fresh = lab.nodes.at(-1)
  if (lost === undefined || fresh === undefined) throw new Error('the lab has no nodes')
  await record.step('a node is lost, and replace-node', async () => {
    await scene.loseNode(lost)
    await waitFor('a leader elsewhere', () => cluster.leaderIsOn(lab.nodes), FAILOVER)
    await fresh.docker('node', 'demote', lost.name)
    await fresh.docker('node', 'rm', '--force', lost.name)
    await cluster.command('replace-node', lost.name, fresh.name)
    await scene.isWhole()
    await scene.routeEverywhere()
    return await cluster.placement()
  })
  const { members, etcd } = await cluster.placement()
  const all = lab.nodes.map(({ name }) => name).toSorted()
  expect(members.map(({ node }) => node).toSorted()).toEqual(all)
  expect(etcd.map(({ node, error }) => `${node}${error}`).toSorted()).toEqual(all)
})

test('down leaves nothing', async () => {
  await record.step('down, and down with all data', () => scene.down())
})
