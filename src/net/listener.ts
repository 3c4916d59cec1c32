/**
 * The listening sockets: TCP on every address of listen_addr, and the Unix socket. It makes a
 * channel of each connection and hands it over; limits and log-in are not its business. Several
 * processes may listen on the same port (so_reuseport, workers); only one of them has the Unix
 * socket.
 */
import { once } from 'node:events'
import { chmodSync, linkSync, renameSync, rmSync, statSync, unlinkSync } from 'node:fs'
import { connect, createServer, type ListenOptions, type Server, type Socket } from 'node:net'
import { reasonOf } from '../base/errors.ts'
import { invariant } from '../base/invariant.ts'
import type { Log } from '../base/log.ts'
import type { Config } from '../config/config.ts'
import { Channel } from './channel.ts'
import { socketPath } from './dial.ts'

export interface ListenerOptions {
  readonly config: Config
  readonly log: Log
  /** The channel belongs to the receiver from here on. */
  readonly onChannel: (channel: Channel) => void
  /** The sockets of a process whose place this one takes: they are listened on, and no others. */
  readonly inherited?: readonly Inherited[]
}

/**
 * A listening socket as Node hands it from process to process: what is inside of a Server, and has no
 * type but that. Both ends have it open then, and what waits in its queue is lost by neither's end.
 */
export type SocketHandle = Server

export interface Inherited {
  readonly handle: SocketHandle
  /** Of a Unix socket, which does not know its name any more; null for TCP. */
  readonly path: string | null
}

interface Listening {
  readonly server: Server
  readonly path: string | null
  readonly isInherited: boolean
}

export interface ListenAddress {
  /** An address, or the path of the Unix socket. */
  readonly address: string
  /** 0 for the Unix socket. */
  readonly port: number
}

/** How long a live owner of a Unix socket may take to answer. */
const PROBE_MS = 1000
/** Accept errors (no file descriptors left) come in crowds: one line per period. */
const COMPLAINT_MS = 10_000
const ALL = '*'

/**
 * Begins to listen.
 *
 * Errors  rejects when an address cannot be listened on, and listens on none then.
 */
export async function listen(options: ListenerOptions): Promise<Listener> {
  const listener = new Listener(options)
  await listener.resumeAccepting()
  return listener
}

export class Listener {
  readonly #options: ListenerOptions
  #sockets: Listening[] = []
  #isClosed = false
  #complainedMs = Number.NEGATIVE_INFINITY

  constructor(options: ListenerOptions) {
    this.#options = options
  }

  get addresses(): readonly ListenAddress[] {
    return this.#sockets.flatMap(({ server, path }) => {
      if (path !== null) return [{ address: path, port: 0 }]
      const address = server.address()
      return address === null || typeof address === 'string'
        ? []
        : [{ address: address.address, port: address.port }]
    })
  }

  /** Lets go of the sockets: new clients are refused, or reach another process on the same port. */
  pauseAccepting(): void {
    for (const { server } of this.#sockets.splice(0)) server.close()
  }

  /** For a successor; they are still listened on here. */
  handles(): Inherited[] {
    return this.#sockets.map(({ server, path }) => {
      const handle: unknown = Reflect.get(server, '_handle')
      invariant(isSocketHandle(handle), 'what listens has a handle')
      return { handle, path }
    })
  }

  /** For good, where another process listens on these sockets: the name of the Unix socket stays. */
  leave(): void {
    this.#isClosed = true
    for (const { server, path, isInherited } of this.#sockets.splice(0)) {
      if (isInherited || !isFile(path)) {
        server.close()
        continue
      }
      // Node removes the name that it gave: for some microseconds there is only another one.
      const spare = `${path}.${process.pid}`
      linkSync(path, spare)
      server.close()
      renameSync(spare, path)
    }
  }

  /** Errors  rejects when an address cannot be listened on, and listens on none then. */
  async resumeAccepting(): Promise<void> {
    if (this.#isClosed || this.#sockets.length > 0) return
    const { listenAddr, listenPort, unixSocketDir } = this.#options.config.pgbouncer
    try {
      for (const one of this.#options.inherited ?? []) await this.#inherit(one)
      if (this.#sockets.length > 0) return
      for (const address of listenAddr) await this.#listenTcp(address, listenPort)
      if (unixSocketDir !== null) await this.#listenUnix(socketPath(unixSocketDir, listenPort))
    } catch (error) {
      this.pauseAccepting()
      throw error
    }
  }

  /** For good. Safe to call twice; connections that were accepted stay. */
  close(): void {
    this.#isClosed = true
    // Node removes the names that it gave.
    const names = this.#sockets.flatMap((one) =>
      one.isInherited && isFile(one.path) ? [one.path] : [],
    )
    this.pauseAccepting()
    for (const name of names) rmSync(name, { force: true })
  }

  async #listenTcp(address: string, port: number): Promise<void> {
    const { listenBacklog: backlog, soReuseport } = this.#options.config.pgbouncer
    const reusePort = soReuseport || this.#options.config.pgsteer.workers > 1
    const open = (host: string): Promise<void> =>
      this.#open({ host, port, backlog, reusePort, exclusive: true })
    if (address !== ALL) {
      await open(address)
      return
    }
    // Both families on one socket; where the machine has no IPv6, the other alone.
    await open('::').catch((error: unknown) => {
      if (!hasCode(error, 'EAFNOSUPPORT') && !hasCode(error, 'EADDRNOTAVAIL')) throw error
      return open('0.0.0.0')
    })
  }

  async #listenUnix(path: string): Promise<void> {
    const { config, log } = this.#options
    const { listenBacklog: backlog, unixSocketMode } = config.pgbouncer
    const isAbstract = path.startsWith('\0')
    try {
      await this.#open({ path, backlog, exclusive: true })
    } catch (error) {
      if (!hasCode(error, 'EADDRINUSE')) throw error
      if (isAbstract || (await isAlive(path))) {
        if (config.pgsteer.workers === 1) throw error
        log.info({ path }, 'another worker has the Unix socket')
        return
      }
      removeSocket(path)
      await this.#open({ path, backlog, exclusive: true })
    }
    if (!isAbstract) chmodSync(path, unixSocketMode)
  }

  async #open(where: ListenOptions): Promise<void> {
    const server = createServer({ pauseOnConnect: true })
    server.listen(where)
    await this.#add({ server, path: where.path ?? null, isInherited: false })
  }

  async #inherit({ handle, path }: Inherited): Promise<void> {
    const server = createServer({ pauseOnConnect: true })
    server.listen(handle, this.#options.config.pgbouncer.listenBacklog)
    await this.#add({ server, path, isInherited: true })
  }

  async #add(socket: Listening): Promise<void> {
    const { server, path } = socket
    const isUnix = path !== null
    const { tcpKeepalive, tcpKeepidleMs } = this.#options.config.pgbouncer
    const keepAliveMs = tcpKeepalive ? tcpKeepidleMs : null
    await once(server, 'listening')
    const isInherited = isUnix || setOptions(server, keepAliveMs)
    server.on('connection', (client) => {
      if (!isInherited) setSocketOptions(client, keepAliveMs)
      this.#accept(client, isUnix)
    })
    server.on('error', (error) => this.#complain(error))
    this.#sockets.push(socket)
  }

  #accept(socket: Socket, isUnix: boolean): void {
    // A TCP client that is gone already has no address, and must not be taken for a local one.
    if (!isUnix && socket.remoteAddress === undefined) {
      socket.destroy()
      return
    }
    const channel = new Channel(socket)
    const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(channel.remoteAddress)?.[1]
    if (mapped !== undefined) channel.setRemote(mapped, channel.remotePort)
    this.#options.onChannel(channel)
  }

  /** Accepting failed for one client; the socket still listens. */
  #complain(error: Error): void {
    const nowMs = performance.now()
    if (nowMs - this.#complainedMs < COMPLAINT_MS) return
    this.#complainedMs = nowMs
    this.#options.log.error(`a client cannot be accepted: ${reasonOf(error)}`)
  }
}

interface Tunable {
  setNoDelay(isOn: boolean): number
  setKeepAlive(isOn: boolean, delaySeconds: number): number
}

/**
 * Sets what every accepted socket is to have on the listening one, of which Linux's sockets inherit
 * it: five system calls less per client. Returns false where that cannot be had.
 * Source  sk_clone_lock in net/core/sock.c; TCP_NODELAY and TCP_KEEPIDLE are fields of that sock.
 */
function setOptions(server: Server, keepAliveMs: number | null): boolean {
  const handle: unknown = Reflect.get(server, '_handle')
  if (process.platform !== 'linux' || !isTunable(handle)) return false
  if (handle.setNoDelay(true) !== 0) return false
  return keepAliveMs === null || handle.setKeepAlive(true, Math.floor(keepAliveMs / 1000)) === 0
}

/** Not the name of an abstract socket, which is in no directory. */
function isFile(path: string | null): path is string {
  return path?.startsWith('\0') === false
}

/** What comes along with a message between processes is one, or nothing. */
export function isSocketHandle(handle: unknown): handle is SocketHandle {
  return typeof handle === 'object' && handle !== null && 'close' in handle
}

function setSocketOptions(socket: Socket, keepAliveMs: number | null): void {
  socket.setNoDelay(true)
  if (keepAliveMs !== null) socket.setKeepAlive(true, keepAliveMs)
}

function isTunable(handle: unknown): handle is Tunable {
  if (typeof handle !== 'object' || handle === null) return false
  const { setNoDelay, setKeepAlive } = handle as Partial<Tunable>
  return typeof setNoDelay === 'function' && typeof setKeepAlive === 'function'
}

/** Whether somebody answers at the path of a Unix socket; a stale file refuses. */
function isAlive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path, timeout: PROBE_MS })
    const end = (alive: boolean): void => {
      socket.destroy()
      resolve(alive)
    }
    socket.once('connect', () => end(true))
    socket.once('timeout', () => end(true))
    socket.once('error', (error) => end(!hasCode(error, 'ECONNREFUSED')))
  })
}

/** Removes a stale socket, and nothing that is not one. */
function removeSocket(path: string): void {
  if (!statSync(path).isSocket()) throw new Error(`${path} is in the way and is not a socket`)
  unlinkSync(path)
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
