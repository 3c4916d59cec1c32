import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, describe, expect, it } from 'vitest'
import { loadConfig } from '../../../src/config/load.ts'
import type { Channel } from '../../../src/net/channel.ts'
import { type Inherited, isSocketHandle, type Listener, listen } from '../../../src/net/listener.ts'

const directory = mkdtempSync(join(tmpdir(), 'pgsteer-listen-'))
const listeners: Listener[] = []
const channels: Channel[] = []

afterEach(() => {
  for (const channel of channels.splice(0)) channel.destroy()
  for (const listener of listeners.splice(0)) listener.close()
})
process.on('exit', () => rmSync(directory, { recursive: true, force: true }))

async function open(
  keys: string,
  pgsteer = '',
  inherited: readonly Inherited[] = [],
): Promise<Listener> {
  const file = join(directory, 'pgsteer.ini')
  writeFileSync(file, `[databases]\na = host=h\n[pgbouncer]\n${keys}\n[pgsteer]\n${pgsteer}\n`)
  const listener = await listen({
    inherited,
    config: loadConfig(file, {}).config,
    log: pino({ level: 'silent' }),
    onChannel: (channel) => channels.push(channel),
  })
  listeners.push(listener)
  return listener
}

/** Listens on the sockets of `before`, which go to another process and back as they do between workers. */
async function heir(before: Listener): Promise<Listener> {
  const echo = "process.on('message', (message, handle) => process.send(message, handle))"
  const child = spawn(process.execPath, ['-e', echo], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  const inherited: Inherited[] = []
  for (const { handle, path } of before.handles()) {
    child.send('', handle)
    const [, back]: unknown[] = await once(child, 'message')
    if (!isSocketHandle(back)) throw new Error('no handle came back')
    inherited.push({ handle: back, path })
  }
  child.kill()
  return await open('', '', inherited)
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  return typeof address === 'object' && address !== null ? address.port : 0
}

async function reach(where: { port?: number; host?: string; path?: string }): Promise<Channel> {
  const before = channels.length
  const socket = connect({ host: '127.0.0.1', ...where } as { port: number })
  await once(socket, 'connect')
  socket.write('hello')
  while (channels.length === before) await new Promise((resolve) => setImmediate(resolve))
  const channel = channels.at(-1)
  if (channel === undefined) throw new Error('no channel')
  expect((await channel.read(5)).toString()).toBe('hello')
  socket.destroy()
  return channel
}

/** Source  Linux, Documentation/networking/proc_net_tcp.rst: timer_active. */
const NO_TIMER = '00'
const KEEPALIVE = '02'
const ESTABLISHED = '01'

/** The timer of the one established socket at a port. */
function timerOf(port: number): string | undefined {
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`
  for (const line of readFileSync('/proc/net/tcp', 'latin1').split('\n')) {
    const [, from, , state, , timer] = line.trim().split(/\s+/)
    if (from === local && state === ESTABLISHED) return timer?.split(':')[0]
  }
  return undefined
}

const keysFor = (port: number, more = ''): string =>
  `listen_addr =\nlisten_port = ${port}\nunix_socket_dir = ${directory}\n${more}`

describe('TCP', () => {
  it('is listened to on every address of the list', async () => {
    const port = await freePort()
    const listener = await open(
      `listen_addr = 127.0.0.1, 127.0.0.2\nlisten_port = ${port}\nunix_socket_dir =`,
    )
    expect(listener.addresses).toEqual([
      { address: '127.0.0.1', port },
      { address: '127.0.0.2', port },
    ])
    const channel = await reach({ port, host: '127.0.0.2' })
    expect([channel.isUnix, channel.remoteAddress]).toEqual([false, '127.0.0.1'])
  })

  it.each([
    ['tcp_keepidle = 100', KEEPALIVE],
    ['tcp_keepalive = 0', NO_TIMER],
  ])('with %s has the timer of its accepted sockets set so', async (keys, timer) => {
    const port = await freePort()
    await open(`listen_addr = 127.0.0.1\nlisten_port = ${port}\nunix_socket_dir =\n${keys}`)
    const peer = connect({ port, host: '127.0.0.1' })
    await once(peer, 'connect')
    while (channels.length === 0) await new Promise((resolve) => setImmediate(resolve))
    expect(timerOf(port)).toBe(timer)
    peer.destroy()
  })

  it('on an address in use is refused, and nothing is listened to', async () => {
    const port = await freePort()
    await open(`listen_addr = 127.0.0.2\nlisten_port = ${port}\nunix_socket_dir =`)
    const both = `listen_addr = 127.0.0.1, 127.0.0.2\nlisten_port = ${port}\nunix_socket_dir =`
    await expect(open(both)).rejects.toMatchObject({ code: 'EADDRINUSE' })
    const again = await open(`listen_addr = 127.0.0.1\nlisten_port = ${port}\nunix_socket_dir =`)
    expect(again.addresses).toHaveLength(1)
  })

  it('is shared by processes with so_reuseport', async () => {
    const port = await freePort()
    const keys = `listen_addr = 127.0.0.1\nlisten_port = ${port}\nunix_socket_dir =\nso_reuseport = 1`
    await open(keys)
    const second = await open(keys)
    expect(second.addresses).toEqual([{ address: '127.0.0.1', port }])
  })

  it('is let go and taken again', async () => {
    const port = await freePort()
    const listener = await open(`listen_addr = 127.0.0.1\nlisten_port = ${port}\nunix_socket_dir =`)
    listener.pauseAccepting()
    const refused = connect({ port, host: '127.0.0.1' })
    const [error] = (await once(refused, 'error')) as [NodeJS.ErrnoException]
    expect(error.code).toBe('ECONNREFUSED')
    await listener.resumeAccepting()
    await reach({ port })
    listener.close()
    await listener.resumeAccepting()
    expect(listener.addresses).toEqual([])
  })
})

describe('the Unix socket', () => {
  it('has the mode and the name that libpq looks for, and goes with the listener', async () => {
    const path = join(directory, '.s.PGSQL.7001')
    const listener = await open(keysFor(7001, 'unix_socket_mode = 0700'))
    expect(listener.addresses).toEqual([{ address: path, port: 0 }])
    expect(statSync(path).mode & 0o777).toBe(0o700)
    expect((await reach({ path })).isUnix).toBe(true)
    listener.close()
    expect(existsSync(path)).toBe(false)
  })

  it('takes the place of one that a killed process left behind', async () => {
    const path = join(directory, '.s.PGSQL.7002')
    const script = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`
    spawnSync(process.execPath, ['-e', script])
    expect(existsSync(path)).toBe(true)
    await open(keysFor(7002))
    expect((await reach({ path })).isUnix).toBe(true)
  })

  it('of a living process is left alone', async () => {
    await open(keysFor(7003))
    await expect(open(keysFor(7003))).rejects.toMatchObject({ code: 'EADDRINUSE' })
    const other = await open(keysFor(7003), 'workers = 2')
    expect(other.addresses).toEqual([])
    expect((await reach({ path: join(directory, '.s.PGSQL.7003') })).isUnix).toBe(true)
  })

  it('does not take the place of a file that is no socket', async () => {
    const path = join(directory, '.s.PGSQL.7004')
    writeFileSync(path, 'precious')
    await expect(open(keysFor(7004))).rejects.toThrow('is in the way and is not a socket')
    expect(statSync(path).size).toBe(8)
  })
})

describe('a successor', () => {
  it('listens on the same sockets, and the name of the Unix socket stays', async () => {
    const port = await freePort()
    const path = join(directory, `.s.PGSQL.${port}`)
    const before = await open(
      `listen_addr = 127.0.0.1\nlisten_port = ${port}\nunix_socket_dir = ${directory}`,
    )
    const after = await heir(before)
    expect(after.addresses).toEqual(before.addresses)
    before.leave()
    expect(before.addresses).toEqual([])
    await reach({ port })
    await reach({ path })
    const last = await heir(after)
    after.leave()
    await reach({ path })
    last.close()
    expect(existsSync(path)).toBe(false)
  })

  it('gets what waits in the queue', async () => {
    const port = await freePort()
    const before = await open(`listen_addr = 127.0.0.1\nlisten_port = ${port}\nunix_socket_dir =`)
    const after = await heir(before)
    const count = channels.length
    const sockets = Array.from({ length: 8 }, () => connect(port, '127.0.0.1'))
    // In this turn nobody has accepted any of them.
    before.leave()
    await Promise.all(sockets.map((socket) => once(socket, 'connect')))
    while (channels.length < count + 8) await new Promise((resolve) => setImmediate(resolve))
    for (const socket of sockets) socket.destroy()
    after.close()
  })
})
