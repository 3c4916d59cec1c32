/**
 * A real PgBouncer next to each member of a real Patroni cluster, named by Patroni's proxy_address:
 * traffic goes through it, probes do not, and what it shares with others is left as it was.
 */
import type { Client } from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { ask as askMember, settled, startCluster, startSteer } from '../failover/steer-cluster.ts'
import { connect, end, insert, portOf } from '../failover/steer-load.ts'
import { frontend } from '../support/bytes.ts'
import type { PatroniCluster } from '../support/patroni.ts'
import { freePort, type Steer } from '../support/steer.ts'
import { Bouncer, pgbench, transactionsOf } from './beside-bouncer.ts'

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

/** Its own statement_timeout, named statements and transactions, over and over. */
async function rounds(client: Client, index: number): Promise<void> {
  const mine = `${30 + index}s`
  await client.query(`set statement_timeout = '${mine}'`)
  for (let round = 0; round < 15; round += 1) {
    const named = {
      name: `q${round % 3}`,
      text: `select ${round % 3} + $1::int as n, current_setting('statement_timeout') as t`,
    }
    const { rows } = await client.query<{ n: number; t: string }>({ ...named, values: [index] })
    expect(rows).toEqual([{ n: (round % 3) + index, t: mine }])
    await client.query('begin')
    await insert(client, `many-${index}-${round}`)
    const inside = await client.query("select current_setting('statement_timeout') as t")
    expect(inside.rows).toEqual([{ t: mine }])
    await client.query(round % 2 === 0 ? 'commit' : 'rollback')
  }
}

describe.each(['session', 'transaction'] as const)('PgBouncer in %s mode', (poolMode) => {
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

  /** What others find on the servers that they share with pgsteer. */
  async function expectUntouched(): Promise<void> {
    for (const bouncer of bouncers.values()) {
      const stranger = await bouncer.connect({ user: 'demo', database: 'demo' })
      stack.defer(() => stranger.end())
      expect((await stranger.query('select name from pg_prepared_statements')).rows).toEqual([])
      const changed =
        "select name, setting from pg_settings where source = 'session' and name not in "
      const { rows } = await stranger.query(
        `${changed} ('application_name', 'client_encoding', 'DateStyle', 'TimeZone', 'standard_conforming_strings')`,
      )
      expect(rows).toEqual([])
    }
  }

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
    await expectUntouched()
  })

  test('many sessions at once keep their own settings and statements', async () => {
    const clients = await Promise.all(Array.from({ length: 6 }, () => newcomer(steer)))
    await Promise.all(clients.map(rounds))
    await expectUntouched()
  })

  test('pgbench runs without failures in every mode', async () => {
    await pgbench(steer.port, '-i', '-s', '4', '-q')
    for (const mode of ['simple', 'extended', 'prepared'])
      for (const script of ['select-only', 'tpcb-like']) {
        // A thread each: one that prepares blocks all clients of its thread, and the only server may
        // be in the transaction of another one of them.
        const flags = ['-n', '-c', '4', '-j', '4', '-t', '30', '-M', mode, '-b', script]
        expect(transactionsOf(await pgbench(steer.port, ...flags))).toBe(120)
      }
    await expectUntouched()
  })

  test('a SET in a transaction ends with its rollback and survives its commit', async () => {
    const client = await newcomer(steer)
    const shown = async () =>
      (await client.query("select current_setting('statement_timeout') as t")).rows[0]
    for (const [ending, after] of [
      ['rollback', '0'],
      ['commit', '55s'],
    ] as const) {
      await client.query('begin')
      await client.query("set statement_timeout = '55s'")
      expect(await shown()).toEqual({ t: '55s' })
      await client.query(ending)
      expect(await shown()).toEqual({ t: after })
      await expectUntouched()
    }
    await client.query('reset statement_timeout')
    expect(await shown()).toEqual({ t: '0' })
    await expect(client.query("set statement_timeout = 'nonsense'")).rejects.toThrow(
      'invalid value',
    )
    await client.query('set role pg_monitor').catch(() => undefined)
    await client.query('reset role')
    expect(await shown()).toEqual({ t: '0' })
  })

  test('batches sent ahead each run under the settings of their session', async () => {
    const wire = await steer.wire()
    stack.defer(() => wire.close())
    expect((await wire.query("set statement_timeout = '66s'")).types).toBe('CZ')
    const ask = frontend.query("select current_setting('statement_timeout')")
    wire.send(ask, frontend.query('begin'), ask, frontend.query('commit'), ask, ask)
    const rows: (string | null)[][] = []
    for (let answers = 0; answers < 6; answers += 1) rows.push(...(await wire.ready()).rows)
    expect(rows).toEqual([['66s'], ['66s'], ['66s'], ['66s']])
    await expectUntouched()
  })

  test('what cannot be carried is refused, with the reason, on a connection that lives', async () => {
    const client = await newcomer(steer)
    for (const sql of [
      'listen news',
      'create temp table t (n int)',
      "set statement_timeout = '1s'; select 1",
      'set default_transaction_isolation = serializable',
      'prepare p as select 1',
    ])
      await expect(client.query(sql), sql).rejects.toMatchObject({ code: '0A000' })
    await insert(client, 'after-refusals')
    await expectUntouched()
  })

  test('a switchover moves writes to the other PgBouncer', async () => {
    const client = await newcomer(steer)
    const before = await insert(client, 'before-switchover')
    await cluster.switchover()
    const after = await insert(client, 'after-switchover')
    expect(after).not.toBe(before)
    await settled(steer, 1)
    expect(
      await askMember(cluster, (await cluster.leader()) ?? '', 'select pg_is_in_recovery() as r'),
    ).toEqual([{ r: false }])
  })
})
