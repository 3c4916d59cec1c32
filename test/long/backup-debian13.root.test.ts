/**
 * Backups and restores with the node image's real entries on Debian 13's Patroni, etcd and pgBackRest:
 * the good days and the bad ones. The tests build on one another, as the days of a cluster do.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { NodeCluster } from '../support/node-cluster.ts'
import { waitFor } from '../support/wait.ts'

const LONG = { withinMs: 180_000, everyMs: 500 }
const cluster = new NodeCluster(2)
const { containers } = cluster
let [moment, restored] = ['', '']

beforeAll(async () => {
  cluster.startEtcd()
  cluster.startRepository()
  for (const member of cluster.members) {
    cluster.startMember(member)
    cluster.startAgent(member)
  }
  await waitFor('the cluster', () => cluster.ready().catch(() => undefined), LONG)
}, 240_000)

afterAll(() => cluster.close())

/** Where the data folder of a member is, as seen from outside, and what is beside it. */
const beside = (member: string): string => join(containers.volume(`volume-${member}`), '17')
const leader = (): Promise<string> => cluster.ready()
const labels = async (): Promise<string[]> => {
  const { output } = await cluster.repositoryJob([
    '--log-level-console=off',
    '--output=json',
    'info',
  ])
  const [stanza] = JSON.parse(output) as { backup: { label: string }[] }[]
  return (stanza?.backup ?? []).map((one) => one.label).toSorted()
}
const now = async (member: string): Promise<string> =>
  cluster.sql(member, `select to_char(now() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`)
/** Puts what was written so far into the archive. */
const archived = async (member: string): Promise<true> => {
  // Without a record of its own, a file that was just begun would not be ended.
  const file = await cluster.sql(member, "select pg_walfile_name(pg_create_restore_point('test'))")
  await cluster.sql(member, 'select pg_switch_wal()')
  return waitFor(
    `${file} in the archive`,
    async () =>
      (await cluster.sql(member, 'select last_archived_wal from pg_stat_archiver')) >= file,
    LONG,
  )
}

test('first backups are taken as soon as there is a primary, from a replica, encrypted, into both repositories', async () => {
  await waitFor(
    'a full backup',
    () => containers.log('pgbackrest').includes('full succeeded'),
    LONG,
  )
  expect(containers.log('pgbackrest')).toMatch(/wait for replay on the standby/)
  expect(await labels()).toHaveLength(2)
  for (const repository of ['repo1', 'repo2']) {
    const info = join(containers.volume('repo1'), repository, 'backup/shop/backup.info')
    expect(readFileSync(info, 'latin1').slice(0, 8)).toBe('Salted__')
  }
  const metrics = await cluster.metrics()
  expect(metrics).toMatch(
    /pg_backup_run_last_success_timestamp_seconds\{stanza="shop",type="full"\} 1\.\d+e\+09/,
  )
  expect(metrics).toContain('pg_backup_stanza_ready{stanza="shop"} 1.0')
})

test('a wrong passphrase reads nothing, writes nothing and is told', async () => {
  const wrong = await cluster.repositoryJob(['backup', 'full'], { passphrase: 'another-one' })
  expect(wrong.code).not.toBe(0)
  expect(wrong.output).toMatch(/unable to (load|flush)|CryptoError|cipher/)
  // The second repository has its own, and got its backup all the same.
  expect(wrong.output).toMatch(/into repository 1 failed/)
  expect(await labels()).toHaveLength(3)
})

test('a target before the first backup is refused while the cluster runs', async () => {
  const on = await leader()
  for (const time of ['2020-01-01T00:00:00Z', '2199-01-01T00:00:00Z', '2026-01-01T00:00:00']) {
    const refused = await cluster.restoreJob(on, ['check', '--time', time])
    expect(refused.code, refused.output).toBe(3)
    expect(refused.output).toMatch(/no backup had ended at|has not come yet|has no time zone/)
  }
  const unknown = await cluster.restoreJob(on, ['check', '--set', '20200101-000000F'])
  expect(unknown.code).toBe(3)
  expect(unknown.output).toContain((await labels())[0])
  expect(await leader()).toBe(on)
})

test('WAL waits on the primary while the repository host is away, and is archived after it', async () => {
  const on = await leader()
  await containers.kill('pgbackrest')
  await cluster.sql(on, 'create table kept (text text)')
  await cluster.sql(on, "insert into kept values ('while the repository was away')")
  const file = await cluster.sql(on, 'select pg_walfile_name(pg_switch_wal())')
  const failures = 'select failed_count from pg_stat_archiver'
  const before = Number(await cluster.sql(on, failures))
  await waitFor(
    'a failure of archiving',
    async () => Number(await cluster.sql(on, failures)) > before,
    LONG,
  )
  expect(existsSync(join(beside(on), 'pgdata/pg_wal/archive_status', `${file}.ready`))).toBe(true)
  cluster.startRepository()
  await archived(on)
  expect(existsSync(join(beside(on), 'pgdata/pg_wal/archive_status', `${file}.ready`))).toBe(false)
})

/** A restore that waits between its copy and its recovery. */
const HALTED = `
import os, subprocess, sys, time
from pathlib import Path
sys.path.insert(0, '/usr/local/lib/pgsteer')
from backup import programs, recovery
programs.load_environment()
folder = Path('/var/lib/postgresql/17/halted')
folder.mkdir(mode=0o700)
subprocess.check_call(['pgbackrest', f'--pg1-path={folder}', 'restore'])
print('copied', flush=True)
while not Path('/var/lib/postgresql/go').exists():
    time.sleep(0.1)
server = recovery.start(folder, {'archive_mode': 'off'})
try:
    recovery.wait_until_promoted(server, 120)
    print('promoted')
except recovery.RecoveryError as error:
    print('stopped:', error)
finally:
    recovery.discard(server)
`

test('a recovery that loses the repository host stops, instead of ending with less than there is', async () => {
  const on = await leader()
  const halted = cluster.restoring(on, [])
  const env = { ...halted.env, PGBACKREST_ARCHIVE_ASYNC: 'n', PGBACKREST_IO_TIMEOUT: '5' }
  const running = containers.run({ ...halted, env, command: ['python3', '-c', HALTED] })
  await waitFor('the copy', () => /^copied$/m.test(containers.log(halted.name)), LONG)
  await containers.kill('pgbackrest')
  writeFileSync(join(containers.volume(`volume-${on}`), 'go'), '')
  const { output } = await running
  cluster.startRepository()
  expect(output).toMatch(/stopped: .*could not restore file "[\w.]+" from archive/)
  expect(output).not.toContain('promoted')
  rmSync(join(beside(on), 'halted'), { recursive: true })
  await archived(on)
}, 240_000)

test('a restore test passes, is told to Prometheus and leaves nothing', async () => {
  const passed = await cluster.repositoryJob(['restore-test'])
  expect(passed.code, passed.output).toBe(0)
  expect(passed.output).toContain('restore test: passed')
  const metrics = await cluster.metrics()
  expect(metrics).toMatch(
    /pg_restore_test_last_success_timestamp_seconds\{stanza="shop"\} 1\.\d+e\+09/,
  )
  expect(metrics).toContain('pg_restore_test_failures_total{stanza="shop"} 0.0')
  expect(readdirSync(containers.volume('scratch'))).toEqual(['.lock'])
})

test('a restore test without room, and one that is killed, fail and leave no half of a restore', async () => {
  const full = await cluster.repositoryJob(['restore-test'], { scratch: '8M' })
  expect(full.code).toBe(1)
  expect(full.output).toMatch(/MiB free and the restore of \S+ needs/)
  expect(await cluster.metrics()).toContain('pg_restore_test_failures_total{stanza="shop"} 1.0')
  const killed = cluster.repositoryJob(['restore-test'])
  const folder = join(containers.volume('scratch'), 'pgdata/base')
  await waitFor('files of the restore', () => existsSync(folder), LONG)
  await containers.kill('repository-job')
  await killed
  const again = await cluster.repositoryJob(['restore-test'])
  expect(again.code, again.output).toBe(0)
  expect(readdirSync(containers.volume('scratch'))).toEqual(['.lock'])
})

test('a moment before a dropped table can be restored, by the backup that ended before it', async () => {
  const on = await leader()
  await cluster.sql(on, "insert into kept values ('before the accident')")
  const changed = ['patronictl', 'edit-config', '--force', '--quiet', '--set', 'loop_wait=4']
  const configured = await containers.inside(on, changed)
  expect(configured.code, configured.errors).toBe(0)
  moment = await now(on)
  await cluster.sql(on, 'drop table kept')
  const fitting = (await labels()).at(-1)
  // Newer backups, from which that moment cannot be reached.
  const later = await cluster.repositoryJob(['backup', 'incr'])
  expect(later.code, later.output).toBe(0)
  expect((await labels()).at(-1)).not.toBe(fitting)
  const planned = await cluster.restoreJob(on, ['check', '--time', moment])
  expect(planned.code, planned.output).toBe(0)
  expect(planned.output).toContain(`"backup": "${fitting}"`)
  const refused = await cluster.restoreJob(on, ['run', '--time', moment], {
    RESTORE_LOCK_SECONDS: '1',
  })
  expect(refused.code).toBe(3)
  expect(refused.output).toContain('a member still runs on this volume')
})

test('a member that starts on its old data gives up a restore that was begun beside it', async () => {
  const on = await leader()
  await containers.stop(on)
  containers.start(cluster.restoring(on, ['run', '--time', moment]))
  await waitFor('half of a copy', () => existsSync(join(beside(on), 'pgdata.restoring/base')), LONG)
  await containers.kill(`restore-${on}`)
  cluster.startMember(on)
  await leader()
  expect(readdirSync(beside(on)).filter((name) => name.startsWith('pgdata'))).toEqual(['pgdata'])
}, 240_000)

test('a restore that is killed leaves the old data, and goes on when it is run again', async () => {
  const on = await leader()
  restored = on
  const others = cluster.members.filter((name) => name !== on)
  for (const member of [...others, on]) await containers.stop(member)
  containers.start(cluster.restoring(on, ['run', '--time', moment]))
  await waitFor('half of a copy', () => existsSync(join(beside(on), 'pgdata.restoring/base')), LONG)
  await containers.kill(`restore-${on}`)
  expect(existsSync(join(beside(on), 'pgdata/PG_VERSION'))).toBe(true)

  await containers.kill('etcd1')
  const stuck = await cluster.restoreJob(on, ['run', '--time', moment])
  expect(stuck.code, stuck.output).toBe(1)
  expect(stuck.output).toMatch(/recovered, time line \d, last transaction/)
  expect(stuck.output).toContain('no etcd answers')
  expect(existsSync(join(beside(on), 'pgdata/PG_VERSION'))).toBe(true)

  cluster.startEtcd()
  const done = await waitFor(
    'etcd again',
    async () => {
      const ran = await cluster.restoreJob(on, ['run', '--time', moment])
      return ran.code === 0 ? ran : undefined
    },
    LONG,
  )
  expect(done.output).toMatch(/restore: done, the old data is in \S+before-restore-/)
  expect(done.output).not.toContain('restore command begin')
  const again = await cluster.restoreJob(on, ['run', '--time', moment])
  expect(again.output).toContain('this is done already')
  const names = readdirSync(beside(on)).filter((name) => name.startsWith('pgdata'))
  expect(names.filter((name) => !name.endsWith('.json'))).toEqual([
    'pgdata',
    expect.stringContaining('pgdata.before-restore-'),
  ])
}, 300_000)

test('the restored member leads with the rows of that moment and the configuration of now', async () => {
  cluster.startMember(restored)
  expect(await leader()).toBe(restored)
  expect(await cluster.sql(restored, 'select text from kept order by 1')).toBe(
    'before the accident\nwhile the repository was away',
  )
  const refused = await cluster.restoreJob(restored, ['check', '--time', moment])
  expect(refused.code, refused.output).toBe(3)
  expect(refused.output).toContain('what was written since would be lost')
  const meant = await cluster.restoreJob(restored, ['check', '--time', moment, '--again'])
  expect(meant.code, meant.output).toBe(0)
  const shown = await containers.inside(restored, ['patronictl', 'show-config'])
  expect(shown.output).toContain('loop_wait: 4')
  // The failover before was after that moment: its time line is no ancestor of this one.
  const folder = join(beside(restored), 'pgdata/pg_wal')
  const newest = readdirSync(folder)
    .filter((name) => name.endsWith('.history'))
    .toSorted()
  const history = readFileSync(join(folder, newest.at(-1) ?? ''), 'utf8')
  expect(history.match(/^\d+/gm)).toEqual(['1', '3'])
  const written = readFileSync(join(beside(restored), 'pgdata/postgresql.auto.conf'), 'utf8')
  expect(written).not.toMatch(/^\s*(recovery_target|restore_command|archive_mode)/m)
  await archived(restored)
})

test('the others are copied anew, not from a backup of the time line that was left', async () => {
  const other = cluster.members.find((name) => name !== restored) ?? ''
  // What an attempt to restore on this member has left would keep it from starting.
  writeFileSync(join(beside(other), 'pgdata.restore.json'), '{"phase": "copying"}')
  mkdirSync(join(beside(other), 'pgdata.restoring'))
  const aside = await cluster.restoreJob(other, ['set-aside'])
  expect(aside.code, aside.output).toBe(0)
  cluster.startMember(other)
  await leader()
  expect(containers.log(other)).toMatch(
    /backup \S+ is not on the way to time line \d of the primary/,
  )
  expect(await cluster.sql(other, 'select count(*) from kept')).toBe('2')
  const forgotten = await cluster.restoreJob(other, ['forget'])
  expect(forgotten.code, forgotten.output).toBe(0)
  expect(readdirSync(beside(other)).filter((name) => name.startsWith('pgdata'))).toEqual(['pgdata'])
}, 240_000)

test('after a backup of the new time line a replica is made from it', async () => {
  const taken = await cluster.repositoryJob(['backup', 'diff'])
  expect(taken.code, taken.output).toBe(0)
  const other = cluster.members.find((name) => name !== restored) ?? ''
  await containers.stop(other)
  const aside = await cluster.restoreJob(other, ['set-aside', '--discard-old'])
  expect(aside.code, aside.output).toBe(0)
  const before = containers.log(other).length
  cluster.startMember(other)
  await leader()
  expect(containers.log(other).slice(before)).toContain('replica has been created using pgbackrest')
  expect(await cluster.sql(other, 'select count(*) from kept')).toBe('2')
}, 240_000)

// The last one, since what is archived onto that small disk is lost with it.
test('a backup into a full disk fails, is counted, and the repository host goes on', async () => {
  await containers.kill('pgbackrest')
  const told = containers.log('pgbackrest').length
  const said = (): string => containers.log('pgbackrest').slice(told)
  cluster.startRepository({ disk: '3M', env: { PGBACKREST_ARCHIVE_TIMEOUT: '10' } })
  await waitFor('its failure', () => said().includes('repository: full failed'), LONG)
  const isServing = containers.has('pgbackrest')
  const metrics = await cluster.metrics()
  expect(isServing).toBe(true)
  expect(said()).toMatch(/full backup into repository 1 failed .*; \S+ has [0-2] MiB free/)
  expect(metrics).toContain('pg_backup_run_failures_total{stanza="shop",type="full"} 1.0')
}, 300_000)
