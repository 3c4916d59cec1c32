import { describe, expect, test } from 'vitest'
import { variableOf } from '../../../src/config/environment.ts'
import { KEY_SECTIONS, keysOf } from '../../../src/config/keys.ts'
import { configFrom } from '../../support/config.ts'
import { MINIMAL, problemsOf } from './support.ts'

describe('environment', () => {
  test('a variable goes before the file', () => {
    const config = configFrom({
      ini: `${MINIMAL}[pgbouncer]\npool_mode = session\n`,
      env: { PGSTEER_POOL_MODE: 'transaction', PGSTEER_ROUTE: 'primary', HOME: '/root' },
    })
    expect(config.pgbouncer.poolMode).toBe('transaction')
    expect(config.pgsteer.route).toBe('primary')
  })

  test('variables of the cluster make a cluster without a section in the file', () => {
    const config = configFrom({
      ini: '',
      env: {
        PGSTEER_CLUSTER_SCOPE: 'main',
        PGSTEER_CLUSTER_ETCD_HOSTS: 'http://a:2379, http://b:2379/',
      },
    })
    expect(config.cluster).toMatchObject({
      source: 'etcd',
      scope: 'main',
      etcdHosts: ['http://a:2379', 'http://b:2379'],
    })
    expect(config.databases.get('*')?.hosts).toEqual([])
  })

  test('_FILE names a file that holds the value, without its last line end', () => {
    const config = configFrom({
      ini: '[cluster]\nsource = static\nhosts = a\n',
      files: { secret: ' pass ; word \n' },
      env: { PGSTEER_CLUSTER_PROBE_PASSWORD_FILE: 'secret' },
    })
    expect(config.cluster?.probePassword).toBe(' pass ; word ')
  })

  test('a variable is taken as it is: no quotes, no comments', () => {
    const env = { PGSTEER_CLUSTER_PROBE_PASSWORD: "'a' ; b" }
    const config = configFrom({ ini: '[cluster]\nsource = static\nhosts = a\n', env })
    expect(config.cluster?.probePassword).toBe("'a' ; b")
  })

  test('a value and a file for the same key are an error', () => {
    const env = { PGSTEER_CLUSTER_SCOPE: 'a', PGSTEER_CLUSTER_SCOPE_FILE: '/x' }
    expect(problemsOf({ ini: '[cluster]\netcd_hosts = http://a\n', env })).toEqual([
      'environment: PGSTEER_CLUSTER_SCOPE_FILE and PGSTEER_CLUSTER_SCOPE are both set (keep one)',
    ])
  })

  test('an unknown variable is an error that names the nearest', () => {
    expect(
      problemsOf({ ini: MINIMAL, env: { PGSTEER_POOLMODE: 'x', PGSTEER_QQQQQQQQQ: '' } }),
    ).toEqual([
      'environment: unknown variable PGSTEER_POOLMODE (did you mean PGSTEER_POOL_MODE?)',
      'environment: unknown variable PGSTEER_QQQQQQQQQ',
    ])
  })

  test('what Kubernetes sets for a service named pgsteer is not ours', () => {
    const env = {
      PGSTEER_SERVICE_HOST: '10.0.0.1',
      PGSTEER_SERVICE_PORT: '6432',
      PGSTEER_SERVICE_PORT_HTTP: '9632',
      PGSTEER_PORT: 'tcp://10.0.0.1:6432',
      PGSTEER_PORT_6432_TCP_ADDR: '10.0.0.1',
    }
    expect(configFrom({ ini: MINIMAL, env }).pgbouncer.listenPort).toBe(6432)
  })

  test('a wrong value is reported under the name of its variable', () => {
    expect(
      problemsOf({ ini: MINIMAL, env: { PGSTEER_WORKERS: '', PGSTEER_POOL_MODE: 'a\nb' } }),
    ).toEqual([
      'PGSTEER_POOL_MODE: pool_mode = "a?b": must be a single line',
      'PGSTEER_WORKERS: workers = "": must be a whole number',
    ])
  })

  test('a _FILE that cannot be read is an error', () => {
    expect(problemsOf({ ini: MINIMAL, env: { PGSTEER_USER_FILE: '/nowhere' } })).toEqual([
      'environment: PGSTEER_USER_FILE: cannot read "/nowhere": no such file',
    ])
  })

  test('no two keys share a variable, and none is the _FILE of another', () => {
    const names = KEY_SECTIONS.flatMap((section) =>
      Object.keys(keysOf(section)).map((key) => variableOf(section, key)),
    )
    const all = [...names, ...names.map((name) => `${name}_FILE`)]
    expect(new Set(all).size).toBe(all.length)
  })
})
