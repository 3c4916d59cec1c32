/**
 * Facts and snapshots for tests of the console, the metrics and the API: small, whole and ordinary,
 * with what a test is about given by hand.
 */
import type { Snapshot, WorkerFacts } from '../../src/admin/facts.ts'
import { countClients, NO_ROLL } from '../../src/admin/facts.ts'
import { mergeFacts } from '../../src/admin/merge.ts'
import { emptyHistogram, observeMs } from '../../src/base/histogram.ts'
import { type ClientFacts, type ClientsFacts, emptyStats } from '../../src/client/facts.ts'
import type { Member, Topology } from '../../src/cluster/topology.ts'
import type { MemberPoolFacts, PoolFacts, ServerFacts } from '../../src/server/facts.ts'
import { configFrom } from './config.ts'

/** 2026-11-23 06:40:00 UTC. */
export const WALL_MS = Date.UTC(2026, 10, 23, 6, 40)

export function clientFacts(some: Partial<ClientFacts> = {}): ClientFacts {
  return {
    id: 7,
    database: 'app',
    user: 'alice',
    state: 'active',
    address: '10.0.0.9',
    port: 50_000,
    localAddress: '10.0.0.1',
    localPort: 6432,
    connectedWallMs: WALL_MS - 60_000,
    requestWallMs: WALL_MS - 1000,
    waitMs: 0,
    closeNeeded: false,
    serverId: 3,
    serverMember: 'pg2',
    tls: '',
    applicationName: 'psql',
    preparedStatements: 2,
    replication: 'none',
    routeReason: 'read',
    pinReasons: [],
    waitReason: null,
    cancels: 0,
    ...some,
  }
}

export function serverFacts(some: Partial<ServerFacts> = {}): ServerFacts {
  return {
    id: 3,
    database: 'app',
    user: 'alice',
    member: 'pg2',
    role: 'replica',
    state: 'active',
    address: '10.1.0.2',
    port: 5432,
    localAddress: '10.0.0.1',
    localPort: 40_000,
    connectedWallMs: WALL_MS - 120_000,
    requestWallMs: WALL_MS - 1000,
    isDoomed: false,
    clientId: 7,
    riders: null,
    processId: 4711,
    tls: '',
    applicationName: 'psql',
    preparedStatements: 5,
    replication: 'none',
    ...some,
  }
}

export function memberPool(some: Partial<MemberPoolFacts> = {}): MemberPoolFacts {
  return {
    member: 'pg2',
    role: 'replica',
    active: 1,
    idle: 2,
    used: 0,
    tested: 0,
    login: 0,
    activeCancel: 0,
    beingCanceled: 0,
    size: 20,
    ...some,
  }
}

export function poolFacts(some: Partial<PoolFacts> = {}): PoolFacts {
  return {
    database: 'app',
    user: 'alice',
    poolMode: 'transaction',
    poolSize: 20,
    isRouted: true,
    isPaused: false,
    isDisabled: false,
    loadBalanceHosts: '',
    members: [memberPool({ member: 'pg1', role: 'primary' }), memberPool()],
    waits: { waiting: 0, held: 0, heldBytes: 0, oldestWaitMs: 0, reasons: [] },
    serversOpened: 4,
    serversClosed: { lifetime: 1 },
    loginFailures: 0,
    ...some,
  }
}

export function clientsFacts(some: Partial<ClientsFacts> = {}): ClientsFacts {
  const histogram = emptyHistogram()
  observeMs(histogram, 0.3)
  observeMs(histogram, 20)
  return {
    clients: [],
    loginClients: 0,
    stats: {
      app: { ...emptyStats(), queries: 10, transactions: 4, queryMs: 25.5, bytesReceived: 900 },
    },
    queueTime: [{ database: 'app', role: 'replica', histogram }],
    queryTime: [{ database: 'app', role: 'replica', histogram }],
    routesByReason: { read: 6, write: 4 },
    pinsByReason: { listen: 1 },
    errorsBySqlstate: { '57P03': 1 },
    healedBySqlstate: { '25006': 2 },
    disconnectsByReason: { terminate: 3 },
    loginFailures: 1,
    cancelsForwarded: 0,
    rides: 6,
    ridesMoved: 1,
    ridesSwallowed: 2,
    carriages: 1,
    cancelRequestsByResult: { own: 2, passed_on: 1 },
    holdsStarted: 2,
    holdsExpired: 0,
    ...some,
  }
}

/** One worker with the given clients, which are counted as a worker counts them. */
export function workerFacts(some: Partial<WorkerFacts> = {}): WorkerFacts {
  const clients = some.clients ?? clientsFacts({ clients: [clientFacts()] })
  return {
    worker: 0,
    startedWallMs: WALL_MS - 3_600_000,
    version: '0.1.0',
    process: processFactsOf(1001),
    listeners: [{ address: '0.0.0.0', port: 6432 }],
    counts: countClients(clients.clients),
    clients,
    pools: [poolFacts()],
    peers: [],
    servers: [serverFacts()],
    dns: [],
    topologyTerm: 5,
    topologySerial: 90,
    isPaused: false,
    isShuttingDown: false,
    ...some,
  }
}

function processFactsOf(processId: number): WorkerFacts['process'] {
  return {
    processId,
    rssBytes: 90_000_000,
    heapTotalBytes: 30_000_000,
    heapUsedBytes: 20_000_000,
    externalBytes: 4_000_000,
    arrayBuffersBytes: 1_000_000,
    userCpuMs: 1500,
    systemCpuMs: 500,
  }
}

export function member(some: Partial<Member> = {}): Member {
  const isPrimary = some.role === 'primary'
  return {
    name: 'pg2',
    host: '10.1.0.2',
    port: 5432,
    role: 'replica',
    state: 'running',
    sample: {
      sentMs: 9_900,
      receivedMs: 9_902,
      inRecovery: !isPrimary,
      systemIdentifier: '7412345678901234567',
      timeline: 3,
      writeLsn: isPrimary ? 0x16_b374_d848n : null,
      insertLsn: isPrimary ? 0x16_b374_d848n : null,
      replayLsn: isPrimary ? null : 0x16_b374_0000n,
      receiveLsn: isPrimary ? null : 0x16_b374_d848n,
    },
    lagBytes: 55_368,
    lagMs: 40,
    eligible: true,
    ineligibleReason: null,
    cutBeforeMs: null,
    weight: 1,
    zone: null,
    tags: {},
    ...some,
  }
}

/** pg1 is the primary, pg2 and pg3 are replicas, pg3 lags too far. */
export function topology(some: Partial<Topology> = {}): Topology {
  return {
    term: 5,
    serial: 91,
    primary: 'pg1',
    missing: '',
    systemIdentifier: '7412345678901234567',
    timeline: 3,
    standbyCluster: false,
    paused: false,
    switchover: null,
    hooks: {},
    writableUntilMs: null,
    history: [],
    members: [
      member({ name: 'pg1', host: '10.1.0.1', role: 'primary', lagBytes: 0, lagMs: 0 }),
      member(),
      member({
        name: 'pg3',
        host: '10.1.0.3',
        lagBytes: 99_000_000,
        lagMs: 61_000,
        eligible: false,
        ineligibleReason: 'lag_bytes',
      }),
    ],
    ...some,
  }
}

export const INI = `
[databases]
app =
legacy = host=10.9.9.9,10.9.9.8 port=5433 dbname=old user=owner password=geheim pool_size=3
[users]
alice = pool_mode=transaction max_user_connections=50
[peers]
2 = host=10.0.0.2
[pgbouncer]
listen_addr = 127.0.0.1
auth_type = trust
admin_users = admin
stats_users = stats
max_client_conn = 500
[cluster]
source = static
hosts = pg1:5432, pg2:5432
probe_password = geheim
`

export function snapshotOf(
  some: Partial<Snapshot> & { readonly workers?: readonly WorkerFacts[] } = {},
): Snapshot {
  const workers = some.workers ?? [workerFacts()]
  return {
    version: '0.1.0',
    wallMs: WALL_MS,
    nowMs: 10_000,
    startedWallMs: WALL_MS - 3_600_000,
    config: configFrom(INI),
    topology: topology(),
    instances: { id: 0, all: [] },
    cluster: {
      source: 'static',
      sourceState: 'connected',
      sourceError: '',
      failoverState: 'serving',
      failovers: 1,
      primarySinceWallMs: WALL_MS - 600_000,
      withoutPrimaryMs: 1500,
      probesFailed: 3,
    },
    state: {
      isPaused: false,
      shutdown: null,
      pausedDatabases: [],
      disabledDatabases: [],
      reloads: 2,
      reloadsFailed: 0,
      reloadedWallMs: WALL_MS - 600_000,
    },
    facts: mergeFacts(workers, Math.max(1, workers.length)),
    workersWanted: workers.length,
    places: new Map(workers.map(({ worker }) => [worker, 'serving'])),
    roll: NO_ROLL,
    averages: { app: { ...emptyStats(), queries: 2.4, queryMs: 1.25 } },
    control: processFactsOf(1000),
    dns: [{ hostname: 'db.example', addresses: ['10.9.9.9', '10.9.9.8'] }],
    ...some,
  }
}
