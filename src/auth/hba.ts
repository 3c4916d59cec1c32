/**
 * Host-based authentication as PgBouncer reads pg_hba.conf: `local`, `host`, `hostssl`,
 * `hostnossl`; databases `all`, `replication`, `sameuser`, `@file`; users `all`, `@file`; addresses
 * as networks or `all`. No groups, host names, samehost or samenet: such a line is an error, because
 * a `reject` that is skipped lets people in. Also the ident map.
 *
 * Source  PgBouncer's src/hba.c; PostgreSQL manual, "The pg_hba.conf File".
 */
import { BlockList, isIP } from 'node:net'

export const HBA_METHODS = [
  'trust',
  'plain',
  'md5',
  'scram-sha-256',
  'cert',
  'peer',
  'reject',
] as const
export type HbaMethod = (typeof HBA_METHODS)[number]

/** What the rules look at. */
export interface HbaConnection {
  readonly isUnix: boolean
  readonly isTls: boolean
  readonly address: string
  readonly user: string
  readonly database: string
  readonly isReplication: boolean
}

export interface HbaRule {
  readonly line: number
  readonly type: 'local' | 'host' | 'hostssl' | 'hostnossl'
  readonly databases: readonly Word[]
  readonly users: readonly Word[]
  /** Null: every address. */
  readonly network: Networks | null
  readonly method: HbaMethod
  /** `map=` of the options: a name of the ident map. */
  readonly map: string | null
}

/** One list per family: in a common one `::/0` holds the IPv4 addresses too. */
export interface Networks {
  readonly ipv4: BlockList
  readonly ipv6: BlockList
}

function newNetworks(): Networks {
  return { ipv4: new BlockList(), ipv6: new BlockList() }
}

/** A quoted word loses its special meaning. */
interface Word {
  readonly text: string
  readonly isQuoted: boolean
}

/** A line that cannot be understood; the message names file and line. */
export class HbaError extends Error {}

export interface HbaSource {
  /** For messages. */
  readonly name: string
  readonly text: string
  /** Reads the file behind `@`; throws when it cannot. Absent: `@` is an error. */
  readonly include?: (path: string) => string
}

const FILE_BYTES_MAX = 1 << 20
const LINES_MAX = 10_000

/**
 * Reads the rules, in order.
 *
 * Errors  HbaError for the first line that is not understood.
 */
export function parseHba(source: HbaSource): readonly HbaRule[] {
  const rules: HbaRule[] = []
  for (const [line, words] of tokenize(source)) {
    try {
      rules.push(ruleOf(words, line, source))
    } catch (error) {
      if (!(error instanceof HbaError)) throw error
      throw new HbaError(`${source.name}:${line}: ${error.message}`, { cause: error })
    }
  }
  return rules
}

/** The first rule that fits decides; null when none does. */
export function matchHba(rules: readonly HbaRule[], connection: HbaConnection): HbaRule | null {
  return rules.find((rule) => fits(rule, connection)) ?? null
}

/** Map name to system user to the database users it may be; `all` stands for any. */
export type IdentMap = ReadonlyMap<string, ReadonlyMap<string, ReadonlySet<string>>>

/** Lines of `map system-user database-user`. */
export function parseIdentMap(source: HbaSource): IdentMap {
  const maps = new Map<string, Map<string, Set<string>>>()
  for (const [line, words] of tokenize(source)) {
    const [map, systemUser, user] = words.map((word) => word[0]?.text ?? '')
    if (words.length !== 3 || map === undefined || systemUser === undefined || user === undefined)
      throw new HbaError(`${source.name}:${line}: must be: map system-user database-user`)
    const users = maps.get(map) ?? new Map<string, Set<string>>()
    maps.set(map, users.set(systemUser, (users.get(systemUser) ?? new Set()).add(user)))
  }
  return maps
}

/** Whether `systemUser` (a certificate's name) may be `user`: by the map, or by being the same. */
export function mayBe(
  identMap: IdentMap,
  map: string | null,
  { systemUser, user }: { readonly systemUser: string; readonly user: string },
): boolean {
  if (map === null) return systemUser === user
  const users = identMap.get(map)?.get(systemUser)
  return users !== undefined && (users.has(user) || users.has('all'))
}

/** A list of networks, each `address/bits` or a single address, as one test. */
export function networksOf(networks: readonly string[]): (address: string) => boolean {
  const list = newNetworks()
  for (const network of networks) addNetwork(list, network)
  if (networks.length === 0) return () => false
  return (address) => contains(list, address)
}

/** An element of a line: one or more words joined by commas. */
type Element = readonly Word[]

function* tokenize({ name, text }: HbaSource): Generator<readonly [number, readonly Element[]]> {
  if (text.length > FILE_BYTES_MAX)
    throw new HbaError(`${name}: larger than ${FILE_BYTES_MAX} bytes`)
  const lines = text.split(/\r?\n/)
  if (lines.length > LINES_MAX) throw new HbaError(`${name}: more than ${LINES_MAX} lines`)
  for (const [index, line] of lines.entries()) {
    const elements = elementsOf(line)
    if (elements === null) throw new HbaError(`${name}:${index + 1}: quote without end`)
    if (elements.length > 0) yield [index + 1, elements]
  }
}

const TOKEN = /\s*(?:#.*$|(,)|"((?:[^"]|"")*)"|([^\s,"#]+))/y

/** Null when a quote does not end. */
function elementsOf(line: string): readonly Element[] | null {
  const elements: Word[][] = []
  let joins = false
  TOKEN.lastIndex = 0
  const { length } = line.trimEnd()
  while (TOKEN.lastIndex < length) {
    const [match, comma, quoted, bare] = TOKEN.exec(line) ?? []
    if (match === undefined) return null
    if (comma !== undefined) {
      joins = true
      continue
    }
    const text = quoted?.replaceAll('""', '"') ?? bare
    if (text === undefined) break
    const word = { text, isQuoted: quoted !== undefined }
    const last = elements.at(-1)
    if (joins && last !== undefined) last.push(word)
    else elements.push([word])
    joins = false
  }
  return elements
}

function ruleOf(elements: readonly Element[], line: number, source: HbaSource): HbaRule {
  const [typeWord, databases, users, ...rest] = elements
  const type = typeWord?.[0]?.text
  if (type !== 'local' && type !== 'host' && type !== 'hostssl' && type !== 'hostnossl')
    throw new HbaError(`unknown connection type "${type ?? ''}"`)
  if (databases === undefined || users === undefined) throw new HbaError('the line is too short')
  const { network, used } = type === 'local' ? { network: null, used: 0 } : networkOf(rest)
  const [method, ...options] = rest.slice(used).map((element) => element[0]?.text ?? '')
  return {
    line,
    type,
    databases: namesOf(databases, source, ['all', 'replication', 'sameuser']),
    users: namesOf(users, source, ['all']),
    network,
    method: methodOf(method),
    map: mapOf(options),
  }
}

const UNSUPPORTED = new Set(['samegroup', 'samerole'])

/** Checks the words of a database or user list and puts the content of `@file` in place. */
function namesOf(element: Element, source: HbaSource, special: readonly string[]): readonly Word[] {
  const words = element.flatMap((word) => {
    if (word.isQuoted || !word.text.startsWith('@')) return [word]
    const path = word.text.slice(1)
    if (source.include === undefined) throw new HbaError(`@${path} cannot be read here`)
    const text = source.include(path)
    return [...tokenize({ name: path, text })].flatMap(([, elements]) => elements.flat())
  })
  for (const { text, isQuoted } of words) {
    if (isQuoted || special.includes(text)) continue
    if (text.startsWith('+')) throw new HbaError(`groups (${text}) are not supported`)
    if (text.startsWith('/')) throw new HbaError(`patterns (${text}) are not supported`)
    if (UNSUPPORTED.has(text)) throw new HbaError(`${text} is not supported`)
  }
  return words
}

function networkOf(rest: readonly Element[]): { network: Networks | null; used: number } {
  const address = rest[0]?.[0]?.text ?? ''
  if (address === 'all') return { network: null, used: 1 }
  const network = newNetworks()
  const mask = rest[1]?.[0]?.text ?? ''
  if (isIP(address) !== 0 && isIP(mask) !== 0) {
    addNetwork(network, `${address}/${maskBits(mask)}`)
    return { network, used: 2 }
  }
  addNetwork(network, address)
  return { network, used: 1 }
}

function addNetwork(list: Networks, network: string): void {
  const [address = '', bits, ...more] = network.split('/')
  const family = isIP(address)
  const bitsMax = family === 6 ? 128 : 32
  const prefix = bits === undefined ? bitsMax : Number(bits)
  const isSound = family !== 0 && more.length === 0 && /^\d{1,3}$/.test(bits ?? '0')
  if (!isSound || prefix > bitsMax) throw new HbaError(`"${network}" is not an address or network`)
  const word = family === 6 ? 'ipv6' : 'ipv4'
  list[word].addSubnet(address, prefix, word)
}

/** The number of leading ones of `255.255.0.0` or `ffff::`; other masks are errors. */
function maskBits(mask: string): number {
  const bits = isIP(mask) === 4 ? ipv4Bits(mask) : ipv6Bits(mask)
  const length = bits.indexOf('0') < 0 ? bits.length : bits.indexOf('0')
  if (bits.slice(length).includes('1')) throw new HbaError(`"${mask}" is not a netmask`)
  return length
}

function ipv4Bits(mask: string): string {
  return mask
    .split('.')
    .map((part) => Number(part).toString(2).padStart(8, '0'))
    .join('')
}

function partsOf(side: string): string[] {
  return side.split(':').filter((part) => part !== '')
}

function ipv6Bits(mask: string): string {
  const [head = '', tail] = mask.split('::')
  const gap = 8 - partsOf(head).length - partsOf(tail ?? '').length
  const zeros = Array.from({ length: tail === undefined ? 0 : gap }, () => '0')
  return [...partsOf(head), ...zeros, ...partsOf(tail ?? '')]
    .map((part) => Number.parseInt(part, 16).toString(2).padStart(16, '0'))
    .join('')
}

function methodOf(text: string | undefined): HbaMethod {
  // `password` is PostgreSQL's word for PgBouncer's `plain`.
  const method = HBA_METHODS.find((one) => one === (text === 'password' ? 'plain' : text))
  if (method === undefined) throw new HbaError(`method "${text ?? ''}" is not supported`)
  return method
}

function mapOf(options: readonly string[]): string | null {
  let map: string | null = null
  for (const option of options) {
    if (!option.startsWith('map=')) throw new HbaError(`option "${option}" is not supported`)
    map = option.slice(4)
  }
  return map
}

function fits(rule: HbaRule, connection: HbaConnection): boolean {
  return (
    fitsTransport(rule, connection) &&
    fitsDatabase(rule.databases, connection) &&
    rule.users.some(
      (word) => (!word.isQuoted && word.text === 'all') || word.text === connection.user,
    )
  )
}

function fitsTransport({ type, network }: HbaRule, connection: HbaConnection): boolean {
  if ((type === 'local') !== connection.isUnix) return false
  if (type === 'hostssl' && !connection.isTls) return false
  if (type === 'hostnossl' && connection.isTls) return false
  return network === null || contains(network, connection.address)
}

/** `all` does not stand for replication, as in PostgreSQL (check_db in hba.c). */
function fitsDatabase(databases: readonly Word[], connection: HbaConnection): boolean {
  const { database, user, isReplication } = connection
  return databases.some(({ text, isQuoted }) => {
    if (!isQuoted && text === 'replication') return isReplication
    if (isReplication) return false
    if (!isQuoted && text === 'all') return true
    if (!isQuoted && text === 'sameuser') return database === user
    return text === database
  })
}

const MAPPED = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i

/** An IPv4 address that came over an IPv6 socket is tested as the IPv4 address it is. */
function contains(list: Networks, address: string): boolean {
  const plain = MAPPED.exec(address)?.[1] ?? address.replace(/%.*$/, '')
  const family = isIP(plain)
  if (family === 0) return false
  const word = family === 6 ? 'ipv6' : 'ipv4'
  return list[word].check(plain, word)
}
