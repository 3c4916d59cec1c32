import { describe, expect, it, test } from 'vitest'
import type { Snapshot } from '../../../src/admin/facts.ts'
import { VIEWS } from '../../../src/admin/views.ts'
import { configFrom } from '../../support/config.ts'
import {
  clientFacts,
  clientsFacts,
  INI,
  memberPool,
  poolFacts,
  serverFacts,
  snapshotOf,
  topology,
  WALL_MS,
  workerFacts,
} from '../../support/facts.ts'

/** The rows of a view as objects. */
function rowsOf(name: string, snapshot: Snapshot): Record<string, string | null>[] {
  const view = VIEWS.get(name)
  if (view === undefined) throw new Error(`no view ${name}`)
  return view.rows(snapshot).map((row) => {
    expect(row).toHaveLength(view.columns.length)
    return Object.fromEntries(
      view.columns.map(({ name: column }, index) => [column, row[index] ?? null]),
    )
  })
}

/** `name:type` of every column; text has no type written. */
function columnsOf(name: string): string {
  const columns = VIEWS.get(name)?.columns ?? []
  return columns
    .map(({ name: column, type }) => (type === 'text' ? column : `${column}:${type}`))
    .join(' ')
}

const SOCKET_COLUMNS =
  'type user database replication state addr port:int4 local_addr local_port:int4 connect_time ' +
  'request_time wait:int4 wait_us:int4 close_needed:int4 ptr link remote_pid:int4 tls ' +
  'application_name prepared_statements:int4 id:int4'

describe("columns are PgBouncer's, in its order and with its types", () => {
  test.each([
    [
      'pools',
      'database user cl_active:int4 cl_waiting:int4 cl_active_cancel_req:int4 cl_waiting_cancel_req:int4 sv_active:int4 sv_active_cancel:int4 sv_being_canceled:int4 sv_idle:int4 sv_used:int4 sv_tested:int4 sv_login:int4 maxwait:int4 maxwait_us:int4 pool_mode load_balance_hosts',
    ],
    [
      'stats_totals',
      'database server_assignment_count:numeric xact_count:numeric query_count:numeric bytes_received:numeric bytes_sent:numeric xact_time:numeric query_time:numeric wait_time:numeric client_parse_count:numeric server_parse_count:numeric bind_count:numeric client_login_count:numeric',
    ],
    [
      'stats_averages',
      'database server_assignment_count:numeric xact_count:numeric query_count:numeric bytes_received:numeric bytes_sent:numeric xact_time:numeric query_time:numeric wait_time:numeric avg_client_parse_count:numeric avg_server_parse_count:numeric avg_bind_count:numeric avg_client_login_count:numeric',
    ],
    [
      'stats',
      'database total_server_assignment_count:numeric total_xact_count:numeric total_query_count:numeric total_received:numeric total_sent:numeric total_xact_time:numeric total_query_time:numeric total_wait_time:numeric total_client_parse_count:numeric total_server_parse_count:numeric total_bind_count:numeric total_client_login_count:numeric avg_server_assignment_count:numeric avg_xact_count:numeric avg_query_count:numeric avg_recv:numeric avg_sent:numeric avg_xact_time:numeric avg_query_time:numeric avg_wait_time:numeric avg_client_parse_count:numeric avg_server_parse_count:numeric avg_bind_count:numeric avg_client_login_count:numeric',
    ],
    ['totals', 'name value:numeric'],
    ['clients', `${SOCKET_COLUMNS} route_reason pin_reasons wait_reason member`],
    ['servers', `${SOCKET_COLUMNS} member role riders:int4`],
    [
      'sockets',
      `${SOCKET_COLUMNS} recv_pos:int4 pkt_pos:int4 pkt_remain:int4 send_pos:int4 send_remain:int4 pkt_avail:int4 send_avail:int4`,
    ],
    [
      'databases',
      'name host port:int4 database force_user pool_size:int4 min_pool_size:int4 reserve_pool_size:int4 server_lifetime:int4 pool_mode load_balance_hosts max_connections:int4 current_connections:int4 max_client_connections:int4 current_client_connections:int4 paused:int4 disabled:int4',
    ],
    [
      'users',
      'name pool_size reserve_pool_size pool_mode max_user_connections:int4 current_connections:int4 max_user_client_connections:int4 current_client_connections:int4',
    ],
    ['lists', 'list items:int4'],
    ['config', 'key value default changeable'],
    ['version', 'version'],
    ['state', 'key value'],
    ['peers', 'peer_id:int4 host port:int4 pool_size:int4'],
    [
      'peer_pools',
      'peer_id:int4 cl_active_cancel_req:int4 cl_waiting_cancel_req:int4 sv_active_cancel:int4 sv_login:int4',
    ],
    ['mem', 'name size:int4 used:int4 free:int4 memtotal:int4'],
    ['dns_hosts', 'hostname ttl:int8 addrs'],
    ['dns_zones', 'zonename serial:int8 count:int4'],
  ])('SHOW %s', (name, columns) => {
    expect(columnsOf(name)).toBe(columns)
  })

  it('SHOW ACTIVE_SOCKETS has those of SHOW SOCKETS', () => {
    expect(columnsOf('active_sockets')).toBe(columnsOf('sockets'))
  })
})

it('every view has as many cells as columns, with and without anything to show', () => {
  const empty = snapshotOf({ workers: [], topology: topology({ members: [], primary: null }) })
  for (const name of VIEWS.keys()) {
    rowsOf(name, snapshotOf())
    rowsOf(name, empty)
  }
})

describe('SHOW POOLS', () => {
  it('has one row per database and user with the sums over members and workers', () => {
    const waits = { waiting: 1, held: 2, heldBytes: 64, oldestWaitMs: 1250.5, reasons: [] }
    const clients = clientsFacts({
      clients: [
        clientFacts({ id: 1 }),
        clientFacts({ id: 2, state: 'idle', cancels: 1 }),
        clientFacts({ id: 3, state: 'waiting' }),
        clientFacts({ id: 4, state: 'held' }),
        clientFacts({ id: 5, state: 'login' }),
      ],
    })
    const workers = [
      workerFacts({ worker: 0, clients, pools: [poolFacts({ waits })] }),
      workerFacts({ worker: 1, clients: clientsFacts() }),
    ]
    expect(rowsOf('pools', snapshotOf({ workers }))[0]).toMatchObject({
      database: 'app',
      user: 'alice',
      cl_active: '2',
      cl_waiting: '2',
      cl_active_cancel_req: '1',
      sv_active: '4',
      sv_idle: '8',
      maxwait: '1',
      maxwait_us: '250500',
      pool_mode: 'transaction',
      load_balance_hosts: null,
    })
  })

  it('shows users without a server, and the console as PgBouncer does', () => {
    const clients = clientsFacts({
      clients: [
        clientFacts({ user: 'bob', database: 'legacy' }),
        clientFacts({ user: 'admin', database: 'pgbouncer' }),
      ],
    })
    const rows = rowsOf('pools', snapshotOf({ workers: [workerFacts({ clients, pools: [] })] }))
    expect(rows).toMatchObject([
      { database: 'legacy', user: 'bob', cl_active: '1', load_balance_hosts: 'round-robin' },
      { database: 'pgbouncer', user: 'pgbouncer', cl_active: '1', pool_mode: 'statement' },
    ])
  })
})

it('SHOW DATABASES lists the configured ones, those made from *, and the console', () => {
  const rows = rowsOf(
    'databases',
    snapshotOf({ state: { ...snapshotOf().state, pausedDatabases: ['legacy'] } }),
  )
  expect(rows).toMatchObject([
    {
      name: 'app',
      host: '(cluster)',
      database: 'app',
      pool_size: '20',
      paused: '0',
      force_user: null,
    },
    {
      name: 'legacy',
      host: '10.9.9.9,10.9.9.8',
      port: '5433',
      database: 'old',
      force_user: 'owner',
      pool_size: '3',
      load_balance_hosts: 'round-robin',
      server_lifetime: '3600',
      paused: '1',
    },
    { name: 'pgbouncer', force_user: 'pgbouncer', pool_mode: 'statement', port: '6432' },
  ])
  expect(rows[0]).toMatchObject({ current_connections: '6', current_client_connections: '1' })
})

it('SHOW USERS says the limits of each and what they use', () => {
  const rows = rowsOf('users', snapshotOf())
  expect(rows).toMatchObject([
    {
      name: 'alice',
      pool_size: '',
      pool_mode: 'transaction',
      max_user_connections: '50',
      current_connections: '6',
      current_client_connections: '1',
    },
  ])
})

describe('SHOW CLIENTS', () => {
  it('shows the server, and at the end why it got it', () => {
    const clients = clientsFacts({
      clients: [clientFacts({ pinReasons: ['listen', 'temp_table'], waitReason: 'no_primary' })],
    })
    expect(rowsOf('clients', snapshotOf({ workers: [workerFacts({ clients })] }))).toMatchObject([
      {
        type: 'C',
        state: 'active',
        connect_time: '2026-11-23 06:39:00 UTC',
        ptr: 'c7',
        link: 's3',
        remote_pid: '0',
        id: '7',
        route_reason: 'read',
        pin_reasons: 'listen,temp_table',
        wait_reason: 'no_primary',
        member: 'pg2',
      },
    ])
  })

  it('calls a client that is held waiting, and leaves out who has not logged in', () => {
    const clients = clientsFacts({
      clients: [
        clientFacts({ id: 1, state: 'held', waitMs: 2000.25, serverId: null }),
        clientFacts({ id: 2, state: 'login' }),
        clientFacts({ id: 3, state: 'closed' }),
      ],
    })
    expect(rowsOf('clients', snapshotOf({ workers: [workerFacts({ clients })] }))).toMatchObject([
      { id: '1', state: 'waiting', wait: '2', wait_us: '250', link: '' },
    ])
  })
})

it('SHOW SERVERS uses the words of PgBouncer for states and links back to the client', () => {
  const servers = [
    serverFacts(),
    serverFacts({ id: 4, state: 'login', clientId: null, isDoomed: true }),
    serverFacts({ id: 5, state: 'active_cancel', clientId: null }),
    serverFacts({ id: 6, state: 'closed' }),
  ]
  expect(rowsOf('servers', snapshotOf({ workers: [workerFacts({ servers })] }))).toMatchObject([
    {
      type: 'S',
      state: 'active',
      ptr: 's3',
      link: 'c7',
      remote_pid: '4711',
      member: 'pg2',
      role: 'replica',
    },
    { state: 'new', close_needed: '1' },
    { state: 'being_canceled' },
  ])
})

it('SHOW SOCKETS prefixes states, SHOW ACTIVE_SOCKETS leaves out what is idle', () => {
  const clients = clientsFacts({
    clients: [clientFacts({ state: 'idle' }), clientFacts({ state: 'login' }), clientFacts()],
  })
  const servers = [serverFacts({ state: 'idle' }), serverFacts({ state: 'login' })]
  const snapshot = snapshotOf({ workers: [workerFacts({ clients, servers })] })
  const states = (name: string): (string | null)[] =>
    rowsOf(name, snapshot).map((row) => row['state'] ?? null)
  expect(states('sockets')).toEqual(['cl_active', 'cl_login', 'cl_active', 'sv_idle', 'sv_login'])
  expect(states('active_sockets')).toEqual(['cl_login', 'cl_active', 'sv_login'])
})

describe('SHOW STATS', () => {
  it('counts times in microseconds', () => {
    expect(rowsOf('stats', snapshotOf())).toMatchObject([
      {
        database: 'app',
        total_query_count: '10',
        total_query_time: '25500',
        avg_query_count: '2',
        avg_query_time: '1250',
      },
    ])
    expect(rowsOf('stats_totals', snapshotOf())).toMatchObject([
      { database: 'app', query_count: '10', query_time: '25500', bytes_received: '900' },
    ])
    expect(rowsOf('stats_averages', snapshotOf())).toMatchObject([{ query_count: '2' }])
  })

  it('SHOW TOTALS has the 24 rows of PgBouncer with its other names', () => {
    const names = rowsOf('totals', snapshotOf()).map((row) => row['name'])
    expect(names).toEqual(
      ['total', 'avg'].flatMap((prefix) =>
        [
          'server_assignment_count',
          'xact_count',
          'query_count',
          'client_bytes',
          'server_bytes',
          'xact_time',
          'query_time',
          'wait_time',
          'ps_client_parse_count',
          'ps_server_parse_count',
          'ps_bind_count',
          'client_login_count',
        ].map((name) => `${prefix}_${name}`),
      ),
    )
  })
})

it('SHOW LISTS has the rows of PgBouncer in its order', () => {
  const rows = rowsOf('lists', snapshotOf())
  expect(rows.map((row) => row['list'])).toEqual([
    'databases',
    'users',
    'peers',
    'pools',
    'peer_pools',
    'free_clients',
    'used_clients',
    'login_clients',
    'free_servers',
    'used_servers',
    'dns_names',
    'dns_zones',
    'dns_queries',
    'dns_pending',
  ])
  expect(rows).toContainEqual({ list: 'used_servers', items: '6' })
  expect(rows).toContainEqual({ list: 'databases', items: '3' })
})

it('SHOW CONFIG names every key and hides every secret', () => {
  const rows = rowsOf('config', snapshotOf())
  expect(rows[0]).toMatchObject({ key: 'admin_users', value: 'admin', changeable: 'yes' })
  expect(rows).toContainEqual(
    expect.objectContaining({ key: 'max_client_conn', value: '500', default: '100' }),
  )
  expect(rows).toContainEqual(expect.objectContaining({ key: 'listen_port', changeable: 'no' }))
  expect(JSON.stringify(rows)).not.toContain('geheim')
})

it('SHOW VERSION begins with what tools of PgBouncer look for, and says who answers', () => {
  expect(rowsOf('version', snapshotOf())).toEqual([{ version: 'PgBouncer 1.26.0 (pgsteer 0.1.0)' }])
})

it('SHOW STATE follows PAUSE', () => {
  const paused = { ...snapshotOf().state, isPaused: true }
  expect(rowsOf('state', snapshotOf({ state: paused }))).toEqual([
    { key: 'active', value: 'no' },
    { key: 'paused', value: 'yes' },
    { key: 'suspended', value: 'no' },
  ])
})

function waitsOf(clients: number, oldestMs: number) {
  return {
    waiting: clients,
    held: clients,
    heldBytes: 0,
    oldestWaitMs: oldestMs,
    reasons: [{ reason: 'switchover', clients, bytes: 10 * clients, oldestMs } as const],
  }
}

describe('SHOW WAITS', () => {
  it('has one row per pool and reason, over all workers', () => {
    const workers = [waitsOf(2, 1500), waitsOf(3, 250)].map((facts, worker) =>
      workerFacts({ worker, pools: [poolFacts({ database: 'app', user: 'alice', waits: facts })] }),
    )
    expect(rowsOf('waits', snapshotOf({ workers }))).toEqual([
      {
        database: 'app',
        user: 'alice',
        reason: 'switchover',
        clients: '5',
        bytes: '50',
        maxwait: '1',
        maxwait_us: '500000',
      },
    ])
  })
})

describe('SHOW MEMBERS', () => {
  it('has roles, lag and why a member gets no reads, with its servers over all pools', () => {
    expect(rowsOf('members', snapshotOf())).toMatchObject([
      {
        member: 'pg1',
        role: 'primary',
        timeline: '3',
        write_lsn: '16/B374D848',
        sv_idle: '2',
        sample_age_ms: '100',
      },
      {
        member: 'pg2',
        role: 'replica',
        lag_bytes: '55368',
        lag_ms: '40',
        eligible: 't',
        reason: null,
        replay_lsn: '16/B3740000',
        sv_active: '1',
      },
      { member: 'pg3', eligible: 'f', reason: 'lag_bytes', sv_active: '0' },
    ])
  })

  it('does not call an unknown lag 0', () => {
    const [one] = topology().members
    const members = [{ ...one!, sample: null, lagBytes: null, lagMs: null }]
    expect(rowsOf('members', snapshotOf({ topology: topology({ members }) }))[0]).toMatchObject({
      lag_bytes: null,
      lag_ms: null,
      sample_age_ms: null,
      timeline: null,
    })
  })

  it('shows hosts of databases that are not routed behind the members', () => {
    const plain = memberPool({ member: '10.9.9.9:5433', role: 'plain', active: 2 })
    const pools = [poolFacts({ database: 'legacy', members: [plain] })]
    const rows = rowsOf('members', snapshotOf({ workers: [workerFacts({ pools })] }))
    expect(rows.at(-1)).toMatchObject({
      member: '10.9.9.9:5433',
      role: 'plain',
      sv_active: '2',
      sv_idle: '2',
    })
  })
})

describe('SHOW CLUSTER', () => {
  it('is one row about the term, the source and the primary', () => {
    expect(rowsOf('cluster', snapshotOf())).toEqual([
      {
        term: '5',
        serial: '91',
        primary: 'pg1',
        missing: '',
        source: 'static',
        source_state: 'connected',
        source_error: '',
        timeline: '3',
        system_identifier: '7412345678901234567',
        paused: 'f',
        standby_cluster: 'f',
        failovers: '1',
        primary_since: '2026-11-23 06:30:00 UTC',
        without_primary_ms: '1500',
        workers: '1',
        workers_behind: '0',
        failover_state: 'serving',
      },
    ])
  })

  it('says what is missing while no primary is believed in', () => {
    const without = topology({ primary: null, missing: 'pg1 does not answer', term: 6 })
    expect(rowsOf('cluster', snapshotOf({ topology: without, wallMs: WALL_MS }))).toMatchObject([
      { primary: null, missing: 'pg1 does not answer', workers_behind: '1' },
    ])
  })
})

it('SHOW CLUSTER says that there is none where there is no [cluster]', () => {
  const config = configFrom('[databases]\na = host=10.0.0.1\n[pgbouncer]\nauth_type = trust\n')
  expect(rowsOf('cluster', snapshotOf({ config }))).toMatchObject([
    { missing: 'there is no [cluster] section, nothing is routed', source: null, source_state: '' },
  ])
})

it('SHOW MEM has a heap, buffers and the resident size for every process', () => {
  const rows = rowsOf('mem', snapshotOf())
  expect(rows.map((row) => row['name'])).toEqual([
    'control_heap',
    'control_buffers',
    'control_resident',
    'worker_0_heap',
    'worker_0_buffers',
    'worker_0_resident',
  ])
  expect(rows[0]).toMatchObject({ used: '20000000', free: '10000000', memtotal: '30000000' })
})

it('SHOW PEERS and PEER_POOLS list the peers of the configuration', () => {
  expect(rowsOf('peers', snapshotOf())).toEqual([
    { peer_id: '2', host: '10.0.0.2', port: '6432', pool_size: '20' },
  ])
  const workers = [0, 1].map((worker) => workerFacts({ worker, peers: [{ id: 2, underWay: 3 }] }))
  expect(rowsOf('peer_pools', snapshotOf({ workers }))).toEqual([
    {
      peer_id: '2',
      cl_active_cancel_req: '6',
      cl_waiting_cancel_req: '0',
      sv_active_cancel: '6',
      sv_login: '0',
    },
  ])
})

it('SHOW INSTANCES names those that etcd knows, if there is no [peers]', () => {
  const instance = { owner: 'x', tls: 'none', version: '0.1.0', startedWallMs: WALL_MS } as const
  const all = [
    { ...instance, id: 7, host: '10.0.0.1', port: 6432 },
    { ...instance, id: 9, host: '10.0.0.2', port: 6432 },
  ]
  const config = configFrom(INI.replace(/\[peers\]\n.*\n/, ''))
  const snapshot = snapshotOf({ config, instances: { id: 9, all } })
  const known = { port: '6432', source: 'etcd', version: '0.1.0' }
  const started = '2026-11-23 06:40:00 UTC'
  expect(rowsOf('instances', snapshot)).toEqual([
    { instance: '7', host: '10.0.0.1', self: 'f', started, ...known },
    { instance: '9', host: '10.0.0.2', self: 't', started, ...known },
  ])
  expect(rowsOf('peers', snapshot).map((row) => row['peer_id'])).toEqual(['7', '9'])
  expect(rowsOf('instances', snapshotOf())).toMatchObject([{ instance: '2', source: 'file' }])
})

it('SHOW DNS_HOSTS shows what was looked up, DNS_ZONES is empty', () => {
  expect(rowsOf('dns_hosts', snapshotOf())).toEqual([
    { hostname: 'db.example', ttl: '0', addrs: '10.9.9.9,10.9.9.8' },
  ])
  expect(rowsOf('dns_zones', snapshotOf())).toEqual([])
})
