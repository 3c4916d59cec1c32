import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Config } from '../../../src/config/config.ts'
import { configRows, describeConfig, HIDDEN, settingOf } from '../../../src/config/describe.ts'
import { loadConfig } from '../../../src/config/load.ts'
import { configFrom } from '../../support/config.ts'

const ROUTED = '[cluster]\nsource = static\nhosts = pg1, pg2:5433\n'

/** What describeConfig promises to keep: everything but secrets and the file's own name. */
function withoutSecrets(config: Config): unknown {
  const { file: _file, ...rest } = config
  const databases = [...config.databases].map(([name, entry]) => [
    name,
    { ...entry, password: entry.password === null ? null : HIDDEN },
  ])
  const cluster = config.cluster && {
    ...config.cluster,
    probePassword: config.cluster.probePassword === null ? null : HIDDEN,
    etcdPassword: config.cluster.etcdPassword === null ? null : HIDDEN,
  }
  return { ...rest, databases, cluster }
}

function expectRoundTrip(config: Config): void {
  for (const showDefaults of [false, true]) {
    const text = describeConfig(config, { showDefaults })
    const again = configFrom(text)
    expect(withoutSecrets(again)).toEqual(withoutSecrets(config))
    expect(describeConfig(again, { showDefaults })).toBe(text)
  }
}

describe('describeConfig', () => {
  test('shows what differs from the defaults, as a file that would load', () => {
    const config = configFrom(
      `[databases]\n* =\n"odd ""name" = host=x,y port=6000 password='it''s' pool_size=3\n[users]\njoe = query_timeout=1.5\n[pgbouncer]\npool_mode = transaction\nadmin_users = a,b\n${ROUTED}probe_password = 'a ; b'\n`,
    )
    expect(describeConfig(config, { showDefaults: false })).toBe(`[databases]
* =
"odd ""name" = host=x,y port=6000 password=${HIDDEN} pool_size=3

[users]
joe = query_timeout=1.5

[pgbouncer]
admin_users = a, b
pool_mode = transaction

[cluster]
source = static
hosts = pg1:5432, pg2:5433
probe_password = ${HIDDEN}

[pgsteer]
`)
  })

  test('shows every key when asked to, those without a value as comments', () => {
    const text = describeConfig(configFrom(`[databases]\na = host=x\n`), { showDefaults: true })
    expect(text).toContain('\nquery_wait_timeout = 120\n')
    expect(text).toContain('\n;auth_user =\n')
    expect(text).toContain('\n;failover_hold_ms_max =\n')
    expect(text).toContain('a = host=x port=5432 load_balance_hosts=round-robin\n')
    expect(text).not.toContain('[cluster]')
  })

  test('no secret of any section is shown', () => {
    const config = configFrom(
      `[databases]\na = host=x user=u password=geheim1\n${ROUTED}probe_password = geheim2\netcd_user = e\netcd_password = geheim3\n`,
    )
    const all = describeConfig(config, { showDefaults: true }) + JSON.stringify(configRows(config))
    expect(all).not.toContain('geheim')
    expect(all.split(HIDDEN)).toHaveLength(1 + 3 + 2)
  })

  test('the samples survive a round trip', () => {
    for (const name of ['production-pgbouncer.ini', 'package-pgbouncer.ini']) {
      expectRoundTrip(loadConfig(join(import.meta.dirname, name), {}).config)
    }
  })

  test('any text survives a round trip', () => {
    const word = fc.string({
      unit: fc.constantFrom(
        'a',
        'b',
        ' ',
        ';',
        "'",
        '"',
        '#',
        '=',
        '\\',
        ',',
        '%',
        '[',
        ']',
        'ü',
        '\u2028',
        '\t',
      ),
      minLength: 1,
    })
    const inOurs = word.filter((text) => text.trim() !== '')
    const inEntry = fc.tuple(
      fc.constantFrom('user', 'connect_query', 'timezone', 'dbname', 'auth_query'),
      word,
    )
    fc.assert(
      fc.property(fc.array(inEntry), word, inOurs, (pairs, name, zone) => {
        const written = pairs.map(([key, value]) => `${key}='${value.replaceAll("'", "''")}'`)
        const ini = `[databases]\n"${name.replaceAll('"', '""')}" = host=x ${written.join(' ')}\n[pgbouncer]\nserver_reset_query = x${zone}x\n[pgsteer]\nzone = '${zone.replaceAll("'", "''")}'\n`
        const config = configFrom(ini)
        expect(config.pgsteer.zone).toBe(zone)
        expect(config.pgbouncer.serverResetQuery).toBe(`x${zone}x`)
        expect([...config.databases.keys()]).toEqual([name])
        expectRoundTrip(config)
      }),
      { numRuns: 60 },
    )
  })
})

describe('configRows', () => {
  test("PgBouncer's keys come first and in its order, then ours, the cluster's with a prefix", () => {
    const rows = configRows(configFrom(`[databases]\n* =\n${ROUTED}`))
    const keys = rows.map((row) => row.key)
    expect(keys[0]).toBe('admin_users')
    expect(keys.indexOf('verbose')).toBe(100)
    expect(keys.indexOf('http_addr')).toBe(101)
    expect(keys.at(-1)).toBe('cluster_lease_guard_ms')
    expect(new Set(keys).size).toBe(keys.length)
  })

  test('values and defaults are as they would be written', () => {
    const config = configFrom(
      '[databases]\na = host=x\n[pgbouncer]\nquery_timeout = 1.5\nlisten_port = 7000\n',
    )
    const rows = new Map(configRows(config).map((row) => [row.key, row]))
    expect(rows.get('query_timeout')).toEqual({
      key: 'query_timeout',
      value: '1.5',
      default: '0',
      changeable: 'yes',
    })
    expect(rows.get('listen_port')).toEqual({
      key: 'listen_port',
      value: '7000',
      default: '6432',
      changeable: 'no',
    })
    expect(rows.get('auth_user')).toMatchObject({ value: null, default: null })
    expect(rows.get('conffile')?.value).toBe(config.file)
    expect(rows.has('cluster_scope')).toBe(false)
  })

  test('every row leads back to its key', () => {
    for (const row of configRows(configFrom(`[databases]\n* =\n${ROUTED}`))) {
      expect(settingOf(row.key)?.key.fallback).toBe(row.default)
    }
    expect(settingOf('nonsense')).toBeNull()
    expect(settingOf('toString')).toBeNull()
  })
})
