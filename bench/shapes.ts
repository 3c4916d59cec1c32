/**
 * The shapes of load that are measured, who takes part in each, and what pgsteer is to reach there.
 */

export type Mode = 'simple' | 'extended' | 'prepared'

/** What the clients run; scripts.ts has pgbench's own ones, copy.ts the two that pgbench cannot run. */
export type Script =
  | '-S'
  | 'tpcb'
  | 'rows-64k'
  | 'rows-10m'
  | 'slow-mix'
  | 'split'
  | 'copy-out'
  | 'copy-in'

/** poolers.ts says what each of them is. */
export const CONTENDERS = [
  'direct',
  'haproxy',
  'relay',
  'pgbouncer',
  'pgbouncer-64k',
  'pgpool',
  'pgsteer',
  'multiplexed',
  'routed',
] as const
export type ContenderName = (typeof CONTENDERS)[number]

export type Figure = 'tps' | 'cpuUs' | 'p50Us' | 'p99Us'

/** pgsteer, or pgsteer with multiplexed reads. */
export type Subject = 'pgsteer' | 'multiplexed'

/** The subject's figure divided by that of `of`, in the same rounds; of `tps` more is better, of all else less. */
export interface Goal {
  readonly subject: Subject
  readonly figure: Figure
  readonly of: ContenderName
  /** What must be reached; null where there is only an aim. */
  readonly held: number | null
  readonly aim: number
}

export interface LoadShape {
  readonly kind: 'load'
  readonly name: string
  readonly script: Script
  readonly mode: Mode
  readonly clients: number
  /** Servers of each pooler; 'tuned' is the number with which PgBouncer is quickest. */
  readonly pool: number | 'tuned'
  readonly contenders: readonly ContenderName[]
  readonly goals: readonly Goal[]
  /** A new connection with its log-in for every transaction. */
  readonly isConnect?: true
  /** Between the clients and the poolers. */
  readonly isTls?: true
  /** Processes of each pooler that serve clients; all of them together have the pool. */
  readonly workers?: number
  /** Beside the primary; poolers that can split reads do. */
  readonly replicas?: number
}

export interface IdleShape {
  readonly kind: 'idle'
  readonly name: string
  readonly isTls: boolean
  /** Resident bytes per client above those of a bare Node process with the same sockets; null is measured only. */
  readonly bytesPerClientMax: number | null
}

export type Shape = LoadShape | IdleShape

/** Where clients = pool. */
const POOL = 4
/** Pool sizes tried for 'tuned'. */
export const POOLS_TRIED: readonly number[] = [4, 8, 20]

const PEERS: readonly ContenderName[] = ['direct', 'pgbouncer', 'pgsteer']
const WITH_BOUND: readonly ContenderName[] = ['direct', 'haproxy', 'pgbouncer', 'pgsteer']
const BULK: readonly ContenderName[] = [...WITH_BOUND, 'pgbouncer-64k']
const SHARED: readonly ContenderName[] = [...PEERS, 'multiplexed']

type Pair = readonly [held: number, aim: number]

function goals(throughput: Pair, cpu: Pair, subject: Subject = 'pgsteer'): Goal[] {
  return [
    { subject, figure: 'tps', of: 'pgbouncer', held: throughput[0], aim: throughput[1] },
    { subject, figure: 'cpuUs', of: 'pgbouncer', held: cpu[0], aim: cpu[1] },
  ]
}

const SUBJECTS: readonly Subject[] = ['pgsteer', 'multiplexed']
const TWICE_DIRECT: Goal = {
  subject: 'multiplexed',
  figure: 'tps',
  of: 'direct',
  held: null,
  aim: 2,
}
const ONE_CLIENT = goals([0.9, 0.95], [1.4, 1.25])
const AS_MANY = goals([0.95, 1], [1.25, 1.1])
const EXTENDED = goals([0.8, 1], [1.6, 1.4])
const MANY = [...goals([2, 2.2], [0.6, 0.45], 'multiplexed'), TWICE_DIRECT]
const CROWD = [...goals([1.6, 2.2], [0.75, 0.45], 'multiplexed'), TWICE_DIRECT]
const BULKY = goals([0.95, 1], [1.1, 1])

type Rest = Partial<Omit<LoadShape, 'kind' | 'name'>>

function load(name: string, clients: number, rest: Rest): LoadShape {
  const usual = { script: '-S', mode: 'simple', pool: POOL, contenders: PEERS, goals: [] } as const
  return { kind: 'load', name, clients, ...usual, ...rest }
}

function select(mode: Mode, clients: number, rest: Rest): LoadShape {
  return load(`select-${mode}-${clients}`, clients, { mode, ...rest })
}

export const SHAPES: readonly Shape[] = [
  select('simple', 1, { contenders: WITH_BOUND, goals: ONE_CLIENT }),
  select('extended', 1, {}),
  select('prepared', 1, {}),
  select('simple', 4, { contenders: [...WITH_BOUND, 'relay', 'routed'], goals: AS_MANY }),
  select('extended', 4, { goals: EXTENDED }),
  select('prepared', 4, { goals: EXTENDED }),
  select('simple', 64, { pool: 'tuned', contenders: SHARED, goals: MANY }),
  select('prepared', 64, { pool: 'tuned', contenders: SHARED, goals: MANY }),
  select('simple', 256, { pool: 'tuned', contenders: SHARED, goals: CROWD }),
  select('prepared', 256, { pool: 'tuned', contenders: SHARED, goals: CROWD }),
  load('tpcb-simple-32', 32, { script: 'tpcb', pool: 'tuned', goals: goals([1, 1.1], [1.2, 1]) }),
  load('rows-64k-4', 4, { script: 'rows-64k', contenders: BULK, goals: BULKY }),
  load('rows-10m-4', 4, { script: 'rows-10m', contenders: BULK, goals: BULKY }),
  load('copy-out-4', 4, { script: 'copy-out', contenders: BULK, goals: BULKY }),
  load('copy-in-4', 4, { script: 'copy-in', contenders: BULK, goals: BULKY }),
  load('slow-mix-64', 64, {
    script: 'slow-mix',
    pool: 'tuned',
    contenders: ['pgbouncer', 'pgsteer', 'multiplexed'],
    goals: SUBJECTS.map((subject) => ({
      subject,
      figure: 'p99Us',
      of: 'pgbouncer',
      held: 1,
      aim: 1,
    })),
  }),
  load('login-8', 8, { pool: 8, isConnect: true }),
  load('tls-4', 4, { isTls: true }),
  load('tls-login-8', 8, { pool: 8, isConnect: true, isTls: true }),
  load('workers-64', 64, { pool: 8, workers: 2, contenders: ['pgbouncer', 'pgsteer'] }),
  { kind: 'idle', name: 'idle', isTls: false, bytesPerClientMax: 10_240 },
  { kind: 'idle', name: 'idle-tls', isTls: true, bytesPerClientMax: null },
  load('split-32', 32, {
    script: 'split',
    pool: 8,
    replicas: 2,
    contenders: ['direct', 'pgpool', 'pgsteer', 'multiplexed'],
    goals: SUBJECTS.flatMap((subject) => [
      { subject, figure: 'tps', of: 'pgpool', held: 2, aim: 2 },
      { subject, figure: 'cpuUs', of: 'pgpool', held: 1, aim: 1 },
    ]),
  }),
]
