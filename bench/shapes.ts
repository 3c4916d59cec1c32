/**
 * The shapes of load that are measured, with whom, and what is to be held and aimed at in each. Goals
 * are ratios of pgsteer to the shape's reference (PgBouncer, mostly), of the same rounds.
 */

export type Mode = 'simple' | 'extended' | 'prepared'

export type Figure = 'tps' | 'cpuUs' | 'p99Us'

/** `figure` of `subject` divided by that of `to`: `held` must be reached, `aim` is reported. */
export interface Goal {
  readonly subject: string
  readonly figure: Figure
  readonly held: number
  readonly aim: number
  /** The shape's reference unless said. */
  readonly to?: string
}

/** What the clients run; scripts.ts has those that pgbench does not bring itself. */
export type Script =
  | '-S'
  | 'tpcb'
  | 'rows-64k'
  | 'rows-10m'
  | 'slow-mix'
  | 'split'
  | 'copy-to'
  | 'copy-from'

export interface LoadShape {
  readonly kind: 'load'
  readonly name: string
  readonly script: Script
  readonly mode: Mode
  readonly clients: number
  /** Servers of each pooler; 'tuned' is the number with which PgBouncer is quickest. */
  readonly pool: number | 'tuned'
  /** Those of the contenders asked for that make sense here. */
  readonly contenders: readonly string[]
  /** Whom the others are compared with. */
  readonly reference: string
  readonly goals: readonly Goal[]
  /** A new connection with its log-in for every transaction. */
  readonly isConnect?: true
  /** Between the clients and the poolers. */
  readonly isTls?: true
  /** Processes of each pooler that serve clients; all of them together have the pool. */
  readonly workers?: number
  /** On a cluster with two replicas; pgsteer has a routed entry there. */
  readonly isSplit?: true
}

export interface IdleShape {
  readonly kind: 'idle'
  readonly name: string
  /** Resident bytes per client above those of a bare Node process that holds the same sockets. */
  readonly bytesPerClientMax: number
}

export type Shape = LoadShape | IdleShape

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

const PLAIN = ['direct', 'haproxy', 'pgbouncer', 'pgsteer', 'routed', 'before']
/** With more clients than servers there is something to multiplex. */
const CROWDED = ['direct', 'pgbouncer', 'pgsteer', 'multiplexed', 'routed', 'before']
const MODES: readonly Mode[] = ['simple', 'extended', 'prepared']

/** [held, aim] of throughput and of CPU time per transaction. */
function goals(
  subject: string,
  [tpsHeld, tpsAim]: readonly [number, number],
  [cpuHeld, cpuAim]: readonly [number, number],
): Goal[] {
  return [
    { subject, figure: 'tps', held: tpsHeld, aim: tpsAim },
    { subject, figure: 'cpuUs', held: cpuHeld, aim: cpuAim },
  ]
}

type What = Partial<LoadShape> & Pick<LoadShape, 'script' | 'clients' | 'pool'>

function load(name: string, what: What): LoadShape {
  const contenders = what.clients > POOL && what.isConnect !== true ? CROWDED : PLAIN
  const rest = { kind: 'load', mode: 'simple', reference: 'pgbouncer', goals: [] } as const
  return { ...rest, name, contenders, ...what }
}

function select(mode: Mode, what: Omit<What, 'script'>): LoadShape {
  return load(`select-${mode}-${what.clients}`, { script: '-S', mode, ...what })
}

const STREAMED = goals('pgsteer', [0.95, 1], [1.1, 1])
const ALONE = goals('pgsteer', [0.9, 0.95], [1.4, 1.25])
const EQUAL: Readonly<Record<Mode, readonly Goal[]>> = {
  simple: goals('pgsteer', [0.95, 1], [1.25, 1.1]),
  extended: goals('pgsteer', [0.8, 1], [1.6, 1.4]),
  prepared: goals('pgsteer', [0.8, 1], [1.6, 1.1]),
}
const SHARED_64: readonly Goal[] = [
  ...goals('multiplexed', [2, 2.2], [0.6, 0.45]),
  { subject: 'multiplexed', figure: 'tps', held: 1, aim: 2, to: 'direct' },
]
const SHARED_256 = goals('multiplexed', [1.6, 2.2], [0.75, 0.45])

export const SHAPES: readonly Shape[] = [
  ...MODES.map((mode) => select(mode, { clients: 1, pool: POOL, goals: ALONE })),
  ...MODES.map((mode) => select(mode, { clients: POOL, pool: POOL, goals: EQUAL[mode] })),
  ...MODES.map((mode) => select(mode, { clients: MANY, pool: 'tuned', goals: SHARED_64 })),
  ...(['simple', 'prepared'] as const).map((mode) =>
    select(mode, { clients: CROWD, pool: 'tuned', goals: SHARED_256 }),
  ),
  load('tpcb-simple-32', {
    script: 'tpcb',
    clients: TRANSACTIONS,
    pool: 'tuned',
    goals: goals('pgsteer', [1, 1.1], [1.2, 1]),
  }),
  load('rows-64k-4', { script: 'rows-64k', clients: STREAMS, pool: POOL, goals: STREAMED }),
  load('rows-10m-4', { script: 'rows-10m', clients: STREAMS, pool: POOL, goals: STREAMED }),
  load('copy-to-4', { script: 'copy-to', clients: STREAMS, pool: POOL, goals: STREAMED }),
  load('copy-from-4', { script: 'copy-from', clients: STREAMS, pool: POOL, goals: STREAMED }),
  load('slow-mix-64', {
    script: 'slow-mix',
    clients: MANY,
    pool: 'tuned',
    goals: ['pgsteer', 'multiplexed'].map((subject) => ({
      subject,
      figure: 'p99Us',
      held: 1,
      aim: 1,
    })),
  }),
  load('login-8', { script: '-S', clients: LOGINS, pool: LOGINS, isConnect: true }),
  load('tls-4', { script: '-S', clients: POOL, pool: POOL, isTls: true }),
  load('tls-login-8', {
    script: '-S',
    clients: LOGINS,
    pool: LOGINS,
    isConnect: true,
    isTls: true,
  }),
  load('workers-64', { script: '-S', clients: MANY, pool: 2 * POOL, workers: WORKERS }),
  load('split-32', {
    script: 'split',
    clients: TRANSACTIONS,
    pool: POOL,
    isSplit: true,
    contenders: ['pgpool', 'pgbouncer', 'pgsteer', 'multiplexed'],
    reference: 'pgpool',
    goals: ['pgsteer', 'multiplexed'].flatMap((subject) => goals(subject, [2, 2], [1, 1])),
  }),
  { kind: 'idle', name: 'idle', bytesPerClientMax: 10_240 },
]
