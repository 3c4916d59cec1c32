/**
 * A real PgBouncer next to each member of a real Patroni cluster, named by Patroni's proxy_address:
 * traffic goes through it, probes do not, and what it shares with others is left as it was.
 */
import type { Client } from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { ask, settled, startCluster, startSteer } from '../failover/steer-cluster.ts'
import { connect, end, insert, portOf } from '../failover/steer-load.ts'
import type { PatroniCluster } from '../support/patroni.ts'
import { freePort, type Steer } from '../support/steer.ts'
import { Bouncer } from './beside-bouncer.ts'

let cluster: PatroniCluster
let proxyPorts: ReadonlyMap<string, number>
let stack = new AsyncDisposableStack()

beforeAll(async () => {
  proxyPorts = new Map([
    ['pg1', await freePort()],
    ['pg2', await freePort()],
  ])
  cluster = await startCluster({
    members: 2,
    etcds: 1,
    postgresql: (name) => ({ proxy_address: `127.0.0.1:${proxyPorts.get(name)}` }),
  })
})
afterEach(async () => {
  await stack.disposeAsync()
  stack = new AsyncDisposableStack()
})
afterAll(() => cluster?.stop())

async function newcomer(steer: Steer): Promise<Client> {
  const client = await connect(steer)
  stack.defer(() => end(client))
  return client
}

describe.each(['session'] as const)('PgBouncer in %s mode', (poolMode) => {
  let bouncers: ReadonlyMap<number, Bouncer>
  let steer: Steer

  beforeAll(async () => {
    const started = cluster.members.map(async ({ name, port }) => {
      const listenPort = proxyPorts.get(name) ?? 0
      const poolSize = poolMode === 'session' ? 10 : 1
      return [port, await Bouncer.start({ port, poolMode, poolSize, listenPort })] as const
    })
    bouncers = new Map(await Promise.all(started))
    steer = await startSteer(cluster, 'etcd', { pgsteer: { member_address: 'proxy_url' } })
    await settled(steer, 1)
  })
  afterAll(async () => {
    await steer?.stop()
    for (const bouncer of bouncers?.values() ?? []) await bouncer.stop()
  })

  test('every statement of the application goes through it, and no probe does', async () => {
    const client = await newcomer(steer)
    await insert(client, 'through')
    await portOf(client)
    for (const [port, bouncer] of bouncers) {
      const name = cluster.members.find((member) => member.port === port)?.name ?? ''
      const servers = await bouncer.show('SERVERS')
      const sql = 'select usename, client_port from pg_stat_activity where client_port > 0'
      const seen = await cluster.query(name, sql)
      const through = new Set(servers.map((row) => Number(row['local_port'])))
      const ofApplication = seen.filter((row) => row['usename'] === 'demo')
      expect(new Set(ofApplication.map((row) => row['client_port']))).toEqual(through)
      expect(seen.some((row) => row['usename'] === 'pgsteer')).toBe(true)
      expect(servers.every((row) => row['user'] === 'demo')).toBe(true)
    }
  })

  test('writes reach the primary and reads the replica, also those of prepared statements', async () => {
    const primary = cluster.member((await cluster.leader()) ?? '').port
    const clients = [await newcomer(steer), await newcomer(steer), await newcomer(steer)]
    for (let round = 0; round < 4; round += 1)
      for (const client of clients) {
        const write = { name: 'w', text: 'insert into written (id) values ($1) returning port' }
        const written = await client.query<{ port: number }>({ ...write, values: [`p${round}`] })
        expect(written.rows[0]?.port).toBe(primary)
        const read = { name: 'r', text: 'select inet_server_port() as port, $1::int as n' }
        const seen = await client.query<{ port: number; n: number }>({ ...read, values: [round] })
        expect(seen.rows[0]?.n).toBe(round)
        expect(bouncers.has(seen.rows[0]?.port ?? 0)).toBe(true)
      }
  })

  test('settings follow their session and nobody else gets them', async () => {
    const [one, other] = [await newcomer(steer), await newcomer(steer)]
    await one.query("set statement_timeout = '77s'")
    await one.query("set timezone = 'Asia/Tokyo'")
    for (let round = 0; round < 3; round += 1) {
      expect((await one.query('show statement_timeout')).rows).toEqual([
        { statement_timeout: '77s' },
      ])
      expect((await one.query('show timezone')).rows).toEqual([{ TimeZone: 'Asia/Tokyo' }])
      expect((await other.query('show statement_timeout')).rows).toEqual([
        { statement_timeout: '0' },
      ])
      expect((await other.query('show timezone')).rows).not.toEqual([{ TimeZone: 'Asia/Tokyo' }])
    }
  })

  test('nothing is left behind for those who share its servers', async () => {
    const client = await newcomer(steer)
    await client.query("set statement_timeout = '77s'")
    await client.query({
      name: 'left',
      text: 'select count(*) from written where id = $1',
      values: ['x'],
    })
    await client.query({
      name: 'left too',
      text: 'insert into written (id) values ($1)',
      values: ['x'],
    })
    for (const bouncer of bouncers.values()) {
      const stranger = await bouncer.connect({ user: 'demo', database: 'demo' })
      stack.defer(() => stranger.end())
      expect((await stranger.query('select name from pg_prepared_statements')).rows).toEqual([])
      const shown = await stranger.query('show statement_timeout')
      expect(shown.rows).toEqual([{ statement_timeout: '0' }])
    }
  })

  test('a switchover moves writes to the other PgBouncer', async () => {
    const client = await newcomer(steer)
    const before = await insert(client, 'before-switchover')
    await cluster.switchover()
    const after = await insert(client, 'after-switchover')
    expect(after).not.toBe(before)
    await settled(steer, 1)
    expect(
      await ask(cluster, (await cluster.leader()) ?? '', 'select pg_is_in_recovery() as r'),
    ).toEqual([{ r: false }])
  })
})
