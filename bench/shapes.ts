/**
 * The shapes of load that are measured, and what is to be held in each. Ratios are pgsteer divided
 * by PgBouncer, of the same rounds.
 */

export type Mode = 'simple' | 'extended' | 'prepared'

/** `throughput` is a lower bound, `cpu` (per transaction) an upper one. */
export interface Goal {
  readonly throughput: number
  readonly cpu: number
}

/** What the clients run; scripts.ts has those that pgbench does not bring itself. */
export type Script = '-S' | 'tpcb' | 'rows-64k' | 'rows-10m' | 'slow-mix'

export interface PgbenchShape {
  readonly kind: 'pgbench'
  readonly name: string
  readonly script: Script
  readonly mode: Mode
  readonly clients: number
  /** Servers of each pooler; 'tuned' is the number with which PgBouncer is quickest. */
  readonly pool: number | 'tuned'
  /** Null is measured and not held yet. */
  readonly goal: Goal | null
  /** A new connection with its log-in for every transaction. */
  readonly isConnect?: true
  /** Between the clients and the poolers. */
  readonly isTls?: true
  /** Processes of each pooler that serve clients; all of them together have the pool. */
  readonly workers?: number
}

export interface IdleShape {
  readonly kind: 'idle'
  readonly name: string
  /** Resident bytes per client above those of a bare Node process that holds the same sockets. */
  readonly bytesPerClientMax: number
}

export type Shape = PgbenchShape | IdleShape

/** Where clients = pool. */
const POOL = 4
const MANY = 64
const CROWD = 256
const TRANSACTIONS = 32
const STREAMS = 4
const LOGINS = 8
const WORKERS = 2
/** Pool sizes tried for 'tuned'. */
export const POOLS_TRIED: readonly number[] = [4, 8, 20]

const HELD: Goal = { throughput: 0.8, cpu: 1.6 }
const MODES: readonly Mode[] = ['simple', 'extended', 'prepared']

function select(mode: Mode, where: Pick<PgbenchShape, 'clients' | 'pool' | 'goal'>): Shape {
  return {
    kind: 'pgbench',
    name: `select-${mode}-${where.clients}`,
    script: '-S',
    mode,
    ...where,
  }
}

function other(
  name: string,
  what: Pick<PgbenchShape, 'script' | 'clients' | 'pool' | 'isConnect' | 'isTls' | 'workers'>,
): Shape {
  return { kind: 'pgbench', name, mode: 'simple', goal: null, ...what }
}

export const SHAPES: readonly Shape[] = [
  ...MODES.map((mode) => select(mode, { clients: 1, pool: POOL, goal: null })),
  ...MODES.map((mode) => select(mode, { clients: POOL, pool: POOL, goal: HELD })),
  ...MODES.map((mode) => select(mode, { clients: MANY, pool: 'tuned', goal: null })),
  ...(['simple', 'prepared'] as const).map((mode) =>
    select(mode, { clients: CROWD, pool: 'tuned', goal: null }),
  ),
  other('tpcb-simple-32', { script: 'tpcb', clients: TRANSACTIONS, pool: 'tuned' }),
  other('rows-64k-4', { script: 'rows-64k', clients: STREAMS, pool: POOL }),
  other('rows-10m-4', { script: 'rows-10m', clients: STREAMS, pool: POOL }),
  other('slow-mix-64', { script: 'slow-mix', clients: MANY, pool: 'tuned' }),
  other('login-8', { script: '-S', clients: LOGINS, pool: LOGINS, isConnect: true }),
  other('tls-4', { script: '-S', clients: POOL, pool: POOL, isTls: true }),
  other('tls-login-8', {
    script: '-S',
    clients: LOGINS,
    pool: LOGINS,
    isConnect: true,
    isTls: true,
  }),
  other('workers-64', { script: '-S', clients: MANY, pool: 2 * POOL, workers: WORKERS }),
  { kind: 'idle', name: 'idle', bytesPerClientMax: 10_240 },
]
