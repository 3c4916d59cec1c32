/**
 * The kinds of configuration values: how each is read from text, written back, and bounded. A key
 * of the table (keys.ts) is one of these with a default and a sentence. Knows no key by name.
 *
 * Numbers are read as PgBouncer reads them (libusual's cfparser: strtol with base 0, seconds with
 * fractions), except that what it would silently wrap or cut is an error here.
 */
import { isIP } from 'node:net'

/** A value that cannot be read. The message completes the sentence "key = value: ...". */
export class BadValue extends Error {}

/** Whether the field's name gets `Ms` appended: keys in seconds hold milliseconds once read. */
export type Unit = 'plain' | 'seconds'

export interface Key<Value, U extends Unit = 'plain'> {
  /** The word for the documentation: `int`, `seconds`, `list`, ... */
  readonly kind: string
  readonly unit: U
  /** The default as it would be written in the file; null = unset. */
  readonly fallback: string | null
  /** False: a change needs a restart. */
  readonly live: boolean
  /** False: accepted, with a warning that it does nothing yet. */
  readonly built: boolean
  readonly secret: boolean
  /** The path of a file that must be readable. */
  readonly file: boolean
  /** What it does, one sentence. */
  readonly doc: string
  /** Throws BadValue. */
  parse(text: string): Value
  format(value: Value): string
}

export type AnyKey = Key<unknown, Unit>
export type KeyTable = Readonly<Record<string, AnyKey>>

export interface Facts {
  readonly live?: boolean
  readonly built?: boolean
}
/** Read at start only. */
export const RESTART: Facts = { live: false }
/** Known, accepted, without effect so far. */
export const LATER: Facts = { built: false }

interface Reader<Value> {
  readonly kind: string
  readonly parse: (text: string) => Value
  readonly format: (value: Value) => string
}

/** What a column of the table shares: default, sentence, facts. */
type Row = readonly [fallback: string | null, doc: string, facts?: Facts]

function key<Value>(reader: Reader<Value>, row: Row): Key<Value> {
  const [fallback, doc, facts] = row
  return {
    ...reader,
    unit: 'plain',
    fallback,
    live: facts?.live ?? true,
    built: facts?.built ?? true,
    secret: false,
    file: false,
    doc,
  }
}

// Numbers

const WHOLE = /^[+-]?(?:0x[0-9a-f]+|\d+)$/i
const INT_MAX = 2_147_483_647

/** strtol(input, base 0): decimal, 0x hexadecimal, leading 0 octal. */
function wholeNumber(input: string): number {
  const digits = input.replace(/^[+-]/, '')
  const isOctal = /^0[0-7]+$/.test(digits)
  if (!WHOLE.test(input) || (/^0\d/.test(digits) && !isOctal)) {
    throw new BadValue('must be a whole number')
  }
  const size = isOctal ? Number.parseInt(digits, 8) : Number(digits)
  return input.startsWith('-') && size !== 0 ? -size : size
}

interface Bounds extends Facts {
  readonly min?: number
  readonly max?: number
}

function number(kind: string, unit: string, bounds: Bounds): Reader<number> {
  const { min = 0, max = INT_MAX } = bounds
  return {
    kind,
    parse: (input) => {
      const value = wholeNumber(input)
      if (value < min || value > max) throw new BadValue(`must be from ${min} to ${max}${unit}`)
      return value
    },
    format: String,
  }
}

export function int(fallback: string | null, doc: string, bounds: Bounds = {}): Key<number> {
  return key(number('int', '', bounds), [fallback, doc, bounds])
}

/** A count of milliseconds; the key's name says so. */
export function ms(fallback: string | null, doc: string, bounds: Bounds = {}): Key<number> {
  return key(number('ms', ' milliseconds', bounds), [fallback, doc, bounds])
}

export function bytes(fallback: string | null, doc: string, bounds: Bounds = {}): Key<number> {
  return key(number('bytes', ' bytes', bounds), [fallback, doc, bounds])
}

export function port(fallback: string, doc: string, bounds: Bounds = {}): Key<number> {
  return key(number('port', '', { max: 65_535, ...bounds }), [fallback, doc, bounds])
}

const OCTAL: Reader<number> = {
  ...number('octal', '', { max: 0o7777 }),
  format: (value) => `0${value.toString(8)}`,
}

/** Permission bits, written in octal as in chmod. */
export function octal(fallback: string, doc: string, facts: Facts = {}): Key<number> {
  return key(OCTAL, [fallback, doc, facts])
}

const SECONDS_MAX = 10 ** 8

const SECONDS: Reader<number> = {
  kind: 'seconds',
  parse: (input) => {
    if (!/^\+?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i.test(input)) {
      throw new BadValue('must be a number of seconds')
    }
    const value = Number(input)
    if (value > SECONDS_MAX) throw new BadValue(`must be at most ${SECONDS_MAX} seconds`)
    // What is not 0 must not become 0, which means "off" almost everywhere.
    return value === 0 ? 0 : Math.max(1, Math.round(value * 1000))
  },
  format: (value) => String(value / 1000),
}

/** Seconds with fractions in the file, whole milliseconds once read. */
export function seconds(
  fallback: string | null,
  doc: string,
  facts: Facts = {},
): Key<number, 'seconds'> {
  return { ...key(SECONDS, [fallback, doc, facts]), unit: 'seconds' }
}

// Words

const YES = new Set(['1', 'on', 'yes', 'true'])
const NO = new Set(['0', 'off', 'no', 'false'])

const BOOL: Reader<boolean> = {
  kind: 'bool',
  parse: (input) => {
    const word = input.toLowerCase()
    if (YES.has(word)) return true
    if (NO.has(word)) return false
    if (!WHOLE.test(input)) throw new BadValue('must be 0 or 1')
    return wholeNumber(input) !== 0
  },
  format: (value) => (value ? '1' : '0'),
}

/** PgBouncer's booleans are numbers; the words are accepted besides. */
export function bool(fallback: string, doc: string, facts: Facts = {}): Key<boolean> {
  return key(BOOL, [fallback, doc, facts])
}

/** One of `words`, in any case. */
export function choice<const Word extends string>(
  words: readonly Word[],
  fallback: string | null,
  doc: string,
  facts: Facts = {},
): Key<Word> {
  const reader: Reader<Word> = {
    kind: words.join(', '),
    parse: (input) => {
      const word = words.find((one) => one === input.toLowerCase())
      if (word === undefined) throw new BadValue(`must be one of ${words.join(', ')}`)
      return word
    },
    format: same,
  }
  return key(reader, [fallback, doc, facts])
}

function same<Word extends string>(word: Word): Word {
  return word
}

/** Text that is always there, perhaps empty. */
export function string(fallback: string, doc: string, facts: Facts = {}): Key<string> {
  return key({ kind: 'text', parse: same<string>, format: same }, [fallback, doc, facts])
}

const OPTIONAL: Reader<string | null> = {
  kind: 'text',
  parse: (input) => (input === '' ? null : input),
  format: (value) => value ?? '',
}

/** Text or null; empty means not set, as it does for all of PgBouncer's optional texts. */
export function text(fallback: string | null, doc: string, facts: Facts = {}): Key<string | null> {
  return key(OPTIONAL, [fallback, doc, facts])
}

/** The path of a file that is read: made absolute and checked by the loader. */
export function file(fallback: string | null, doc: string, facts: Facts = {}): Key<string | null> {
  return { ...key({ ...OPTIONAL, kind: 'file' }, [fallback, doc, facts]), file: true }
}

/** Never printed. */
export function secret(doc: string, facts: Facts = {}): Key<string | null> {
  return { ...key({ ...OPTIONAL, kind: 'secret' }, [null, doc, facts]), secret: true }
}

const CHECK_QUERY: Reader<string | null> = {
  kind: 'text',
  parse: (input) => {
    if (input === '') return null
    return input === '<empty>' ? '' : input
  },
  format: (value) => (value === '' ? '<empty>' : (value ?? '')),
}

/** PgBouncer's server_check_query: `<empty>` is the empty query (''), nothing is no check (null). */
export function checkQuery(fallback: string, doc: string): Key<string | null> {
  return key(CHECK_QUERY, [fallback, doc])
}

const PROTOCOL = /^!?(?:all|default|legacy|secure|tlsv1(?:\.[0-3])?)$/

const PROTOCOLS: Reader<string> = {
  kind: 'text',
  parse: (input) => {
    const words = input.split(/[,:]/).map((word) => word.trim().toLowerCase())
    if (!words.every((word) => PROTOCOL.test(word))) {
      throw new BadValue('must be secure, all, or a list of tlsv1.0 to tlsv1.3')
    }
    return words.join(',')
  },
  format: same,
}

/** TLS versions as libtls writes them: words joined by `,` or `:`. */
export function protocols(fallback: string, doc: string): Key<string> {
  return key(PROTOCOLS, [fallback, doc])
}

// Lists

/** The items of a comma-separated list, trimmed, without empty ones. */
export function splitList(value: string): readonly string[] {
  return value
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '')
}

function listOf<Item>(
  kind: string,
  one: { parse: (item: string) => Item; format: (item: Item) => string },
  row: Row,
): Key<readonly Item[]> {
  const parse = (value: string): readonly Item[] => Object.freeze(splitList(value).map(one.parse))
  const format = (items: readonly Item[]): string => items.map(one.format).join(', ')
  return key({ kind, parse, format }, row)
}

export function list(fallback: string, doc: string, facts: Facts = {}): Key<readonly string[]> {
  return listOf('list', { parse: same, format: same }, [fallback, doc, facts])
}

function parseAddress(item: string): string {
  if (!/^[\w.:%*-]+$/.test(item)) throw new BadValue(`"${item}" is not an address or host name`)
  return item
}

export function addresses(
  fallback: string,
  doc: string,
  facts: Facts = {},
): Key<readonly string[]> {
  return listOf('list of addresses', { parse: parseAddress, format: same }, [fallback, doc, facts])
}

export function address(fallback: string, doc: string, facts: Facts = {}): Key<string> {
  return key({ kind: 'address', parse: parseAddress, format: same }, [fallback, doc, facts])
}

function parseUrl(item: string): string {
  const url = URL.parse(item)
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new BadValue('must be a list of http:// or https:// addresses')
  }
  if (url.username !== '' || url.password !== '') {
    throw new BadValue(
      'must not hold a user name or password, there are keys of their own for them',
    )
  }
  return `${url.protocol}//${url.host}${url.pathname.replace(/\/+$/, '')}`
}

export function urls(fallback: string, doc: string, facts: Facts = {}): Key<readonly string[]> {
  return listOf('list of URLs', { parse: parseUrl, format: same }, [fallback, doc, facts])
}

export interface HostPort {
  readonly host: string
  readonly port: number
}

function parseHostPort(item: string): HostPort {
  const match = /^(?:\[([0-9a-fA-F:.%\w]+)\]|([\w.-]+))(?::(\d{1,5}))?$/.exec(item)
  const host = match?.[1] ?? match?.[2]
  const parsed = Number(match?.[3] ?? 5432)
  if (host === undefined || parsed < 1 || parsed > 65_535) {
    throw new BadValue(`"${item}" is not host:port`)
  }
  return Object.freeze({ host, port: parsed })
}

function formatHostPort(item: HostPort): string {
  return item.host.includes(':') ? `[${item.host}]:${item.port}` : `${item.host}:${item.port}`
}

export function hostPorts(
  fallback: string,
  doc: string,
  facts: Facts = {},
): Key<readonly HostPort[]> {
  const one = { parse: parseHostPort, format: formatHostPort }
  return listOf('list of host:port', one, [fallback, doc, facts])
}

const CIDR = /^([0-9a-fA-F:.]+)\/(\d{1,3})$/

function parseNetwork(item: string): string {
  const match = CIDR.exec(item)
  const family = isIP(match?.[1] ?? item)
  const bits = Number(match?.[2] ?? (family === 6 ? 128 : 32))
  if (family === 0 || bits > (family === 6 ? 128 : 32)) {
    throw new BadValue(`"${item}" is not a network like 10.0.0.0/8`)
  }
  return `${match?.[1] ?? item}/${bits}`
}

/** Networks as `address/bits`; a bare address is a network of one. */
export function networks(fallback: string, doc: string, facts: Facts = {}): Key<readonly string[]> {
  const one = { parse: parseNetwork, format: same }
  return listOf('list of networks', one, [fallback, doc, facts])
}

function parsePair(item: string): readonly [string, string] {
  const at = item.indexOf('=')
  const name = item.slice(0, at).trim()
  const value = item.slice(at + 1).trim()
  if (at < 0 || name === '' || value === '') throw new BadValue(`"${item}" is not member=value`)
  return [name, value]
}

function mapOf<Value>(
  kind: string,
  one: { parse: (item: string) => Value; format: (value: Value) => string },
  row: Row,
): Key<ReadonlyMap<string, Value>> {
  const parse = (value: string): ReadonlyMap<string, Value> =>
    new Map(
      splitList(value).map((item) => {
        const [name, rest] = parsePair(item)
        return [name, one.parse(rest)] as const
      }),
    )
  const format = (map: ReadonlyMap<string, Value>): string =>
    [...map].map(([name, value]) => `${name}=${one.format(value)}`).join(', ')
  return key({ kind, parse, format }, row)
}

const WEIGHT = number('int', '', { max: 1000 })

/** `member=number` pairs. */
export function weights(fallback: string, doc: string): Key<ReadonlyMap<string, number>> {
  return mapOf('list of member=number', WEIGHT, [fallback, doc])
}

/** `member=word` pairs. */
export function labels(fallback: string, doc: string): Key<ReadonlyMap<string, string>> {
  return mapOf('list of member=word', { parse: same, format: same }, [fallback, doc])
}
