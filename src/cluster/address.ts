/**
 * Host and port out of what Patroni and operators write: `postgres://host:port/db` with one host,
 * an IPv6 address in brackets or a list of hosts (Patroni's `uri` in patroni/utils.py), and
 * `host:port` of a static list. Credentials and database names in them are ignored.
 */
import { invariant } from '../base/invariant.ts'

export interface Address {
  readonly host: string
  readonly port: number
}

const DEFAULT_PORT = 5432
const ADDRESSES_MAX = 16

/**
 * Reads `conn_url` or `proxy_url`.
 *
 * Shape   `postgres://[user[:password]@]host[:port][,host[:port]...][/database][?options]`; a port
 *         after the last host only counts for every host that has none.
 * Returns the addresses in order, at most 16; an empty list when the text is not of this shape.
 */
export function parseConnectionUrl(url: string): Address[] {
  const match = /^postgres(?:ql)?:\/\/([^/?#]*)/.exec(url)
  const authority = match?.[1]
  if (authority === undefined) return []
  return parseHosts(authority.slice(authority.lastIndexOf('@') + 1))
}

/** Reads `host:port, host, [::1]:5433`. Returns an empty list when any part is malformed. */
export function parseHosts(list: string): Address[] {
  const parts = list.split(',').map((part) => part.trim())
  if (parts.length > ADDRESSES_MAX) return []
  const read = parts.map(parseHost)
  const lastPort = read.at(-1)?.port ?? DEFAULT_PORT
  const addresses: Address[] = []
  for (const one of read) {
    if (one === null) return []
    addresses.push({ host: one.host, port: one.port ?? lastPort })
  }
  return addresses
}

/** Writes an address back, IPv6 in brackets. */
export function formatAddress(address: Address): string {
  invariant(address.port > 0, 'an address has a port')
  const host = address.host.includes(':') ? `[${address.host}]` : address.host
  return `${host}:${address.port}`
}

function parseHost(text: string): { host: string; port: number | null } | null {
  const match = /^(?:\[([^\]]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/.exec(text)
  const host = match?.[1] ?? match?.[2]
  if (host === undefined) return parseBareIpv6(text)
  if (match?.[3] === undefined) return { host, port: null }
  const port = Number(match[3])
  return port >= 1 && port <= 65_535 ? { host, port } : null
}

function parseBareIpv6(text: string): { host: string; port: null } | null {
  return /^[0-9a-fA-F:.]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*$/.test(text)
    ? { host: text, port: null }
    : null
}
