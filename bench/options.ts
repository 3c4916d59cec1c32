/**
 * What the command line of `npm run bench` may say, with the defaults of the run for the record.
 */
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { CONTENDERS, SHAPES, type Shape } from './shapes.ts'

export interface Options {
  readonly rounds: number
  /** Of one measurement. */
  readonly seconds: number
  /** Before the first round of a shape, per contender: V8 compiles, pools fill. */
  readonly warmSeconds: number
  readonly shapes: readonly Shape[]
  /** Of those that a shape has. */
  readonly contenders: readonly string[]
  /** Another checkout of pgsteer, measured in the same rounds. */
  readonly before: string | null
  readonly pgbouncer: string | null
  /** pgbench's scale; 1 is 15 MB. */
  readonly scale: number
  readonly idleClients: number
  readonly idleTlsClients: number
  /** Node flags for the processes of pgsteer. */
  readonly nodeOptions: string
  /** Ends with code 1 when a goal is missed. */
  readonly check: boolean
  readonly isSummary: boolean
  /** Only writes the page anew from the kept results. */
  readonly isPage: boolean
}

export const USAGE = `npm run bench -- [OPTION]... [SHAPE]...

  --rounds N        interleaved rounds per shape (5)
  --seconds N       of one measurement (2)
  --warm N          seconds of warm-up per contender and shape (3)
  --shapes A,B      words that the names of shapes contain (all); SHAPE is one, too
  --contenders A,B  of ${CONTENDERS.join(', ')} (all that the shape has)
  --before DIR      another checkout of pgsteer, measured in the same rounds as 'before'
  --pgbouncer FILE  another pgbouncer than the newest of Debian
  --scale N         pgbench's scale (10)
  --idle N          idle clients to hold (10000)
  --idle-tls N      idle clients with TLS to hold (2000)
  --node-options S  NODE_OPTIONS for pgsteer, for profiles
  --summary         keep the results of these shapes in bench/results/summary.json, and write
                    docs/performance.md from all that are kept there
  --page            measure nothing, write docs/performance.md anew
  --check           end with code 1 when a goal is missed
  --list            print the names of the shapes

Shapes: ${SHAPES.map(({ name }) => name).join(', ')}
`

const DEFINITION = {
  rounds: { type: 'string', default: '5' },
  seconds: { type: 'string', default: '2' },
  warm: { type: 'string', default: '3' },
  shapes: { type: 'string', default: '' },
  contenders: { type: 'string', default: CONTENDERS.join(',') },
  before: { type: 'string' },
  pgbouncer: { type: 'string' },
  scale: { type: 'string', default: '10' },
  idle: { type: 'string', default: '10000' },
  'idle-tls': { type: 'string', default: '2000' },
  'node-options': { type: 'string', default: '' },
  summary: { type: 'boolean', default: false },
  page: { type: 'boolean', default: false },
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
  const parsed = parseArgs({ args: [...args], options: DEFINITION, allowPositionals: true })
  const { values, positionals } = parsed
  if (values.help || values.list) return null
  const contenders = values.contenders.split(',')
  const unknown = contenders.find((name) => !CONTENDERS.some((known) => known === name))
  if (unknown !== undefined) throw new Error(`no contender is called ${unknown}`)
  return {
    rounds: positive('rounds', values.rounds),
    seconds: positive('seconds', values.seconds),
    warmSeconds: positive('warm', values.warm),
    shapes: shapesOf([...values.shapes.split(','), ...positionals].filter((word) => word !== '')),
    contenders,
    before: values.before === undefined ? null : resolve(values.before),
    pgbouncer: values.pgbouncer === undefined ? null : resolve(values.pgbouncer),
    scale: positive('scale', values.scale),
    idleClients: positive('idle', values.idle),
    idleTlsClients: positive('idle-tls', values['idle-tls']),
    nodeOptions: values['node-options'],
    check: values.check,
    isSummary: values.summary,
    isPage: values.page,
  }
}

function shapesOf(words: readonly string[]): readonly Shape[] {
  if (words.length === 0) return SHAPES
  const found = SHAPES.filter(({ name }) =>
    // The whole name of one shape is that one alone, though others begin with it.
    words.some((word) => name === word || (!isShape(word) && name.includes(word))),
  )
  if (found.length === 0) throw new Error(`no shape's name contains ${words.join(' or ')}`)
  return found
}

function isShape(word: string): boolean {
  return SHAPES.some(({ name }) => name === word)
}

function positive(name: string, text: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} is a number from 1`)
  return value
}
