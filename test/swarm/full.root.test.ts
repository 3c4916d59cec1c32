/**
 * The long form: the same cluster with monitoring, and what an operator does to one that is in use:
 * backup and restore, a rolling upgrade, new certificates. What it saw, and how long that took, goes to
 * .cache/reports/swarm-full.json. Each test goes on from the one before.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { waitFor } from '../support/wait.ts'
import { Monitoring } from './monitoring.ts'
import { imageOf, NOTHING_TOLD, Scene } from './scene.ts'

const REPORTS = resolve(import.meta.dirname, '../../.cache/reports')
const JOBS = [
  'alertmanager',
  'backups',
  'etcd',
  'grafana',
  'hosts',
  'patroni',
  'pgsteer',
  'postgres',
  'prometheus',
  'repository',
]
/** Longest `for` of those, and some scrapes. */
const FIRE = { withinMs: 300_000, everyMs: 5000 }
/** Alerts look some minutes back: a start and a failover are still news. */
const CALM = { withinMs: 1_500_000, everyMs: 10_000 }
/** What a node's death is: its host, its member, its etcd, its pgsteer. */
const DEATH = ['EtcdMemberDown', 'HostDown', 'MemberDown']
const NEXT = '127.0.0.1:1/pgsteer:next'

const scene = new Scene()
const { cluster, lab } = scene
const monitoring = new Monitoring(lab)
const record: { step: string; seconds: number; saw: unknown }[] = []

beforeAll(() => scene.begin())
beforeEach(({ onTestFailed, task }) => {
  onTestFailed(() => scene.tell(task.name))
})
afterEach(() => scene.clear())
afterAll(async () => {
  mkdirSync(REPORTS, { recursive: true })
  writeFileSync(join(REPORTS, 'swarm-full.json'), `${JSON.stringify(record, null, 2)}\n`)
  await scene.end()
})

/** One step, for the record. */
async function step<T>(name: string, work: () => Promise<T>): Promise<T> {
  const startedMs = performance.now()
  const saw = await work()
  record.push({ step: name, seconds: Math.round((performance.now() - startedMs) / 1000), saw })
  return saw
}

test('init and up bring the cluster and its monitoring', async () => {
  const receivers = join(process.env['PGSTEER_LAB'] ?? '', 'receivers.yml')
  // Nobody is told: there is nobody outside of the lab.
  const names = ['critical', 'warning', 'heartbeat'].map((name) => `  - name: ${name}\n`)
  writeFileSync(receivers, `receivers:\n${names.join('')}`)
  await step('init and up', () =>
    scene.deploy({
      ALERT_RECEIVERS_FILE: receivers,
      PROMETHEUS_IMAGE: imageOf('prometheus'),
      ALERTMANAGER_IMAGE: imageOf('alertmanager'),
      GRAFANA_IMAGE: imageOf('grafana'),
      NODE_EXPORTER_IMAGE: imageOf('node-exporter'),
      POSTGRES_EXPORTER_IMAGE: imageOf('postgres-exporter'),
    }),
  )
  await scene.connectEverywhere()
  await scene.addApplication()
  await scene.routeEverywhere()
})

test('a full backup and a restore test go well', async () => {
  await step('backup --type=full', () => cluster.command('backup', '--type=full'))
  await step('restore-test', () => cluster.command('restore-test'))
})

async function areUp(): Promise<string[] | false> {
  const targets = await monitoring.targets()
  const isUp = targets.every((one) => !one.startsWith('!'))
  const jobs = new Set(targets.map((one) => one.split(' ')[0]))
  return isUp && JOBS.every((job) => jobs.has(job)) ? targets : false
}

async function isCalm(): Promise<string> {
  const firing = await monitoring.firing()
  if (firing.length === 0) return 'no alert'
  throw new Error(`${firing.join(', ')} fire`)
}

test('every target is up, and after a while no alert fires', async () => {
  await step('targets', () => waitFor('all targets', areUp, FIRE))
  await step('calm', () => waitFor('no alert', isCalm, CALM))
})

test('a switchover under load costs no statement', async () => {
  await step('switchover', () => scene.switchover())
})

test('the primary’s node loses its power: the alerts say so, and end when it is back', async () => {
  // Who watches must not be who dies.
  const watcher = lab.nodes.at(-1)
  if ((await cluster.nodeOf(await cluster.leader())) === watcher) await scene.switchover()
  const saw = await step('power', async () => {
    let firing: string[] = []
    await scene.losePower(async () => {
      const isSaid = async (): Promise<boolean> => {
        firing = await monitoring.firing()
        return DEATH.every((name) => firing.includes(name))
      }
      await waitFor(`${DEATH.join(', ')} to fire`, isSaid, FIRE)
    })
    return firing
  })
  expect(saw).not.toContain('ClusterSeveralWritable')
  await step('calm again', () => waitFor('no alert', isCalm, CALM))
})

test('pgsteer is upgraded node by node, and no statement fails', async () => {
  for (const node of lab.nodes) await node.docker('tag', imageOf('pgsteer'), NEXT)
  const loads = await scene.busy('upgrade')
  await step('upgrade', () => cluster.command('upgrade', `--pgsteer-image=${NEXT}`))
  await scene.resumed(loads.values())
  // A task that ends closes connections between their transactions; clients connect anew.
  await scene.settle(loads, 'upgrade', NOTHING_TOLD)
})

test('a table that was dropped is back after a restore to the moment before', async () => {
  const count = 'select count(*)::int as rows from written'
  await cluster.command('backup')
  const [before] = await scene.query<{ rows: number }>(count)
  const [moment] = await scene.query<{ at: string }>(
    `/* pgsteer: primary */ select to_char(now() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at`,
  )
  await scene.query('drop table written')
  await step('restore', () => cluster.command('restore', `--to=${moment?.at ?? ''}`, '--yes'))
  await scene.isWhole()
  expect(await scene.query(count)).toEqual([before])
  await scene.routeEverywhere()
})

test('all certificates are made anew under load, and nothing acknowledged is lost', async () => {
  const loads = await scene.busy('certificates')
  await step('rotate-certs', () => cluster.command('rotate-certs'))
  await scene.resumed(loads.values())
  await scene.isWhole()
  await scene.settle(loads, 'certificates', {})
  await scene.connectEverywhere()
})

test('deploy/cluster down leaves the data alone, and nothing at all when that is asked for', async () => {
  await step('down', () => scene.down())
})
