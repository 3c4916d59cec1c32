/**
 * The packets of a client before it has logged in, as values: they have no type byte. Also the
 * startup packet of our own. Source: PostgreSQL manual, "Message Formats"; ProcessStartupPacket in
 * src/backend/tcop/backend_startup.c; the texts are PgBouncer's.
 *
 *     | length Int32, counts itself | code Int32 | ... |
 */
import { isUtf8 } from 'node:buffer'
import { ProxyError } from '../base/errors.ts'

const CANCEL_CODE = 80_877_102
const SSL_CODE = 80_877_103
const GSS_CODE = 80_877_104

/** The newest minor version that we speak: 3.2 means cancel keys of up to 256 bytes. */
export const MINOR_MAX = 2
export const CANCEL_SECRET_BYTES_MAX = 256
const USER_BYTES_MAX = 127

export type FirstPacket =
  | { readonly kind: 'ssl' }
  | { readonly kind: 'gss' }
  | { readonly kind: 'cancel'; readonly processId: number; readonly secret: Buffer }
  | StartupPacket

export interface StartupPacket {
  readonly kind: 'startup'
  /** As the client asked: up to 65535, 9999 from a libpq that greases. */
  readonly minor: number
  readonly user: string
  readonly database: string
  readonly replication: 'logical' | 'physical' | null
  /** Other parameters, names in lower case, those of `options` among them. */
  readonly parameters: ReadonlyMap<string, string>
  /** Names that begin with `_pq_.`, all of them unknown to us. */
  readonly protocolOptions: readonly string[]
}

/**
 * The length of the packet after its length word.
 *
 * Errors  ProxyError `bad_header`, with the bytes as PgBouncer shows them.
 */
export function packetBytes(head: Buffer, bytesMax: number): number {
  const length = head.readInt32BE(0)
  if (length < 8 || length > bytesMax)
    throw new ProxyError('bad_header', { bytes: head.toString('hex') })
  return length - 4
}

/**
 * Reads a packet without its length word.
 *
 * `ignored`  names of `ignore_startup_parameters`, in lower case; `options` among them means that
 *            what is not understood in options is dropped.
 * Errors     ProxyError with PgBouncer's texts.
 */
export function parseFirstPacket(packet: Buffer, ignored: ReadonlySet<string>): FirstPacket {
  const code = packet.readInt32BE(0)
  if (code === SSL_CODE && packet.length === 4) return { kind: 'ssl' }
  if (code === GSS_CODE && packet.length === 4) return { kind: 'gss' }
  if (code === CANCEL_CODE) return cancelOf(packet)
  const major = packet.readUInt16BE(0)
  const minor = packet.readUInt16BE(2)
  if (major === 2) throw new ProxyError('protocol_v2')
  if (major !== 3) throw new ProxyError('protocol_major', { major, minor })
  return startupOf(minor, pairsOf(packet), ignored)
}

/**
 * A startup packet of protocol 3.0. pg-protocol's own adds client_encoding, which would override
 * what the database or the role is set to.
 */
export function startupPacket(parameters: Iterable<readonly [string, string]>): Buffer {
  let text = ''
  for (const [name, value] of parameters) text += `${name}\0${value}\0`
  const body = Buffer.from(`${text}\0`)
  const head = Buffer.alloc(8)
  head.writeInt32BE(body.length + 8, 0)
  head.writeUInt16BE(3, 4)
  return Buffer.concat([head, body])
}

/** A CancelRequest with a key of any length. */
export function cancelPacket(processId: number, secret: Buffer): Buffer {
  const head = Buffer.alloc(12)
  head.writeInt32BE(12 + secret.length, 0)
  head.writeInt32BE(CANCEL_CODE, 4)
  head.writeUInt32BE(processId, 8)
  return Buffer.concat([head, secret])
}

/** 16 to 268 bytes with the length word: keys have 4 to 256 (protocol 3.2). */
function cancelOf(packet: Buffer): FirstPacket {
  const secret = packet.subarray(8)
  if (secret.length < 4 || secret.length > CANCEL_SECRET_BYTES_MAX)
    throw new ProxyError('bad_header', { bytes: packet.toString('hex', 0, 8) })
  return { kind: 'cancel', processId: packet.readUInt32BE(4), secret: Buffer.from(secret) }
}

/** Names and values up to an empty name, which must be the last byte. */
function pairsOf(packet: Buffer): [string, string][] {
  const pairs: [string, string][] = []
  let offset = 4
  for (;;) {
    const nameEnd = packet.indexOf(0, offset)
    if (nameEnd < 0) throw new ProxyError('startup_layout')
    if (nameEnd === offset) break
    const valueEnd = packet.indexOf(0, nameEnd + 1)
    if (valueEnd < 0) throw new ProxyError('startup_layout')
    pairs.push([
      packet.toString('utf8', offset, nameEnd),
      textOf(
        packet.subarray(offset, nameEnd).toString('latin1'),
        packet.subarray(nameEnd + 1, valueEnd),
      ),
    ])
    offset = valueEnd + 1
  }
  if (offset !== packet.length - 1) throw new ProxyError('startup_layout')
  return pairs
}

/** Two different byte strings must not become one user: names have to be UTF-8. */
function textOf(name: string, value: Buffer): string {
  if ((name === 'user' || name === 'database') && !isUtf8(value))
    throw new ProxyError('broken_message', { message: 'startup' })
  return value.toString('utf8')
}

function startupOf(
  minor: number,
  pairs: readonly [string, string][],
  ignored: ReadonlySet<string>,
): StartupPacket {
  let user = ''
  let database = ''
  let replication: StartupPacket['replication'] = null
  const parameters = new Map<string, string>()
  const protocolOptions: string[] = []
  for (const [name, value] of pairs) {
    if (name.startsWith('_pq_.')) protocolOptions.push(name)
    else if (name === 'user') user = value
    else if (name === 'database') database = value
    else if (name === 'replication') replication = replicationOf(value)
    else if (name === 'options') addOptions(parameters, value, ignored)
    else addParameter(parameters, [name, value], ignored)
  }
  if (user === '') throw new ProxyError('no_username')
  if (Buffer.byteLength(user) > USER_BYTES_MAX) throw new ProxyError('username_too_long')
  if (database === '') database = user
  return { kind: 'startup', minor, user, database, replication, parameters, protocolOptions }
}

/** What PostgreSQL takes for a parameter's name, with the dots of extensions. */
const PARAMETER_NAME =
  /^[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*(?:\.[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*)*$/

function addParameter(
  parameters: Map<string, string>,
  [name, value]: readonly [string, string],
  ignored: ReadonlySet<string>,
): void {
  const known = name.toLowerCase()
  if (ignored.has(known)) return
  if (!PARAMETER_NAME.test(name)) throw new ProxyError('startup_parameter', { name })
  parameters.set(known, value)
}

/** `-c name=value`, `-cname=value` and `--name=value`; in names `-` stands for `_`. */
function addOptions(
  parameters: Map<string, string>,
  options: string,
  ignored: ReadonlySet<string>,
): void {
  const isLenient = ignored.has('options')
  const words = splitOptions(options)
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index] ?? ''
    let setting: string | undefined
    if (word === '-c') {
      index += 1
      setting = words[index]
    } else if (word.startsWith('--') || word.startsWith('-c')) {
      setting = word.slice(2)
    }
    const at = setting?.indexOf('=') ?? -1
    if (setting === undefined || at < 1) {
      if (isLenient) continue
      throw new ProxyError('startup_options_form')
    }
    const name = setting.slice(0, at).replaceAll('-', '_').toLowerCase()
    if (ignored.has(name)) continue
    if (PARAMETER_NAME.test(name)) parameters.set(name, setting.slice(at + 1))
    else if (!isLenient) throw new ProxyError('startup_option', { name })
  }
}

/** Splits at white space; a backslash takes the next character as it is (pg_split_opts). */
function splitOptions(options: string): string[] {
  const words: string[] = []
  for (const [word] of options.matchAll(/(?:\\[\s\S]|[^\s\\])+/g))
    words.push(word.replaceAll(/\\([\s\S])/g, '$1'))
  return words
}

const TRUE = /^(?:t|tr|tru|true|y|ye|yes|on|1)$/i
const FALSE = /^(?:f|fa|fal|fals|false|n|no|of|off|0)$/i

function replicationOf(value: string): StartupPacket['replication'] {
  if (value === 'database') return 'logical'
  if (TRUE.test(value)) return 'physical'
  if (FALSE.test(value)) return null
  throw new ProxyError('startup_parameter', { name: 'replication' })
}
