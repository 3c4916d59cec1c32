/**
 * Opens a channel to an address: TCP or a Unix socket, under a deadline. Names are resolved anew
 * at each call, so a moved member is found at its new address; names.ts says what else.
 */
import { connect as connectSocket, Socket } from 'node:net'
import { type Clock, systemClock } from '../base/clock.ts'
import { ProxyError, reasonOf } from '../base/errors.ts'
import { Channel } from './channel.ts'
import { type KnownName, Names } from './names.ts'

/** Of this process. */
const names = new Names(systemClock)

/** What this process knows of the names that it looked up. */
export function knownNames(): readonly KnownName[] {
  return names.known()
}

/**
 * A socket for a client that connects it by itself, as `pg` does: to a port and a host, or to the path
 * of a Unix socket. It finds names as `dial` does.
 */
export function namedSocket(): Socket {
  const socket = new Socket()
  const connect = socket.connect.bind(socket)
  return Object.assign(socket, {
    connect: (port: number | string, host?: string): Socket =>
      typeof port === 'string' || host === undefined
        ? connect({ path: String(port) })
        : connect({ port, host, lookup: names.lookup }),
  })
}

export interface Address {
  /** A host name or address; with a leading `/` the folder of a Unix socket, with `@` its abstract name. */
  readonly host: string
  readonly port: number
}

export interface DialOptions {
  readonly deadlineMs: number
  readonly clock: Clock
  readonly keepAliveMs: number
}

/**
 * Errors  ProxyError `server_connect`, `server_dns` or `server_connect_timeout`.
 */
export function dial(address: Address, options: DialOptions): Promise<Channel> {
  return new Promise((resolve, reject) => {
    const socket = openSocket(address, options)
    const timer = options.clock.after(options.deadlineMs, () => {
      socket.destroy()
      reject(new ProxyError('server_connect_timeout'))
    })
    socket.once('error', (error) => {
      timer.cancel()
      reject(dialError(error))
    })
    socket.once('connect', () => {
      timer.cancel()
      socket.removeAllListeners()
      resolve(new Channel(socket))
    })
  })
}

/** The path libpq uses for a server that listens in `folder` on `port`. */
export function socketPath(folder: string, port: number): string {
  return folder.startsWith('@')
    ? `\0${folder.slice(1)}/.s.PGSQL.${port}`
    : `${folder}/.s.PGSQL.${port}`
}

function openSocket(address: Address, options: DialOptions): Socket {
  if (address.host.startsWith('/') || address.host.startsWith('@'))
    return connectSocket({ path: socketPath(address.host, address.port) })
  return connectSocket({
    host: address.host,
    port: address.port,
    noDelay: true,
    keepAlive: options.keepAliveMs > 0,
    keepAliveInitialDelay: options.keepAliveMs,
    lookup: names.lookup,
  })
}

function dialError(error: NodeJS.ErrnoException): ProxyError {
  const isName = error.code === 'ENOTFOUND' || error.code === 'EAI_AGAIN'
  return new ProxyError(
    isName ? 'server_dns' : 'server_connect',
    { reason: reasonOf(error) },
    error,
  )
}
