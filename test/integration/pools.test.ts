/** The pools over real servers: what a fake cannot prove about cleaning and cancelling. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { KeyDeriver } from '../../src/auth/derive.ts'
import { systemClock } from '../../src/base/clock.ts'
import type { ProxyError } from '../../src/base/errors.ts'
import { createLog } from '../../src/base/log.ts'
import type { Config } from '../../src/config/config.ts'
import { ServerTls, serverTlsSettings } from '../../src/net/tls.ts'
import type { ServerConnection } from '../../src/server/connection.ts'
import { logIn, sendCancel } from '../../src/server/login.ts'
import type { Pool } from '../../src/server/pool.ts'
import { Pools } from '../../src/server/pools.ts'
import { configFrom } from '../support/config.ts'
import { postgres15 } from '../support/debian.ts'
import { FakeWaiter, member, primary, topology } from '../support/pools.ts'
import { useCluster } from '../support/postgres.ts'

const INI = `[databases]
* =
[pgbouncer]
pool_mode = transaction
default_pool_size = 1
[cluster]
source = static
hosts = pg1:1, pg2:1
`

/** Fails when something of an earlier session is left. */
const LEFT = `DO $$ BEGIN
  IF current_user <> 'demo' THEN RAISE 'role %', current_user; END IF;
  IF current_setting('search_path') <> '"$user", public' THEN RAISE 'search_path'; END IF;
  IF current_setting('my.own', true) = 'x' THEN RAISE 'my.own'; END IF;
  IF EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())
    THEN RAISE 'advisory lock'; END IF;
  IF EXISTS (SELECT FROM pg_listening_channels()) THEN RAISE 'LISTEN'; END IF;
  IF to_regclass('pg_temp.scratch') IS NOT NULL THEN RAISE 'temporary table'; END IF;
END $$`

const HIDDEN = `DO $$ BEGIN
  PERFORM set_config('search_path', 'nowhere', false), set_config('my.own', 'x', false);
  PERFORM pg_advisory_lock(42);
END $$; SET ROLE pg_monitor`

function connected(config: Config): Pools {
  const tls = new ServerTls(serverTlsSettings(config.pgbouncer))
  const clock = systemClock
  const deriver = new KeyDeriver()
  return new Pools({
    config,
    clock,
    log: createLog({ level: 'silent', format: 'json' }),
    onBusy: () => {},
    connect: ({ identity, secret, parameters, deadlineMs }) => {
      const { host, port, database, user } = identity
      const address = { host, port }
      return logIn(
        {
          address,
          database,
          user,
          secret,
          startup: parameters,
          replication: null,
          tls,
          deadlineMs,
        },
        { clock, deriver, keepAliveMs: 0 },
      )
    },
    cancel: async (server) => {
      const { host, port } = server.identity
      const end = await sendCancel(
        {
          address: { host, port },
          processId: server.processId,
          secret: server.cancelSecret,
          tls: null,
          deadlineMs: 5000,
        },
        { clock, keepAliveMs: 0 },
      )
      expect(end).toBe('ended')
    },
  })
}

/** Takes a server as a session does. */
function take(pool: Pool, waiter: FakeWaiter): Promise<ServerConnection> {
  return new Promise((resolve, reject) => {
    waiter.onGranted = resolve
    waiter.refused = reject
    pool.acquire(waiter)
  })
}

function run(server: ServerConnection, sql: string): Promise<ProxyError | null> {
  return new Promise((resolve) => {
    server.run(sql, resolve)
  })
}

describe.each([
  ['PostgreSQL 18', undefined],
  ['PostgreSQL 15', postgres15],
])('%s', (_, binaries) => {
  const shared = useCluster(() =>
    binaries === undefined ? { replicas: 1 } : { replicas: 1, binaries: binaries() },
  )
  let pools: Pools
  let pool: Pool

  beforeAll(async () => {
    const { cluster } = shared
    await cluster.primary.query('GRANT pg_monitor TO demo')
    await cluster.caughtUp()
    pools = connected(configFrom(INI))
    const [pg1, pg2] = cluster.members.map(({ port }) => ({ host: '127.0.0.1', port }))
    const members = [
      { ...primary('pg1'), ...pg1 },
      { ...member('pg2'), ...pg2 },
    ]
    pools.setTopology(topology({ members }))
    pool = pools.pool('demo', 'demo', { kind: 'plain', password: 'demo' })
  })

  afterAll(() => pools.shutdown('immediate'))

  test.each(['primary', 'replica'] as const)(
    'nothing hidden is left on a %s for the next session',
    async (wantsRole) => {
      const one = new FakeWaiter(1, { wantsRole })
      const server = await take(pool, one)
      expect(await run(server, HIDDEN)).toBeNull()
      if (wantsRole === 'primary')
        expect(await run(server, 'LISTEN news; CREATE TEMP TABLE scratch ()')).toBeNull()
      server.isUnclean = true
      const two = new FakeWaiter(2, { wantsRole })
      const next = take(pool, two)
      pool.release(server, one)
      expect(await next).toBe(server)
      expect(await run(server, LEFT)).toBeNull()
      pool.release(server, two)
    },
  )

  test('the check itself sees what is left when a server is not cleaned', async () => {
    const one = new FakeWaiter(1)
    const server = await take(pool, one)
    await run(server, HIDDEN)
    expect((await run(server, LEFT))?.message).toContain('role')
    server.isUnclean = true
    pool.release(server, one)
  })

  test('a cancel never hits the statement of the next session', async () => {
    for (let turn = 0; turn < 100; turn += 1) {
      const one = new FakeWaiter(1)
      const server = await take(pool, one)
      const isLong = turn % 3 === 0
      const first = run(server, `SELECT pg_sleep(${isLong ? 60 : 0})`)
      void pool.cancel(server)
      // A request that comes before its statement is lost, so a client in earnest repeats it.
      const again = setInterval(() => void pool.cancel(server), 10)
      const error = await first
      clearInterval(again)
      if (isLong) expect(error?.sqlstate).toBe('57014')
      const two = new FakeWaiter(2)
      const next = take(pool, two)
      pool.release(server, one)
      expect(await run(await next, 'SELECT pg_sleep(0.002)')).toBeNull()
      pool.release(server, two)
    }
  })

  test('welcome tells what servers report', async () => {
    const welcome = await pool.welcome()
    expect(welcome.get('server_version')).toMatch(/^1[58]/)
    expect(welcome.get('in_hot_standby')).toMatch(/^o/)
  })
})
