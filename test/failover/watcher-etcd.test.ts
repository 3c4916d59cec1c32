/** The etcd source against a real etcd: TLS, authentication, compaction, a restored store. */
import { execFileSync } from 'node:child_process'
import { chmodSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { Etcd3, Range } from 'etcd3'
import { afterEach, expect, test } from 'vitest'
import { systemClock } from '../../src/base/clock.ts'
import { createLog } from '../../src/base/log.ts'
import { EtcdSource } from '../../src/cluster/etcd.ts'
import type { ClusterView } from '../../src/cluster/source.ts'
import type { ClusterConfig } from '../../src/config/config.ts'
import { program } from '../support/debian.ts'
import { PatroniCluster, type PatroniOptions } from '../support/patroni.ts'
import { waitFor } from '../support/wait.ts'
import { clusterConfig } from './watcher-recorder.ts'

const endings: (() => Promise<unknown>)[] = []

afterEach(async () => {
  for (const end of endings.splice(0).toReversed()) await end()
})

/** Only etcd; nothing of Patroni is started. */
async function prepare(options: PatroniOptions = {}): Promise<PatroniCluster> {
  const cluster = await PatroniCluster.prepare({ members: 0, etcds: 1, ...options })
  endings.push(() => cluster.stop())
  return cluster
}

/** What a source says, and how it is. */
function listen(cluster: PatroniCluster, changes: Partial<ClusterConfig> = {}) {
  const heard = { views: [] as ClusterView[], contacts: 0, troubles: [] as string[] }
  const events = {
    view: (view: ClusterView) => heard.views.push(view),
    contact: () => {
      heard.contacts += 1
    },
    trouble: (reason: string) => heard.troubles.push(reason),
  }
  const tools = { clock: systemClock, log: createLog({ level: 'silent', format: 'json' }) }
  const source = new EtcdSource(clusterConfig(cluster, changes), events, tools)
  endings.push(() => source.stop())
  source.start()
  return heard
}

function writer(
  cluster: PatroniCluster,
  options: Partial<ConstructorParameters<typeof Etcd3>[0]> = {},
) {
  const client = new Etcd3({ hosts: cluster.etcdHosts, ...options })
  endings.push(() => Promise.resolve(client.close()))
  return client
}

function put(client: Etcd3, name: string, value: string) {
  return client.put(`/service/main/${name}`).value(value).exec()
}

test('reads over TLS with a user and a password', async () => {
  const cluster = await prepare({
    etcdFlags: (folder) => ({
      'cert-file': join(folder, 'tls.crt'),
      'key-file': join(folder, 'tls.key'),
      'auth-token': 'simple',
      'auth-token-ttl': '2',
    }),
  })
  const certificate = join(cluster.folder, 'tls.crt')
  const key = join(cluster.folder, 'tls.key')
  const subject = ['-subj', '/CN=etcd', '-addext', 'subjectAltName=IP:127.0.0.1']
  const { file, env } = program('openssl')
  const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2']
  execFileSync(file, [...request, '-keyout', key, '-out', certificate, ...subject], {
    stdio: 'ignore',
    env: { ...process.env, ...env },
  })
  chmodSync(key, 0o644)
  cluster.startEtcd('etcd1')
  const credentials = { rootCertificate: readFileSync(certificate) }
  const admin = writer(cluster, { credentials })
  await waitFor('etcd', () => put(admin, 'leader', 'pg1'))
  const root = admin.user('root')
  await root.create('secret')
  const role = admin.role('root')
  await role.create().catch(() => undefined)
  await root.addRole('root')
  const reader = admin.role('reader')
  await reader.create()
  await reader.grant({
    permission: 'Read',
    range: Range.prefix('/service/main/'),
  })
  const user = admin.user('pgsteer')
  await user.create('secret-of-pgsteer')
  await user.addRole('reader')
  await admin.auth.authEnable()

  const access = {
    etcdUser: 'pgsteer',
    etcdPassword: 'secret-of-pgsteer',
    etcdTlsCaFile: certificate,
  }
  const heard = listen(cluster, access)
  await waitFor('the leader', () => heard.views.at(-1)?.leader?.name === 'pg1')
  const writing = writer(cluster, { credentials, auth: { username: 'root', password: 'secret' } })
  await put(writing, 'leader', 'pg2')
  await waitFor('the change', () => heard.views.at(-1)?.leader?.name === 'pg2')
  const { contacts } = heard
  await waitFor('reads beyond the life of a token', () => heard.contacts > contacts + 8)
  await put(writing, 'leader', 'pg3')
  await waitFor('a change after that', () => heard.views.at(-1)?.leader?.name === 'pg3')
  expect(heard.troubles.filter((reason) => /auth|token|permission/i.test(reason))).toEqual([])
  // Every change of users and roles makes all tokens of before invalid.
  await writing.user('somebody').create('else')
  await put(writing, 'leader', 'pg4')
  await waitFor('a change behind that', () => heard.views.at(-1)?.leader?.name === 'pg4')

  const denied = listen(cluster, { ...access, etcdPassword: 'wrong' })
  await waitFor('the trouble', () => denied.troubles.length > 0)
  expect(denied.views).toEqual([])
})

test('survives a compaction, a restart and a store that was restored to an older state', async () => {
  const cluster = await prepare()
  cluster.startEtcd('etcd1')
  const client = writer(cluster)
  await waitFor('etcd', () => put(client, 'leader', 'pg1'))
  const heard = listen(cluster)
  await waitFor('the leader', () => heard.views.at(-1)?.leader?.name === 'pg1')
  for (let count = 0; count < 50; count += 1) await put(client, 'status', String(count))
  const { header } = await put(client, 'leader', 'pg2')
  await client.kv.compact({ revision: header.revision, physical: true })
  await waitFor('the change', () => heard.views.at(-1)?.leader?.name === 'pg2')

  await cluster.signal('etcd1', 'SIGKILL')
  await waitFor('the trouble', () => heard.troubles.length > 0)
  cluster.startEtcd('etcd1')
  await waitFor('etcd again', () => put(client, 'leader', 'pg3'))
  await waitFor('the change after the restart', () => heard.views.at(-1)?.leader?.name === 'pg3')

  await cluster.signal('etcd1', 'SIGKILL')
  rmSync(join(cluster.folder, 'etcd1'), { recursive: true })
  cluster.startEtcd('etcd1')
  await waitFor('the restored etcd', () => put(client, 'leader', 'pg4'))
  await waitFor('its leader', () => heard.views.at(-1)?.leader?.name === 'pg4', {
    withinMs: 20_000,
  })
})

test('a view is told once, however often its keys are rewritten without a change', async () => {
  const cluster = await prepare()
  cluster.startEtcd('etcd1')
  const client = writer(cluster)
  await waitFor('etcd', () => put(client, 'leader', 'pg1'))
  const heard = listen(cluster)
  await waitFor('the leader', () => heard.views.length === 1)
  for (let count = 0; count < 20; count += 1) await put(client, 'status', '{"optime":1}')
  const { contacts } = heard
  await waitFor('three more reads', () => heard.contacts > contacts + 3)
  expect(heard.views).toHaveLength(1)
})

test('group = 0 reads and watches the group of the coordinator, and no other group', async () => {
  const cluster = await prepare()
  cluster.startEtcd('etcd1')
  const client = writer(cluster)
  await waitFor('etcd', () => put(client, '0/leader', 'coordinator1'))
  await put(client, '0/members/coordinator1', member(5432))
  await put(client, '1/leader', 'worker1')
  await put(client, '1/members/worker1', member(5433))
  await put(client, 'leader', 'ungrouped')
  const heard = listen(cluster, { group: 0 })
  const first = await waitFor('the leader', () => heard.views.at(-1))
  expect(first.leader?.name).toBe('coordinator1')
  expect(first.members.map(({ name }) => name)).toEqual(['coordinator1'])
  await put(client, '1/leader', 'worker2')
  await put(client, '0/leader', 'coordinator2')
  await waitFor('the change', () => heard.views.at(-1)?.leader?.name === 'coordinator2')
  expect(heard.views.map(({ leader }) => leader?.name)).toEqual(['coordinator1', 'coordinator2'])
})

function member(port: number): string {
  return JSON.stringify({ conn_url: `postgres://127.0.0.1:${port}/p` })
}
