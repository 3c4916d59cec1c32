import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { emptyStats } from '../../../src/client/facts.ts'
import {
  Admitted,
  DATABASES_MAX,
  limitWords,
  POOLS_MAX,
  WORDS_MAX,
} from '../../../src/http/metrics/limit.ts'
import { METRICS, Metrics } from '../../../src/http/metrics.ts'
import { Authority } from '../../support/certificates.ts'
import { configFrom } from '../../support/config.ts'
import { clientsFacts, poolFacts, snapshotOf, topology, workerFacts } from '../../support/facts.ts'

/** The lines of one metric, without comments. */
async function lines(
  name: string,
  snapshot = snapshotOf(),
  metrics = new Metrics(),
): Promise<string[]> {
  const { body } = await metrics.print(snapshot, '')
  return body
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
}

describe('numbers come from the facts', () => {
  it.each([
    ['pgsteer_cluster_term', ['pgsteer_cluster_term 5']],
    ['pgsteer_cluster_has_primary', ['pgsteer_cluster_has_primary 1']],
    ['pgsteer_cluster_failovers_total', ['pgsteer_cluster_failovers_total 1']],
    [
      'pgsteer_cluster_without_primary_seconds_total',
      ['pgsteer_cluster_without_primary_seconds_total 1.5'],
    ],
    [
      'pgsteer_member_lag_seconds',
      [
        'pgsteer_member_lag_seconds{member="pg1"} 0',
        'pgsteer_member_lag_seconds{member="pg2"} 0.04',
        'pgsteer_member_lag_seconds{member="pg3"} 61',
      ],
    ],
    [
      'pgsteer_member_eligible',
      [
        'pgsteer_member_eligible{member="pg1"} 1',
        'pgsteer_member_eligible{member="pg2"} 1',
        'pgsteer_member_eligible{member="pg3"} 0',
      ],
    ],
    [
      'pgsteer_member_ineligible_info',
      ['pgsteer_member_ineligible_info{member="pg3",reason="lag_bytes"} 1'],
    ],
    [
      'pgsteer_routes_total',
      ['pgsteer_routes_total{reason="read"} 6', 'pgsteer_routes_total{reason="write"} 4'],
    ],
    ['pgsteer_pins_total', ['pgsteer_pins_total{reason="listen"} 1']],
    ['pgsteer_errors_total', ['pgsteer_errors_total{sqlstate="57P03"} 1']],
    ['pgsteer_statements_healed_total', ['pgsteer_statements_healed_total{sqlstate="25006"} 2']],
    ['pgsteer_queries_total', ['pgsteer_queries_total{database="app"} 10']],
    ['pgsteer_servers_closed_total', ['pgsteer_servers_closed_total{reason="lifetime"} 1']],
    [
      'pgsteer_process_cpu_seconds_total',
      [
        'pgsteer_process_cpu_seconds_total{process="control",mode="user"} 1.5',
        'pgsteer_process_cpu_seconds_total{process="control",mode="system"} 0.5',
        'pgsteer_process_cpu_seconds_total{process="worker_0",mode="user"} 1.5',
        'pgsteer_process_cpu_seconds_total{process="worker_0",mode="system"} 0.5',
      ],
    ],
  ])('%s', async (name, expected) => {
    expect(await lines(name)).toEqual(expected)
  })

  it('a role is one series per role', async () => {
    const roles = await lines('pgsteer_member_role')
    expect(roles).toContain('pgsteer_member_role{member="pg1",role="primary"} 1')
    expect(roles).toContain('pgsteer_member_role{member="pg1",role="replica"} 0')
    expect(roles).toHaveLength(9)
  })

  it('what is not known has no series: it is not 0', async () => {
    const members = topology().members.map((one) =>
      Object.assign({ ...one }, { lagBytes: null, lagMs: null, sample: null }),
    )
    const snapshot = snapshotOf({ topology: topology({ members, primary: null, timeline: null }) })
    expect(await lines('pgsteer_member_lag_bytes', snapshot)).toEqual([])
    expect(await lines('pgsteer_member_sample_age_seconds', snapshot)).toEqual([])
    expect(await lines('pgsteer_cluster_timeline', snapshot)).toEqual([])
    expect(await lines('pgsteer_cluster_has_primary', snapshot)).toEqual([
      'pgsteer_cluster_has_primary 0',
    ])
  })

  it('clients that are held are told from those that wait for a server', async () => {
    const waits = { waiting: 1, held: 2, heldBytes: 640, oldestWaitMs: 1500, reasons: [] }
    const counts = [
      { database: 'app', user: 'alice', active: 4, waiting: 3, activeCancels: 0, pinned: 0 },
    ]
    const snapshot = snapshotOf({
      workers: [workerFacts({ counts, pools: [poolFacts({ waits })] })],
    })
    expect(await lines('pgsteer_pool_clients', snapshot)).toContain(
      'pgsteer_pool_clients{database="app",user="alice",state="held"} 2',
    )
    expect(await lines('pgsteer_pool_clients', snapshot)).toContain(
      'pgsteer_pool_clients{database="app",user="alice",state="waiting"} 1',
    )
    expect(await lines('pgsteer_pool_oldest_wait_seconds', snapshot)).toContain(
      'pgsteer_pool_oldest_wait_seconds{database="app",user="alice"} 1.5',
    )
  })
})

it('without [cluster] there are no metrics of a cluster, and nothing to alert on', async () => {
  const config = configFrom('[databases]\na = host=10.0.0.1\n[pgbouncer]\nauth_type = trust\n')
  const { body } = await new Metrics().print(snapshotOf({ config }), '')
  expect(body).not.toMatch(/^pgsteer_cluster_/m)
  expect(await lines('pgsteer_writable', snapshotOf({ config }))).toEqual(['pgsteer_writable 1'])
})

describe('certificates', () => {
  const directory = mkdtempSync(join(tmpdir(), 'pgsteer-metrics-'))
  afterAll(() => rmSync(directory, { recursive: true }))

  it('say when they end, those that cannot be read say nothing', async () => {
    const { certFile } = new Authority(directory).issue({ commonName: 'pgsteer', days: 10 })
    const { config } = snapshotOf()
    const withFiles = (clientTlsCertFile: string, serverTlsCertFile: string) => ({
      ...config,
      pgbouncer: { ...config.pgbouncer, clientTlsCertFile, serverTlsCertFile },
    })
    const name = 'pgsteer_tls_certificate_not_after_timestamp_seconds'
    const metrics = new Metrics()
    const missing = join(directory, 'nothing.crt')
    const snapshot = snapshotOf({ config: withFiles(certFile, missing) })
    const [line, ...others] = await lines(name, snapshot, metrics)
    expect(others).toEqual([])
    expect(line).toContain('{certificate="client_tls_cert_file"} ')
    const days = (Number(line?.split(' ')[1]) - Date.now() / 1000) / 86_400
    expect(days).toBeGreaterThan(9)
    expect(days).toBeLessThan(11)
    expect(await lines(name, snapshotOf({ config: withFiles('', '') }), metrics)).toEqual([])
  })
})

describe('histograms', () => {
  it('have cumulative buckets, a sum and a count', async () => {
    const labels = 'database="app",role="replica"'
    const buckets = await lines('pgsteer_query_duration_seconds_bucket')
    expect(buckets).toHaveLength(20)
    expect(buckets).toContain(`pgsteer_query_duration_seconds_bucket{${labels},le="0.00025"} 0`)
    expect(buckets).toContain(`pgsteer_query_duration_seconds_bucket{${labels},le="0.0005"} 1`)
    expect(buckets).toContain(`pgsteer_query_duration_seconds_bucket{${labels},le="0.025"} 2`)
    expect(buckets).toContain(`pgsteer_query_duration_seconds_bucket{${labels},le="+Inf"} 2`)
    expect(await lines('pgsteer_query_duration_seconds_count')).toEqual([
      `pgsteer_query_duration_seconds_count{${labels}} 2`,
    ])
    const [sum] = await lines('pgsteer_query_duration_seconds_sum')
    expect(Number(sum?.split(' ')[1])).toBeCloseTo(0.0203)
  })
})

describe('the metrics of pgbouncer_exporter', () => {
  it.each([
    ['pgbouncer_up', 'pgbouncer_up 1'],
    [
      'pgbouncer_version_info',
      'pgbouncer_version_info{version="PgBouncer 1.26.0 (pgsteer 0.1.0)"} 1',
    ],
    ['pgbouncer_config_max_client_connections', 'pgbouncer_config_max_client_connections 500'],
    ['pgbouncer_databases', 'pgbouncer_databases 3'],
    ['pgbouncer_used_servers', 'pgbouncer_used_servers 6'],
    ['pgbouncer_in_flight_dns_queries', 'pgbouncer_in_flight_dns_queries 0'],
    [
      'pgbouncer_databases_pool_size',
      'pgbouncer_databases_pool_size{name="legacy",host="10.9.9.9,10.9.9.8",port="5433",database="old",force_user="owner",pool_mode=""} 3',
    ],
    [
      'pgbouncer_pools_server_idle_connections',
      'pgbouncer_pools_server_idle_connections{database="app",user="alice"} 4',
    ],
    [
      'pgbouncer_pools_client_maxwait_seconds',
      'pgbouncer_pools_client_maxwait_seconds{database="app",user="alice"} 0',
    ],
    [
      'pgbouncer_stats_queries_pooled_total',
      'pgbouncer_stats_queries_pooled_total{database="app"} 10',
    ],
    [
      'pgbouncer_stats_queries_duration_seconds_total',
      'pgbouncer_stats_queries_duration_seconds_total{database="app"} 0.0255',
    ],
    [
      'pgbouncer_stats_received_bytes_total',
      'pgbouncer_stats_received_bytes_total{database="app"} 900',
    ],
  ])('%s', async (name, line) => {
    expect(await lines(name)).toContain(line)
  })
})

describe('the number of series is bounded', () => {
  const many = DATABASES_MAX + 50
  const stats = Object.fromEntries(
    Array.from({ length: many }, (_, index) => [`db${index}`, { ...emptyStats(), queries: 1 }]),
  )

  it('databases beyond the bound are summed up as other', async () => {
    const snapshot = snapshotOf({ workers: [workerFacts({ clients: clientsFacts({ stats }) })] })
    const found = await lines('pgsteer_queries_total', snapshot)
    expect(found).toHaveLength(DATABASES_MAX - 2)
    const other = found.find((line) => line.includes('database="other"'))
    expect(Number(other?.split(' ')[1])).toBe(many - (DATABASES_MAX - 3))
  })

  it('pools beyond the bound are summed up as other', async () => {
    const pools = Array.from({ length: POOLS_MAX + 10 }, (_, index) =>
      poolFacts({ user: `u${index}` }),
    )
    const snapshot = snapshotOf({ workers: [workerFacts({ pools, counts: [] })] })
    const found = await lines('pgbouncer_pools_server_active_connections', snapshot)
    expect(found).toHaveLength(POOLS_MAX + 1)
    const sum = found.reduce((total, line) => total + Number(line.split(' ')[1]), 0)
    expect(sum).toBe(2 * (POOLS_MAX + 10))
  })

  it('a name keeps its series while others come and go', () => {
    const admitted = new Admitted(2)
    expect([...admitted.update(['b', 'c'])]).toEqual(['b', 'c'])
    expect([...admitted.update(['a', 'b', 'c'])]).toEqual(['b', 'c'])
    expect([...admitted.update(['a', 'c'])]).toEqual(['c', 'a'])
  })

  it('words beyond the bound are summed up as other', () => {
    const words = Object.fromEntries(
      Array.from({ length: WORDS_MAX + 5 }, (_, index) => [`w${index}`, 1]),
    )
    const series = limitWords(words)
    expect(series).toHaveLength(WORDS_MAX + 1)
    expect(series.at(-1)).toEqual([['other'], 5])
  })
})

describe('the text', () => {
  it('escapes what names may hold', async () => {
    const stats = { 'a"b\\c\nd': { ...emptyStats(), queries: 1 } }
    const snapshot = snapshotOf({ workers: [workerFacts({ clients: clientsFacts({ stats }) })] })
    expect(await lines('pgsteer_queries_total', snapshot)).toEqual([
      String.raw`pgsteer_queries_total{database="a\"b\\c\nd"} 1`,
    ])
  })

  it('is OpenMetrics for who asks for it', async () => {
    const printed = await new Metrics().print(
      snapshotOf(),
      'application/openmetrics-text;version=1.0.0',
    )
    expect(printed.contentType).toContain('application/openmetrics-text')
    expect(printed.body).toMatch(/# EOF\n$/)
    expect(printed.body).toContain('# TYPE pgsteer_routes counter')
    expect(printed.body).toContain('pgsteer_routes_total{reason="read"} 6')
  })

  it('has help and type for every metric, with or without series', async () => {
    const { body } = await new Metrics().print(snapshotOf({ workers: [] }), '')
    for (const { name, type } of METRICS) {
      expect(body).toContain(`# HELP ${name} `)
      expect(body).toContain(`# TYPE ${name} ${type}\n`)
    }
  })

  it('two scrapes at once do not mix', async () => {
    const metrics = new Metrics()
    const both = await Promise.all([
      metrics.print(snapshotOf(), ''),
      metrics.print(snapshotOf(), ''),
    ])
    expect(both[0].body).toBe(both[1].body)
  })
})
