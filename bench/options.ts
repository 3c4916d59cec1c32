/**
 * What the command line of `npm run bench` may say, with the defaults of a full run.
 */
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { SHAPES, type Shape } from './shapes.ts'

export interface Options {
  readonly rounds: number
  /** Of one measurement. */
  readonly seconds: number
  /** Before the first round of a shape, per contender: V8 compiles, pools fill. */
  readonly warmSeconds: number
  readonly shapes: readonly Shape[]
  readonly contenders: readonly string[]
  /** Another checkout of pgsteer, measured in the same rounds. */
  readonly before: string | null
  readonly pgbouncer: string | null
  /** pgbench's scale; 1 is 15 MB. */
  readonly scale: number
  readonly idleClients: number
  /** Node flags for the processes of pgsteer. */
  readonly nodeOptions: string
  /** System calls are counted in one more run of each pooler. */
  readonly isTraced: boolean
  /** Ends with code 1 when a goal is missed. */
  readonly check: boolean
  readonly isSummary: boolean
}

export const CONTENDERS = [
  'direct',
  'haproxy',
  'pgbouncer',
  'pgpool',
  'pgsteer',
  'multiplexed',
  'routed',
] as const

export const USAGE = `npm run bench -- [OPTION]...

  --rounds N        interleaved rounds per shape (5)
  --seconds N       of one measurement (5)
  --warm N          seconds of warm-up per contender and shape (10)
  --shapes A,B      words that the names of shapes contain (all)
  --contenders A,B  of ${CONTENDERS.join(', ')} (all)
  --before DIR      another checkout of pgsteer, measured in the same rounds as 'before'
  --pgbouncer FILE  another pgbouncer than the installed one
  --scale N         pgbench's scale (20)
  --idle N          idle clients to hold (10000)
  --node-options S  NODE_OPTIONS for pgsteer, for profiles
  --syscalls        count system calls with strace, in one more run of each pooler
  --summary         keep the result as bench/results/summary.json
  --check           end with code 1 when a goal is missed
  --list            print the names of the shapes

Shapes: ${SHAPES.map(({ name }) => name).join(', ')}
`

const DEFINITION = {
  rounds: { type: 'string', default: '5' },
  seconds: { type: 'string', default: '5' },
  warm: { type: 'string', default: '10' },
  shapes: { type: 'string', default: '' },
  contenders: { type: 'string', default: CONTENDERS.join(',') },
  before: { type: 'string' },
  pgbouncer: { type: 'string' },
  scale: { type: 'string', default: '20' },
  idle: { type: 'string', default: '10000' },
  'node-options': { type: 'string', default: '' },
  syscalls: { type: 'boolean', default: false },
  summary: { type: 'boolean', default: false },
  check: { type: 'boolean', default: false },
  list: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h', default: false },
} as const

/**
 * Returns null when only the usage or the list was asked for.
 *
 * Errors  Error for an option that makes no sense.
 */
export function readOptions(args: readonly string[]): Options | null {
  const { values } = parseArgs({ args: [...args], options: DEFINITION })
  if (values.help || values.list) return null
  const contenders = values.contenders.split(',')
  const unknown = contenders.find((name) => !CONTENDERS.some((known) => known === name))
  if (unknown !== undefined) throw new Error(`no contender is called ${unknown}`)
  return {
    rounds: positive('rounds', values.rounds),
    seconds: positive('seconds', values.seconds),
    warmSeconds: positive('warm', values.warm),
    shapes: shapesOf(values.shapes),
    contenders,
    before: values.before === undefined ? null : resolve(values.before),
    pgbouncer: values.pgbouncer === undefined ? null : resolve(values.pgbouncer),
    scale: positive('scale', values.scale),
    idleClients: positive('idle', values.idle),
    nodeOptions: values['node-options'],
    isTraced: values.syscalls,
    check: values.check,
    isSummary: values.summary,
  }
}

function shapesOf(words: string): readonly Shape[] {
  if (words === '') return SHAPES
  const wanted = words.split(',')
  const found = SHAPES.filter(({ name }) => wanted.some((word) => name.includes(word)))
  if (found.length === 0) throw new Error(`no shape's name contains ${wanted.join(' or ')}`)
  return found
}

function positive(name: string, text: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} is a number from 1`)
  return value
}
