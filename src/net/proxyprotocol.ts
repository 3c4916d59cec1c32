/**
 * The PROXY protocol's header, version 1 (text) and 2 (binary), in front of everything else on
 * connections from listed networks. There it must be present: guessing would let a client forge it.
 *
 * Source  The PROXY protocol, versions 1 and 2 (HAProxy, doc/proxy-protocol.txt).
 */
import { isIP } from 'node:net'
import { ProxyError } from '../base/errors.ts'
import type { Channel } from './channel.ts'

/** What came over the connection before it; null: a health check of the balancer itself. */
export interface ProxySource {
  readonly address: string
  readonly port: number
}

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex')
const V1_BYTES_MAX = 107
/** Of the addresses and the TLVs behind them; balancers send a few hundred bytes at most. */
const V2_BODY_BYTES_MAX = 4096
const HEAD_BYTES_MIN = 6

/**
 * Takes the header off the channel, and gives the channel the client's own address.
 *
 * Errors  ProxyError `proxy_header`; what the channel rejects with when it ends.
 */
export async function readProxyHeader(channel: Channel): Promise<void> {
  const head = await channel.read(HEAD_BYTES_MIN)
  const source =
    head.toString('latin1') === 'PROXY ' ? await readText(channel) : await readBinary(channel, head)
  if (source !== null) channel.setRemote(source.address, source.port)
}

async function readText(channel: Channel): Promise<ProxySource | null> {
  let line = ''
  while (!line.endsWith('\r\n')) {
    if (line.length + HEAD_BYTES_MIN >= V1_BYTES_MAX) throw broken('line without end')
    line += (await channel.read(1)).toString('latin1')
  }
  return parseTextHeader(line.slice(0, -2))
}

/** The line behind `PROXY `: `TCP4 source destination port port`, or `UNKNOWN` and anything. */
export function parseTextHeader(line: string): ProxySource | null {
  if (line === 'UNKNOWN' || line.startsWith('UNKNOWN ')) return null
  const [family, source = '', destination = '', port = '', ...rest] = line.split(' ')
  const version = family === 'TCP4' ? 4 : 6
  if (family !== 'TCP4' && family !== 'TCP6') throw broken('unknown protocol')
  if (isIP(source) !== version || isIP(destination) !== version) throw broken('bad address')
  if (rest.length !== 1 || !isPort(port) || !isPort(rest[0] ?? '')) throw broken('bad port')
  return { address: source, port: Number(port) }
}

function isPort(text: string): boolean {
  return /^(?:0|[1-9]\d{0,4})$/.test(text) && Number(text) <= 65_535
}

/**
 *     | signature 12 | version 4 bit, command 4 bit | family, protocol | length Int16 | ... |
 */
async function readBinary(channel: Channel, head: Buffer): Promise<ProxySource | null> {
  if (!head.equals(SIGNATURE.subarray(0, HEAD_BYTES_MIN))) throw broken('none was sent')
  const rest = await channel.read(SIGNATURE.length + 4 - HEAD_BYTES_MIN)
  if (!rest.subarray(0, 6).equals(SIGNATURE.subarray(HEAD_BYTES_MIN))) throw broken('bad signature')
  const length = rest.readUInt16BE(8)
  if (length > V2_BODY_BYTES_MAX) throw broken('too long')
  const body = length === 0 ? Buffer.alloc(0) : await channel.read(length)
  return parseBinaryHeader(rest.readUInt8(6), rest.readUInt8(7), body)
}

const ADDRESS_BYTES = { ipv4: 4, ipv6: 16 } as const

export function parseBinaryHeader(
  versionCommand: number,
  family: number,
  body: Buffer,
): ProxySource | null {
  if (versionCommand >> 4 !== 2) throw broken('unknown version')
  const command = versionCommand & 15
  if (command === 0) return null
  if (command !== 1) throw broken('unknown command')
  switch (family) {
    case 0x11:
      return addressOf(body, 'ipv4')
    case 0x21:
      return addressOf(body, 'ipv6')
    // Unspecified or a Unix socket: there is no address that could be believed.
    case 0x00:
    case 0x31:
      return null
    default:
      throw broken('unknown protocol')
  }
}

function addressOf(body: Buffer, family: 'ipv4' | 'ipv6'): ProxySource {
  const bytes = ADDRESS_BYTES[family]
  if (body.length < bytes * 2 + 4) throw broken('too short')
  const port = body.readUInt16BE(bytes * 2)
  if (family === 'ipv4') return { address: body.subarray(0, 4).join('.'), port }
  const groups: string[] = []
  for (let at = 0; at < bytes; at += 2) groups.push(body.readUInt16BE(at).toString(16))
  return { address: new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1), port }
}

function broken(reason: string): ProxyError {
  return new ProxyError('proxy_header', { reason })
}
