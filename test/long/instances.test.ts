/**
 * Instances of pgsteer come and go: killed, stopped, robbed of their number, with TLS, with an etcd
 * that comes back empty, without the right to write there. Cancel requests hit the query that was
 * meant, or none.
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  acquainted,
  base64,
  cancel,
  countOf,
  EXPIRY,
  etcd,
  forged,
  freeNumber,
  NOTICE,
  numberOf,
  PREFIX,
  sight,
  sleep,
  useInstances,
} from '../failover/instances-suite.ts'
import { frontend } from '../support/bytes.ts'
import { Authority } from '../support/certificates.ts'
import { PatroniCluster } from '../support/patroni.ts'
import { waitFor } from '../support/wait.ts'
import { WireClient } from '../support/wire-client.ts'

const instances = useInstances()

test('an instance that stops is forgotten at once, one that is killed when its lease is over', async () => {
  const { at } = instances
  const { one, other } = at
  const stopped = await at.start()
  const killed = await at.newcomer({ mayRestart: true })
  await acquainted([one, other, stopped, killed])
  const number = await numberOf(killed)
  await stopped.stop()
  expect(await at.keysUnder(PREFIX)).toHaveLength(3)
  await acquainted([one, other, killed])
  await killed.kill()
  await cancel(one, ...forged(number))
  await waitFor('the expiry', async () => (await sight(one)).instances.length === 2, EXPIRY)
  const before = await countOf(one, 'no_peer')
  await cancel(one, ...forged(number))
  await waitFor('no such instance', async () => (await countOf(one, 'no_peer')) === before + 1)
  await acquainted([one, other])
})

test('an instance that comes later finds the others, and they find it', async () => {
  const { at } = instances
  const third = await at.newcomer()
  await waitFor('its number', async () => (await numberOf(third)) > 0, NOTICE)
  await at.expectCancelled(third, at.other)
  await at.expectCancelled(at.one, third)
})

test('a new control process keeps the number of its instance', async () => {
  const { at } = instances
  await acquainted([at.one, at.other])
  const number = await numberOf(at.one)
  const holder = await at.wire(at.one)
  const before = await at.leaseOf(number)
  const { control } = at.one
  if (control === undefined) throw new Error('it has a control process')
  process.kill(control, 'SIGKILL')
  await at.expectCancelled(at.one, at.other, holder)
  await at.untilOtherLease(number, before)
  await acquainted([at.one, at.other])
  expect(await numberOf(at.one)).toBe(number)
  expect(await at.keysUnder(PREFIX)).toHaveLength(2)
})

test('an etcd that comes back empty gets both instances back under their numbers', async () => {
  const { at } = instances
  const numbers = [await numberOf(at.one), await numberOf(at.other)]
  await at.store.signal('etcd1', 'SIGKILL')
  rmSync(join(at.store.folder, 'etcd1'), { recursive: true })
  at.store.startEtcd('etcd1')
  await at.bootstrap()
  await waitFor('both', () => at.keysUnder(PREFIX).then((keys) => keys.length === 2), EXPIRY)
  await acquainted([at.one, at.other])
  expect([await numberOf(at.one), await numberOf(at.other)]).toEqual(numbers)
  await at.expectCancelled(at.one, at.other)
})

test('an instance whose number was taken gets another one, and its old keys hit nobody else', async () => {
  const { at } = instances
  const third = await at.newcomer({ pgsteer: { workers: 2 } })
  await acquainted([at.one, at.other, third])
  const number = await numberOf(third)
  // Whichever worker took each of them, and whichever is asked: four of four.
  const holders = await Promise.all([0, 1, 2, 3].map(() => at.wire(third)))
  const thief = await at.silentPeer()
  await at.impostor(number, thief.port)
  await waitFor('another number', async () => (await numberOf(third)) !== number, NOTICE)
  const isKnown = async (): Promise<boolean> =>
    (await sight(at.other)).instances.some(({ port }) => port === thief.port)
  await waitFor('the thief known', isKnown, NOTICE)
  for (const [index, holder] of holders.entries()) await at.running(holder, `kept${index}`)
  const [first] = holders
  void cancel(at.other, first?.processId ?? 0, first?.key ?? Buffer.alloc(4)).catch(() => undefined)
  await waitFor('the request at the thief', () => thief.heard.length > 0)
  for (const [index, holder] of holders.entries()) {
    expect(await at.runs(`kept${index}`)).toBe(true)
    void cancel(third, holder.processId, holder.key).catch(() => undefined)
    expect((await holder.ready()).sqlstate).toBe('57014')
  }
  await at.expectCancelled(third, at.other)
})

test('RELOAD with [peers] takes an instance out of etcd, and back under its number without it', async () => {
  const { at } = instances
  const third = await at.newcomer()
  await acquainted([at.one, at.other, third])
  const number = await numberOf(third)
  const peers = `* =\n[peers]\n9 = host=127.0.0.1 port=${at.one.port}`
  third.rewrite(at.with({ databases: peers, pgbouncer: { peer_id: 5 } }))
  await third.console('RELOAD')
  await acquainted([at.one, at.other])
  expect(await sight(third)).toMatchObject({ instance: 5, instances: [{ id: 9 }] })
  third.rewrite(at.with({ pgbouncer: { peer_id: number } }))
  await third.console('RELOAD')
  await acquainted([at.one, at.other, third])
  expect(await numberOf(third)).toBe(number)
  await at.expectCancelled(third, at.one)
})

describe('TLS', () => {
  test('is used towards an instance that offers it, though servers have none', async () => {
    const { at } = instances
    const plain = await at.newcomer({ pgbouncer: { server_tls_sslmode: 'disable' } })
    const peer = await at.silentPeer()
    const number = await freeNumber(plain)
    await at.impostor(number, peer.port, 'offered')
    void cancel(plain, ...forged(number)).catch(() => undefined)
    await waitFor('the first bytes', () => peer.heard.length > 0)
    expect(peer.heard[0]).toEqual(frontend.sslRequest())
  })

  test('that an instance requires of its clients is no obstacle', async () => {
    const { at } = instances
    const authority = new Authority(join(at.store.folder, 'ca'))
    const { certFile, keyFile } = authority.issue({ commonName: 'localhost' })
    const strict = await at.newcomer({
      pgbouncer: {
        client_tls_sslmode: 'require',
        client_tls_cert_file: certFile,
        client_tls_key_file: keyFile,
      },
    })
    await waitFor('its number', async () => (await numberOf(strict)) > 0, NOTICE)
    const client = await strict.connect({ ssl: { rejectUnauthorized: false } })
    const ended = expect(client.query(sleep('secure'))).rejects.toMatchObject({ code: '57014' })
    await waitFor('the query runs', () => at.runs('secure'))
    const key = Buffer.alloc(4)
    key.writeInt32BE(Number(Reflect.get(client, 'secretKey')))
    await cancel(at.one, Number(Reflect.get(client, 'processID')), key)
    await ended
    await client.end()
  })
})

/** Each takes etcd a tenth of a second of CPU otherwise, which a busy machine has not. */
function cheapPasswords(): Record<string, string> {
  return { 'bcrypt-cost': '4' }
}

test('without the right to write in etcd an instance warns, and serves', async () => {
  const { at } = instances
  const guarded = await PatroniCluster.prepare({ members: 0, etcds: 1, etcdFlags: cheapPasswords })
  at.stack.defer(() => guarded.stop())
  guarded.startEtcd('etcd1')
  await at.bootstrap(guarded)
  const range = { key: base64('/service/'), range_end: base64('/service0') }
  const steps = [
    ['role/add', { name: 'root' }],
    ['role/add', { name: 'reader' }],
    ['role/grant', { name: 'reader', perm: { permType: 'READ', ...range } }],
    ['user/add', { name: 'root', password: 'root' }],
    ['user/grant', { user: 'root', role: 'root' }],
    ['user/add', { name: 'pgsteer', password: 'pgsteer' }],
    ['user/grant', { user: 'pgsteer', role: 'reader' }],
    ['enable', {}],
  ] as const
  for (const [path, body] of steps) await etcd(guarded, `auth/${path}`, body)
  const user = { etcd_user: 'pgsteer', etcd_password: 'pgsteer' }
  const steer = await at.newcomer({ cluster: user }, guarded)
  await waitFor('the warning', () => /not written down in etcd/.test(steer.log))
  expect(steer.log).toContain('permission denied')
  const client = await WireClient.login({
    host: steer.host,
    port: steer.port,
    user: 'demo',
    database: 'demo',
  })
  expect((await client.query('/* pgsteer: primary */ select 1')).rows).toEqual([['1']])
  await client.close()
  expect(await sight(steer)).toMatchObject({ primary: 'pg1', instance: 0, instances: [] })
})
