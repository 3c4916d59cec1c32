import { describe, expect, test } from 'vitest'
import { changeSetting, compareConfigs, mergeConfigs } from '../../../src/config/changes.ts'
import { configFrom } from '../../support/config.ts'

const CLUSTER = '[cluster]\nsource = static\nhosts = pg1\n'

describe('compareConfigs', () => {
  test('equal configurations have no changes', () => {
    const ini = `[databases]\na = host=x\n* =\n${CLUSTER}`
    expect(compareConfigs(configFrom(ini), configFrom(ini))).toEqual({ live: [], restart: [] })
  })

  test('changed keys and entries are named, by whether a RELOAD applies them', () => {
    const before = configFrom(
      `[databases]\na = host=x\nb = host=x\n[users]\nu = pool_size=1\n[pgbouncer]\npool_mode = session\n${CLUSTER}`,
    )
    const after = configFrom(
      `[databases]\na = host=y\nc = host=x\n[users]\nu = pool_size=2\n[peers]\n1 = host=/p\n[pgbouncer]\npool_mode = statement\nlisten_port = 1\n${CLUSTER}probe_user = p\nnamespace = /x/\n[pgsteer]\nroute = primary\nworkers = 2\n`,
    )
    expect(compareConfigs(before, after)).toEqual({
      live: [
        'pool_mode',
        'cluster_probe_user',
        'route',
        'databases.a',
        'databases.b',
        'databases.c',
        'users.u',
        'peers.1',
      ],
      restart: ['listen_port', 'cluster_namespace', 'workers'],
    })
  })

  test('a cluster that comes or goes needs a restart, and so do the databases with it', () => {
    const before = configFrom('[databases]\na =\n[users]\nu = pool_size=1\n')
    const after = configFrom(`[databases]\na =\n${CLUSTER}`)
    expect(compareConfigs(before, after)).toEqual({
      live: ['users.u'],
      restart: ['cluster', 'databases.a'],
    })
  })

  test('a file with new contents is a change of its key', () => {
    const ini =
      '[databases]\na = host=x\n[pgbouncer]\nauth_type = hba\nauth_file = u\nauth_hba_file = h\n[pgsteer]\nhttp_token_file = t\n'
    const before = configFrom({ ini, files: { u: '"a" "1"', h: 'x', t: 'x' } })
    const after = configFrom({ ini, files: { u: '"a" "2"', h: 'y', t: 'y' } })
    // The folders of the two differ, so the paths do as well: each is named once.
    expect(compareConfigs(before, after).live.toSorted()).toEqual([
      'auth_file',
      'auth_hba_file',
      'http_token_file',
    ])
  })
})

describe('mergeConfigs', () => {
  test('what a RELOAD cannot apply stays as it was', () => {
    const before = configFrom(`[databases]\n* =\n${CLUSTER}`)
    const after = configFrom(
      `[databases]\n* = pool_size=3\n[pgbouncer]\npool_mode = statement\nlisten_port = 1\n${CLUSTER}probe_user = p\nnamespace = /x/\n[pgsteer]\nworkers = 2\nzone = a\n`,
    )
    const merged = mergeConfigs(before, after)
    expect(merged.pgbouncer).toMatchObject({ poolMode: 'statement', listenPort: 6432 })
    expect(merged.cluster).toMatchObject({ probeUser: 'p', namespace: '/service/' })
    expect(merged.pgsteer).toMatchObject({ zone: 'a', workers: 1 })
    expect(merged.databases.get('*')?.poolSize).toBe(3)
    expect(compareConfigs(merged, after).live).toEqual([])
    expect(compareConfigs(before, merged).restart).toEqual([])
    expect(Object.isFrozen(merged.pgbouncer)).toBe(true)
  })

  test('without a cluster before, entries keep their meaning until the restart', () => {
    const before = configFrom('[databases]\na =\n')
    const merged = mergeConfigs(before, configFrom(`[databases]\na =\n${CLUSTER}`))
    expect(merged.cluster).toBeNull()
    expect(merged.databases.get('a')?.hosts).toEqual(['/tmp'])
  })
})

describe('changeSetting', () => {
  const config = configFrom('[databases]\na = host=x\n')

  test('changes one key and leaves the old value alone', () => {
    const changed = changeSetting(config, 'query_timeout', '1.5')
    expect(changed.pgbouncer.queryTimeoutMs).toBe(1500)
    expect(config.pgbouncer.queryTimeoutMs).toBe(0)
    expect(changeSetting(config, 'route', 'replica').pgsteer.route).toBe('replica')
    expect(Object.isFrozen(changed.pgbouncer)).toBe(true)
  })

  test('a key of the cluster has its prefix, as in SHOW CONFIG', () => {
    const routed = configFrom(`[databases]\n* =\n${CLUSTER}`)
    expect(changeSetting(routed, 'cluster_probe_user', 'p').cluster?.probeUser).toBe('p')
    expect(() => changeSetting(config, 'cluster_probe_user', 'p')).toThrow('unknown key')
  })

  test.each([
    ['pool_mod', 'session', 'unknown key "pool_mod" (did you mean pool_mode?)'],
    ['toString', 'x', 'unknown key "toString"'],
    ['pool_mode', 'x', 'must be one of session, transaction, statement'],
    ['listen_port', '1', 'can only be changed by a restart'],
    ['auth_file', '/x', 'set it in the file and RELOAD'],
    ['auth_type', 'hba', 'auth_type = hba needs auth_hba_file'],
  ])('SET %s = %s is refused', (name, value, message) => {
    expect(() => changeSetting(config, name, value)).toThrow(message)
  })
})
