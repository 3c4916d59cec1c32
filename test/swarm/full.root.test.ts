/**
 * The long form: the same cluster with monitoring, and what an operator does to one that is in use: backup and
 * restore, a rolling upgrade, new certificates. What it saw, and how long that took, goes to
 * .cache/reports/swarm-full.json. Each test goes on from the one before.
 */
import { writeFileSync } from 'node:fs'
import { loadavg } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { waitFor } from '../support/wait.ts'
import { alertsOfMachine, Monitoring } from './monitoring.ts'
import { Recorder } from './record.ts'
import { brief, imageOf, NOTHING_TOLD, Scene } from './scene.ts'

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
/** Longest `for` of what is expected to fire, some scrapes, and a start. */
const FIRE = { withinMs: 300_000, everyMs: 5000 }
/** Some alerts look a quarter of an hour back. */
const CALM = { withinMs: 1_500_000, everyMs: 5000 }
/** What comes and goes shows in it. */
const CALM_MS = 60_000
const URGENT = ['critical', 'warning']
/** What a node's death is: its host, its member, its etcd. */
const DEATH = ['EtcdMemberDown', 'HostDown', 'MemberDown']
/** What may be said of it besides: its pgsteer, exporters that ran on it, and that another member leads. */
const DEATH_TOO = [
  'ClusterFailover',
  'ClusterNoPrimary',
  'PgsteerDown',
  'PgsteerFailover',
  'PgsteerInstancesMissing',
  'PostgresDown',
  'PostgresExporterDown',
  'PostgresRestarted',
]
/** Another each time, also on a lab that stays. */
const NEXT = `127.0.0.1:1/pgsteer:next-${Date.now()}`

const scene = new Scene()
const { cluster, lab } = scene
const monitoring = new Monitoring(lab)
const machine = alertsOfMachine()
const record = new Recorder({
  file: join(REPORTS, 'swarm-full.json'),
  alerts: async (seconds) => (await monitoring.fired(seconds)).map(({ name }) => name),
  load: () => Math.round((loadavg()[0] ?? 0) * 10) / 10,
})

beforeAll(() => scene.begin())
beforeEach(({ onTestFailed, task }) => {
  onTestFailed(async () => {
    record.fail(task.name)
    await scene.tell(task, await monitoring.told().catch(String))
  })
})
afterEach(() => scene.clear())
afterAll(async () => {
  record.write(true)
  await scene.end()
})

test('init and up bring the cluster and its monitoring', async () => {
  const receivers = join(process.env['PGSTEER_LAB'] ?? '', 'receivers.yml')
  // Nobody is told: there is nobody outside of the lab.
  const names = ['critical', 'warning', 'heartbeat'].map((name) => `  - name: ${name}\n`)
  writeFileSync(receivers, `receivers:\n${names.join('')}`)
  await record.step('init and up, with monitoring', () =>
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
  await record.step(
    'backup --type=full',
    async () => void (await cluster.command('backup', '--type=full')),
  )
  await record.step('restore-test', async () => void (await cluster.command('restore-test')))
})

async function areUp(): Promise<string[]> {
  const targets = await monitoring.targets()
  const down = targets.filter((one) => one.startsWith('!'))
  const jobs = new Set(targets.map((one) => one.replace(/^!/, '').split(' ')[0]))
  const missing = JOBS.filter((job) => !jobs.has(job))
  const measured = await monitoring.measured()
  if (down.length + missing.length > 0) throw new Error(`lacks ${[...down, ...missing].join(', ')}`)
  if (measured.length !== scene.members) throw new Error(`measured: ${measured.join(', ')}`)
  return targets
}

/** Waits for a minute without an alert of these severities; answers the true ones about the machine. */
async function untilCalm(severities: readonly string[]): Promise<string[]> {
  let sinceMs = performance.now()
  const ofMachine = new Set<string>()
  const isCalm = async (): Promise<boolean> => {
    const firing = (await monitoring.firing()).filter(({ severity }) =>
      severities.includes(severity),
    )
    for (const { name } of firing) if (machine.has(name)) ofMachine.add(name)
    const others = firing.map(({ name }) => name).filter((name) => !machine.has(name))
    if (others.length === 0) return performance.now() - sinceMs > CALM_MS
    sinceMs = performance.now()
    throw new Error(`${others.join(', ')} fire`)
  }
  await waitFor('a minute without an alert', isCalm, CALM)
  return [...ofMachine]
}

test('every target is up and measured, and no alert fires', async () => {
  await record.step('all targets are up', () => waitFor('all targets', areUp, FIRE))
  await record.step('no alert for a minute, but about the machine', () =>
    untilCalm([...URGENT, 'info']),
  )
  const { output } = await cluster.tool('status')
  writeFileSync(join(REPORTS, 'swarm-status.txt'), output)
})

test('a switchover under load costs no statement', async () => {
  await record.step('switchover', async () => brief(await scene.switchover()))
})

test('the primary’s node loses its power: the alerts say so, and end when it is back', async () => {
  // Who watches must not be who dies.
  const watcher = lab.nodes.at(-1)
  if ((await cluster.nodeOf(await cluster.leader())) === watcher) await scene.switchover()
  const startedMs = performance.now()
  await record.step('the primary’s node dies, and comes back', async () => {
    const told = await scene.losePower(async () => {
      const isSaid = async (): Promise<boolean> => {
        const names = (await monitoring.firing()).map(({ name }) => name)
        if (DEATH.every((name) => names.includes(name))) return true
        throw new Error(`${names.join(', ')} fire`)
      }
      await waitFor(`${DEATH.join(', ')} to fire`, isSaid, FIRE)
    })
    return brief(told)
  })
  const fired = await monitoring.fired((performance.now() - startedMs) / 1000)
  const expected = new Set([...DEATH, ...DEATH_TOO, ...machine])
  expect(fired.map(({ name }) => name).filter((name) => !expected.has(name))).toEqual([])
  await record.step('nothing to do is left: a minute without an urgent alert', () =>
    untilCalm(URGENT),
  )
})

test('pgsteer is upgraded node by node under load, without an error', async () => {
  for (const node of lab.nodes) await node.docker('tag', imageOf('pgsteer'), NEXT)
  const loads = await scene.busy('upgrade', 'all')
  await record.step('upgrade of pgsteer', async () => {
    await cluster.command('upgrade', `--pgsteer-image=${NEXT}`)
    await scene.resumed(loads.values())
    return brief(await scene.settle(loads, 'upgrade', { ...NOTHING_TOLD, refused: 0 }))
  })
})

test('a table that was dropped is back after a restore to the moment before', async () => {
  const count = 'select count(*)::int as rows from written'
  await record.step('backup, incremental', async () => void (await cluster.command('backup')))
  const [before] = await scene.query<{ rows: number }>(`/* pgsteer: primary */ ${count}`)
  const [moment] = await scene.query<{ at: string }>(
    `/* pgsteer: primary */ select to_char(now() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as at`,
  )
  await scene.query('drop table written')
  await record.step('restore to a moment', async () => {
    await cluster.command('restore', `--to=${moment?.at ?? ''}`, '--yes')
    await scene.isWhole()
    const after = await scene.query<{ rows: number }>(`/* pgsteer: primary */ ${count}`)
    expect(after).toEqual([before])
    return before
  })
  await scene.routeEverywhere()
})

test('all certificates are made anew under load, without an error', async () => {
  const loads = await scene.busy('certificates', 'all')
  await record.step('rotate-certs', async () => {
    await cluster.command('rotate-certs')
    await scene.resumed(loads.values())
    await scene.isWhole()
    return brief(await scene.settle(loads, 'certificates', { ...NOTHING_TOLD, refused: 0 }))
  })
  await scene.connectEverywhere()
  await record.step('all targets are up with them', () => waitFor('all targets', areUp, FIRE))
})

test('deploy/cluster down leaves the data alone, and nothing at all when that is asked for', async () => {
  await record.step('down, and down with all data', () => scene.down())
})
