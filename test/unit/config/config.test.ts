import { describe, expect, test } from 'vitest'
import { databaseOf, poolConfig } from '../../../src/config/config.ts'
import { configFrom } from '../../support/config.ts'

const ROUTED = '[cluster]\nsource = static\nhosts = a, b\n'

describe('databaseOf', () => {
  test('a database without an entry is served by *', () => {
    const config = configFrom('[databases]\na = host=one\n* = host=two\n')
    expect(databaseOf(config, 'a')?.hosts).toEqual(['one'])
    expect(databaseOf(config, 'b')?.name).toBe('*')
  })

  test('without * there is no such database', () => {
    expect(databaseOf(configFrom('[databases]\na = host=one\n'), 'b')).toBeUndefined()
  })

  test('the database of the console is never an entry', () => {
    expect(databaseOf(configFrom('[databases]\n* = host=one\n'), 'pgbouncer')).toBeUndefined()
  })
})

describe('poolConfig', () => {
  test('no such database gives nothing', () => {
    expect(poolConfig(configFrom('[databases]\na = host=x\n'), 'b', 'joe')).toBeUndefined()
  })

  test('with a cluster an entry is routed unless it names hosts', () => {
    const config = configFrom(`[databases]\na =\nb = host=x,/run/y port=6000 dbname=c\n${ROUTED}`)
    expect(poolConfig(config, 'a', 'joe')).toMatchObject({
      isRouted: true,
      hosts: [],
      serverDatabase: 'a',
      route: 'split',
      consistency: 'session',
    })
    expect(poolConfig(config, 'b', 'joe')).toMatchObject({
      isRouted: false,
      hosts: ['x', '/run/y'],
      port: 6000,
      serverDatabase: 'c',
    })
  })

  test('through * the server database is the one that was asked for', () => {
    const pool = poolConfig(configFrom(`[databases]\n* =\n${ROUTED}`), 'anything', 'joe')
    expect(pool).toMatchObject({ database: 'anything', serverDatabase: 'anything' })
  })

  test('a forced user goes to the server with its password', () => {
    const config = configFrom(
      '[databases]\na = host=x user=pool password=p\nb = host=x password=p\n',
    )
    expect(poolConfig(config, 'a', 'joe')).toMatchObject({
      user: 'joe',
      serverUser: 'pool',
      serverPassword: 'p',
    })
    expect(poolConfig(config, 'b', 'joe')).toMatchObject({
      serverUser: 'joe',
      serverPassword: null,
    })
  })

  test('pool mode and sizes: the user, then the database, then [pgbouncer]', () => {
    const config = configFrom(`[databases]
a = host=x pool_mode=transaction pool_size=7 reserve_pool=2 min_pool_size=1
b = host=x
[users]
joe = pool_mode=statement pool_size=3 reserve_pool_size=9
[pgbouncer]
default_pool_size = 11
reserve_pool_size = 4
`)
    expect(poolConfig(config, 'a', 'joe')).toMatchObject({
      poolMode: 'statement',
      poolSize: 3,
      reservePoolSize: 9,
      minPoolSize: 1,
    })
    expect(poolConfig(config, 'a', 'ann')).toMatchObject({
      poolMode: 'transaction',
      poolSize: 7,
      reservePoolSize: 2,
    })
    expect(poolConfig(config, 'b', 'ann')).toMatchObject({
      poolMode: 'session',
      poolSize: 11,
      reservePoolSize: 4,
      minPoolSize: 0,
    })
  })

  test('limits of servers follow the forced user, timeouts the user who logged in', () => {
    const config = configFrom(`[databases]
a = host=x user=pool
[users]
pool = pool_mode=transaction max_user_connections=5 query_timeout=1
joe = pool_mode=statement max_user_connections=6 query_timeout=2
`)
    expect(poolConfig(config, 'a', 'joe')).toMatchObject({
      poolMode: 'transaction',
      maxUserConnections: 5,
      queryTimeoutMs: 2000,
    })
  })

  test('0 in an entry is a pool size, and no value for other limits', () => {
    const config = configFrom(`[databases]
a = host=x pool_size=0 max_db_connections=0 server_lifetime=0 query_wait_timeout=0
[users]
joe = query_timeout=0 max_user_connections=0
[pgbouncer]
max_db_connections = 50
max_user_connections = 60
query_timeout = 7
`)
    expect(poolConfig(config, 'a', 'joe')).toMatchObject({
      poolSize: 0,
      maxDbConnections: 50,
      maxUserConnections: 60,
      serverLifetimeMs: 3_600_000,
      queryWaitTimeoutMs: 120_000,
      queryTimeoutMs: 7000,
    })
  })

  test('the wait for a server: the user, then the database, then [pgbouncer]', () => {
    const config = configFrom(`[databases]
a = host=x query_wait_timeout=20
b = host=x
[users]
joe = query_wait_timeout=10.5 client_idle_timeout=1 transaction_timeout=2 idle_transaction_timeout=3
`)
    expect(poolConfig(config, 'a', 'joe')).toMatchObject({
      queryWaitTimeoutMs: 10_500,
      clientIdleTimeoutMs: 1000,
      transactionTimeoutMs: 2000,
      idleTransactionTimeoutMs: 3000,
    })
    expect(poolConfig(config, 'a', 'ann')?.queryWaitTimeoutMs).toBe(20_000)
    expect(poolConfig(config, 'b', 'ann')?.queryWaitTimeoutMs).toBe(120_000)
  })

  test('routing: the user, then the database, then [pgsteer]', () => {
    const config = configFrom(`[databases]
a = route=primary consistency=eventual session_state=reject server_clean=never read_transactions=replica_until_write
b =
[users]
joe = route=replica consistency=global
${ROUTED}[pgsteer]
route = split
consistency = primary
session_state = warn
server_clean = always
`)
    expect(poolConfig(config, 'a', 'joe')).toMatchObject({
      route: 'replica',
      consistency: 'global',
      sessionState: 'reject',
      serverClean: 'never',
      readTransactions: 'replica_until_write',
    })
    expect(poolConfig(config, 'a', 'ann')).toMatchObject({
      route: 'primary',
      consistency: 'eventual',
    })
    expect(poolConfig(config, 'b', 'ann')).toMatchObject({
      route: 'split',
      consistency: 'primary',
      sessionState: 'warn',
      serverClean: 'always',
      readTransactions: 'primary',
    })
  })

  test('settings of the entry are those of new server connections', () => {
    const config = configFrom(
      "[databases]\na = host=x client_encoding=UTF8 datestyle='ISO, DMY' timezone=UTC application_name=me connect_query='select 1'\nb = host=x\n",
    )
    const pool = poolConfig(config, 'a', 'joe')
    expect([...(pool?.settings ?? [])]).toEqual([
      ['client_encoding', 'UTF8'],
      ['datestyle', 'ISO, DMY'],
      ['timezone', 'UTC'],
      ['application_name', 'me'],
    ])
    expect(pool?.connectQuery).toBe('select 1')
    expect(poolConfig(config, 'b', 'joe')?.settings.size).toBe(0)
  })
})
