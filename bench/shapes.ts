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

export interface PgbenchShape {
  readonly kind: 'pgbench'
  readonly name: string
  readonly script: '-S' | 'tpcb'
  readonly mode: Mode
  readonly clients: number
  /** Servers of each pooler; 'tuned' is the number with which PgBouncer is quickest. */
  readonly pool: number | 'tuned'
  /** What this issue holds; null is measured and not held yet. */
  readonly goal: Goal | null
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
const TRANSACTIONS = 32
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

export const SHAPES: readonly Shape[] = [
  ...MODES.map((mode) => select(mode, { clients: 1, pool: POOL, goal: null })),
  ...MODES.map((mode) => select(mode, { clients: POOL, pool: POOL, goal: HELD })),
  ...MODES.map((mode) => select(mode, { clients: MANY, pool: 'tuned', goal: null })),
  {
    kind: 'pgbench',
    name: 'tpcb-simple-32',
    script: 'tpcb',
    mode: 'simple',
    clients: TRANSACTIONS,
    pool: 'tuned',
    goal: null,
  },
  { kind: 'idle', name: 'idle', bytesPerClientMax: 10_240 },
]
